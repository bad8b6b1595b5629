"""Many clicks asked in turn: which, in what order; and that more of them never make an answer worse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfm.data.prompts import Prompt
from synthfm.data.shards import object_masks
from synthfm.data.strokes import draw_prompt, many_clicks
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample
from synthfm.trainer.model import models
from synthfm.trainer.model.in_turn import InTurn, only, said_first, unkept
from synthfm.trainer.model.predict import SecondLook, Segmenter

clicks = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19), st.booleans()), min_size=1, max_size=30)


def prompt_of(places):
    return Prompt([place[:2] for place in places], [int(place[2]) for place in places])


@given(clicks, st.integers(1, 8))
def test_of_many_clicks_some_of_either_kind_are_said_first(places, first):
    prompt, settings = prompt_of(places), InTurn(first=first)
    said = said_first(prompt, settings)
    assert said.sum() == min(first, len(places))
    kinds = [int((prompt.labels[said] == label).sum()) for label in (1, 0)]
    there = [int((prompt.labels == label).sum()) for label in (1, 0)]
    assert kinds[0] >= min(there[0], (first + 1) // 2)
    assert kinds[1] >= min(there[1], first // 2)
    assert only(prompt, said).points.tolist() == prompt.points[said].tolist()


@given(clicks, st.integers(0, 2**32), st.integers(1, 4))
def test_only_clicks_on_a_mask_s_wrong_side_are_added(places, seed, more):
    prompt, rng = prompt_of(places), np.random.default_rng(seed)
    mask, said = rng.random((20, 20)) < 0.5, rng.random(len(places)) < 0.3
    added = unkept(prompt, mask, said, InTurn(more=more))
    wrong = np.array([mask[y, x] != label for x, y, label in places]) & ~said
    assert added.sum() == min(more, wrong.sum())
    assert not (added & ~wrong).any()


def test_a_mask_that_is_corrected_is_told_first_what_is_wrong_with_it():
    prompt = Prompt([[x, 0] for x in range(20)], [1] * 20)
    known = np.ones((1, 20), bool)
    known[0, [7, 12]] = False
    said = said_first(prompt, InTurn(first=5, more=5), known)
    assert said[[7, 12]].all()
    assert said.sum() == 5


@pytest.fixture(scope="module")
def objects():
    """Twenty images with one object each, of all kinds of shape."""
    config, found = load_config("objects", size=256), []
    for number in range(24):
        sample = make_sample(config, 77, number)
        masks = object_masks(sample.label, sample.objects)
        usable = [mask for mask in masks if 100 < mask.sum() < 30_000]
        if usable:
            found.append((sample.image, usable[number % len(usable)]))
    return found[:20]


def test_more_never_hurts(objects):
    """Not one more click, and not one more stroke, makes the mean worse by more than 0.005."""
    segmenter = Segmenter(models.load("tiny")[0], SecondLook())

    def mean(draw):
        scores = []
        for number, (encoding, mask) in enumerate(zip(encodings, masks, strict=True)):
            (found,) = segmenter.predict(encoding, [draw(mask, np.random.default_rng(number))])
            scores.append(2 * (found.mask & mask).sum() / (found.mask.sum() + mask.sum()))
        return float(np.mean(scores))

    encodings, masks = [segmenter.encode(image) for image, _ in objects], [mask for _, mask in objects]
    of_clicks = [mean(lambda m, rng, k=k: many_clicks(m, k, 0.6, rng)) for k in (1, 5, 10, 20, 40)]
    of_strokes = [mean(lambda m, rng, k=k: draw_prompt(m, k, k, rng)) for k in (1, 3, 5)]
    assert (np.diff(of_clicks) > -0.005).all(), of_clicks
    assert (np.diff(of_strokes) > -0.005).all(), of_strokes
