"""Files that are sent from the page, until they are opened."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from werkzeug.datastructures import FileStorage

from synthfm.data.console import InputError
from synthfm.evaluation.interactive.page.pictures import Library, images_in

MOST_NAME = 200
"""Bytes of a file's name; file systems have room for 255."""


def _save(item: FileStorage, folder: Path) -> str:
    """Write a file that was sent into a folder, and return its name there: another, where that is taken."""
    name = Path(str(item.filename).replace("\\", "/")).name
    if name in ("", "..") or not name.isprintable():
        raise InputError(f"{item.filename!r} is no name of a file")
    if len(name.encode(errors="replace")) > MOST_NAME:
        raise InputError(f"{name[:40]}...: a name of more than {MOST_NAME} bytes")
    for number in itertools.count():
        try:  # also of another folder, or of a request at the same time
            with open(folder / f"{number or ''}{'_' * bool(number)}{name}", "xb") as file:
                item.save(file)
                return Path(file.name).name
        except FileExistsError:
            continue
    raise AssertionError


class Uploads:
    """Each upload is a folder in `folder`, filled by one request or several and opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, list[str]] = {}  # the files of each that is not opened yet
        self._kept_in = re.compile(re.escape(str(folder)) + r"[/\\][^/\\]+[/\\]")

    def one_line(self, error: Exception) -> str:
        """An error's text without the place where a file is kept, which says nothing to its owner."""
        return " ".join(self._kept_in.sub("", str(error)).split())

    def keep(self, sent: Iterable[FileStorage], upload: str | None = None) -> str:
        """Keep files, with those of an earlier request where it is named; returns the upload's name."""
        files = [item for item in sent if item.filename]
        if not files:
            raise InputError("no file was sent")
        if upload is None:
            upload = Path(tempfile.mkdtemp(dir=self.folder)).name
            self._names[upload] = []
        elif upload not in self._names:
            raise InputError("the files sent before are not here any more: open all of them again")
        own, names = self.folder / upload, self._names[upload]
        try:
            for item in files:
                names.append(_save(item, own))
        except BaseException:
            self._names.pop(upload, None)
            shutil.rmtree(own, ignore_errors=True)
            raise
        return upload

    def take(self, upload: str) -> tuple[Path, list[str]]:
        """The folder of an upload and its files' names; from now on it is the caller's.

        Raises
        ------
        InputError
            If there is no such upload, or somebody has it.
        """
        names = self._names.pop(upload, None)
        if names is None:
            raise InputError("nothing was sent, or it has been opened")
        return self.folder / upload, names

    def open(self, upload: str, library: Library) -> tuple[list[str], list[str]]:
        """Open what has been sent, as one image or several.

        Returns
        -------
        names, problems
            Of the images in the library; what could not be read.

        Raises
        ------
        InputError
            If there is no such upload, or nothing of it can be read.
        """
        folder, names = self.take(upload)
        opened: list[str] = []
        problems: list[str] = []
        try:
            for path, title in images_in(folder, names):
                try:
                    opened.append(library.open(path, title))
                except InputError as error:
                    problems.append(self.one_line(error))
        finally:
            if not opened:
                shutil.rmtree(folder, ignore_errors=True)
        if not opened:
            more = f" (and {len(problems) - 1} more that cannot be read)" if len(problems) > 1 else ""
            raise InputError("".join(problems[:1]) + more)
        return opened, problems
