"""Which scans people mean by the files, folders and patterns that they give, and what to call each."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from synthfm.data.console import InputError
from synthfm.data.files import natural
from synthfm.evaluation.cases.patterns import Folders
from synthfm.evaluation.formats.dicom import is_dicom
from synthfm.evaluation.formats.readers import ARRAY_SUFFIXES, PICTURE_SUFFIXES, VOLUME_SUFFIXES, suffix_of

SUFFIXES = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES, *ARRAY_SUFFIXES, ".dcm")


def list_scans(paths: Sequence[Path]) -> list[Path]:
    """The scans among files, folders and patterns such as ``ct/*.nii.gz``, each once, in natural order.

    A folder with DICOM files in it is one scan, a series. Another one stands for the scans in it: its files
    of a known kind, and those of its folders that are a DICOM series. A file that is not there is kept, for
    whoever reads it to report.

    Raises
    ------
    InputError
        If a folder holds no scan, or a pattern matches none.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.exists() or not glob.has_magic(str(path)):
            matches = [path]
        else:
            matches = [Path(name) for name in sorted(_matching(str(path), Folders()), key=natural)]
        some = [scan for match in matches for scan in (_in_folder(match) if match.is_dir() else [match])]
        if not some:
            what = "holds no scan" if matches else "matches no file"
            raise InputError(f"{path}: {what}; expected DICOM, or files that end in {', '.join(SUFFIXES)}")
        for scan in some:
            found.setdefault(scan.resolve(), scan)
    return list(found.values())


def _matching(pattern: str, folders: Folders) -> Iterator[str]:
    """The files of a pattern, as :func:`glob.glob`'s, but the folders of ``**`` come once each."""
    head, deep, rest = (f"{pattern}/*" if pattern.endswith("/**") else pattern).partition("**/")
    if not deep or head[-1:] not in ("", "/"):
        yield from glob.glob(pattern)
        return
    for start in glob.glob(head) if head else ["."]:
        for folder in folders.below(Path(start)):
            yield from _matching(str(Path(glob.escape(str(folder)), rest)), folders)


def _in_folder(folder: Path) -> list[Path]:
    entries = sorted(
        (item for item in folder.iterdir() if item.name[0] != "."), key=lambda p: natural(p.name)
    )
    if _is_series(entries):
        return [folder]
    return [
        item
        for item in entries
        if (suffix_of(item) in SUFFIXES if item.is_file() else item.is_dir() and _is_series(item.iterdir()))
    ]


def _is_series(entries: Iterable[Path]) -> bool:
    return any(item.is_file() and is_dicom(item) for item in entries)


def stem_of(path: Path) -> str:
    """A scan's name without what says its kind.

    >>> stem_of(Path("ct/anna.nii.gz"))
    'anna'
    """
    path = path.resolve()
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix in SUFFIXES and not path.is_dir() else path.name


def names_of(scans: Sequence[Path]) -> list[str]:
    """A name for each scan, all different: its stem, with the folders above it where that is needed.

    >>> names_of([Path("/a/ct.nii"), Path("/b/ct.nii"), Path("/b/us.png")])
    ['a_ct', 'b_ct', 'b_us']
    >>> names_of([Path("/a/ct.nii"), Path("/a/ct.png")])
    ['ct.nii', 'ct.png']
    """
    names = [scan.name for scan in scans]
    folders = [scan.resolve().parts[1:-1] for scan in scans]
    for last in ([stem_of(scan) for scan in scans], [scan.resolve().name for scan in scans]):
        for depth in range(max(map(len, folders), default=0) + 1):
            above = (parts[len(parts) - min(depth, len(parts)) :] for parts in folders)
            names = ["_".join([*parts, name]) for parts, name in zip(above, last, strict=True)]
            if len(set(names)) == len(names):
                return names
    return names
