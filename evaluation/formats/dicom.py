"""DICOM: series, single images and multi-frame files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.data.files import natural
from synthfm.evaluation.formats.dicom_elements import read_elements
from synthfm.evaluation.formats.dicom_pixels import read_pixels
from synthfm.evaluation.formats.itk import checked_frame
from synthfm.evaluation.formats.sizes import check_deflated, check_size
from synthfm.evaluation.formats.volume import Unreadable, Volume

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
    "Columns",
    "NumberOfFrames",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
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


def read_series(folder: Path, *, frame: int | None = None, mask: bool = False) -> Volume:
    """Read the one DICOM series in a folder, slices ordered by ImagePositionPatient along the slice normal.

    Values are those of :func:`.dicom_pixels.read_pixels`. Other files in the folder are left alone.

    Raises
    ------
    Unreadable
        If there is no series or more than one, a slice is damaged, of another size, spacing or orientation,
        two slices lie at the same position, or one is missing between two others.
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
        return read_file(headers[0][0], frame=frame, mask=mask)
    for path, header in headers:
        try:
            _check_pixels(header)
        except Unreadable as error:
            raise Unreadable(f"{path.name} {error}") from error
    frames = [frame for path, header in headers for frame in _frames(path, header)]
    if len(frames) > len(headers):
        raise Unreadable(f"{len(headers)} multi-frame files in one folder; expected one")
    if frame is not None and not mask:
        raise Unreadable(f"a series of {len(frames)} slices, which image.frame does not apply to")
    grid = _grid(frames)
    ordered = [headers[k][0] for k in grid.order], [frames[k] for k in grid.order]
    return _placed(_read_slices(*ordered, mask), frames, grid)


def read_file(path: Path, *, frame: int | None = None, mask: bool = False) -> Volume:
    """Read one DICOM file: a slice, a projection image or a multi-frame object.

    Frames that have a position in the patient become slices in the order of their positions; others (a cine)
    stay in the file's order, or are one image where a `frame` is asked for, counted from 0.
    """
    check_size(path, ".dcm")
    header = read_header(path)
    _check_pixels(header)
    frames = _frames(path, header)
    array = read_pixels(path, [frame.rescale for frame in frames], mask)
    nowhere = all(frame.position is None for frame in frames)
    if frame is not None and not (mask and len(array) == 1):
        if not nowhere and len(frames) > 1:
            raise Unreadable(f"a volume of {len(frames)} slices, which image.frame does not apply to")
        array = array[checked_frame(frame, len(array))][None]
    first, names = frames[0], (path.name,) * len(array)
    spacing = None if first.pixel is None else (_depth(header), *first.pixel)
    if nowhere or first.axes is None or len(frames) == 1 < len(array):  # a projection, or a cine
        return Volume(array, spacing, flat=len(array) == 1, files=names)
    if len(frames) == 1:
        x, y = first.axes[:3], first.axes[3:]
        direction = np.column_stack([x, y, np.cross(x, y)])
        return Volume(array, spacing, direction, first.position, flat=True, files=names)
    grid = _grid(frames)
    return _placed(array[grid.order], frames, grid)


def count_cine(path: Path) -> int:
    """Frames of a cine, in a file or as the only one in a folder; 1 of what lies in the patient.

    Raises
    ------
    Unreadable
        If it cannot be read.
    """
    if path.is_dir():
        files = [item for item in path.iterdir() if item.is_file() and item.name[0] != "." and is_dicom(item)]
        if len(files) != 1:
            return 1
        path = files[0]
    header = read_header(path)
    described = any(frame.position is not None for frame in _frames(path, header))
    return 1 if described else max(1, int(header.get("NumberOfFrames") or 1))


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
    if not is_dicom(path):
        raise Unreadable(f"{path.name} is no DICOM file: the mark DICM at byte 128 is missing")
    check_deflated(path)
    try:
        return read_elements(path, TAGS)
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


def _depth(header: Any) -> float:
    """mm through a single slice; 1 where the header does not say."""
    numbers = _numbers(header, "SliceThickness", 1)
    return float(numbers[0]) if numbers is not None and numbers[0] > 0 else 1.0


def _rescale(elements: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 is none, as GDCM has it."""
    slope, intercept = (_numbers(elements, f"Rescale{name}", 1) for name in ("Slope", "Intercept"))
    slope = None if slope is not None and slope[0] == 0 else slope
    return 1.0 if slope is None else float(slope[0]), 0.0 if intercept is None else float(intercept[0])


@dataclass(frozen=True)
class _Grid:
    """Planes in the order of their positions, on the even grid from the first to the last.

    Attributes
    ----------
    order
        Indices of the planes along their normal.
    step
        mm (3,) from plane to plane, which a tilted gantry has not along their normal.
    direction, origin
        As in :class:`Volume`.
    """

    order: list[int]
    step: NDArray
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
    pixels = list({frame.pixel for frame in frames})
    sizes = np.array([pixel or (np.nan, np.nan) for pixel in pixels])
    if len(pixels) > 1 and not np.allclose(sizes, sizes[0], rtol=0.01):
        shown = ", ".join("none" if pixel is None else "{:g} x {:g} mm".format(*pixel) for pixel in pixels)
        raise Unreadable(f"the slices have different sizes of pixels (PixelSpacing): {shown}")
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
    step = (positions[order[-1]] - positions[order[0]]) / len(gaps)
    return _Grid(order.tolist(), step, direction, positions[order[0]])


def _placed(array: NDArray, frames: list[_Frame], grid: _Grid) -> Volume:
    """Slices (Z, Y, X) in the grid's order as a volume."""
    pixel = frames[0].pixel
    return Volume(
        array,
        None if pixel is None else (float(np.linalg.norm(grid.step)), *pixel),
        grid.direction,
        grid.origin,
        step=grid.step,
        files=tuple(frames[k].name for k in grid.order),
    )


def _neighbours(frames: list[_Frame], order: NDArray, k: int) -> tuple[str, str]:
    """Names of the planes on both sides of gap k."""
    return frames[order[k]].name, frames[order[k + 1]].name


def _read_slices(paths: list[Path], frames: list[_Frame], mask: bool) -> NDArray:
    """The files of a series as (Z, Y, X), in a type that holds the values of all: slopes may change (PET)."""
    slices: list[NDArray] = []
    for path, frame in zip(paths, frames, strict=True):
        try:
            slices.append(read_pixels(path, [frame.rescale], mask))
            if slices[-1].shape != slices[0].shape:
                sizes = [" x ".join(map(str, array.shape[1:])) for array in (slices[-1], slices[0])]
                raise Unreadable(f"is {sizes[0]}, the first slice is {sizes[1]}")
        except Unreadable as error:
            raise Unreadable(f"{path.name} {error}") from error
    dtype = np.float32 if any(part.dtype.kind == "f" for part in slices) else np.result_type(*slices)
    return np.concatenate(slices, dtype=dtype, casting="same_kind")


def is_dicom(path: Path) -> bool:
    """Whether a file starts as a DICOM file does: with a preamble, or without one at its first elements."""
    with open(path, "rb") as handle:
        start = handle.read(132)
    if start[128:] == b"DICM":
        return True
    group, element = start[:2], start[2:4]  # (0002,0000) or (0008,0000) to (0008,0018)
    little = group in (b"\2\0", b"\x08\0") and element[1:] == b"\0" and element[0] <= 0x18
    return len(start) == 132 and (little or (group == b"\0\x08" and element[:1] == b"\0"))
