"""Cases: which slices and objects a dataset gives, how they look, and what a bad file costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from evaluation_files import (
    blocks,
    cut_short,
    picture_of,
    write_dicom_seg,
    write_dicom_series,
    write_itk,
    write_picture,
)
from evaluation_trees import acdc, amos, busi
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.console import InputError
from data.folder import Manifest, describe_shard, write_manifest
from data.prompts import centre_point, tight_box
from data.shards import OBJECT_COLUMNS, Objects, Sample, ShardWriter
from evaluation.cases import Case, CaseFailure, iter_cases, share_out, spread
from evaluation.descriptor import Descriptor, load_descriptor
from evaluation.schema import Slices
from evaluation.slicing import choose, to_grey

RNG = np.random.default_rng(0)


def descriptor(**keys: Any) -> Descriptor:
    """Volumes ``NAME.nii.gz`` with label maps ``NAME_label.nii.gz``."""
    masks = {"file": "{id}_label.nii.gz", "labels": {"liver": 1, "spleen": 2}, **keys.pop("masks", {})}
    if "structure" in masks:
        masks.pop("labels")
    source = {"folder": ".", "image": keys.pop("pattern", "{id:[a-z]+[0-9]*}.nii.gz"), "masks": [masks]}
    return Descriptor.model_validate(
        {"name": "test", "title": "t", "modality": "CT", "sources": [source], **keys}
    )


def write_pair(folder: Path, name: str, label: NDArray, image: NDArray | None = None, **grid: Any) -> NDArray:
    image = picture_of(label, RNG) if image is None else image
    write_itk(folder / f"{name}.nii.gz", image, **grid)
    write_itk(folder / f"{name}_label.nii.gz", label, **grid)
    return image


def split(found: Any) -> tuple[list[Case], list[CaseFailure]]:
    items = list(found)
    return [i for i in items if isinstance(i, Case)], [i for i in items if isinstance(i, CaseFailure)]


LABEL = blocks((8, 30, 40), [1, 2])  # in the slices 4, 5 and 6


def test_a_volume_gives_its_slices_with_objects(tmp_path: Path) -> None:
    image = write_pair(tmp_path, "a", LABEL, spacing=(0.7, 0.8, 5.0))
    cases, failures = split(iter_cases(descriptor(), tmp_path))
    assert not failures
    assert [case.case for case in cases] == ["a/z004", "a/z005", "a/z006"]
    assert {(case.dataset, case.modality, case.volume) for case in cases} == {("test", "CT", "a")}
    for case in cases:
        assert case.spacing == pytest.approx((0.8, 0.7))
        np.testing.assert_array_equal(case.image, to_grey(image[case.slice], (-160.0, 240.0)))
        for number, thing in enumerate(case.objects, start=1):
            np.testing.assert_array_equal(thing.mask, LABEL[case.slice] == number)
            assert thing.volume_voxels == 3 * 81


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("code", ["LPS", "RAS", "PSR"])
def test_a_plane_looks_the_same_however_it_is_stored(plane: str, code: str, tmp_path: Path) -> None:
    """In LPS order: axial rows run to posterior; coronal and sagittal rows run to inferior."""
    reference = sitk.GetImageFromArray(LABEL)
    reference.SetSpacing((1.0, 2.0, 3.0))
    label = sitk.DICOMOrient(reference, code)
    sitk.WriteImage(label, str(tmp_path / "a_label.nii.gz"))
    sitk.WriteImage(sitk.Cast(label, sitk.sitkInt16) * 50, str(tmp_path / "a.nii.gz"))
    cases, _ = split(iter_cases(descriptor(slices={"plane": plane}), tmp_path))
    axis = ["axial", "coronal", "sagittal"].index(plane)
    expected = np.moveaxis(LABEL, axis, 0)
    expected = expected if axis == 0 else expected[:, ::-1]
    assert [case.slice for case in cases] == np.flatnonzero((expected > 0).sum((1, 2)) >= 16).tolist()
    for case in cases:
        for thing in case.objects:
            number = {"liver": 1, "spleen": 2}[thing.structure]
            np.testing.assert_array_equal(thing.mask, expected[case.slice] == number)
        assert case.spacing == pytest.approx([(2.0, 1.0), (3.0, 1.0), (3.0, 2.0)][axis])


@pytest.mark.parametrize(
    ("spacing", "letter"),
    [
        ((1.0, 1.0, 5.0), "z"),
        ((1.0, 5.0, 1.0), "y"),
        ((5.0, 1.0, 1.0), "x"),
        ((0.98, 0.98, 0.7), "z"),  # thin slices of a CT are still axial
        ((1.0, 3.0, 2.0), "y"),
    ],
)
def test_by_default_the_cut_is_the_plane_of_acquisition(spacing: tuple, letter: str, tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL, spacing=spacing)
    cases, _ = split(iter_cases(descriptor(), tmp_path))
    assert {case.case.split("/")[1][0] for case in cases} == {letter}
    plane = [value for axis, value in zip("zyx", spacing[::-1], strict=True) if axis != letter]
    assert cases[0].spacing == pytest.approx(plane)


def test_equal_spacings_keep_the_files_own_slices(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL, direction="PSR")
    cases, _ = split(iter_cases(descriptor(), tmp_path))
    assert {case.case.split("/")[1][0] for case in cases} == {"x"}  # stored as sagittal slices
    assert len(cases) == 3


def test_small_objects_are_left_out(tmp_path: Path) -> None:
    label = LABEL.copy()
    label[4, 2:11, 2:11] = 0
    label[4, 2:5, 2:7] = 1  # 15 pixels
    write_pair(tmp_path, "a", label)
    cases, failures = split(iter_cases(descriptor(), tmp_path))
    assert not failures
    both = ["liver", "spleen"]
    assert [[thing.structure for thing in case.objects] for case in cases] == [["spleen"], both, both]
    assert cases[1].objects[0].volume_voxels == 2 * 81 + 15
    cases, _ = split(iter_cases(descriptor(slices={"min_area": 15}), tmp_path))
    assert len(cases[0].objects) == 2


def test_slice_policies() -> None:
    areas = np.array([[0, 5], [20, 40], [30, 0], [90, 80], [50, 99], [17, 2]])
    np.testing.assert_array_equal(choose(areas, Slices()), areas >= 16)
    step = choose(areas, Slices(policy="step", step=3))
    assert np.flatnonzero(step.any(1)).tolist() == [1, 4]
    largest = choose(areas, Slices(policy="largest"))
    assert np.argwhere(largest).tolist() == [[3, 0], [4, 1]]
    assert choose(areas, Slices(min_area=100, policy="largest")).sum() == 0


def test_the_number_of_objects_can_be_limited_without_chance(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL)
    wanted = descriptor(slices={"max_objects": 1})
    first, second = (split(iter_cases(wanted, tmp_path))[0] for _ in range(2))
    assert [len(case.objects) for case in first] == [1, 1, 1]
    assert [c.objects[0].structure for c in first] == [c.objects[0].structure for c in second]


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_limit_is_spread_evenly_and_met(count: int, limit: int) -> None:
    chosen, shares = share_out(list(range(count)), limit)
    assert sum(share or 0 for share in shares) == limit
    assert len(chosen) == min(count, limit)
    assert len(set(chosen)) == len(chosen)
    gaps = np.diff([-1, *spread(count, limit), count])
    assert gaps.max() - gaps[1:-1].min(initial=gaps.max()) <= max(2, count // min(count, limit))


def test_limit_takes_from_all_volumes_and_makes_up_for_small_ones(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_pair(tmp_path, name, LABEL)
    write_pair(
        tmp_path, "a", np.where(np.arange(8)[:, None, None] == 5, LABEL, 0).astype(np.uint8)
    )  # one slice
    every = [case.case for case in split(iter_cases(descriptor(), tmp_path))[0]]
    six = [case.case for case in split(iter_cases(descriptor(), tmp_path, limit=6))[0]]
    assert len(six) == 6
    assert [case.split("/")[0] for case in six] == ["a", "b", "b", "b", "c", "c"]
    assert set(six) <= set(every)
    two = [case.volume for case in split(iter_cases(descriptor(), tmp_path, limit=2))[0]]
    assert two == ["a", "c"]
    assert [c.case for c in split(iter_cases(descriptor(), tmp_path, limit=100))[0]] == every
    with pytest.raises(InputError, match="limit 0"):
        list(iter_cases(descriptor(), tmp_path, limit=0))


def test_limit_spreads_over_the_slices_of_a_volume(tmp_path: Path) -> None:
    label = np.repeat(blocks((3, 30, 40), [1, 2])[1:2], 20, axis=0)
    write_pair(tmp_path, "a", label)
    assert [case.slice for case in split(iter_cases(descriptor(), tmp_path, limit=4))[0]] == [2, 7, 12, 17]


def test_one_volume_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next volume is read only when the cases before it have been taken."""
    import evaluation.cases

    read: list[str] = []
    original = evaluation.cases.read_volume

    def spy(path: Path, **keys: Any) -> Any:
        read.append(path.name)
        return original(path, **keys)

    monkeypatch.setattr(evaluation.cases, "read_volume", spy)
    for name in ("a", "b"):
        write_pair(tmp_path, name, LABEL)
    found = iter_cases(descriptor(), tmp_path)
    for _ in range(3):
        next(found)
    assert read == ["a.nii.gz"]
    next(found)
    assert read == ["a.nii.gz", "b.nii.gz"]


