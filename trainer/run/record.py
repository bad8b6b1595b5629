"""What a run leaves behind beside its weights: config, versions, tables, TensorBoard."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.files import naming, write_atomically
from synthfm.trainer.run import state
from synthfm.trainer.run.validate import Scores

PACKAGES = ("synthfm", "torch", "segment-anything", "lightning-fabric", "monai", "numpy", "h5py")
LOG_COLUMNS = ("step", "images", "loss", "single", "multi", "iou_error", "iou", "lr", "grad_norm",
               "images_per_s", "wait_share", "skipped")  # fmt: skip
VAL_COLUMNS = ("step", "setting", "modality", "dice", "objects")


def provenance() -> dict[str, Any]:
    """Package versions, git revision, Python and machine."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    return {
        "versions": versions,
        "git": _git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _git_revision() -> str | None:
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip()


class Record:
    """Tables and TensorBoard scalars of one run; rows after `step` from an interrupted run are dropped.

    Parameters
    ----------
    out
        The run's folder.
    step
        The step at which the run goes on.
    run
        Config and inputs, for ``config.json``.
    """

    def __init__(self, out: Path, step: int, run: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.out = out
        tables = {"log.csv": LOG_COLUMNS, "val.csv": VAL_COLUMNS}
        kept = {name: _rows_until(step, out / name, columns) for name, columns in tables.items()}
        _write_config(out / state.CONFIG, step, run)
        for name, rows in kept.items():
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([tables[name], *rows])
            write_atomically(out / name, text.getvalue())
        self._log, self._val = out / "log.csv", out / "val.csv"
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def log(self, row: Mapping[str, float]) -> None:
        """Add a row to ``log.csv`` and its numbers to TensorBoard."""
        _append(self._log, LOG_COLUMNS, [row])
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(f"train/{name}", value, int(row["step"]))

    def validation(self, step: int, scores: Scores, pictures: list[NDArray]) -> None:
        """Add a validation to ``val.csv`` and TensorBoard, with overlay pictures."""
        rows = [
            {
                "step": step,
                "setting": setting,
                "modality": modality,
                "dice": f"{dice:.5f}",
                "objects": scores.objects[setting, modality],
            }
            for (setting, modality), dice in scores.dice.items()
        ]
        _append(self._val, VAL_COLUMNS, rows)
        self._board.add_scalar("val/dice", scores.mean, step)
        for (setting, modality), dice in scores.dice.items():
            self._board.add_scalar(f"val_{setting}/{modality}", dice, step)
        for number, picture in enumerate(pictures):
            self._board.add_image(f"overlay/{number}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flush TensorBoard."""
        self._board.close()


def _write_config(path: Path, step: int, run: Mapping[str, Any]) -> None:
    """Write ``config.json``: the run, and with what it is made; later parts of it under ``resumed``.

    Raises
    ------
    InputError
        If the file is there and no run's.
    """
    now = provenance()
    content: dict[str, Any] = {**run, **now}
    if path.exists():
        before = state.read_config(path)
        if before is None:
            raise InputError(f"{path}: no run's; move it away, or choose another --out")
        if step:
            parts = before.get("resumed", [])
            last = parts[-1] if parts else before
            if step == run["config"]["steps"] or all(last.get(key) == value for key, value in now.items()):
                return
            content = {**before, "resumed": [*parts, {"step": step, **now}]}
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def _rows_until(step: int, path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """The rows up to `step` of a table that an interrupted run has left.

    Raises
    ------
    InputError
        If the file is another table, or a row but the last, which may have been cut short, is none of it.
    """
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            head, *lines = [*csv.reader(handle)] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); move it away to go on") from error
    if tuple(head) != columns:
        raise InputError(f"{path}: not this run's table ({','.join(columns)}); move it away to go on")
    kept: list[list[str]] = []
    for number, line in enumerate(lines, start=2):
        if len(line) == len(columns) and line[0].isdecimal():
            kept += [line] * (int(line[0]) <= step)
        elif step and number <= len(lines):
            raise InputError(f"{path}: line {number} is damaged; mend it or remove it to go on")
    return kept


def _append(
    path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]] | list[Mapping[str, float]]
) -> None:
    with naming(path), open(path, "a", newline="", encoding="utf-8") as handle:
        csv.DictWriter(handle, columns, lineterminator="\n").writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )
