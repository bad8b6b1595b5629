"""Files to arrays: NIfTI, MetaImage, NRRD, DICOM, PNG, TIFF, JPEG, npz and HDF5.

Every reader returns a :class:`~synthfm.evaluation.formats.volume.Volume`, slices first, or raises
:class:`~synthfm.evaluation.formats.volume.Unreadable` with a reason for people.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.colours import Colours, grey
from synthfm.evaluation.formats.dicom import is_dicom, read_file, read_series
from synthfm.evaluation.formats.itk import checked_frame, from_itk, itk_reason
from synthfm.evaluation.formats.nifti import check_nifti, states_spacing
from synthfm.evaluation.formats.sizes import check_size, readable
from synthfm.evaluation.formats.volume import Unreadable, Volume, simpleitk

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mhd", ".mha", ".nrrd", ".nhdr", ".hdr")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
ARRAY_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".mat")
LONGEST = np.iinfo(np.int16).max
"""Pixels of a side, as clicks are int16."""


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
    colours: Colours = "any",
) -> Volume:
    """Read any supported file, or the folder of a DICOM series.

    Parameters
    ----------
    path
        The file or folder.
    key, axes
        Name and axis order of the array, for formats that do not say (npz, HDF5, TIFF stacks).
    frame
        Index on the time or channel axis of a 4-D file.
    mask
        Colour pictures become what `colours` says instead of luminance; of a palette the numbers are kept.

    Raises
    ------
    Unreadable
        If the file is missing, damaged, of an unknown kind or of unexpected dimensions.
    """
    check_size(path, suffix_of(path))
    try:
        volume = _read(path, suffix_of(path), key, axes, frame, mask, colours)
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
) -> Volume:
    if path.is_dir():
        return read_series(path, mask=mask)
    if not path.is_file():
        raise Unreadable("no such file")
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty")
    if suffix in PICTURE_SUFFIXES:
        return _read_picture(path, axes, frame, mask, colours)
    if suffix in ARRAY_SUFFIXES:
        return _shaped(_read_array(path, key), axes, frame)
    if suffix in VOLUME_SUFFIXES:
        return _read_itk(path, frame)
    if suffix == ".dcm" or is_dicom(path):
        return read_file(path, mask=mask)
    known = ", ".join((*VOLUME_SUFFIXES, ".dcm", *PICTURE_SUFFIXES, *ARRAY_SUFFIXES, *[".xml"] * mask))
    raise Unreadable(f"unknown kind of file ({suffix or 'no suffix'}); expected one of {known}")


def _read_itk(path: Path, frame: int | None) -> Volume:
    sitk = simpleitk()
    lost = check_nifti(path) if suffix_of(path) in (".nii", ".nii.gz", ".hdr") else None
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = itk_reason(error)
        if suffix_of(path) == ".mha" and "No such file" in reason:  # MetaIO, of voxels that end early
            reason = "cut short"
        raise Unreadable(f"cannot be read: {reason}") from error
    volume = from_itk(image, frame)
    if not _states_spacing(path):
        volume = replace(volume, spacing=None)
    if lost is not None:
        size = volume.array.size
        frames = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() // size
        read = frame if frame is not None and frames > 1 else 0  # a 3-D file has no frame to choose
        volume.array.reshape(-1)[lost[lost // size == read] % size] = np.nan
    return volume


def _states_spacing(path: Path) -> bool:
    """Whether a file's header says how large a voxel is: ITK makes 1 mm of silence, and of NIfTI's zeros."""
    suffix = suffix_of(path)
    with open(path, "rb") as handle:
        text = handle.read(1 << 16)
    if suffix in (".mha", ".mhd"):  # ElementDataFile is the last line
        return (
            re.search(rb"^\s*Element(Spacing|Size)\s*[=:]", text.split(b"ElementDataFile")[0], re.M)
            is not None
        )
    if suffix in (".nrrd", ".nhdr"):  # an empty line ends it; an axis of unknown spacing is nan
        header = re.split(rb"\r?\n\r?\n", text)[0]
        return re.search(rb"^(spacings|space directions):(?!=).*\d", header, re.M | re.I) is not None
    return states_spacing(path)


@readable()
def count_frames(path: Path, *, key: str | None = None, axes: str | None = None) -> int:
    """Frames (time points or channels) of a file, 1 for one that is not 4-D; DICOM's are slices.

    Raises
    ------
    Unreadable
        If the file cannot be read.
    """
    check_size(path, suffix_of(path))
    if suffix_of(path) in ARRAY_SUFFIXES:
        return _frames(_read_array(path, key), axes, "tc")
    if suffix_of(path) in PICTURE_SUFFIXES:
        return _frames(*_open_picture(path, axes, mask=False), "t")
    if path.is_dir() or (path.is_file() and is_dicom(path)):
        return 1
    reader = simpleitk().ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise Unreadable(f"cannot be read: {itk_reason(error)}") from error
    return int(reader.GetSize()[3]) if reader.GetDimension() == 4 else max(1, reader.GetNumberOfComponents())


def _frames(array: NDArray, axes: str | None, letters: str) -> int:
    """How many frames an array has on the axes of these letters."""
    axes = _axes_of(array, axes)
    return int(np.prod([array.shape[axes.index(letter)] for letter in letters if letter in axes]))


def _open_picture(path: Path, axes: str | None, mask: bool) -> tuple[NDArray, str]:
    """A picture's array and its axes: those given, or else the file's own."""
    own = None
    try:
        if suffix_of(path) in (".tif", ".tiff"):
            try:
                array, own = _read_tiff(path, mask)
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                array, own = _read_packed_tiff(path, mask)
        else:
            array = _read_pixels(path, mask)
    except Exception as error:  # imageio's plugins and tifffile raise what they like
        raise Unreadable(f"cannot be read as a picture: {' '.join(str(error).split())[:160]}") from error
    return array, axes or own or {2: "yx", 3: "yxc"}.get(array.ndim, "zyxc")


def _read_pixels(path: Path, mask: bool) -> NDArray:
    """A picture's array; of a mask with a palette the numbers, not the colours that they stand for."""
    from PIL import Image, UnidentifiedImageError
    from skimage import io

    try:
        with Image.open(path) as picture:
            if mask and picture.mode == "P" and getattr(picture, "n_frames", 1) == 1:
                return np.asarray(picture)
            if picture.mode == "CMYK":
                return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"damaged, or no {suffix_of(path)} file") from error
    return np.asarray(io.imread(path))


