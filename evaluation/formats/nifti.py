"""NIfTI-1, NIfTI-2 and Analyze, by nibabel: where a file says how it lies, by its sform, else its qform."""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthfm.data.guard import admit
from synthfm.evaluation.formats.itk import checked_frame
from synthfm.evaluation.formats.reach import check_reach
from synthfm.evaluation.formats.volume import Unreadable, Volume

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's axes run to the right and to anterior."""
SHEAR = 0.02
"""Sine of the angle (1 degree) by which axes may miss the right one: the nearest rotation is taken."""
UNITS = {1: 1000.0, 3: 0.001}
"""mm of a unit of length, by its code; mm where there is no code."""
log = logging.getLogger(__name__)


class Geometry(NamedTuple):
    """How a file lies in the patient (LPS), None each where it does not say.

    Attributes
    ----------
    spacing
        mm (x, y, z).
    direction
        3 x 3, columns the directions of x, y, z; of axes a hair off the right angle the nearest.
    origin
        mm, of the first voxel.
    """

    spacing: NDArray | None
    direction: NDArray
    origin: NDArray


def read_nifti(path: Path, frame: int | None = None, root: Path | None = None) -> Volume:
    """Read a file of any of the three kinds; `frame` picks from a fourth axis or from several values a voxel.

    Raises
    ------
    Unreadable
        If it is truncated or damaged, or its header says what cannot be.
    """
    source = voxels_of(path, root)
    header = read_header(path)
    lies = geometry(header)
    values = _frame_of(_stored(header, source, path), frame)
    slope, offset = _scaling(header)
    if (slope, offset) != (1.0, 0.0):
        precise = values.dtype.itemsize > 4 or (values.dtype.kind in "iu" and values.dtype.itemsize == 4)
        values = values.astype(np.float64 if precise else np.float32) * slope + offset
        values = values if precise else values.astype(np.float32)
    array = np.ascontiguousarray(values.T)
    spacing = None if lies.spacing is None else tuple(lies.spacing[::-1].tolist())
    if array.ndim == 2:
        return Volume(array[None], None if spacing is None else (1.0, *spacing[1:]), flat=True)
    return Volume(array, spacing, lies.direction, lies.origin, flat=len(array) == 1)


def read_header(path: Path) -> Any:
    """The header as nibabel's, as it stands in the file.

    Raises
    ------
    Unreadable
        If it is no header of the three kinds.
    """
    import nibabel

    try:
        with _unpacked(path) as handle:
            start = handle.read(540)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"truncated or damaged gzip file ({error})") from error
    for order in "<>":
        size = int(np.frombuffer(start[:4], f"{order}i4")[0]) if len(start) >= 4 else 0
        if size == 540 and len(start) >= 540:
            kind: Any = nibabel.Nifti2Header
            single = start[4:6] == b"n+"
        elif size == 348 and len(start) >= 348:
            named = start[344:346] in (b"n+", b"ni")
            kind = nibabel.Nifti1Header if named else nibabel.AnalyzeHeader
            single = start[344:346] == b"n+"
        else:
            continue
        header = kind(start[:size], order, check=False)
        shape = header["dim"][1 : int(header["dim"][0]) + 1]
        offset = header["vox_offset"]
        if not (1 <= header["dim"][0] <= 7 and (shape > 0).all() and 0 <= offset < 2**62):
            break
        if not single and path.suffix.lower() != ".hdr":
            raise Unreadable("is the header of a pair of .hdr and .img, and holds no voxels")
        if single and offset < size:  # else the header would be the first voxels
            raise Unreadable(f"damaged: its voxels would begin within its header (vox_offset {offset:g})")
        return header
    raise Unreadable("not a NIfTI file: its header is damaged")


def shape_of(header: Any) -> tuple[int, ...]:
    """The lengths of a header's axes: x, y and, as far as there are, z, time and others."""
    return tuple(int(side) for side in header["dim"][1 : int(header["dim"][0]) + 1])


