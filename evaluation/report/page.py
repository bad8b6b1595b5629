"""One HTML page of a whole report, with its pictures inside: it can be mailed as it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from synthfm.data.files import slug
from synthfm.evaluation.report import tables, typeset
from synthfm.evaluation.scoring import overlays

MOST_ROWS = 5000
"""More rows than these make a page too slow to open; the CSV holds them all."""
CASE_COLUMNS = [
    "dataset", "case", "structure", "prompt", "method", "dsc", "iou", "hd95", "unit", "surface_dice",
    "predicted_iou", "reference_pixels", "predicted_pixels",
]  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A data frame in the form that the template loops over."""

    columns: list[str]
    numeric: dict[str, bool]
    rows: list[list[tuple[str, Any]]]


def frame(table: pd.DataFrame) -> Frame:
    numeric = {str(name): pd.api.types.is_numeric_dtype(table[name]) for name in table.columns}
    rows = [list(zip(numeric, line, strict=True)) for line in table.itertuples(index=False, name=None)]
    return Frame(list(numeric), numeric, rows)


def render(
    *,
    title: str,
    subtitle: str,
    note: str,
    dice: Sequence[typeset.Grid],
    surface: Sequence[typeset.Grid],
    extras: Sequence[tuple[pd.DataFrame, str]],
    figures: Sequence[Path],
    gallery: Path,
    ranked_by: str,
    cases: pd.DataFrame,
) -> str:
    """The page as text.

    Parameters
    ----------
    title, subtitle, note
        Head of the page; what the tables' marks mean.
    dice, surface
        Grids of the two sections of tables.
    extras
        Further tables with their captions.
    figures
        PNG files.
    gallery
        The run's folder of overlays; may be missing.
    ranked_by
        The method by whose DSC the overlays were chosen.
    cases
        Rows of the table of every object.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    # The gallery ranks an object by the first method that has scored it.
    ranked = cases.drop_duplicates(tables.OBJECT).groupby(["dataset", "structure", "prompt"])
    medians = {"/".join(map(slug, key)): dsc for key, dsc in ranked["dsc"].median().items()}
    caption = f"{len(cases)} rows"
    if len(cases) > MOST_ROWS:
        caption = f"the {MOST_ROWS} rows of lowest DSC of {len(cases)}; all are in scores.csv"
        cases = cases.nsmallest(MOST_ROWS, "dsc")
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        note=note,
        dice=dice,
        surface=surface,
        extras=[(frame(table), text) for table, text in extras],
        figures=[(path.stem, embedded(path)) for path in figures],
        overlays=chosen_overlays(gallery, medians),
        ranked_by=ranked_by,
        cases=frame(cases[CASE_COLUMNS]),
        cases_caption=caption,
        dash=typeset.DASH,
        number=lambda value, decimals: f"{value:.{decimals}f}",
        show=typeset.show,
    )


def embedded(path: Path) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def chosen_overlays(gallery: Path, medians: Mapping[str, float]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each folder of the gallery its name and the (label, picture) of its best, median and worst case.

    `medians` are the median DSC by the folder's path in the gallery.
    """
    found = []
    for folder in sorted({path.parent for path in gallery.glob("*/*/*/*.png")}):
        group = folder.relative_to(gallery).as_posix()
        if group not in medians:  # of rows that are no longer among the scores
            continue
        pictures = overlays.choose(folder, medians[group])
        labelled = [(f"{label}, DSC {path.name[:5]}", embedded(path)) for label, path in pictures.items()]
        if labelled:
            found.append((" / ".join(folder.relative_to(gallery).parts), labelled))
    return found
