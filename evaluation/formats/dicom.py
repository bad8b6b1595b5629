"""DICOM: series, single images and multi-frame files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.data.files import natural
from synthfm.evaluation.formats.colours import grey
from synthfm.evaluation.formats.itk import from_itk, itk_reason
from synthfm.evaluation.formats.sizes import check_deflated, check_size
from synthfm.evaluation.formats.volume import Unreadable, Volume, simpleitk

TAGS = [
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SequenceOfUltrasoundRegions",
    "SOPClassUID",
    "SeriesDescription",
    "Modality",
    "Rows",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
"""SOP class of an RTSTRUCT."""
CENTIMETRES = 3
"""Physical units of an ultrasound region, (0018,6024) and (0018,6026); others are of Doppler and time."""
UNEVEN = 1.5
"""A gap between slices so many times the others (or so small a part of them) does not come from rounding or
from an uneven table: a slice is missing, or one is too many."""


def read_series(folder: Path, *, mask: bool = False) -> Volume:
    """Read the one DICOM series in a folder, slices ordered by ImagePositionPatient along the slice normal.

    Rescale slope and intercept are applied, each slice's own; values with fractions are float32. ITK turns
    MONOCHROME1 (large values are dark) into MONOCHROME2 by complementing the stored values, so that large is
    bright here always. Other files in the folder are left alone.

    Raises
    ------
    Unreadable
        If there is no series or more than one, a slice is damaged, of another size or orientation, two slices
        lie at the same position, or one is missing between two others.
    """
    paths = [
        path
        for path in sorted(folder.iterdir(), key=lambda p: natural(p.name))
        if path.is_file() and path.name[0] != "."
    ]
    headers = [(path, read_header(path)) for path in paths if path.suffix.lower() == ".dcm" or is_dicom(path)]
    headers = [(path, header) for path, header in headers if not _is_directory(header)]
    if not headers:
        raise Unreadable("no DICOM file in this folder")
    for path, header in headers:
        if "SeriesInstanceUID" not in header:
            raise Unreadable(f"{path.name} has no SeriesInstanceUID: truncated, or no image")
    _check_one_series([header for _, header in headers])
    if len(headers) == 1:
        return read_file(headers[0][0], mask=mask)
    for path, header in headers:
        try:
            _check_pixels(header)
        except Unreadable as error:
            raise Unreadable(f"{path.name} {error}") from error
    frames = [frame for path, header in headers for frame in _frames(path, header)]
    if len(frames) > len(headers):
        raise Unreadable(f"{len(headers)} multi-frame files in one folder; expected one")
    grid = _grid(frames)
    return _placed(_read_slices([headers[k][0] for k in grid.order], mask), frames, grid)


def read_file(path: Path, *, mask: bool = False) -> Volume:
    """Read one DICOM file: a slice, a projection image or a multi-frame object.

    Frames that have a position in the patient become slices in the order of their positions; others (a cine)
    stay in the file's order. Colours become grey, in a mask as those of a picture do (`mask`).
    """
    check_size(path, ".dcm")
    header = read_header(path)
    _check_pixels(header)
    frames = _frames(path, header)
    volume = _read_itk(path, mask)
    if 1 < len(frames) != len(volume.array):
        raise Unreadable(f"holds {len(volume.array)} frames, its header describes {len(frames)}")
    if len({frame.rescale for frame in frames}) > 1:
        volume = replace(volume, array=_rescaled(path, frames))
    pixel, depth = frames[0].pixel, (volume.spacing or (1.0,))[0]
    volume = replace(
        volume,
        spacing=None if pixel is None else (depth, *pixel),
        files=(path.name,) * len(volume.array),
    )
    if all(frame.position is None for frame in frames):  # a projection: ITK's default geometry means nothing
        return replace(volume, direction=None, origin=None)
    if len(frames) == 1:
        return volume
    grid = _grid(frames)
    return _placed(volume.array[grid.order], frames, grid)


def _check_one_series(headers: list[Any]) -> None:
    series: dict[str, list[Any]] = {}
    for header in headers:
        series.setdefault(str(header.SeriesInstanceUID), []).append(header)
    if len(series) > 1:
        shown = [
            f"{of[0].get('SeriesDescription') or of[0].get('Modality') or 'unnamed'} "
            f"({len(of)} file{'' if len(of) == 1 else 's'})"
            for of in series.values()
        ]
        more = ", ..." if len(shown) > 8 else ""
        raise Unreadable(
            f"{len(series)} DICOM series in one folder; expected one: {', '.join(shown[:8])}{more}"
        )


def _check_pixels(header: Any) -> None:
    if "Rows" in header:
        return
    kind = header.get("SOPClassUID")
    if kind == CONTOURS:
        raise Unreadable(
            "holds contours (RTSTRUCT), which are not supported; "
            "expected an image, or masks as DICOM-SEG or a label map (NIfTI, say)"
        )
    raise Unreadable(f"holds no pixels ({kind.name if kind else 'of no class'}): truncated, or no image")


@dataclass(frozen=True)
class _Frame:
    """A plane of a volume: a file of a series, or a frame of a multi-frame file.

    Attributes
    ----------
    name
        What it is called in a reason; sorts as the file (and the frame in it) does.
    position
        ImagePositionPatient, the centre of the first voxel, mm, LPS; None where the header does not say.
    axes
        ImageOrientationPatient, the directions of x and y, (6,).
    pixel
        mm (y, x); None where the header does not say.
    rescale
        Slope and intercept of its functional group.
    """

    name: str
    position: NDArray | None
    axes: NDArray | None
    pixel: tuple[float, float] | None
    rescale: tuple[float, float]


def _frames(path: Path, header: Any) -> list[_Frame]:
    """The planes that a file's header describes; one, if it says nothing of each."""
    count = len(header.get("PerFrameFunctionalGroupsSequence") or [None])
    return [
        _Frame(
            f"{path.name} frame {k + 1}" if count > 1 else path.name,
            _numbers(_macro(header, k, "PlanePositionSequence"), "ImagePositionPatient", 3),
            _numbers(_macro(header, k, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
            _pixel(_macro(header, k, "PixelMeasuresSequence")),
            _rescale(_macro(header, k, "PixelValueTransformationSequence")),
        )
        for k in range(count)
    ]


def _macro(header: Any, k: int, name: str) -> Any:
    """Where frame k's elements of a kind stand: its own functional group, that of all, or the header."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*per_frame[k : k + 1], *(header.get("SharedFunctionalGroupsSequence") or [])):
        if groups.get(name):
            return groups[name][0]
    return header


def _numbers(elements: Any, keyword: str, count: int) -> NDArray | None:
    """An element's numbers; None if it is absent or has not so many."""
    try:
        numbers = np.atleast_1d(np.array(elements.get(keyword), float))
    except (ValueError, TypeError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _is_directory(header: Any) -> bool:
    """Whether a file is a DICOMDIR, which lists others."""
    return header.file_meta.get("MediaStorageSOPClassUID") == "1.2.840.10008.1.3.10"


def read_header(path: Path) -> Any:
    """The elements :data:`TAGS` of a file."""
    import pydicom

    check_deflated(path)
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
    except pydicom.errors.InvalidDicomError as error:
        raise Unreadable(f"{path.name} is no DICOM file: the mark DICM at byte 128 is missing") from error
    except Exception as error:  # pydicom lets struct, EOF and value errors through
        raise Unreadable(f"{path.name} cannot be read as DICOM: {error}") from error


def _pixel(elements: Any) -> tuple[float, float] | None:
    """Size of a pixel, mm (y, x): PixelSpacing; or ImagerPixelSpacing, of projections; or what the ultrasound
    regions say, if those in centimetres agree.
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        numbers = _numbers(elements, keyword, 2)
        if numbers is not None and (numbers > 0).all():
            return float(numbers[0]), float(numbers[1])
    sizes = {
        (abs(10 * float(region.PhysicalDeltaY)), abs(10 * float(region.PhysicalDeltaX)))
        for region in elements.get("SequenceOfUltrasoundRegions") or []
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == CENTIMETRES
        and region.get("PhysicalDeltaX")
        and region.get("PhysicalDeltaY")
    }
    agree = sizes and np.allclose(list(sizes), next(iter(sizes)), rtol=0.01)
    return next(iter(sizes)) if agree else None


def _rescale(elements: Any) -> tuple[float, float]:
    slope, intercept = (_numbers(elements, f"Rescale{name}", 1) for name in ("Slope", "Intercept"))
    return 1.0 if slope is None else float(slope[0]), 0.0 if intercept is None else float(intercept[0])


@dataclass(frozen=True)
class _Grid:
    """Planes in the order of their positions, on the even grid from the first to the last.

    Attributes
    ----------
    order
        Indices of the planes along their normal.
    gap
        mm from plane to plane.
    direction, origin
        As in :class:`Volume`.
    """

    order: list[int]
    gap: float
    direction: NDArray
    origin: NDArray


def _grid(frames: list[_Frame]) -> _Grid:
    """The grid of two planes or more.

    Raises
    ------
    Unreadable
        If one has no position or another orientation, two have the same position, or one is missing.
    """
    planes = []
    for frame in frames:
        if frame.position is None or frame.axes is None:
            raise Unreadable(
                f"{frame.name} has no ImagePositionPatient or ImageOrientationPatient to order the slices by"
            )
        planes.append((frame.position, frame.axes))
    positions, axes = (np.array(values) for values in zip(*planes, strict=True))
    if not np.allclose(axes, axes[0], atol=1e-3):
        raise Unreadable("the slices have different orientations (ImageOrientationPatient)")
    direction = np.column_stack([axes[0, :3], axes[0, 3:], np.cross(axes[0, :3], axes[0, 3:])])
    depths = positions @ direction[:, 2]
    order = np.argsort(depths, kind="stable")
    gaps = np.diff(depths[order])
    if (gaps < 1e-3).any():
        first, second = _neighbours(frames, order, int(np.argmin(gaps)))
        raise Unreadable(f"{first} and {second} lie at the same position; expected one image a slice")
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])  # the lower median: of two gaps the smaller
    k = int(np.argmax(np.abs(np.log(gaps / usual))))
    if max(gaps[k] / usual, usual / gaps[k]) >= UNEVEN:
        first, second = _neighbours(frames, order, k)
        raise Unreadable(
            f"{first} and {second} lie {gaps[k]:.4g} mm apart, the other slices {usual:.4g} mm; "
            "expected even spacing (is a slice missing?)"
        )
    span = positions[order[-1]] - positions[order[0]]  # its length, not its depth: a gantry may be tilted
    gap = float(np.linalg.norm(span)) / len(gaps)
    return _Grid(order.tolist(), gap, direction, positions[order[0]])


def _placed(array: NDArray, frames: list[_Frame], grid: _Grid) -> Volume:
    """Slices (Z, Y, X) in the grid's order as a volume."""
    pixel = frames[0].pixel
    return Volume(
        array,
        None if pixel is None else (grid.gap, *pixel),
        grid.direction,
        grid.origin,
        files=tuple(frames[k].name for k in grid.order),
    )


def _neighbours(frames: list[_Frame], order: NDArray, k: int) -> tuple[str, str]:
    """Names of the planes on both sides of gap k."""
    return frames[order[k]].name, frames[order[k + 1]].name


def _read_itk(path: Path, mask: bool) -> Volume:
    """A file as ITK reads it (YBR and palettes as RGB), in grey; what has fractions in single precision."""
    sitk = simpleitk()
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise Unreadable(f"cannot be read as DICOM: {itk_reason(error)}") from error
    if image.GetNumberOfComponentsPerPixel() == 1:
        volume = from_itk(image)
    else:
        pixels = sitk.GetArrayFromImage(image)
        numbers = _palette_numbers(path) if mask else None
        volume = replace(from_itk(image, 0), array=grey(pixels, mask) if numbers is None else numbers)
    return replace(volume, array=volume.array.astype(np.float32)) if _fractional(volume.array) else volume


def _palette_numbers(path: Path) -> NDArray | None:
    """The stored numbers (Z, Y, X) of a file with a palette, None for other colours."""
    import pydicom

    file = pydicom.dcmread(path)
    if file.PhotometricInterpretation != "PALETTE COLOR":
        return None
    return np.reshape(file.pixel_array, (-1, file.Rows, file.Columns))


def _fractional(array: NDArray) -> bool:
    return array.dtype.kind == "f"


def _read_slices(paths: list[Path], mask: bool) -> NDArray:
    """The files of a series as (Z, Y, X), in a type that holds the values of all.

    One by one: ITK's reader of a series takes the type for all from the first, and slopes may change (PET).
    """
    slices: list[NDArray] = []
    for path in paths:
        try:
            slices.append(_read_itk(path, mask).array)
            if slices[-1].shape != slices[0].shape:
                sizes = [" x ".join(map(str, array.shape[1:])) for array in (slices[-1], slices[0])]
                raise Unreadable(f"is {sizes[0]}, the first slice is {sizes[1]}")
        except Unreadable as error:
            raise Unreadable(f"{path.name} {error}") from error
    dtype = np.float32 if any(map(_fractional, slices)) else np.result_type(*slices)
    return np.concatenate(slices, dtype=dtype, casting="same_kind")


def _rescaled(path: Path, frames: list[_Frame]) -> NDArray:
    """Frames (Z, Y, X), float32, of a file whose slope or intercept changes: ITK applies the first to all."""
    import pydicom

    try:
        file = pydicom.dcmread(path)
        stored = file.pixel_array
    except Exception as error:  # pydicom and its decoders raise many kinds
        reason = " ".join(str(error).split())
        raise Unreadable(
            f"slope or intercept changes from frame to frame; cannot be read: {reason}"
        ) from error
    if file.PhotometricInterpretation == "MONOCHROME1":  # as ITK turns it
        stored = ~stored if file.PixelRepresentation else 2**file.BitsStored - 1 - stored
    slopes, intercepts = np.array([frame.rescale for frame in frames], np.float32).T[..., None, None]
    return slopes * stored + intercepts


def is_dicom(path: Path) -> bool:
    """Whether a file starts as a DICOM part 10 file does."""
    with open(path, "rb") as handle:
        return handle.read(132)[128:] == b"DICM"
