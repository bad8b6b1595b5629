"""Bad input of a dataset: each file costs itself, the rest goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.evaluation.cases.case import Case
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import Descriptor, load_descriptor
from tests.support.cases import descriptor, source, split
from tests.support.files import (
    LABEL,
    blocks,
    cut_short,
    picture_of,
    write_dicom_series,
    write_itk,
    write_pair,
    write_picture,
)
from tests.support.trees import amos

RNG = np.random.default_rng(0)


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


def test_an_image_on_which_clicks_would_not_fit(tmp_path: Path) -> None:
    label = np.zeros((2, 40000), np.uint8)
    label[:, 38000:] = 1
    write_picture(tmp_path / "a.png", label * np.uint8(90))
    write_picture(tmp_path / "a_m.png", label)
    wanted = source("{id:a}.png", {"file": "{id}_m.png", "structure": "liver"})
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert not cases
    assert failure.reason == "size 2 x 40000: sides of more than 32767 pixels are not supported"


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
        (-LABEL.astype(np.int16), {}, "the mask is empty"),
        (LABEL.astype(np.int32) * 40000, {}, "values up to 80000, expected label numbers up to 65535"),
        (LABEL.astype(np.float64) * 1e12, {}, "values up to 2e+12"),
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


def test_a_jpeg_holds_no_labels(tmp_path: Path) -> None:
    label = blocks((30, 40), [1, 2])
    write_picture(tmp_path / "a.png", picture_of(label, RNG, "uint8"))
    write_picture(tmp_path / "a_m.jpg", label * np.uint8(100))
    wanted = source("{id:a}.png", {"file": "{id}_m.jpg", "labels": {"liver": 100}})
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert not cases
    assert failure.reason.startswith("a JPEG keeps no label numbers")


def test_an_image_that_its_window_leaves_blank(tmp_path: Path) -> None:
    scaled = (picture_of(LABEL, RNG) / 4000).astype(np.float32)  # a CT that somebody has scaled to 0 to 1
    write_pair(tmp_path, "a", LABEL, scaled)
    cases, failures = split(iter_cases(descriptor(), tmp_path))
    assert not cases
    assert "one grey level is left of the slice" in failures[0].reason
    assert "black and white are -160 and 240" in failures[0].reason
    assert not split(iter_cases(descriptor(intensity={"window": [0, 0.1]}), tmp_path))[1]


@pytest.mark.parametrize("text", ["0", "-0.2", "nan", "", "wide"])
def test_a_row_of_the_table_of_spacings_without_a_length_costs_its_image(text: str, tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    for name in "ab":
        write_picture(tmp_path / f"{name}.png", picture_of(label, RNG, "uint8"))
        write_picture(tmp_path / f"{name}_m.png", label)
    (tmp_path / "mm.csv").write_text(f"file,mm\na.png,{text}\nb.png,0.3\n")
    table = {"table": "mm.csv", "name": "file", "column": "mm"}
    wanted = source("{id:[ab]}.png", {"file": "{id}_m.png", "structure": "liver"}, spacing_table=table)
    (case,), (failure,) = split(iter_cases(wanted, tmp_path))
    assert (case.case, case.spacing) == ("b", (0.3, 0.3))
    assert "no mm above 0" in failure.reason
    (tmp_path / "mm.csv").write_bytes(b"file,mm\na.png,\xff\n")
    with pytest.raises(InputError, match=r"mm\.csv"):
        list(iter_cases(wanted, tmp_path))


def test_colours_are_no_label_numbers(tmp_path: Path) -> None:
    label = blocks((30, 40), [1, 2])
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)[label]
    write_picture(tmp_path / "a.png", picture_of(label, RNG, "uint8"))
    write_picture(tmp_path / "a_m.png", colours)
    wanted = source("{id:a}.png", {"file": "{id}_m.png", "labels": {"liver": 255}})
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert not cases
    assert failure.reason.startswith("holds colours, #000000, #00ff00, #ff0000; give colours as labels")
    many = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    write_picture(tmp_path / "a_m.png", many)
    _, (failure,) = split(iter_cases(wanted, tmp_path))
    assert failure.reason.count("#") == 7
    write_picture(tmp_path / "a_m.png", np.repeat(label[..., None], 3, axis=-1) * np.uint8(100))
    wanted = source("{id:a}.png", {"file": "{id}_m.png", "labels": {"liver": 100}})
    assert not split(iter_cases(wanted, tmp_path))[1]  # grey: its channels are alike


def test_a_file_without_colours_where_colours_are_labels(tmp_path: Path) -> None:
    write_pair(tmp_path, "bad", LABEL)
    wanted = descriptor(masks={"labels": {"liver": "#ff0000"}})
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert not cases
    assert failure.reason == "is no picture; only pictures have colours as labels"
    wanted = source("{id:b}.png", {"file": "{id}_m.png", "labels": {"liver": "#ff0000", "spleen": "#010101"}})
    write_picture(tmp_path / "b.png", picture_of(LABEL[5], RNG, "uint8"))
    write_picture(tmp_path / "b_m.png", LABEL[5])
    (case,), (failure,) = split(iter_cases(wanted, tmp_path))
    assert failure.reason == "label #ff0000 (liver) is not in the file; it holds #000000, #010101, #020202"
    assert [thing.structure for thing in case.objects] == ["spleen"]
    write_picture(tmp_path / "b_m.png", LABEL[5].astype(np.uint16))
    assert "8 bits a channel" in split(iter_cases(wanted, tmp_path))[1][0].reason


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_voxels_cost_a_volume_that_is_scored_as_one(tmp_path: Path, value: float) -> None:
    image = picture_of(LABEL, RNG, "float32")
    image[5, 3, 4] = value
    write_pair(tmp_path, "bad", LABEL, image)
    write_pair(tmp_path, "good", LABEL)
    cases, (failure,) = split(iter_cases(descriptor(modality="MR"), tmp_path, dims=3))
    assert {case.volume for case in cases} == {"good"}
    assert failure.case == "bad"
    assert failure.reason.startswith("1 voxels are NaN or infinite, the first at voxel (4, 3, 5)")


@pytest.mark.parametrize("threshold", [None, 10])
def test_a_mask_in_shades_is_told_of_once_unless_a_threshold_is_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, threshold: int | None
) -> None:
    label = blocks((30, 40), [1])
    shades = np.where(label > 0, 200, 0).astype(np.uint8)
    shades[0] = np.arange(40) * 2
    for name in ("a", "b"):
        write_picture(tmp_path / f"{name}.png", picture_of(label, RNG, "uint8"))
        write_picture(tmp_path / f"{name}_m.png", shades)
    mask: dict[str, Any] = {"file": "{id}_m.png", "structure": "liver"}
    wanted = source("{id:[ab]}.png", {**mask, "threshold": threshold} if threshold else mask)
    cases, _ = split(iter_cases(wanted, tmp_path))
    assert [item.mask.sum() for case in cases for item in case.objects] == 2 * [
        np.count_nonzero(shades > (threshold or 127))
    ]
    told = "a_m.png holds more than two values, 0 to 200: what is above 127 is taken for the object"
    assert caplog.text.count("more than two values") == (0 if threshold else 1)
    assert (told in caplog.text) == (threshold is None)


def test_labels_are_not_told_from_what_is_packed_as_jpeg_whatever_its_name(tmp_path: Path) -> None:
    label = blocks((30, 40), [1])
    write_picture(tmp_path / "a.png", picture_of(label, RNG, "uint8"))
    write_picture(tmp_path / "m.jpg", label * np.uint8(100)).rename(tmp_path / "a_m.png")
    wanted = source("{id:a}.png", {"file": "{id}_m.png", "labels": {"liver": 100}})
    _, (failure,) = split(iter_cases(wanted, tmp_path))
    assert failure.reason.startswith("a JPEG keeps no label numbers")


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


def spoil(path: Path, how: str) -> None:
    """Make a mask file truncated, missing or empty."""
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        cut_short(path)
    elif path.suffix == ".png":
        write_picture(path, np.zeros((30, 40), np.uint8))
    else:
        write_itk(path, np.zeros_like(LABEL))


ENTRIES = {
    "of one structure": [
        {"file": "{id}_left.png", "structure": "lungs"},
        {"file": "{id}_right.png", "structure": "lungs"},
    ],
    "of one label": [
        {"file": "{id}_left.png", "labels": {"lungs": 1}},
        {"file": "{id}_right.png", "labels": {"lungs": 2}},
    ],
    "of a value each": [{"file": "{id}_{structure}.png", "structures": {"left": "lungs", "right": "lungs"}}],
}
"""One structure in two files, a lung in each."""


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("how", ["truncated", "missing", "empty"])
def test_a_structure_that_lacks_a_part_is_no_reference(how: str, entries: str, tmp_path: Path) -> None:
    label = blocks((30, 40), [1, 2])
    for name in ("bad", "good"):
        write_picture(tmp_path / f"{name}.png", picture_of(label, RNG, "uint8"))
        for number, side in ((1, "left"), (2, "right")):
            write_picture(tmp_path / f"{name}_{side}.png", label * (label == number))
    wanted = source("{id:[a-z]+}.png", *ENTRIES[entries])
    whole, _ = split(iter_cases(wanted, tmp_path))
    assert [case.objects[0].mask.sum() for case in whole] == [162, 162]
    spoil(tmp_path / "bad_left.png", how)
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert failure.case == "bad"
    assert {case.case: case.objects[0].mask.sum() for case in cases} == (
        {"bad": 81, "good": 162} if how == "empty" else {"good": 162}  # an empty part is a part
    )


@pytest.mark.parametrize(
    ("how", "absent", "rest"),
    [
        ("truncated", "report", {"spleen"}),
        ("missing", "report", {"spleen"}),
        ("truncated", "skip", {"spleen"}),
        ("missing", "skip", {"left lung", "spleen"}),
    ],
)
def test_a_lobe_that_is_lost_costs_its_lung(how: str, absent: str, rest: set[str], tmp_path: Path) -> None:
    label = blocks((8, 30, 40), [1, 2, 3])
    write_itk(tmp_path / "s1" / "ct.nii.gz", picture_of(label, RNG))
    for number, name in enumerate(("lobe_upper", "lobe_lower", "spleen"), start=1):
        write_itk(tmp_path / "s1" / f"{name}.nii.gz", (label == number).astype(np.uint8))
    spoil(tmp_path / "s1" / "lobe_upper.nii.gz", how)
    structures = {"lobe_upper": "left lung", "lobe_lower": "left lung", "spleen": "spleen"}
    masks = {"file": "{id}/{structure}.nii.gz", "structures": structures, "absent": absent}
    cases, failures = split(iter_cases(source("{id}/ct.nii.gz", masks, modality="CT"), tmp_path))
    assert len(failures) == (0 if (how, absent) == ("missing", "skip") else 1)
    assert {thing.structure for case in cases for thing in case.objects} == rest


def test_a_part_drawn_slice_by_slice_that_lacks_a_slice_costs_its_structure(tmp_path: Path) -> None:
    write_itk(tmp_path / "a.nii.gz", picture_of(LABEL, RNG))
    for number, side in ((1, "left"), (2, "right")):
        for k, layer in enumerate(LABEL):
            write_picture(tmp_path / side / f"{k}.png", (layer == number) * np.uint8(255))
    masks = [
        {"file": f"{side}/{{k}}.png", "structure": "lungs", "per_slice": True} for side in ("left", "right")
    ]
    wanted = source("{id:a}.nii.gz", *masks, modality="CT")
    assert len(split(iter_cases(wanted, tmp_path))[0]) == 3
    (tmp_path / "left" / "3.png").unlink()
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert (cases, failure.reason) == ([], "7 mask files for 8 slices; expected one a slice")


def test_an_unusable_part_costs_no_objects_that_are_kept_apart(tmp_path: Path) -> None:
    label = blocks((30, 40), [1, 2])
    write_picture(tmp_path / "a.png", picture_of(label, RNG, "uint8"))
    for number in (1, 2):
        write_picture(tmp_path / f"a_{number}.png", label * (label == number))
    cut_short(tmp_path / "a_1.png")
    masks = {"file": "{id}_{number}.png", "structure": "nodule", "instances": "files"}
    (case,), (failure,) = split(iter_cases(source("{id:a}.png", masks), tmp_path))
    assert Path(failure.file).name == "a_1.png"
    assert [thing.mask.sum() for thing in case.objects] == [81]


NAMINGS = {
    "structure": {"file": "{id}_liver.png", "structure": "liver"},
    "structures": {"file": "{id}_{structure}.png", "structures": {"liver": "liver"}},
    "labels": {"file": "{id}_liver.png", "labels": {"liver": 1}},
    "colours": {"file": "{id}_liver.png", "labels": {"liver": "#010101"}},
    "polygons": {"file": "{id}_liver.xml", "structure": "liver"},
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("how", ["empty", "missing"])
def test_what_is_absent_is_reported_or_skipped(how: str, naming: str, tmp_path: Path) -> None:
    """Slices as PNG, in one of which there is no liver."""
    label = blocks((30, 40), [1])
    drawn = '[{"points": [{"x": 2, "y": 2}, {"x": 10, "y": 2}, {"x": 10, "y": 10}, {"x": 2, "y": 10}]}]'
    for name in ("bad", "good"):
        write_picture(tmp_path / f"{name}.png", picture_of(label, RNG, "uint8"))
        write_picture(tmp_path / f"{name}_liver.png", label)
        regions = "[]" if name == "bad" else drawn
        (tmp_path / f"{name}_liver.xml").write_text(f"<case><mark><svg>{regions}</svg></mark></case>")
    bad = tmp_path / NAMINGS[naming]["file"].format(id="bad", structure="liver")
    if how == "missing" or naming != "polygons":
        spoil(bad, how)
    for absent in ("report", "skip"):
        wanted = source("{id:[a-z]+}.png", {**NAMINGS[naming], "absent": absent})
        cases, failures = split(iter_cases(wanted, tmp_path))
        assert {case.case for case in cases} == {"good"}
        # A missing file of labels, or of all structures that have their own, is no organ outside the view.
        silent = absent == "skip" and (how == "empty" or naming in ("structure", "polygons"))
        assert len(failures) == (0 if silent else 1)


def test_what_no_reader_foresaw_costs_its_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import synthfm.evaluation.cases.cases

    original = synthfm.evaluation.cases.cases.read_structures

    def broken(entry: Any, *rest: Any, **keys: Any) -> Any:
        if entry.id == "bad":
            raise ZeroDivisionError("division\nby zero")
        return original(entry, *rest, **keys)

    monkeypatch.setattr(synthfm.evaluation.cases.cases, "read_structures", broken)
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


def test_a_ct_that_is_not_in_hounsfield_units_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is scored: nobody but the user knows. (Told once a dataset, so each has a name of its own.)"""
    body = np.full(LABEL.shape, -1000.0)
    body[:, 4:-4, 4:-4] = 40
    body = np.rint(body + 60 * LABEL + RNG.normal(0, 10, LABEL.shape)).astype(np.int16)

    def warns(name: str, values: NDArray, **keys: Any) -> bool:
        folder = tmp_path / name
        folder.mkdir()
        write_pair(folder, "a", LABEL, values)
        caplog.clear()
        cases, _ = split(iter_cases(descriptor(name=name, **keys), folder))
        assert cases
        return "Hounsfield units? If not, set intensity" in caplog.text

    assert not warns("units", body)
    assert warns("offset", body - body.min())
    assert not warns("said", body - body.min(), intensity={"window": [800, 1200]})
    assert warns("scaled", (body / 200).astype(np.float32))
    assert not warns("bone", np.where(body > -500, body + 300, body))
    assert not warns("mr", body - body.min(), modality="MR")


@pytest.mark.parametrize("plane", ["auto", "coronal"])
def test_one_coronal_slice_is_a_picture_and_a_line_is_none(plane: str, tmp_path: Path) -> None:
    volume = picture_of(LABEL, RNG)
    wanted = descriptor(slices={"plane": plane})
    write_pair(tmp_path, "good", LABEL[:, 8:9], volume[:, 8:9])
    (case,) = split(iter_cases(wanted, tmp_path))[0]
    assert case.image.shape == (LABEL.shape[0], LABEL.shape[2])
    assert case.case == "good/y000"
    write_pair(tmp_path, "good", LABEL[:1, 8:9], volume[:1, 8:9])
    cases, (failure,) = split(iter_cases(wanted, tmp_path))
    assert not cases
    assert "is no image" in failure.reason
    write_pair(tmp_path, "good", LABEL[:, :, 8:9], volume[:, :, 8:9])
    cases, failures = split(iter_cases(wanted, tmp_path))
    if plane == "auto":
        assert cases[0].case == "good/x000"
    else:
        assert "its coronal slices have 8 x 1 pixels; give another slices.plane" in failures[-1].reason
