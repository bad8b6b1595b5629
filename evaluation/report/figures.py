"""Figures of a report, each made from the scores alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synthfm.data.console import Progress
from synthfm.data.files import replacing, slug
from synthfm.evaluation.cases.prompting import parse_setting
from synthfm.evaluation.report import statistics, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")
"""Okabe and Ito's colours, which people with any colour vision tell apart."""
MOST_PAIRS = 3
"""Scatter plots of the first method against so many others."""


def write_figures(scores: pd.DataFrame, out: Path) -> list[Path]:
    """Draw every figure that the scores allow, as PNG and PDF; returns the PNG files in order."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    out.mkdir(parents=True, exist_ok=True)
    colours = dict(zip(tables.method_names(scores), COLOURS * 10, strict=False))
    files = []
    with matplotlib.rc_context({"text.parse_math": False}):  # names are no formulas
        for name, figure in Progress(iterable=_figures(scores, colours), unit="figure"):
            path = out / f"{slug(name)}.png"
            _save(figure, path, dpi=110)
            _save(figure, path.with_suffix(".pdf"), metadata={"CreationDate": None})
            plt.close(figure)
            files.append(path)
    for old in [*out.glob("*.png"), *out.glob("*.pdf")]:
        if old.with_suffix(".png") not in files:
            old.unlink()  # of an earlier report on other scores
    return files


def _save(figure: Figure, path: Path, **options: Any) -> None:
    """Save a figure whole: matplotlib hides the reason if the disk fills while it writes."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], bbox_inches="tight", **options)
    with replacing(path) as partial:
        partial.write_bytes(content.getvalue())


def _label(name: object) -> str:
    """A name as legends take it: matplotlib leaves out what begins with an underscore."""
    return f" {name}" if str(name).startswith("_") else str(name)


def _figures(scores: pd.DataFrame, colours: dict[str, str]) -> Iterator[tuple[str, Figure]]:
    for prompt in dict.fromkeys(scores["prompt"]):
        rows, _ = tables.common(scores[scores["prompt"] == prompt])
        if parse_setting(prompt).interactive and len(rows):
            yield f"clicks {prompt.replace(':', ' ')}", clicks(rows, colours)
    final, _ = tables.common(tables.last_round(scores))
    for prompt in dict.fromkeys(final["prompt"]):
        rows = final[final["prompt"] == prompt]
        yield f"structures {prompt.replace(':', ' ')}", boxes(rows, colours)
        present = tables.method_names(rows)
        shared = {
            pair
            for _, group in rows.groupby("dataset")
            for pair in combinations(tables.method_names(group), 2)
        }
        for first, second in [pair for pair in combinations(present, 2) if pair in shared][:MOST_PAIRS]:
            yield f"scatter {prompt.replace(':', ' ')} {first} {second}", scatter(rows, first, second)
    estimated = final[final["predicted_iou"].notna()]
    if len(estimated):
        yield "calibration", calibration(estimated, colours)


def _panels(count: int, width: float = 3.4, height: float = 2.8) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    columns = min(count, 3)
    lines = -(-count // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(width * columns, height * lines), squeeze=False, layout="constrained"
    )
    flat: list[Any] = list(axes.ravel())
    for unused in flat[count:]:
        unused.remove()
    return figure, flat[:count]


def _legend(axes: list[Axes], **where: Any) -> None:
    """One legend for all panels, on the first: a method may be in some of them alone."""
    drawn = [axis.get_legend_handles_labels() for axis in axes]
    lines = {label: line for pair in drawn for line, label in zip(*pair, strict=True)}
    axes[0].legend(lines.values(), lines.keys(), fontsize=7, **where)


