"""Contenders at the same work, in turn, so that all of them meet the same moments of a machine."""

from __future__ import annotations

import gc
import importlib.metadata
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

OURS = "synthfm"


@dataclass(frozen=True)
class Contender:
    """One program at a work.

    Attributes
    ----------
    name
        What the table calls it.
    package
        The distribution that it comes from, whose version the table states.
    work
        Does some of the work in one thread and returns how many units that was.
    """

    name: str
    package: str
    work: Callable[[], int]


@dataclass(frozen=True)
class Result:
    """A row of the table: units per second of the processor, and the first contender's rate over this one's.

    `ratio`, `low` and `high` are the median and the extremes over the rounds.
    """

    work: str
    unit: str
    name: str
    version: str
    rate: float
    ratio: float
    low: float
    high: float


def in_turn(work: str, unit: str, contenders: Sequence[Contender], rounds: int) -> list[Result]:
    """Let all work once unmeasured, then `rounds` times one after the other.

    Seconds are those that the process computed, so that what else runs on the machine matters little.
    """
    rates: list[list[float]] = [[] for _ in contenders]
    for contender in contenders:
        contender.work()
    for _ in range(rounds):
        for contender, its in zip(contenders, rates, strict=True):
            gc.collect()
            began = time.process_time()
            done = contender.work()
            its.append(done / (time.process_time() - began))
    results = []
    for contender, its in zip(contenders, rates, strict=True):
        ratios = [first / rate for first, rate in zip(rates[0], its, strict=True)]
        version = importlib.metadata.version(contender.package)
        results.append(
            Result(
                work=work,
                unit=unit,
                name=contender.name,
                version=f"{contender.package} {version}",
                rate=statistics.median(its),
                ratio=statistics.median(ratios),
                low=min(ratios),
                high=max(ratios),
            )
        )
    return results
