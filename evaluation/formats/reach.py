"""How far a file may reach: what a person opens may not show them, or somebody else, another file.

A header names the file with its voxels, an HDF5 file others that hold its arrays, and a dataset's folder may
hold links. What is read lies beside the file that names it (or below that folder) or below the data root,
links resolved; anything else is refused. What the page opens lies in a folder of its own, and has no root.
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from synthfm.data.console import printable
from synthfm.evaluation.formats.volume import Unreadable

HEADERS = {".mhd": "metaimage", ".mha": "metaimage", ".nrrd": "nrrd", ".nhdr": "nrrd"}
MOST_HEADER = 1 << 24
"""Bytes: no header is longer."""
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\r(?!\n)")
"""Characters that a library may take for the end or the beginning of a line, where others see none."""


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder, or is it, links resolved."""
    return path.resolve().is_relative_to(folder.resolve())


def check_below(path: Path, root: Path | None) -> None:
    """Raise :class:`Unreadable` for a file, or a series with a slice, that lies outside of the data root."""
    if root is None:
        return
    inside = (item for item in path.iterdir() if item.is_symlink()) if path.is_dir() else ()
    for item in itertools.chain([path], inside):
        if not is_below(item, root):
            raise Unreadable(
                f"{item.name} lies outside of the data root, in {printable(str(item.resolve().parent))}; "
                "give a root that holds both, or move it"
            )


def check_reach(source: Path, names: Iterable[str], root: Path | None) -> None:
    """Check the files that a file names.

    Parameters
    ----------
    source
        The file; what it names is relative to its folder.
    root
        The data root, None where there is none.

    Raises
    ------
    Unreadable
        If one lies neither beside the file or deeper, nor below the root.
    """
    for name in names:
        if "\0" in name:
            raise Unreadable("cannot be read: its data file has no name")
        other = source.parent / name
        folders = (source.parent, source.resolve().parent, root or source.parent)
        if not any(is_below(other, folder) for folder in folders):
            raise Unreadable(
                f"its data file {printable(name)!r} lies outside of its folder; expected it beside "
                f"{source.name}"
            )


def check_data_files(path: Path, root: Path | None = None) -> None:
    """Check where the voxels lie that a header of MetaImage or NRRD names; other files name none."""
    kind = HEADERS.get(path.suffix.lower())
    if kind is None:
        return
    with open(path, "rb") as handle:
        text = handle.read(MOST_HEADER)
    if kind == "metaimage":
        named = list(re.finditer(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*)", text, re.M | re.I))
        whole = bool(named)
    else:
        text, whole = _until_blank(text, path)
        named = list(re.finditer(rb"^data ?file:[ \t]*([^\r\n]*)", text, re.M | re.I))
        whole |= bool(named)
    if not whole:
        raise Unreadable("cannot be read: its header does not end")
    if _CONTROL.search(text[: named[0].end()] if kind == "metaimage" else text):
        raise Unreadable("cannot be read: its header holds characters that are no text")
    for found in named:
        value = _text(found[1])
        if value.upper().startswith("LIST"):  # a name a line follows
            check_reach(path, filter(None, map(_text, text[found.end() :].splitlines())), root)
        elif value.upper() != "LOCAL":
            check_reach(path, [value, *_of_pattern(path, value)], root)


def _until_blank(text: bytes, path: Path) -> tuple[bytes, bool]:
    """The header of an NRRD, which an empty line ends, and whether there is one; a list may go on."""
    header, blank, _ = text.replace(b"\r\n", b"\n").partition(b"\n\n")
    attached = bool(blank) and not re.search(rb"^data ?file:", header, re.M | re.I)
    return (header if attached else text), bool(blank)


def _of_pattern(path: Path, value: str) -> Iterator[str]:
    """The folder and the files that ``NAME%03d.raw 1 9 1`` may stand for."""
    if "%" in value:
        pattern = Path(value.split("%")[0] + "_")
        yield str(pattern.parent)
        folder, start = path.parent / pattern.parent, pattern.name[:-1]
        yield from (str(item) for item in folder.glob(f"{glob.escape(start)}*") if item.is_symlink())


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape").strip()
