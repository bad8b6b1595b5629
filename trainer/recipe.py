"""A recipe: numbered stages of generating, training and averaging, run one after the other and resumed.

The stages run the installed programs in the recipe's folder, so what they print can be typed there, and each
goes on where it was killed. What is done is recorded with what it was done from.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import click
import pydantic
import yaml
from pydantic import Field

from synthfm.data.config import Config, differences, merge, preset_values, read_yaml, validate
from synthfm.data.console import Failed, InputError, Interrupted, waiting_for
from synthfm.data.files import locked, sha256, write_atomically
from synthfm.data.folder import MANIFEST
from synthfm.data.guard import opening, read_json
from synthfm.trainer.config import PRESETS, TrainConfig, load_config

DONE = "recipe.json"
"""What is done in a recipe's folder: for each file made, what it was made from."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

FolderName = Annotated[str, Field(pattern=r"^\w[\w-]*$")]


class Images(Config):
    """A dataset folder: the options of ``synthfm-generate run``."""

    num: int = Field(ge=1)
    preset: str = "full"
    size: int | None = None
    seed: int = 0
    set: dict[str, Any] = Field(default={})
    """Settings that differ from the preset's, as ``key.sub: value``."""


class Stage(Config):
    """One training, the images made for it, and what becomes of its weights."""

    about: str = ""
    """What the stage is for, in a line."""
    generate: dict[FolderName, Images] = Field(default={})
    shards: tuple[str, ...] = ()
    """Names of dataset folders, of earlier stages too; those of `generate` where none are given."""
    like: int | str | None = None
    """Whose settings these change: an earlier stage's or a preset's; the stage before's if not given."""
    settings: dict[str, Any] = Field(default={})
    """Keys of :class:`synthfm.trainer.config.TrainConfig` that differ."""
    embed: bool = False
    """Train from an embedding cache of the encoder before, which must be frozen."""
    mean: tuple[int, ...] = ()
    """The stage's result is the mean of these stages' weights: of this one what was trained, of earlier ones
    their results; one named twice counts double. Without it the result is what was trained."""


class Machine(Config):
    """How a training runs here; it is no part of what a stage is known by."""

    accelerator: str | None = None
    devices: int | None = None
    threads: int | None = Field(default=None, ge=1)
    """Threads of each training process."""


class Recipe(Config):
    """Stages by number, from 1 on; each training goes on from the result of the stage before."""

    machine: Machine = Machine()
    stages: dict[int, Stage] = Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if list(self.stages) != list(range(1, len(self.stages) + 1)):
            found = ", ".join(map(str, self.stages))
            raise ValueError(f"stages are numbered 1, 2, 3 and so on; found {found}")
        made: dict[str, int] = {}
        for number, stage in self.stages.items():
            for name in stage.generate:
                if name in made:
                    raise ValueError(f"stage {number}: stage {made[name]} generates {name} already")
                if re.fullmatch(r"(train|mean|embeddings)\d+", name):
                    raise ValueError(f"stage {number}: {name} is the name of what the stage itself leaves")
                made[name] = number
            for name in stage.shards:
                if name not in made:
                    raise ValueError(f"stage {number}: no stage up to it generates {name!r}")
            if not (stage.shards or stage.generate):
                raise ValueError(f"stage {number}: neither generate nor shards says what it is trained on")
            if isinstance(stage.like, int) and not 1 <= stage.like < number:
                raise ValueError(f"stage {number}: like: {stage.like} is no earlier stage")
            if stage.mean and (number not in stage.mean or not all(1 <= k <= number for k in stage.mean)):
                raise ValueError(f"stage {number}: mean names this stage and earlier ones")
        return self

    def images(self, name: str) -> Images:
        """How the dataset folder of a name is made."""
        return next(stage.generate[name] for stage in self.stages.values() if name in stage.generate)


@dataclass(frozen=True)
class Task:
    """One command of a stage, in the recipe's folder.

    Attributes
    ----------
    command
        What is run, program first.
    settings
        What the result is known by, beside what is read.
    reads
        Files whose bytes the result depends on.
    makes
        The file or folder that is there once it is done.
    quick
        It takes seconds: done again where anything has changed, instead of an error.
    threads
        Threads that the program may use; None leaves it to the program.
    """

    stage: int
    command: tuple[str, ...]
    settings: dict[str, Any]
    reads: tuple[str, ...]
    makes: str
    quick: bool = False
    threads: int | None = None

    def __str__(self) -> str:
        threads = () if self.threads is None else (f"OMP_NUM_THREADS={self.threads}",)
        return " ".join((*threads, shlex.join(self.command)))


