"""Many clicks asked in turn: which, in what order; and that more of them never make an answer worse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfm.data.prompts import Prompt
from synthfm.data.shards import object_masks
from synthfm.data.strokes import background, draw_prompt, draw_strokes, many_clicks
from synthfm.data.strokes import prompt_of as prompt_of_strokes
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample
from synthfm.trainer.model import models
from synthfm.trainer.model.in_turn import InTurn, beginnings, only, unkept
from synthfm.trainer.model.predict import SecondLook, Segmenter

clicks = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19), st.booleans()), min_size=1, max_size=30)


def prompt_of(places):
    return Prompt([place[:2] for place in places], [int(place[2]) for place in places])


@given(clicks, st.integers(1, 8))
def test_several_clicks_begin_together_and_with_the_middle_one_on_the_object(places, few):
    prompt = prompt_of(places)
    begun = beginnings(prompt, InTurn(few=few))
    inside = prompt.labels == 1
    if len(places) == 1 or not inside.any():
        assert len(begun) == 1
    else:
        alone = begun[-1]
        assert alone.sum() == 1
        away = np.linalg.norm(prompt.points[inside][:, None] - prompt.points[inside], axis=-1).sum(1)
        assert inside[alone].all()
        assert np.isclose(away[np.flatnonzero(inside) == np.flatnonzero(alone)[0]], away.min()).all()
        assert len(begun) == 2
    assert begun[0].sum() == min(few, len(places))


@given(clicks, st.integers(1, 8))
def test_with_a_box_come_some_of_many_clicks_of_either_kind(places, few):
    prompt = Prompt([place[:2] for place in places], [int(place[2]) for place in places], [0, 0, 20, 20])
    (said,) = beginnings(prompt, InTurn(few=few))
    assert said.sum() == min(few, len(places))
    kinds = [int((prompt.labels[said] == label).sum()) for label in (1, 0)]
    there = [int((prompt.labels == label).sum()) for label in (1, 0)]
    assert kinds[0] >= min(there[0], (few + 1) // 2)
    assert kinds[1] >= min(there[1], few // 2)
    assert only(prompt, said).points.tolist() == prompt.points[said].tolist()


@given(clicks, st.integers(0, 2**32), st.integers(1, 4))
def test_only_clicks_on_a_mask_s_wrong_side_are_added(places, seed, most):
    prompt, rng = prompt_of(places), np.random.default_rng(seed)
    mask, said = rng.random((20, 20)) < 0.5, rng.random(len(places)) < 0.3
    added = unkept(prompt, mask, said, most)
    wrong = np.array([mask[y, x] != label for x, y, label in places]) & ~said
    assert added.sum() == min(most, wrong.sum())
    assert not (added & ~wrong).any()


def test_a_mask_that_is_corrected_is_told_first_what_is_wrong_with_it():
    prompt = Prompt([[x, 0] for x in range(20)], [1] * 20)
    known = np.ones((1, 20), bool)
    known[0, [7, 12]] = False
    (said,) = beginnings(prompt, InTurn(few=5), known)
    assert said[[7, 12]].all()
    assert said.sum() == 5


@pytest.fixture(scope="module")
def objects():
    """Fourteen images with one object each, of all kinds of shape."""
    config, found = load_config("objects", size=256), []
    for number in range(16):
        sample = make_sample(config, 77, number)
        masks = object_masks(sample.label, sample.objects)
        usable = [mask for mask in masks if 100 < mask.sum() < 30_000]
        if usable:
            found.append((sample.image, usable[number % len(usable)]))
    return found[:14]


def longer_strokes(mask, share, rng):
    """Two strokes inside and two around, of each the pixels nearest to where it begins."""

    def cut(stroke):
        nearest = np.argsort(((stroke - stroke[0]) ** 2).sum(1), kind="stable")
        return stroke[nearest[: max(1, int(share * len(stroke)))]]

    inner, outer = rng.spawn(2)
    inside, outside = draw_strokes(mask, 2, inner), draw_strokes(background(mask, outer), 2, outer)
    return prompt_of_strokes(list(map(cut, inside)), list(map(cut, outside)), mask.shape)


def test_more_never_hurts(objects):
    """No more clicks, no more strokes and no longer ones make the mean worse by more than 0.005."""
    segmenter = Segmenter(models.load("tiny")[0], SecondLook())

    def mean(draw):
        scores = []
        for number, (encoding, mask) in enumerate(zip(encodings, masks, strict=True)):
            (found,) = segmenter.predict(encoding, [draw(mask, np.random.default_rng(number))])
            scores.append(2 * (found.mask & mask).sum() / (found.mask.sum() + mask.sum()))
        return float(np.mean(scores))

    encodings, masks = [segmenter.encode(image) for image, _ in objects], [mask for _, mask in objects]
    more = {
        "clicks": [mean(lambda m, rng, k=k: many_clicks(m, k, 0.6, rng)) for k in (1, 5, 20, 40)],
        "strokes": [mean(lambda m, rng, k=k: draw_prompt(m, k, k, rng)) for k in (1, 3)],
        "lengths": [mean(lambda m, rng, k=k: longer_strokes(m, k, rng)) for k in (0.1, 1)],
    }
    for kind, means in more.items():
        assert (np.diff(means) > -0.005).all(), (kind, means)
