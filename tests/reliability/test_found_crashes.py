"""Files that once ended a program with a traceback: each is refused in a line now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from synthfm.data.console import InputError
from synthfm.evaluation.formats.volume import Unreadable
from tests.support.openers import KINDS

BY_NAME = {kind.name: kind for kind in KINDS}


def _bytes(place: int, new: bytes) -> Callable[[Path], None]:
    """Bytes of the file are others."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place : place + len(new)] = new
        path.write_bytes(content)

    return change


def _damaged_object_header(path: Path) -> None:
    """HDF5 in which a dataset's header is gone, though its name is still listed."""
    import h5py

    with h5py.File(path) as file:
        place = h5py.h5o.get_info(file["image"].id).addr
    _bytes(place, bytes(64))(path)


def _text(old: str, new: str) -> Callable[[Path], None]:
    """Text of the file is another."""

    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


FOUND = {
    "prompts, a scan with NUL in its name": ("prompts", _text('"a.nii"', r'"a\u0000.nii"')),
    "exported prompts, an image with NUL in its name": ("exported prompts", _text('"a.nii"', r'"a\u0000"')),
    "HDF5, an object header of zeros": ("HDF5", _damaged_object_header),
}


@pytest.mark.parametrize("name", FOUND)
def test_it_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    kind, change = FOUND[name]
    path = BY_NAME[kind].make(tmp_path)
    BY_NAME[kind].opened(path)
    change(path)
    with pytest.raises((InputError, Unreadable)):
        BY_NAME[kind].opened(path)
