"""The folder that is being filled: claimed for one run, refused if it holds anything else, left tidy."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from synthfm.data.config import differences
from synthfm.data.console import InputError
from synthfm.data.files import PARTIAL, locked
from synthfm.data.folder import MANIFEST, UNFINISHED, Manifest, ShardInfo, parse_manifest, write_manifest

_OWN = re.compile(
    rf"((progress|shard-\d{{5}}\.h5)\.[0-9a-f]{{8}}|{MANIFEST}|{UNFINISHED}){re.escape(PARTIAL)}"
)


@contextlib.contextmanager
def claimed(folder: Path, plan: Manifest) -> Iterator[dict[str, ShardInfo]]:
    """Make the folder and mark it unfinished; leave only whole shards, or no trace if there is none.

    A finished folder that a rerun looks through stays finished if the rerun is broken off, unless a shard is
    missing or found to be another.

    Yields the lines of the manifest by file, where the folder was finished before: what its shards must be.

    Raises
    ------
    InputError
        If another process fills the folder now, or it holds anything but a part of what is planned.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out must name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, "synthfm-generate"):
            try:
                known = _compare(folder, plan)
                _clear(folder)
                finished = not (folder / UNFINISHED).exists()
                write_manifest(folder, plan, UNFINISHED)
                try:
                    yield known
                except InputError:
                    raise
                except BaseException:
                    there = {path.name for path in folder.glob("*.h5")}
                    if finished and known and known.keys() <= there:
                        (folder / UNFINISHED).unlink(missing_ok=True)
                    raise
            finally:
                _clear(folder)
                if not any(folder.glob("*.h5")):
                    (folder / UNFINISHED).unlink(missing_ok=True)
    finally:
        for path in made:  # no-one's work: removed only while empty
            with contextlib.suppress(OSError):
                path.rmdir()


def _clear(folder: Path) -> None:
    """Remove what a run leaves half-written, by the names it gives: what else is there is somebody's."""
    for path in folder.glob(f"*{PARTIAL}"):
        if _OWN.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)


def _compare(folder: Path, plan: Manifest) -> dict[str, ShardInfo]:
    """Refuse a folder that holds anything but a part of what is planned; the lines of its shards by file."""
    found = [folder / name for name in (UNFINISHED, MANIFEST) if (folder / name).is_file()]
    if not found and any(folder.glob("*.h5")):
        raise InputError(
            f"{folder}: holds .h5 files, but neither {MANIFEST} nor {UNFINISHED}; give another --out"
        )
    known: dict[str, ShardInfo] = {}
    for path in found:  # both are there where a rerun of a finished folder was interrupted
        manifest = parse_manifest(path)
        before, asked = (dataclasses.asdict(dataclasses.replace(m, shards=())) for m in (manifest, plan))
        if others := differences(before, asked):
            raise InputError(
                f"{folder}: holds a dataset of other settings: {others}. Repeat the folder's own settings, "
                "or give another --out"
            )
        known |= {line.file: line for line in manifest.shards}
    return known
