"""The loop: it learns, resumes exactly, splits over processes, and stops as it should."""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins import MixedPrecision
from trainer_data import write_dataset

from data.console import Failed, InputError
from trainer import loop, models, state
from trainer.config import Augment, Loss, Optim, Prompting, PromptMix, Stream, TrainConfig

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


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors: threads cost more than they bring, above all beside other test processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return str(write_dataset(tmp_path_factory.mktemp("loop") / "a", num=16, size=32))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def run(config, shards, out, **options):
    options = {"accelerator": "cpu", "devices": 1, "progress": False} | options
    return loop.train(config, loop.Inputs((shards,)), out, **options)


def changed(config, **keys):
    return TrainConfig.model_validate(config.model_dump() | keys)


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "a"
    run(CONFIG, shards, out)
    return out


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


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [1, 3])
def test_a_killed_run_ends_with_the_same_bits(shards, finished, tmp_path, monkeypatch, at):
    draw = loop.draw_plans

    def dies(config, seed, step):
        if step == at:
            raise Killed
        return draw(config, seed, step)

    monkeypatch.setattr(loop, "draw_plans", dies)
    with pytest.raises(Killed):
        run(CONFIG, shards, tmp_path)
    monkeypatch.undo()
    run(CONFIG, shards, tmp_path)
    for key in ("model", "ema", "optimizer"):
        ours, theirs = (torch.load(out / "state.pt", weights_only=True)[key] for out in (tmp_path, finished))
        assert_equal(ours, theirs)
    assert_equal(models.read_weights(tmp_path / "model.pth"), models.read_weights(finished / "model.pth"))
    ours, theirs = rows(tmp_path / "log.csv"), rows(finished / "log.csv")
    assert [row["loss"] for row in ours] == [row["loss"] for row in theirs]
    assert rows(tmp_path / "val.csv") == rows(finished / "val.csv")


def test_half_precision_goes_on_with_its_gradient_scale(tmp_path):
    """Fabric offers fp16 on GPUs only; its plugin and scaler run here too."""

    def parts(scale):
        sam = models.build("tiny", image_size=32)
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))
        plugin.scaler.scale(torch.ones(1))  # the scale is set at its first use
        return state.Parts(sam, loop.make_optimizer(sam, CONFIG.optim), None, plugin)

    state.write(tmp_path, {"config": 1}, parts(128.0), state.Position(step=3))
    resumed = parts(2.0)
    assert state.resume(tmp_path, {"config": 1}, resumed).step == 3
    assert resumed.precision.scaler.get_scale() == 128.0


def test_sigterm_saves_the_state(shards, tmp_path):
    command = [sys.executable, "-m", "trainer.cli", "run", "--shards", shards, "--train-encoder"]
    command += ["--out", str(tmp_path), "--set", "image_size=32", "--steps", "100000", "--set", "log_every=1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "log.csv").is_file() or len(rows(tmp_path / "log.csv")) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the same command goes on" in stderr
    assert torch.load(tmp_path / "state.pt", weights_only=True)["position"]["step"] >= 2


def test_out_of_memory_says_which_setting_to_lower(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Step, "forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(Failed, match=r"out of memory: raise accumulate \(now 1\)"):
        run(CONFIG, shards, tmp_path)


def assert_equal(ours, theirs):
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


def test_a_finished_run_is_not_run_again(shards, finished):
    before = (finished / "log.csv").read_bytes()
    run(CONFIG, shards, finished)
    assert (finished / "log.csv").read_bytes() == before


def test_another_config_in_the_same_folder_is_refused(shards, finished):
    with pytest.raises(InputError, match=r"other settings \(batch: 4 there, 2 now\)"):
        run(changed(CONFIG, batch=2), shards, finished)


def test_accumulation_gives_the_same_losses(shards, finished, tmp_path):
    run(changed(CONFIG, accumulate=2), shards, tmp_path)
    for ours, theirs in zip(rows(tmp_path / "log.csv"), rows(finished / "log.csv"), strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=2e-4)


DDP = """
import sys
import torch
torch.set_num_threads(1)
from trainer import loop
from trainer.config import TrainConfig
config = TrainConfig.model_validate_json(sys.argv[1])
loop.train(config, loop.Inputs((sys.argv[2],)), __import__("pathlib").Path(sys.argv[3]), accelerator="cpu",
           devices=int(sys.argv[4]), progress=False)
"""


def test_two_processes_give_the_losses_of_one(shards, tmp_path):
    config = changed(
        CONFIG,
        steps=3,
        save_every=9,
        validate_every=9,
        augment={},
        prompts={"interactive": 0.0},
        optim={"warmup": 2, "lr": 1e-4},
    )
    script = tmp_path / "ddp.py"
    script.write_text(DDP, encoding="utf-8")
    losses = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = [sys.executable, str(script), config.model_dump_json(), shards, str(out), str(processes)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        losses.append([float(row["loss"]) for row in rows(out / "log.csv")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


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
    before, after = models.read_weights(finished / "model.pth"), models.read_weights(tmp_path / "state.pt")
    for key, value in before.items():
        same = torch.equal(value, after[key])
        assert same or key.startswith("mask_decoder"), key
        if key == "mask_decoder.iou_token.weight":
            assert not same


def test_loss_that_is_no_number_stops_and_keeps_the_state(shards, tmp_path, monkeypatch):
    forward = loop.Step.forward
    calls = []

    def broken(self, batch, plans):
        loss, parts = forward(self, batch, plans)
        calls.append(1)
        return (loss * float("nan") if len(calls) > 2 else loss), parts

    monkeypatch.setattr(loop.Step, "forward", broken)
    with pytest.raises(Failed, match=r"loss is nan at step 2 \(samples \["):
        run(CONFIG, shards, tmp_path)
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    assert content["position"]["step"] == 2
    assert all(torch.isfinite(v).all() for v in content["model"].values())


def test_early_stop(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "validate", lambda *_: (loop_scores(), []))
    run(changed(CONFIG, validate_every=1, patience=2, steps=5), shards, tmp_path)
    assert len(rows(tmp_path / "log.csv")) == 3


def loop_scores():
    from trainer.validate import Scores

    return Scores({("box", "CT"): 0.5}, {("box", "CT"): 1}, 0.5)


def test_bad_shard_is_counted_or_stops_a_strict_run(tmp_path):
    folder = write_dataset(tmp_path / "bad", num=16, size=32)
    path = folder / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:3000])
    config = changed(CONFIG, steps=2, stream=Stream(objects_per_image=2, val_images=0))
    run(config, str(folder), tmp_path / "a")
    assert int(rows(tmp_path / "a" / "log.csv")[-1]["skipped"]) > 0
    with pytest.raises(InputError, match=r"shard-00001.*--strict"):
        run(config, str(folder), tmp_path / "b", strict=True)


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from trainer import models
sam = models.build("tiny", image_size=32)
path = Path(sys.argv[1])
models.export(sam, path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    models.export(sam, path)
except OSError as error:
    print("refused:", error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_a_disk_that_fills_leaves_the_old_checkpoint_whole(tmp_path):
    path = tmp_path / "model.pth"
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=120
    )
    assert "refused:" in result.stdout, result.stderr
    assert models.load(path)[1] == "tiny"
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


def test_frozen_encoder_without_weights_is_an_error(shards, tmp_path):
    with pytest.raises(InputError, match="frozen encoder needs its weights"):
        run(changed(CONFIG, freeze=("encoder",)), shards, tmp_path)
    assert not (tmp_path / state.STATE).exists()