def geometry(header: Any) -> Geometry:
    """How a file lies, by its sform, else its qform; by neither as ITK has it, along the axes of LPS.

    Raises
    ------
    Unreadable
        If the axes are not at right angles, or a length is none.
    """
    from nibabel.spatialimages import HeaderDataError

    flat = int(header["dim"][0]) < 3
    sizes = header["pixdim"][1:4].astype(float)
    silent = (sizes[: 2 if flat else 3] == 0).any()
    sizes[sizes == 0] = 1.0
    unit = UNITS.get(int(header["xyzt_units"]) & 7, 1.0) if "xyzt_units" in header else 1.0
    codes = [int(header[name]) if name in header else 0 for name in ("sform_code", "qform_code")]
    affine = header.get_sform().astype(float) if codes[0] > 0 else None
    if affine is not None and flat:
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
    if affine is not None and _usable(affine):
        affine = TO_LPS @ affine
        return Geometry(unit * np.linalg.norm(affine[:3, :3], axis=0), _upright(affine), unit * affine[:3, 3])
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        shown = " x ".join(f"{size:g}" for size in sizes)
        raise Unreadable(f"its header gives voxels of {shown} mm (pixdim); expected lengths above 0")
    spacing = None if silent else unit * sizes
    if codes[1] <= 0:
        if codes[0] > 0:
            raise Unreadable("its header does not say how it lies: the sform holds no three axes")
        return Geometry(spacing, np.eye(3), np.zeros(3))
    header = header.copy()
    header["pixdim"][1:4] = sizes
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    try:
        affine = TO_LPS @ header.get_qform()
    except (HeaderDataError, ValueError) as error:
        raise Unreadable(f"its header does not say how it lies: {error}") from error
    if not _usable(affine):
        raise Unreadable("its header does not say how it lies: the qform holds no three axes")
    return Geometry(spacing, _upright(affine), unit * affine[:3, 3])


def _usable(affine: NDArray) -> bool:
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool((lengths > 0).all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 0.1)


def _upright(affine: NDArray) -> NDArray:
    """The directions of an affine's axes: the nearest that are at right angles."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(axes)
    if np.abs(left @ right - axes).max() > SHEAR:
        raise Unreadable(
            "its axes are not at right angles (a sheared grid); resample it to a grid with right angles"
        )
    return left @ right


def voxels_of(path: Path, root: Path | None = None) -> Path:
    """The file with the voxels, which of a ``.hdr`` lies beside it.

    Raises
    ------
    Unreadable
        If there is none, or it is a link to somewhere else.
    """
    if path.suffix.lower() != ".hdr":
        return path
    for suffix in (".img", ".img.gz", ".IMG", ".IMG.GZ"):
        source = path.with_suffix(suffix)
        if source.is_file():
            check_reach(path, [source.name], root)
            return source
    raise Unreadable(f"no {path.with_suffix('.img').name} with its voxels beside it")


def _unpacked(path: Path) -> Any:
    """A file's bytes, unpacked if it is a gzip file, by whichever name."""
    with open(path, "rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else open(path, "rb")


def _stored(header: Any, source: Path, path: Path) -> NDArray:
    """The stored values, indexed x, y, z, ...; several values a voxel on the last axis."""
    shape, offset = shape_of(header), int(header["vox_offset"])
    if len(shape) < 2:
        raise Unreadable("1-D; expected 2-D to 4-D")
    try:
        kind = header.get_data_dtype()
    except Exception as error:  # of a number that stands for no type
        raise Unreadable(f"holds voxels of an unknown type ({error})") from error
    count = int(np.prod([float(side) for side in shape]))
    expected = offset + count * kind.itemsize
    admit(expected, source.stat().st_size)
    try:
        with _unpacked(source) as handle:
            content = io.BytesIO()
            while content.tell() < expected and (
                part := handle.read(min(1 << 24, expected - content.tell()))
            ):
                content.write(part)
            length = content.tell()
            while part := handle.read(1 << 22):  # to the checksum at the end
                length += len(part)
                admit(length, source.stat().st_size)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"truncated or damaged gzip file ({error})") from error
    if content.tell() < expected:
        cut = "truncated" if source == path else f"{source.name} is truncated"
        raise Unreadable(f"{cut}: {content.tell()} bytes where its header announces {expected}")
    values = np.frombuffer(content.getbuffer(), kind, count, offset).reshape(shape, order="F")
    if kind.names is not None:  # colours
        return np.stack([values[name] for name in kind.names], axis=-1).reshape(*(*shape, 1)[:3], -1)
    return values.astype(kind.newbyteorder("="), copy=False)


def _frame_of(values: NDArray, frame: int | None) -> NDArray:
    """One number a voxel (x, y[, z]): of further axes longer than 1 there may be one, the frames."""
    if values.ndim > 3:
        longer = [axis for axis in range(3, values.ndim) if values.shape[axis] > 1]
        if len(longer) > 1:
            raise Unreadable(f"{len(longer) + 3}-D; expected at most 4-D")
        frames = values.shape[longer[0]] if longer else 1
        if frame is None and frames > 1:
            raise Unreadable(f"4-D with {frames} frames; say which with image.frame")
        values = values.reshape(*values.shape[:3], frames)[..., checked_frame(frame or 0, frames)]
        return values.copy(order="F") if frames > 1 else values  # of what is kept nothing else is needed
    return values


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 (or none) says that there is neither."""
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, offset = header.get_slope_inter()
    except HeaderDataError as error:
        raise Unreadable(f"its header is damaged: {error}") from error
    return (1.0, 0.0) if slope is None else (float(slope), float(offset or 0.0))
