"""The elements of a DICOM file, also where one is of a kind (VR) that is not known.

What the standard adds, and what a manufacturer may write, has a length of four bytes behind two of zero.
pydicom takes an unknown one to have two: it then finds its value empty, and elements in what is the value.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MOST = 100
"""Elements of unknown kinds that are put right in a file: it is read again for each."""
UNKNOWN = b"UN"
"""DICOM's own name of such a kind, of the same form."""


def read_elements(path: Path, tags: Sequence[str] | None = None, *, pixels: bool = False) -> Any:
    """A file's data set, or these elements of it; what stands in front of its pixels, or with them.

    Raises
    ------
    Exception
        Of any kind: what pydicom raises on damage.
    """
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag
    from pydicom.valuerep import VR

    known, of_pixels = {str(kind.value) for kind in VR}, {Tag(name) for name in PIXELS}
    wanted: Any = None if tags is None else [Tag(name) for name in tags]
    with open(path, "rb") as handle:
        source: BinaryIO = handle
        places: list[int] = []

        def ends(tag: Any, kind: str | None, length: int) -> bool:
            if kind is None or kind in known or length or len(places) == MOST:
                return not pixels and tag in of_pixels
            at = source.tell() - 8
            if _is_long(source, at):
                places.append(at)
            return at in places

        while True:
            before = len(places)
            file = read_partial(source, ends, force=True, specific_tags=wanted)
            if len(places) == before:
                return file
            source.seek(0)
            content = bytearray(source.read())
            content[places[-1] + 4 : places[-1] + 6] = UNKNOWN
            source = io.BytesIO(content)


def _is_long(source: BinaryIO, at: int) -> bool:
    """Whether an element's length has four bytes: another one, or the end, then lies behind its value."""
    place = source.tell()
    source.seek(at)
    head = source.read(12)
    behind = at + 12 + int.from_bytes(head[8:], "little")
    end = source.seek(0, os.SEEK_END)
    source.seek(min(behind, end))
    following = source.read(6)
    source.seek(place)
    if behind == end:
        return True
    later = _tag(following) > _tag(head)
    return later and following[4:].isalpha() and following[4:].isupper()


def _tag(head: bytes) -> tuple[int, int]:
    return int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
