"""``scores.csv``: one row per case, object, prompt setting, round and method; and the run's other records.

A case's rows are appended in one go, so that an interrupted run goes on where it stopped. Everything that a
table or a figure shows is made from this file.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthfm.data.config import differences
from synthfm.data.console import InputError
from synthfm.data.files import naming, write_atomically
from synthfm.data.guard import opening, read_json
from synthfm.evaluation.cases.case import Failure

if TYPE_CHECKING:
    import pandas as pd

SCORES, SETTINGS, FAILURES = "scores.csv", "settings.json", "failures.csv"


@dataclass(frozen=True)
class Row:
    """One row of ``scores.csv``; None is written as an empty field.

    Attributes
    ----------
    dataset, modality, case, volume, patient, slice
        As in :class:`synthfm.evaluation.cases.case.Case`.
    structure, instance
        The object; its number among those of the same structure in the case.
    prompt, round, clicks
        The setting, the round from 1 (1 where there is only one), and how many clicks the method had.
    method
        Name of the method's column.
    dsc, iou, hd95, surface_dice, unit
        Scores, see :mod:`synthfm.evaluation.scoring.metrics`; `unit` of HD95: ``mm`` or ``px``.
    tolerance
        Of the surface Dice, in `unit`.
    predicted_iou
        The method's own estimate.
    reference_pixels, predicted_pixels, shared_pixels
        Areas of the two masks and of what they share: what the DSC of stacked slices is made from.
    volume_voxels
        Reference voxels of the structure in the whole volume; None for a 2-D image.
    slices_beyond, slices_missed, end_error
        Of volumes, see :class:`synthfm.evaluation.scoring.metrics.Scores`; None for an image.
    prompt_seed
        What the prompt was drawn from.
    encode_seconds, predict_seconds
        To encode the image; to predict this mask (its share of the batch).
    """

    dataset: str
    modality: str
    case: str
    volume: str
    patient: str
    slice: int
    structure: str
    instance: int
    prompt: str
    round: int
    clicks: int
    method: str
    dsc: float
    iou: float
    hd95: float
    surface_dice: float
    unit: str
    tolerance: float
    predicted_iou: float | None
    reference_pixels: int
    predicted_pixels: int
    shared_pixels: int
    volume_voxels: int | None
    prompt_seed: int
    encode_seconds: float
    predict_seconds: float
    slices_beyond: int | None = None
    slices_missed: int | None = None
    end_error: int | None = None


COLUMNS = [field.name for field in dataclasses.fields(Row)]
NEWER = ["slices_beyond", "slices_missed", "end_error"]
"""Columns that a file of version 0.3 and before does not have."""


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value  # None becomes an empty field


def to_csv(rows: Iterable[Row | Failure], *, header: type | None = None) -> str:
    """Rows as CSV text, after the header line of the given class if there is one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header is not None:
        writer.writerow(field.name for field in dataclasses.fields(header))
    for row in rows:
        writer.writerow(_cell(getattr(row, field.name)) for field in dataclasses.fields(row))
    return text.getvalue()


Done = set[tuple[str, str, str]]
"""(dataset, case, method) whose rows are in the file."""


class ScoresFile:
    """Appends rows to ``scores.csv``.

    Opening an existing file drops the rows of its last case, which may have been cut short, and a torn last
    line; that case is done again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / SCORES
        self.done: Done = set()
        if self.path.is_file():
            self._resume()
        else:
            write_atomically(self.path, to_csv([], header=Row))
        self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115  # closed by close()

    def _resume(self) -> None:
        foreign = f"not a {SCORES} of this program; give another --out"
        with opening(self.path, foreign):
            lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]  # what no newline ends is torn
            rows = list(csv.reader(lines))
            if not rows or rows[0] != COLUMNS:
                raise InputError(f"{self.path}: {foreign}")
            place = [COLUMNS.index(name) for name in ("dataset", "case", "method")]
            keys = [tuple(row[k] for k in place) for row in rows[1:]]
            last = keys[-1][:2] if keys else None
            kept = [line for line, key in zip(lines[1:], keys, strict=True) if key[:2] != last]
        self.done = {(key[0], key[1], key[2]) for key in keys if key[:2] != last}
        write_atomically(self.path, "\n".join([lines[0], *kept]) + "\n")

    def append(self, rows: Sequence[Row]) -> None:
        """Write the rows of one case and flush them to the disk."""
        with naming(self.path):
            self._file.write(to_csv(rows))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> ScoresFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make `folder` the output of a run with these settings, or go on with one that has the same.

    Raises
    ------
    InputError
        If the folder holds scores made with other settings; the message names what differs.
    """
    path = folder / SETTINGS
    settings = json.loads(json.dumps(settings))  # as they will be read back
    if not path.is_file():
        if (folder / SCORES).exists():
            raise InputError(f"{folder}: holds a {SCORES} but no {SETTINGS}; give another --out")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(settings, indent=1) + "\n")
        return
    before = read_json(path, "the settings of a run; give another --out")
    if not isinstance(before, dict):
        raise InputError(f"{path}: not the settings of a run; give another --out")
    if before != settings and not has_rows(folder / SCORES):  # nothing was scored: nothing is mixed
        write_atomically(path, json.dumps(settings, indent=1) + "\n")
        return
    if found := differences(before, settings):
        raise InputError(
            f"{folder}: holds scores made with other settings ({found}); give another --out, or the settings "
            "of before to go on"
        )


def has_rows(path: Path) -> bool:
    """Whether a ``scores.csv`` is there and holds a row."""
    if not path.is_file():
        return False
    with open(path, encoding="utf-8") as handle:
        return bool(handle.readline() and handle.readline())


def read_scores(folder: str | Path) -> pd.DataFrame:
    """Read ``scores.csv`` of a run's folder (or the file itself); ``attrs["methods"]`` has the run's order.

    A last line that no newline ends was cut short, and is left out.

    Raises
    ------
    InputError
        If it is missing, has no rows, lacks a column, holds a row twice, or something that is no number where
        one belongs.
    """
    import pandas as pd

    path = Path(folder)
    path = path / SCORES if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the output folder of 'synthfm-eval run'")
    text = ["dataset", "modality", "case", "volume", "patient", "structure", "prompt", "method", "unit"]
    numbers = [name for name in COLUMNS if name not in text]
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        # Strings are kept as they are: a structure called "NA" is no missing value.
        table = pd.read_csv(io.StringIO(whole), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: not a CSV table ({error})") from error
    table = table.reindex(columns=[*table.columns, *(name for name in NEWER if name not in table.columns)])
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; expected {', '.join(COLUMNS)}")
    if table.empty:
        raise InputError(f"{path}: no scores in it yet")
    for name in numbers:
        try:
            table[name] = pd.to_numeric(table[name].replace(["", "nan"], None))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{path}: column {name!r} holds something that is no number ({error})"
            ) from error
    for name in ("dsc", "iou", "hd95", "surface_dice"):
        if table[name].isna().any():
            raise InputError(f"{path}: line {int(table[name].isna().argmax()) + 2} has no {name}; remove it")
    twice = table.duplicated(["dataset", "case", "structure", "instance", "prompt", "method", "round"])
    if twice.any():
        raise InputError(
            f"{path}: line {int(twice.argmax()) + 2} scores what an earlier line has scored; remove one"
        )
    table.attrs["methods"] = _methods(path.with_name(SETTINGS))
    return table


def _methods(settings: Path) -> list[str]:
    """The names of a run's methods, in its order."""
    try:
        return list(read_json(settings, "a run's settings")["methods"])
    except (OSError, InputError, KeyError, TypeError):  # a scores.csv by itself
        return []
