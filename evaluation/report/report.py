"""Tables, figures and the page of a report, from ``scores.csv`` (and the pictures that the run kept)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from synthfm.data.files import write_atomically
from synthfm.evaluation.report import tables, typeset

PAGE = "report.html"


def write_tables(scores: pd.DataFrame, out: Path, *, baseline: str | None = None) -> str:
    """Write every table and return the Markdown of the Dice tables.

    ``table.md`` and ``table.tex`` hold all of them; ``table.csv`` the scores by structure, ``tables/`` the
    others as CSV.

    Parameters
    ----------
    scores
        As :func:`synthfm.evaluation.scoring.scores.read_scores` gives them.
    out
        An existing folder.
    baseline
        Method that the others are tested against.

    Raises
    ------
    InputError
        If there is no such baseline.
    """
    return _write(_made(scores, baseline), out)


@dataclass(frozen=True)
class _Tables:
    """Everything that stands in a report but the pictures."""

    by_structure: pd.DataFrame
    modality: pd.DataFrame
    extras: dict[str, tuple[pd.DataFrame, str]]
    """Name to table and caption; without the empty ones."""
    dice: list[typeset.Grid]
    surface: list[typeset.Grid]
    note: str


def _made(scores: pd.DataFrame, baseline: str | None) -> _Tables:
    summaries = {metric: tables.summarise(scores, metric, baseline=baseline) for metric in tables.METRICS}
    modality = tables.by_modality(scores)
    return _Tables(
        pd.concat([table.assign(score=metric) for metric, table in summaries.items()]),
        modality,
        _extras(scores),
        [*typeset.grids(summaries["dsc"]), typeset.modality_grid(modality)],
        [grid for metric in ("surface_dice", "hd95") for grid in typeset.grids(summaries[metric], metric)],
        typeset.note(baseline) + _dropped(scores),
    )


def _write(made: _Tables, out: Path) -> str:
    dice = "\n".join([*map(typeset.markdown, made.dice), made.note + "\n"])
    extras = [typeset.plain_grid(table, caption) for table, caption in made.extras.values()]
    others = [*made.surface, *extras]
    write_atomically(out / "table.md", "\n".join([dice, *map(typeset.markdown, others)]))
    write_atomically(out / "table.tex", typeset.latex([*made.dice, *made.surface], made.note, extras))
    write_atomically(out / "table.csv", made.by_structure.to_csv(index=False, float_format="%.6g"))
    (out / "tables").mkdir(exist_ok=True)
    for name, table in {"modality": made.modality, **{k: v[0] for k, v in made.extras.items()}}.items():
        write_atomically(out / "tables" / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    return dice


def _dropped(scores: pd.DataFrame) -> str:
    kept, dropped = tables.common(scores)
    text = ""
    if dropped:
        text += f" {dropped} objects are left out because not every method has scored them."
    if (kept.groupby(tables.ROW)["unit"].nunique() > 1).any():
        text += " Surface scores are left out where some are in millimetres and others in pixels."
    return text


def write_report(scores: pd.DataFrame, out: Path, *, baseline: str | None = None) -> str:
    """Write the tables, ``figures/`` and ``report.html``; returns the Markdown of the Dice tables.

    Parameters
    ----------
    scores, out, baseline
        As for :func:`write_tables`. Pictures in ``OUT/overlays`` are put on the page.
    """
    from synthfm.evaluation.report import figures, page

    made = _made(scores, baseline)
    text = _write(made, out)
    files = figures.write_figures(scores, out / "figures")
    tolerances = scores[["tolerance", "unit"]].drop_duplicates()
    within = ", ".join(f"{value:g} {unit}" for value, unit in tolerances.itertuples(index=False, name=None))
    whole = page.render(
        title="Evaluation: " + ", ".join(tables.method_names(scores)),
        subtitle=f"{scores[['dataset', 'case']].drop_duplicates().shape[0]} cases of "
        f"{', '.join(dict.fromkeys(scores['dataset']))}. Surface Dice at a tolerance of {within}.",
        note=made.note,
        dice=made.dice,
        surface=made.surface,
        extras=list(made.extras.values()),
        figures=files,
        gallery=out / "overlays",
        ranked_by=tables.method_names(scores)[0],
        cases=tables.last_round(scores),
    )
    write_atomically(out / PAGE, whole)
    return text


def _extras(scores: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, str]]:
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
    found = {
        "volumes": (
            volumes,
            "DSC of the stacked slices of each volume; coverage: share of the structure's voxels in them",
        ),
        "clicks": (
            tables.clicks_to_reach(scores),
            f"Number of clicks to a DSC of {' and '.join(map(str, tables.TARGETS))}; "
            "never reached counts as k",
        ),
        "areas": (
            tables.click_areas(scores),
            "Area under the curve of DSC and surface Dice over the rounds of clicks; last: DSC after all",
        ),
        "ends": (
            tables.ends(scores),
            "Ends of objects in volumes: median slices beyond them and missed; right: share of objects with "
            f"both ends within {tables.CLOSE} slices",
        ),
        "calibration": (
            tables.calibration(scores),
            "Spearman correlation of the method's own IoU estimate with the DSC",
        ),
        "seconds": (tables.seconds(scores), "Median seconds to encode an image and to predict one mask"),
    }
    return {name: item for name, item in found.items() if len(item[0])}
