"""DICOM segmentation objects (DICOM-SEG), on the grid of the image that they were drawn on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.dicom import is_dicom, read_header
from synthfm.evaluation.formats.sizes import readable
from synthfm.evaluation.formats.volume import Unreadable, Volume, placement


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
    import highdicom

    try:
        segmentation = highdicom.seg.segread(path)
        volume = segmentation.get_volume(combine_segments=False, rescale_fractional=True)
    except Exception as error:  # highdicom and pydicom raise many kinds
        raise Unreadable(f"cannot be read as DICOM-SEG: {' '.join(str(error).split())}") from error
    pixels = volume.array > 0.5  # (slices, rows, columns, segments)
    place = placement(image, volume.affine, volume.array.shape[:3])
    masks: dict[int | str, NDArray[np.bool_]] = {}
    for k, number in enumerate(segmentation.segment_numbers):
        mask = np.zeros(image.array.shape, bool)
        mask[place[0]] = np.transpose(pixels[..., k], place[1])[place[2]]
        masks[int(number)] = mask
        label = str(segmentation.get_segment_description(number).segment_label)
        masks[label] = masks[label] | mask if label in masks else mask  # several may bear one label
    return masks
