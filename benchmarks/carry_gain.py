"""What weights that learned to carry masks gain in volumes over weights that did not, with its interval.

    git show b2d982e^:data/weights/tiny.pth > runs/stage19.pth
    synthfm-eval run --dims 3 --method before=second-look:runs/stage19.pth,now=second-look:tiny --limit 15 \\
      --prompts slice_box,slice_point1 --data-root ../shared/realdata --dataset ... --out runs/carry
    python benchmarks/carry_gain.py runs/carry

The propagation is the same for both. A structure's DSC is the mean over its patients. The interval is the
percentile bootstrap's of the mean of the structures, of each of which the patients are resampled.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from tables import RESULTS, write_table

from synthfm.evaluation.scoring.scores import read_scores

PROMPTS = {"slice_box": "one box", "slice_point1": "one click"}


def gain(scores: pd.DataFrame, prompt: str, rounds: int = 5000) -> list[str]:
    """Objects, structures, either method's DSC, and the second's gain over the first with its interval."""
    before, now = scores.attrs["methods"]
    asked = scores[scores["prompt"] == prompt]
    keys = ["dataset", "structure", "patient"]
    means = asked.groupby([*keys, "method"])["dsc"].mean().unstack()
    of_structures = means.groupby(keys[:2]).mean()
    each = [part.to_numpy() for _, part in (means[now] - means[before]).groupby(keys[:2])]
    rng = np.random.default_rng(0)
    drawn = [np.mean([rng.choice(one, len(one)).mean() for one in each]) for _ in range(rounds)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    gained = np.mean([one.mean() for one in each])
    figures = [f"{of_structures[name].mean():.3f}" for name in (before, now)]
    return [str(len(asked) // 2), str(len(each)), *figures, f"{gained:+.3f} [{low:+.3f}, {high:+.3f}]"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "carry_gain.csv", show_default=True)
def main(folder: Path, out: Path) -> None:
    """Write the table of the gain."""
    scores = read_scores(folder)
    rows = [[name, *gain(scores, prompt)] for prompt, name in PROMPTS.items()]
    header = ["prompt", "objects", "structures", "stage 19, never carried", "shipped", "gain [95 % interval]"]
    write_table(out, header, rows)
    click.echo(out.read_text())


if __name__ == "__main__":
    main()
