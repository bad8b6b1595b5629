"""What each trait of the generator brings, on the structures that it was made for and on all others.

    python benchmarks/trait_gains.py runs/traits/eval-* [--out data/results/object_traits.csv]

Reads the scores of `ablation.py`, a folder a seed, whose first method was trained without the traits and each
other one with one of them. A structure's DSC is the mean over its objects, a gain the difference to the first
method with the same seed. `traits/made_for.csv` says which structures of which dataset a trait was made for.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd
from tables import RESULTS, read_table, write_table

from synthfm.evaluation.report.tables import OBJECT
from synthfm.evaluation.scoring.scores import read_scores

MADE_FOR = Path(__file__).parent / "traits" / "made_for.csv"
PROMPTS = {"box": "tight box", "point1": "one click", "clicks:5": "five clicks"}


def gains(scores: pd.DataFrame) -> pd.DataFrame:
    """The gain of each method over the first, by prompt, dataset and structure; of rounds the last one's."""
    first, *others = scores.attrs["methods"]
    last = scores.sort_values("round").drop_duplicates([*OBJECT, "method"], keep="last")
    means = last.groupby(["prompt", "dataset", "structure", "method"])["dsc"].mean().unstack()
    return means[others].sub(means[first], axis=0)


def rows(seeds: list[pd.DataFrame], made_for: set[tuple[str, str, str]]) -> list[list[object]]:
    """A row a trait: on how many structures, and its gain with each prompt; first those it was made for.

    Parameters
    ----------
    seeds
        The gains with each seed.
    made_for
        Trait, dataset and structure.
    """
    found = []
    for trait in seeds[0].columns:
        own = np.array([(trait, *where) in made_for for _, *where in seeds[0].index])
        cells: list[object] = [trait]
        for chosen in (own, ~own):
            cells.append(int(np.count_nonzero(chosen)) // len(PROMPTS) or "")
            for prompt in PROMPTS:
                those = chosen & (seeds[0].index.get_level_values("prompt") == prompt)
                cells.append(spread([seed.loc[those, trait].mean() for seed in seeds]))
        found.append(cells)
    return found


def spread(values: list[float]) -> str:
    """Mean and standard deviation over the seeds; nothing where nothing was measured."""
    if np.isnan(values).any():
        return ""
    return f"{np.mean(values):+.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--out", type=click.Path(path_type=Path), default=RESULTS / "object_traits.csv", show_default=True
)
def main(folders: tuple[Path, ...], out: Path) -> None:
    """Write the table of the gains."""
    made_for = {(row["trait"], row["dataset"], row["structure"]) for row in read_table(MADE_FOR)}
    columns = [
        name
        for kind in ("made for", "others")
        for name in (f"structures {kind}", *(f"{prompt}, {kind}" for prompt in PROMPTS.values()))
    ]
    write_table(out, ["trait", *columns], rows([gains(read_scores(folder)) for folder in folders], made_for))
    click.echo(out.read_text())


if __name__ == "__main__":
    main()
