"""The benchmarks: that they measure what they say, on little; nothing is timed here."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(monkeypatch):
    """Import a module of `benchmarks/` as its programs do; what is imported is forgotten afterwards."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "benchmarks")):
            del sys.modules[name]


def test_filters_are_applied_and_lose_nothing(bench):
    filters = bench("bench_filters")
    pictures = {"image": np.arange(3 * 32 * 32, dtype=np.uint8).reshape(3, 32, 32)}
    pictures["label"] = pictures["image"] // 200
    costs = filters.measured(pictures, 1)
    assert costs[0].compression == filters.OURS
    assert len(costs) == 1 + 5 * 2 * 2
    size = {(one.compression, one.shuffle, one.checksum): one.bytes_a_sample for one in costs}
    raw = 2 * 32 * 32
    assert size["none", "no", "no"] == size["none", "yes", "no"] == raw
    for (compression, _, checksum), stored in size.items():
        assert stored <= raw + 8 * (checksum == "yes"), compression  # four bytes a chunk
        assert (stored < raw) == (compression != "none"), compression
    assert size["gzip 9", "no", "no"] + 8 == size["gzip 9", "no", "yes"]


def test_a_filter_that_changes_samples_is_no_filter(bench):
    filters = bench("bench_filters")

    def forgets(file, pictures):
        filters.empty(file, "image", pictures["image"])

    one = filters.Filter("lost", shuffle=False, checksum=False, write=forgets)
    with pytest.raises(ValueError, match="'image' is read back as something else"):
        filters.once(one, {"image": np.ones((2, 8, 8), np.uint8)})
