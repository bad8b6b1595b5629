"""The three programs one after the other, as `make demo` runs them, in miniature."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BIN = Path(sys.executable).parent


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([BIN / str(arguments[0]), *map(str, arguments[1:])], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def untimed_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of scores.csv without the seconds: the last case is scored again on a second run."""
    with open(folder / "eval" / "scores.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return [{key: value for key, value in row.items() if not key.endswith("_seconds")} for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated, trained and evaluated once for the tests of this file."""
    root = tmp_path_factory.mktemp("pipeline")
    for name, num, seed in (("shards", 24, 1), ("held-out", 6, 2)):
        run("synthfm-generate", "run", "--out", root / name, "--preset", "demo", "--size", 64, "--num", num,
            "--seed", seed, "--jobs", 2)  # fmt: skip
    run("synthfm-train", "run", "--shards", root / "shards", "--model", "tiny", "--train-encoder",
        "--steps", 2, "--batch", 4, "--set", "image_size=64", "--out", root / "train")  # fmt: skip
    run("synthfm-eval", "run", "--checkpoint", f"mini={root / 'train' / 'model.pth'}", "--dataset",
        root / "held-out", "--prompts", "box,point1", "--out", root / "eval")  # fmt: skip
    return root


def test_scores_hold_every_method_and_prompt_of_the_same_cases(folder: Path) -> None:
    rows = untimed_rows(folder)
    cases: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for row in rows:
        cases.setdefault((row["method"], row["prompt"]), set()).add(
            (row["case"], row["structure"], row["instance"])
        )
    assert set(cases) == {("mini", "box"), ("mini", "point1"), ("ellipse", "box")}
    assert len({frozenset(found) for found in cases.values()}) == 1
    assert all(0 <= float(row["dsc"]) <= 1 for row in rows)
    assert np.mean([float(r["dsc"]) for r in rows if r["method"] == "ellipse"]) > 0.4


def test_tables_and_pictures_are_written(folder: Path) -> None:
    for name in ("table.md", "table.csv", "table.tex"):
        assert "ellipse" in (folder / "eval" / name).read_text()
    assert list((folder / "eval").rglob("*.png"))


def test_checkpoint_is_a_plain_state_dict_without_optimiser(folder: Path) -> None:
    weights = torch.load(folder / "train" / "model.pth", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    assert {key.split(".")[0] for key in weights} >= {"image_encoder", "prompt_encoder", "mask_decoder"}


def test_second_run_of_each_program_repeats_nothing_and_changes_nothing(folder: Path) -> None:
    kept = {path: path.read_bytes() for path in (folder / "shards").iterdir()}
    scores = untimed_rows(folder)
    run("synthfm-generate", "run", "--out", folder / "shards", "--preset", "demo", "--size", 64, "--num", 24,
        "--seed", 1, "--jobs", 1)  # fmt: skip
    run("synthfm-eval", "run", "--checkpoint", f"mini={folder / 'train' / 'model.pth'}", "--dataset",
        folder / "held-out", "--prompts", "box,point1", "--out", folder / "eval")  # fmt: skip
    assert {path: path.read_bytes() for path in (folder / "shards").iterdir()} == kept
    assert untimed_rows(folder) == scores


def test_missing_and_foreign_checkpoints_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("no checkpoint")
    for name in ("no-such.pth", "notes.pth"):
        done = run("synthfm-eval", "run", "--checkpoint", tmp_path / name, "--dataset", folder / "held-out",
                   "--out", tmp_path / "x", code=2)  # fmt: skip
        assert name in done.stderr
        assert not (tmp_path / "x").exists()


def test_generator_imports_no_torch() -> None:
    script = "import sys; from synthfm.generator import cli, folder, scene; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("synthfm-generate run --out x --num 1 --preset nonsense", "shape_only"),
        ("synthfm-generate run --out x --num 1 --set nonsense=1", "nonsense"),
        ("synthfm-generate verify no-such-folder", "no-such-folder"),
        ("synthfm-train run --shards no-such-folder --model tiny --train-encoder --out x", "no-such-folder"),
        ("synthfm-eval run --dataset no-such-set --out x", "no-such-set"),
        ("synthfm-eval run --dataset hc18 --data-root no-such-root --out x", "no-such-root"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    command: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*command.split(), code=2)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert named in errors[0]
    assert not list(tmp_path.iterdir())
