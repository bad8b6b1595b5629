"""When a propagation should end: ``python benchmarks/propagation_limits.py --shards DIR``.

Objects in synthetic volumes are carried from their largest slice, whose true mask is given, to both sides
and on past their ends. Then limits of :class:`synthfm.trainer.model.next_slice.Propagation` are compared:
where each would have ended the runs, the Dice of what had been found until then with all of the object on
that side, and how many slices too many or too few that is. The volumes are those of

    synthfm-generate run --preset volumes --num 20 --size 256 --seed 51001 --set volume.depth=16..48 --out DIR
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from synthfm.data.folder import shard_paths
from synthfm.data.shards import Shard, object_masks
from synthfm.trainer.model import models
from synthfm.trainer.model.likelihood import LikelihoodRatio
from synthfm.trainer.model.next_slice import SHIPPED, Propagation, Step, ask, has_ended
from synthfm.trainer.model.predict import Segmenter

SMALLEST, LARGEST, LONGEST, BEYOND = 150, 6000, 5, 12
"""Pixels of an object in its largest slice, slices that it fills at least, slices past its end."""


def volumes(shards: Path) -> Iterator[tuple[NDArray, dict[int, NDArray], float]]:
    """Slices, masks by track (slices, H, W), and the distance between slices in pixels."""
    for path in shard_paths([str(shards)]):
        with Shard(path) as shard:
            for number in range(len(shard.axis)):
                samples = [shard[int(row)] for row in np.flatnonzero(shard.volume == number)]
                slices = np.stack([sample.image for sample in samples])
                masks: dict[int, NDArray] = {}
                for k, sample in enumerate(samples):
                    for track, mask in zip(
                        sample.objects.track, object_masks(sample.label, sample.objects), strict=True
                    ):
                        masks.setdefault(int(track), np.zeros(slices.shape, bool))[k] = mask
                yield slices, masks, float(shard.spacing[number, 0])


@dataclass(frozen=True)
class Taken:
    """One step of a run: what ends it, and what it found.

    Attributes
    ----------
    step, before, belief, image, taught
        As :func:`has_ended` takes them.
    found, shared, true
        Pixels of the step's mask, those that are the object's, and those of the object in its slice.
    """

    step: Step
    before: NDArray
    belief: float
    image: NDArray
    taught: LikelihoodRatio
    found: int
    shared: int
    true: int

    def ends(self, settings: Propagation) -> bool:
        return has_ended(self.step, self.before, self.belief, self.image, settings, self.taught)


def runs(checkpoint: str, shards: Path, most: int) -> Iterator[tuple[list[Taken], int]]:
    """The steps of each run, `most` in all, and the pixels of its object on that side of the first slice."""
    segmenter, rng, count = Segmenter(models.load(checkpoint)[0]), np.random.default_rng(0), 0
    for slices, masks, spacing in volumes(shards):
        areas = {track: mask.sum((1, 2)) for track, mask in masks.items()}
        usable = [
            track
            for track, sizes in areas.items()
            if SMALLEST < sizes.max() < LARGEST and np.count_nonzero(sizes) >= LONGEST
        ]
        for track in rng.permutation(usable)[:3].tolist():
            start = int(areas[track].argmax())
            for direction in (-1, 1):
                before, k, gone = masks[track][start], start + direction, 0
                taught, steps = LikelihoodRatio.of(slices[start], before), list[Taken]()
                while 0 <= k < len(slices) and gone < BEYOND:
                    step = ask(slices[k], k, before, segmenter, SHIPPED, taught, spacing)
                    mask, true = step.mask, masks[track][k]
                    if np.count_nonzero(mask) < SHIPPED.smallest:
                        break
                    belief = float(np.mean([one.step.iou for one in steps] or [step.iou]))
                    sizes = (int(some.sum()) for some in (mask, mask & true, true))
                    steps.append(Taken(step, before, belief, slices[k], taught, *sizes))
                    gone += steps[-1].true < SHIPPED.smallest
                    before, taught = mask, taught.and_of(slices[k], mask, SHIPPED.learning)
                    k += direction
                rest = slice(start + 1, None) if direction > 0 else slice(0, start)
                if steps:
                    yield steps, int(areas[track][rest].sum())
                count += len(steps)
                if count >= most:
                    return


def scored(
    found: list[tuple[list[Taken], int]], ended: Callable[[Taken], bool]
) -> tuple[float, float, float]:
    """Means over runs: Dice, slices beyond the object's end, and slices of it that were not reached."""
    rows = []
    for steps, area in found:
        end = next((k for k, step in enumerate(steps) if ended(step)), len(steps))
        kept, rest = steps[:end], steps[end:]
        total = area + sum(step.found for step in kept)
        rows.append(
            (
                2 * sum(step.shared for step in kept) / total if total else 1.0,
                sum(step.true < SHIPPED.smallest for step in kept),
                sum(step.true >= SHIPPED.smallest for step in rest),
            )
        )
    return tuple(np.mean(rows, axis=0).tolist())


@click.command()
@click.option("--shards", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--steps", "most", type=click.IntRange(min=1), default=2500, show_default=True)
@click.option("--checkpoint", default="tiny", show_default=True)
def main(shards: Path, most: int, checkpoint: str) -> None:
    """Print a Markdown table of limits, the best Dice first."""
    found = list(runs(checkpoint, shards, most))
    rows = [
        ("never", scored(found, lambda step: False)),
        ("where the object does", scored(found, lambda step: step.true < SHIPPED.smallest)),
    ]
    for doubt, same, presence in product((0.1, 0.15, 0.2, 0.25, 0.3), (0.9, 0.95, 1.0), (-np.inf, -0.5, 0.0)):
        limits = replace(SHIPPED, doubt=doubt, same=same, presence=presence)
        ended = scored(found, lambda step, limits=limits: step.ends(limits))
        rows.append((f"doubt {doubt:g}, same {same:g}, presence {presence:g}", ended))
    click.echo(f"| ends ({len(found)} runs) | Dice | slices beyond | slices missed |")
    click.echo("| --- | ---: | ---: | ---: |")
    for name, (dice, beyond, missed) in rows[:2] + sorted(rows[2:], key=lambda row: -row[1][0]):
        click.echo(f"| {name} | {dice:.4f} | {beyond:.2f} | {missed:.2f} |")


if __name__ == "__main__":
    main()
