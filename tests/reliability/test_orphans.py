"""What the tests start does not outlive them, even where they are killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SLEEPS = "import time; time.sleep(600)"
STARTS = f"""
import subprocess, sys
own = subprocess.Popen([sys.executable, "-c", {SLEEPS!r}], start_new_session=True)
print(own.pid, flush=True)
own.wait()
"""
TESTS = f"""
import subprocess, sys, tempfile
from tests.support import orphans
orphans.end_with_this_process()
print(tempfile.mkdtemp(), flush=True)
subprocess.run([sys.executable, "-c", {STARTS!r}], start_new_session=True)
"""


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_programs_that_tests_started_end_with_them(end: str) -> None:
    with subprocess.Popen([sys.executable, "-c", TESTS], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        left = Path(tests.stdout.readline().strip())
        assert left.parent.name.startswith("synthfm-tests-")
        started = psutil.Process(int(tests.stdout.readline()))
        started_by = started.parent()
        assert started_by is not None
        assert started_by.pid != tests.pid
        getattr(tests, end)()
        tests.wait()
        _, alive = psutil.wait_procs([started, started_by], timeout=30)
        assert not alive
        until = time.monotonic() + 30
        while left.parent.exists():
            assert time.monotonic() < until
            time.sleep(0.1)
