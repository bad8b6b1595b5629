"""File patterns with named groups, which pair images with their masks.

A pattern is a path relative to a folder, matched part by part:

========== ==============================================================
``*``      any characters of one path part
``**``     as a whole part: any number of folders
``{name}`` any characters of one part, remembered under `name`
``{name:regex}`` what the regular expression matches, remembered
``{:regex}`` what the regular expression matches
========== ==============================================================

Everything else stands for itself. In a mask's pattern a name that the image's pattern has already bound
stands for the same text, so ``imagesTr/{id}.nii.gz`` and ``labelsTr/{id}.nii.gz`` make pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

Groups = dict[str, str]


class Folders:
    """Listings of folders, each read from the disk once."""

    def __init__(self) -> None:
        self._listed: dict[Path, list[str]] = {}

    def names(self, folder: Path) -> list[str]:
        """Names in a folder in natural order, hidden ones aside; none if it cannot be read."""
        if folder not in self._listed:
            try:
                shown = (path.name for path in folder.iterdir() if not path.name.startswith("."))
                self._listed[folder] = sorted(shown, key=natural)
            except OSError:
                self._listed[folder] = []
        return self._listed[folder]


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which numbers in a name count as numbers.

    >>> sorted(["s10.png", "s9.png", "s1.png"], key=natural)
    ['s1.png', 's9.png', 's10.png']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text)]


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
        re.compile(expression)
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
    folder: Path, pattern: str, folders: Folders, bound: Mapping[str, str] | None = None
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

    Yields
    ------
    (path, groups)
        The path and the values of all groups, those of `bound` included.
    """
    yield from _match(folder, _parts(pattern), folders, dict(bound or {}))


def _match(folder: Path, parts: list[str], folders: Folders, bound: Groups) -> Iterator[tuple[Path, Groups]]:
    if not parts:
        yield folder, bound
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _match(folder, rest, folders, bound)
        for name in folders.names(folder):
            if (folder / name).is_dir():
                yield from _match(folder / name, parts, folders, bound)
        return
    expression, literal = _expression(head, bound)
    if literal is not None:
        if (folder / literal).exists():
            yield from _match(folder / literal, rest, folders, bound)
        return
    compiled = re.compile(expression)
    for name in folders.names(folder):
        found = compiled.fullmatch(name)
        if found:
            yield from _match(folder / name, rest, folders, bound | found.groupdict(default=""))


def _expression(part: str, bound: Mapping[str, str]) -> tuple[str, str | None]:
    """One part as a regular expression and, where nothing in it is open, as plain text."""
    expression, literal, seen = "", "", set[str]()
    closed = True
    for kind, text in tokens(part):
        name, _, inner = text.partition(":")
        if kind == "text" or (kind == "group" and name in bound):
            value = text if kind == "text" else bound[name]
            expression += re.escape(value)
            literal += value
            continue
        closed = False
        if kind == "any":
            expression += ".*"
        elif name in seen:
            expression += f"(?P={name})"
        else:
            body = inner or ".+?"
            expression += f"(?P<{name}>{body})" if name else f"(?:{body})"
            seen.add(name)
    return expression, literal if closed else None


def fill(template: str, groups: Mapping[str, str]) -> str:
    """Put the groups' values into a template.

    >>> fill("{patient}/T1-in", {"patient": "3"})
    '3/T1-in'
    """
    return "".join(
        groups.get(text.partition(":")[0], "") if kind == "group" else text for kind, text in tokens(template)
    )
