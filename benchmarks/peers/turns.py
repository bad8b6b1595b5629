"""Contenders at the same work, in turn, so that all of them meet the same moments of a machine."""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import statistics
import sys
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
        Does some of the work and returns how many units that was. It imports its package when it is first
        called, as that may not be there.
    """

    name: str
    package: str
    work: Callable[[], int]


@dataclass(frozen=True)
class Result:
    """A row of the table: units per second, and the first contender's rate over this one's.

    `ratio`, `low` and `high` are the median and the extremes of the rounds' ratios. Seconds are those that
    the process computed with one thread, those of the clock with more. What could not be had has no figures;
    `version` says why.
    """

    work: str
    unit: str
    name: str
    version: str
    threads: int
    rate: float | None
    ratio: float | None
    low: float | None
    high: float | None
    rounds: int
    date: str


def built(build: Callable[[], Callable[[], int]]) -> Callable[[], int]:
    """A work that is built when it is first asked for."""
    works: list[Callable[[], int]] = []

    def work() -> int:
        if not works:
            works.append(build())
        return works[0]()

    return work


def in_turn(
    work: str, unit: str, contenders: Sequence[Contender], rounds: int, threads: int = 1
) -> list[Result]:
    """Let all work once unmeasured, then `rounds` times one after the other.

    With one thread the seconds are those that the process computed, so that what else runs on the machine
    matters little. A contender whose package is missing, or that fails, is a row that says so; the first has
    to work.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    why = {contender.name: missing(contender) for contender in contenders[1:]}
    contenders[0].work()
    there = [contender for contender in contenders if not why.get(contender.name)]
    rates: dict[str, list[float]] = {contender.name: [] for contender in there}
    for _ in range(rounds):
        for contender in there:
            gc.collect()
            began = clock()
            done = contender.work()
            rates[contender.name].append(done / (clock() - began))
    results, today = [], datetime.date.today().isoformat()
    for contender in contenders:
        its = rates.get(contender.name)
        ratios = (
            [first / rate for first, rate in zip(rates[contenders[0].name], its, strict=True)] if its else []
        )
        results.append(
            Result(
                work=work,
                unit=unit,
                name=contender.name,
                version=why.get(contender.name) or version_of(contender),
                threads=threads,
                rate=statistics.median(its) if its else None,
                ratio=statistics.median(ratios) if ratios else None,
                low=min(ratios, default=None),
                high=max(ratios, default=None),
                rounds=rounds,
                date=today,
            )
        )
    return results


def version_of(contender: Contender) -> str:
    return f"{contender.package} {importlib.metadata.version(contender.package)}"


def missing(contender: Contender) -> str:
    """Let it work once; what stands in the way, if anything does."""
    try:
        version = version_of(contender)
    except importlib.metadata.PackageNotFoundError:
        return f"{contender.package}: not installed"
    try:
        contender.work()
    except Exception as error:  # another's program: its failure is a row, and no end of the others' hours
        print(f"{contender.name} fails: {error!r}", file=sys.stderr)
        return f"{version}: fails ({type(error).__name__})"
    return ""