def test_grey_levels_by_modality_and_by_key(tmp_path: Path) -> None:
    image = np.zeros(LABEL.shape, np.int16)
    image[:, 5:25, 5:35] = np.linspace(100, 1100, 30).astype(np.int16)
    image[5, 9, 9] = 30000  # a hot pixel
    write_pair(tmp_path, "a", LABEL, image)

    def grey(**keys: Any) -> NDArray:
        return split(iter_cases(descriptor(**keys), tmp_path))[0][0].image

    assert grey()[6, 5] == 166  # 100 HU in a window from -160 to 240
    assert grey(intensity={"window": [100, 1100]})[6, 34] == 255
    mr = grey(modality="MR")  # percentiles of what is not zero: the hot pixel does not count
    assert (mr[6, 5], mr[6, 34], mr[0, 0]) == (0, 255, 0)
    assert 120 < mr[6, 20] < 140


def test_monochrome1_is_shown_the_right_way_round(tmp_path: Path) -> None:
    label = blocks((6, 30, 40), [1])
    for name, kind in (("a", "MONOCHROME1"), ("b", "MONOCHROME2")):
        series = write_dicom_series(tmp_path / name, picture_of(label, RNG), photometric=kind)
        write_dicom_seg(tmp_path / f"{name}_seg.dcm", series, {"liver": label == 1})
    wanted = descriptor(pattern="{id:[a-z]}", masks={"file": "{id}_seg.dcm", "labels": {"liver": "liver"}})
    cases, failures = split(iter_cases(wanted, tmp_path))
    assert not failures
    for case in cases:
        mask = case.objects[0].mask
        assert (case.image[mask].mean() > case.image[~mask].mean()) == (case.volume == "b")


