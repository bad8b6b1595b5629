"""A run of the training loop of a second or two, and what to compare of two."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from click.testing import CliRunner

from synthfm.trainer.cli import main
from synthfm.trainer.config import Augment, Loss, Optim, Prompting, Stream, TrainConfig
from synthfm.trainer.model import checkpoints
from synthfm.trainer.run import loop

CONFIG = TrainConfig(
    model="tiny",
    image_size=32,
    freeze=(),
    steps=4,
    batch=4,
    precision="32",
    log_every=1,
    validate_every=2,
    save_every=2,
    stream=Stream(objects_per_image=2, val_images=3, val_share=0.2),
    prompts=Prompting(interactive=0.5, rounds_max=2),
    augment=Augment(affine=0.3, gamma=0.3, noise=0.3),
    optim=Optim(warmup=2, ema=0.9),
    loss=Loss(kind="dice_ce", scale=2),
)


def command(*arguments: object):
    """What `synthfm-train` does with these words."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file, a dictionary for each row."""
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def run(config, shards, out, **options):
    """Train in this process; `options` are those of `loop.train`."""
    options = {"accelerator": "cpu", "devices": 1, "progress": False} | options
    return loop.train(config, loop.Inputs((shards,)), out, **options)


def changed(config, **keys):
    """The config with other values, checked."""
    return TrainConfig.model_validate(config.model_dump() | keys)


def numbers(path: Path) -> list[float]:
    """What the log tells of each step that does not depend on how the step is split."""
    columns = ("loss", "single", "multi", "iou_error", "iou", "skipped")
    return [float(row[name]) for row in rows(path) for name in columns]


def assert_same_run(ours, theirs):
    """Two folders of runs hold the same weights, states, losses and scores, bit for bit."""
    for key in ("model", "ema", "optimizer"):
        assert_equal(*(torch.load(out / "state.pt", weights_only=True)[key] for out in (ours, theirs)))
    assert_equal(checkpoints.read_weights(ours / "model.pth"), checkpoints.read_weights(theirs / "model.pth"))
    losses = ([row["loss"] for row in rows(out / "log.csv")] for out in (ours, theirs))
    assert next(losses) == next(losses)
    assert rows(ours / "val.csv") == rows(theirs / "val.csv")


def assert_equal(ours, theirs):
    """Two nests of dictionaries, lists and tensors are the same, bit for bit."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_equal(ours[key], theirs[key])
    elif isinstance(ours, list):
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b)
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    else:
        assert ours == theirs
