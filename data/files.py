"""Files: written whole or not at all, held by one program, told apart by digests, named and sorted."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthfm.data.console import InputError
from synthfm.data.guard import read_text

PARTIAL = ".partial"
"""What a shard's name ends in until it is whole."""


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as handle:
        return (
            hashlib.file_digest(handle, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _sha256(handle)
        )


def _sha256(handle: Any) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    for block in iter(lambda: handle.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


DIGEST = ".sha256"
"""What is added to a file's name for the file with its SHA-256, which ``sha256sum -c`` reads."""


def write_digest(path: Path) -> None:
    """Write a file's SHA-256 beside it; an older file's goes before that, by :func:`forget_digest`."""
    write_atomically(_digest_of(path), f"{sha256(path)}  {path.name}\n")


def forget_digest(path: Path) -> None:
    """Remove the SHA-256 beside a file that is about to change."""
    _digest_of(path).unlink(missing_ok=True)


def check_digest(path: Path) -> None:
    """Raise :class:`InputError` where a file's SHA-256 lies beside it and is another."""
    beside = _digest_of(path)
    if not beside.is_file():
        return
    wanted = read_text(beside, "a SHA-256", 10_000).split(maxsplit=1)[:1]
    if wanted != [sha256(path)]:
        raise InputError(f"{path}: damaged or changed: its SHA-256 is not the one in {beside.name}")


def _digest_of(path: Path) -> Path:
    return path.with_name(path.name + DIGEST)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write a file to, which becomes `path` when the block ends: never half-written.

    What was at `path` before stays whole, and the temporary file goes, if the block fails. Errors such
    as a full disk name `path`.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with naming(path, instead_of=partial):
            yield partial
            with open(partial, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path, *, instead_of: Path | None = None) -> Iterator[None]:
    """Give the system's errors while `path` is written its name: those of writing itself hold none."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(path), str(instead_of)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, see :func:`replacing`."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def locked(folder: Path, program: str) -> Iterator[None]:
    """Hold a folder for one run of a program; the system lets go of it however the process ends.

    Raises
    ------
    InputError
        If another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another {program} is filling this folder now") from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


LONGEST = 180
"""Bytes of a part of a file name; file systems allow 255, with what stands before and after it."""


def slug(text: str) -> str:
    """Text as one part of a file name; what had to be replaced or cut off is told apart by a checksum.

    >>> slug("liver"), slug("P1/z004")
    ('liver', 'P1-z004-3d3a')
    """
    plain, checksum = re.sub(r"[^\w.+-]+", "-", text), zlib.crc32(text.encode())
    if len(plain.encode()) > LONGEST:
        return f"{plain.encode()[:LONGEST].decode(errors='ignore')}-{checksum:08x}"
    return plain if plain == text else f"{plain}-{checksum & 0xFFFF:04x}"


def fingerprint(paths: Sequence[Path], folder: Path) -> str:
    """What files are, without reading them: their number and size, and a digest of names, sizes and times."""
    lines, total, newest = [], 0, 0
    for path in paths:
        name = Path(os.path.relpath(path, folder)).as_posix()
        try:
            status = path.stat()
        except OSError:  # a link to nowhere; reading it fails and is reported
            lines.append(f"{name}\n")
            continue
        lines.append(f"{name} {status.st_size} {status.st_mtime_ns}\n")
        total, newest = total + status.st_size, max(newest, status.st_mtime_ns)
    digest = hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
    changed = datetime.datetime.fromtimestamp(newest // 10**9, datetime.timezone.utc)
    return f"{len(paths)} files, {total} bytes, last changed {changed:%Y-%m-%d %H:%M:%S} UTC, {digest[:16]}"


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which numbers in a name count as numbers.

    >>> sorted(["s10.png", "s9.png", "s1.png"], key=natural)
    ['s1.png', 's9.png', 's10.png']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text)]
