"""Cases: which slices and objects a dataset gives, and how they look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.evaluation.cases.case import spread
from synthfm.evaluation.cases.cases import iter_cases, split_limit
from synthfm.evaluation.cases.descriptor import Descriptor, load_descriptor
from synthfm.evaluation.cases.schema import Slices
from synthfm.evaluation.cases.slicing import choose, to_grey
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
from tests.support.trees import acdc

RNG = np.random.default_rng(0)


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
        ((1.0, 1.06, 1.0), "y"),
        ((1.0, 1.04, 1.0), "z"),  # equal but for the rounding of a header
    ],
)
def test_by_default_the_cut_is_the_plane_of_acquisition(spacing: tuple, letter: str, tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL, spacing=spacing)
    cases, _ = split(iter_cases(descriptor(), tmp_path))
    assert {case.case.split("/")[1][0] for case in cases} == {letter}
    plane = [value for axis, value in zip("zyx", spacing[::-1], strict=True) if axis != letter]
    assert cases[0].spacing == pytest.approx(plane)


def test_a_plane_is_found_in_files_that_are_shown_as_they_lie(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL, direction="PSR")
    cases, _ = split(iter_cases(descriptor(orientation="file", slices={"plane": "axial"}), tmp_path))
    turned, _ = split(iter_cases(descriptor(slices={"plane": "axial"}), tmp_path))
    assert {case.case.split("/")[1][0] for case in cases} == {"z"}
    assert sorted(case.objects[0].mask.sum() for case in cases) == sorted(
        c.objects[0].mask.sum() for c in turned
    )
    assert sorted(case.image.shape for case in cases)[0] in (
        turned[0].image.shape,
        turned[0].image.shape[::-1],
    )


def test_one_slice_is_turned_as_several_are(tmp_path: Path) -> None:
    label, image = LABEL[5:7], picture_of(LABEL, np.random.default_rng(0))[5:7]
    for name, depth in (("a", 1), ("b", 2)):
        write_pair(tmp_path, name, label[:depth], image[:depth], direction="RAS", spacing=(1.0, 1.0, 3.0))
    one, *two = split(iter_cases(descriptor(), tmp_path))[0]
    assert one.case == "a"
    assert any(np.array_equal(one.image, other.image) for other in two)


def test_two_numbers_of_spacing_keep_the_distance_between_slices(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", LABEL, spacing=(1.0, 1.0, 3.0))
    cases, _ = split(iter_cases(descriptor(spacing=[0.5, 0.6], slices={"plane": "coronal"}), tmp_path))
    assert {case.spacing for case in cases} == {(3.0, 0.6)}
    np.savez(tmp_path / "b.npz", LABEL * 50)
    np.savez(tmp_path / "b_m.npz", LABEL)
    keys = {"modality": "MR", "spacing": [0.5, 0.6]}
    masks = {"file": "{id}_m.npz", "labels": {"liver": 1}}
    cases, _ = split(iter_cases(source("{id:b}.npz", masks, **keys), tmp_path))
    assert {case.spacing for case in cases} == {(0.5, 0.6)}
    _, (failure,) = split(
        iter_cases(source("{id:b}.npz", masks, slices={"plane": "coronal"}, **keys), tmp_path)
    )
    assert "give [slice, row, column]" in failure.reason


def test_labels_that_touch_are_objects_of_their_own(tmp_path: Path) -> None:
    label = np.zeros((30, 40), np.uint8)
    label[5:15, 5:15], label[5:15, 15:25], label[20:26, 5:15] = 1, 2, 2
    write_picture(tmp_path / "a.png", picture_of(label, np.random.default_rng(0), "uint8"))
    write_picture(tmp_path / "a_m.png", label)
    masks = {"file": "{id}_m.png", "labels": {"cell": "1..9"}, "instances": "components"}
    (case,), _ = split(iter_cases(source("{id:a}.png", masks), tmp_path))
    assert [int(thing.mask.sum()) for thing in case.objects] == [100, 100, 60]


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
    chosen, shares = split_limit(list(range(count)), limit)
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
    import synthfm.evaluation.cases.cases

    read: list[str] = []
    original = synthfm.evaluation.cases.cases.read_volume

    def spy(path: Path, **keys: Any) -> Any:
        read.append(path.name)
        return original(path, **keys)

    monkeypatch.setattr(synthfm.evaluation.cases.cases, "read_volume", spy)
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


def test_a_ct_in_8_bits_has_been_windowed_already(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    write_picture(tmp_path / "a.png", ramp)
    write_picture(tmp_path / "a_m.png", blocks((30, 40), [1]))
    masks = {"file": "{id}_m.png", "structure": "liver"}

    def grey(**keys: Any) -> NDArray:
        return split(iter_cases(source("{id:a}.png", masks, **keys), tmp_path))[0][0].image

    for modality in ("CT", "US", "XR", "OCT", "generic"):
        np.testing.assert_array_equal(grey(modality=modality), ramp)
    assert grey(modality="CT", intensity={"window": [0, 100]})[0, 20] == 255
    assert grey(modality="MR")[0, 1] == 0  # percentiles: 8 bits say nothing of how an MR was scaled


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


@pytest.mark.parametrize(
    ("stored", "named"), [("m.dcm", "m.dcm"), ("1.2.840.99", "1.2.840.99"), ("m/1-1.dcm", "m"), ("m", "m")]
)
def test_a_dicom_seg_is_known_by_what_it_holds(stored: str, named: str, tmp_path: Path) -> None:
    image = picture_of(LABEL, np.random.default_rng(3))
    series = write_dicom_series(tmp_path / "a", image + 1024, intercept=-1024.0)
    write_dicom_seg(tmp_path / stored, series, {"liver": LABEL == 1, "spleen": LABEL == 2})
    wanted = source("{id:a}", {"file": named, "labels": {"liver": "liver"}}, modality="CT")
    cases, failures = split(iter_cases(wanted, tmp_path))
    assert not failures
    assert {item.structure for case in cases for item in case.objects} == {"liver"}
    wanted = source("{id:a}", {"file": named, "structure": "liver"}, modality="CT")
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert (cases, failure.reason[:16]) == ([], "is a DICOM-SEG; ")


def test_a_folder_that_is_a_series_of_labels_is_read(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "a", picture_of(LABEL, np.random.default_rng(3)) + 1024, intercept=-1024.0)
    write_dicom_series(tmp_path / "m", LABEL.astype(np.int16))
    wanted = source("{id:a}", {"file": "m", "labels": {"liver": 1}}, modality="CT", geometry="size")
    cases, failures = split(iter_cases(wanted, tmp_path))
    assert cases
    assert not failures


def test_slices_of_a_mask_in_arrays_are_chosen_by_name(tmp_path: Path) -> None:
    write_itk(tmp_path / "a.nii.gz", picture_of(LABEL, np.random.default_rng(3)))
    (tmp_path / "m").mkdir()
    for k, layer in enumerate(LABEL):
        np.savez(tmp_path / "m" / f"{k}.npz", mask=layer.T == 1, other=layer)
    masks = {"file": "m/{k}.npz", "structure": "liver", "per_slice": True, "key": "mask", "axes": "xy"}
    cases, failures = split(iter_cases(source("{id:a}.nii.gz", masks, modality="CT"), tmp_path))
    assert not failures
    assert all((item.mask == (LABEL[case.slice] == 1)).all() for case in cases for item in case.objects)


def test_an_infinite_voxel_costs_its_slice_alone(tmp_path: Path) -> None:
    image = (LABEL > 0).astype(np.float32)
    image[5, 0, 0] = np.inf
    np.save(tmp_path / "a.npy", image)
    np.save(tmp_path / "a_m.npy", LABEL)
    wanted = source("{id:a}.npy", {"file": "{id}_m.npy", "structure": "liver"}, modality="MR")
    cases, failures = split(iter_cases(wanted, tmp_path))
    assert [case.slice for case in cases] == [4, 6]
    assert len(failures) == 1
    assert all(set(np.unique(case.image)) == {0, 255} for case in cases)
