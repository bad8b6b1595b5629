"""File patterns with named groups, which pair images with their masks.

A pattern is a path relative to a folder, matched part by part:

========== ==============================================================
``*``      any characters of one path part
``**``     as a whole part: any number of folders, each once whichever links lead to it
``{name}`` any characters of one part, remembered under `name`
``{name:regex}`` what the regular expression matches, remembered
``{:regex}`` what the regular expression matches
========== ==============================================================

Everything else stands for itself. Names are compared in Unicode's composed form (NFC), as archives made on
macOS hold them decomposed, and bytes of a name that are not UTF-8 are written as ``\\xfc``. In a mask's
pattern a name that the image's pattern has already bound stands for the same text, so
``imagesTr/{id}.nii.gz`` and ``labelsTr/{id}.nii.gz`` make pairs.
"""

from __future__ import annotations

import os
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path

from synthfm.data.console import printable
from synthfm.data.files import natural
from synthfm.data.guard import in_time

Groups = dict[str, str]
PATIENCE = 5.0
"""Seconds that the names in a folder may take to be compared, and a thousandth more for each."""


class Folders:
    """Listings of folders, each read from the disk once."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, str]] = {}
        self._sorted: dict[tuple[Path, int], tuple[list[str], list[int]]] = {}
        self._below: dict[Path, list[Path]] = {}

    def names(self, folder: Path) -> list[str]:
        """Names in a folder in natural order, hidden ones aside; none if it cannot be read."""
        return list(self._names(folder))

    def find(self, folder: Path, name: str) -> Path | None:
        """What has a name in a folder, None if there is nothing."""
        if (folder / name).exists():
            return folder / name
        return self.path(folder, name) if name in self._names(folder) else None

    def path(self, folder: Path, name: str) -> Path:
        """The path of one of the :meth:`names` of a folder."""
        return folder / self._names(folder)[name]

    def _names(self, folder: Path) -> dict[str, str]:
        """Names as they are compared, in natural order, and as they are on the disk."""
        if folder not in self._listed:
            found: dict[str, str] = {}
            try:
                for path in folder.iterdir():
                    shown = printable(unicodedata.normalize("NFC", path.name))
                    if not shown.startswith("."):
                        found[path.name if shown in found else shown] = path.name
            except OSError:
                found = {}
            self._listed[folder] = {name: found[name] for name in sorted(found, key=natural)}
        return self._listed[folder]

    def likely(self, folder: Path, start: str, end: str) -> list[str]:
        """Names in a folder, in natural order, among them all that begin with `start` and end with `end`.

        Only one of the two is looked for, that which fewer names have. It is a search in a sorted list, as to
        try every name for every image takes the square of their number.
        """
        names = self.names(folder)
        found = min(self._beginning(folder, start, 1), self._beginning(folder, end[::-1], -1), key=len)
        return [names[k] for k in sorted(found)]

    def _beginning(self, folder: Path, text: str, step: int) -> list[int]:
        """Positions of the names that begin with a text, read forwards (step 1) or backwards (-1)."""
        if (folder, step) not in self._sorted:
            read = [name[::step] for name in self.names(folder)]
            order = sorted(range(len(read)), key=read.__getitem__)
            self._sorted[folder, step] = [read[k] for k in order], order
        words, order = self._sorted[folder, step]
        first = bisect_left(words, text, key=lambda word: word[: len(text)])
        return order[first : bisect_right(words, text, key=lambda word: word[: len(text)])]

    def below(self, folder: Path) -> list[Path]:
        """A folder and all in it, in natural order, each once: a link only to what is not reached without."""
        if folder not in self._below:
            links: list[Path] = []
            plain = list(self._walk(folder, set(), links))
            seen = {os.path.realpath(path) for path in plain} if links else set()
            self._below[folder] = plain if not links else list(self._walk(folder, seen))
        return self._below[folder]

    def _walk(self, folder: Path, seen: set[str], links: list[Path] | None = None) -> Iterator[Path]:
        """Depth first; links are collected, or followed to folders that are not `seen`."""
        yield folder
        for name in self._names(folder).values():
            path = folder / name
            if not path.is_dir():
                continue
            linked = path.is_symlink()
            if links is not None and linked:
                links.append(path)
                continue
            real = os.path.realpath(path) if links is None else ""
            if linked and real in seen:
                continue
            seen.add(real)
            yield from self._walk(path, seen, links)


def tokens(pattern: str) -> list[tuple[str, str]]:
    """A pattern as (kind, text): ``text``, ``any`` or ``group`` with ``name`` or ``name:regex``.

    Raises
    ------
    ValueError
        If a brace is not closed, a name is not an identifier or an expression is not a regular one.

    >>> tokens("a*_{id:[0-9]{2}}")
    [('text', 'a'), ('any', '*'), ('text', '_'), ('group', 'id:[0-9]{2}')]
    """
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(pattern):
        if pattern[position] == "{":
            end = _closing(pattern, position)
            _check_group(pattern, pattern[position + 1 : end])
            found.append(("group", pattern[position + 1 : end]))
            position = end + 1
        elif pattern[position] == "*":
            found.append(("any", "*"))
            position += 1
        else:
            end = min(
                (at for at in (pattern.find(c, position) for c in "{*") if at >= 0), default=len(pattern)
            )
            found.append(("text", pattern[position:end]))
            position = end
    return found


def _closing(pattern: str, start: int) -> int:
    level = 0
    for position in range(start, len(pattern)):
        level += {"{": 1, "}": -1}.get(pattern[position], 0)
        if level == 0:
            return position
    raise ValueError(f"pattern {pattern!r}: a brace is not closed")


def _check_group(pattern: str, group: str) -> None:
    name, colon, expression = group.partition(":")
    if not (name.isidentifier() or (colon and not name)):
        raise ValueError(
            f"pattern {pattern!r}: {{{group}}} needs a name, as in {{patient}} or {{patient:[0-9]+}}"
        )
    try:
        re.compile(f"(?P<{name or 'x'}>{expression})")  # as it is used: no flags, no reference to itself
    except re.error as error:
        raise ValueError(
            f"pattern {pattern!r}: {expression!r} is not a regular expression ({error})"
        ) from error


def group_names(pattern: str) -> set[str]:
    """Names of the groups of a pattern."""
    return {text.partition(":")[0] for kind, text in tokens(pattern) if kind == "group"} - {""}


def _parts(pattern: str) -> list[str]:
    """Split at slashes outside braces."""
    parts, level = [""], 0
    for character in pattern:
        level += {"{": 1, "}": -1}.get(character, 0)
        if character == "/" and level == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part not in ("", ".")]


def match(
    folder: Path,
    pattern: str,
    folders: Folders,
    bound: Mapping[str, str] | None = None,
    *,
    greedy: bool = False,
) -> Iterator[tuple[Path, Groups]]:
    """Files and folders that a pattern matches, in natural order of their parts.

    Parameters
    ----------
    folder
        Where the pattern starts.
    pattern
        See the module.
    folders
        Listings, shared between calls.
    bound
        Groups that already have a value.
    greedy
        Whether groups without an expression take as much as they can, and not as little.

    Yields
    ------
    (path, groups)
        The path and the values of all groups, those of `bound` included.
    """
    parts = _parts(unicodedata.normalize("NFC", pattern))
    yield from _match(folder, parts, folders, dict(bound or {}), greedy)


def _match(
    folder: Path, parts: list[str], folders: Folders, bound: Groups, greedy: bool
) -> Iterator[tuple[Path, Groups]]:
    if not parts:
        yield folder, bound
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        for deeper in folders.below(folder):
            yield from _match(deeper, rest, folders, bound, greedy)
        return
    expression, start, end = _expression(head, bound, greedy)
    if end is None:
        there = folders.find(folder, start)
        if there is not None:
            yield from _match(there, rest, folders, bound, greedy)
        return
    compiled = re.compile(expression)
    names = folders.likely(folder, start, end)
    with in_time(PATIENCE + len(names) / 1000, f"pattern {head!r}: its regular expression"):
        matched = [(name, found) for name in names if (found := compiled.fullmatch(name))]
    for name, found in matched:
        groups = bound | found.groupdict(default="")
        yield from _match(folders.path(folder, name), rest, folders, groups, greedy)


def _expression(part: str, bound: Mapping[str, str], greedy: bool) -> tuple[str, str, str | None]:
    """One part as a regular expression, and the plain text at its start and at its end.

    Where nothing in it is open, the start is all of it and the end None.
    """
    expression, start, seen = "", "", set[str]()
    end: str | None = None
    for kind, text in tokens(part):
        name, _, inner = text.partition(":")
        if kind == "text" or (kind == "group" and name in bound):
            value = text if kind == "text" else bound[name]
            expression += re.escape(value)
            if end is None:
                start += value
            else:
                end += value
            continue
        end = ""
        if kind == "any":
            expression += ".*"
        elif name in seen:
            expression += f"(?P={name})"
        else:
            body = inner or (".+" if greedy else ".+?")
            expression += f"(?P<{name}>{body})" if name else f"(?:{body})"
            seen.add(name)
    return expression, start, end


def fill(template: str, groups: Mapping[str, str]) -> str:
    """Put the groups' values into a template.

    >>> fill("{patient}/T1-in", {"patient": "3"})
    '3/T1-in'
    """
    return "".join(
        groups.get(text.partition(":")[0], "") if kind == "group" else text for kind, text in tokens(template)
    )
