"""Summaries as Markdown and LaTeX: methods as columns, best in bold, second underlined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from synthfm.evaluation.report.statistics import FEWEST
from synthfm.evaluation.report.tables import HIGHER_IS_BETTER, METRICS

SIGNIFICANT = 0.05
DASH = "\u2013"


@dataclass(frozen=True)
class Cell:
    """One value of a table: mean, standard deviation, 95 % interval; NaN where there is none."""

    mean: float
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    rank: int = 0
    """1 best of the row, 2 second, 0 any other."""
    differs: bool = False
    """From the baseline, after Holm's correction."""


@dataclass(frozen=True)
class Grid:
    """One table: a head, and for each row its labels and one cell a method (None for a dash)."""

    title: str
    head: list[str]
    methods: list[str]
    rows: list[tuple[list[str], list[Cell | None]]]
    decimals: int = 3


def grids(summary: pd.DataFrame, metric: str = "dsc") -> Iterator[Grid]:
    """One grid for each prompt setting of :func:`synthfm.evaluation.report.tables.summarise`."""
    for prompt, part in summary.groupby("prompt", sort=False):
        methods = list(dict.fromkeys(part["method"]))
        rows = []
        for (dataset, structure), line in part.groupby(["dataset", "structure"], sort=False):
            count, patients = int(line["n"].iloc[0]), int(line["patients"].iloc[0])
            unit = f" ({line['unit'].iloc[0]})" if metric == "hd95" else ""
            labels = [str(dataset), f"{structure}{unit}", f"{count} / {patients}"]
            rows.append((labels, _cells(line, methods, metric)))
        title = f"{METRICS[metric]}, prompt {prompt}"
        decimals = 1 if metric == "hd95" else 3
        yield Grid(title, ["dataset", "structure", "objects / patients"], methods, rows, decimals)


def modality_grid(table: pd.DataFrame) -> Grid:
    """The summary by modality as one grid."""
    methods = list(dict.fromkeys(table["method"]))
    rows = []
    for (prompt, modality), line in table.groupby(["prompt", "modality"], sort=False):
        labels = [str(prompt), str(modality), f"{line['rows'].iloc[0]} / {line['n'].iloc[0]}"]
        rows.append((labels, _cells(line, methods, "dsc")))
    head = ["prompt", "modality", "structures / objects"]
    return Grid(f"{METRICS['dsc']} by modality", head, methods, rows, 3)


def plain_grid(table: pd.DataFrame, title: str) -> Grid:
    """Any table as a grid of labels alone."""
    rows: list[tuple[list[str], list[Cell | None]]] = [
        ([show(value) for value in row], []) for row in table.itertuples(index=False, name=None)
    ]
    return Grid(title, [str(name) for name in table.columns], [], rows)


def show(value: object) -> str:
    """A value of a table as text: numbers with four digits, NaN as a dash."""
    if isinstance(value, float):
        return DASH if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _cells(line: pd.DataFrame, methods: Sequence[str], metric: str) -> list[Cell | None]:
    by_method = line.set_index("method")
    order = by_method["mean"].sort_values(ascending=not HIGHER_IS_BETTER[metric], kind="stable")
    rank = order.rank(method="min", ascending=not HIGHER_IS_BETTER[metric])  # equal means share a rank
    cells: list[Cell | None] = []
    for method in methods:
        if method not in by_method.index:
            cells.append(None)
            continue
        found = by_method.loc[method]
        place = int(rank[method]) if len(by_method) > 1 else 0
        cells.append(
            Cell(
                float(found["mean"]),
                float(found.get("sd", math.nan)),
                float(found["low"]),
                float(found["high"]),
                place if place <= 2 else 0,
                bool(found.get("p_holm", math.nan) < SIGNIFICANT),
            )
        )
    return cells


