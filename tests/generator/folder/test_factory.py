"""The factory: the same bytes however they are made, and only whole shards whatever happens."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import h5py
import joblib
import psutil
import pytest

from synthfm.data.console import Failed, InputError
from synthfm.data.folder import MANIFEST, UNFINISHED, read_manifest, shard_paths, verify
from synthfm.data.shards import Shard
from synthfm.generator import scene
from synthfm.generator.config import load_config
from synthfm.generator.folder import factory
from synthfm.generator.folder.claim import claimed
from synthfm.generator.folder.factory import Task, fill_shard, generate
from tests.support.processes import children_with

CONFIG = load_config("full", size=48)
PROGRAM = str(Path(sys.executable).parent / "synthfm-generate")
SHARD_SIZE, NUM = 4, 18
LONG = ["--num", "120", "--shard-size", "4", "--size", "48", "--jobs", "2"]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def make(folder: Path, **changes: object) -> Path:
    generate(
        folder,
        **{"config": CONFIG, "num": NUM, "root_seed": 5, "shard_size": SHARD_SIZE, "jobs": 1} | changes,
    )
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset made by one process without interruption. Not to be changed."""
    return make(tmp_path_factory.mktemp("whole") / "data")


def copy(whole: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 400
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROGRAM, "run", "--out", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
        # A shell starts its background jobs with SIGINT ignored, and they pass that on: here it must count.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_a_dataset_is_whole_and_passes_verification(whole):
    assert [problem for _, problem in verify(whole) if problem] == []
    assert sorted(contents(whole)) == [MANIFEST, *(f"shard-0000{k}.h5" for k in range(5))]
    indices = [int(index) for path in shard_paths([whole]) for index in Shard(path).index]
    assert indices == list(range(NUM))
    with Shard(shard_paths([whole])[-1]) as last:
        assert (last.first_index, last.count, last.root_seed) == (16, 2, 5)


def test_two_workers_write_the_same_bytes_as_one(whole, tmp_path):
    assert contents(make(tmp_path / "two", jobs=2)) == contents(whole)


def test_two_workers_write_the_same_strokes_as_one(tmp_path):
    config = load_config("objects", size=48)
    one, two = (make(tmp_path / str(jobs), config=config, num=8, jobs=jobs) for jobs in (1, 2))
    assert contents(one) == contents(two)
    assert [problem for _, problem in verify(one) if problem] == []
    with Shard(shard_paths([one])[0]) as shard:
        assert any(len(strokes) for sample in shard for strokes in sample.objects.strokes)


def test_a_dask_cluster_of_two_processes_writes_the_same_bytes(whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        made = make(tmp_path / "dask", backend="dask", scheduler=cluster.scheduler_address)
    assert contents(made) == contents(whole)


def test_a_cluster_without_workers_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(factory, "LONELY", 2.0)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        made = threading.Timer(1, lambda: cluster.scale(0))
        made.start()
        with pytest.raises(Failed, match="the Dask cluster has had no worker for 2 s; start some"):
            make(tmp_path / "dask", num=4000, backend="dask", scheduler=cluster.scheduler_address)
        made.join()


def test_a_sample_depends_on_its_index_and_the_seed_alone(whole, tmp_path):
    other = make(tmp_path / "other", num=6, shard_size=6)
    first, again = Shard(shard_paths([whole])[1])[1], Shard(shard_paths([other])[0])[5]
    assert (first.image == again.image).all()
    assert first.seed == again.seed
    assert not (Shard(shard_paths([make(tmp_path / "seed", root_seed=6, num=1)])[0])[0].image
                == Shard(shard_paths([whole])[0])[0].image).all()  # fmt: skip


def test_a_second_run_changes_nothing_and_a_missing_shard_is_made_again(whole, tmp_path):
    folder = copy(whole, tmp_path / "data")
    old = (folder / "shard-00000.h5").stat().st_mtime_ns
    (folder / "shard-00002.h5").unlink()
    assert contents(make(folder)) == contents(whole)
    assert (folder / "shard-00000.h5").stat().st_mtime_ns == old


@pytest.mark.parametrize(
    ("sent", "to_group"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
def test_a_signal_leaves_whole_shards_and_the_same_command_goes_on(tmp_path, sent, to_group):
    folder = tmp_path / "data"
    process = start(folder, *LONG)
    wait_until(lambda: len(list(folder.glob("*.h5"))) >= 2, process)
    (os.killpg if to_group else os.kill)(process.pid, sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + sent, errors
    assert f"stopped by {sent.name}" in errors
    assert "waiting for the samples that are being made" in errors
    assert f"to go on: synthfm-generate run --out {folder} --num 120" in errors
    assert "Traceback" not in errors
    left = sorted(path.name for path in folder.iterdir())
    assert left[-1] == UNFINISHED
    assert 2 <= len(left) - 1 < 30
    for name in left[:-1]:
        with Shard(folder / name) as shard:
            assert len(list(shard)) == 4
    with pytest.raises(InputError, match="unfinished dataset"):
        shard_paths([folder])
    if sent == signal.SIGINT:
        subprocess.run([PROGRAM, "run", "--out", str(folder), *LONG], check=True, capture_output=True)
        made = tmp_path / "made at once"
        generate(made, load_config(size=48), num=120, shard_size=4, jobs=1)
        assert contents(folder) == contents(made)


def test_what_a_power_cut_left_half_written_goes_with_the_next_run(whole, tmp_path):
    folder = copy(whole, tmp_path / "data")
    (folder / MANIFEST).rename(folder / UNFINISHED)
    plan = json.loads((folder / UNFINISHED).read_text())
    (folder / UNFINISHED).write_text(json.dumps(plan | {"shards": []}))
    (folder / "shard-00001.h5").rename(folder / "shard-00001.h5.0123abcd.partial")
    for name in ("progress.0123abcd", MANIFEST, UNFINISHED):
        (folder / f"{name}.partial").write_text("...")
    assert contents(make(folder)) == contents(whole)


def test_only_a_runs_own_half_written_files_are_removed(tmp_path):
    (tmp_path / "thesis.partial").write_text("mine")
    (tmp_path / "shard-00000.h5.partial").write_text("mine")  # a run's has eight more digits
    (tmp_path / "progress.0123abcd.partial").mkdir()
    theirs = sorted(path.name for path in tmp_path.iterdir())
    make(tmp_path, num=2, shard_size=2)
    left = {path.name for path in tmp_path.iterdir()} - {MANIFEST, "shard-00000.h5"}
    assert sorted(left) == theirs
    assert (tmp_path / "thesis.partial").read_text() == "mine"


def test_stopping_before_a_shard_is_whole_leaves_nothing(tmp_path):
    folder = tmp_path / "new" / "data"
    process = start(folder, "--num", "4000", "--shard-size", "4000", "--size", "64", "--jobs", "1")
    wait_until(lambda: any(path.stat().st_size > 5 for path in folder.glob("progress*")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing was left behind" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_that_still_load_their_packages_end_with_the_program(tmp_path, number):
    """On a busy machine for many seconds; here for a minute."""
    slow = "import sys, time\nif any('popen_loky' in word for word in sys.orig_argv): time.sleep(60)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    process = start(tmp_path / "data", *LONG, "--jobs", "8", PYTHONPATH=str(tmp_path))
    wait_until(lambda: len(children_with(process.pid, "popen_loky")) == 8, process)
    workers = children_with(process.pid, "popen_loky")
    process.send_signal(number)
    _, errors = process.communicate(timeout=50)
    assert process.returncode == 128 + number
    assert "nothing was left behind" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(workers, timeout=1)
    for one in alive:
        one.kill()
    assert not alive
    assert [path.name for path in tmp_path.iterdir()] == ["sitecustomize.py"]


def test_a_killed_worker_is_one_line_and_the_whole_shards_stay(tmp_path):
    folder = tmp_path / "data"
    process = start(folder, *LONG)
    wait_until(lambda: bool(list(folder.glob("*.h5"))), process)
    children_with(process.pid, "popen_loky")[0].kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process was killed" in errors
    assert "Traceback" not in errors
    assert all(path.suffix == ".h5" or path.name == UNFINISHED for path in folder.iterdir())


def test_no_worker_outlives_a_program_that_is_killed(tmp_path):
    folder = tmp_path / "data"
    process = start(folder, *LONG)
    wait_until(lambda: bool(list(folder.glob("*.h5"))), process)
    left = psutil.Process(process.pid).children(recursive=True)
    assert sum("popen_loky" in " ".join(one.cmdline()) for one in left) >= 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(left, timeout=10)
    for one in alive:
        one.kill()
    assert not alive
    subprocess.run([PROGRAM, "run", "--out", str(folder), *LONG], check=True, capture_output=True)
    assert not list(folder.glob("*.partial"))


def test_a_folder_that_is_removed_while_it_is_filled_is_one_line(tmp_path):
    folder = tmp_path / "data"
    process = start(folder, *LONG)
    wait_until(lambda: bool(list(folder.glob("*.h5"))), process)
    folder.rename(tmp_path / "removed")  # at once: it would be filled further while its files are removed
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Error: {folder}: was removed while it was being filled" in errors
    assert "Traceback" not in errors


def test_a_worker_that_finds_no_scene_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "ATTEMPTS", 300_000)  # half a minute
    monkeypatch.setattr(scene, "draw_scene", lambda *_: (None, SimpleNamespace(objects=0), None))
    (tmp_path / "progress").touch()
    task = Task(
        path=tmp_path / "shard-00000.h5", progress=tmp_path / "progress", root_seed=0,
        package_version=version("synthfm"), config=CONFIG, first_index=0, count=4,
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(fill_shard, task)
        wait([future], timeout=1)
        assert not future.done()
        task.progress.unlink()
        assert future.result(timeout=10) is None
    assert list(tmp_path.iterdir()) == []


def limited_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_is_one_line_and_what_was_finished_stays(whole, tmp_path, jobs):
    folder = copy(whole, tmp_path / "data")
    (folder / "shard-00001.h5").unlink()
    command = [PROGRAM, "run", "--out", str(folder), "--num", str(NUM), "--size", "48", "--seed", "5",
               "--shard-size", str(SHARD_SIZE), "--jobs", str(jobs)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited_files)
    assert done.returncode == 2, done.stderr
    assert "shard-00001.h5: File too large; 4 of 5 shards are whole" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(contents(folder)) == [MANIFEST, *(f"shard-0000{k}.h5" for k in (0, 2, 3, 4)), UNFINISHED]
    subprocess.run(command, check=True, capture_output=True)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num": 19}, "num: 18 there, 19 now"),
        ({"root_seed": 6}, "root_seed: 5 there, 6 now"),
        ({"shard_size": 5}, "shard_size: 4 there, 5 now"),
        ({"config": load_config(size=64)}, "size: 48 there, 64 now"),
        (
            {"config": load_config(size=48, overrides=["boundary.low_contrast_share=0.9"])},
            "boundary.low_contrast_share: 0.3 there, 0.9 now",
        ),
    ],
)
def test_other_settings_for_the_same_folder_are_refused(whole, tmp_path, changes, message):
    folder = copy(whole, tmp_path / "data")
    with pytest.raises(InputError, match=message):
        make(folder, **changes)
    assert contents(folder) == contents(whole)
    (folder / MANIFEST).rename(folder / UNFINISHED)
    with pytest.raises(InputError, match=message):
        make(folder, **changes)


def test_a_damaged_or_foreign_shard_is_not_built_upon(whole, tmp_path):
    folder = copy(whole, tmp_path / "data")
    path = folder / "shard-00003.h5"
    good = path.read_bytes()
    path.write_bytes(good[:1000])
    with pytest.raises(InputError, match=r"shard-00003\.h5: truncated.*delete it"):
        make(folder)
    path.write_bytes((folder / "shard-00000.h5").read_bytes())
    with pytest.raises(InputError, match=r"shard-00003\.h5: of another dataset; delete it"):
        make(folder)
    path.unlink()
    assert contents(make(folder)) == contents(whole)


@pytest.mark.parametrize("finished", [True, False])
def test_a_rerun_does_not_vouch_for_a_changed_image(whole, tmp_path, finished):
    folder = copy(whole, tmp_path / "data")
    path = folder / "shard-00002.h5"
    with h5py.File(path) as file:
        place = file["image"].id.get_chunk_info(1).byte_offset + 20
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    if not finished:
        plan = json.loads((folder / MANIFEST).read_text())
        (folder / UNFINISHED).write_text(json.dumps(plan | {"shards": []}))
        (folder / MANIFEST).unlink()
    message = "damaged or altered" if finished else "corrupted: '/image' fails its checksum"
    with pytest.raises(InputError, match=rf"shard-00002\.h5: {message}.*; delete it, then run the same"):
        make(folder)
    path.unlink()
    assert contents(make(folder)) == contents(whole)


def test_an_altered_shard_that_reads_well_is_refused_also_after_an_interrupted_rerun(whole, tmp_path):
    folder = copy(whole, tmp_path / "data")
    with h5py.File(folder / "shard-00001.h5", "r+") as file:
        file.attrs["note"] = "changed afterwards"
    for _ in range(2):  # the first refusal leaves the folder unfinished, its manifest beside
        with pytest.raises(InputError, match=r"shard-00001\.h5: damaged or altered; delete it"):
            make(folder)
        assert (folder / UNFINISHED).exists()


@pytest.mark.parametrize("lost", [False, True])
def test_a_finished_folder_stays_finished_where_a_rerun_is_broken_off(whole, tmp_path, lost):
    folder = copy(whole, tmp_path / "data")
    if lost:
        (folder / "shard-00004.h5").unlink()
    with pytest.raises(KeyboardInterrupt), claimed(folder, read_manifest(whole)):
        raise KeyboardInterrupt
    assert (folder / UNFINISHED).exists() == lost
    assert (folder / MANIFEST).exists()
    if not lost:
        assert contents(folder) == contents(whole)
    (folder / UNFINISHED).write_text((folder / MANIFEST).read_text())  # an earlier rerun found it unsound
    with pytest.raises(KeyboardInterrupt), claimed(folder, read_manifest(whole)):
        raise KeyboardInterrupt
    assert (folder / UNFINISHED).exists()


def test_a_shard_that_may_not_be_opened_is_not_called_damaged(whole, tmp_path):
    """Too many open files, here: nobody is told to delete what is whole."""
    folder = copy(whole, tmp_path / "data")
    program = """
import os, sys
from synthfm.data.console import InputError
from synthfm.data.shards import Shard
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
files = []
try:
    while True:
        files.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    Shard(sys.argv[1])
except OSError as error:
    print(f"{error.filename}: {error.strerror}")
"""
    path = folder / "shard-00000.h5"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.stdout == f"{path}: Too many open files\n", done.stderr


def test_a_folder_that_holds_something_else_is_left_alone(whole, tmp_path):
    (tmp_path / "own.h5").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"holds \.h5 files"):
        make(tmp_path)
    (tmp_path / "own.h5").unlink()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        make(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make(tmp_path / "file" / "data")
    assert contents(tmp_path) == {"file": hashlib.sha256(b"mine").hexdigest()}


def test_two_runs_do_not_fill_one_folder(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another synthfm-generate is filling this folder"):
            make(tmp_path)
    finally:
        os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "expected"), [(48, 64), (512, 64), (1024, 32), (2048, 8)])
def test_a_shard_holds_as_many_samples_as_memory_allows(tmp_path, monkeypatch, size, expected):
    asked = []
    monkeypatch.setattr(factory, "_fill", lambda folder, tasks, *_, **__: asked.extend(tasks) or [])
    generate(tmp_path / "data", load_config(size=size), num=100, jobs=1)
    assert [task.count for task in asked[:-1]] == [expected] * (100 // expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num": 0}, "--num 0"),
        ({"num": -5}, "--num -5"),
        ({"root_seed": -1}, "--seed -1"),
        ({"root_seed": 1 << 63}, "--seed"),
        ({"jobs": 0}, "--jobs 0"),
        ({"jobs": -3}, "--jobs -3"),
        ({"shard_size": 0}, "--shard-size 0"),
        ({"shard_size": 1 << 20}, "from 1 to 14563 samples at size 48"),
        ({"num": 10**6, "shard_size": 1}, "larger --shard-size"),
        ({"backend": "mpi"}, "one of loky, dask"),
        ({"backend": "dask"}, "go together"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "go together"),
        ({"backend": "dask", "scheduler": "tcp://127.0.0.1:1"}, "no Dask scheduler answers"),
        ({"backend": "dask", "scheduler": "nonsense"}, "no Dask scheduler answers"),
    ],
)
def test_arguments_out_of_range_are_named_and_leave_nothing(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        make(tmp_path / "data", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_does_not_answer_leaves_a_finished_folder_finished(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "data")
    before = sorted(path.name for path in (tmp_path / "data").iterdir())
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        make(tmp_path / "data", backend="dask", scheduler="nonsense")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == before


def test_a_worker_of_another_version_makes_nothing(tmp_path):
    (tmp_path / "progress").touch()
    task = Task(
        path=tmp_path / "shard-00000.h5", progress=tmp_path / "progress", root_seed=0,
        package_version="0.0.1", config=CONFIG, first_index=0, count=4,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"a worker has version .* of synthfm, not 0\.0\.1"):
        fill_shard(task)
    assert not task.path.exists()


def test_no_more_processes_are_started_than_there_are_shards(whole, tmp_path, monkeypatch):
    asked = []
    parallel = joblib.parallel_config
    monkeypatch.setattr(
        joblib, "parallel_config", lambda **keys: asked.append(keys["n_jobs"]) or parallel(**keys)
    )
    shutil.copytree(whole, tmp_path / "data")
    make(tmp_path / "data", jobs=-1 if joblib.cpu_count() > 20 else 40)
    assert asked == [-(-NUM // SHARD_SIZE)]
