"""Arrays by name: npz, npy and HDF5 (MATLAB 7.3 too), whose links and storage may lie in other files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.reach import check_reach
from synthfm.evaluation.formats.volume import Unreadable

MOST_LINKS = 16
"""Links that are followed one after the other, and files that hold parts of another's array."""


def read_array(path: Path, key: str | None, root: Path | None = None) -> NDArray:
    """The array of a name, of any type; without one the only one that there is.

    Raises
    ------
    Unreadable
        If the file is damaged, has no such array, or has it from a file out of reach.
    """
    if path.suffix.lower() in (".npz", ".npy"):
        return _read_npz(path, key)
    import h5py

    try:
        with ExitStack() as files:
            file = files.enter_context(h5py.File(path, "r"))
            found = _find(files, file, key or _chosen(_names(file), None), root, MOST_LINKS)
            _check_storage(files, found, root, MOST_LINKS)
            return np.asarray(found[()])  # a string comes as bytes
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        older = " (a MATLAB file must be of version 7.3)" if path.suffix.lower() == ".mat" else ""
        raise Unreadable(f"cannot be read as HDF5{older}: {error}") from error


def _names(file: Any) -> list[str]:
    """Names of the arrays in the file itself or, if there is none, of the links."""
    import h5py

    arrays: list[str] = []
    links: list[str] = []
    file.visititems(lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None)
    if not arrays:
        file.visititems_links(
            lambda name, link: links.append(name) if not isinstance(link, h5py.HardLink) else None
        )
    return arrays or links


def _find(files: ExitStack, file: Any, name: str, root: Path | None, most: int) -> Any:
    """The array of a name, by links of every kind as far as they lie in reach."""
    import h5py

    group, parts = file, list(PurePosixPath("/", name).parts[1:])
    while parts:
        part = parts.pop(0)
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            there = ", ".join(sorted(_names(file))) or "none"
            raise Unreadable(f"no array {name!r}; the file has {there}")
        if isinstance(link, h5py.HardLink):
            group = group[part]
            continue
        most -= 1
        if most < 0:
            raise Unreadable(f"{name!r} is a link to a link without end")
        if isinstance(link, h5py.ExternalLink):
            other = _open(files, Path(file.filename), link.filename, root)
            return _find(files, other, "/".join([link.path, *parts]), root, most)
        group = file if link.path.startswith("/") else group
        parts = [part for part in link.path.split("/") if part] + parts
    if not isinstance(group, h5py.Dataset):
        raise Unreadable(f"{name!r} is a group, and no array")
    return group


def _open(files: ExitStack, source: Path, name: str, root: Path | None) -> Any:
    """Another file that a file names."""
    import h5py

    check_reach(source, [name], root)
    if not (source.parent / name).is_file():
        raise Unreadable(f"{name!r}, which it names, is not there")
    return files.enter_context(h5py.File(source.parent / name, "r"))


def _check_storage(files: ExitStack, found: Any, root: Path | None, most: int) -> None:
    """Where an array's numbers lie: HDF5 takes zeros for those of a file that is not there."""
    if found.external:
        raise Unreadable(
            f"{found.name!r} has its numbers in {found.external[0][0]!r} (external storage), which is not "
            "supported; write them into the file itself (h5repack)"
        )
    if not found.is_virtual:
        return
    if most == 0:
        raise Unreadable(f"{found.name!r} is made of arrays that are made of others without end")
    source = Path(found.file.filename)
    for part in found.virtual_sources():
        own = part.file_name == "."
        file = found.file if own else _open(files, source, part.file_name, root)
        _check_storage(files, _find(files, file, part.dset_name, root, MOST_LINKS), root, most - 1)


def _read_npz(path: Path, key: str | None) -> NDArray:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        return np.asarray(content[_chosen(list(content.keys()), key)])  # a text file comes as bytes
    except Unreadable:
        raise
    except Exception as error:  # zip, zlib and header errors have no common base
        if "pickle" in str(error):  # numpy's advice, to read that all the same, would run what is in it
            raise Unreadable(
                "is no npz or npy file of numbers: damaged, or of Python objects, which are not read"
            ) from error
        raise Unreadable(f"cannot be read as npz: {error}") from error


def _chosen(names: list[str], key: str | None) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key is None or key not in names:
        wanted = "say which array with 'key'" if key is None else f"no array {key!r}"
        raise Unreadable(f"{wanted}; the file has {', '.join(sorted(names)) or 'none'}")
    return key
