"""The loop: it learns, resumes exactly, splits over processes, and stops as it should."""

from __future__ import annotations

import csv
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins import MixedPrecision
from trainer_data import dying, write_dataset

from data.console import Failed, InputError
from data.shards import Shard
from trainer import loop, models, optim, state
from trainer.config import Augment, Loss, Optim, Prompting, PromptMix, Stream, TrainConfig
from trainer.tiny import TinyEncoder

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
    assert_same_run(tmp_path, finished)


def test_a_killed_run_with_muon_ends_with_the_same_bits(shards, tmp_path, monkeypatch):
    config = changed(CONFIG, optim=Optim(kind="muon", warmup=2, ema=0.9).model_dump())
    run(config, shards, tmp_path / "whole")
    monkeypatch.setattr(loop, "clip", dying(loop.clip, Killed, at=4))
    with pytest.raises(Killed):
        run(config, shards, tmp_path / "killed")
    monkeypatch.undo()
    run(config, shards, tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    state_ = torch.load(tmp_path / "whole" / "state.pt", weights_only=True)["optimizer"]["state"]
    assert any("momentum" in values for values in state_.values())


def assert_same_run(ours, theirs):
    for key in ("model", "ema", "optimizer"):
        assert_equal(*(torch.load(out / "state.pt", weights_only=True)[key] for out in (ours, theirs)))
    assert_equal(models.read_weights(ours / "model.pth"), models.read_weights(theirs / "model.pth"))
    losses = ([row["loss"] for row in rows(out / "log.csv")] for out in (ours, theirs))
    assert next(losses) == next(losses)
    assert rows(ours / "val.csv") == rows(theirs / "val.csv")


def signalling(function, number, at=1):
    """The function, which at its n-th call sends this process a signal once it is done."""
    calls = []

    def wrapped(*args, **options):
        result = function(*args, **options)
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), number)
        return result

    return wrapped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("owner", "name", "at", "step"),
    [
        (torch.optim.AdamW, "step", 3, 3),
        (loop, "draw_plans", 2, 2),
        (loop, "validate", 1, 2),
        (torch, "save", 2, 2),  # the first writes model.pth
    ],
)
def test_an_interruption_waits_for_the_end_of_the_step(
    shards, finished, tmp_path, monkeypatch, owner, name, at, step, number
):
    before = signal.getsignal(number)
    monkeypatch.setattr(owner, name, signalling(getattr(owner, name), number, at))
    with pytest.raises(Failed, match=f"interrupted after step {step}; the same command goes on"):
        run(CONFIG, shards, tmp_path)
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    assert len(rows(tmp_path / "log.csv")) == step
    run(CONFIG, shards, tmp_path)
    assert_same_run(tmp_path, finished)


def test_a_second_ctrl_c_interrupts_at_once(shards, tmp_path, monkeypatch):
    twice = signalling(signalling(loop.validate, signal.SIGINT), signal.SIGINT)
    monkeypatch.setattr(loop, "validate", twice)
    with pytest.raises(KeyboardInterrupt):
        run(CONFIG, shards, tmp_path)
    assert not (tmp_path / "state.pt").exists()


def test_a_signal_after_the_last_step_does_not_fail_the_run(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "validate", signalling(loop.validate, signal.SIGTERM, at=2))
    assert run(CONFIG, shards, tmp_path).is_file()


def test_a_run_outside_the_main_thread(shards, tmp_path):
    thread = threading.Thread(target=run, args=(changed(CONFIG, steps=1), shards, tmp_path))
    thread.start()
    thread.join(120)
    assert (tmp_path / "state.pt").is_file()


def test_half_precision_goes_on_with_its_gradient_scale(tmp_path):
    """Fabric offers fp16 on GPUs only; its plugin and scaler run here too."""

    def parts(scale):
        sam = models.build("tiny", image_size=32)
        plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))
        plugin.scaler.scale(torch.ones(1))  # the scale is set at its first use
        return state.Parts(sam, optim.make_optimizer(sam, CONFIG), None, plugin)

    state.write(tmp_path, {"config": 1}, parts(128.0), state.Position(step=3))
    resumed = parts(2.0)
    assert state.resume(tmp_path, {"config": 1}, resumed).step == 3
    assert resumed.precision.scaler.get_scale() == 128.0


@pytest.mark.parametrize(
    ("number", "devices", "group"),
    [
        (signal.SIGTERM, 1, False),
        (signal.SIGTERM, 1, True),
        (signal.SIGINT, 1, True),
        (signal.SIGTERM, 2, False),
        (signal.SIGTERM, 2, True),
        (signal.SIGINT, 2, True),
    ],
)
def test_a_signal_saves_the_state(shards, tmp_path, number, devices, group):
    """Terminals and `timeout` signal all processes, the loader's too; others only the one they know."""
    command = [sys.executable, "-m", "trainer.cli", "run", "--shards", shards, "--train-encoder"]
    command += ["--out", str(tmp_path), "--set", "image_size=32", "--steps", "100000", "--set", "log_every=1"]
    # A step needs more batches than the workers have read ahead.
    command += ["--accelerator", "cpu", "--devices", str(devices), "--batch", "64", "--set", "accumulate=16"]
    with open(tmp_path / "stderr", "w", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "log.csv").is_file() or len(rows(tmp_path / "log.csv")) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (os.killpg if group else os.kill)(process.pid, number)
        assert process.wait(60) == 1
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = (tmp_path / "stderr").read_text(encoding="utf-8")
    assert text.count("the same command goes on") == 1
    assert "Traceback" not in text
    step = torch.load(tmp_path / "state.pt", weights_only=True)["position"]["step"]
    assert step == len(rows(tmp_path / "log.csv"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: 9 bytes"
        ),
    ],
)
def test_out_of_memory_says_which_setting_to_lower(shards, tmp_path, monkeypatch, error):
    def broken(*_):
        raise error

    monkeypatch.setattr(loop.Step, "forward", broken)
    with pytest.raises(Failed, match=r"out of memory: raise accumulate \(now 1\)"):
        run(CONFIG, shards, tmp_path / "a")
    with pytest.raises(
        Failed, match=r"accumulate \(now 4\) takes a batch of 4 one by one already: lower str"
    ):
        run(changed(CONFIG, accumulate=4), shards, tmp_path / "b")


