"""What a program has started, as the system sees it."""

from __future__ import annotations

from contextlib import suppress

import psutil


def children_with(number: int, word: str) -> list[psutil.Process]:
    """The children of a process whose command has a word in it; others may come and go meanwhile."""
    found = []
    for one in psutil.Process(number).children():
        with suppress(psutil.NoSuchProcess):
            found += [one] if word in " ".join(one.cmdline()) else []
    return found
