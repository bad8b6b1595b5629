"""What stops a run: it says why, and what there was stays whole."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from synthfm.data.console import Failed, InputError
from synthfm.data.files import locked
from synthfm.data.shards import Shard
from synthfm.trainer.cli import main
from synthfm.trainer.config import Stream
from synthfm.trainer.model import checkpoints, models
from synthfm.trainer.run import inputs, loop, state
from synthfm.trainer.system import processes
from tests.support.ellipses import write_dataset
from tests.support.runs import CONFIG, changed, rows, run

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_another_config_in_the_same_folder_is_refused(shards, finished):
    with pytest.raises(InputError, match=r"other settings \(batch: 4 there, 2 now\)"):
        run(changed(CONFIG, batch=2), shards, finished)


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
        [
            sys.executable,
            "-m",
            "synthfm.trainer.cli",
            "run",
            "--shards",
            shards,
            *arguments,
            "--out",
            str(tmp_path),
        ],
        env=os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert re.search(r"^Error: compile: .*compiler.*; compile=false", result.stderr, re.M)
    assert "Traceback" not in result.stderr


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
    assert all(torch.isfinite(v).all() for v in checkpoints.read_weights(tmp_path / "model.pth").values())


def test_half_precision_without_a_gpu_is_refused(shards, tmp_path):
    with pytest.raises(InputError, match="precision: 16 needs a GPU; on a CPU take bf16 or 32"):
        run(changed(CONFIG, precision="16"), shards, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--devices", "0"], "--devices 0: a number from 1, or auto"),
        (["--devices", "-1"], "--devices -1: a number from 1, or auto"),
        (["--devices", "foo"], "--devices foo: a number from 1, or auto"),
        (["--accelerator", "foo"], "--accelerator foo: choose auto, cpu or cuda"),
        pytest.param(
            ["--accelerator", "cuda"],
            "--accelerator cuda: PyTorch finds no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_devices_that_are_not_there_are_refused(shards, tmp_path, options, wanted):
    arguments = ["run", "--shards", shards, "--train-encoder", "--out", str(tmp_path), *options]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stderr.startswith(f"Error: {wanted}")) == (2, True), result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("infinite", [2, 1000])
def test_gradients_that_fp16_cannot_hold_are_skipped_for_a_while(shards, tmp_path, monkeypatch, infinite):
    """Fabric offers fp16 on GPUs only; its plugin and scaler run here too."""
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    monkeypatch.setattr(
        loop, "make_fabric", lambda *_: Fabric(accelerator="cpu", devices=1, plugins=[plugin])
    )
    prepare, calls = inputs.prepare, []

    def overflowing(sam, config):
        def scaled(grad):
            calls.append(1)
            return grad * float("inf") if len(calls) <= infinite else grad

        prepare(sam, config).mask_decoder.iou_token.weight.register_hook(scaled)
        return sam

    monkeypatch.setattr(inputs, "prepare", overflowing)
    monkeypatch.setattr(loop, "OVERFLOWS", 2)
    config = changed(
        CONFIG, precision="16", steps=3, batch=1, stream={"objects_per_image": 2, "val_images": 0}
    )
    if infinite > config.steps:
        with pytest.raises(Failed, match=r"gradient norm is (inf|nan) at step 2 .*precision=32"):
            run(config, shards, tmp_path)
        return
    run(config, shards, tmp_path)
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    assert content["precision"]["scale"] == 65536 / 2**infinite
    assert all(torch.isfinite(v).all() for v in content["model"].values())


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
from synthfm.trainer.model import models
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


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_starting_over_discards_the_run_and_nothing_else(shards, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "own.txt").write_text("mine")
    run(changed(CONFIG, steps=2), shards, out, fresh=True)
    assert len(rows(out / "log.csv")) == 2
    assert (out / "own.txt").read_text() == "mine"


def test_a_wrong_input_discards_no_run(shards, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before = contents(out)
    with pytest.raises(InputError, match="no such folder"):
        run(CONFIG, str(tmp_path / "absent"), out, fresh=True)
    unusable = changed(CONFIG, stream=CONFIG.stream.model_copy(update={"min_area": 10**6}))
    with pytest.raises(InputError, match="samples in a row cannot be used"):
        run(unusable, shards, out, fresh=True)
    assert contents(out) == before


@pytest.mark.parametrize(
    ("fresh", "message"), [(True, "no run to start over"), (False, "no state.pt to go on")]
)
def test_a_model_that_is_no_runs_is_kept(shards, tmp_path, fresh, message):
    (tmp_path / "model.pth").write_text("precious")
    (tmp_path / "config.json").write_text('{"my": "own"}')
    before = contents(tmp_path)
    with pytest.raises(InputError, match=message):
        run(CONFIG, shards, tmp_path, fresh=fresh)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.csv", "date,weight\n1,70\n", r"log\.csv: not this run's table"),
        ("val.csv", b"\xff\xfe", r"val\.csv: cannot be read as a table"),
        ("config.json", '{"mine": 1}', r"config\.json: no run's"),
    ],
)
def test_files_of_these_names_that_are_no_runs_are_kept(shards, tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    before = contents(tmp_path)
    with pytest.raises(InputError, match=message):
        run(CONFIG, shards, tmp_path)
    assert contents(tmp_path) == before


def test_an_error_of_a_reader_is_one_line(shards, tmp_path):
    stream = CONFIG.stream.model_copy(update={"min_area": 10**6, "workers": 1})
    with pytest.raises(InputError) as error:
        run(changed(CONFIG, stream=stream), shards, tmp_path)
    assert str(error.value).startswith("50 samples in a row cannot be used")
    assert "\n" not in str(error.value)


def test_samples_are_not_both_trained_on_and_validated_on(shards, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    for given in (loop.Inputs((shards,), (shards,)), loop.Inputs((shards, str(copy)))):
        with pytest.raises(
            InputError, match=r"shard-00000\.h5: the same samples as .*give each dataset once"
        ):
            loop.train(CONFIG, given, tmp_path / "out", accelerator="cpu", devices=1, progress=False)


def test_two_runs_do_not_fill_one_folder(shards, tmp_path):
    with locked(tmp_path, "synthfm-train"), pytest.raises(InputError, match="another synthfm-train"):
        run(CONFIG, shards, tmp_path)
    assert not list(tmp_path.iterdir())
    run(changed(CONFIG, steps=2), shards, tmp_path)  # and one goes on when the other has ended


def test_frozen_encoder_without_weights_is_an_error(shards, tmp_path):
    with pytest.raises(InputError, match="frozen encoder needs its weights"):
        run(changed(CONFIG, freeze=("encoder",)), shards, tmp_path)
    assert not (tmp_path / state.STATE).exists()


def test_a_clusters_variables_start_no_processes(shards, tmp_path, monkeypatch):
    """As in a job of several tasks that runs the command once."""
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "a"}.items():
        monkeypatch.setenv(name, value)
    run(changed(CONFIG, steps=1), shards, tmp_path)
    assert (tmp_path / state.MODEL).is_file()


def test_apples_gpu_is_not_taken_by_itself(monkeypatch):
    monkeypatch.setattr("lightning_fabric.accelerators.mps.MPSAccelerator.is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert processes.pick_accelerator("auto") == "cpu"


def _edited(change):
    def edit(path):
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return edit


BROKEN_STATES = {
    "cut": (
        lambda path: path.write_bytes(path.read_bytes()[:-2000]),
        "not a PyTorch checkpoint, or cut short",
    ),
    "empty": (lambda path: path.write_bytes(b""), "not a PyTorch checkpoint, or cut short"),
    "a list": (lambda path: torch.save([1], path), "not a training state of this version"),
    "without a run": (_edited(lambda content: content.pop("run")), "not a training state of this version"),
    "a run of another kind": (
        _edited(lambda content: content.update(run="[" * 100_000)),
        "not a training state of this version",
    ),
    "a position that is none": (
        _edited(lambda content: content["position"].update(step="3")),
        "not a training state of this version",
    ),
    "another model": (
        _edited(lambda content: content["model"].popitem()),
        "not a training state of this version",
    ),
    "another optimizer": (
        _edited(lambda content: content.update(optimizer={})),
        "not a training state of this version",
    ),
    "weights that are no numbers": (
        _edited(lambda content: content["ema"]["mask_decoder.iou_token.weight"].fill_(float("nan"))),
        "holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("how", BROKEN_STATES)
def test_a_state_that_is_cut_or_foreign_is_one_line(shards, finished, tmp_path, how):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    change, message = BROKEN_STATES[how]
    change(out / "state.pt")
    with pytest.raises(InputError, match=message) as caught:
        run(CONFIG, shards, out)
    assert "\n" not in str(caught.value)
    assert str(out / "state.pt") in str(caught.value)


def test_a_flipped_bit_in_a_state_is_not_resumed_from(shards, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    content = bytearray((out / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (out / "state.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"state\.pt: damaged: the checksum of \S+ in it is wrong"):
        run(CONFIG, shards, out)
