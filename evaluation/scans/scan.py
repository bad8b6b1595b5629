"""A person's scan: its values, its grid, and the slices that it is cut in.

Places in it are named in three ways. *Voxels* (i, j, k) count along the axes of the file, as ITK, ITK-SNAP
and nibabel do. Points in *the patient* are in mm, LPS. And (x, y, slice) is a pixel of one of the slices that
are shown and segmented: those of the plane of acquisition, as they are stored, so that for an axial series
x, y and slice are i, j and k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthfm.data.console import InputError
from synthfm.data.shards import Modality
from synthfm.evaluation.cases.schema import Intensity
from synthfm.evaluation.cases.slicing import PLANES, View, grey_levels, not_hounsfield, to_grey, view_of
from synthfm.evaluation.formats.colours import grey
from synthfm.evaluation.formats.dicom import is_dicom
from synthfm.evaluation.formats.dicom_elements import read_elements
from synthfm.evaluation.formats.itk import reading
from synthfm.evaluation.formats.nifti import geometry, read_header, shape_of
from synthfm.evaluation.formats.readers import (
    ARRAY_SUFFIXES,
    PICTURE_SUFFIXES,
    VOLUME_SUFFIXES,
    read_volume,
    suffix_of,
)
from synthfm.evaluation.formats.volume import Unreadable, Volume, check_finite, check_pixels
from synthfm.evaluation.scans.grid import Grid, Points, grid_of

MOST_VOXELS = 2**30
"""Larger scans are refused: 2 GB in 16 bits, and several times that while they are read."""
AIR = -500
"""Hounsfield units: what is stored in signed numbers and goes below is a CT where the file does not say."""

Form = Literal["nifti", "nrrd", "metaimage", "dicom", "picture", "array"]
_FORMS: dict[str, Form] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".hdr": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
}


@dataclass(frozen=True)
class Scan:
    """A scan as it lies in its file, and how it is cut.

    Attributes
    ----------
    path
        The file, or the folder of a DICOM series.
    form
        The kind of file.
    volume
        Its values as they are stored (Hounsfield units in a CT), (Z, Y, X), of colours their luminance.
    colours
        uint8 (Z, Y, X, 3) of a picture in colour, else None.
    grid
        Where the voxels lie.
    view
        How it is cut in slices.
    levels
        The values that are shown black and white.
    modality
        ``CT``, ``MR``, ``US``, ``XR`` or ``generic``, as far as the file or its values say.
    sheared
        Whether the slices of a DICOM series do not lie above each other (a tilted gantry): no file of another
        kind can say so.
    """

    path: Path
    form: Form
    volume: Volume
    colours: NDArray[np.uint8] | None
    grid: Grid
    view: View
    levels: tuple[float, float]
    modality: str
    sheared: bool = False

    @property
    def values(self) -> NDArray:
        """The values by slice, a view (slices, H, W)."""
        return self.view.slices(self.volume.array)

    @property
    def shown(self) -> Shown:
        """What a person, and the model, sees of each slice: a sequence of uint8 (H, W) or (H, W, 3)."""
        return Shown(self)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm from slice to slice, row to row and column to column; 1 where the file does not say."""
        file = self.grid.spacing
        slices, row, column = (file[axis] for axis in self._axes())
        return slices, row, column

    def on_grid(self, mask: NDArray) -> NDArray:
        """An array by slice (slices, H, W) back in the file's order of axes, (Z, Y, X)."""
        placed = np.empty(self.volume.array.shape, mask.dtype)
        self.view.slices(placed)[...] = mask
        return placed

    def by_slice(self, array: NDArray) -> NDArray:
        """An array in the file's order (Z, Y, X) as a view (slices, H, W)."""
        return self.view.slices(array)

    def to_pixels(self, voxels: ArrayLike) -> Points:
        """Voxels (N, 3) as (i, j, k) to (x, y, slice)."""
        steps, start = self._from_pixels()
        return (np.asarray(voxels, float) - start) @ np.linalg.inv(steps).T

    def to_voxels(self, pixels: ArrayLike) -> Points:
        """Places (N, 3) as (x, y, slice) to voxels (i, j, k)."""
        steps, start = self._from_pixels()
        return np.asarray(pixels, float) @ steps.T + start

    def _axes(self) -> list[int]:
        """Which of i, j, k the slices, the rows and the columns run along."""
        steps, _ = self._from_pixels()
        return np.abs(steps).argmax(0)[::-1].tolist()

    def _from_pixels(self) -> tuple[NDArray, NDArray]:
        """Columns, the steps in (i, j, k) of a pixel along x, y and slice; and the voxel of (0, 0, 0)."""
        corner = np.indices((2, 2, 2))[::-1]  # i, j, k of each voxel of a tiny volume of this orientation
        cut = np.stack([self.view.slices(axis) for axis in corner])
        first = cut[:, 0, 0, 0]
        steps = np.stack([cut[:, 0, 0, 1], cut[:, 0, 1, 0], cut[:, 1, 0, 0]], axis=1) - first[:, None]
        return steps.astype(float), first * (np.array(self.grid.size) - 1.0)


