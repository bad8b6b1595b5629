"""The dataset folder: manifest, verification, and what readers refuse."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfm.data.console import InputError
from synthfm.data.files import replacing, write_atomically
from synthfm.data.folder import (
    MANIFEST,
    UNFINISHED,
    Manifest,
    check_sample,
    describe_shard,
    read_manifest,
    shard_paths,
    verify,
    write_manifest,
)
from synthfm.data.shards import Shard, StoredStroke, column_of, object_masks
from tests.support.shards import random_samples, write_shard


def shard_of(path: Path, number: int) -> Path:
    """Shard `number` of a dataset of two samples a shard."""
    samples = random_samples(number, 2)
    samples = [dataclasses.replace(s, index=2 * number + k) for k, s in enumerate(samples)]
    return write_shard(path, samples, '{"size": 20}', 2 * number)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = tuple(describe_shard(shard_of(tmp_path / f"shard-0000{k}.h5", k)) for k in range(2))
    write_manifest(tmp_path, Manifest({"size": 20}, "1.2", 7, 4, 2, lines))
    return tmp_path


def problems(folder: Path) -> dict[str, str]:
    return {name: problem for name, problem in verify(folder) if problem}


def test_a_manifest_is_read_back(folder):
    manifest = read_manifest(folder)
    assert (manifest.num, manifest.root_seed, manifest.config) == (4, 7, {"size": 20})
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    assert [path.name for path in shard_paths([folder, folder])] == ["shard-00000.h5", "shard-00001.h5"] * 2
    assert problems(folder) == {}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_sample_made_from_masks_passes_the_check(seed):
    assert check_sample(random_samples(seed, 1)[0]) is None


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("box", 1, "not tight"),
        ("area", 1, "area"),
        ("label", 0, "not unique numbers from 1"),
        ("point_labels", None, "wrong side"),
        ("parent", 255, "not in the table"),
    ],
)
def test_a_wrong_table_is_told(column, value, message):
    sample = next(s for s in random_samples(0, 50) if len(s.objects) >= 2 and 255 not in s.objects.label)
    values = getattr(sample.objects, column).copy()
    values[0] = (
        1 - values[0] if value is None else value if column in ("label", "parent") else values[0] + value
    )
    changed = dataclasses.replace(sample, objects=dataclasses.replace(sample.objects, **{column: values}))
    assert message in str(check_sample(changed))


@pytest.mark.parametrize("place", [(-1, 5), (5, -1), (24, 5), (5, 20)])
def test_a_click_just_beyond_the_frame_is_told(place):
    sample = next(s for s in random_samples(0, 50) if len(s.objects))
    points = sample.objects.points.copy()
    points[0, 0] = place
    changed = dataclasses.replace(sample, objects=dataclasses.replace(sample.objects, points=points))
    assert "outside the image" in str(check_sample(changed))


@pytest.mark.parametrize(
    ("pixels", "inside", "message"),
    [
        ([], True, "is empty"),
        ([(-1, 5)], False, "leaves the image"),
        ([(5, 20)], False, "leaves the image"),
        ("own", False, "wrong side"),
        ("beyond", True, "wrong side"),
    ],
)
def test_a_stroke_that_cannot_be_is_told(pixels, inside, message):
    sample = next(s for s in random_samples(0, 50) if len(s.objects))
    mask = object_masks(sample.label, sample.objects)[0]
    good = StoredStroke(True, np.argwhere(mask)[:, ::-1].astype(np.int16))
    if isinstance(pixels, str):
        pixels = np.argwhere(mask if pixels == "own" else ~mask)[:, ::-1]
    wrong = StoredStroke(inside, np.array(pixels, np.int16).reshape(-1, 2))
    strokes = column_of([(good, wrong)] + [()] * (len(sample.objects) - 1))
    changed = dataclasses.replace(sample, objects=dataclasses.replace(sample.objects, strokes=strokes))
    problem = str(check_sample(changed))
    assert message in problem
    assert f"object {sample.objects.label[0]}: stroke 1 " in problem


def test_strokes_inside_come_first(folder):
    kinds = {True, False}
    with Shard(folder / "shard-00000.h5") as shard:
        sample = next(s for s in shard if any({x.inside for x in one} == kinds for one in s.objects.strokes))
    turned = column_of([one[::-1] for one in sample.objects.strokes])
    changed = dataclasses.replace(sample, objects=dataclasses.replace(sample.objects, strokes=turned))
    assert check_sample(sample) is None
    assert "is inside, after one that is outside" in str(check_sample(changed))


def test_verification_finds_a_stroke_on_the_wrong_side(folder):
    path = folder / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        assert len(file["stroke/inside"])
        file["stroke/inside"][0] = 0
    assert "stroke 0 lies on the wrong side of the mask's edge" in problems(folder)["shard-00000.h5"]


def test_a_label_without_a_row_and_a_strange_modality_are_told():
    sample = next(s for s in random_samples(0, 50) if 255 not in s.objects.label)
    label = sample.label.copy()
    label[0, 0] = 255
    assert "label 255" in str(check_sample(dataclasses.replace(sample, label=label)))
    assert "modality 'P T'" in str(check_sample(dataclasses.replace(sample, modality="P T")))


def test_damage_is_told_per_file(folder):
    first, second = folder / "shard-00000.h5", folder / "shard-00001.h5"
    first.write_bytes(first.read_bytes()[:-100])
    with h5py.File(second, "r+") as file:
        file.attrs["note"] = "changed afterwards"
    write_shard(folder / "extra.h5", random_samples(9, 1))
    found = problems(folder)
    assert "truncated" in found["shard-00000.h5"]
    assert "SHA-256" in found["shard-00001.h5"]
    assert "not in manifest.json" in found["extra.h5"]


def test_a_swapped_shard_is_told(folder):
    write_shard(folder / "shard-00001.h5", random_samples(0, 1))
    assert "manifest.json differs" in problems(folder)["shard-00001.h5"]


def test_a_manifest_whose_lines_leave_a_gap_is_told(folder):
    manifest = read_manifest(folder)
    for shards, message in (
        (manifest.shards[:1], "its shards hold 2 of 4 samples"),
        (manifest.shards[1:], "shard-00001.h5 begins with sample 2, expected 0"),
        (manifest.shards[::-1], "shard-00001.h5 begins with sample 2, expected 0"),
        ((*manifest.shards, manifest.shards[1]), "begins with sample 2, expected 4"),
    ):
        write_manifest(folder, dataclasses.replace(manifest, shards=shards))
        assert message in problems(folder)[MANIFEST]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"size": 21}}, "another config"),
        ({"root_seed": 8}, "root_seed is 7"),
        ({"package_version": "1.3"}, "package_version is 1.2"),
    ],
)
def test_a_manifest_of_another_dataset_is_told(folder, changes, message):
    write_manifest(folder, dataclasses.replace(read_manifest(folder), **changes))
    assert message in problems(folder)["shard-00000.h5"]


def test_a_shard_whose_samples_are_misnumbered_is_told(folder):
    path = folder / "shard-00001.h5"
    write_shard(path, random_samples(1, 2), '{"size": 20}', 2)  # their indices begin at 0
    manifest = read_manifest(folder)
    lines = (manifest.shards[0], describe_shard(path))
    write_manifest(folder, dataclasses.replace(manifest, shards=lines))
    assert "not numbered from 2 on" in problems(folder)["shard-00001.h5"]


def test_a_false_label_map_is_told(folder):
    path = folder / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        file["label"][0] = np.zeros((20, 24), np.uint8)
    assert "sample 0" in problems(folder)["shard-00000.h5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "1"}, "wrong value at 'version'"),
        ({"version": True}, "wrong value at 'version'"),
        ({"version": -3}, "wrong value at 'version'"),
        ({"num": "4"}, "wrong value at 'num'"),
        ({"root_seed": 7.0}, "wrong value at 'root_seed'"),
    ],
)
def test_a_manifest_with_a_value_of_another_kind_is_refused(folder, changes, message):
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | changes))
    with pytest.raises(InputError, match=message):
        read_manifest(folder)


@pytest.mark.parametrize("key", ["objects", "bytes"])
def test_a_manifest_that_counts_wrongly_is_told(folder, key):
    manifest = read_manifest(folder)
    line = dataclasses.replace(manifest.shards[1], **{key: 999})
    write_manifest(folder, dataclasses.replace(manifest, shards=(manifest.shards[0], line)))
    problem = problems(folder)["shard-00001.h5"]
    assert re.search(r"holds \d+ objects in \d+ bytes; manifest.json differs", problem)


def test_a_write_that_fails_names_the_file_that_was_asked_for(tmp_path):
    wanted, other = tmp_path / "table.md", tmp_path / "absent"
    wanted.write_text("before")
    with pytest.raises(OSError, match="No space left") as caught, replacing(wanted):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write does: without a name
    assert caught.value.filename == str(wanted)
    with pytest.raises(OSError, match="No space left") as caught, replacing(wanted) as partial:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))
    assert caught.value.filename == str(wanted)
    with pytest.raises(FileNotFoundError) as missing, replacing(wanted):
        other.read_bytes()
    assert missing.value.filename == str(other)
    assert wanted.read_text() == "before"
    assert list(tmp_path.iterdir()) == [wanted]


def test_an_unfinished_folder_is_refused(folder):
    (folder / UNFINISHED).write_text("{}")
    with pytest.raises(InputError, match="unfinished dataset"):
        shard_paths([folder])


def test_missing_things_are_told_by_name(folder):
    with pytest.raises(InputError, match="nix: no such folder"):
        read_manifest(folder / "nix")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no manifest\.json"):
        read_manifest(folder / "empty")
    (folder / "shard-00001.h5").unlink()
    with pytest.raises(InputError, match=r"shard-00001\.h5: named in manifest\.json but missing"):
        shard_paths([folder])
    assert "no such shard" in problems(folder)["shard-00001.h5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99 is newer"),
        ({"format": "x"}, "format is 'x'"),
        ({"shards": [{"a": 1}]}, "not a synthfm-shard manifest"),
        ({"shards": 3}, "not a synthfm-shard manifest"),
        ({"more": 3}, "not a synthfm-shard manifest"),
        ({"num": "x"}, "not a synthfm-shard manifest"),
        ({"config": None}, "not a synthfm-shard manifest"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(folder, change, message):
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"a"', "\x00"])
def test_a_broken_manifest_is_refused(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="not a synthfm-shard manifest"):
        read_manifest(folder)


def test_a_dataset_without_shards_is_refused(tmp_path):
    write_manifest(tmp_path, Manifest({}, "1", 0, 0, 1, ()))
    with pytest.raises(InputError, match="empty"):
        shard_paths([tmp_path])


def test_a_text_is_written_whole_or_not_at_all(tmp_path):
    write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.txt", "new \ud800")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../shard-00000.h5"),
        ("file", "/etc/passwd"),
        ("file", ".."),
        ("file", ""),
        ("file", "a\0b"),
        ("count", 10**12),
        ("count", -6),
        ("count", 0),
        ("first_index", -1),
        ("objects", -1),
    ],
)
def test_a_line_that_no_shard_of_this_folder_can_have_is_refused(folder, key, value):
    content = json.loads((folder / "manifest.json").read_text())
    content["shards"][1][key] = value
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"wrong value at 'shards\.1\.{key}'"):
        read_manifest(folder)


def test_more_samples_than_the_shards_bytes_are_refused_before_room_is_made_for_them(folder):
    content = json.loads((folder / "manifest.json").read_text())
    content["shards"][1] |= {"count": 10**12, "bytes": 10**15}
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"shard-00001\.h5: cannot hold the 1000000000000 samples"):
        shard_paths([folder])


def test_a_manifest_nested_without_end_is_refused(folder):
    (folder / "manifest.json").write_text('{"config": ' + "[" * 100_000)
    with pytest.raises(InputError, match="not a synthfm-shard manifest"):
        read_manifest(folder)


@pytest.mark.parametrize("volume", [[], "deep", {"depth": []}, {"depth": "3"}, {"depth": [1, None]}])
def test_a_config_whose_depth_is_none_is_refused(folder, volume):
    content = json.loads((folder / "manifest.json").read_text())
    content["config"]["volume"] = volume
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"wrong value at 'config\.volume\.depth'"):
        read_manifest(folder)
