"""What the tests start ends when they do, also where pytest itself is killed.

Programs inherit the environment of who starts them, and so do the programs that they start. A process that
watches the tests' own ends, once that is gone, all that has the mark in a variable which the tests have set.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time

import psutil

VARIABLE = "SYNTHFM_TESTS"
EVERY = 0.5
"""Seconds between two looks."""


def end_with_this_process() -> None:
    """From now on, whatever this process starts is killed when it has ended."""
    mark = secrets.token_hex(8)
    subprocess.Popen(
        [sys.executable, __file__, str(os.getpid()), mark],
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


def main(parent: int, mark: str) -> None:
    """Wait for the end of the process that has started this one; then kill until nothing has the mark."""
    while os.getppid() == parent:
        time.sleep(EVERY)
    while left := _of(mark):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
