"""A volume as it lies in its file, and its grid: orientation, spacing, agreement of image and mask."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

LONGEST = np.iinfo(np.int16).max
"""Pixels of a side, as clicks are int16."""


class Unreadable(Exception):
    """A file that cannot be used; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Volume:
    """An image or label array as it lies in its file.

    Attributes
    ----------
    array
        (Z, Y, X), Z = 1 for a 2-D image; any real dtype.
    spacing
        mm (z, y, x), None where the file does not say.
    direction
        3 x 3, columns the directions of x, y, z in patient coordinates (LPS); None where unknown.
    origin
        Position of the first voxel, mm, LPS; None where the file does not say.
    flat
        Whether the file holds a 2-D image.
    files
        DICOM: names of the slices' files (and frames in them), in the order of the slices.
    step
        mm (3,) from slice to slice, of a DICOM series, whose gantry may have been tilted; None where that is
        along the third of the directions.
    lossy
        Whether values near each other may stand for one, as in a JPEG.
    """

    array: NDArray
    spacing: tuple[float, float, float] | None = None
    direction: NDArray | None = None
    origin: NDArray | None = None
    flat: bool = False
    files: tuple[str, ...] = ()
    step: NDArray | None = None
    lossy: bool = False


def simpleitk():  # type: ignore[no-untyped-def]
    """SimpleITK."""
    import SimpleITK as sitk

    return sitk


def radiological(volume: Volume, array: NDArray) -> tuple[NDArray, tuple[int, int, int]]:
    """Turn an array of a volume's shape to the axes of radiological viewing.

    Returns
    -------
    array
        A view with axes (S, P, L): slices towards superior, rows towards posterior, columns towards the
        patient's left, which for an axial slice is the radiologist's view.
    order
        Where each axis came from, as indices of the file's (z, y, x).
    """
    if volume.direction is None:
        return array, (0, 1, 2)
    sitk = simpleitk()
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(volume.direction.ravel().tolist())
    file_axes = code[::-1]  # the letters say where x, y, z run to; the array's axes are z, y, x
    order, flips = [], []
    for forward, backward in (("S", "I"), ("P", "A"), ("L", "R")):
        place = next(k for k, letter in enumerate(file_axes) if letter in (forward, backward))
        order.append(place)
        flips.append(slice(None, None, -1 if file_axes[place] == backward else 1))
    return np.transpose(array, order)[tuple(flips)], (order[0], order[1], order[2])


def check_pixels(volume: Volume) -> None:
    """Raise :class:`Unreadable` where a volume has no slice of two rows and columns, or no finite value."""
    if sorted(volume.array.shape)[1] < 2:
        raise Unreadable(f"size {' x '.join(map(str, volume.array.shape))} is no image")
    if volume.array.dtype.kind == "f" and not np.isfinite(volume.array).any():
        raise Unreadable("holds nothing but NaN or infinite values")


def check_finite(volume: Volume) -> None:
    """Raise :class:`Unreadable` where a voxel is NaN or infinite."""
    if volume.array.dtype.kind != "f":
        return
    bad = ~np.isfinite(volume.array)
    if bad.any():
        k, j, i = np.unravel_index(int(bad.argmax()), bad.shape)
        raise Unreadable(
            f"{np.count_nonzero(bad)} voxels are NaN or infinite, the first at voxel ({i}, {j}, {k}); "
            "give numbers everywhere, such as the background's value"
        )


