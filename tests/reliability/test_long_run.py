"""Hundreds of thousands of samples, tens of thousands of steps: memory, open files and pace stay."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support.ellipses import write_dataset

pytestmark = pytest.mark.long
SAMPLES = int(os.environ.get("SYNTHFM_LONG_SAMPLES", 200_000))
STEPS = int(os.environ.get("SYNTHFM_LONG_STEPS", 20_000))


def watched(command: list[object], done: Callable[[], float], errors: Path) -> np.ndarray:
    """Rows to its end: the share done; of all its processes seconds on a processor, bytes, open files."""
    program = Path(sys.executable).with_name(str(command[0]))
    with open(errors, "w") as stderr:  # no pipe: its progress of hours would fill one
        process = subprocess.Popen([str(program), *map(str, command[1:])], stderr=stderr)
    rows = []
    while process.poll() is None:
        time.sleep(2)
        try:
            share = done()
            group = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            row = [(sum(one.cpu_times()[:2]), one.memory_info().rss, one.num_fds()) for one in group]
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue
        rows.append([share, *np.sum(row, 0)])
    assert process.returncode == 0, errors.read_text()[-2000:]
    return np.array(rows)


def steady(rows: np.ndarray) -> None:
    share, seconds, memory, files = rows.T
    early, late = (share > 0.1) & (share < 0.3), (share > 0.8) & (share < 0.98)
    for name, part in (("early", early), ("late", late)):  # shown with -s
        size, pace = np.median(memory[part]) / 1e6, np.polyfit(share[part], seconds[part], 1)[0]
        print(f"{name}: {size:.0f} MB, {np.median(files[part]):.0f} open files, {pace:.0f} s for all")
    assert np.median(memory[late]) <= 1.05 * np.median(memory[early])
    assert np.median(files[late]) <= np.median(files[early]) + 2
    pace = [np.polyfit(seconds[part], share[part], 1)[0] for part in (early, late)]
    assert pace[1] > 0.8 * pace[0]  # on a busy machine its processor time is not that steady


def test_many_samples(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def done() -> float:
        """The share of samples that are made: the progress file has a byte for each."""
        return sum(path.stat().st_size for path in out.glob("progress.*")) / SAMPLES

    steady(
        watched(
            ["synthfm-generate", "run", "--out", out, "--num", SAMPLES, "--size", 32,
             "--shard-size", 500, "--jobs", 2],
            done,
            tmp_path / "errors",
        )
    )  # fmt: skip


def test_many_steps(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", num=400, size=32, per_shard=40)

    def done() -> float:
        path = tmp_path / "out" / "log.csv"
        return sum(1 for _ in open(path, "rb")) * 20 / STEPS if path.is_file() else 0.0

    steady(
        watched(
            ["synthfm-train", "run", "--shards", data, "--out", tmp_path / "out", "--train-encoder", "--set",
             "image_size=32", "--steps", STEPS, "--batch", 2, "--set", "log_every=20",
             "--set", "precision=32", "--set", "save_every=1000", "--set", "validate_every=1000",
             "--set", "stream.workers=1", "--accelerator", "cpu", "--devices", 1],
            done,
            tmp_path / "errors",
        )
    )  # fmt: skip