def cell_text(cell: Cell | None, decimals: int, *, marks: tuple[str, str, str, str], plus: str) -> str:
    """A cell in a markup whose bold and underlined begin and end with `marks`."""
    if cell is None:
        return DASH
    text = f"{cell.mean:.{decimals}f}"
    if cell.rank:
        begin, end = marks[:2] if cell.rank == 1 else marks[2:]
        text = f"{begin}{text}{end}"
    if not math.isnan(cell.sd):
        text += f"{plus}{cell.sd:.{decimals}f}"
    if not math.isnan(cell.low):
        text += f" [{cell.low:.{decimals}f}, {cell.high:.{decimals}f}]"
    return text + ("*" if cell.differs else "")


def markdown(grid: Grid) -> str:
    """A grid as a Markdown table under its title."""
    lines = [[*grid.head, *grid.methods], ["---"] * len(grid.head) + ["---:"] * len(grid.methods)]
    lines += [
        [
            *labels,
            *(cell_text(c, grid.decimals, marks=("**", "**", "<u>", "</u>"), plus=" ± ") for c in cells),
        ]
        for labels, cells in grid.rows
    ]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"### {grid.title}\n\n{table}\n"


def note(baseline: str | None) -> str:
    """What a table's marks mean, in one sentence each."""
    text = (
        "Mean ± standard deviation over objects [95 % bootstrap interval, patients resampled; none with "
        f"fewer than {FEWEST}, nor of a mean over several structures of which one has fewer]. Best in bold, "
        "second underlined."
    )
    if baseline is not None:
        text += (
            f" * differs from {baseline}: paired Wilcoxon test on patients' means, Holm-corrected over the "
            f"table, p < {SIGNIFICANT:g}."
        )
    return text


_ESCAPES = str.maketrans({
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", DASH: "--",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
})  # fmt: skip

_LATEX_HEAD = r"""% Compiles by itself, and can be \input into a paper that loads booktabs and graphicx.
\makeatletter
\ifx\@nodocument\relax
  \makeatother \let\synthfmend\relax
\else
  \makeatother
  \documentclass{article}
  \usepackage[utf8]{inputenc}
  \usepackage{booktabs,graphicx}
  \usepackage[margin=2cm]{geometry}
  \begin{document}
  \def\synthfmend{\end{document}}
\fi
"""


def escape(text: str) -> str:
    """Text as LaTeX; a character that the default fonts lack becomes a question mark.

    >>> escape("msd_heart & 50 %")
    'msd\\\\_heart \\\\& 50 \\\\%'
    """
    plain = "".join(char if ord(char) < 256 or char == DASH else "?" for char in text)
    return plain.translate(_ESCAPES)


def latex(scored: Sequence[Grid], caption: str, plain: Sequence[Grid] = ()) -> str:
    """Grids as one LaTeX file of booktabs tables, each shrunk to the text width where it is wider.

    `caption` explains the marks of the `scored` ones; the `plain` ones have none.
    """
    parts = [_LATEX_HEAD]
    for grid, explained in [*((grid, f" {caption}") for grid in scored), *((grid, "") for grid in plain)]:
        columns = "l" * (len(grid.head) - 1) + "r" + "r" * len(grid.methods)
        lines = [" & ".join(escape(name) for name in (*grid.head, *grid.methods)) + r" \\", r"\midrule"]
        for labels, cells in grid.rows:
            marks = (r"\textbf{", "}", r"\underline{", "}")
            texts = [cell_text(cell, grid.decimals, marks=marks, plus=r" $\pm$ ") for cell in cells]
            texts = ["--" if text == DASH else text for text in texts]
            lines.append(" & ".join([*map(escape, labels), *texts]) + r" \\")
        body = "\n".join(lines)
        parts.append(
            "\\begin{table}[htbp]\n\\centering\n"
            f"\\caption{{{escape(grid.title)}.{escape(explained)}}}\n"
            "\\sbox0{%\n"
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}}}\n"
            "\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\usebox0}\\else\\usebox0\\fi\n"
            "\\end{table}\n"
        )
    return "\n".join([*parts, "\\synthfmend\n"])