def _stored(folder: Path, form: str, image: NDArray, label: NDArray) -> dict[str, Any]:
    """Store a volume in one of the formats; what its descriptor must say."""
    spacing = (1.0, 1.0, 5.0)
    masks: dict[str, Any] = {"file": f"{{id}}_label.{form}", "labels": {"liver": 1, "spleen": 2}}
    if form in ("nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr"):
        write_itk(folder / f"a.{form}", image, spacing)
        write_itk(folder / f"a_label.{form}", label, spacing)
    elif form == "npz":
        np.savez(folder / "a.npz", image=image.T)
        np.savez(folder / "a_label.npz", label=label)
        return {"image": {"key": "image", "axes": "xyz"}, "masks": masks, "spacing": [5, 1, 1]}
    elif form == "h5":
        with h5py.File(folder / "a.h5", "w") as file:
            file["scan"], file["annotation/liver"], file["annotation/spleen"] = image, label == 1, label == 2
        parts = [
            {"file": "{id}.h5", "key": f"annotation/{name}", "structure": name}
            for name in ("liver", "spleen")
        ]
        return {"image": {"key": "scan"}, "masks": parts, "spacing": [5, 1, 1]}
    elif form == "tif":
        tifffile.imwrite(folder / "a.tif", image, photometric="minisblack")
        tifffile.imwrite(folder / "a_label.tif", label, photometric="minisblack")
        return {"masks": masks, "spacing": [5, 1, 1]}
    else:
        series = write_dicom_series(folder / "a", image + 1024, intercept=-1024.0)
        if form == "dcm":
            write_dicom_seg(folder / "a_label.dcm", series, {"liver": label == 1, "spleen": label == 2})
        else:
            for k, mask in enumerate(label):
                write_picture(folder / "a_label" / f"{k}.png", mask)
            masks |= {"file": "{id}_label/{k}.png", "per_slice": True}
        return {"pattern": "{id:a}", "masks": masks}
    return {"masks": masks}