def _read_picture(path: Path, axes: str | None, frame: int | None, mask: bool, colours: Colours) -> Volume:
    array, axes = _open_picture(path, axes, mask and colours != "number")
    if "c" not in axes and colours == "number":
        array, axes = array[..., None], f"{axes}c"
    if "c" in axes and array.ndim == len(axes):
        array = grey(np.moveaxis(array, axes.index("c"), -1), mask, colours)
        axes = axes.replace("c", "")
    return _shaped(array, axes, frame)


def _read_tiff(path: Path, mask: bool) -> tuple[NDArray, str]:
    """A TIFF's first series and its axes, as the file itself names them; pages are slices.

    Of an image the grey values as they are shown (0 may be white, or numbers stand for a palette's colours),
    of a mask the numbers, but of one in black and white what is white.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        series, page = file.series[0], file.pages.first
        names = {"S": "c", "C": "t", "T": "t", "Y": "y", "X": "x"}
        array, axes = series.asarray(), "".join(names.get(axis, "z") for axis in series.axes)
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED and not mask:
            if len(file.pages) > 1:
                raise ValueError("several pages of inks (CMYK)")
            return _read_pixels(path, mask), "yxc"
        bilevel = page.bitspersample == 1  # what is drawn in black and white, and no number
        if (mask and not bilevel) or array.dtype.kind not in "bu":
            return array, axes
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            array = (2**page.bitspersample - 1 - array.astype(np.int64)).astype(array.dtype)
        elif page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            array = np.moveaxis(page.colormap[:, array] >> 8, 0, -1).astype(np.uint8)
            axes += "c"
        return array, axes


def _read_packed_tiff(path: Path, mask: bool) -> tuple[NDArray, str]:
    """A TIFF of a compression that tifffile leaves to a further package (LZW is one), as Pillow reads it."""
    from PIL import Image, ImageSequence

    with Image.open(path) as picture:
        coloured = ("CMYK",) if mask else ("CMYK", "P")
        pages = [
            np.asarray(page.convert("RGB") if page.mode in coloured else page)
            for page in ImageSequence.Iterator(picture)
        ]
    array = np.stack(pages)
    axes = "zyxc"[: array.ndim]
    return (array, axes) if len(pages) > 1 else (array[0], axes[1:])


def _read_array(path: Path, key: str | None) -> NDArray:
    if suffix_of(path) in (".npz", ".npy"):
        return _read_npz(path, key)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            return np.asarray(file[_chosen(names, key)][()])  # a string comes as bytes
    except (OSError, RuntimeError) as error:
        older = " (a MATLAB file must be of version 7.3)" if suffix_of(path) == ".mat" else ""
        raise Unreadable(f"cannot be read as HDF5{older}: {error}") from error


def _read_npz(path: Path, key: str | None) -> NDArray:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        return np.asarray(content[_chosen(list(content.keys()), key)])  # a text file comes as bytes
    except Unreadable:
        raise
    except Exception as error:  # zip, zlib and header errors have no common base
        raise Unreadable(f"cannot be read as npz: {error}") from error


def _chosen(names: list[str], key: str | None) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key is None or key not in names:
        wanted = "say which array with 'key'" if key is None else f"no array {key!r}"
        raise Unreadable(f"{wanted}; the file has {', '.join(sorted(names)) or 'none'}")
    return key


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
