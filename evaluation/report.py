"""Tables, figures and the page of a report, from ``scores.csv`` (and the pictures that the run kept)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from data.folder import write_atomically
from evaluation import tables, typeset

PAGE = "report.html"


def write_tables(scores: pd.DataFrame, out: Path, *, baseline: str | None = None) -> str:
    """Write ``table.md``, ``table.csv`` and ``table.tex`` and return the Markdown of the Dice tables.

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
    return _write(scores, summaries, out, baseline)


def _write(scores: pd.DataFrame, summaries: dict[str, pd.DataFrame], out: Path, baseline: str | None) -> str:
    grids = _dice_grids(scores, summaries["dsc"])
    note = typeset.note(baseline) + _dropped(scores)
    text = "\n".join([*map(typeset.markdown, grids), note + "\n"])
    long = pd.concat([table.assign(score=metric) for metric, table in summaries.items()])
    write_atomically(out / "table.md", text)
    write_atomically(out / "table.csv", long.to_csv(index=False, float_format="%.6g"))
    write_atomically(out / "table.tex", typeset.latex(grids, typeset.note(baseline)))
    return text


def _dice_grids(scores: pd.DataFrame, summary: pd.DataFrame) -> list[typeset.Grid]:
    return [*typeset.grids(summary), typeset.modality_grid(tables.by_modality(scores))]


def _dropped(scores: pd.DataFrame) -> str:
    _, dropped = tables.common(scores)
    if not dropped:
        return ""
    return f" {dropped} rows are left out because not every method has scored their object."


def write_report(scores: pd.DataFrame, out: Path, *, baseline: str | None = None) -> Path:
    """Write the tables, ``figures/`` and ``report.html``; returns the page's path.

    Parameters
    ----------
    scores, out, baseline
        As for :func:`write_tables`. Pictures in ``OUT/overlays`` are put on the page.
    """
    from evaluation import figures, page

    summaries = {metric: tables.summarise(scores, metric, baseline=baseline) for metric in tables.METRICS}
    _write(scores, summaries, out, baseline)
    files = figures.write_figures(scores, out / "figures")
    tolerances = scores[["tolerance", "unit"]].drop_duplicates()
    within = ", ".join(f"{value:g} {unit}" for value, unit in tolerances.itertuples(index=False, name=None))
    surface = [
        grid for metric in ("surface_dice", "hd95") for grid in typeset.grids(summaries[metric], metric)
    ]
    text = page.render(
        title="Evaluation: " + ", ".join(tables.method_names(scores)),
        subtitle=f"{scores[['dataset', 'case']].drop_duplicates().shape[0]} cases of "
        f"{', '.join(dict.fromkeys(scores['dataset']))}. Surface Dice at a tolerance of {within}.",
        note=typeset.note(baseline) + _dropped(scores),
        dice=_dice_grids(scores, summaries["dsc"]),
        surface=surface,
        extras=_extras(scores),
        figures=files,
        gallery=out / "overlays",
        ranked_by=tables.method_names(scores)[0],
        cases=tables.last_round(scores),
    )
    write_atomically(out / PAGE, text)
    return out / PAGE


def _extras(scores: pd.DataFrame) -> list[tuple[pd.DataFrame, str]]:
    volumes = tables.stacked(scores)
    if len(volumes):
        keys = [*tables.ROW, "method"]
        grouped = volumes.groupby(keys, sort=False)
        volumes = grouped.agg(
            volumes=("dsc", "size"),
            dsc=("dsc", "mean"),
            sd=("dsc", "std"),
            slices=("slices", "mean"),
            coverage=("coverage", "mean"),
        ).reset_index()
    return [
        (
            volumes,
            "DSC of the stacked slices of each volume; coverage: share of the structure's voxels in them",
        ),
        (
            tables.clicks_to_reach(scores),
            "Number of clicks to a DSC of 0.85 and 0.90; never reached counts as k",
        ),
        (tables.calibration(scores), "Spearman correlation of the method's own IoU estimate with the DSC"),
        (tables.seconds(scores), "Median seconds to encode an image and to predict one mask"),
    ]