@pytest.mark.parametrize(
    "form", ["nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr", "npz", "h5", "tif", "dcm", "png"]
)
def test_one_scan_gives_the_same_cases_from_every_format(form: str, tmp_path: Path) -> None:
    image = picture_of(LABEL, np.random.default_rng(3))
    keys = {"pattern": f"{{id:a}}.{form}", **_stored(tmp_path, form, image, LABEL)}
    masks = keys["masks"] if isinstance(keys["masks"], list) else [keys["masks"]]
    source = {"folder": ".", "image": keys["pattern"], "masks": masks}
    extra = {key: keys[key] for key in ("image", "spacing") if key in keys}
    wanted = Descriptor.model_validate(
        {"name": "test", "title": "t", "modality": "CT", "sources": [source], **extra}
    )
    cases, failures = split(iter_cases(wanted, tmp_path))
    assert not failures
    assert [case.case for case in cases] == ["a/z004", "a/z005", "a/z006"]
    for case in cases:
        assert case.spacing == pytest.approx((1.0, 1.0))
        np.testing.assert_array_equal(case.image, to_grey(image[case.slice], (-160.0, 240.0)))
        assert [thing.structure for thing in case.objects] == ["liver", "spleen"]
        for number, thing in enumerate(case.objects, start=1):
            np.testing.assert_array_equal(thing.mask, LABEL[case.slice] == number)


def test_several_masks_of_an_image_are_united_or_kept_apart(tmp_path: Path) -> None:
    busi(tmp_path)
    united = load_descriptor("busi")
    masks = united.sources[0].masks[0].model_copy(update={"instances": "files"})
    apart = united.model_copy(update={"sources": (united.sources[0].model_copy(update={"masks": [masks]}),)})
    (one,) = [c for c in split(iter_cases(united, tmp_path))[0] if c.case == "benign (10)"]
    (two,) = [c for c in split(iter_cases(apart, tmp_path))[0] if c.case == "benign (10)"]
    assert [thing.mask.sum() for thing in one.objects] == [162]
    assert [(thing.structure, thing.instance, thing.mask.sum()) for thing in two.objects] == [
        ("breast lesion", 0, 81),
        ("breast lesion", 1, 81),
    ]


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


# --- bad input: each costs itself, the rest goes on ---


def check_bad(folder: Path, wanted: Descriptor, file: str, reason: str) -> list[Case]:
    """A good volume beside the bad one; one failure, of that file, for that reason."""
    write_pair(folder, "good", LABEL)
    cases, failures = split(iter_cases(wanted, folder))
    assert len([case for case in cases if case.volume == "good"]) == 3
    (failure,) = failures
    assert Path(failure.file).name == file
    assert failure.case.startswith("bad")
    assert reason in failure.reason
    assert "\n" not in failure.reason
    return [case for case in cases if case.volume == "bad"]


