"""Images as SimpleITK reads them, as volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from synthfm.evaluation.formats.volume import Unreadable, Volume, simpleitk

if TYPE_CHECKING:
    import SimpleITK as sitk


def itk_reason(error: Exception) -> str:
    """The telling line of an ITK exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else "unknown error").removeprefix("ITK ERROR: ")


def from_itk(image: sitk.Image, frame: int | None = None) -> Volume:
    """A SimpleITK image as a :class:`Volume`; `frame` picks from a fourth axis or from vector pixels."""
    sitk = simpleitk()
    if image.GetDimension() > 4:
        raise Unreadable(f"{image.GetDimension()}-D; expected at most 4-D")
    if image.GetNumberOfComponentsPerPixel() > 1:
        if frame is None:
            raise Unreadable(
                f"{image.GetNumberOfComponentsPerPixel()} values a voxel; say which with image.frame"
            )
        number = checked_frame(frame, image.GetNumberOfComponentsPerPixel())
        image = sitk.VectorIndexSelectionCast(image, number)
    if image.GetDimension() == 4:
        frames = image.GetSize()[3]
        if frame is None and frames > 1:
            raise Unreadable(f"4-D with {frames} frames; say which with image.frame")
        image = image[:, :, :, checked_frame(frame or 0, frames)]
    array = sitk.GetArrayFromImage(image)
    if image.GetDimension() == 2:
        y, x = image.GetSpacing()[::-1]
        return Volume(array[None], (1.0, y, x), flat=True)
    return Volume(
        array,
        image.GetSpacing()[::-1],
        np.array(image.GetDirection()).reshape(3, 3),
        np.array(image.GetOrigin()),
        flat=array.shape[0] == 1,
    )


def checked_frame(frame: int, frames: int) -> int:
    if not 0 <= frame < frames:
        raise Unreadable(f"frame {frame} does not exist; the file has {frames} (counted from 0)")
    return frame
