"""How the objects of volumes run through their slices: lengths, ends, rates of change, overlap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError, Progress
from synthfm.data.folder import check_volumes, shard_paths
from synthfm.data.shards import Objects, Shard, object_masks


@dataclass(frozen=True)
class Tracks:
    """The tracks of a dataset of volumes.

    Attributes
    ----------
    volumes
        How many volumes there are.
    length, ended
        Per track: slices, and whether it begins or ends inside its volume.
    change, dice
        Per object and its successor in the next slice: the ratio of the larger area to the smaller, and the
        Dice coefficient of the two masks.
    """

    volumes: int
    length: NDArray[np.int64]
    ended: NDArray[np.bool_]
    change: NDArray[np.float64]
    dice: NDArray[np.float64]


def measure_tracks(folder: Path) -> Tracks | None:
    """Read the label maps of a dataset of volumes; None where it is of single images.

    Raises
    ------
    InputError
        If slices are missing or tracks are broken.
    """
    lengths: list[int] = []
    ended: list[bool] = []
    change: list[float] = []
    dice: list[float] = []
    volumes = 0
    for path in Progress(iterable=shard_paths([folder]), unit="shard"):
        with Shard(path) as shard:
            if problem := check_volumes(shard):
                raise InputError(f"{path}: {problem}")
            volumes += len(shard.axis)
            for k in range(len(shard.axis)):
                rows = np.flatnonzero(shard.volume == k)
                tables = [shard.objects_of(int(row)) for row in rows]
                for first, last in _runs(tables).values():
                    lengths.append(last - first + 1)
                    ended.append(first > 0 or last < len(rows) - 1)
                before: dict[int, NDArray[np.bool_]] = {}
                for row, table in zip(rows, tables, strict=True):
                    masks = object_masks(shard[int(row)].label, table)
                    here = dict(zip(table.track.tolist(), masks, strict=True))
                    for track in before.keys() & here.keys():
                        ratio, alike = compare(before[track], here[track])
                        change.append(ratio)
                        dice.append(alike)
                    before = here
    if not volumes:
        return None
    return Tracks(
        volumes, np.array(lengths, np.int64), np.array(ended, bool), np.array(change), np.array(dice)
    )


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """Of two masks, neither empty: the larger area over the smaller, and their Dice coefficient."""
    areas = np.count_nonzero(first), np.count_nonzero(second)
    return max(areas) / min(areas), 2 * np.count_nonzero(first & second) / sum(areas)


def _runs(tables: list[Objects]) -> dict[int, tuple[int, int]]:
    """First and last slice of each track."""
    found: dict[int, tuple[int, int]] = {}
    for number, table in enumerate(tables):
        for track in table.track.tolist():
            found[track] = found.get(track, (number, number))[0], number
    return found
