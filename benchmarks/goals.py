"""What was aimed at, and what the tables of ``data/results`` say of it: ``python benchmarks/goals.py``.

Writes ``goals.csv``, a table of results.md, from the tables that the other programs made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tables import RESULTS, three, write_table

Row = dict[str, str]
COMPACT = ("liver", "spleen", "kidney", "left ventricle", "right ventricle")
SMALL = ("hippocampus", "sarcoma")
AHEAD = 0.005
"""What is no more ahead than that is level."""


def rows_of(name: str) -> list[Row]:
    """The rows of a table; a second column of a name goes by NAME.1."""
    return pd.read_csv(RESULTS / f"{name}.csv", dtype=str, keep_default_na=False).to_dict("records")


def number(cell: str) -> float:
    """The figure in a cell, without its marks."""
    return float(cell.strip("*<u>/ %"))


def mean(rows: Sequence[Row], column: str) -> float:
    """Of a column's figures."""
    return float(np.mean([number(row[column]) for row in rows]))


def ahead(rows: Sequence[Row], others: Sequence[str], own: str) -> int:
    """In how many rows one of the other columns is ahead."""
    return sum(max(number(row[name]) for name in others) > number(row[own]) + AHEAD for row in rows)


def steps_down(rows: Sequence[Row]) -> tuple[int, int]:
    """Steps from fewer to more clicks, and from fewer to more strokes, that lose, and of how many."""
    clicks = [name for name in rows[0] if name[0].isdigit()]
    strokes = next(k for k, name in enumerate(clicks) if "stroke" in name)
    pairs = [*itertools.pairwise(clicks[:strokes]), *itertools.pairwise(clicks[strokes:])]
    lost = sum(number(row[b]) < number(row[a]) - AHEAD for row in rows for a, b in pairs)
    return lost, len(rows) * len(pairs)


def of_structures(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows of structures whose name holds one of some."""
    return [row for row in rows if any(name in row["set, structure"] for name in names)]


def goals(read: Callable[[str], list[Row]]) -> list[tuple[str, str, str, bool]]:
    """What was aimed at, the goal, what is measured, and whether that reaches it.

    `read` gives the rows of a table of ``data/results``.
    """
    kinds, more, strokes = read("kinds"), read("more_clicks"), read("people_strokes")
    volumes, corrected = read("volumes"), read("volume_clicks")
    kinds, more = ([row for row in rows if row["set"] != "mean of the sets"] for rows in (kinds, more))
    vessels = [row for row in kinds if "vessels" in row["set"]]
    found: list[tuple[str, str, str, bool]] = []

    def least(what: str, goal: float, value: float) -> None:
        found.append((what, three(goal), f"{value:.3f}", value >= goal))

    def none(what: str, value: int, of: int) -> None:
        found.append((what, "0", f"{value} of {of}", value == 0))

    least(
        f"tight box, mean of {len(kinds)} sets (0.85 on ten others)", 0.82, mean(kinds, "`tiny`: tight box")
    )
    least("one click, the same (0.75)", 0.72, mean(kinds, "`tiny`: one click"))
    least("five clicks, the same (0.92)", 0.9, mean(kinds, "`tiny`: five clicks"))
    least("vessels, five clicks", 0.5, mean(vessels, "`tiny`: five clicks"))
    least("vessels, people's strokes", 0.6, mean(strokes, "`tiny`"))
    least(
        "careless box, six sets",
        0.85,
        mean(read("careless_box"), "tiny, second look"),
    )
    none(
        "sets with the ellipse ahead in a tight box",
        ahead(kinds, ["ellipse"], "`tiny`: tight box"),
        len(kinds),
    )
    rivals = ["GrabCut, strokes", "random walker, strokes"]
    drawn = "`tiny`: three strokes of both kinds"
    none("sets with GrabCut or random walker ahead with strokes", ahead(kinds, rivals, drawn), len(kinds))
    none("steps to more clicks or strokes that lose over 0.005, a set each", *steps_down(more))
    clicks = [row["a click with a second look, ms"] for row in read("machines")]
    slowest = max(map(number, clicks))
    found.append(("a click with a second look, two machines, ms", "150", ", ".join(clicks), slowest <= 150))
    one_click, one_box = "`tiny`: one click", "`tiny`: one box"
    compact, small = of_structures(volumes, COMPACT), of_structures(volumes, SMALL)
    least("volumes from one click: liver, spleen, kidneys, ventricles", 0.8, mean(compact, one_click))
    least("volumes from one click: hippocampus, sarcoma", 0.7, mean(small, one_click))
    *rows, whole = volumes
    least("volumes: one box over one click", 0.05, number(whole[one_box]) - number(whole[one_click]))
    for after in ("box and two clicks", "three clicks"):
        gap = number(corrected[-1]["box in every slice"]) - number(corrected[-1][after])
        found.append((f"volumes: box in every slice over {after}", "0.03", f"{gap:.3f}", gap <= 0.03))
    least("volumes: both ends within two slices", 0.8, number(whole["both ends within 2"]))
    rivals = ["ellipsoid", "copy", "random walker", "region growing"]
    none("structures with a baseline ahead from one box", ahead(rows, rivals, one_box), len(rows))
    return found


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "goals.csv", show_default=True)
def main(out: Path) -> None:
    """Write the table of goals."""
    rows = goals(rows_of)
    cells = [(what, goal, value, "yes" if reached else "no") for what, goal, value, reached in rows]
    write_table(out, ["development sets", "goal", "measured", "reached"], cells)
    click.echo(out.read_text())


if __name__ == "__main__":
    main()
