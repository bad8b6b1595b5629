"""Draws how costs grow, from data/results/growth.csv: ``python docs/img/make_growth_picture.py``."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
INK, LINE = "#0072B2", "#D55E00"


def round_values(least: float, most: float) -> np.ndarray:
    """1, 2 and 5 times powers of ten, from the last below `least` to the first above `most`."""
    powers = 10.0 ** np.arange(np.floor(np.log10(least)) - 1, np.ceil(np.log10(most)) + 2)
    values = np.sort(np.outer(powers, (1, 2, 5)).ravel())
    low, high = np.searchsorted(values, (least, most))
    return values[max(low - 1, 0) : high + 1]


def main() -> None:
    """Write ``growth.png`` beside this file: seconds over amounts, both logarithmic, and the fitted line."""
    with open(HERE.parents[1] / "data" / "results" / "growth.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["seconds"]]
    across = -(-len(rows) // 2)
    figure, axes = plt.subplots(2, across, figsize=(3.4 * across, 5.6), layout="constrained")
    for place in axes.flat[len(rows) :]:
        place.set_axis_off()
    for place, row in zip(axes.flat, rows, strict=False):
        at, seconds = (np.array(row[name].split(", "), float) for name in ("at", "seconds"))
        slope, start = np.polyfit(np.log(at), np.log(seconds), 1)
        place.loglog(at, np.exp(start) * at**slope, color=LINE, linewidth=1)
        place.loglog(at, seconds, "o", color=INK)
        place.set_xticks(at, row["at"].split(", "))
        place.minorticks_off()
        ticks = round_values(seconds.min() / 1.3, seconds.max() * 1.3)
        place.set_yticks(ticks, [f"{value:g}" for value in ticks])
        place.set_ylim(ticks[0] / 1.1, ticks[-1] * 1.1)
        place.grid(color="0.88", linewidth=0.6)
        place.set_axisbelow(True)
        place.set_title(row["cost"], fontsize=8)
        exponents = f"{row['exponent']} (last two {row['of the last two']})"
        place.set_xlabel(f"{row['grows with']}: exponent {exponents}", fontsize=8)
        place.set_ylabel("seconds of the processor", fontsize=8)
        place.tick_params(labelsize=8)
    figure.savefig(HERE / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