def test_a_truncated_image(tmp_path: Path) -> None:
    write_pair(tmp_path, "bad", LABEL)
    cut_short(tmp_path / "bad.nii.gz")
    assert not check_bad(tmp_path, descriptor(), "bad.nii.gz", "truncated")


def test_a_truncated_mask(tmp_path: Path) -> None:
    write_pair(tmp_path, "bad", LABEL)
    cut_short(tmp_path / "bad_label.nii.gz")
    assert not check_bad(tmp_path, descriptor(), "bad_label.nii.gz", "truncated")


def test_a_missing_mask(tmp_path: Path) -> None:
    write_pair(tmp_path, "bad", LABEL)
    (tmp_path / "bad_label.nii.gz").unlink()
    assert not check_bad(tmp_path, descriptor(), "bad.nii.gz", "no mask file matches 'bad_label.nii.gz'")


@pytest.mark.parametrize(
    ("label", "grid", "reason"),
    [
        (LABEL[:, :-1], {}, "size 8 x 29 x 40 differs from the image's 8 x 30 x 40"),
        (LABEL, {"spacing": (1.0, 1.0, 2.0)}, "spacing"),
        (LABEL, {"direction": "RAS"}, "orientation"),
        (LABEL, {"origin": (0.0, 0.0, 50.0)}, "origin lies 50.0 mm"),
        (np.zeros_like(LABEL), {}, "the mask is empty"),
        (np.where(LABEL > 0, 1.5, 0.0), {}, "fractional"),
        (np.where(LABEL > 0, np.nan, 0.0), {}, "NaN"),
        (-LABEL.astype(np.int16), {}, "label numbers 0 to 65535"),
    ],
)
def test_a_mask_that_does_not_fit(label: NDArray, grid: dict, reason: str, tmp_path: Path) -> None:
    write_pair(tmp_path, "bad", LABEL)
    write_itk(tmp_path / "bad_label.nii.gz", label, **grid)
    assert not check_bad(tmp_path, descriptor(), "bad_label.nii.gz", reason)


def test_geometry_can_be_left_aside(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL)
    write_itk(tmp_path / "a_label.nii.gz", LABEL, spacing=(1.0, 1.0, 2.0))
    assert len(split(iter_cases(descriptor(geometry="size"), tmp_path))[0]) == 3


def test_a_label_that_is_not_in_the_file_costs_its_structure(tmp_path: Path) -> None:
    write_pair(tmp_path, "bad", np.where(LABEL == 2, 7, LABEL).astype(np.uint8))
    cases = check_bad(
        tmp_path, descriptor(), "bad_label.nii.gz", "label 2 (spleen) is not in the file; it holds 0, 1, 7"
    )
    assert [[thing.structure for thing in case.objects] for case in cases] == [["liver"]] * 3
    wanted = descriptor(masks={"absent": "skip"})
    assert not split(iter_cases(wanted, tmp_path))[1]


def test_nan_voxels_cost_their_slices(tmp_path: Path) -> None:
    image = picture_of(LABEL, RNG, "float32")
    image[5, 3, 3:6] = np.nan
    write_pair(tmp_path, "bad", LABEL, image)
    cases = check_bad(tmp_path, descriptor(modality="MR"), "bad.nii.gz", "3 voxels of the slice are NaN")
    assert [case.case for case in cases] == ["bad/z004", "bad/z006"]
    assert cases[0].image.std() > 10  # the rest of the volume sets the grey levels


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full(LABEL.shape, 7, np.int16), "constant (every value is 7)"),
        (np.full(LABEL.shape, np.nan), "nothing but NaN"),
    ],
)
def test_an_image_without_content(image: NDArray, reason: str, tmp_path: Path) -> None:
    write_pair(tmp_path, "bad", LABEL, image)
    assert not check_bad(tmp_path, descriptor(), "bad.nii.gz", reason)


