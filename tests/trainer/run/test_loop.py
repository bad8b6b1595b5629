"""The loop: it learns, leaves what it promises, and splits over parts and processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from synthfm.data.console import InputError
from synthfm.data.shards import Shard
from synthfm.trainer.config import PromptMix
from synthfm.trainer.model import checkpoints, models
from synthfm.trainer.model.tiny import TinyEncoder
from synthfm.trainer.run import loop, record
from synthfm.trainer.stream import embeddings
from tests.support.ellipses import dying, write_dataset
from tests.support.runs import CONFIG, assert_equal, changed, numbers, rows, run

pytestmark = pytest.mark.usefixtures("one_thread")
NO_VALIDATION = CONFIG.stream.model_dump() | {"val_images": 0}


def test_a_run_leaves_what_it_promises(finished):
    assert models.load(finished / "model.pth")[1] == "tiny"
    assert [int(row["step"]) for row in rows(finished / "log.csv")] == [1, 2, 3, 4]
    settings = {(row["setting"], row["modality"]) for row in rows(finished / "val.csv")}
    assert {"box", "point1", "points3"} <= {setting for setting, _ in settings}
    assert list((finished / "tensorboard").iterdir())
    record = (finished / "config.json").read_text(encoding="utf-8")
    assert '"torch"' in record
    assert '"git"' in record
    assert not list(finished.glob("*.partial"))


def test_a_finished_run_is_not_run_again(shards, finished, monkeypatch):
    names = ("log.csv", "val.csv", "config.json", "model.pth")
    before = [(finished / name).read_bytes() for name in names]
    monkeypatch.setattr(record, "provenance", lambda: {"versions": {"torch": "another"}})
    run(CONFIG, shards, finished)
    assert [(finished / name).read_bytes() for name in names] == before


def test_what_a_part_of_a_run_is_made_with_is_kept(shards, tmp_path, monkeypatch):
    """Begun with one version of PyTorch, gone on with another."""
    config = changed(CONFIG, steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "validate", dying(loop.Run.validate, RuntimeError("killed"), at=2))
        with pytest.raises(RuntimeError):
            run(config, shards, tmp_path)
    first = json.loads((tmp_path / "config.json").read_text())
    monkeypatch.setattr(record, "provenance", lambda: {"versions": {"torch": "another"}})
    run(config, shards, tmp_path)
    after = json.loads((tmp_path / "config.json").read_text())
    assert after == {**first, "resumed": [{"step": 2, "versions": {"torch": "another"}}]}


def test_a_damaged_table_is_named_and_a_torn_last_line_dropped(shards, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    text = (out / "log.csv").read_text()
    (out / "log.csv").write_text(text + "5,20,0.")
    run(CONFIG, shards, out)
    assert (out / "log.csv").read_text() == text
    for damaged, line in (
        (text.replace("\n2,", "\nx,"), "line 3 is damaged"),
        ("step,what\n" + text, "not this run's"),
    ):
        (out / "log.csv").write_text(damaged)
        with pytest.raises(InputError, match=rf"log\.csv: {line}"):
            run(CONFIG, shards, out)
        assert (out / "log.csv").read_text() == damaged


def test_accumulation_gives_the_same_losses(shards, finished, tmp_path):
    run(changed(CONFIG, accumulate=2), shards, tmp_path)
    ours, theirs = (numbers(out / "log.csv") for out in (tmp_path, finished))
    assert ours == pytest.approx(theirs, rel=2e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_encoder_gives_the_same_losses(shards, finished, tmp_path, monkeypatch):
    # What was compiled for other instructions of this processor must not be found.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    calls, plain = [], torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: calls.append(module) or plain(module))
    run(changed(CONFIG, compile=True), shards, tmp_path)
    assert [type(module) for module in calls] == [TinyEncoder]
    assert numbers(tmp_path / "log.csv") == pytest.approx(numbers(finished / "log.csv"), rel=2e-4)
    ours, theirs = (checkpoints.read_weights(out / "model.pth") for out in (tmp_path, finished))
    assert ours.keys() == theirs.keys()


DDP = """
import sys
import torch
torch.set_num_threads(1)
from synthfm.trainer.run import loop
from synthfm.trainer.config import TrainConfig
config = TrainConfig.model_validate_json(sys.argv[1])
loop.train(config, loop.Inputs((sys.argv[2],)), __import__("pathlib").Path(sys.argv[3]), accelerator="cpu",
           devices=int(sys.argv[4]), progress=False)