class Shown(Sequence[NDArray[np.uint8]]):
    """The slices of a scan as they are shown, made when they are asked for."""

    def __init__(self, scan: Scan) -> None:
        self._values, self._levels = scan.values, scan.levels
        self._colours = scan.colours

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.uint8]]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if self._colours is not None:
            return self._colours[index]
        return to_grey(np.ascontiguousarray(self._values[index]), self._levels)


def read_scan(
    path: Path,
    *,
    plane: str = "auto",
    frame: int | None = None,
    window: tuple[float, float] | None = None,
    upright: bool = False,
) -> Scan:
    """Read a scan: PNG, TIFF, JPEG, NIfTI, NRRD, MetaImage, a DICOM file or the folder of a DICOM series.

    Parameters
    ----------
    plane
        ``axial``, ``coronal`` or ``sagittal``; ``auto`` is the plane that it was acquired in.
    frame
        The number, from 0, of the time point or channel of a 4-D file.
    window
        The values to show black and white; by default those of soft tissue in a CT, percentiles of others.
    upright
        Turn the slices as a radiologist looks at them, instead of as they are stored.

    Raises
    ------
    InputError
        If it cannot be read, or not be segmented as it is: sheared, with slices missing, of several frames,
        too large, with values that are no numbers. One line: which file, what, and what would be right.
    """
    if plane not in ("auto", *PLANES):
        raise InputError(f"plane {plane!r}: expected auto, {', '.join(PLANES)}")
    if window is not None and not window[0] < window[1]:
        raise InputError(f"window {window[0]:g}, {window[1]:g}: the first number must be the smaller one")
    try:
        return _read(path, plane, frame, window, upright)
    except Unreadable as error:
        raise InputError(f"{path}: {_in_other_words(str(error))}") from error


def scan_of(
    array: NDArray,
    spacing: Sequence[float] | None = None,
    *,
    plane: str = "auto",
    window: tuple[float, float] | None = None,
) -> Scan:
    """An array as a scan: (H, W) or (slices, H, W) of numbers, or a picture in colour, uint8 (H, W, 3).

    Parameters
    ----------
    spacing
        mm along each axis of the array (without that of the colours).
    plane, window
        As for :func:`read_scan`; an array that does not say how it lies in the patient is taken for axial.

    Raises
    ------
    InputError
        If the array is of another kind.
    """
    name = Path("array")
    colours = array[None] if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8 else None
    flat = array.ndim == 2 or colours is not None
    if array.ndim not in (2, 3) or array.dtype.kind not in "uif":
        raise InputError(f"array {array.dtype} {array.shape}: expected numbers (H, W) or (slices, H, W)")
    axes = 2 if flat else 3
    if spacing is not None and (len(spacing) != axes or min(spacing) <= 0):
        raise InputError(f"spacing {tuple(spacing)}: expected {axes} numbers above 0, mm along each axis")
    steps = None if spacing is None else ((1.0, *spacing) if flat else tuple(spacing))
    values = grey(colours, False) if colours is not None else array[None] if flat else array
    volume = Volume(values, steps, flat=flat)  # type: ignore[arg-type]
    try:
        check_pixels(volume)
        check_finite(volume)
        form: Form = "picture" if flat and array.dtype == np.uint8 else "nifti"
        modality = _modality(name, form, volume)
        levels = grey_levels(volume, modality, _intensity(form, modality, window))  # type: ignore[arg-type]
        view = view_of(volume, "file", plane)
    except Unreadable as error:
        raise InputError(f"array: {_in_other_words(str(error))}") from error
    return Scan(name, "array", volume, colours, grid_of(volume), view, levels, modality)


def _read(
    path: Path, plane: str, frame: int | None, window: tuple[float, float] | None, upright: bool
) -> Scan:
    form = _form(path)
    plane_of = _header_of(path, form)
    volume = read_volume(path, frame=frame)
    check_pixels(volume)
    check_finite(volume)
    grid = grid_of(volume)
    if form in _FORMS.values():
        grid = replace(grid, flat=False) if plane_of is None else _flat_grid(*plane_of, grid)
    modality = _modality(path, form, volume)
    colours = _colours(path) if form == "picture" else None
    return Scan(
        path=path,
        form=form,
        volume=volume,
        colours=None if colours is None or colours.shape[:3] != volume.array.shape else colours,
        grid=grid,
        view=view_of(volume, "radiological" if upright else "file", plane),
        levels=grey_levels(volume, modality, _intensity(form, modality, window)),  # type: ignore[arg-type]
        modality=modality,
        sheared=_is_sheared(volume),
    )


