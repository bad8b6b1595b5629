"""DICOM segmentation objects (DICOM-SEG), on the grid of the image that they were drawn on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.dicom import is_dicom, read_header
from synthfm.evaluation.formats.dicom_elements import read_elements
from synthfm.evaluation.formats.sizes import readable
from synthfm.evaluation.formats.volume import Unreadable, Volume, placement, steps_of


@readable()
def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM-SEG object."""
    return is_dicom(path) and str(read_header(path).get("SOPClassUID", "")).startswith(
        "1.2.840.10008.5.1.4.1.1.66."
    )


@readable()
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
    try:
        file = read_elements(path, pixels=True)
        stored = file.pixel_array.reshape(-1, file.Rows, file.Columns)
        groups = list(file.PerFrameFunctionalGroupsSequence)
        labels = {int(item.SegmentNumber): str(item.SegmentLabel) for item in file.SegmentSequence}
        full = float(file.get("MaximumFractionalValue") or 1)
    except Exception as error:  # pydicom raises many kinds
        raise Unreadable(f"cannot be read as DICOM-SEG: {' '.join(str(error).split())}") from error
    if len(groups) != len(stored):
        raise Unreadable(f"holds {len(stored)} frames, its header describes {len(groups)}")
    numbered = file.get("SegmentationType") == "LABELMAP"
    found = {number: np.zeros(image.array.shape, bool) for number in labels}
    for k, frame in enumerate(stored):
        target, order, flips = placement(image, _affine(file, k, image), (1, *frame.shape))
        for number in np.unique(frame).tolist() if numbered else [_segment_of(file, k)]:
            if number in found:
                drawn = frame == number if numbered else frame > 0.5 * full
                found[number][target] |= np.transpose(drawn[None], order)[flips]
    masks: dict[int | str, NDArray[np.bool_]] = {}
    for number, label in labels.items():
        masks[number] = found[number]
        masks[label] = (
            masks[label] | found[number] if label in masks else found[number]
        )  # several may bear it
    return masks


def _segment_of(file: Any, k: int) -> int:
    return int(_element(file, k, "SegmentIdentificationSequence", "ReferencedSegmentNumber"))


def _affine(file: Any, k: int, image: Volume) -> NDArray:
    """4 x 4, from (slice, row, column) of a frame to mm in the patient; its slices lie as the image's do."""
    position = np.array(_element(file, k, "PlanePositionSequence", "ImagePositionPatient"), float)
    axes = np.array(_element(file, k, "PlaneOrientationSequence", "ImageOrientationPatient"), float)
    pixel = np.array(_element(file, k, "PixelMeasuresSequence", "PixelSpacing"), float)
    affine = np.eye(4)
    affine[:3, 1], affine[:3, 2] = axes[3:] * pixel[0], axes[:3] * pixel[1]  # down the rows, along them
    steps = steps_of(image)
    normal = np.cross(axes[:3], axes[3:])
    affine[:3, 0] = steps[:, np.abs(normal @ (steps / np.linalg.norm(steps, axis=0))).argmax()]
    affine[:3, 3] = position
    return affine


def _element(file: Any, k: int, macro: str, keyword: str) -> Any:
    """An element of frame k's functional group, or of that of all."""
    for groups in (
        file.PerFrameFunctionalGroupsSequence[k],
        *(file.get("SharedFunctionalGroupsSequence") or []),
    ):
        items = groups.get(macro)
        if items and items[0].get(keyword) is not None:
            return items[0].get(keyword)
    raise Unreadable(f"frame {k + 1} does not say where it lies or what it is of: no {keyword}")
