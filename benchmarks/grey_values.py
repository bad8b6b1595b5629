"""What the image's grey values and the box bring, and the former with weights chosen on other datasets.

``python benchmarks/grey_values.py --data-root DIR``: `tiny` with a second look, without
:mod:`synthfm.trainer.model.grey_values` and :mod:`synthfm.trainer.model.ellipse_prior`, with the first, with
both as shipped, and with those weights of a small grid that are best on the other datasets.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import numpy as np

from synthfm.evaluation.cases.case import Case
from synthfm.evaluation.cases.descriptor import load_descriptor
from synthfm.evaluation.scoring.ask import case_prompts
from synthfm.evaluation.scoring.metrics import overlap
from synthfm.evaluation.scoring.run import read_cases
from synthfm.trainer.model import models
from synthfm.trainer.model.grey_values import GreyValues
from synthfm.trainer.model.predict import SecondLook, Segmenter

SETS = "hc18,busi,chaos-ct,msd-hippocampus,totalsegmentator-example,sct-t2"
GRID = (
    SecondLook(grey_values=None, ellipse=None),
    SecondLook(ellipse=None),
    SecondLook(),
    *(
        SecondLook(grey_values=GreyValues(histogram=histogram, texture=texture, agreement=agreement))
        for histogram, texture, agreement in itertools.product((0.3, 0.9), (0.25, 0.75), (2.0, 6.0))
    ),
)


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), required=True)
@click.option("--datasets", default=SETS, show_default=True)
@click.option("--prompts", default="box,box_loose,point1", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), default=25, show_default=True, help="Cases a dataset.")
@click.option("--choose/--as-shipped", default=True, show_default=True, help="Choose on the others, too.")
def main(data_root: Path, datasets: str, prompts: str, limit: int, choose: bool) -> None:
    """Print mean DSC over objects and prompts, dataset by dataset (a folder of shards is one too)."""
    names, settings = datasets.split(","), prompts.split(",")
    grid = GRID if choose else GRID[:3]
    scores = np.stack([mean_dsc(name, data_root, settings, limit, grid) for name in names])
    head, rows = ["without", "grey values", "and the box"], scores[:, :3]
    if choose:
        best = [np.delete(scores, row, 0).mean(0).argmax() for row in range(len(names))]
        head, rows = [*head, "chosen on the others"], np.column_stack([rows, scores[range(len(names)), best]])
        for name, index in zip(names, best, strict=True):
            click.echo(f"{name}: chosen on the others are {grid[index].grey_values}")
    click.echo("| dataset | " + " | ".join(head) + " |\n| --- |" + " ---: |" * len(head))
    for name, values in zip([*names, "mean"], [*rows, rows.mean(0)], strict=True):
        click.echo(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")


def mean_dsc(
    name: str, root: Path, settings: list[str], limit: int, grid: tuple[SecondLook, ...]
) -> np.ndarray:
    """(len(grid),), mean DSC of one dataset: over objects, then over prompt settings."""
    sam, _ = models.load("tiny")
    segmenters = [Segmenter(sam, second_look) for second_look in grid]
    rows: dict[str, list[list[float]]] = {setting: [] for setting in settings}
    for case in read_cases([load_descriptor(name)], root, limit=limit):
        if not isinstance(case, Case):
            click.echo(f"left out: {name}: {case.file or case.case}: {case.reason}", err=True)
            continue
        encoding, asked = segmenters[0].encode(case.image), case_prompts(case, settings, 0)
        of_case = [segmenter.predict(encoding, [prompt for _, prompt in asked]) for segmenter in segmenters]
        for (item, prompt), answers in zip(asked, zip(*of_case, strict=True), strict=True):
            wanted, masks = np.count_nonzero(item.mask), [answer.mask for answer in answers]
            rows[prompt.setting.name].append(
                [overlap(wanted, np.count_nonzero(m), np.count_nonzero(m & item.mask))[0] for m in masks]
            )
    return np.mean([np.mean(of_setting, 0) for of_setting in rows.values()], 0)


if __name__ == "__main__":
    main()
