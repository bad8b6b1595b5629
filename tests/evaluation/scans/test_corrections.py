"""Clicks that correct a mask which did not come of clicks: what a model is shown, what becomes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from synthfm.data.prompts import Prompt, centre_point
from synthfm.data.shards import object_masks
from synthfm.evaluation.scans.corrections import correct, doubted, reach
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample
from synthfm.trainer.model import models
from synthfm.trainer.model.predict import MASK_LOGIT, Segmenter
from tests.support.region_growing import RegionGrowing


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@given(seed=st.integers(0, 2**32 - 1), label=st.sampled_from([0, 1]))
def test_a_mask_is_shown_as_the_click_says_near_it_and_as_it_was_far_away(seed: int, label: int) -> None:
    rng = np.random.default_rng(seed)
    known = ndimage.gaussian_filter(rng.normal(size=(40, 48)), 4) > 0
    wrong = np.argwhere(known != bool(label))
    if not 0 < len(wrong) < known.size:
        return
    y, x = wrong[rng.integers(len(wrong))]
    away = reach(known, [[x, y]], label)
    shown = doubted(known, away, label)
    assert (shown[y, x] > 0) == bool(label)
    far = away > 3
    np.testing.assert_array_equal(shown[far], np.where(known, MASK_LOGIT, -MASK_LOGIT)[far])
    right = known == bool(label)  # of what the click does not speak against nothing is doubted
    np.testing.assert_array_equal(shown[right], np.where(known, MASK_LOGIT, -MASK_LOGIT)[right])
    assert not (right & (np.hypot(*(np.indices(known.shape) - [[[y]], [[x]]])) < away.min() + 0.5)).any()


def test_a_click_that_denies_all_of_a_mask_is_asked_in_the_square_around_it_all_the_same() -> None:
    segmenter, (y, x) = RegionGrowing(), np.indices((60, 60))
    known = np.hypot(x - 30, y - 30) < 9
    image = np.where(known, 170, 90).astype(np.uint8)
    found, _ = correct(segmenter, image, Prompt([[30, 30]], [0]), known, (np.array([[30, 30]]), 0), 1.6)
    (asked, _), (part,) = segmenter.asked[-1], segmenter.encoded
    assert not (asked.mask > 0).any()
    assert part.shape == (28, 28)
    assert not found[30, 30]


@pytest.mark.parametrize("label", [0, 1])
def test_a_correcting_click_makes_a_mask_better_and_hardly_any_worse(label: int) -> None:
    """Masks spoilt as a propagation spoils them: moved a little, everywhere another way."""
    segmenter, config, gains = Segmenter(models.load("tiny")[0]), load_config("objects", size=128), []
    for number in range(40):
        sample, rng = make_sample(config, 77, number), np.random.default_rng(number)
        usable = [m for m in object_masks(sample.label, sample.objects) if 150 < m.sum() < 6000]
        if not usable:
            continue
        mask = usable[number % len(usable)]
        size = np.sqrt(mask.sum())
        moves = [ndimage.gaussian_filter(rng.normal(size=mask.shape), size / 3, mode="wrap") for _ in "yx"]
        ways = [0.15 * size * way / way.std() for way in moves]
        known = ndimage.map_coordinates(mask.astype(float), np.indices(mask.shape) + ways, order=1) > 0.5
        pieces, _ = ndimage.label(known ^ mask)
        largest = pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
        place = centre_point(largest)
        if mask[place[1], place[0]] == label:
            prompt = Prompt([place], [label])
            found, _ = correct(segmenter, sample.image, prompt, known, (place[None], label), 1.6)
            gains.append(dice(found, mask) - dice(known, mask))
    assert len(gains) > 10
    assert np.mean(gains) > (0.05 if label else 0.0), gains
    assert min(gains) > -0.2, gains
