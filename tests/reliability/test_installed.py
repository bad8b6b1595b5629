"""The wheel in an environment that holds nothing else, and each of its install options."""

from __future__ import annotations

import os
import re
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import wheels

pytestmark = pytest.mark.long

EXTRAS = {
    "dask": "dask, distributed",
    "onnx": "onnx, onnxruntime, onnxscript",
    "serve": "nnInteractive.inference.remote",
    "docs": "material, mkdocs, mkdocs_click, mkdocstrings_handlers.python",
    "train": "lightning_fabric, monai, safetensors, segment_anything, tensorboard, torch, torchvision",
    "eval": "cv2, flask, highdicom, imagecodecs, jinja2, matplotlib, nibabel, pandas, SimpleITK, slicerio",
    "mobile": "mobile_sam.modeling, timm",
    "sam2": "sam2.build_sam",
    "bench": "cornucopia, medpy.metric, surface_distance, torchio, transformers, webdataset",
    "test": "hypothesis, importlinter, playwright, psutil, pytest, xdist",
}
"""What each brings, in the order in which they are added to one environment; ``dev`` is most of them."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.build(wheels.ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program of a new environment, in a folder that is no checkout."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder / "env", with_pip=True)
    unset = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}

    def command(program: str, *words: object) -> subprocess.CompletedProcess[str]:
        path = folder / "env" / "bin" / program
        return subprocess.run(
            [str(path), *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
        )

    return command


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, (done.args, done.stdout[-2000:], done.stderr[-4000:])
    return done.stdout


def test_the_generator_works_without_torch(wheel: Path, run: Run) -> None:
    succeeds(run("pip", "install", "--quiet", wheel))
    assert "No module named 'torch'" in run("python", "-c", "import torch").stderr
    assert "6 samples" in succeeds(
        run("synthfm-generate", "run", "--out", "shards", "--num", 6, "--size", 128, "--jobs", 1)
    )
    assert "no damage" in succeeds(run("synthfm-generate", "verify", "shards"))
    succeeds(run("synthfm-generate", "preview", "shards", "--out", "sheet.png"))
    for program, words in (
        ("synthfm-train", ["--shards", "shards"]),
        ("synthfm-eval", ["--dataset", "shards"]),
    ):
        done = run(program, "run", *words, "--out", "out")
        extra = program.removeprefix("synthfm-")
        assert done.returncode == 2
        assert f"pip install '.[{extra}]' in the clone" in done.stderr, done.stderr


def test_all_install_options_are_tried() -> None:
    assert {*EXTRAS, "dev"} == set(wheels.metadata()["options.extras_require"])


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_install_option_brings_what_it_promises(extra: str, wheel: Path, run: Run) -> None:
    """In the order above, after the test of the generator, whose environment it is."""
    succeeds(run("pip", "install", "--quiet", f"{wheel}[{extra}]"))
    succeeds(run("python", "-c", f"import {EXTRAS[extra]}"))
    succeeds(run("pip", "check"))
    if extra == "eval":
        words = ["--checkpoint", "tiny", "--dataset", "shards", "--prompts", "box", "--out", "scores"]
        assert re.search(r"tiny", succeeds(run("synthfm-eval", "run", *words)))
    if extra == "train":
        assert "embed" in succeeds(run("synthfm-train", "--help"))
