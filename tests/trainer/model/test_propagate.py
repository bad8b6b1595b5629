"""Propagation: from a slice to the volume, where it ends, and what is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synthfm.data.prompts import Prompt
from synthfm.trainer.model.likelihood import LikelihoodRatio
from synthfm.trainer.model.next_slice import SHIPPED, Step
from synthfm.trainer.model.propagate import propagate
from tests.support.region_growing import Grown, RegionGrowing, ellipsoid


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def volume_of(steps: list[Step], anchors: dict[int, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape, bool)
    for k, mask in [*anchors.items(), *((step.slice, step.mask) for step in steps)]:
        found[k] = mask
    return found


@pytest.mark.parametrize("start", [11, 7, 15])
def test_one_anchor_is_carried_to_the_ends_of_the_object_and_not_on(start: int) -> None:
    slices, mask = ellipsoid()
    anchors = {start: mask[start]}
    steps = list(propagate(slices, anchors, RegionGrowing()))
    found = volume_of(steps, anchors, mask.shape)
    assert dice(found, mask) > 0.93
    filled, true = np.flatnonzero(found.any((1, 2))), np.flatnonzero(mask.any((1, 2)))
    assert abs(filled[0] - true[0]) <= 1
    assert abs(filled[-1] - true[-1]) <= 1
    assert {step.slice for step in steps} == {*filled.tolist()} - {start}


def test_where_the_object_ends_but_something_like_its_mask_goes_on_the_run_stops() -> None:
    """Behind the object lies a darker one of the same outline: only its grey values tell them apart."""
    slices, mask = ellipsoid(first=5, last=17)
    cylinder = mask[11]
    slices = slices.copy()
    slices[12:] = np.where(cylinder, 112, 90) + np.random.default_rng(1).normal(0, 4, slices[12:].shape)
    steps = list(propagate(slices, {11: mask[11]}, RegionGrowing()))
    assert max(step.slice for step in steps) <= 12
    careless = replace(SHIPPED, presence=-9, likelihood=0, forecast=0)
    assert max(step.slice for step in propagate(slices, {11: mask[11]}, RegionGrowing(), careless)) == 23


class Doubting(RegionGrowing):
    """One whose own estimate falls where it is shown something else than the object."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last

    def predict(self, encoding: np.ndarray, prompts: Sequence[Prompt], previous: Any = None) -> list[Grown]:
        found = super().predict(encoding, prompts, previous)
        falls = len(self.encoded) > self.last
        return [replace(one, iou=0.4) if falls else one for one in found]


@pytest.mark.parametrize(("shift", "ends"), [(3, 15), (0, 23)])
def test_a_run_ends_where_the_model_doubts_a_mask_that_changes(shift: int, ends: int) -> None:
    """A cylinder of the object's outline goes on to the last slice; from slice 16 on the model doubts."""
    slices, mask = ellipsoid(first=5, last=17)
    slices, noise = slices.copy(), np.random.default_rng(1).normal(0, 4, slices.shape)
    for k in range(12, 24):
        moved = np.roll(mask[11], shift * max(k - 15, 0), axis=1)
        slices[k] = np.clip(np.where(moved, 170, 90) + noise[k], 0, 255)
    steps = propagate(slices, {11: mask[11]}, Doubting(last=4), span=(11, 23))
    assert max(step.slice for step in steps) == ends


class DoubtsTheDark(RegionGrowing):
    """One whose own estimate is lower of what is darker than the object."""

    def predict(self, encoding: np.ndarray, prompts: Sequence[Prompt], previous: Any = None) -> list[Grown]:
        found = super().predict(encoding, prompts, previous)
        return [replace(one, iou=0.9 if np.median(encoding[one.mask]) > 160 else 0.4) for one in found]


def test_a_run_from_a_corrected_slice_ends_where_the_object_was_believed_in_more_before_it() -> None:
    """Behind slice 15 lies something else, on which somebody has drawn what is left of the object."""
    slices, mask = ellipsoid(first=5, last=17)
    slices, noise = slices.copy(), np.random.default_rng(1).normal(0, 4, slices.shape)
    moved = [np.roll(mask[11], 3 * max(k - 15, 0), axis=1) for k in range(24)]
    for k in range(12, 24):
        slices[k] = np.clip(np.where(moved[k], 170 if k < 16 else 150, 90) + noise[k], 0, 255)
    settings = replace(SHIPPED, presence=-9, likelihood=0, forecast=0)
    alone = propagate(slices, {16: moved[16]}, DoubtsTheDark(), settings, span=(16, 23))
    assert max(step.slice for step in alone) > 18
    both = propagate(slices, {11: mask[11], 16: moved[16]}, DoubtsTheDark(), settings, span=(11, 23))
    assert max(step.slice for step in both) == 15


