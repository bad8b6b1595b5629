"""The command line: what is wrong is said in one line, and nothing is left."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from lightning_fabric.utilities import rank_zero_only

from synthfm.trainer.run import loop
from tests.support.ellipses import write_dataset
from tests.support.runs import command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "nope"], "unknown preset 'nope'"),
        (["--set", "optim.lrr=1"], "did you mean 'lr'"),
        (["--set", "optim.lr=-1"], "optim.lr"),
        (["--freeze", "neck"], "--freeze 'neck'"),
        (["--freeze", ""], "--freeze is given, but empty; 'none'"),
        (["--freeze", ","], "--freeze is given, but empty; 'none'"),
        (["--freeze", "encoder", "--train-encoder"], "not both"),
        (["--checkpoint", "tiny", "--init-from", "tiny"], "--checkpoint or --init-from, not both"),
        (["--checkpoint", "absent.pth"], "absent.pth: no such checkpoint"),
        (["--train-encoder", "--resume"], "no run to resume"),
        (["--resume", "--fresh"], "not both: one keeps the run"),
        (["--model", "vit_x"], "model"),
        (["--checkpoint", "tiny", "--freeze", "decoder"], "a decoder that is drawn afresh has to learn"),
        (["--freeze", "prompt_encoder"], "a frozen prompt_encoder needs its weights"),
        (["--train-encoder", "--decoder", "pretrained"], "there are no weights to keep"),
        (["--init-from", "tiny", "--decoder", "scratch"], "--init-from goes on from all weights"),
        (["--init-from", ""], "--init-from is given, but empty"),
        (["--checkpoint", ""], "--checkpoint is given, but empty"),
        (["--embeddings", ""], "--embeddings is given, but empty"),
        (["--set", "batch=yes"], "key 'batch': expected a number"),
    ],
)
def test_wrong_arguments_end_in_one_line(shards, tmp_path, arguments, message):
    result = command("run", "--shards", shards, "--steps", 1, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "run" / "log.csv").exists()


def test_a_folder_that_is_no_dataset(tmp_path):
    result = command("run", "--shards", tmp_path, "--out", tmp_path / "run", "--train-encoder")
    assert result.exit_code == 2
    assert "manifest.json" in result.output


def test_only_the_first_process_says_where_the_model_is(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *_, **__: tmp_path / "model.pth")
    arguments = ["run", "--shards", shards, "--out", tmp_path, "--train-encoder"]
    for rank, expected in ((0, f"{tmp_path / 'model.pth'}\n"), (1, "")):
        monkeypatch.setattr(rank_zero_only, "rank", rank, raising=False)
        assert command(*arguments).output == expected


def run_on_a_full_disk(*arguments: object):
    """`synthfm-train` in a process whose files cannot grow beyond 300 kB."""
    program = """
import resource, signal, sys
from synthfm.trainer.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
main(sys.argv[1:])
"""
    words = [str(argument) for argument in arguments]
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "cache"])
def test_a_full_disk_ends_in_one_line_and_leaves_nothing(checkpoint, tmp_path, name):
    out = tmp_path / "out" / name
    if out.suffix:
        result = run_on_a_full_disk("export", checkpoint, "--out", out)
    else:
        folder = write_dataset(tmp_path / "shards", num=60, size=16, per_shard=60)
        result = run_on_a_full_disk("embed", "--shards", folder, "--checkpoint", checkpoint, "--out", out)
    assert result.returncode == 2, result.stderr  # not the signal with which HDF5 ends after a failed write
    assert f"{out}: File too large" in result.stderr or not out.suffix
    assert ": File too large" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
