"""Runs of several processes: what goes wrong in one ends all of them, with one line."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.ellipses import write_dataset


def words(top, *settings, script=""):
    """A run of two processes, by a script of its own where there is one."""
    shards = top / "a"
    if not shards.exists():
        write_dataset(shards, num=16, size=32)
    program = ["-m", "synthfm.trainer.cli"]
    if script:
        (top / "run.py").write_text(script)
        program = [str(top / "run.py")]
    given = [sys.executable, *program, "run", "--shards", str(shards), "--out", str(top / "out")]
    given += ["--train-encoder", "--accelerator", "cpu", "--devices", "2"]
    common = (
        "image_size=32",
        "precision=32",
        "stream.val_images=2",
        "stream.workers=0",
        "batch=4",
        "steps=9",
    )
    for setting in (*common, *settings):
        given += [setting] if setting.startswith("--") else ["--set", setting]
    return given


def ended(given, code):
    """The one line on an error with which a run ends, and this exit code."""
    done = subprocess.run(given, capture_output=True, text=True, check=False, timeout=600)
    lines = [line for line in done.stderr.splitlines() if "Error" in line]
    assert len(lines) == 1, done.stderr
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def in_the_way(name):
    """A folder where the run writes a file."""
    return lambda _, out: (out / name).mkdir(parents=True)


def lose_shard(folder, _):
    path = folder / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("options", "before", "code", "wanted"),
    [
        ("batch=3", None, 2, r"batch \(3\) must be a multiple of processes x accumulate \(2\)"),
        ("--strict", lose_shard, 2, r"\S*00001.h5: .*\(--strict\)"),
        ("stream.min_area=2000", None, 2, r"50 samples in a row cannot be used: .*stream.min_area"),
        ("steps=4", in_the_way("log.csv"), 2, r"\S*/log.csv\S*: Is a directory"),
        ("steps=4", in_the_way("model.pth.partial"), 2, r"\S*model.pth.partial: Is a directory"),
        ("validate_every=9", in_the_way("state.pt.partial"), 2, r"\S*state.pt.partial: Is a directory"),
        ("optim.lr=1e30", None, 1, r"the (loss|gradient norm) is \S+ at step \d+ \(samples? .*precision=32"),
    ],
)
def test_two_processes_fail_with_one_line(tmp_path, options, before, code, wanted):
    """The first process says what went wrong on whichever of them, with the exit code that one would have."""
    given = words(
        *(tmp_path, "steps=4", "save_every=1", "validate_every=2", "log_every=4", "optim.warmup=0", options)
    )
    if before is not None:
        before(tmp_path / "a", tmp_path / "out")
    assert re.match(f"Error: {wanted}", ended(given, code))
    if options == "batch=3":
        assert not (tmp_path / "out").exists()


UNREADABLE = """
import os
from synthfm.trainer.cli import main
from synthfm.trainer.stream.stream import Batches
whole = Batches.__getitem__
def fails(self, number):
    if os.environ.get("LOCAL_RANK") == "1" and number == 2:
        raise OSError(5, "Input/output error")
    return whole(self, number)
Batches.__getitem__ = fails
main()
"""


def test_what_one_process_cannot_read_ends_both_with_one_line(tmp_path):
    """In the middle of a run."""
    assert ended(words(tmp_path, script=UNREADABLE), 2) == "Error: Input/output error"


ENDING = """
import os, signal, sys
from synthfm.trainer.cli import main
from synthfm.trainer.run import loop
from synthfm.trainer.system import processes
end = {end!r}
def ends(*_):
    if os.environ.get("LOCAL_RANK") == "1":
        exec(end)
if {early}:
    processes.make_fabric, whole = lambda *given: (ends(), whole(*given))[1], processes.make_fabric
    loop.make_fabric = processes.make_fabric
else:
    loop.Run.step, whole = lambda self, passed: (ends(), whole(self, passed))[1], loop.Run.step
if __name__ == "__main__":  # and not in the server of the readers
    main()
"""
OWN_LINE = "import click; click.echo('Error: mine', err=True); os._exit(2)"


@pytest.mark.parametrize("early", [True, False], ids=["while it starts", "in a step"])
@pytest.mark.parametrize(
    ("end", "code", "wanted"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            2,
            r"process 2 of 2 was killed, as where memory runs out: .*lower stream.objects_.* goes on$",
        ),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 2, r"process 2 of 2 was ended by SIGSEGV; .* goes on$"),
        (OWN_LINE, 2, "mine$"),
    ],
    ids=["killed", "crashed", "an error of its own"],
)
def test_a_process_that_is_gone_ends_the_other_with_one_line(tmp_path, early, end, code, wanted):
    given = words(tmp_path, "stream.workers=1", script=ENDING.format(end=end, early=early))
    assert re.match(f"Error: {wanted}", ended(given, code))


FIRST_GONE = """
import os, time
if os.environ.get("LOCAL_RANK") == "1":  # as one that is still loading its packages
    while os.getppid() == int(os.environ["SYNTHFM_STARTED_BY"]):
        time.sleep(0.05)
from synthfm.trainer.cli import main
main()
"""


def test_a_process_that_is_still_starting_does_not_outlive_the_first(tmp_path):
    with subprocess.Popen(words(tmp_path, script=FIRST_GONE), stderr=subprocess.DEVNULL) as first:
        while not (second := psutil.Process(first.pid).children()):
            time.sleep(0.05)
        first.kill()
        first.wait()
    _, alive = psutil.wait_procs(second, timeout=120)
    for one in alive:
        one.kill()
    assert not alive


LEFT = """
import sys, time
from pathlib import Path
from synthfm.trainer.cli import main
try:
    main(standalone_mode=False)
except BaseException as error:
    sys.stdout.write(f"ended: {type(error).__name__}\\n")  # whole: both processes write
    kept = error  # and with it what its frames hold
def threads():
    for task in Path("/proc/self/task").iterdir():
        try:
            yield (task / "comm").read_text().strip()
        except OSError:
            pass  # it ended meanwhile
for _ in range(100):  # one that has ended may be listed for a moment
    left = [name for name in threads() if "gloo" in name]
    if not left:
        break
    time.sleep(0.05)
sys.stdout.write(f"left: {left}\\n")
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads have no names to read here")
@pytest.mark.parametrize(
    ("option", "ends"), [("steps=2", []), ("optim.lr=1e30", ["ClickException", "SystemExit"])]
)
def test_no_thread_of_the_exchange_outlives_a_run(tmp_path, option, ends):
    """One that lets go of a tensor while the interpreter ends aborts it: now and then, under load."""
    given = words(tmp_path, option, script=LEFT)
    result = subprocess.run(given, capture_output=True, text=True, check=False, timeout=600)
    lines = result.stdout.splitlines()
    assert lines.count("left: []") == 2, result.stdout + result.stderr
    assert sorted(line.removeprefix("ended: ") for line in lines if line.startswith("ended")) == ends