def same_grid(image: Volume, mask: Volume, *, strict: bool) -> str | None:
    """What differs between an image's and a mask's grid, None if nothing does.

    Spacings may differ by 1 %, directions by 0.01 in any component, origins by half a voxel. Of two 3-D files
    both or neither have a direction: one alone says which way round it lies, and the other may lie otherwise.
    """
    if image.array.shape != mask.array.shape:
        return f"size {_size(mask)} differs from the image's {_size(image)}"
    if not strict:
        return None
    if (image.direction is None) != (mask.direction is None) and not (image.flat or mask.flat):
        which = ("mask", "image") if mask.direction is None else ("image", "mask")
        return (
            f"the {which[0]} does not say how it lies in the patient, the {which[1]} does; if their voxels "
            "correspond as they are stored, say geometry: size"
        )
    if image.spacing is not None and mask.spacing is not None:
        first = 1 if image.flat or mask.flat else 0  # what is flat has no distance between slices
        own, other = image.spacing[first:], mask.spacing[first:]
        if not np.allclose(own, other, rtol=0.01):
            return f"spacing {_mm(other)} differs from the image's {_mm(own)}"
    if image.direction is not None and mask.direction is not None:
        if not np.allclose(image.direction, mask.direction, atol=0.01):
            return "orientation (direction cosines) differs from the image's"
        if image.origin is not None and mask.origin is not None and image.spacing is not None:
            shift = image.direction.T @ (mask.origin - image.origin)
            if (np.abs(shift) > 0.5 * np.array(image.spacing[::-1])).any():
                return f"origin lies {np.linalg.norm(shift):.1f} mm from the image's"
    return None


def placement(
    image: Volume, affine: NDArray, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], list[int], tuple[slice, ...]]:
    """Where in an image's array an array belongs that may cover part of it, and lie otherwise.

    Parameters
    ----------
    affine
        4 x 4, from the array's voxels, in the order of its axes, to mm in the patient (LPS).
    shape
        The array's.

    Returns
    -------
    target, order, flips
        ``found[target] = np.transpose(array, order)[flips]``.

    Raises
    ------
    Unreadable
        If it lies on another grid, or beyond the image.
    """
    to_index = np.linalg.inv(steps_of(image))  # mm to (z, y, x)
    axes = to_index @ affine[:3, :3]  # column k: the image's index step of the array's axis k
    start = to_index @ (affine[:3, 3] - image.origin)
    steps = np.rint(axes).astype(int)
    if not np.allclose(axes, steps, atol=0.02) or not (np.abs(steps).sum(0) == 1).all():
        raise Unreadable("spacing or orientation differs from the image's")
    corners = start, start + axes @ (np.array(shape) - 1)  # a step a little off adds up
    if not all(np.allclose(corner, np.rint(corner), atol=0.25) for corner in corners):
        raise Unreadable("its voxels lie between those of the image")
    order = [int(np.flatnonzero(steps[axis])[0]) for axis in range(3)]
    target, flips = [], []
    for axis in range(3):
        size = shape[order[axis]]
        sign = steps[axis, order[axis]]
        first = int(np.rint(start[axis])) - (size - 1 if sign < 0 else 0)
        if first < 0 or first + size > image.array.shape[axis]:
            raise Unreadable("it reaches beyond the image")
        target.append(slice(first, first + size))
        flips.append(slice(None, None, int(sign)))
    return tuple(target), order, tuple(flips)


def steps_of(image: Volume) -> NDArray:
    """mm in the patient of one voxel along z, y, x, the columns of 3 x 3.

    Raises
    ------
    Unreadable
        If the image does not say.
    """
    if image.direction is None or image.origin is None or image.spacing is None:
        raise Unreadable("the image has no geometry to place a segmentation in")
    steps = (image.direction * np.array(image.spacing[::-1]))[:, ::-1]
    if image.step is not None:
        steps[:, 0] = image.step
    return steps


def _size(volume: Volume) -> str:
    return " x ".join(map(str, volume.array.shape[1:] if volume.flat else volume.array.shape))


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing) + " mm"


def with_spacing(volume: Volume, spacing: list[float] | tuple[float, ...] | None) -> Volume:
    """Put a descriptor's spacing (2 or 3 numbers, mm) in place of what the file says.

    Two are of row and column: the distance between slices stays the file's, NaN where that is unknown.
    """
    if spacing is None:
        return volume
    z, y, x = (volume.spacing[0] if volume.spacing else np.nan, *spacing) if len(spacing) == 2 else spacing
    return replace(volume, spacing=(float(z), float(y), float(x)))
