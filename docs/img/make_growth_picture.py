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


def main() -> None:
    """Write ``growth.png`` beside this file: seconds over amounts, both logarithmic, and the fitted line."""
    with open(HERE.parents[1] / "data" / "results" / "growth.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["seconds"]]
    across = -(-len(rows) // 2)
    figure, axes = plt.subplots(2, across, figsize=(3.2 * across, 5.6), layout="constrained")
    for place in axes.flat[len(rows) :]:
        place.set_axis_off()
    for place, row in zip(axes.flat, rows, strict=False):
        at, seconds = (np.array(row[name].split(", "), float) for name in ("at", "seconds"))
        slope, start = np.polyfit(np.log(at), np.log(seconds), 1)
        place.loglog(at, np.exp(start) * at**slope, color=LINE, linewidth=1)
        place.loglog(at, seconds, "o", color=INK)
        place.set_xticks(at, row["at"].split(", "))
        place.minorticks_off()
        least, most = seconds.min(), seconds.max()
        ticks = np.geomspace(least, most, 3) if most > 1.5 * least else [np.sqrt(least * most)]
        place.set_yticks(ticks, [f"{value:.2g}" for value in ticks])
        place.set_ylim(least / 1.6, most * 1.6)
        place.set_title(row["cost"], fontsize=8)
        place.set_xlabel(f"{row['grows with']}: exponent {row['exponent']}", fontsize=8)
        place.set_ylabel("seconds of the processor", fontsize=8)
        place.tick_params(labelsize=8)
    figure.savefig(HERE / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