def clicks(rows: pd.DataFrame, colours: dict[str, str]) -> Figure:
    """Mean DSC against the number of clicks, a panel a dataset, with the 95 % bootstrap band."""
    from matplotlib.ticker import MaxNLocator

    datasets = list(dict.fromkeys(rows["dataset"]))
    figure, axes = _panels(len(datasets))
    for axis, dataset in zip(axes, datasets, strict=True):
        here = rows[rows["dataset"] == dataset]
        for method, part in here.groupby("method", sort=False):
            means, bands, turns = [], [], []
            for turn, group in part.groupby("round"):
                drawn = statistics.bootstrap_means(
                    group["dsc"].to_numpy(float),
                    group[tables.PATIENT].to_numpy(str),
                    np.random.default_rng(0),
                )
                turns.append(turn)
                means.append(group["dsc"].mean())
                bands.append(statistics.interval(drawn, group[tables.PATIENT].nunique()))
            low, high = np.transpose(bands)
            colour = colours[str(method)]
            axis.plot(turns, means, "o-", color=colour, markersize=3.5, label=_label(method))
            axis.fill_between(turns, low, high, color=colour, alpha=0.18, linewidth=0)
        for target in tables.TARGETS:
            axis.axhline(target, color="0.75", linewidth=0.7, linestyle=":")
        axis.set(title=dataset, xlabel="clicks", ylabel="DSC", ylim=(0, 1.02))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
    _legend(axes, loc="lower right")
    return figure


def boxes(rows: pd.DataFrame, colours: dict[str, str]) -> Figure:
    """Box plots of the DSC: for each dataset and structure one box a method, whiskers at 5 and 95 %."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(zip(rows["dataset"], rows["structure"], strict=True)))
    methods = tables.method_names(rows)
    figure, axis = plt.subplots(figsize=(6.5, 0.6 + 0.28 * len(names) * (len(methods) + 0.8)))
    place = 0.0
    ticks = []
    for dataset, structure in names:
        here = rows[(rows["dataset"] == dataset) & (rows["structure"] == structure)]
        first = place
        for method in methods:
            values = here.loc[here["method"] == method, "dsc"].to_numpy(float)
            drawn = axis.boxplot([values], positions=[place], widths=0.75, whis=(5, 95), patch_artist=True,
                                 orientation="horizontal", flierprops={"markersize": 2, "alpha": 0.5},
                                 medianprops={"color": "black"})  # fmt: skip
            drawn["boxes"][0].set(facecolor=colours[method], alpha=0.75)
            place += 1
        ticks.append((first + place - 1) / 2)
        place += 0.8
    axis.set_yticks(ticks, [f"{structure}\n{dataset}" for dataset, structure in names], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="DSC", xlim=(-0.02, 1.02), title=f"prompt {rows['prompt'].iloc[0]}")
    axis.grid(axis="x", alpha=0.25)
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=colours[name], alpha=0.75) for name in methods]
    axis.legend(handles, map(_label, methods), fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def scatter(rows: pd.DataFrame, first: str, second: str) -> Figure:
    """DSC of one method against another's on the same objects, coloured by dataset."""
    import matplotlib.pyplot as plt

    wide = rows.pivot_table(index=tables.OBJECT, columns="method", values="dsc")[[first, second]].dropna()
    figure, axis = plt.subplots(figsize=(4, 4))
    names = wide.index.get_level_values("dataset")
    for dataset, colour in zip(dict.fromkeys(names), COLOURS * 10, strict=False):
        part = wide[names == dataset]
        axis.plot(
            part[second], part[first], "o", color=colour, markersize=3.5, alpha=0.6, label=_label(dataset)
        )
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    better = (wide[first] > wide[second]).mean()
    axis.set(xlabel=f"DSC of {second}", ylabel=f"DSC of {first}", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02),
             title=f"prompt {rows['prompt'].iloc[0]}: {first} is better on {better:.0%}")  # fmt: skip
    axis.set_aspect("equal")
    axis.title.set_fontsize(9)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    axis.grid(alpha=0.25)
    return figure


def calibration(rows: pd.DataFrame, colours: dict[str, str]) -> Figure:
    """IoU against the method's own estimate of it, a panel a prompt setting."""
    prompts = list(dict.fromkeys(rows["prompt"]))
    figure, axes = _panels(len(prompts), 2.9, 2.9)
    for axis, prompt in zip(axes, prompts, strict=True):
        for method, part in rows[rows["prompt"] == prompt].groupby("method", sort=False):
            axis.plot(part["predicted_iou"], part["iou"], "o", color=colours[str(method)], markersize=2.5,
                      alpha=0.5, label=_label(method))  # fmt: skip
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
        axis.set(title=f"prompt {prompt}", xlabel="estimated IoU", ylabel="IoU", ylim=(-0.02, 1.02))
        axis.grid(alpha=0.25)
    _legend(axes)
    return figure