def test_a_constant_slice(tmp_path: Path) -> None:
    image = picture_of(LABEL, RNG)
    image[4] = -1000
    write_pair(tmp_path, "bad", LABEL, image)
    cases = check_bad(tmp_path, descriptor(), "bad.nii.gz", "the slice is constant (every value is -1000)")
    assert len(cases) == 2


def test_a_volume_where_an_image_is_expected_and_the_other_way_round(tmp_path: Path) -> None:
    write_pair(tmp_path, "volume", LABEL)
    write_pair(tmp_path, "image", LABEL[5])
    for dimensions, bad in ((2, "volume"), (3, "image")):
        cases, (failure,) = split(iter_cases(descriptor(image={"dimensions": dimensions}), tmp_path))
        assert failure.case == bad
        assert "expected" in failure.reason
        assert {case.volume for case in cases} == {"volume", "image"} - {bad}


def test_a_4d_file_without_a_frame(tmp_path: Path) -> None:
    write_itk(tmp_path / "bad.nii.gz", np.stack([LABEL, LABEL]))
    write_itk(tmp_path / "bad_label.nii.gz", LABEL)
    check_bad(tmp_path, descriptor(), "bad.nii.gz", "4-D with 2 frames; say which with image.frame")


def test_slices_without_their_masks(tmp_path: Path) -> None:
    label = blocks((6, 30, 40), [1])
    for patient in ("1", "2"):
        write_dicom_series(tmp_path / patient / "DICOM_anon", picture_of(label, RNG) + 1000, intercept=-1000)
        for k, mask in enumerate(label[: 6 if patient == "1" else 5]):
            write_picture(tmp_path / patient / "Ground" / f"liver_GT_{k:03d}.png", mask * np.uint8(255))
    wanted = load_descriptor("chaos-ct")
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert {case.volume for case in cases} == {"1"}
    assert failure.reason == "5 mask files for 6 slices; expected one a slice"
    write_picture(tmp_path / "2" / "Ground" / "liver_GT_005.png", np.zeros((30, 39), np.uint8))
    _, (failure,) = split(iter_cases(wanted, tmp_path))
    assert failure.reason == "liver_GT_005.png is 30 x 39, the image's slices are 30 x 40"


def test_what_no_reader_foresaw_costs_its_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import evaluation.cases

    original = evaluation.cases.read_structures

    def broken(entry: Any, *rest: Any, **keys: Any) -> Any:
        if entry.id == "bad":
            raise ZeroDivisionError("division\nby zero")
        return original(entry, *rest, **keys)

    monkeypatch.setattr(evaluation.cases, "read_structures", broken)
    write_pair(tmp_path, "bad", LABEL)
    assert not check_bad(tmp_path, descriptor(), "bad.nii.gz", "ZeroDivisionError: division by zero")


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL)
    (tmp_path / "._a.nii.gz").write_bytes(b"left behind by another system")
    cases, failures = split(iter_cases(descriptor(pattern="{id}.nii.gz"), tmp_path))
    assert {case.volume for case in cases} == {"a"}
    assert [failure.case for failure in failures] == [
        "a_label"
    ]  # as the pattern says: an image without a mask


def test_failures_do_not_use_up_the_limit(tmp_path: Path) -> None:
    amos(tmp_path)
    cut_short(next(tmp_path.rglob("imagesTr/amos_0001.nii.gz")))
    cases, failures = split(iter_cases(load_descriptor("amos-ct"), tmp_path, limit=2))
    assert len(failures) == 1
    assert len(cases) == 2


def test_the_order_is_the_same_every_time(tmp_path: Path) -> None:
    acdc(tmp_path)
    wanted = load_descriptor("acdc")
    first, second = ([case.case for case in split(iter_cases(wanted, tmp_path))[0]] for _ in range(2))
    assert first == second
    assert sorted({name.split("/z")[0] for name in first}) == [
        "patient001/frame01",
        "patient001/frame12",
        "patient101/frame01",
        "patient101/frame14",
    ]


# --- synthetic shards ---


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