def test_another_runtime_error_is_not_taken_for_want_of_memory(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Step, "forward", lambda *_: (_ for _ in ()).throw(RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
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
    ours, theirs = (numbers(out / "log.csv") for out in (tmp_path, finished))
    assert ours == pytest.approx(theirs, rel=2e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_encoder_gives_the_same_losses(shards, finished, tmp_path, monkeypatch):
    calls, plain = [], torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: calls.append(module) or plain(module))
    run(changed(CONFIG, compile=True), shards, tmp_path)
    assert [type(module) for module in calls] == [TinyEncoder]
    assert numbers(tmp_path / "log.csv") == pytest.approx(numbers(finished / "log.csv"), rel=2e-4)
    ours, theirs = (models.read_weights(out / "model.pth") for out in (tmp_path, finished))
    assert ours.keys() == theirs.keys()


def test_a_missing_compiler_is_said(shards, tmp_path):
    arguments = [
        "--preset",
        "tiny_cpu",
        "--set",
        "compile=true",
        "--set",
        "image_size=32",
        "--accelerator",
        "cpu",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "trainer.cli", "run", "--shards", shards, *arguments, "--out", str(tmp_path)],
        env=os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert re.search(r"^Error: compile: .*compiler.*; compile=false", result.stderr, re.M)
    assert "Traceback" not in result.stderr


def numbers(path: Path) -> list[float]:
    """What the log tells of each step that does not depend on how the step is split."""
    columns = ("loss", "single", "multi", "iou_error", "iou", "skipped")
    return [float(row[name]) for row in rows(path) for name in columns]


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
        stream=CONFIG.stream.model_dump() | {"val_images": 0},
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
    before, after = models.read_weights(finished / "model.pth"), models.read_weights(tmp_path / "state.pt")
    for key, value in before.items():
        same = torch.equal(value, after[key])
        assert same or key.startswith("mask_decoder"), key
        if key == "mask_decoder.iou_token.weight":
            assert not same


def breaking(monkeypatch, broken, after):
    """After a number of passes the loss of those is NaN whose batch `broken` says so of."""
    forward = loop.Step.forward
    calls = []

    def wrapped(self, batch, plans):
        loss, parts = forward(self, batch, plans)
        calls.append(batch.index.tolist())
        return (loss * float("nan") if len(calls) > after and broken(batch) else loss), parts

    monkeypatch.setattr(loop.Step, "forward", wrapped)
    return calls


def test_loss_that_is_no_number_names_the_sample_and_keeps_the_state(shards, tmp_path, monkeypatch):
    culprits = []

    def broken(batch):
        culprits[:] = culprits or batch.index.tolist()[1:2]
        return culprits[0] in batch.index

    breaking(monkeypatch, broken, after=5)
    with pytest.raises(Failed) as caught:
        run(changed(CONFIG, accumulate=2), shards, tmp_path)
    shard = next(p for p in sorted(Path(shards).glob("*.h5")) if culprits[0] in Shard(p).index)
    assert f"loss is nan at step 2 (sample {culprits[0]} of {shard}); the last good" in str(caught.value)
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    assert content["position"]["step"] == 2
    assert all(torch.isfinite(v).all() for v in content["model"].values())


def test_loss_that_no_sample_alone_breaks_lists_them_all(shards, tmp_path, monkeypatch):
    calls = breaking(monkeypatch, lambda batch: len(batch.index) > 1, after=0)
    with pytest.raises(Failed) as caught:
        run(CONFIG, shards, tmp_path)
    assert f"loss is nan at step 0 (samples {calls[0]}); no state is saved yet: lower" in str(caught.value)


def test_gradient_that_is_no_number_stops_before_the_weights(shards, tmp_path, monkeypatch):
    clip = loop.clip
    calls = []

    def broken(fabric, module, optimizer, largest):
        calls.append(1)
        if len(calls) == 4:
            next(p for p in module.parameters() if p.grad is not None).grad[:] = float("inf")
        return clip(fabric, module, optimizer, largest)

    monkeypatch.setattr(loop, "clip", broken)
    with pytest.raises(Failed, match=r"gradient norm is inf at step 3 \(samples \[.*the last good state is"):
        run(CONFIG, shards, tmp_path)
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    assert content["position"]["step"] == 2
    assert all(torch.isfinite(v).all() for v in models.read_weights(tmp_path / "model.pth").values())


def test_early_stop(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "validate", lambda *_: (loop_scores(), []))
    for _ in range(2):  # the same command again has nothing left to do
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
