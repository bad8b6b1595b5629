"""The benchmarks: that they measure what they say, on little; nothing is timed here."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthfm.trainer.model import models
from synthfm.trainer.model.predict import SecondLook, Segmenter

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


def result(bench, **fields):
    given = {
        "work": "first click in an image",
        "unit": "clicks",
        "name": "synthfm",
        "version": "synthfm 0",
        "threads": 1,
        "rate": 12.3456,
        "ratio": 1.0,
        "low": 1.0,
        "high": 1.0,
        "rounds": 3,
        "date": "2026-11-30",
    }
    return bench("peers.turns").Result(**given | fields)


def test_ratios_are_of_rounds_and_who_cannot_be_had_is_a_row(bench, monkeypatch):
    turns, now = bench("peers.turns"), [0.0]
    monkeypatch.setattr(turns.time, "process_time", lambda: now[0])

    def taking(*seconds):
        left = iter((100, *seconds))  # the first call is not measured

        def work():
            now[0] += next(left)
            return 4

        return work

    def broken():
        raise AttributeError("gone in the new version")

    ours, slow, away, broken = turns.in_turn(
        "work",
        "units",
        [
            turns.Contender(turns.OURS, "synthfm", taking(1, 1, 2)),
            turns.Contender("slow", "numpy", taking(2, 3, 4)),
            turns.Contender("away", "no-such-distribution", taking()),
            turns.Contender("broken", "numpy", broken),
        ],
        rounds=3,
    )
    assert (ours.rate, ours.ratio, ours.low, ours.high) == (4, 1, 1, 1)
    assert (slow.rate, slow.ratio, slow.low, slow.high) == (4 / 3, 2, 2, 3)
    assert away.version == "no-such-distribution: not installed"
    assert broken.version == f"numpy {np.__version__}: fails (AttributeError)"
    assert {one.rate for one in (away, broken)} == {one.ratio for one in (away, broken)} == {None}


def test_our_own_failure_is_none_of_a_row(bench):
    turns = bench("peers.turns")
    with pytest.raises(ZeroDivisionError):
        turns.in_turn("work", "units", [turns.Contender(turns.OURS, "synthfm", lambda: 1 // 0)], rounds=1)


def test_rows_of_other_works_and_threads_stay(bench, tmp_path):
    peers, tables = bench("bench_peers"), bench("tables")
    out = tmp_path / "peers.csv"
    peers.write(out, [result(bench, work="reading NIfTI"), result(bench, threads=2)])
    peers.write(
        out,
        [
            result(bench, rate=99.0),
            result(bench, name="onnxruntime, our export", rate=90.0, ratio=1.04, low=0.9, high=1.2),
            result(bench, name="away", version="away: not installed", rate=None, ratio=None, low=None),
        ],
    )
    rows = tables.read_table(out)
    assert [(row["work"], row["name"], row["threads"], row["rate"]) for row in rows] == [
        ("first click in an image", "synthfm", "1", "99"),
        ("first click in an image", "onnxruntime, our export", "1", "90"),
        ("first click in an image", "away", "1", ""),
        ("first click in an image", "synthfm", "2", "12.3"),
        ("reading NIfTI", "synthfm", "1", "12.3"),
    ]
    (goal,) = tables.read_table(tmp_path / "peers_goals.csv")
    assert (goal["beside"], goal["aimed at"], goal["measured"]) == ("onnxruntime, our export", "1", "1.04")
    assert goal["reached"] == "yes, not in every round"


def test_goals_are_missed_where_they_are(bench):
    peers = bench("bench_peers")
    rows = [
        peers.cells(result(bench, work="images of 256 pixels", name=name, ratio=ratio, low=ratio - 0.1))
        for name, ratio in (
            ("TorchIO, labels to image", 2.49),
            ("cornucopia, labels to image", 6.2),
            ("MONAI, labels to image", 0.4),  # nothing was aimed at
        )
    ]
    assert [row[-2:] for row in peers.goals(rows)] == [["2.49", "no"], ["6.2", "yes"]]


def test_results_are_those_of_the_tables(bench):
    """What `make bench` wrote last: every part, with its machine and day, and the rows of its files."""
    everything, tables = bench("bench_all"), bench("tables")
    shown = json.loads(everything.SHOWN.read_text())
    assert list(shown) == list(everything.PARTS)
    for name, part in shown.items():
        for run in part["runs"]:
            assert {"date", "command", "load before", "machine", "versions"} <= set(run), name
        assert set(part["rows"]) == set(everything.PARTS[name].files)
        for file, rows in part["rows"].items():
            assert rows == tables.read_table(everything.RESULTS / file), f"make bench ARGS='--only {name}'"


def test_a_run_is_put_beside_the_other_parts(bench, tmp_path, monkeypatch):
    everything, tables = bench("bench_all"), bench("tables")
    monkeypatch.setattr(everything, "RESULTS", tmp_path)
    path = tmp_path / "results.json"
    for number, (name, whole) in enumerate(
        [("peers", True), ("filters", True), ("peers", False), ("filters", True)]
    ):
        for file in everything.PARTS[name].files:
            tables.write_table(tmp_path / file, ["rows"], [[number]])
        everything.record(path, name, {"seconds": number}, whole)
    shown = json.loads(path.read_text())
    assert list(shown) == ["filters", "peers"]
    assert shown["filters"] == {"runs": [{"seconds": 3}], "rows": {"filters.csv": [{"rows": "3"}]}}
    assert shown["peers"]["runs"] == [{"seconds": 0}, {"seconds": 2}]
    assert shown["peers"]["rows"]["peers.csv"] == [{"rows": "2"}]


def test_avx2_is_all_that_is_computed_with(bench):
    """On a processor with more, the libraries have to say that they do without."""
    everything = bench("bench_all")
    if not {"avx2", "avx512f"} <= set(everything.machine()["vector extensions"]):
        pytest.skip("this processor has nothing beyond AVX2")
    program = (
        "import numba, torch; from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__;"
        "print([name for name in __cpu_dispatch__ if __cpu_features__[name]"
        " and name not in ('X86_V3', 'AVX2', 'FMA3')],"
        " torch.backends.cpu.get_cpu_capability(), numba.config.CPU_NAME)"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | everything.AVX2,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[] AVX2 haswell"


def test_the_table_of_goals_is_what_the_other_tables_say(bench):
    import csv

    goals = bench("goals")
    with open(goals.RESULTS / "goals.csv", newline="") as file:
        _, *shown = csv.reader(file)
    found = goals.goals(goals.rows_of)
    assert [(what, goal, value, {True: "yes", False: "no"}[ok]) for what, goal, value, ok in found] == [
        tuple(row) for row in shown
    ]


@pytest.mark.parametrize(("figure", "reached"), [("0.819", False), ("0.820", True)])
def test_a_goal_is_reached_from_its_figure_on(bench, figure, reached):
    goals = bench("goals")

    def changed(name):
        rows = goals.rows_of(name)
        for row in rows if name == "kinds" else ():
            row |= {"`tiny`: tight box": figure, "ellipse": "0.824"}
        return rows

    tight, *_ = found = goals.goals(changed)
    assert tight[2:] == (figure, reached)
    assert next(ok for what, *_, ok in found if "ellipse" in what) is True  # 0.005 ahead is level


def test_steps_down_are_counted_within_clicks_and_within_strokes(bench):
    row = {
        "set": "a",
        "1 click": "0.5",
        "2": "0.494",
        "5": "0.6",
        "1 stroke": "0.2",
        "3": "0.196",
        "5.1": "0.1",
    }
    assert bench("goals").steps_down([row]) == (2, 4)


def test_the_gain_of_carrying_is_of_structures_and_its_interval_of_patients(bench):
    rows = [
        ("a", structure, str(patient), "slice_box", method, 0.5 + (method == "now") * change)
        for structure, changes in (("liver", (0.1, 0.1, 0.1)), ("spleen", (0.3, -0.1) * 20))
        for patient, change in enumerate(changes) for method in ("before", "now")
    ]  # fmt: skip
    scores = pd.DataFrame(rows, columns=["dataset", "structure", "patient", "prompt", "method", "dsc"])
    scores.attrs["methods"] = ["before", "now"]
    found = bench("carry_gain").gain(scores, "slice_box")
    assert found[:4] == ["43", "2", "0.500", "0.600"]
    gained, low, high = (float(word.strip("[,]")) for word in found[4].split())
    spread = 1.96 * 0.2 / 40**0.5 / 2  # of the spleen's mean alone, which is half of the gain
    assert gained == 0.1
    assert [low, high] == pytest.approx([0.1 - spread, 0.1 + spread], abs=0.003)


def test_the_better_of_two_answers_is_the_most_that_a_choice_can_bring(bench):
    segmenter = Segmenter(models.load("tiny")[0], SecondLook(thin=None))
    scores = np.array(bench("thin_choice").scores_of(segmenter, "vessels", 3, 1))
    assert scores.shape == (3 * 8, 3)
    without, chosen, better = scores.T
    assert (better >= np.maximum(chosen, without)).all()
    assert (better > without).any()
    kept = chosen == without  # where the network is not believed, and else its own
    assert (kept | (chosen == better) | (chosen < without)).all()
