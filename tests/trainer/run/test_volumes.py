"""Runs on volumes: masks are carried, and a validation tells how far they come."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tests.support.ellipses import write_volumes
from tests.support.runs import CONFIG, changed, command, rows, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return str(write_volumes(tmp_path_factory.mktemp("volumes") / "a", num=3, size=32))


def carrying(share):
    prompts = CONFIG.prompts.model_copy(update={"carry": share})
    return changed(CONFIG, steps=2, prompts=prompts.model_dump())


def test_a_run_that_carries_masks_has_their_figure_in_its_table(volumes, tmp_path):
    run(carrying(1.0), volumes, tmp_path / "run")
    assert np.isfinite([float(row["loss"]) for row in rows(tmp_path / "run" / "log.csv")]).all()
    carried = [row for row in rows(tmp_path / "run" / "val.csv") if row["setting"] == "carry"]
    assert [row["step"] for row in carried] == ["2"]
    assert 0 < int(carried[0]["objects"]) <= 6  # two runs of three slices begin in a volume of eight
    assert 0 <= float(carried[0]["dice"]) <= 1


def test_volumes_that_are_taken_as_single_images_are_named(volumes, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "synthfm.train"):
        run(carrying(0.0), volumes, tmp_path / "run")
    lines = [record.getMessage() for record in caplog.records if "prompts.carry" in record.getMessage()]
    assert lines == [f"{volumes}: volumes, taken as single images (prompts.carry is 0)"]
    assert {row["setting"] for row in rows(tmp_path / "run" / "val.csv")} & {"carry"} == set()


def test_a_mask_that_nothing_can_be_carried_through_ends_in_one_line(shards, tmp_path):
    out = tmp_path / "run"
    result = command("run", "--shards", shards, "--train-encoder", "--set", "prompts.carry=0.3", "--out", out)
    assert result.exit_code == 2
    assert "prompts.carry: no mask can be carried through single images" in result.output
    assert result.output.count("\n") == 1
    assert not (out / "log.csv").exists()
