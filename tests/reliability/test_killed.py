"""SIGKILL, SIGTERM and SIGINT at seeded moments of every command: what is done stays, and it goes on."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.support.cases import disc_folder
from tests.support.ellipses import write_dataset
from tests.support.files import write_itk
from tests.support.runs import assert_same_run

pytestmark = pytest.mark.long
MOMENTS = int(os.environ.get("SYNTHFM_MOMENTS", 25))
WITHIN = 10.0
"""Seconds: a program ends within five of a signal; a busy machine may need some to see to that."""
BEGUN = 0.2
"""Seconds of a processor that Python itself takes to begin."""
ALONE = 60.0
"""Seconds in which what a program has started ends after it: workers need half a second, but one that is
still loading its packages when its program is killed, and Python's tracker of resources, end when they have
loaded."""


@dataclass(frozen=True)
class Command:
    """A command that writes to a folder, and what is the same of two such folders."""

    words: Callable[[Path, Path], list[object]]
    same: Callable[[Path, Path], None]


def _bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _same_bytes(ours: Path, theirs: Path) -> None:
    assert _bytes(ours) == _bytes(theirs)


def _same_scores(ours: Path, theirs: Path) -> None:
    def rows(out: Path) -> list[dict[str, str]]:
        with open(out / "scores.csv", newline="") as handle:
            return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(handle)]

    assert rows(ours) == rows(theirs)
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}


def _same_mask(ours: Path, theirs: Path) -> None:
    import SimpleITK as sitk

    masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(out / "mask.nii.gz"))) for out in (ours, theirs)]
    assert masks[0].any()
    np.testing.assert_array_equal(*masks)
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}


COMMANDS = {
    "generate": Command(
        lambda top, out: ["synthfm-generate", "run", "--out", out, "--num", 120, "--size", 48,
                          "--shard-size", 4, "--seed", 5, "--jobs", 2],
        _same_bytes,
    ),
    "train": Command(
        lambda top, out: ["synthfm-train", "run", "--shards", top / "shards", "--out", out, "--train-encoder",
                          "--set", "image_size=32", "--steps", 60, "--batch", 4, "--set", "save_every=5",
                          "--set", "validate_every=20", "--set", "log_every=1", "--set", "precision=32",
                          "--set", "optim.ema=0.9",
                          "--set", "stream.workers=1", "--accelerator", "cpu", "--devices", 1],
        assert_same_run,
    ),
    "embed": Command(
        lambda top, out: ["synthfm-train", "embed", "--shards", top / "shards", "--out", out, "--batch", 2],
        _same_bytes,
    ),
    "eval": Command(
        lambda top, out: ["synthfm-eval", "run", "--dataset", top / "discs.yaml", "--data-root", top / "data",
                          "--method", "ellipse,grabcut", "--prompts", "box,point1", "--set", "overlays=0",
                          "--out", out],
        _same_scores,
    ),
    "predict": Command(
        lambda top, out: ["synthfm-eval", "predict", top / "scan.nii.gz", "--box", "6,6,26,26,8", "--out",
                          out / "mask.nii.gz"],
        _same_mask,
    ),
}  # fmt: skip
HOW = ("go on", "goes on", "begins again", "nothing was left behind")
"""What a command says of how it goes on."""
EACH = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("killed")
    write_dataset(folder / "shards", num=48, size=64, per_shard=4)
    disc_folder(folder, count=40)
    z, y, x = np.mgrid[:20, :40, :40]
    ball = (x - 16) ** 2 + (y - 16) ** 2 + 4 * (z - 8) ** 2 < 90
    noise = np.random.default_rng(0).normal(0, 8, ball.shape)
    write_itk(folder / "scan.nii.gz", (80 + 90 * ball + noise).astype(np.int16), spacing=(1.0, 1.0, 2.0))
    return folder


def started(words: list[object], errors: Path) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name(str(words[0]))
    with open(errors, "wb") as stderr:
        return subprocess.Popen(
            [str(program), *map(str, words[1:])],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def finished(words: list[object], errors: Path) -> float:
    """Run to the end; the seconds that it takes."""
    began = time.monotonic()
    process = started(words, errors)
    assert process.wait(1200) == 0, errors.read_text()
    return time.monotonic() - began


@pytest.fixture(scope="module")
def whole(top: Path) -> dict[str, Any]:
    """Each command's folder when nobody disturbs it, and its seconds; made when they are asked for."""
    return {}


def reference(name: str, top: Path, whole: dict[str, Any]) -> tuple[Path, float]:
    if name not in whole:
        out = top / f"{name}-whole"
        out.mkdir()
        whole[name] = out, finished(COMMANDS[name].words(top, out), top / f"{name}.errors")
    return whole[name]


@EACH
def test_killed_at_any_moment_it_ends_with_the_same(
    name: str, top: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    theirs, seconds = reference(name, top, whole)
    rng = np.random.default_rng(len(name))
    out, kills, round_ = tmp_path / "0", 0, 0
    while kills < MOMENTS:
        out.mkdir(exist_ok=True)
        process = started(COMMANDS[name].words(top, out), tmp_path / "errors")
        children = psutil.Process(process.pid).children(recursive=True)
        try:
            code = process.wait(rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            kills += 1
            _, alive = psutil.wait_procs(children, timeout=ALONE)
            for one in alive:
                one.kill()
            assert not alive
            continue
        assert code == 0, (tmp_path / "errors").read_text()
        COMMANDS[name].same(out, theirs)
        shutil.rmtree(out)
        round_ += 1
        out = tmp_path / str(round_)
    out.mkdir(exist_ok=True)
    finished(COMMANDS[name].words(top, out), tmp_path / "errors")
    COMMANDS[name].same(out, theirs)


@EACH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_ends_it_soon_with_how_to_go_on(
    name: str, number: int, top: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    theirs, seconds = reference(name, top, whole)
    rng = np.random.default_rng([len(name), number])
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(6):
        process = started(COMMANDS[name].words(top, out), tmp_path / "errors")
        while sum(psutil.Process(process.pid).cpu_times()[:2]) < BEGUN:
            time.sleep(0.02)
        try:
            code = process.wait(rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            children = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, number)
            code = process.wait(WITHIN)
            _, alive = psutil.wait_procs(children, timeout=ALONE)
            assert not alive
        text = (tmp_path / "errors").read_text()
        assert "Traceback" not in text
        assert "Aborted" not in text
        if code == 0:
            break
        assert code in (1, 128 + number, -number), text
        assert code == -number or any(words in text for words in HOW), text
    finished(COMMANDS[name].words(top, out), tmp_path / "errors")
    COMMANDS[name].same(out, theirs)
