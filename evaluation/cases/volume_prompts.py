"""Prompts of an object in a volume, from its reference mask: slice to prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import scipy
from numpy.typing import NDArray

from synthfm.data.prompts import Prompt, tight_box
from synthfm.evaluation.cases.case import spread

Mask = NDArray[np.bool_]
BySlice = Mapping[int, Prompt]
Draw = Callable[[Mask, np.random.Generator], Prompt]
"""How a prompt is drawn from a mask (H, W)."""
Spacing = tuple[float, ...] | None
"""mm along the axes of a volume, or None where unknown: voxels count as cubes."""


def ends_of(mask: Mask) -> tuple[int, int]:
    """First and last slice that hold something of a mask (slices, H, W), not empty.

    >>> ends_of(np.array([0, 1, 0, 1, 0], bool).reshape(5, 1, 1))
    (1, 3)
    """
    filled = np.flatnonzero(mask.any((1, 2)))
    return int(filled[0]), int(filled[-1])


def in_largest(mask: Mask, rng: np.random.Generator, draw: Draw) -> BySlice:
    """A prompt in the slice in which the object's area is largest (the first of several such)."""
    k = int(np.count_nonzero(mask, axis=(1, 2)).argmax())
    return {k: draw(mask[k], rng)}


def in_spread(mask: Mask, rng: np.random.Generator, draw: Draw, count: int) -> BySlice:
    """Prompts in `count` slices spread over those that hold the object, or all where they are fewer."""
    filled = np.flatnonzero(mask.any((1, 2)))
    return {k: draw(mask[k], rng) for k in filled[spread(len(filled), count)].tolist()}


def in_every(mask: Mask, rng: np.random.Generator, draw: Draw) -> BySlice:
    """A prompt in every slice that holds the object."""
    return in_spread(mask, rng, draw, len(mask))


def corrective_voxel(predicted: Mask, mask: Mask, spacing: Spacing) -> tuple[int, NDArray[np.int16], int]:
    """The next click of interactive segmentation of a volume: deepest in the largest error.

    As in the CVPR 2025 challenge on interactive segmentation [1]_, errors are 26-connected, those that were
    missed and those that were overrun counted together; here depth is in mm, and beyond the volume's frame
    counts as outside. A perfect mask gets a click deep in the object.

    Returns
    -------
    slice, point, label
        Where, int16 (x, y); 1 where the object was missed, 0 where it was overrun.

    References
    ----------
    .. [1] J. Ma et al., "Foundation models for interactive 3D biomedical image segmentation", CVPR (2025),
       the challenge's public evaluation code.
    """
    error: Mask = np.asarray(predicted ^ mask)
    if not error.any():
        error = mask
    window = around(error)
    numbered, count = scipy.ndimage.label(error[window], np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(numbered.ravel())
        sizes[0] = 0
        region = numbered == sizes.argmax()
    else:
        region = numbered > 0
    inner = around(region)
    padded = np.pad(region[inner], 1)
    depth = scipy.ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, 1:-1]
    place = np.unravel_index(int(depth.argmax()), depth.shape)
    k, y, x = (int(place[a]) + inner[a].start + window[a].start for a in range(3))
    return k, np.array([x, y], np.int16), int(mask[k, y, x])


def around(mask: Mask) -> tuple[slice, ...]:
    """The smallest window that holds a mask, not empty, of an image or a volume.

    >>> around(np.eye(5, dtype=bool)[1:, :3])
    (slice(0, 2, None), slice(1, 3, None))
    """
    if mask.ndim == 2:
        x0, y0, x1, y1 = tight_box(mask).tolist()
        return slice(y0, y1), slice(x0, x1)
    low, high = ends_of(mask)
    return slice(low, high + 1), *around(np.asarray(mask[low : high + 1].any(0)))
