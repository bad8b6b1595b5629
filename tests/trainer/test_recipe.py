"""Recipes: what the shipped ones train is fixed; one that was stopped ends with the same bytes."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from synthfm.data.config import merge
from synthfm.trainer.cli import main
from synthfm.trainer.config import load_config
from synthfm.trainer.recipe import config_of, plan, read_recipe

SHIPPED = Path(__file__).parents[2] / "data" / "weights"
SMALL = """
machine: {accelerator: cpu, devices: 1, threads: 1}
stages:
  1:
    about: from nothing
    generate:
      first: {preset: demo, num: 12, size: 64, seed: 1}
    like: tiny_cpu
    settings: &short
      image_size: 64
      steps: 8
      batch: 2
      validate_every: 8
      save_every: 2
      stream: {val_images: 2, min_area: 4}
      optim: {warmup: 2}
  2:
    generate:
      second: {preset: us, num: 12, size: 64, seed: 2, set: {shapes.pieces_share: 0.5}}
    shards: [first, second]
    settings: {optim: {lr: 5.0e-4}}
    mean: [1, 2, 2]
"""


def options(command):
    """A command's options by name, those of ``--set`` as a list."""
    found, words = {"set": []}, iter(command[2:])
    for word in words:
        if word == "--set":
            found["set"].append(next(words))
        else:
            found[word.removeprefix("--").replace("-", "_")] = next(words)
    return found


@pytest.mark.parametrize("name", ["tiny", "tiny_gpu"])
def test_the_shipped_recipes_make_and_train_what_they_did(name):
    """tiny_stages.json holds the first nineteen stages, every key resolved; more may be added."""
    path = SHIPPED / f"{name}.yaml"
    recipe = read_recipe(path)
    tasks = {task.makes.partition("/")[0]: task for task in plan(recipe, path)}
    before = json.loads((Path(__file__).parent / "tiny_stages.json").read_text())
    fixed = {key.split()[1]: value for key, value in before.items() if key.split()[0] == name}
    assert len(fixed) == {"tiny": 42 + 19, "tiny_gpu": 6}[name]
    for made, values in fixed.items():
        found = options(tasks[made].command)
        if not made.startswith("train"):
            numbers = {key: str(values[key]) for key in ("num", "size", "seed")}
            assert found == values | numbers | {"out": made}
            continue
        resolved = load_config("default", found["set"])
        assert resolved == config_of(recipe, tasks[made].stage, path)
        dumped = resolved.model_dump(mode="json")
        assert merge(dumped, values["config"]) == dumped  # a setting that is newer may stand beside them
        for key in ("shards", "init_from", "checkpoint", "embeddings", "accelerator"):
            assert found.get(key) == values.get(key)
        assert (tasks[made].threads == 1) == bool(values["env"])


def test_the_shipped_recipe_averages_as_the_model_card_says():
    path = SHIPPED / "tiny.yaml"
    means = {n: stage.mean for n, stage in read_recipe(path).stages.items() if n <= 19 and stage.mean}
    assert means == {
        14: (12, 14, 14),
        15: (14, 15, 15),
        16: (15, 15, 16),
        17: (16, 16, 17),
        18: (17, 17, 18),
        19: (18, 19, 19),
    }
    exported = [task.command[2:] for task in plan(read_recipe(path), path) if task.makes == "mean14.pth"]
    files = ("train12/model.pth", "train14/model.pth", "train14/model.pth")
    assert exported == [(*files, "--half", "--out", "mean14.pth")]