def read_recipe(path: Path) -> Recipe:
    """A recipe from a YAML file, all of its settings checked; :class:`InputError` says what is wrong."""
    recipe = validate(Recipe, read_yaml(path), source=str(path))
    for number in recipe.stages:
        config_of(recipe, number, path)
    return recipe


def values_of(recipe: Recipe, number: int, folder: Path) -> dict[str, Any]:
    """The settings that stage `number` and what it is like say; `folder` is where named files lie."""
    stage = recipe.stages[number]
    like = stage.like if stage.like is not None else number - 1 or "default"
    if isinstance(like, int):
        return merge(values_of(recipe, like, folder), stage.settings)
    return merge(preset_values(PRESETS, _named(like, folder)), stage.settings)


def config_of(recipe: Recipe, number: int, path: Path) -> TrainConfig:
    """The whole config of a stage's training."""
    return validate(TrainConfig, values_of(recipe, number, path.parent), source=f"{path}: stage {number}")


def plan(recipe: Recipe, path: Path, start: int = 1, weights: Path | None = None) -> list[Task]:
    """All commands of a recipe in order, from stage `start` on; `weights` is the result of the one before."""
    results: dict[int, str] = {} if weights is None else {start - 1: str(weights)}
    tasks: list[Task] = []
    made: set[str] = set()
    for number, stage in recipe.stages.items():
        if number < start:
            continue
        shards = stage.shards or tuple(stage.generate)
        for name in (*stage.generate, *shards):
            if name not in made:
                made.add(name)
                tasks.append(_generating(number, name, recipe.images(name), path.parent))
        tasks += _training(recipe, number, shards, results.get(number - 1), path)
        trained = results[number] = tasks[-1].makes
        if stage.mean:
            lacking = [k for k in stage.mean if k not in results]
            if lacking:
                raise InputError(f"{path}: stage {number}: the mean needs stage {lacking[0]}, before --start")
            files = [trained if k == number else results[k] for k in stage.mean]
            results[number] = f"mean{number}.pth"
            tasks.append(_exporting(number, files, results[number]))
    last = max(results)
    return [*tasks, _exporting(last, [results[last]], f"{path.stem}.pth")]


def _generating(number: int, name: str, images: Images, folder: Path) -> Task:
    options: dict[str, Any] = {"preset": _named(images.preset, folder), "num": images.num}
    options |= {} if images.size is None else {"size": images.size}
    options |= {"seed": images.seed}
    command = ("synthfm-generate", "run", "--out", name, *_options(options), *_sets(images.set))
    return Task(number, command, options | {"set": images.set}, (), f"{name}/{MANIFEST}")


def _training(
    recipe: Recipe, number: int, shards: tuple[str, ...], before: str | None, path: Path
) -> Iterator[Task]:
    stage, machine = recipe.stages[number], recipe.machine
    reads = tuple(f"{name}/{MANIFEST}" for name in shards) + ((before,) if before else ())
    given: dict[str, Any] = {"shards": ",".join(shards)}
    start = {} if before is None else {"checkpoint" if stage.embed else "init-from": before}
    if stage.embed:
        if before is None:
            raise InputError(f"{path}: stage {number}: embed needs the weights of a stage before")
        cache = f"embeddings{number}"
        command = ("synthfm-train", "embed", *_options(given | start | {"out": cache}))
        yield Task(number, command, {}, reads, cache)
        start |= {"embeddings": cache}
    out = f"train{number}"
    config = config_of(recipe, number, path).model_dump(mode="json")
    changed = _changes(load_config("default").model_dump(mode="json"), config)
    options = machine.model_dump(include={"accelerator", "devices"}, exclude_none=True)
    command = (
        "synthfm-train", "run", *_options(given | start | {"out": out} | options), *_sets(changed)
    )  # fmt: skip
    settings = {"settings": values_of(recipe, number, path.parent), "embed": stage.embed}
    yield Task(number, command, settings, reads, f"{out}/model.pth", threads=machine.threads)


def _exporting(number: int, files: list[str], out: str) -> Task:
    command = ("synthfm-train", "export", *files, "--half", "--out", out)
    return Task(number, command, {"of": files}, tuple(dict.fromkeys(files)), out, quick=True)


def _named(name: str, folder: Path) -> str:
    """A preset's name as it is; a file relative to the recipe's folder by its whole path."""
    return str((folder / name).resolve()) if name.endswith((".yaml", ".yml")) else name


