"""Too little shared memory, too few open files: one line that says what to do, and no waiting for ever."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ellipses import write_dataset

PROGRAM = Path(sys.executable).with_name("synthfm-train")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("starved") / "a", num=12, size=64, per_shard=4)


def words(shards: Path, out: Path, devices: int = 1) -> list[str]:
    return [
        *(str(PROGRAM), "run", "--shards", str(shards), "--out", str(out), "--train-encoder", "--steps", "3"),
        *("--batch", "2", "--set", "image_size=32", "--set", "stream.workers=2", "--set", "precision=32"),
        *("--set", "stream.val_images=2", "--accelerator", "cpu", "--devices", str(devices)),
    ]


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="only root may mount a small /dev/shm")
@pytest.mark.parametrize(
    ("size", "devices"),
    [
        ("64k", 1),
        pytest.param("64k", 2, marks=pytest.mark.long),
        pytest.param("16k", 2, marks=pytest.mark.long),
    ],
)
def test_a_shared_memory_that_is_too_small_is_one_line(
    size: str, devices: int, shards: Path, tmp_path: Path
) -> None:
    """Too small for a batch, or for the locks of the workers already."""
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-m", "bash", "-c", script, "bash"]
    command += words(shards, tmp_path / "out", devices)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("Error: ") == 1
    assert "Error: shared memory (/dev/shm) is full" in done.stderr
    assert "--shm-size" in done.stderr
    assert "stream.workers=0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.parametrize(("files", "devices"), [(16, 1), (24, 1), (32, 1), (40, 1), (48, 1), (48, 2)])
def test_too_few_open_files_are_one_line(files: int, devices: int, shards: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        words(shards, tmp_path / "out", devices),
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
    )
    assert done.returncode in (0, 2), done.stderr
    assert done.returncode == 0 or "open files" in done.stderr
    assert "Traceback" not in done.stderr
