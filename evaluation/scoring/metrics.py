"""Scores of one predicted mask against its reference.

=============  ==================================================  ====================  =================
score          definition                                          one mask empty        both empty
=============  ==================================================  ====================  =================
DSC            2 abs(P & R) / (abs(P) + abs(R))                    0                     1
IoU            abs(P & R) / abs(P | R)                             0                     1
HD95           larger of the two 95th percentiles of the           the image's diagonal  0
               distances from one outline to the other
surface Dice   share of both outlines that lies within the         0                     1
               tolerance of the other
=============  ==================================================  ====================  =================

An outline is the pixels of a mask with a neighbour outside of it (4 in an image, 6 in a volume; beyond the
border all is outside). The nearest pixel of the other is found by SciPy's k-d tree, once for both surface
scores: outlines are few pixels, where a distance transform computes all. The numbers are those of MONAI's
``compute_hausdorff_distance(percentile=95)`` and ``compute_surface_dice``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from synthfm.evaluation.cases.volume_prompts import around

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """Scores of one mask. The pixel counts let the DSC of a stack of slices be made from rows alone.

    The last three are of volumes, None for an image: slices that hold something beyond the object's ends,
    those of the object in which nothing was found, and how far the farther-off of the two ends lies from the
    object's, in slices (of an empty mask, its whole length).
    """

    dsc: float
    iou: float
    hd95: float
    surface_dice: float
    reference_pixels: int
    predicted_pixels: int
    shared_pixels: int
    slices_beyond: int | None = None
    slices_missed: int | None = None
    end_error: int | None = None


def score(predicted: Mask, reference: Mask, spacing: tuple[float, ...] | None, tolerance: float) -> Scores:
    """Score a mask.

    Parameters
    ----------
    predicted, reference
        bool (H, W), or (slices, H, W).
    spacing
        Distance between rows and between columns in mm, before them that between slices; None counts in
        pixels.
    tolerance
        Of the surface Dice, in the same unit.

    Raises
    ------
    ValueError
        If the masks differ in shape.
    """
    if predicted.shape != reference.shape:
        raise ValueError(f"the predicted mask is {predicted.shape}, the reference {reference.shape}")
    areas = int(reference.sum()), int(predicted.sum()), int((predicted & reference).sum())
    dsc, iou = overlap(*areas)
    step = spacing or (1.0,) * reference.ndim
    by_slice = slices(predicted, reference) if reference.ndim == 3 else (None, None, None)
    if areas[0] == 0 or areas[1] == 0:
        both = areas[0] == areas[1]
        diagonal = math.hypot(*(size * unit for size, unit in zip(reference.shape, step, strict=True)))
        return Scores(dsc, iou, 0.0 if both else diagonal, float(both), *areas, *by_slice)
    distances = surface_distances(predicted, reference, step)
    hd95 = max(float(np.percentile(part, 95)) for part in distances)
    near = np.concatenate(distances) <= tolerance
    return Scores(dsc, iou, hd95, float(near.mean()), *areas, *by_slice)


def slices(predicted: Mask, reference: Mask) -> tuple[int, int, int]:
    """Slices filled beyond the object's ends, slices of the object in which nothing is, error of the ends.

    >>> rows = np.array([[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]], bool)[..., None, None]
    >>> slices(rows[1], rows[0]), slices(rows[0] & False, rows[0])
    ((2, 1, 2), (0, 3, 3))
    """
    found, there = np.asarray(predicted.any((1, 2))), np.asarray(reference.any((1, 2)))
    ends = np.flatnonzero(there)
    if not len(ends):
        return int(found.sum()), 0, int(found.sum())
    low, high = ends[0], ends[-1]
    beyond = int(found[:low].sum() + found[high + 1 :].sum())
    missed = int((there & ~found).sum())
    if not found.any():
        return beyond, missed, int(high - low + 1)
    first, last = np.flatnonzero(found)[[0, -1]]
    return beyond, missed, int(max(abs(first - low), abs(last - high)))


def overlap(reference: int, predicted: int, shared: int) -> tuple[float, float]:
    """DSC and IoU from pixel counts.

    >>> overlap(4, 4, 2)
    (0.5, 0.3333333333333333)
    """
    if reference + predicted == 0:
        return 1.0, 1.0
    return 2 * shared / (reference + predicted), shared / (reference + predicted - shared)


def surface_distances(
    predicted: Mask, reference: Mask, spacing: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances of each outline's pixels to the other outline: (predicted to reference, and back)."""
    window = around(np.asarray(predicted | reference))
    first, second = (
        np.argwhere(outline(mask[window])) * np.array(spacing) for mask in (predicted, reference)
    )
    there, back = (
        cKDTree(other, compact_nodes=False, balanced_tree=False).query(one)[0].astype(np.float32)
        for one, other in ((first, second), (second, first))
    )
    return there, back


def outline(mask: Mask) -> Mask:
    """The pixels of a mask that have a neighbour outside of it, along one of the axes.

    >>> outline(np.ones((3, 4), bool)).astype(int)
    array([[1, 1, 1, 1],
           [1, 0, 0, 1],
           [1, 1, 1, 1]])
    """
    padded = np.pad(mask, 1)
    deep = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            inner = [slice(1, -1)] * mask.ndim
            inner[axis] = slice(start, start + mask.shape[axis])
            deep &= padded[tuple(inner)]
    return np.asarray(mask & ~deep)
