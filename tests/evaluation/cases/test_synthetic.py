"""Synthetic shards as a dataset."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthfm.data.console import InputError
from synthfm.data.folder import Manifest, describe_shard, write_manifest
from synthfm.data.prompts import centre_point, tight_box
from synthfm.data.shards import OBJECT_COLUMNS, Objects, Sample, ShardWriter
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import find, load_descriptor
from synthfm.evaluation.cases.layout import files
from synthfm.evaluation.cases.schema import Slices
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.session import evaluate
from tests.support.cases import split
from tests.support.files import (
    cut_short,
    picture_of,
)


def write_shards(folder: Path, samples: int = 6, per_shard: int = 4) -> Path:
    """Images with a body (1) that holds an organ (2), and a second organ (3) outside."""
    folder.mkdir()
    label = np.zeros((40, 50), np.uint8)
    label[2:30, 2:30], label[10:20, 10:20], label[5:15, 35:45] = 1, 2, 3
    masks = [np.isin(label, numbers) for numbers in ([1, 2], [2], [3])]
    columns: dict[str, Any] = {
        name: np.zeros((3, *(2 if n == -1 else n for n in row)), dtype)
        for name, (dtype, row) in OBJECT_COLUMNS.items()
    }
    columns["label"], columns["parent"] = np.array([1, 2, 3], np.uint8), np.array([0, 1, 0], np.uint8)
    columns["family"] = np.array(["body", "blob", "blob"])
    columns["area"] = np.array([mask.sum() for mask in masks], np.int32)
    columns["box"] = np.stack([tight_box(mask) for mask in masks])
    columns["points"] = np.stack([[centre_point(mask), (0, 0)] for mask in masks]).astype(np.int16)
    columns["point_labels"] = np.array([[1, -1]] * 3, np.int8)
    infos = []
    for start in range(0, samples, per_shard):
        count = min(per_shard, samples - start)
        path = folder / f"shard-{start:04d}.h5"
        keys: dict[str, Any] = {"points": 2, "config": "{}", "package_version": "0", "root_seed": 0}
        with ShardWriter(path, count=count, shape=label.shape, first_index=start, **keys) as writer:
            for k in range(start, start + count):
                image = picture_of(label, np.random.default_rng(k), "uint8")
                writer.append(Sample(image, label, k, k, "CT" if k % 2 else "US", Objects(**columns)))
        infos.append(describe_shard(path))
    write_manifest(folder, Manifest({}, "0", 0, samples, per_shard, tuple(infos)))
    return folder


def test_shards_are_a_dataset(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "held-out")
    wanted = load_descriptor(str(folder))
    cases, failures = split(iter_cases(wanted, tmp_path))
    assert not failures
    assert [case.case for case in cases] == [f"{k:08d}" for k in range(6)]
    assert {case.dataset for case in cases} == {"held-out"}
    assert [case.modality for case in cases] == ["US", "CT"] * 3
    things = [(thing.structure, thing.instance, int(thing.mask.sum())) for thing in cases[0].objects]
    assert things == [("body", 0, 784), ("blob", 0, 100), ("blob", 1, 100)]  # the body holds its organ
    three = [case.case for case in split(iter_cases(wanted, tmp_path, limit=3))[0]]
    assert three == ["00000001", "00000003", "00000005"]
    few = wanted.model_copy(update={"slices": Slices(min_area=200)})
    assert all(len(case.objects) == 1 for case in split(iter_cases(few, tmp_path))[0])


def test_a_run_does_not_go_on_with_other_shards(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "held-out", 2)
    arguments = (["ellipse"], [str(folder)], tmp_path, EvalConfig(prompts=("box",)), tmp_path / "out")
    for _ in range(2):
        evaluate(*arguments)
    os.utime(folder / "shard-0000.h5", (1, 1))
    with pytest.raises(InputError, match="data files"):
        evaluate(*arguments)


def test_a_damaged_shard_is_reported_and_the_rest_read(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    cut_short(folder / "shard-0000.h5")
    cases, failures = split(iter_cases(load_descriptor(str(folder)), tmp_path))
    assert [case.case for case in cases] == ["00000004", "00000005"]
    assert len(failures) == 1
    assert "truncated" in failures[0].reason


def test_a_damaged_manifest_is_an_input_error(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    (folder / "manifest.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(InputError, match=r"manifest\.json"):
        load_descriptor(str(folder))


def test_a_shard_that_vanishes_meanwhile_costs_itself(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", samples=12)
    found = iter_cases(load_descriptor(str(folder)), tmp_path)
    first = [next(found)]
    (folder / "shard-0004.h5").unlink()
    cases, failures = split([*first, *found])
    assert [case.case for case in cases] == [f"{k:08d}" for k in (0, 1, 2, 3, 8, 9, 10, 11)]
    assert [(failure.case, failure.reason) for failure in failures] == [
        ("shard-0004.h5", f"{folder / 'shard-0004.h5'}: no such shard")
    ]


def test_a_folder_that_is_still_being_filled_is_named_so(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    (folder / "manifest.json").rename(folder / "unfinished.json")
    with pytest.raises(InputError, match=r"an unfinished dataset .* run the same synthfm-generate"):
        load_descriptor(str(folder))


SHARDS = "title: t\nmodality: CT\nshards: {}\n"


def test_a_descriptor_names_shards_under_the_data_root(tmp_path: Path) -> None:
    write_shards(tmp_path / "held-out")
    path = tmp_path / "mine.yaml"
    path.write_text(SHARDS.format("held-out"))
    cases, failures = split(iter_cases(load_descriptor(str(path)), tmp_path))
    assert (len(cases), failures, cases[0].dataset) == (6, [], "mine")
    arguments = (["ellipse"], [str(path)], tmp_path, EvalConfig(prompts=("box",)), tmp_path / "out")
    evaluate(*arguments)
    os.utime(tmp_path / "held-out" / "shard-0000.h5", (1, 1))
    with pytest.raises(InputError, match="data files"):
        evaluate(*arguments)


@pytest.mark.parametrize("shards", ["../far", "{far}", "link", "linked"])
def test_shards_that_a_descriptor_names_do_not_leave_the_data_root(tmp_path: Path, shards: str) -> None:
    far, root = write_shards(tmp_path / "far"), tmp_path / "root"
    (root / "linked").mkdir(parents=True)
    (root / "link").symlink_to(far)
    for file in far.iterdir():
        (root / "linked" / file.name).symlink_to(file)
    path = tmp_path / "mine.yaml"
    path.write_text(SHARDS.format(shards.format(far=far)))
    wanted = load_descriptor(str(path))
    for read in (
        lambda: list(iter_cases(wanted, root)),
        lambda: files(wanted, root),
        lambda: find(wanted, root),
    ):
        with pytest.raises(InputError, match=r"dataset mine: shards: .* lies outside of the data root"):
            read()
    assert len(split(iter_cases(load_descriptor(str(far)), root))[0]) == 6  # a person has named that one
