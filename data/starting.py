"""Imported by the three programs before all else, which takes seconds on a busy machine.

A Ctrl-C until a command begins ends them without Python's traceback: nothing is done yet that could go on.
From then on :mod:`synthfm.data.console` says how.
"""

from __future__ import annotations

import os
import signal
import sys

_program = os.path.basename(sys.argv[0]).startswith("synthfm-")  # else it is the business of who imports it
if _program and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
