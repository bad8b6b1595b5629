"""What a descriptor makes of the files on the disk, for the person who writes it."""

from __future__ import annotations

import os
from pathlib import Path

from synthfm.data.console import printable
from synthfm.evaluation.cases.layout import Entry, entries, places
from synthfm.evaluation.cases.patterns import Folders, Groups, match
from synthfm.evaluation.cases.schema import Descriptor


def examples(descriptor: Descriptor, root: Path, count: int) -> list[str]:
    """The first images of a dataset, with their first masks and what these hold, for the terminal.

    Of all images, those are named that match a pattern in two ways, or have files that stand in no list.
    """
    lines, unlisted = [], 0
    for number, entry in enumerate(entries(descriptor, root)):
        if number >= count:
            unlisted += bool(entry.unlisted)
            continue
        lines.append(f"{entry.id}: {printable(os.path.relpath(entry.image, root))}")
        lines += [
            f"    {printable(os.path.relpath(mask.path, root))} ({', '.join(mask.names())})"
            for mask in entry.masks[:count]
        ]
        if len(entry.masks) > count:
            lines.append(f"    and {len(entry.masks) - count} more masks")
        if entry.unlisted:
            lines.append(f"    left out: {_left_out(entry, root)}")
    if unlisted:
        lines.append(f"{unlisted} more images have files that match, but stand in no list")
    return lines + _two_ways(descriptor, root)


def _left_out(entry: Entry, root: Path) -> str:
    """Which of the files that match belong to no structure of the descriptor's, for a line."""
    first = entry.unlisted[0]
    more = f" and {len(entry.unlisted) - 1} more" if len(entry.unlisted) > 1 else ""
    return (
        f"{printable(os.path.relpath(first.path, root))}{more}: {{structure}} is "
        f"{first.groups['structure']!r}, which is not in 'structures'"
    )


def _two_ways(descriptor: Descriptor, root: Path) -> list[str]:
    """A line on each pattern by which a name can be read in two ways: a group swallows part of another."""
    lines, folders = [], Folders()
    for source, folder in places(descriptor, root, folders):
        images = list(match(folder, source.image, folders))
        found = _read_otherwise(folder, source.image, folders, {}, images)
        lines += [f"{source.image!r} reads {found}"] if found else []
        for kind in source.masks:
            for path, groups in images:
                masks = list(match(folder, kind.file, folders, groups))
                found = _read_otherwise(folder, kind.file, folders, groups, masks)
                if found:
                    lines.append(f"{kind.file!r} reads {found}; its image is {printable(path.name)}")
                    break
    return lines


def _read_otherwise(
    folder: Path, pattern: str, folders: Folders, bound: Groups, found: list[tuple[Path, Groups]]
) -> str:
    """The first of the matches of a pattern that has another reading, and both of them; empty if none has."""
    other = dict(match(folder, pattern, folders, bound, greedy=True))
    for path, groups in found:
        second = other.get(path, groups)
        differ = [name for name, value in groups.items() if second[name] != value]
        if differ:
            ways = (", ".join(f"{name} {way[name]!r}" for name in differ) for way in (groups, second))
            return (
                f"{printable(path.name)} as {next(ways)}, but it may be {next(ways)}: say what a group may "
                f"be, as in {{{differ[-1]}:[0-9]+}}"
            )
    return ""