"""


def test_two_processes_give_the_log_of_one(tmp_path):
    folder = write_dataset(tmp_path / "bad", num=16, size=32)
    path = folder / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:3000])
    config = changed(
        CONFIG,
        steps=3,
        save_every=9,
        validate_every=9,
        augment={},
        prompts={"interactive": 0.0},
        optim={"warmup": 2, "lr": 1e-4},
        stream=NO_VALIDATION,
    )
    script = tmp_path / "ddp.py"
    script.write_text(DDP, encoding="utf-8")
    logs = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = [
            sys.executable,
            str(script),
            config.model_dump_json(),
            str(folder),
            str(out),
            str(processes),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        logs.append(numbers(out / "log.csv"))
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)
    assert logs[0][-1] > 0


def test_it_learns(shards, tmp_path):
    config = changed(
        CONFIG,
        steps=30,
        save_every=100,
        validate_every=100,
        prompts={
            "mix": PromptMix(**dict.fromkeys(PromptMix.model_fields, 0.0) | {"box": 1.0}),
            "interactive": 0.0,
        },
        augment={},
        optim={"lr": 1e-3, "warmup": 5},
    )
    run(config, shards, tmp_path)
    losses = [float(row["single"]) for row in rows(tmp_path / "log.csv")]
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_frozen_parts_stay(shards, finished, tmp_path):
    config = changed(
        CONFIG, freeze=("encoder", "prompt_encoder"), steps=2, image_size=None, optim={"ema": 0.0}
    )
    inputs = loop.Inputs((shards,), checkpoint=str(finished / "model.pth"))
    loop.train(config, inputs, tmp_path, accelerator="cpu", devices=1, progress=False)
    before = checkpoints.read_weights(finished / "model.pth")
    after = checkpoints.read_weights(tmp_path / "state.pt")
    for key, value in before.items():
        same = torch.equal(value, after[key])
        assert same or key.startswith("mask_decoder"), key
        if key == "mask_decoder.iou_token.weight":
            assert not same


def test_the_average_is_validated_on_the_folder_given_and_exported(shards, tmp_path, monkeypatch):
    val = write_dataset(tmp_path / "val", num=2, size=32, seed=5)
    validated, validate = [], loop.validate

    def noted(sam, batches, device, of_thin):
        batches = list(batches)
        weights = {key: value.clone() for key, value in sam.state_dict().items()}
        validated.append((weights, torch.cat([batch.images[:, 0] for batch in batches])))
        return validate(sam, batches, device, of_thin)

    monkeypatch.setattr(loop, "validate", noted)
    inputs = loop.Inputs((shards,), (str(val),))
    out = tmp_path / "out"
    loop.train(changed(CONFIG, steps=2), inputs, out, accelerator="cpu", devices=1, progress=False)
    ((weights, images),) = validated
    content = torch.load(out / "state.pt", weights_only=True)
    exported = checkpoints.read_weights(out / "model.pth")
    assert_equal(weights, content["ema"])
    assert_equal(exported, content["ema"])
    name = "image_encoder.stem.0.weight"
    assert not torch.equal(exported[name], content["model"][name])
    with Shard(val / "shard-00000.h5") as shard:
        assert np.array_equal(images, [sample.image for sample in shard])


def test_a_cached_run_has_the_log_of_one_that_encodes(shards, finished, tmp_path):
    """But for the cache's float16, which the steps after the first carry on."""
    augment = {"flip": 0.0, "rotate90": 0.0}
    config = changed(CONFIG, freeze=("encoder",), augment=augment, steps=3, stream=NO_VALIDATION, log_every=1)
    checkpoint = str(finished / "model.pth")
    embeddings.embed(models.load(checkpoint)[0], [shards], tmp_path / "cache", progress=False)
    logs = []
    for cache in (None, str(tmp_path / "cache")):
        out = tmp_path / str(cache is None)
        inputs = loop.Inputs((shards,), checkpoint=checkpoint, embeddings=cache)
        loop.train(config, inputs, out, accelerator="cpu", devices=1, progress=False)
        logs.append(numbers(out / "log.csv"))
    assert logs[1][:6] == pytest.approx(logs[0][:6], rel=1e-3)
    assert logs[1] == pytest.approx(logs[0], rel=2e-2)


def test_early_stop(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "validate", lambda *_: (loop_scores(), []))
    for _ in range(2):  # the same command again has nothing left to do
        run(changed(CONFIG, validate_every=1, patience=2, steps=5), shards, tmp_path)
        assert len(rows(tmp_path / "log.csv")) == 3


def loop_scores():
    from synthfm.trainer.run.validate import Scores

    return Scores({("box", "CT"): 0.5}, {("box", "CT"): 1}, 0.5)
