"""Random samples for the tests of the shard format, and a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from synthfm.data import prompts
from synthfm.data.shards import (
    OBJECT_COLUMNS,
    Objects,
    Sample,
    ShardWriter,
    StoredStroke,
    column_of,
    membership,
)
from synthfm.data.strokes import draw_both

POINTS = 4


def objects_in(
    label: NDArray[np.uint8],
    parents: Mapping[int, int],
    rng: np.random.Generator,
    positives: int,
    negatives: int,
    strokes: int = 0,
) -> Objects:
    """The table of the objects of a label map, whose parents are given by their numbers in it."""
    labels, count = np.array(list(parents), np.uint8), len(parents)
    above = np.array(list(parents.values()), np.uint8)
    masks = membership(labels, above)[:, label]
    points = np.zeros((count, positives + negatives, 2), np.int16)
    kinds = np.full((count, positives + negatives), -1, np.int8)
    for k, mask in enumerate(masks):
        points[k, :positives], kinds[k, :positives] = prompts.positive_points(mask, positives, rng), 1
        away = prompts.negative_points(mask, negatives, rng, label)
        points[k, positives : positives + len(away)] = away
        kinds[k, positives : positives + len(away)] = 0
    boxes = np.array([prompts.tight_box(mask) for mask in masks], np.int32).reshape(count, 4)
    loose = [prompts.loose_box(box, rng, label.shape) for box in boxes]
    return Objects(
        label=labels,
        parent=above,
        family=np.array([f"family{k}" for k in range(count)], str),
        area=masks.sum((1, 2)).astype(np.int32),
        box=boxes,
        contrast=rng.random(count).astype(np.float32),
        blur=rng.random(count).astype(np.float32),
        points=points,
        point_labels=kinds,
        box_loose=np.array(loose, np.float32).reshape(count, 4),
        strokes=column_of(strokes_of(mask, strokes, rng) for mask in masks),
    )


def strokes_of(mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> tuple[StoredStroke, ...]:
    inside, outside = draw_both(mask, count, count, rng)
    return tuple(
        StoredStroke(on, stroke.astype(np.int16))
        for on, strokes in ((True, inside), (False, outside))
        for stroke in strokes
    )


def random_sample(rng: np.random.Generator, index: int, shape: tuple[int, int] = (20, 24)) -> Sample:
    """Rectangles over one another, each in the one below it or in none; some samples have no object."""
    label = np.zeros(shape, np.uint8)
    parents: dict[int, int] = {}
    for number in rng.permutation(np.arange(1, 256))[: rng.integers(0, 5)]:
        y0, x0 = rng.integers(0, shape[0] - 4), rng.integers(0, shape[1] - 4)
        inside = label[y0 : y0 + rng.integers(4, 12), x0 : x0 + rng.integers(4, 12)]
        parent = int(inside[0, 0])
        inside[inside == parent] = number
        parents[int(number)] = parent
    visible = set(np.unique(label)) - {0}
    while gone := [own for own in parents if own not in visible]:  # covered whole: its children move up
        removed = parents.pop(gone[0])
        parents = {own: removed if parent == gone[0] else parent for own, parent in parents.items()}
    return Sample(
        image=rng.integers(0, 256, shape).astype(np.uint8),
        label=label,
        index=index,
        seed=int(rng.integers(0, 2**64, dtype=np.uint64)),
        modality=str(rng.choice(["generic", "CT", "MR", "US"])),
        objects=objects_in(label, parents, rng, 2, POINTS - 2, int(rng.spawn(1)[0].integers(3))),
    )


def random_samples(seed: int, count: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    return [random_sample(rng, index) for index in range(count)]


def write_shard(
    path: Path, samples: Sequence[Sample], config: str = "{}", first_index: int = 0, root_seed: int = 7
) -> Path:
    with ShardWriter(
        path,
        count=len(samples),
        shape=samples[0].image.shape,
        points=samples[0].objects.points.shape[1],
        config=config,
        package_version="1.2",
        root_seed=root_seed,
        first_index=first_index,
    ) as writer:
        for sample in samples:
            writer.append(sample)
    return path


def assert_same_sample(a: Sample, b: Sample) -> None:
    assert_array_equal(a.image, b.image)
    assert_array_equal(a.label, b.label)
    assert (a.index, a.seed, a.modality) == (b.index, b.seed, b.modality)
    for name in OBJECT_COLUMNS:
        assert_array_equal(getattr(a.objects, name), getattr(b.objects, name), err_msg=name)
    assert_same_strokes(a.objects, b.objects)


def assert_same_strokes(a: Objects, b: Objects) -> None:
    assert len(a.strokes) == len(b.strokes) == len(a)
    for ours, theirs in zip(a.strokes, b.strokes, strict=True):
        assert [stroke.inside for stroke in ours] == [stroke.inside for stroke in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.pixels.dtype == other.pixels.dtype == np.int16
            assert_array_equal(one.pixels, other.pixels)
