"""Killed, signalled and resumed: a run ends with the bits of one that was left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from lightning_fabric.plugins import MixedPrecision

from synthfm.data.console import Failed, InputError
from synthfm.trainer.config import Optim
from synthfm.trainer.model import models, precision
from synthfm.trainer.run import loop, optim, state
from tests.support.ellipses import dying
from tests.support.processes import children_with
from tests.support.runs import CONFIG, assert_same_run, changed, rows, run

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_a_run_killed_before_it_saved_a_state_begins_again(shards, finished, tmp_path, monkeypatch):
    """It has exported a model by then, after its first validation."""
    monkeypatch.setattr(loop.Run, "save", dying(loop.Run.save, Killed, at=1))
    with pytest.raises(Killed):
        run(CONFIG, shards, tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "model.pth").exists()
    assert not (tmp_path / "state.pt").exists()
    with pytest.raises(InputError, match=r"no state\.pt to go on from"):
        run(changed(CONFIG, steps=5), shards, tmp_path)
    run(CONFIG, shards, tmp_path)
    assert_same_run(tmp_path, finished)


def test_what_a_run_reads_may_lie_elsewhere_when_it_goes_on(shards, finished, tmp_path):
    out, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(finished, out)
    shutil.copytree(shards, moved)
    run(CONFIG, f"{moved}/", out)
    assert_same_run(out, finished)


def test_a_run_goes_on_in_the_precision_of_another_machine(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "computes_in_bf16", lambda device: True)
    auto = changed(CONFIG, precision="auto")
    monkeypatch.setattr(loop, "draw_plans", signalling(loop.draw_plans, signal.SIGTERM, at=2))
    with pytest.raises(Failed, match="interrupted after step 2"):
        run(auto, shards, tmp_path)
    monkeypatch.undo()
    assert state.read_config(tmp_path / state.CONFIG)["precision"] == "bf16"
    with pytest.raises(InputError, match=r"other settings \(precision: auto there, 16 now\)"):
        state.resume(tmp_path, _run_of(tmp_path, "16"), None)
    run(changed(CONFIG, precision="32"), shards, tmp_path)
    assert len(rows(tmp_path / "log.csv")) == CONFIG.steps


def _run_of(out, precision):
    """The run that a folder holds, but asked for in another precision."""
    before = state.read_config(out / state.CONFIG)
    return {"config": before["config"] | {"precision": precision}, "inputs": before["inputs"]}


def test_a_run_begun_with_fresh_says_how_to_go_on(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "draw_plans", signalling(loop.draw_plans, signal.SIGTERM, at=2))
    with pytest.raises(Failed, match="the same command, without --fresh, goes on from there"):
        run(CONFIG, shards, tmp_path, fresh=True)


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

    described = {"config": {"steps": 4, "precision": "16"}, "inputs": state.describe(loop.Inputs(()))}
    state.write(tmp_path, described, parts(128.0), state.Position(step=3))
    resumed = parts(2.0)
    assert state.resume(tmp_path, described, resumed).step == 3
    assert resumed.precision.scaler.get_scale() == 128.0


def started(arguments, out):
    """A training run as a process group of its own, once it has logged two steps."""
    command = [sys.executable, "-m", *arguments, "--train-encoder", "--accelerator", "cpu", "--out", str(out)]
    command += ["--set", "image_size=32", "--steps", "100000", "--set", "log_every=1"]
    with open(out / "stderr", "w", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
    deadline = time.monotonic() + 300
    while not (out / "log.csv").is_file() or len(rows(out / "log.csv")) < 2:
        assert process.poll() is None, (out / "stderr").read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def test_no_reader_outlives_a_run_that_is_killed(shards, tmp_path):
    process = started(
        ["synthfm.trainer.cli", "run", "--shards", shards, "--set", "stream.workers=2"], tmp_path
    )
    left = psutil.Process(process.pid).children(recursive=True)
    assert len(left) >= 3  # the server and both workers
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(left, timeout=30)
    for one in alive:
        one.kill()
    assert not alive


def test_a_server_of_readers_that_still_loads_ends_with_the_run(shards, tmp_path):
    """On a busy machine it does for minutes."""
    slow = "import sys, time\nif any('forkserver' in word for word in sys.orig_argv): time.sleep(300)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    command = [sys.executable, "-m", "synthfm.trainer.cli", "run", "--shards", shards, "--train-encoder"]
    command += ["--out", str(tmp_path / "out"), "--set", "image_size=32", "--set", "stream.workers=1"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [*command, "--accelerator", "cpu"], stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path}
    )
    try:
        deadline = time.monotonic() + 300
        while not (servers := children_with(process.pid, "forkserver")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(servers, timeout=5)
    for one in alive:
        one.kill()
    assert not alive


def test_a_reader_that_is_killed_ends_the_run_with_one_line(shards, tmp_path):
    """As the system does where memory runs out."""
    process = started(
        ["synthfm.trainer.cli", "run", "--shards", shards, "--set", "stream.workers=1"], tmp_path
    )
    try:
        started_by_it = psutil.Process(process.pid).children()
        (reader,) = (reader for one in started_by_it for reader in one.children())
        reader.kill()
        assert process.wait(120) == 1
    finally:
        process.kill()
        process.wait()
    text = (tmp_path / "stderr").read_text(encoding="utf-8")
    assert text.count("Error: a worker that reads ahead was ended from outside") == 1, text
    assert "Traceback" not in text


def test_torchrun_says_how_many_processes_there_are(shards, tmp_path):
    arguments = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517", "-m"]
    process = started(
        [*arguments, "synthfm.trainer.cli", "run", "--shards", shards, "--batch", "4"], tmp_path
    )
    try:
        running = psutil.Process(process.pid).children(recursive=True)
        assert sum("synthfm.trainer.cli" in " ".join(one.cmdline()) for one in running) >= 2
        one = [row["images"] for row in rows(tmp_path / "log.csv")]
        assert one[:2] == ["4", "8"]  # one run of two processes, not two runs
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) != 0


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
    # A step needs more batches than the workers have read ahead.
    command = ["--devices", str(devices), "--batch", "64", "--set", "accumulate=16"]
    temporary = Path(tempfile.gettempdir())
    before = set(temporary.glob("pymp-*"))
    process = started(["synthfm.trainer.cli", "run", "--shards", shards, *command], tmp_path)
    try:
        (os.killpg if group else os.kill)(process.pid, number)
        code = process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    deadline = time.monotonic() + 10  # a second process sees within a second that the first has ended
    while (left := set(temporary.glob("pymp-*")) - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left  # of Python's multiprocessing
    text = (tmp_path / "stderr").read_text(encoding="utf-8")
    assert text.count("waiting for the step to end") == 1
    assert "Traceback" not in text
    if code != 1:  # the machine is too busy for a step in the time that there is
        assert code == 128 + number
        assert text.count("not waited any longer; to go on: ") == 1
        return
    assert text.count("the same command goes on") == 1
    step = torch.load(tmp_path / "state.pt", weights_only=True)["position"]["step"]
    assert step == len(rows(tmp_path / "log.csv"))


def test_a_finished_run_goes_on_to_more_steps(shards, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    longer = changed(CONFIG, steps=6)
    run(longer, shards, out)
    assert [row["step"] for row in rows(out / "log.csv")] == list("123456")
    assert rows(out / "log.csv")[:4] == rows(finished / "log.csv")
    rates = [float(row["lr"]) for row in rows(out / "log.csv")]
    assert rates[4] > rates[3]  # the schedule of six steps is not yet as far down as that of four was
    with pytest.raises(InputError, match="steps: 6 there, 5 now"):
        run(changed(CONFIG, steps=5), shards, out)
