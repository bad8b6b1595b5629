"""DICOM segmentation objects (DICOM-SEG), on the grid of the image that they were drawn on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.dicom import is_dicom, read_header
from synthfm.evaluation.formats.volume import Unreadable, Volume


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM-SEG object."""
    return is_dicom(path) and str(read_header(path).get("SOPClassUID", "")).startswith(
        "1.2.840.10008.5.1.4.1.1.66."
    )


def read_segments(path: Path, image: Volume) -> dict[int | str, NDArray[np.bool_]]:
    """Read a DICOM-SEG object on the grid of its image.

    Parameters
    ----------
    path
        The object; it may cover some of the image's slices only.
    image
        The volume it was drawn on.

    Returns
    -------
    dict
        Segment number to mask, bool (Z, Y, X); and by segment label, of all segments that bear it.

    Raises
    ------
    Unreadable
        If the object cannot be read or does not lie on the image's grid.
    """
    import highdicom

    try:
        segmentation = highdicom.seg.segread(path)
        volume = segmentation.get_volume(combine_segments=False, rescale_fractional=True)
    except Exception as error:  # highdicom and pydicom raise many kinds
        raise Unreadable(f"cannot be read as DICOM-SEG: {' '.join(str(error).split())}") from error
    pixels = volume.array > 0.5  # (slices, rows, columns, segments)
    place = _placement(image, volume)
    masks: dict[int | str, NDArray[np.bool_]] = {}
    for k, number in enumerate(segmentation.segment_numbers):
        mask = np.zeros(image.array.shape, bool)
        mask[place[0]] = np.transpose(pixels[..., k], place[1])[place[2]]
        masks[int(number)] = mask
        label = str(segmentation.get_segment_description(number).segment_label)
        masks[label] = masks[label] | mask if label in masks else mask  # several may bear one label
    return masks


def _placement(image: Volume, volume: Any) -> tuple[tuple[slice, ...], list[int], tuple[slice, ...]]:
    """Where in the image's array the segmentation's array belongs, and its axes' order and flips."""
    if image.direction is None or image.origin is None or image.spacing is None:
        raise Unreadable("the image has no geometry to place a DICOM-SEG in")
    step = image.direction * np.array(image.spacing[::-1])  # columns: one voxel along x, y, z
    to_index = np.linalg.inv(step[:, ::-1])  # mm to (z, y, x)
    axes = to_index @ volume.affine[:3, :3]  # column k: the image's index step of the array's axis k
    start = to_index @ (volume.affine[:3, 3] - image.origin)
    steps = np.rint(axes).astype(int)
    if not np.allclose(axes, steps, atol=0.02) or not (np.abs(steps).sum(0) == 1).all():
        raise Unreadable("spacing or orientation differs from the image's")
    corners = start, start + axes @ (np.array(volume.array.shape[:3]) - 1)  # a step a little off adds up
    if not all(np.allclose(corner, np.rint(corner), atol=0.25) for corner in corners):
        raise Unreadable("its voxels lie between those of the image")
    order = [int(np.flatnonzero(steps[axis])[0]) for axis in range(3)]
    target, flips = [], []
    for axis in range(3):
        size = volume.array.shape[order[axis]]
        sign = steps[axis, order[axis]]
        first = int(np.rint(start[axis])) - (size - 1 if sign < 0 else 0)
        if first < 0 or first + size > image.array.shape[axis]:
            raise Unreadable("it reaches beyond the image")
        target.append(slice(first, first + size))
        flips.append(slice(None, None, int(sign)))
    return tuple(target), order, tuple(flips)
