"""What the image's grey values bring, with weights chosen on other datasets than the one they are scored on.

``python benchmarks/evidence.py --data-root DIR``: `tiny` with two looks, without :mod:`trainer.evidence`,
with its weights as shipped, and with those of a small grid that are best on the other datasets.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import numpy as np

from evaluation import methods
from evaluation.cases import Case
from evaluation.descriptor import load_descriptor
from evaluation.metrics import overlap
from evaluation.run import case_prompts, read_cases
from trainer import evidence

SETS = "hc18,busi,chaos-ct,msd-hippocampus,totalsegmentator-example,sct-t2"
NONE = (0.0, 0.0, 0.0)
SHIPPED = (evidence.HISTOGRAM, evidence.TEXTURE, evidence.AGREEMENT)
GRID = (NONE, SHIPPED, *itertools.product((0.3, 0.9), (0.25, 0.75), (2.0, 6.0)))
"""Weights of the histograms, the texture and the neighbours."""


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), required=True)
@click.option("--datasets", default=SETS, show_default=True)
@click.option("--prompts", default="box,box_loose,point1", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), default=25, show_default=True, help="Cases a dataset.")
def main(data_root: Path, datasets: str, prompts: str, limit: int) -> None:
    """Print mean DSC over objects and prompts, dataset by dataset."""
    names, settings = datasets.split(","), prompts.split(",")
    scores = np.stack([mean_dsc(name, data_root, settings, limit) for name in names])
    click.echo("| dataset | without | as shipped | chosen on the others | weights |")
    click.echo("| --- | ---: | ---: | ---: | --- |")
    found = []
    for row, name in enumerate(names):
        best = np.delete(scores, row, 0).mean(0).argmax()
        found.append(scores[row, [0, 1, best]])
        weights = ", ".join(f"{weight:g}" for weight in GRID[best])
        click.echo(f"| {name} | " + " | ".join(f"{value:.3f}" for value in found[-1]) + f" | {weights} |")
    click.echo("| mean | " + " | ".join(f"{value:.3f}" for value in np.mean(found, 0)) + " | |")


def mean_dsc(name: str, root: Path, settings: list[str], limit: int) -> np.ndarray:
    """(len(GRID),), mean DSC of one dataset: over objects, then over prompt settings."""
    method = methods.build("zoom:tiny")
    rows: dict[str, list[list[float]]] = {setting: [] for setting in settings}
    for case in read_cases(load_descriptor(name), root, limit=limit):
        if not isinstance(case, Case):
            click.echo(f"left out: {name}: {case.file or case.case}: {case.reason}", err=True)
            continue
        encoded, asked = method.encode(case.image), case_prompts(case, settings, 0)
        of_case = []
        for weights in GRID:
            evidence.HISTOGRAM, evidence.TEXTURE, evidence.AGREEMENT = weights
            of_case.append(method.predict(encoded, [prompt for _, prompt in asked]))
        for (item, prompt), answers in zip(asked, zip(*of_case, strict=True), strict=True):
            wanted, masks = np.count_nonzero(item.mask), [answer.mask for answer in answers]
            rows[prompt.key[3]].append(
                [overlap(wanted, np.count_nonzero(m), np.count_nonzero(m & item.mask))[0] for m in masks]
            )
    return np.mean([np.mean(of_setting, 0) for of_setting in rows.values()], 0)


if __name__ == "__main__":
    main()
