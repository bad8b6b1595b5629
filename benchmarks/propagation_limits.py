"""When a propagation should end: ``python benchmarks/propagation_limits.py --shards DIR``.

Objects in synthetic volumes are carried from their largest slice, whose true mask is given, to both sides
and on past their ends.
Of each step it is known whether the object is still there, so that limits of
:class:`synthfm.trainer.model.propagate.Propagation` can be compared: the share of right steps (Dice above
0.5) that are taken, and of those beyond the object's end that are not. The volumes are those of

    synthfm-generate run --preset volumes --num 480 --size 128 --seed 77 --out DIR
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from synthfm.data.folder import shard_paths
from synthfm.data.shards import Shard, object_masks
from synthfm.trainer.model import models
from synthfm.trainer.model.likelihood import LikelihoodRatio
from synthfm.trainer.model.predict import Segmenter
from synthfm.trainer.model.propagate import SHIPPED, ask, has_ended

SMALLEST, LARGEST, LONGEST, BEYOND = 150, 6000, 5, 3
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


def steps(checkpoint: str, shards: Path, most: int) -> Iterator[tuple[dict, bool, bool]]:
    """Arguments of :func:`has_ended`, whether the object is there, and whether the step is right."""
    segmenter, rng, count = Segmenter(models.load(checkpoint)[0]), np.random.default_rng(0), 0
    for slices, masks, spacing in volumes(shards):
        areas = {track: mask.sum((1, 2)) for track, mask in masks.items()}
        usable = [
            track
            for track, sizes in areas.items()
            if SMALLEST < sizes.max() < LARGEST and np.count_nonzero(sizes) >= LONGEST
        ]
        for track in rng.permutation(usable)[:2].tolist():
            start = int(areas[track].argmax())
            for direction in (-1, 1):
                before, k, gone = masks[track][start], start + direction, 0
                taught = LikelihoodRatio.of(slices[start], before)
                while 0 <= k < len(slices) and gone < BEYOND:
                    step = ask(slices[k], k, before, segmenter, SHIPPED, taught, spacing)
                    if np.count_nonzero(step.mask) < SHIPPED.smallest:
                        break
                    true = masks[track][k]
                    there = bool(np.count_nonzero(true) >= SHIPPED.smallest)
                    dice = 2 * np.count_nonzero(true & step.mask) / (true.sum() + step.mask.sum())
                    yield (
                        {"step": step, "before": before, "image": slices[k], "taught": taught},
                        there,
                        dice > 0.5,
                    )
                    count += 1
                    if count == most:
                        return
                    gone += not there
                    before, taught = step.mask, taught.and_of(slices[k], step.mask, SHIPPED.learning)
                    k += direction


@click.command()
@click.option("--shards", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--steps", "most", type=click.IntRange(min=1), default=1600, show_default=True)
@click.option("--checkpoint", default="tiny", show_default=True)
def main(shards: Path, most: int, checkpoint: str) -> None:
    """Print a Markdown table of limits."""
    found = list(steps(checkpoint, shards, most))
    right = [given for given, there, good in found if there and good]
    past = [given for given, there, _ in found if not there]
    shares = f"right steps taken, of {len(right)} | ended past the end, of {len(past)}"
    click.echo(f"| iou | presence | present | {shares} |")
    click.echo("| ---: | ---: | ---: | ---: | ---: |")
    for iou, presence, present in product((0.0, 0.3, 0.4, 0.5, 0.6, 0.7), (0.2, 0.3), (0.6, 0.8, np.inf)):
        limits = replace(SHIPPED, iou=iou, presence=presence, present=present)
        taken = np.mean([not has_ended(settings=limits, **given) for given in right])
        ended = np.mean([has_ended(settings=limits, **given) for given in past])
        click.echo(f"| {iou:g} | {presence:g} | {present:g} | {taken:.3f} | {ended:.3f} |")


if __name__ == "__main__":
    main()
