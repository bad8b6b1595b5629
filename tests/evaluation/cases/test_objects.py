"""Objects: what the masks of a dataset hold, in whatever way they name it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import load_descriptor
from tests.support.cases import descriptor, source, split
from tests.support.files import (
    LABEL,
    blocks,
    picture_of,
    write_dicom_seg,
    write_dicom_series,
    write_itk,
    write_pair,
    write_picture,
)
from tests.support.trees import busi

RNG = np.random.default_rng(0)


def test_several_masks_of_an_image_are_united_or_kept_apart(tmp_path: Path) -> None:
    busi(tmp_path)
    united = load_descriptor("busi")
    masks = united.sources[0].masks[0].model_copy(update={"instances": "files"})
    separate = united.model_copy(
        update={"sources": (united.sources[0].model_copy(update={"masks": [masks]}),)}
    )
    (one,) = [c for c in split(iter_cases(united, tmp_path))[0] if c.case == "benign (10)"]
    (two,) = [c for c in split(iter_cases(separate, tmp_path))[0] if c.case == "benign (10)"]
    assert [thing.mask.sum() for thing in one.objects] == [162]
    assert [(thing.structure, thing.instance, thing.mask.sum()) for thing in two.objects] == [
        ("breast lesion", 0, 81),
        ("breast lesion", 1, 81),
    ]


ONE_LESION = {"structure": "lesion"}
AS_LABELS = {"labels": {"lesion": 7, "cyst": 9}}


@pytest.mark.parametrize("naming", [ONE_LESION, AS_LABELS])
def test_components_touch_at_corners_too(naming: dict[str, Any], tmp_path: Path) -> None:
    """Two blocks that meet in one corner of a voxel are one object, a third is another."""
    label = np.zeros((8, 30, 40), np.uint8)
    label[2:4, 2:10, 2:10] = label[4:6, 10:18, 10:18] = 7
    label[2:4, 20:28, 30:38] = 7
    write_itk(tmp_path / "a.nii.gz", picture_of(label, RNG))
    write_itk(tmp_path / "a_m.nii.gz", label)
    masks = {"file": "{id}_m.nii.gz", "instances": "components", "absent": "skip", **naming}
    cases, failures = split(iter_cases(source("{id:a}.nii.gz", masks, modality="CT"), tmp_path))
    assert not failures
    found = {
        (thing.structure, thing.instance, thing.volume_voxels) for case in cases for thing in case.objects
    }
    assert found == {("lesion", 0, 256), ("lesion", 1, 128)}


def test_labels_in_several_files_are_united_or_kept_apart(tmp_path: Path) -> None:
    label = blocks((30, 40), [1, 2])
    write_picture(tmp_path / "a.png", picture_of(label, RNG, "uint8"))
    for number in (1, 2):
        write_picture(tmp_path / f"a_{number}.png", (label == number) * np.uint8(7))
    for instances, areas in (("union", [162]), ("files", [81, 81])):
        masks = {"file": "{id}_{k}.png", "labels": {"lesion": 7}, "instances": instances}
        (case,), _ = split(iter_cases(source("{id:a}.png", masks), tmp_path))
        assert [thing.mask.sum() for thing in case.objects] == areas


@pytest.mark.parametrize("naming", [ONE_LESION, AS_LABELS])
def test_an_outline_is_filled(naming: dict[str, Any], tmp_path: Path) -> None:
    outline = np.zeros((40, 50), np.uint8)
    outline[5:25, 5:35] = 7
    outline[6:24, 6:34] = 0
    write_picture(tmp_path / "a.png", picture_of(outline, RNG, "uint8"))
    write_picture(tmp_path / "a_m.png", outline)
    masks = {"file": "{id}_m.png", "outline": True, "absent": "skip", **naming}
    (case,), failures = split(iter_cases(source("{id:a}.png", masks), tmp_path))
    assert not failures
    assert [thing.mask.sum() for thing in case.objects] == [20 * 30]
    outline[5:25, 20:35] = 0
    write_picture(tmp_path / "a_m.png", outline)
    cases, (failure,) = split(iter_cases(source("{id:a}.png", masks), tmp_path))
    assert (cases, failure.reason) == ([], "lesion: the outline is not closed: nothing to fill")


def test_the_segments_of_dicom_seg_fall_into_components(tmp_path: Path) -> None:
    label = blocks((6, 30, 40), [1, 1])
    series = write_dicom_series(tmp_path / "a", picture_of(label, RNG))
    write_dicom_seg(tmp_path / "a_m.dcm", series, {"lesion": label == 1})
    masks = {"file": "{id}_m.dcm", "labels": {"lesion": "lesion"}, "instances": "components"}
    cases, failures = split(iter_cases(source("{id:a}", masks, modality="CT"), tmp_path))
    assert not failures
    assert {len(case.objects) for case in cases} == {2}


def test_an_empty_part_of_a_union_is_reported_and_the_rest_is_the_object(tmp_path: Path) -> None:
    busi(tmp_path)
    part = next(tmp_path.rglob("benign (10)_mask_1.png"))
    write_picture(part, np.zeros((40, 60), np.uint8))
    cases, (failure,) = split(iter_cases(load_descriptor("busi"), tmp_path))
    assert failure.reason == "the mask of breast lesion is empty"
    assert Path(failure.file) == part
    assert [thing.mask.sum() for case in cases if case.case == "benign (10)" for thing in case.objects] == [
        81
    ]


def test_a_structure_without_its_file_is_reported_where_asked(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL)
    write_itk(tmp_path / "a_liver.nii.gz", (LABEL == 1).astype(np.uint8))
    masks = {"file": "{id}_{structure}.nii.gz", "structures": {"liver": "liver", "spleen": "spleen"}}
    for absent, count in (("report", 1), ("skip", 0)):
        source = {"folder": ".", "image": "{id:a}.nii.gz", "masks": [{**masks, "absent": absent}]}
        wanted = descriptor().model_validate({"title": "t", "modality": "CT", "sources": [source]})
        cases, failures = split(iter_cases(wanted, tmp_path))
        assert len(cases) == 3
        assert [failure.reason for failure in failures] == ["no mask file of spleen (spleen)"] * count


COLOURS = np.array([(0, 0, 0), (255, 0, 0), (255, 128, 0), (9, 9, 9)], np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_labels_may_be_colours(mode: str, tmp_path: Path) -> None:
    label = blocks((30, 40), [1, 2, 3])
    write_picture(tmp_path / "a.png", picture_of(label, RNG, "uint8"))
    if mode == "P":
        picture = Image.fromarray(label)
        picture.putpalette(COLOURS.tobytes())
    else:
        picture = Image.fromarray(COLOURS[label]).convert(mode)
    picture.save(tmp_path / "a_m.png")
    labels = {"liver": "#FF0000", "kidneys": ["#ff8000", "#090909"]}
    (case,), failures = split(
        iter_cases(source("{id:a}.png", {"file": "{id}_m.png", "labels": labels}), tmp_path)
    )
    assert not failures
    assert [thing.structure for thing in case.objects] == ["liver", "kidneys"]
    np.testing.assert_array_equal(case.objects[0].mask, label == 1)
    np.testing.assert_array_equal(case.objects[1].mask, label > 1)


def test_the_colours_of_one_structure_are_all_its_mask(tmp_path: Path) -> None:
    label = blocks((30, 40), [1, 2])
    write_picture(tmp_path / "a.png", picture_of(label, RNG, "uint8"))
    write_picture(tmp_path / "a_m.png", COLOURS[label])
    (case,), _ = split(
        iter_cases(source("{id:a}.png", {"file": "{id}_m.png", "structure": "lesion"}), tmp_path)
    )
    np.testing.assert_array_equal(case.objects[0].mask, label > 0)


@pytest.mark.parametrize("labels", [{"liver": "#ff0000", "spleen": "#ff8000"}, {"liver": 256, "spleen": 300}])
def test_slices_as_pictures_keep_their_labels(labels: dict[str, Any], tmp_path: Path) -> None:
    write_itk(tmp_path / "a.nii.gz", picture_of(LABEL, RNG))
    for k, layer in enumerate(LABEL):
        numbers = np.array([0, 256, 300], np.uint16)
        write_picture(
            tmp_path / "m" / f"{k}.png", (COLOURS if "#ff0000" in labels.values() else numbers)[layer]
        )
    masks = {"file": "m/{k}.png", "labels": labels, "per_slice": True}
    cases, failures = split(iter_cases(source("{id:a}.nii.gz", masks, modality="CT"), tmp_path))
    assert not failures
    assert len(cases) == 3
    for case in cases:
        for number, thing in enumerate(case.objects, start=1):
            np.testing.assert_array_equal(thing.mask, LABEL[case.slice] == number)


@pytest.mark.parametrize("dtype", ["uint16", "uint64", "int8", "int16", "int64", "float32"])
def test_labels_have_any_type_and_negative_ones_are_background(dtype: str, tmp_path: Path) -> None:
    background = np.where(np.arange(8) > 0, -1, -100)[:, None, None] if dtype[0] != "u" else 0
    label = np.where(LABEL > 0, LABEL, background).astype(dtype)
    write_pair(tmp_path, "a", label, picture_of(LABEL, RNG))
    cases, failures = split(iter_cases(descriptor(), tmp_path))
    assert not failures
    assert len(cases) == 3
    for case in cases:
        for number, thing in enumerate(case.objects, start=1):
            np.testing.assert_array_equal(thing.mask, LABEL[case.slice] == number)


def strokes_in(folder: Path, **keys: Any) -> Any:
    masks = {"file": "{id}_m.png", "structure": "lesion", "strokes": "{id}_strokes.npz", **keys}
    write_picture(folder / "a.png", picture_of(np.eye(30, 40, dtype=np.uint8), RNG, "uint8"))
    label = np.zeros((30, 40), np.uint8)
    label[5:20, 5:20] = 1
    write_picture(folder / "a_m.png", label)
    return source("{id:a}.png", masks)


def test_what_people_drew_comes_with_the_object(tmp_path: Path) -> None:
    wanted, drawn = strokes_in(tmp_path), np.zeros((2, 2, 30, 40), bool)
    drawn[0, 0, 10, 8:15] = drawn[1, 1, 25, 30:38] = True
    np.savez(tmp_path / "a_strokes.npz", *drawn)
    (case,), failures = split(iter_cases(wanted, tmp_path))
    assert not failures
    assert np.array_equal(np.stack(case.objects[0].strokes), drawn)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_text("hello"), "no npz file of arrays"),
        (
            lambda path: np.savez(path, np.zeros((2, 3, 4), bool)),
            r"bool \(2, 3, 4\), expected bool \(2, 30, 40\)",
        ),
        (lambda path: np.savez(path, np.zeros((2, 30, 40))), r"float64 \(2, 30, 40\), expected bool"),
    ],
)
def test_strokes_that_cannot_be_used_are_reported_and_the_object_stays(tmp_path: Path, write, words) -> None:
    wanted = strokes_in(tmp_path)
    write(tmp_path / "a_strokes.npz")
    (case,), (failure,) = split(iter_cases(wanted, tmp_path))
    assert re.search(words, failure.reason), failure.reason
    assert failure.file.endswith("a_strokes.npz")
    assert case.objects[0].strokes == ()


def test_strokes_are_of_one_object(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="strokes goes with structure"):
        strokes_in(tmp_path, structure=None, labels={"lesion": 1})


@pytest.mark.parametrize("strokes", ["../far.npz", "link.npz"])
def test_strokes_out_of_the_data_root_are_not_read(tmp_path: Path, strokes: str) -> None:
    root = tmp_path / "root"
    wanted = strokes_in(root, strokes=strokes)
    np.savez(tmp_path / "far.npz", np.ones((2, 30, 40), bool))
    (root / "link.npz").symlink_to(tmp_path / "far.npz")
    (case,), (failure,) = split(iter_cases(wanted, root))
    assert "lies outside of the data root" in failure.reason
    assert case.objects[0].strokes == ()
    assert split(iter_cases(strokes_in(root, strokes="../root/own.npz"), root))[1][0].reason.endswith(
        "No such file or directory)"
    )
