"""Scores of one mask, against MONAI's own functions and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfm.evaluation.scoring.metrics import score


def square(top: int, left: int, side: int = 10, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_a_shifted_square_scores_what_a_pencil_says():
    scores = score(square(10, 10), square(10, 12), None, tolerance=1)
    assert (scores.reference_pixels, scores.predicted_pixels, scores.shared_pixels) == (100, 100, 80)
    assert scores.dsc == pytest.approx(0.8)
    assert scores.iou == pytest.approx(80 / 120)
    assert scores.hd95 == pytest.approx(2.0)


def test_the_spacing_of_rows_and_columns_counts():
    down = score(square(10, 10), square(12, 10), (3.0, 0.5), tolerance=1)
    across = score(square(10, 10), square(10, 12), (3.0, 0.5), tolerance=1)
    assert across.hd95 == pytest.approx(1.0)
    assert down.hd95 > 2
    assert across.surface_dice > down.surface_dice


def test_a_perfect_mask():
    scores = score(square(3, 3), square(3, 3), None, tolerance=1)
    assert (scores.dsc, scores.iou, scores.hd95, scores.surface_dice) == (1, 1, 0, 1)


def test_empty_masks_score_as_documented():
    empty, full = np.zeros((30, 40), bool), np.ones((30, 40), bool)
    missed = score(empty, full, (2.0, 1.0), tolerance=1)
    assert (missed.dsc, missed.iou, missed.surface_dice) == (0, 0, 0)
    assert missed.hd95 == pytest.approx(np.hypot(60, 40))
    invented = score(full, empty, None, tolerance=1)
    assert (invented.dsc, invented.hd95) == (0, pytest.approx(50))
    both = score(empty, empty, None, tolerance=1)
    assert (both.dsc, both.iou, both.hd95, both.surface_dice) == (1, 1, 0, 1)


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="reference"):
        score(np.zeros((3, 3), bool), np.zeros((3, 4), bool), None, 1)


blob = st.integers(0, 2**32 - 1)


@settings(max_examples=25, deadline=None)
@given(first=blob, second=blob, row=st.sampled_from([0.4, 1.0, 2.5]), column=st.sampled_from([0.7, 1.0]))
def test_surface_scores_are_monais(first, second, row, column):
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice
    from scipy import ndimage

    masks = [
        ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(24, 31)), 2.5) > 0.05
        for seed in (first, second)
    ]
    if not (masks[0].any() and masks[1].any()):
        return
    ours = score(*masks, (row, column), tolerance=1.5)
    pair = [torch.as_tensor(mask)[None, None].float() for mask in masks]
    spacing = [row, column]
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    dice = compute_surface_dice(*pair, [1.5], include_background=True, spacing=spacing)
    assert ours.hd95 == pytest.approx(float(hd95), rel=1e-5)
    assert ours.surface_dice == pytest.approx(float(dice), rel=1e-5)
