"""Shards of ellipses for the trainer's tests: discs on a noisy ground, some with a smaller one inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from synthfm.data.folder import Manifest, describe_shard, write_manifest
from synthfm.data.shards import Sample, Slice
from tests.support.shards import objects_in, write_shard


def ellipse_sample(index: int, size: int, seed: int = 0, most: int = 3) -> Sample:
    """An image of one to `most` ellipses, one of them nested where there is room and `most` is above 1."""
    rng = np.random.default_rng([seed, index])
    y, x = np.mgrid[:size, :size]
    image = rng.normal(90, 12, (size, size))
    label = np.zeros((size, size), np.uint8)
    parents: list[int] = []
    for k in range(int(rng.integers(min(most, 1), most + 1))):
        cx, cy = rng.uniform(0.3, 0.7, 2) * size
        a, b = rng.uniform(0.12, 0.28, 2) * size
        inside = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
        free = inside & (label == 0)
        if free.sum() < 30:
            continue
        own = len(parents) + 1
        label[free] = own
        parents.append(0)
        image[free] += rng.choice([-50, 60])
        core = free & (((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 0.2)
        if most > 1 and k == 0 and core.sum() > 30:
            label[core] = own + 1
            parents.append(own)
            image[core] -= 35
    return Sample(
        image=np.clip(image, 0, 255).astype(np.uint8),
        label=label,
        index=index,
        seed=index,
        modality=("CT", "MR", "US")[index % 3],
        objects=objects_in(label, dict(enumerate(parents, 1)), rng, 5, 3),
    )


def write_dataset(
    folder: Path, num: int = 24, size: int = 64, per_shard: int = 8, seed: int = 0, most: int = 3
) -> Path:
    """A dataset folder of ellipses with its manifest."""
    samples = [ellipse_sample(number, size, seed, most) for number in range(num)]
    return write_samples(folder, samples, per_shard, seed)


def write_samples(folder: Path, samples: list[Sample], per_shard: int = 8, seed: int = 0) -> Path:
    """A dataset folder of some samples with its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for first in range(0, len(samples), per_shard):
        path = folder / f"shard-{first // per_shard:05d}.h5"
        some = samples[first : first + per_shard]
        lines.append(describe_shard(write_shard(path, some, first_index=first, root_seed=seed)))
    write_manifest(folder, Manifest({}, "1.2", seed, len(samples), per_shard, tuple(lines)))
    return folder


def dying(function, error, at):
    """The function, which at its n-th call raises `error` instead."""
    calls = []

    def wrapped(*args):
        calls.append(1)
        if len(calls) == at:
            raise error
        return function(*args)

    return wrapped


def volume_of_ellipses(number: int, size: int, depth: int, first_index: int = 0) -> list[Sample]:
    """A volume: a disc that moves (track 0), and from the first slice to the middle one another (track 1).

    Slices are 2 pixels apart.
    """
    rng = np.random.default_rng([number, size])
    y, x = np.mgrid[:size, :size] / size
    samples = []
    for k in range(depth):
        label = np.zeros((size, size), np.uint8)
        image = rng.normal(90, 6, (size, size))
        discs = {1: (0.3 + 0.01 * k, 0.3, 0.16, 60), 2: (0.7, 0.7 - 0.01 * k, 0.14, -50)}
        shown = [1, 2] if k <= depth // 2 else [1]
        for own in shown:
            cx, cy, radius, contrast = discs[own]
            inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
            label[inside] = own
            image[inside] += contrast
        table = objects_in(label, dict.fromkeys(shown, 0), rng, 5, 3)
        samples.append(
            Sample(
                image=np.clip(image, 0, 255).astype(np.uint8),
                label=label,
                index=first_index + k,
                seed=number,
                modality="MR",
                objects=replace(table, track=np.array(shown, np.int32) - 1),
                slice=Slice(k, (2.0, 1.0, 1.0), "z"),
            )
        )
    return samples


def write_volumes(folder: Path, num: int = 2, size: int = 64, depth: int = 8) -> Path:
    """A dataset folder of such volumes, one a shard."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(num):
        samples = volume_of_ellipses(number, size, depth, number * depth)
        path = folder / f"shard-{number:05d}.h5"
        lines.append(describe_shard(write_shard(path, samples, first_index=number * depth, root_seed=0)))
    config = {"volume": {"depth": [depth, depth]}}
    write_manifest(folder, Manifest(config, "1.2", 0, num * depth, depth, tuple(lines)))
    return folder