def _options(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield from (f"--{name}", str(value))


def _sets(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
        yield from ("--set", f"{key}={text.removesuffix(chr(10)).removesuffix('...').strip()}")


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What of `new` differs from `old`, nested alike."""
    changed: dict[str, Any] = {}
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), Mapping):
            inner = _changes(old[key], value)
            changed |= {key: inner} if inner else {}
        elif value != old.get(key):
            changed[key] = value
    return changed


def run_recipe(
    path: Path, out: Path, *, start: int = 1, weights: Path | None = None, dry_run: bool = False
) -> Path:
    """Run a recipe in `out`, or go on with it there; returns the file of its final weights.

    It begins with stage `start`, from `weights` where they are given. With `dry_run` the commands are printed
    and nothing is run or written.

    Raises
    ------
    InputError
        If the recipe is wrong, or what is done in `out` was done by another one.
    Failed
        If a command fails, with its exit code; by Ctrl-C :class:`synthfm.data.console.Interrupted`.
    """
    recipe = read_recipe(path)
    if not 1 <= start <= len(recipe.stages):
        raise InputError(f"--start {start}: {path} has the stages 1 to {len(recipe.stages)}")
    if start > 1 and weights is None:
        raise InputError(f"--start {start} needs --init-from: the weights after stage {start - 1}")
    tasks = plan(recipe, path, start, weights and weights.resolve())
    if dry_run:
        click.echo(f"cd {shlex.quote(str(out))}")
        for task in tasks:
            click.echo(str(task))
        return out / tasks[-1].makes
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "synthfm-train recipe"):
        done = _read_done(out / DONE)
        said = 0
        for task in tasks:
            if task.stage > said:
                said = task.stage
                about = recipe.stages[said].about
                click.echo(f"Stage {said} of {len(recipe.stages)}{': ' * bool(about)}{about}")
            if _is_done(task, out, done):
                click.echo(f"{task.makes}: done")
                continue
            click.echo(f"$ {task}")
            if done.pop(task.makes, None) is not None:
                _write_done(out / DONE, done)
            _call(task, out)
            done[task.makes] = {"settings": task.settings, "reads": _digests(task.reads, out)}
            _write_done(out / DONE, done)
    return out / tasks[-1].makes


def _read_done(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    foreign = "the record of a recipe; choose another --out"
    content = read_json(path, foreign)
    with opening(path, f"not {foreign}"):
        keys = ("settings", "reads")
        return {str(made): {key: facts[key] for key in keys} for made, facts in content.items()}


def _write_done(path: Path, done: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(done, indent=1, default=str) + "\n")


def _digests(files: Iterable[str], out: Path) -> dict[str, str]:
    return {name: sha256(out / name)[:16] for name in files}


def _is_done(task: Task, out: Path, done: Mapping[str, Any]) -> bool:
    """Whether a task was done as it stands now; an error where it was done otherwise and takes long."""
    if task.makes not in done or not (out / task.makes).exists():
        return False
    before = done[task.makes]
    now = {"settings": task.settings, "reads": _digests(task.reads, out)}
    change = differences(before, now)
    if change and not task.quick:
        folder = out / task.makes.partition("/")[0]
        raise InputError(
            f"{folder}: stage {task.stage} was run otherwise ({change.replace('settings.', '')}); choose "
            f"another --out, or remove {folder} to run it again"
        )
    return not change


def _call(task: Task, out: Path) -> None:
    """Run a task's command in `out`; SIGINT, SIGTERM and SIGHUP are passed on to it and end the recipe."""
    program = Path(sys.executable).with_name(task.command[0])
    words = [str(program) if program.exists() else task.command[0], *task.command[1:]]
    threads = {} if task.threads is None else {"OMP_NUM_THREADS": str(task.threads)}
    asked: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, _: Any) -> None:
        asked.append(number)
        if child is not None:
            _signal(child, number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        # A session of its own: Ctrl-C would reach it twice, from the terminal and from here.
        child = subprocess.Popen(words, cwd=out, env=os.environ | threads, start_new_session=True)
        for number in asked:
            _signal(child, number)
        with waiting_for("the stage to end, and its state to be saved", longer=1.0):
            code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        stopped = Interrupted(f"interrupted in stage {task.stage}; the same command goes on from there")
        stopped.exit_code = 128 + asked[0]
        raise stopped
    if code:
        failed = Failed(f"stage {task.stage}: {' '.join(task.command[:2])} ended with exit code {code}")
        failed.exit_code = code if code > 0 else 1
        raise failed


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    """To all processes of the command, as the terminal would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
