"""Shards of ellipses for the trainer's tests: discs on a noisy ground, some with a smaller one inside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from synthfm.data.folder import Manifest, describe_shard, write_manifest
from synthfm.data.prompts import loose_box, negative_points, positive_points, tight_box
from synthfm.data.shards import Objects, Sample, ShardWriter, object_masks_from_table

POINTS = 8


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
    labels = np.arange(1, len(parents) + 1, dtype=np.uint8)
    masks = object_masks_from_table(label, labels, np.array(parents, np.uint8))
    return Sample(
        image=np.clip(image, 0, 255).astype(np.uint8),
        label=label,
        index=index,
        seed=index,
        modality=("CT", "MR", "US")[index % 3],
        objects=_objects(label, labels, np.array(parents, np.uint8), masks, rng),
    )


def _objects(label, labels, parents, masks, rng) -> Objects:
    count = len(labels)
    points = np.zeros((count, POINTS, 2), np.int16)
    kinds = np.full((count, POINTS), -1, np.int8)
    boxes = np.zeros((count, 4), np.int32)
    loose = np.zeros((count, 4), np.float32)
    for k, mask in enumerate(masks):
        inside, outside = positive_points(mask, 5, rng), negative_points(mask, 3, rng, label)
        points[k, :5], kinds[k, :5] = inside, 1
        points[k, 5 : 5 + len(outside)], kinds[k, 5 : 5 + len(outside)] = outside, 0
        boxes[k] = tight_box(mask)
        loose[k] = loose_box(boxes[k], rng, label.shape)
    return Objects(
        label=labels,
        parent=parents,
        family=np.array(["ellipse"] * count),
        area=masks.sum((1, 2)).astype(np.int32),
        box=boxes,
        contrast=np.full(count, 3.0, np.float32),
        blur=np.ones(count, np.float32),
        points=points,
        point_labels=kinds,
        box_loose=loose,
    )


def write_dataset(
    folder: Path, num: int = 24, size: int = 64, per_shard: int = 8, seed: int = 0, most: int = 3
) -> Path:
    """A dataset folder of ellipses with its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for first in range(0, num, per_shard):
        path = folder / f"shard-{first // per_shard:05d}.h5"
        count = min(per_shard, num - first)
        with ShardWriter(
            path,
            count=count,
            shape=(size, size),
            points=POINTS,
            config="{}",
            package_version="0",
            root_seed=seed,
            first_index=first,
        ) as writer:
            for i in range(count):
                writer.append(ellipse_sample(first + i, size, seed, most))
        lines.append(describe_shard(path))
    manifest = Manifest(json.loads("{}"), "0", seed, num, per_shard, tuple(lines))
    write_manifest(folder, manifest)
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
