"""Hundreds of thousands of samples, tens of thousands of steps: memory, open files and pace stay."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support.ellipses import write_dataset

pytestmark = pytest.mark.long
SAMPLES = int(os.environ.get("SYNTHFM_LONG_SAMPLES", 200_000))
STEPS = int(os.environ.get("SYNTHFM_LONG_STEPS", 20_000))


def watched(command: list[object], done: object) -> np.ndarray:
    """Rows (share that is done, seconds, bytes of all its processes, open files), until the command ends."""
    program = Path(sys.executable).with_name(str(command[0]))
    process = subprocess.Popen([str(program), *map(str, command[1:])], stderr=subprocess.PIPE, text=True)
    rows, began = [], time.monotonic()
    while process.poll() is None:
        time.sleep(2)
        try:
            group = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            memory, files = sum(one.memory_info().rss for one in group), sum(one.num_fds() for one in group)
        except psutil.NoSuchProcess:
            continue
        rows.append((done(), time.monotonic() - began, memory, files))  # type: ignore[operator]
    assert process.returncode == 0, process.communicate()[1][-2000:]
    return np.array(rows)


def steady(rows: np.ndarray) -> None:
    share, seconds, memory, files = rows.T
    early, late = (share > 0.1) & (share < 0.3), (share > 0.8) & (share < 0.98)
    assert np.median(memory[late]) <= 1.05 * np.median(memory[early])
    assert np.median(files[late]) <= np.median(files[early]) + 2
    pace = [np.polyfit(seconds[part], share[part], 1)[0] for part in (early, late)]
    assert pace[1] > 0.8 * pace[0]  # the machine itself is not that steady


def test_many_samples(tmp_path: Path) -> None:
    size = 2000
    count = SAMPLES // size
    steady(
        watched(
            ["synthfm-generate", "run", "--out", tmp_path, "--num", SAMPLES, "--size", 32,
             "--shard-size", size, "--jobs", 2],
            lambda: len(list(tmp_path.glob("*.h5"))) / count,
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
        )
    )  # fmt: skip
