"""What a file's content takes, compared with the file before memory is asked for.

A file of a few kilobytes may claim, or unpack to, gigabytes; see :mod:`synthfm.data.guard`.
"""

from __future__ import annotations

import lzma
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from synthfm.data.console import InputError
from synthfm.data.guard import TooLarge, admit, reason
from synthfm.evaluation.formats.dicom_elements import read_elements
from synthfm.evaluation.formats.volume import Unreadable, simpleitk

BLOCK = 1 << 20
DEFLATED = b"1.2.840.10008.1.2.1.99"
"""DICOM's transfer syntax of a deflated data set."""
_FEW = 1 << 16
"""Bytes of a strip that cannot unpack to more than 64 MB, so that it need not be looked at."""


@contextmanager
def readable() -> Iterator[None]:
    """Whatever a library raises on a damaged file within becomes :class:`Unreadable`."""
    try:
        yield
    except TooLarge as error:
        raise Unreadable(str(error)) from error
    except (Unreadable, InputError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise Unreadable(f"cannot be opened: {error.strerror}") from error
        raise Unreadable(f"cannot be read: {reason(error)}") from error


def check_size(path: Path, suffix: str) -> None:
    """Refuse a file whose content is larger than is let in, or than the file can hold.

    What cannot be told here, as the file is damaged, its reader will say.

    Parameters
    ----------
    path
        The file; folders are let be, their files come here one by one.
    suffix
        As :func:`synthfm.evaluation.formats.readers.suffix_of` gives it.

    Raises
    ------
    Unreadable
        With what it takes, what is let in and the setting that raises it.
    """
    check = _CHECKS.get(suffix)
    if check is None or not path.is_file():
        return
    try:
        check(path)
    except TooLarge as error:
        raise Unreadable(str(error)) from error
    except Unreadable:
        raise
    except Exception:  # the reader comes to the same place, and says in its own words what is wrong
        return


def _arrays(path: Path) -> None:
    """NPZ: what the archive and the header of each array in it claim."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            admit(member.file_size, member.compress_size)
            if member.filename.endswith(".npy"):
                with archive.open(member) as handle:
                    _announced(handle, member.file_size)


def _array(path: Path) -> None:
    with open(path, "rb") as handle:
        _announced(handle, path.stat().st_size)


def _announced(handle: Any, size: int) -> None:
    version = np.lib.format.read_magic(handle)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read[version](handle)
    if not dtype.hasobject:
        admit(math.prod(shape) * dtype.itemsize, size, stored=True)


def _hdf5(path: Path) -> None:
    import h5py

    size = path.stat().st_size

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            nbytes = math.prod(item.shape) * item.dtype.itemsize
            kept = item.id.get_storage_size()
            chunk = math.prod(item.chunks or (1,)) * item.dtype.itemsize
            admit(max(nbytes, chunk), size if item.external or item.is_virtual else min(size, kept))

    with h5py.File(path, "r") as file:
        file.visititems(visit)


def _picture(path: Path) -> None:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # what is let in is told here
    with Image.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        admit(math.prod(picture.size) * len(picture.getbands()) * frames, path.stat().st_size)


def _tiff(path: Path) -> None:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        admit(math.prod(series.shape) * series.dtype.itemsize, path.stat().st_size)
        for page in series.pages:
            if page is not None:
                page.parent.filehandle.open()  # of another file, where its pages lie in several
                _segments(page.parent.filehandle, page)


def _segments(handle: Any, page: Any) -> None:
    """Strips and tiles that unpack to more than their pixels."""
    openers: dict[int, Callable[[], Any]] = {
        8: zlib.decompressobj,
        32946: zlib.decompressobj,
        34925: lzma.LZMADecompressor,
    }
    opener = openers.get(int(page.compression))
    if opener is None:
        return
    room = math.prod(page.chunks) * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count <= _FEW and opener is zlib.decompressobj:
            continue
        handle.seek(offset)
        found = opener().decompress(handle.read(count), room + 1)
        if len(found) > room:
            raise Unreadable(f"a strip unpacks to more than its {room} bytes of pixels")


def _volume(path: Path) -> None:
    """MetaImage and NRRD: what the header says."""
    reader = simpleitk().ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    voxels = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    kind = simpleitk().GetPixelIDValueAsString(reader.GetPixelID())
    bits = re.search(r"(\d+)-bit", kind)
    unpacked = voxels * (int(bits[1]) if bits else 64) // 8
    detached = path.suffix.lower() in (".mhd", ".nhdr")
    files = path.parent.iterdir() if detached else [path]
    admit(unpacked, max(file.stat().st_size for file in files if file.is_file()))


def _unpack(handle: BinaryIO, size: int) -> None:
    """Unpack a raw deflate stream to its end without keeping it, of a file of so many bytes."""
    length, unpacker = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    while not unpacker.eof:
        block = unpacker.unconsumed_tail or handle.read(BLOCK)
        if not block:
            raise zlib.error("its end is missing")
        length += len(unpacker.decompress(block, 16 * BLOCK))
        admit(length, size)


def check_deflated(path: Path) -> None:
    """Refuse a deflated DICOM file that unpacks to more than is let in, and one of more pixels than that.

    Raises
    ------
    Unreadable
        With what it takes, what is let in and the setting that raises it.
    """
    with open(path, "rb") as handle:
        start = handle.read(4096)
        if start[128:132] != b"DICM" or DEFLATED not in start or start[132:138] != b"\x02\0\0\0UL":
            return
        handle.seek(144 + struct.unpack("<I", start[140:144])[0])
        try:
            _unpack(handle, path.stat().st_size)
        except TooLarge as error:
            raise Unreadable(str(error)) from error
        except zlib.error as error:
            raise Unreadable(f"truncated or damaged: it cannot be unpacked ({error})") from error


def _dicom(path: Path) -> None:
    check_deflated(path)
    sides = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"]
    header = read_elements(path, sides)
    numbers = [float(header.get(side) or 1) for side in sides]
    admit(math.prod(numbers) / 8, path.stat().st_size)


_CHECKS: dict[str, Callable[[Path], None]] = {
    ".npz": _arrays,
    ".npy": _array,
    **dict.fromkeys((".h5", ".hdf5", ".mat"), _hdf5),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".gif"), _picture),
    **dict.fromkeys((".tif", ".tiff"), _tiff),
    **dict.fromkeys((".mhd", ".mha", ".nrrd", ".nhdr"), _volume),
    ".dcm": _dicom,
}
"""Suffix to what compares the content with the file."""
