"""What the tests start ends when they do, and what it leaves goes, also where pytest itself is killed.

Programs inherit the environment of who starts them, and so do the programs that they start. A process that
watches the tests' own ends, once that is gone, all that has the mark in a variable which the tests have set,
and removes the folder of their temporary files: a program that is killed, as many are here, leaves its own.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

import psutil

VARIABLE = "SYNTHFM_TESTS"
EVERY = 0.5
"""Seconds between two looks."""


def end_with_this_process() -> None:
    """From now on, whatever this process starts is killed when it has ended, and its temporary files go.

    But pytest's own, whose last ones are kept, and what PyTorch has compiled, which takes minutes.
    """
    mark = secrets.token_hex(8)
    before = tempfile.gettempdir()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", before)
    with contextlib.suppress(KeyError, OSError):  # of a user without a name
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{before}/torchinductor_{getpass.getuser()}")
    folder = tempfile.mkdtemp(prefix="synthfm-tests-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    subprocess.Popen(
        [sys.executable, __file__, str(os.getpid()), mark, folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # whoever reads what the tests write does not wait for it
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.environ[VARIABLE] = f"{os.environ.get(VARIABLE, '')} {mark}"  # beside those of whoever started it


def _of(mark: str) -> list[psutil.Process]:
    """The processes that have the mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and mark in process.environ().get(VARIABLE, ""):
                found.append(process)
    return found


def main(parent: int, mark: str, folder: str) -> None:
    """Wait for the end of the process that has started this one; kill until nothing has the mark; tidy up."""
    while os.getppid() == parent:
        time.sleep(EVERY)
    while left := _of(mark):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
