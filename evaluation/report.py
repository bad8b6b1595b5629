"""Tables and figures from ``scores.csv`` alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data.folder import write_atomically
from evaluation import tables, typeset


def write_tables(scores: pd.DataFrame, out: Path, *, baseline: str | None = None) -> str:
    """Write ``table.md``, ``table.csv`` and ``table.tex`` and return the Markdown.

    Parameters
    ----------
    scores
        As :func:`evaluation.scores.read_scores` gives them.
    out
        An existing folder.
    baseline
        Method that the others are tested against.

    Raises
    ------
    InputError
        If there is no such baseline.
    """
    summaries = {metric: tables.summarise(scores, metric, baseline=baseline) for metric in tables.METRICS}
    dice = list(typeset.grids(summaries["dsc"]))
    modality = typeset.modality_grid(tables.by_modality(scores))
    note = typeset.note(baseline)
    text = "\n".join([*map(typeset.markdown, [*dice, modality]), note + _dropped(scores) + "\n"])
    long = pd.concat([table.assign(score=metric) for metric, table in summaries.items()])
    write_atomically(out / "table.md", text)
    write_atomically(out / "table.csv", long.to_csv(index=False, float_format="%.6g"))
    write_atomically(out / "table.tex", typeset.latex([*dice, modality], note))
    return text


def _dropped(scores: pd.DataFrame) -> str:
    _, dropped = tables.common(scores)
    if not dropped:
        return ""
    return f" {dropped} rows are left out because not every method has scored their object."
