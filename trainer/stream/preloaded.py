"""What the server imports that the workers are forked from, once for all of them.

Its own end is quick: to take PyTorch down takes an interpreter seconds on a busy machine, and a run that was
stopped would leave the server behind for so long. Workers end without that anyway.
"""

from __future__ import annotations

import atexit
import os
import sys

import synthfm.trainer.stream.stream  # noqa: F401

if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    atexit.register(os._exit, 0)
