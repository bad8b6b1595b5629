"""Numba's cache: where it cannot be written, the message names it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
from synthfm.data.console import InputError
from synthfm.data.distance import extents
try:
    extents(np.ones((4, 4), np.uint8))
except InputError as error:
    print(error)
"""


def _limited() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))


@pytest.mark.parametrize("limited", [_limited, None])
def test_a_cache_that_is_full_is_named_and_nothing_else(tmp_path, limited):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=limited)
    assert done.returncode == 0, done.stderr
    if limited is None:
        assert done.stdout == ""
        return
    assert done.stdout.startswith(f"{tmp_path / 'cache'}")
    assert "numba keeps there what it compiles, NUMBA_CACHE_DIR names another folder" in done.stdout