def start(recipe, out):
    program = Path(sys.executable).with_name("synthfm-train")
    return subprocess.Popen([program, "recipe", recipe, "--out", out], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip


def until(path, process):
    """Wait for a file that `process` writes."""
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def contents(out):
    """All files of a recipe's folder that are the same in every run: logs hold times, states hold paths."""
    names = [*out.glob("*/*.h5"), *out.glob("*/manifest.json"), *out.glob("*/model.pth"), *out.glob("*.pth")]
    return {path.relative_to(out): path.read_bytes() for path in names}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A recipe of two small stages and its folder, run to the end."""
    folder = tmp_path_factory.mktemp("recipe")
    recipe = folder / "small.yaml"
    recipe.write_text(SMALL)
    whole = start(recipe, folder / "out")
    text, _ = whole.communicate()
    assert whole.returncode == 0, text
    return recipe, folder / "out", text


def test_a_recipe_stopped_and_killed_ends_with_the_same_bytes(small, tmp_path):
    recipe, whole, _ = small
    stopped = start(recipe, tmp_path)
    until(tmp_path / "train1" / "state.pt", stopped)
    stopped.send_signal(signal.SIGINT)
    text, _ = stopped.communicate()
    assert stopped.returncode == 130, text
    assert "interrupted in stage 1; the same command goes on from there" in text
    assert not (tmp_path / "second").exists()

    killed = start(recipe, tmp_path)
    until(tmp_path / "train2" / "state.pt", killed)
    for child in psutil.Process(killed.pid).children():
        child.kill()
    text, _ = killed.communicate()
    assert killed.returncode == 1, text
    assert "first/manifest.json: done" in text
    assert "Error: stage 2: synthfm-train run ended with exit code -9" in text

    last = start(recipe, tmp_path)
    text, _ = last.communicate()
    assert last.returncode == 0, text
    assert "train1/model.pth: done" in text
    ours, theirs = contents(tmp_path), contents(whole)
    assert {path.name for path in ours} >= {"small.pth", "mean2.pth", "model.pth", "shard-00000.h5"}
    assert ours == theirs


def test_what_is_done_is_skipped_and_a_change_is_refused(small):
    recipe, out, _ = small
    before = contents(out)
    again = CliRunner().invoke(main, ["recipe", str(recipe), "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert "$" not in again.output
    for old, new, message in (
        ("lr: 5.0e-4", "lr: 6.0e-4", "stage 2 was run otherwise (optim.lr: 0.0005 there, 0.0006 now)"),
        ("seed: 2", "seed: 3", "stage 2 was run otherwise (seed: 2 there, 3 now)"),
        ("steps: 8", "steps: 9", "train1: stage 1 was run otherwise (steps: 8 there, 9 now)"),
    ):
        other = recipe.with_name("other.yaml")
        other.write_text(SMALL.replace(old, new))
        refused = CliRunner().invoke(main, ["recipe", str(other), "--out", str(out)])
        assert refused.exit_code == 2
        assert message in refused.output
    assert contents(out) == before


def test_another_mean_is_taken_anew_and_nothing_else(small):
    recipe, out, _ = small
    kept = contents(out)
    recipe.write_text(SMALL.replace("[1, 2, 2]", "[1, 2]"))
    result = start(recipe, out)
    text, _ = result.communicate()
    recipe.write_text(SMALL)
    assert result.returncode == 0, text
    assert [line for line in text.splitlines() if line.startswith("$")] == [
        "$ synthfm-train export train1/model.pth train2/model.pth --half --out mean2.pth",
        "$ synthfm-train export mean2.pth --half --out small.pth",
    ]
    now = contents(out)
    assert {path.name for path in now if now[path] != kept[path]} == {"mean2.pth", "small.pth"}


def test_an_added_stage_adds_its_commands(tmp_path):
    commands = []
    for text in (SMALL, SMALL + "  3: {shards: [second], settings: {steps: 2}}\n"):
        (tmp_path / "small.yaml").write_text(text)
        arguments = ["recipe", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"), "--dry-run"]
        commands.append(CliRunner().invoke(main, arguments).output.splitlines())
    before, after = commands
    assert after[:-2] == before[:-1]
    assert "--shards second --init-from mean2.pth --out train3" in after[-2]
    assert after[-1] == "synthfm-train export train3/model.pth --half --out small.pth"
    assert not (tmp_path / "out").exists()


def test_a_recipe_may_begin_in_the_middle(tmp_path):
    arguments = ["recipe", str(SHIPPED / "tiny.yaml"), "--out", str(tmp_path / "out"), "--dry-run"]
    result = CliRunner().invoke(main, [*arguments, "--start", "12", "--init-from", "tiny"])
    assert result.exit_code == 0, result.output
    trained = [shlex.split(line) for line in result.output.splitlines() if "synthfm-train run" in line]
    assert trained[0][trained[0].index("--init-from") + 1] == str(SHIPPED / "tiny.pth")
    made = [line.split()[3] for line in result.output.splitlines() if "synthfm-generate" in line]
    assert made[:5] == ["us256", "full256d", "full256c", "mild256b", "demo256"]  # of earlier stages
    for more, message in (
        (["--start", "12"], "--start 12 needs --init-from"),
        (["--start", "99"], "has the stages 1 to"),
        (["--start", "14", "--init-from", "tiny"], "stage 14: the mean needs stage 12"),
        (["--start", "14", "--init-from", "nowhere.pth"], "nowhere.pth: no such checkpoint"),
    ):
        result = CliRunner().invoke(main, [*arguments, *more])
        assert result.exit_code == 2
        assert message in result.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  2:\n", "  3:\n", "stages are numbered 1, 2, 3 and so on; found 1, 3"),
        ("[first, second]", "[first, third]", "stage 2: no stage up to it generates 'third'"),
        ("second:", "first:", "stage 2: stage 1 generates first already"),
        ("second:", "train1:", "stage 2: train1 is the name of what the stage itself leaves"),
        ("[1, 2, 2]", "[1, 3]", "stage 2: mean names this stage and earlier ones"),
        ("[1, 2, 2]", "[1]", "stage 2: mean names this stage and earlier ones"),
        ("mean:", "like: 2\n    mean:", "stage 2: like: 2 is no earlier stage"),
        ("mean:", "like: none\n    mean:", "unknown preset 'none'"),
        ("steps: 8", "stepps: 8", "stage 1: unknown key 'stepps'; did you mean 'steps'?"),
        ("num: 12", "num: 0", "greater than or equal to 1"),
        ("mean:", "meen:", "did you mean 'mean'?"),
    ],
)
def test_a_wrong_recipe_is_one_line_and_leaves_nothing(tmp_path, old, new, message):
    recipe = tmp_path / "wrong.yaml"
    assert old in SMALL
    recipe.write_text(SMALL.replace(old, new))
    result = CliRunner().invoke(main, ["recipe", str(recipe), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()
