"""How costs grow: the fit, and that the file of the results holds what its own figures give."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("bench_growth", ROOT / "benchmarks" / "bench_growth.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_growth", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
def test_the_exponent_is_that_of_the_power(growth, power):
    amounts = np.array([1, 3, 8, 40])
    assert growth.exponent(amounts, 0.03 * amounts**power) == pytest.approx(power)


def test_the_exponents_of_the_results_are_those_of_their_figures(growth):
    with growth.RESULTS.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == growth.HEADER
    for cost, unit, at, seconds, exponent, last in rows:
        if not seconds:
            assert (exponent, last) == ("", "")
            continue
        amounts, its = ([float(part) for part in cell.split(", ")] for cell in (at, seconds))
        assert float(exponent) == pytest.approx(growth.exponent(amounts, its), abs=0.01), (cost, unit)
        assert float(last) == pytest.approx(growth.exponent(amounts[-2:], its[-2:]), abs=0.02), (cost, unit)
