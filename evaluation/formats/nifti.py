"""What ITK reads from a NIfTI or Analyze file without a word: missing voxels and NaN, both as zeros."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.volume import Unreadable


def check_nifti(path: Path) -> NDArray[np.int64] | None:
    """Check that a NIfTI file or a pair (also Analyze) is whole, and find its voxels that are no numbers.

    Parameters
    ----------
    path
        ``.nii``, ``.nii.gz``, or the ``.hdr`` of a pair.

    Returns
    -------
    indices or None
        Flat indices of the voxels that are NaN or infinite, in the file's order; None if there are none.

    Raises
    ------
    Unreadable
        If the file is truncated, its compression is damaged, or it is not NIfTI.
    """
    pair = path.suffix.lower() == ".hdr"
    source = _image_of(path) if pair else path
    try:
        with gzip.open(source) if source.name.lower().endswith(".gz") else open(source, "rb") as handle:
            header = b"" if pair else handle.read(540)
            expected, dtype, offset = nifti_layout(path.read_bytes()[:540] if pair else header)
            if dtype is None:  # integers: their number is all there is to check
                length = len(header)
                while part := handle.read(1 << 22):
                    length += len(part)
                bad = np.zeros(0, np.int64)
            else:
                content = header + handle.read()
                length = len(content)
                count = (expected - offset) // dtype.itemsize if length >= expected else 0
                bad = np.flatnonzero(~np.isfinite(np.frombuffer(content, dtype, count, offset * (count > 0))))
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"truncated or damaged gzip file ({error})") from error
    if length < expected:
        cut = f"{source.name} is truncated" if pair else "truncated"
        raise Unreadable(f"{cut}: {length} bytes where its header announces {expected}")
    return bad if len(bad) else None


def _image_of(header: Path) -> Path:
    """The file with the voxels that belongs to a ``.hdr``."""
    for suffix in (".img", ".img.gz", ".IMG"):
        if header.with_suffix(suffix).is_file():
            return header.with_suffix(suffix)
    raise Unreadable(f"no {header.with_suffix('.img').name} with its voxels beside it")


def nifti_layout(header: bytes) -> tuple[int, np.dtype | None, int]:
    """Layout of an (uncompressed) NIfTI or Analyze image from the first 540 bytes of its header.

    Returns
    -------
    (length, dtype, offset)
        Bytes of the whole file (of a pair, of the ``.img``); type of the voxels if they are floating-point
        numbers, else None; where they begin.

    Raises
    ------
    Unreadable
        If it is no NIfTI-1 or NIfTI-2 header.
    """
    for order in "<>":
        size = int(np.frombuffer(header[:4], order + "i4")[0]) if len(header) >= 4 else 0
        if size == 348 and len(header) >= 348:
            dim = np.frombuffer(header[40:56], order + "i2")
            kind, bits = np.frombuffer(header[70:74], order + "i2")
            offset = np.frombuffer(header[108:112], order + "f4")[0]
        elif size == 540 and len(header) >= 540:
            dim = np.frombuffer(header[16:80], order + "i8")
            kind, bits = np.frombuffer(header[12:16], order + "i2")
            offset = np.frombuffer(header[168:176], order + "i8")[0]
        else:
            continue
        if not (1 <= dim[0] <= 7 and 0 <= offset < np.inf):
            break
        voxels = int(np.prod(dim[1 : int(dim[0]) + 1].astype(float)))
        dtype = {16: np.dtype(order + "f4"), 64: np.dtype(order + "f8")}.get(int(kind))
        return int(offset) + voxels * int(bits) // 8, dtype, int(offset)
    raise Unreadable("not a NIfTI file: its header is damaged")


def states_spacing(path: Path) -> bool:
    """Whether a header that :func:`check_nifti` accepts says how large a voxel is; zeros do not."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as handle:
        header = handle.read(540)
    order = "<" if header[:4] in (b"\x5c\x01\0\0", b"\x1c\x02\0\0") else ">"
    first = header[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c")  # NIfTI-1 or Analyze: 348 bytes
    dim = np.frombuffer(header[40:56], f"{order}i2") if first else np.frombuffer(header[16:80], f"{order}i8")
    sizes = (
        np.frombuffer(header[80:92], f"{order}f4") if first else np.frombuffer(header[112:136], f"{order}f8")
    )
    return bool((sizes[: min(int(dim[0]), 3)] != 0).all())
