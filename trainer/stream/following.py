"""Which slices of a volume follow one of them, where its objects are carried through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthfm.data.shards import Sample, Shard


@dataclass(frozen=True)
class SlicesAfter:
    """Slices that follow one in its volume, outward from it.

    Attributes
    ----------
    rows, samples
        Their rows in the shard, and what those hold.
    apart
        How far each lies from the one before, in pixels; 0 where it is that one again.
    """

    rows: tuple[int, ...]
    samples: tuple[Sample, ...]
    apart: tuple[float, ...]


def slices_after(
    shard: Shard, row: int, count: int, apart: tuple[int, int], rng: np.random.Generator
) -> SlicesAfter:
    """`count` slices after that of a row, towards either end of its volume and `apart` slices apart.

    Nearer where the volume has no room for so many, and its last one again where it has too few. A single
    image is a volume of one slice.
    """
    volume = int(shard.volume[row])
    rows = np.flatnonzero(shard.volume == volume) if volume >= 0 else np.array([row])
    place = int(np.flatnonzero(rows == row)[0])
    behind, ahead = place, len(rows) - 1 - place
    forward = rng.random() * (behind + ahead) >= behind  # rather where there is more room
    room = ahead if forward else behind
    step = min(int(rng.integers(apart[0], apart[1] + 1)), max(room // count, 1))
    away = np.minimum(step * np.arange(1, count + 1), room)
    chosen = rows[place + away if forward else place - away].tolist()
    distance = float(shard.spacing[volume, 0]) if volume >= 0 else 1.0
    between = distance * np.diff(away, prepend=0)
    return SlicesAfter(tuple(chosen), tuple(shard[k] for k in chosen), tuple(between.tolist()))
