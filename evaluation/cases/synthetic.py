"""Folders of synthetic shards as a dataset, so that held-out synthetic images are scored by the same code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synthfm.data.console import InputError
from synthfm.data.folder import shard_paths
from synthfm.data.shards import Sample, Shard, object_masks
from synthfm.evaluation.cases.case import Case, Failure, Object, limit_objects, spread
from synthfm.evaluation.cases.schema import Descriptor


def shard_cases(descriptor: Descriptor, folder: Path, limit: int | None) -> Iterator[Case | Failure]:
    """Cases of a folder of shards: the structure of an object is its shape family, its mask its own label and
    those of all objects in it."""
    paths = shard_paths([folder])
    counts = [_count(path) for path in paths]
    total = sum(counts)
    wanted = range(total) if limit is None else spread(total, limit)
    chosen = np.fromiter(wanted, int)
    first = 0
    for path, count in zip(paths, counts, strict=True):
        here = chosen[(chosen >= first) & (chosen < first + count)] - first
        first += count
        if count and not len(here):
            continue
        try:
            shard = Shard(path)
        except (InputError, OSError) as error:  # OSError: it may have vanished since, or not be readable
            yield Failure(descriptor.name, path.name, "", str(path), str(error))
            continue
        with shard:
            yield from _shard(descriptor, shard, here.tolist())


def _count(path: Path) -> int:
    try:
        with Shard(path) as shard:
            return len(shard)
    except (InputError, OSError):
        return 0


def _shard(descriptor: Descriptor, shard: Shard, positions: list[int]) -> Iterator[Case | Failure]:
    for position in positions:
        name = f"{int(shard.index[position]):08d}"
        try:
            sample = shard[position]
            objects = _objects(sample, descriptor.slices.min_area)
        except (InputError, OSError, ValueError) as error:
            yield Failure(descriptor.name, name, "", str(shard.path), str(error))
            continue
        kept = limit_objects(objects, descriptor.slices.max_objects, name)
        if kept:
            yield Case(descriptor.name, sample.modality, name, name, name, 0, sample.image, None, kept)


def _objects(sample: Sample, min_area: int) -> list[Object]:
    seen: dict[str, int] = {}
    objects = []
    for mask, family in zip(object_masks(sample.label, sample.objects), sample.objects.family, strict=True):
        if np.count_nonzero(mask) < min_area:
            continue
        family = str(family)
        objects.append(Object(family, mask, seen.get(family, 0)))
        seen[family] = seen.get(family, 0) + 1
    return objects
