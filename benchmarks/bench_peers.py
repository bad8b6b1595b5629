"""This project beside what one would take instead: ``make bench-peers``.

The same work, in turn, in one thread; a rate counts the seconds that the process computed, so that other work
on the machine matters little. Of a row the first is this project, the ratio is its rate over the other's:
the median of the rounds, and the extremes. The peers come with ``pip install 'synthfm[bench]'``.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
import torch
from peers import asking, decoding, feeding, images, metrics, reading
from peers.turns import Contender, Result, in_turn

Work = tuple[str, str, Callable[[Path, bool], list[Contender]]]

WORKS: dict[str, Work] = {
    **{
        f"images{size}": (
            f"images of {size} pixels",
            "samples",
            lambda folder, compiled, size=size: images.images(size, max(8192 // size, 8)),
        )
        for size in (128, 256, 512, 1024)
    },
    "volumes": ("volumes, 256 pixels, 32 slices", "slices", lambda folder, compiled: images.volumes(256, 32)),
    "stream": (
        "shards to batches",
        "samples",
        lambda folder, compiled: feeding.feeding(folder, 256, 192, drawn=False),
    ),
    "clicks": (
        "shards to batches, clicks drawn",
        "samples",
        lambda folder, compiled: feeding.feeding(folder, 256, 192, drawn=True),
    ),
    "decoder": (
        "decoder, forward and backward",
        "prompts",
        lambda _, compiled: decoding.decoding(16, 4, compiled),
    ),
    "first": ("first click in an image", "clicks", lambda folder, compiled: asking.Asked(folder).first()),
    "next": ("next clicks", "clicks", lambda folder, compiled: asking.Asked(folder).next()),
    "boxes": ("64 boxes in an image", "boxes", lambda folder, compiled: asking.Asked(folder).many()),
    "metrics": ("DSC, HD95, surface Dice", "cases", lambda folder, compiled: metrics.metrics(256, 12)),
    "nifti": ("reading NIfTI", "volumes", lambda folder, compiled: reading.nifti(folder)),
    "dicom": ("reading a DICOM series", "volumes", lambda folder, compiled: reading.dicom(folder)),
}


@click.command()
@click.option("--only", help=f"Some of {', '.join(WORKS)}, by commas.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--compiled", is_flag=True, help="The decoder loops by torch.compile, too; takes minutes.")
@click.option("--out", type=click.Path(path_type=Path), help="A CSV file; rows of other works stay in it.")
def main(only: str | None, rounds: int, compiled: bool, out: Path | None) -> None:
    """Print a Markdown table, and write it."""
    torch.set_num_threads(1)
    print("| work | | rate | this over it | |\n| --- | --- | ---: | ---: | --- |")
    found: list[Result] = []
    for name in only.split(",") if only else WORKS:
        work, unit, make = WORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            results = in_turn(work, unit, make(Path(folder), compiled), rounds)
        for one in results:
            spread = "" if one.ratio == one.low == one.high else f"{one.low:.2f} to {one.high:.2f}"
            print(
                f"| {work} | {one.name} | {one.rate:.3g} {unit}/s | {one.ratio:.2f} | {spread} |", flush=True
            )
        found += results
    done = {one.work for one in found}
    differences = metrics.differences(256, 12) if WORKS["metrics"][0] in done else {}
    if WORKS["decoder"][0] in done:
        differences["decoder"] = decoding.difference(16, 4)
    for name, most in differences.items():
        print(f"largest difference from ours, {name}: {most:.1e}")
    if out:
        write(out, found)


def write(out: Path, found: list[Result]) -> None:
    """Results into a file, in the place of those of the same works, in the order of :data:`WORKS`."""
    works, order = {one.work for one in found}, [work for work, _, _ in WORKS.values()]
    rows: list[dict[str, Any]] = []
    if out.exists():
        with out.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["work"] not in works]
    for one in found:
        cells = asdict(one).items()
        rows.append({name: f"{cell:.3g}" if isinstance(cell, float) else cell for name, cell in cells})
    with out.open("w", newline="") as file:
        table = csv.DictWriter(file, [one.name for one in fields(Result)], lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: order.index(row["work"])))


if __name__ == "__main__":
    main()
