"""Files to arrays: NIfTI, MetaImage, NRRD, DICOM, PNG, TIFF, JPEG, npz and HDF5.

Every reader returns a :class:`~synthfm.evaluation.formats.volume.Volume`, slices first, or raises
:class:`~synthfm.evaluation.formats.volume.Unreadable` with a reason for people.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.arrays import read_array
from synthfm.evaluation.formats.colours import Colours, grey
from synthfm.evaluation.formats.dicom import count_cine, is_dicom, read_file, read_series
from synthfm.evaluation.formats.itk import checked_frame, read_itk, size_of
from synthfm.evaluation.formats.nifti import read_header, read_nifti, shape_of
from synthfm.evaluation.formats.pictures import open_picture
from synthfm.evaluation.formats.reach import check_below
from synthfm.evaluation.formats.sizes import check_size, readable
from synthfm.evaluation.formats.volume import LONGEST, Unreadable, Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr")
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mhd", ".mha", ".nrrd", ".nhdr", ".hdr")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
ARRAY_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".mat")


def suffix_of(path: Path) -> str:
    """A file's suffix in lower case, ``.nii.gz`` as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


@readable()
def read_volume(
    path: Path,
    *,
    key: str | None = None,
    axes: str | None = None,
    frame: int | None = None,
    mask: bool = False,
    colours: Colours = "shown",
    root: Path | None = None,
) -> Volume:
    """Read any supported file, or the folder of a DICOM series.

    Parameters
    ----------
    path
        The file or folder.
    key, axes
        Name and axis order of the array, for formats that do not say (npz, HDF5, TIFF stacks).
    frame
        Index on the time or channel axis of a 4-D file; of a cine in DICOM, which is a volume of its frames
        without one, the frame.
    mask
        Pictures become what `colours` says instead of luminance.
    root
        The data root, out of which a dataset's files must not lead; see :mod:`.reach`.

    Raises
    ------
    Unreadable
        If the file is missing, damaged, of an unknown kind, of unexpected dimensions, or out of reach.
    """
    try:
        volume = _read(path, suffix_of(path), key, axes, frame, mask, colours, root)
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror or error}") from error
    if max(volume.array.shape) > LONGEST:
        size = " x ".join(map(str, volume.array.shape))
        raise Unreadable(f"size {size}: sides of more than {LONGEST} pixels are not supported")
    if volume.array.dtype.kind == "c":
        raise Unreadable("holds complex numbers; expected one real number a pixel, such as their magnitude")
    if volume.array.dtype.kind == "b" and not mask:  # a picture of one bit
        return replace(volume, array=volume.array * np.uint8(255))
    return volume


def _read(
    path: Path,
    suffix: str,
    key: str | None,
    axes: str | None,
    frame: int | None,
    mask: bool,
    colours: Colours,
    root: Path | None,
) -> Volume:
    check_below(path, root)
    check_size(path, suffix)
    if path.is_dir():
        return read_series(path, frame=frame, mask=mask)
    if not path.is_file():
        raise Unreadable("no such file")
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty")
    if suffix in PICTURE_SUFFIXES:
        return _read_picture(path, axes, frame, mask, colours, root)
    if suffix in ARRAY_SUFFIXES:
        return _shaped(read_array(path, key, root), axes, frame)
    if suffix in NIFTI_SUFFIXES:
        return read_nifti(path, frame, root)
    if suffix in VOLUME_SUFFIXES:
        return read_itk(path, frame, root)
    if suffix == ".dcm" or is_dicom(path):
        return read_file(path, frame=frame, mask=mask)
    known = ", ".join((*VOLUME_SUFFIXES, ".dcm", *PICTURE_SUFFIXES, *ARRAY_SUFFIXES, *[".xml"] * mask))
    raise Unreadable(f"unknown kind of file ({suffix or 'no suffix'}); expected one of {known}")


@readable()
def count_frames(
    path: Path, *, key: str | None = None, axes: str | None = None, root: Path | None = None
) -> int:
    """Frames (time points or channels) of a file, 1 for one that is not 4-D, and those of a cine in DICOM.

    Raises
    ------
    Unreadable
        If the file cannot be read.
    """
    check_below(path, root)
    suffix = suffix_of(path)
    check_size(path, suffix)
    if suffix in ARRAY_SUFFIXES:
        return _frames(read_array(path, key, root), axes, "tc")
    if suffix in PICTURE_SUFFIXES:
        found = open_picture(path, False, "shown", root)
        return _frames(found.array, axes or found.axes, "t")
    if path.is_dir() or (path.is_file() and is_dicom(path)):
        return count_cine(path)
    if suffix in NIFTI_SUFFIXES:
        return int(np.prod(shape_of(read_header(path))[3:]))
    size, components = size_of(path, root)
    return size[3] if len(size) == 4 else max(1, components)


def _frames(array: NDArray, axes: str | None, letters: str) -> int:
    """How many frames an array has on the axes of these letters."""
    axes = _axes_of(array, axes)
    return int(np.prod([array.shape[axes.index(letter)] for letter in letters if letter in axes]))


def _read_picture(
    path: Path, axes: str | None, frame: int | None, mask: bool, colours: Colours, root: Path | None
) -> Volume:
    array, own, lossy = open_picture(path, mask, colours, root)
    axes = axes or own
    if "c" not in axes and mask and colours == "number":
        array, axes = array[..., None], f"{axes}c"
    if "c" in axes and array.ndim == len(axes):
        array = grey(np.moveaxis(array, axes.index("c"), -1), mask, colours)
        axes = axes.replace("c", "")
    return replace(_shaped(array, axes, frame), lossy=lossy)


def _axes_of(array: NDArray, axes: str | None) -> str:
    """The axes of an array of numbers: those given, if they fit, or else the usual ones."""
    if array.dtype.kind not in "biuf":
        raise Unreadable(f"holds {array.dtype}, expected numbers")
    axes = axes or {2: "yx", 3: "zyx", 4: "tzyx"}.get(array.ndim, "")
    if len(axes) != array.ndim or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        raise Unreadable(f"an array of shape {array.shape} does not have the axes {axes or 'of an image'!r}")
    return axes


def _shaped(array: NDArray, axes: str | None, frame: int | None) -> Volume:
    """Bring an array to (Z, Y, X) from its named axes."""
    axes = _axes_of(array, axes)
    for letter in "tc":
        if letter in axes:
            index, size = axes.index(letter), array.shape[axes.index(letter)]
            if frame is None and size > 1:
                raise Unreadable(f"{size} frames on axis {letter!r}; say which with image.frame")
            array = np.take(array, checked_frame(frame or 0, size), axis=index)
            axes = axes.replace(letter, "")
    array = np.transpose(array, [axes.index(letter) for letter in "zyx" if letter in axes])
    return Volume(array if array.ndim == 3 else array[None], flat=array.ndim == 2 or array.shape[0] == 1)
