"""This project beside what one would take instead: a part of ``make bench``.

The same work, in turn, in one thread; a rate counts the seconds that the process computed, so that other work
on the machine matters little. Of a row the first is this project, the ratio is its rate over the other's:
the median of the rounds, and the extremes. The peers come with the extra `bench`; one that is not there is a
row that says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple

import click
import torch
from peers import asking, decoding, feeding, images, metrics, reading, scans
from peers.turns import OURS, Contender, Result, in_turn
from tables import read_table, three, write_table


class Given(NamedTuple):
    """What a work is made with: a folder for its files, and what was asked for."""

    folder: Path
    compiled: bool
    threads: int


Work = tuple[str, str, Callable[[Given], list[Contender]]]

WORKS: dict[str, Work] = {
    **{
        f"images{size}": (
            f"images of {size} pixels",
            "samples",
            lambda given, size=size: images.images(size, max(8192 // size, 8)),
        )
        for size in (128, 256, 512, 1024)
    },
    "volumes": ("volumes, 256 pixels, 32 slices", "slices", lambda given: images.volumes(256, 32)),
    "stream": (
        "shards to batches",
        "samples",
        lambda given: feeding.feeding(given.folder, 256, 192, drawn=False),
    ),
    "clicks": (
        "shards to batches, clicks drawn",
        "samples",
        lambda given: feeding.feeding(given.folder, 256, 192, drawn=True),
    ),
    "decoder": (
        "decoder, forward and backward",
        "prompts",
        lambda given: decoding.decoding(16, 4, given.compiled),
    ),
    "first": ("first click in an image", "clicks", lambda given: asking.Asked(*given[::2]).first()),
    "next": ("next clicks", "clicks", lambda given: asking.Asked(*given[::2]).next()),
    "boxes": ("64 boxes in an image", "boxes", lambda given: asking.Asked(*given[::2]).many()),
    "scan": ("one box through a scan, 16 slices", "slices", lambda given: scans.scans(given.folder, 16)),
    "metrics": ("DSC, HD95, surface Dice", "cases", lambda given: metrics.metrics(256, 12)),
    "nifti": ("reading NIfTI", "volumes", lambda given: reading.nifti(given.folder)),
    "dicom": ("reading a DICOM series", "volumes", lambda given: reading.dicom(given.folder)),
}

GOALS: dict[str, float | dict[str, float]] = {
    **{
        f"images{size}": {
            "cornucopia, labels to image": 6,
            "TorchIO, labels to image": 2.5,
            "TorchIO, and MR's artefacts": 2.5,
        }
        for size in (128, 256, 512, 1024)
    },
    "volumes": {
        "cornucopia, labels to volume": 10,
        "TorchIO, labels to volume": 2,
        "TorchIO, and MR's artefacts": 2,
    },
    **{"stream": 2, "clicks": 2, "decoder": 4, "first": 1, "next": 1, "boxes": 1, "scan": 1, "metrics": 3},
    **{"nifti": 1, "dicom": 1},
}
"""What was aimed at, by the names of works: how many times the others' rate, or that of some of them."""


@click.command()
@click.option("--only", help=f"Some of {', '.join(WORKS)}, by commas.")
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--threads", default=1, show_default=True, help="Of PyTorch and onnxruntime; more than one: by the clock."
)
@click.option("--compiled", is_flag=True, help="The decoder loops by torch.compile, too; takes minutes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A CSV file, rows of other works stay in it; what was aimed at goes into NAME_goals.csv.",
)
def main(only: str | None, rounds: int, threads: int, compiled: bool, out: Path | None) -> None:
    """Print a Markdown table, and write it."""
    torch.set_num_threads(threads)
    print("| work | | rate | this over it | |\n| --- | --- | ---: | ---: | --- |")
    done = set()
    for name in only.split(",") if only else WORKS:
        if name not in WORKS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(WORKS)}", param_hint="--only")
        work, unit, make = WORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            results = in_turn(work, unit, make(Given(Path(folder), compiled, threads)), rounds, threads)
        for one in results:
            print(
                "| "
                + " | ".join(cells(one)[key] for key in ("work", "name", "rate", "ratio", "version"))
                + " |",
                flush=True,
            )
        if out:  # after each work, so that what is measured is kept
            write(out, results)
        done.add(name)
    differences = metrics.differences(256, 12) if "metrics" in done else {}
    if "decoder" in done:
        differences["decoder"] = decoding.difference(16, 4)
    for name, most in differences.items():
        print(f"largest difference from ours, {name}: {most:.1e}")


def cells(one: Result) -> dict[str, str]:
    """A result as the file has it: three digits, empty where there is no figure."""
    return {
        name: "" if cell is None else three(cell) if isinstance(cell, float) else str(cell)
        for name, cell in asdict(one).items()
    }


def write(out: Path, found: list[Result]) -> None:
    """Results into a file, in the place of those of the same works and threads, as :data:`WORKS` has them."""
    written = {(one.work, str(one.threads)) for one in found}
    order = [work for work, _, _ in WORKS.values()]
    rows = [row for row in read_table(out) if (row["work"], row["threads"]) not in written]
    rows += [cells(one) for one in found]
    rows.sort(key=lambda row: (order.index(row["work"]), int(row["threads"])))
    write_table(out, COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
    write_table(out.with_name(f"{out.stem}_goals.csv"), GOAL_COLUMNS, goals(rows))


COLUMNS = [one.name for one in fields(Result)]
GOAL_COLUMNS = ["work", "beside", "threads", "aimed at", "measured", "reached"]


def goals(rows: list[dict[str, str]]) -> list[list[str]]:
    """What was aimed at beside what was measured: the median of the rounds, and whether the lowest too."""
    aims = {WORKS[name][0]: aim for name, aim in GOALS.items()}
    found = []
    for row in rows:
        aim = aims[row["work"]]
        aimed = aim.get(row["name"]) if isinstance(aim, dict) else aim
        if row["name"] == OURS or not row["ratio"] or aimed is None:
            continue
        low, ratio = float(row["low"]), float(row["ratio"])
        reached = "no" if ratio < aimed else "yes" if low >= aimed else "yes, not in every round"
        found.append([row["work"], row["name"], row["threads"], f"{aimed:g}", row["ratio"], reached])
    return found


if __name__ == "__main__":
    main()
