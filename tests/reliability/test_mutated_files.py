"""Mutated files of every kind: each is read, or refused in a line, within 10 s and 2 GB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.openers import KINDS

ROOT = Path(__file__).parents[2]
SEED = 39


def opened(seed: int, first: int, stop: int) -> list[dict[str, object]]:
    """What became of the files of these numbers; a program that ends, or has to be ended, is begun again."""
    found: list[dict[str, object]] = []
    while first < stop:
        command = [sys.executable, "-m", "tests.support.openers", *map(str, (seed, first, stop))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found += [line for line in lines if "outcome" in line]
        if not lines or (done.returncode == 0 and lines[-1]["number"] < stop - 1):
            raise RuntimeError(done.stderr[-3000:])
        if done.returncode:
            assert "outcome" not in lines[-1], done.stderr[-3000:]
            found.append(
                {**lines[-1], "outcome": f"ended by {-done.returncode}", "said": done.stderr[-2000:]}
            )
        first = lines[-1]["number"] + 1
    return found


def check(found: list[dict[str, object]]) -> None:
    bad = [one for one in found if one["outcome"] not in ("opened", "refused")]
    text = "\n".join(f"{one['number']} ({one['kind']}): {one['outcome']}\n{one['said']}" for one in bad)
    assert not bad, f"{len(bad)} of {len(found)}:\n{text}"
    assert sum(one["outcome"] == "refused" for one in found) > 0.3 * len(found)


def test_some_files_of_each_kind():
    check(opened(SEED, 0, 2 * len(KINDS)))


@pytest.mark.long
@pytest.mark.parametrize("part", range(8))
def test_many_files_of_each_kind(part):
    share = 10 * len(KINDS)
    check(opened(SEED + 1, part * share, (part + 1) * share))
