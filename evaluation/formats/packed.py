"""Checksums of packed voxels in MetaImage and NRRD, which ITK does not look at."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from synthfm.data.guard import admit
from synthfm.evaluation.formats.reach import HEADERS, MOST_HEADER
from synthfm.evaluation.formats.volume import Unreadable

_PART = 1 << 22
"""Bytes that are looked at at once."""


def check_packed(path: Path) -> None:
    """Raise :class:`Unreadable` where packed voxels do not unpack, or not to their checksum."""
    with open(path, "rb") as handle:
        text = handle.read(MOST_HEADER)
    found = _metaimage(text) if HEADERS.get(path.suffix.lower()) == "metaimage" else _nrrd(text)
    if found is None:
        return
    name, start = found
    source = path.parent / name if name else path
    if source.is_file():  # and no list or pattern of several
        _unpack(source, start)


def _metaimage(text: bytes) -> tuple[str, int] | None:
    """The file with packed voxels, empty for the header's own, and where they begin; None of others."""
    found = re.search(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*)\r?\n?", text, re.M | re.I)
    packed = rb"^[ \t]*CompressedData[ \t]*[=:][ \t]*(True|1)"
    if found is None or not re.search(packed, text[: found.start()], re.M | re.I):
        return None
    value = found[1].decode("utf-8", "surrogateescape").strip()
    return ("", found.end()) if value.upper() == "LOCAL" else (value, 0)


def _nrrd(text: bytes) -> tuple[str, int] | None:
    """As for MetaImage."""
    end = re.search(rb"\r?\n\r?\n", text)
    header = text if end is None else text[: end.start()]
    if not re.search(rb"^encoding:[ \t]*gz", header, re.M | re.I):
        return None
    if re.search(rb"^(line|byte) ?skip:[ \t]*[^0\s]", header, re.M | re.I):
        return None
    value = re.search(rb"^data ?file:[ \t]*([^\r\n]*)", header, re.M | re.I)
    if value is not None:
        return value[1].decode("utf-8", "surrogateescape").strip(), 0
    return None if end is None else ("", end.end())


def _unpack(source: Path, start: int) -> None:
    stream, length = zlib.decompressobj(47), 0  # zlib's or gzip's, as its first bytes say
    try:
        with open(source, "rb") as handle:
            handle.seek(start)
            while not stream.eof:
                part = stream.unconsumed_tail or handle.read(_PART)
                if not part:
                    raise Unreadable(f"cut short: the packed voxels in {source.name} do not end")
                length += len(stream.decompress(part, _PART))
                admit(length, source.stat().st_size)
    except zlib.error as error:
        raise Unreadable(f"damaged: the packed voxels in {source.name} have another checksum") from error