def _form(path: Path) -> Form:
    if not path.exists():
        raise Unreadable("no such file or folder")
    if path.is_dir() or (path.stat().st_size and is_dicom(path)):
        return "dicom"
    suffix = suffix_of(path)
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    if suffix in ARRAY_SUFFIXES:
        return "array"
    known = ", ".join((*PICTURE_SUFFIXES, *VOLUME_SUFFIXES))
    if suffix not in _FORMS:
        raise Unreadable(
            f"unknown kind of file ({suffix or 'no suffix'}); expected {known}, DICOM, or a folder of it"
        )
    return _FORMS[suffix]


def _intensity(form: Form, modality: str, window: tuple[float, float] | None) -> Intensity:
    """How values become grey levels: a volume in 8 bits is no picture, and is stretched as others are."""
    stretched = window is None and modality != "CT" and form in ("nifti", "nrrd", "metaimage")
    return Intensity(window=window, percentiles=(0.5, 99.5) if stretched else None)


def _in_other_words(reason: str) -> str:
    """A reader's reason, in the words of somebody who has one scan and no descriptor of a dataset."""
    words = {
        "say which with image.frame": "give the number of one with --frame",
        "image.frame": "--frame",
        "another slices.plane": "another --plane",
    }
    for ours, theirs in words.items():
        reason = reason.replace(ours, theirs)
    return reason


def _header_of(path: Path, form: Form) -> tuple[NDArray, NDArray] | None:
    """Origin (2,) and direction (2, 2) of a 2-D file of a volume's kind; a scan too large is refused."""
    if form not in _FORMS.values():
        return None
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty")
    if form == "nifti":
        header = read_header(path)
        _check_size(shape_of(header), 1)
        lies = geometry(header)
        return (lies.origin[:2], lies.direction[:2, :2]) if len(shape_of(header)) == 2 else None
    with reading(path) as reader:
        reader.ReadImageInformation()
        _check_size(reader.GetSize(), reader.GetNumberOfComponents())
        if reader.GetDimension() != 2:
            return None
        return np.array(reader.GetOrigin()), np.reshape(reader.GetDirection(), (2, 2))


def _check_size(size: Sequence[int], components: int) -> None:
    voxels = int(np.prod([float(side) for side in size]) * components)
    if voxels > MOST_VOXELS:
        shown = " x ".join(map(str, size))
        raise Unreadable(
            f"{shown} voxels, {voxels / MOST_VOXELS:.1f} times as many as fit; cut it, or sample it down, to "
            f"at most {MOST_VOXELS} voxels"
        )


def _flat_grid(origin: NDArray, direction: NDArray, grid: Grid) -> Grid:
    """The grid of a 2-D file, in the plane z = 0."""
    (x, y), ((a, b), (c, d)) = origin.tolist(), direction.tolist()
    return replace(grid, origin=(x, y, 0.0), direction=((a, b, 0.0), (c, d, 0.0), (0.0, 0.0, 1.0)), flat=True)


def _modality(path: Path, form: Form, volume: Volume) -> str:
    if form == "dicom":
        found = read_elements(dicom_files(path, volume)[0], ["Modality"])
        kind = str(found.get("Modality", ""))
        kind = {"CR": "XR", "DX": "XR", "MG": "XR", "OPT": "OCT"}.get(kind, kind)
        return kind if kind in get_args(Modality) else "generic"
    if form in ("picture", "array") or volume.array.dtype.kind == "u":
        return "generic"
    return "CT" if volume.array.min() < AIR and not not_hounsfield(volume) else "generic"


def _colours(path: Path) -> NDArray[np.uint8] | None:
    """A picture's colours, uint8 (Z, Y, X, 3), None where it is grey or has more than 8 bits."""
    try:
        numbers = read_volume(path, mask=True, colours="number").array
    except Unreadable:
        return None
    channels = [(numbers >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)]
    if all(np.array_equal(channels[0], other) for other in channels[1:]):
        return None
    return np.stack(channels, axis=-1)


def dicom_files(path: Path, volume: Volume) -> list[Path]:
    """The DICOM files of a scan, in the order of its slices; one where all are frames of it."""
    if path.is_file():
        return [path]
    names = list(dict.fromkeys(name.rsplit(" frame ", 1)[0] for name in volume.files))
    return [path / name for name in names]


def _is_sheared(volume: Volume) -> bool:
    if volume.step is None or volume.spacing is None or volume.direction is None:
        return False
    off = np.abs(volume.step - volume.direction[:, 2] * volume.spacing[0]) * (len(volume.array) - 1)
    return bool(off.max() > 0.5 * min(volume.spacing))