def test_between_two_anchors_the_answer_runs_from_both_ends() -> None:
    slices, mask = ellipsoid(tilt=0.8)
    anchors = {7: mask[7], 15: mask[15]}
    steps = list(propagate(slices, anchors, RegionGrowing()))
    between = {step.slice: step.mask for step in steps if 7 < step.slice < 15}
    assert sorted(between) == list(range(8, 15))
    assert min(dice(found, mask[k]) for k, found in between.items()) > 0.93


def test_nothing_runs_past_an_anchor_that_says_the_object_is_not_there() -> None:
    slices, mask = ellipsoid()
    anchors = {11: mask[11], 14: np.zeros_like(mask[0])}
    assert max(step.slice for step in propagate(slices, anchors, RegionGrowing())) == 13


def test_a_correction_asks_only_between_the_nearest_anchors() -> None:
    slices, mask = ellipsoid()
    anchors = {7: mask[7], 11: mask[11], 15: mask[15]}
    asked = [step.slice for step in propagate(slices, anchors, RegionGrowing(), changed={11})]
    assert {*asked} == {8, 9, 10, 12, 13, 14}
    ends = [step.slice for step in propagate(slices, anchors, RegionGrowing(), changed={7})]
    assert set(ends) >= {6, 8, 9, 10}
    assert max(ends) == 10


def test_what_earlier_runs_know_is_not_asked_again() -> None:
    """A corrected slice asks until its runs meet the earlier one on both sides; the answer is as without."""
    slices, mask = ellipsoid()
    segmenter, runs = RegionGrowing(), {}
    found = {step.slice: step.mask for step in propagate(slices, {11: mask[11]}, segmenter, runs=runs)}
    asked = len(segmenter.encoded)
    assert asked == len(found) + 2  # and each end once
    anchors, without = {11: mask[11], 15: mask[15]}, RegionGrowing()
    steps = list(propagate(slices, anchors, segmenter, changed={15}, runs=runs))
    plain = list(propagate(slices, anchors, without, changed={15}))
    assert len(segmenter.encoded) - asked < len(without.encoded) - 2
    before, after = (volume_of(some, anchors, mask.shape)[11:] for some in (plain, steps))
    assert dice(before, after) > 0.98
    assert dice(after, mask[11:]) > 0.93


def test_an_anchor_that_differs_is_carried_on_until_nothing_changes() -> None:
    """The object is drawn larger where it was corrected: the run from there does not give up at once."""
    slices, mask = ellipsoid()
    slices = slices.copy()
    segmenter, runs = RegionGrowing(), {}
    anchors = {11: mask[11]}
    list(propagate(slices, anchors, segmenter, runs=runs))
    asked = len(segmenter.encoded)
    bigger = mask[11] | np.roll(mask[11], 6, axis=1)
    slices[14:17] = np.where(bigger, slices[11][mask[11]].mean(), slices[14:17])
    list(propagate(slices, {**anchors, 15: bigger}, segmenter, changed={15}, runs=runs))
    assert len(segmenter.encoded) - asked > 2 * 2


def test_no_slice_outside_of_the_span_is_asked() -> None:
    slices, mask = ellipsoid()
    steps = propagate(slices, {11: mask[11]}, RegionGrowing(), span=(9, 12))
    assert sorted(step.slice for step in steps) == [9, 10, 12]


def test_one_slice_a_colour_volume_and_an_empty_anchor() -> None:
    slices, mask = ellipsoid()
    assert list(propagate(slices[11:12], {0: mask[11]}, RegionGrowing())) == []
    assert list(propagate(slices, {11: np.zeros_like(mask[11])}, RegionGrowing())) == []
    grey = {step.slice: step.mask for step in propagate(slices, {11: mask[11]}, RegionGrowing())}
    colour = propagate(np.repeat(slices[..., None], 3, -1), {11: mask[11]}, RegionGrowing())
    for step in colour:
        np.testing.assert_array_equal(step.mask, grey[step.slice])


def test_slices_are_encoded_one_at_a_time_and_a_run_can_be_broken_off() -> None:
    slices, mask = ellipsoid()
    segmenter = RegionGrowing()
    steps = propagate(slices, {11: mask[11]}, segmenter)
    next(steps)
    assert len(segmenter.encoded) == 1
    steps.close()


def test_grey_values_say_where_the_object_is_and_where_its_surroundings_are() -> None:
    slices, mask = ellipsoid()
    taught = LikelihoodRatio.of(slices[11], mask[11])
    ratio = taught.ratio(slices[13])
    assert np.median(ratio[mask[13]]) > 1
    assert np.median(ratio[~mask[13]]) < -1
    assert taught.presence(slices[13], mask[13]) == pytest.approx(1, abs=0.3)
    assert taught.presence(slices[20], mask[13]) < 0
