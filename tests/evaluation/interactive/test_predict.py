"""Scans and prompts in, mask files on the scans' own grids out: the command and the function."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicerio
from click.testing import CliRunner, Result
from PIL import Image

from synthfm.data.console import InputError
from synthfm.evaluation.cli import main
from synthfm.evaluation.interactive.finding import find, open_model
from synthfm.evaluation.interactive.placing import place
from synthfm.evaluation.interactive.prompt_files import parse_box, parse_point
from synthfm.evaluation.scans.listing import list_scans
from synthfm.evaluation.scans.scan import read_scan
from synthfm.evaluation.segment import segment
from tests.support.files import write_dicom_series, write_itk, write_picture

SHAPE = (6, 48, 48)


def ball(centre: tuple[float, float, float] = (2.5, 24, 20)) -> np.ndarray:
    """A ball of 11 pixels' radius, slices four pixels apart, bool (Z, Y, X)."""
    z, y, x = np.indices(SHAPE)
    return ((z - centre[0]) * 4) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 11**2


BALL = ball()
BOX = "9,13,32,36,2"
VALUES = (40 + 120 * BALL + np.random.default_rng(0).normal(0, 4, SHAPE)).astype(np.int16)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.sum(first & second) / (first.sum() + second.sum()))


def predict(*words: object) -> Result:
    return CliRunner().invoke(main, ["predict", *map(str, words)])


def done(*words: object) -> Result:
    result = predict(*words)
    assert result.exit_code == 0, result.output
    return result


def read(path: Path) -> np.ndarray:
    """A mask file, bool (Z, Y, X)."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0


def scan_in(folder: Path, name: str = "scan.nii.gz", values: np.ndarray = VALUES) -> Path:
    return write_itk(folder / name, values, (1.0, 1.0, 4.0), origin=(10.0, -20.0, 30.0))


def only_line(result: Result, code: int) -> str:
    """The one line on standard error of a command that failed, without a traceback."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.strip().splitlines()
    return line


def test_one_box_gives_the_ball_on_the_scans_grid_with_its_volume_and_a_picture(tmp_path: Path) -> None:
    scan, out = scan_in(tmp_path), tmp_path / "liver.nii.gz"
    result = done(scan, "--box", f"liver:{BOX}", "--out", out)
    written, source = nibabel.load(out), nibabel.load(scan)
    mask = np.asarray(written.dataobj).T > 0
    assert dice(mask, BALL) > 0.9
    np.testing.assert_array_equal(written.affine, source.affine)
    for code in ("qform_code", "sform_code"):
        assert written.header[code] == source.header[code]
    report = json.loads((tmp_path / "liver.json").read_text())
    (item,) = report["objects"]
    assert (item["name"], item["label"], item["voxels"]) == ("liver", 1, mask.sum())
    assert item["volume_ml"] == pytest.approx(mask.sum() * 4 / 1000)
    k, j, i = (np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis}))) for axis in range(3))
    assert item["extent"] == [[used[0], used[-1]] for used in (i, j, k)]
    assert item["extent_mm"][2] == 4 * len(k)
    assert list(map(int, item["iou"])) == k.tolist()
    assert all(0 < iou <= 1 for iou in item["iou"].values())
    assert report["seconds"] > item["seconds"] > 0
    assert f"liver {item['volume_ml']:.4g} ml" in result.output
    picture = np.asarray(Image.open(tmp_path / "liver_overlay.png"))
    assert (picture == (230, 25, 75)).all(-1).sum() > 200  # the outline
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "liver.json",
        "liver.nii.gz",
        "liver_overlay.png",
        "scan.nii.gz",
    ]


def test_a_stroke_through_the_ball_gives_the_ball(tmp_path: Path) -> None:
    strokes = ("--stroke", "ball:14,24,20,20,27,25,2", "--stroke", "ball:2,2,40,3,2,-")
    done(scan_in(tmp_path), *strokes, "--two-d", "--out", tmp_path / "m.mha")
    assert dice(read(tmp_path / "m.mha")[2], BALL[2]) > 0.8


def test_two_d_answers_the_named_slice_only(tmp_path: Path) -> None:
    done(scan_in(tmp_path), "--box", BOX, "--two-d", "--out", tmp_path / "m.mha")
    mask = read(tmp_path / "m.mha")
    assert np.flatnonzero(mask.any((1, 2))).tolist() == [2]
    assert dice(mask[2], BALL[2]) > 0.9


def test_slices_are_those_of_the_plane_named(tmp_path: Path) -> None:
    scan = write_itk(tmp_path / "a.mha", VALUES.transpose(1, 0, 2).copy(), (1.0, 4.0, 1.0))
    done(scan, "--box", BOX, "--plane", "coronal", "--out", tmp_path / "m.mha")
    mask = read(tmp_path / "m.mha")
    assert dice(mask.transpose(1, 0, 2), BALL) > 0.9


def test_an_oblique_scan_gets_a_mask_on_its_own_oblique_grid(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VALUES)
    image.SetSpacing((1.0, 1.0, 4.0))
    c, s = np.cos(0.4), np.sin(0.4)
    image.SetDirection([c, -s, 0, s, c, 0, 0, 0, 1])
    sitk.WriteImage(image, str(tmp_path / "oblique.nrrd"))
    done(tmp_path / "oblique.nrrd", "--box", f"liver:{BOX}", "--out", tmp_path / "o")
    segmentation = slicerio.read_segmentation(str(tmp_path / "o" / "oblique_mask.seg.nrrd"))
    steps = [[c, -s, 0], [s, c, 0], [0, 0, 4]]
    np.testing.assert_allclose(segmentation["ijkToLPS"][:3, :3], steps, atol=1e-9)
    assert [segment["name"] for segment in segmentation["segments"]] == ["liver"]
    assert dice(segmentation["voxels"].T > 0, BALL) > 0.9


def test_a_dicom_folder_gets_a_segmentation_that_refers_to_its_instances(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "ct", VALUES, spacing=(4.0, 1.0, 1.0))
    done(tmp_path / "ct", "--box", f"liver:{BOX}", "--window", 0, 200, "--out", tmp_path / "out")
    found = pydicom.dcmread(tmp_path / "out" / "ct_mask.dcm")
    assert found.SegmentSequence[0].SegmentLabel == "liver"
    (series,) = found.ReferencedSeriesSequence
    referred = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referred
    assert referred <= {pydicom.dcmread(file).SOPInstanceUID for file in files}


def test_a_picture_in_colour_is_asked_by_a_click_and_answered_by_a_png(tmp_path: Path) -> None:
    grey = VALUES[2].clip(0, 255).astype(np.uint8)
    scan = write_picture(tmp_path / "us.png", np.dstack([grey, grey // 2, grey // 3]))
    done(scan, "--point", "20,24", "--out", tmp_path / "out")
    mask = np.asarray(Image.open(tmp_path / "out" / "us_mask.png"))
    assert set(np.unique(mask)) == {0, 255}
    assert dice(mask > 0, BALL[2]) > 0.85
    (item,) = json.loads((tmp_path / "out" / "us_mask.json").read_text())["objects"]
    assert (item["volume_ml"], item["area_mm2"]) == (None, None)


def test_many_scans_and_objects_from_a_file_with_an_object_a_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        scan_in(tmp_path / "ct", f"{name}.mha")
    asked = [
        {"scan": "ct/a.mha", "objects": [{"name": "ball", "boxes": [[9, 13, 32, 36, 2]]}]},
        {
            "scan": "b.mha",
            "objects": [
                {"name": "ball", "boxes": [[9, 13, 32, 36, 2]]},
                {"name": "again", "points": [[20, 24, 2]], "labels": [1]},
            ],
        },
    ]
    (tmp_path / "p.json").write_text(json.dumps({"scans": asked}))
    words = ["--prompts", tmp_path / "p.json", "--format", ".mha", "--separate", "--two-d"]
    result = done(tmp_path / "ct", *words, "--out", tmp_path / "o")
    assert len(result.stdout.splitlines()) == 2
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert {"a_mask_ball.mha", "b_mask_ball.mha", "b_mask_again.mha"} < names
    first, second = (read(tmp_path / "o" / f"b_mask_{name}.mha") for name in ("ball", "again"))
    assert dice(first[2], BALL[2]) > 0.9
    assert not (first & second).any()  # what is the first one's is not the second one's
    both = ["--box", f"ball:{BOX}", "--point", "again:20,24,2", "--two-d", "--separate"]
    done(tmp_path / "ct" / "b.mha", *both, "--overlap", "--out", tmp_path / "c.mha")
    assert read(tmp_path / "c_again.mha")[2, 24, 20]


def test_a_coarse_mask_is_refined_and_says_where_the_object_ends(tmp_path: Path) -> None:
    coarse = np.zeros(SHAPE, np.uint8)
    coarse[[1, 3], 16:34, 12:30] = 1
    scan_in(tmp_path)
    scan_in(tmp_path, "coarse.nii.gz", coarse)
    mask = f"liver:{tmp_path / 'coarse.nii.gz'}"
    done(tmp_path / "scan.nii.gz", "--mask", mask, "--out", tmp_path / "m.mha")
    found = read(tmp_path / "m.mha")
    assert np.flatnonzero(found.any((1, 2))).tolist() == [1, 2, 3]  # the slice between is filled in
    assert dice(found[1], BALL[1]) > max(dice(coarse[1] > 0, BALL[1]), 0.9)


def test_a_click_on_the_background_corrects_what_came_from_another_slice(tmp_path: Path) -> None:
    scan = read_scan(scan_in(tmp_path))
    asked = place([parse_box(BOX), parse_point("20,24,3,-")], scan)
    (without,) = find(scan, place([parse_box(BOX)], scan), open_model())
    assert without.mask[3, 24, 20]
    (found,) = find(scan, asked, open_model())
    assert found.mask[2, 24, 20]
    assert not found.mask[3, 24, 20]
    with pytest.raises(InputError, match=r"^object: only clicks on the background in slice 3; add one on"):
        find(scan, asked, open_model(), two_d=True)
    with pytest.raises(InputError, match=r"^object: only clicks on the background; add one on the object"):
        find(scan, place([parse_point("20,24,3,-")], scan), open_model())


def test_an_object_that_is_not_found_is_said_to_be_so(tmp_path: Path) -> None:
    scan = scan_in(tmp_path, values=np.where(BALL, 160, 40).astype(np.int16))
    result = done(scan, "--box", f"a:{BOX}", "--box", f"b:{BOX}", "--out", tmp_path / "m.mha")
    assert "b not found" in result.output  # asked for in the same box: all of it is the first one's
    assert json.loads((tmp_path / "m.json").read_text())["objects"][1]["extent"] is None


def four_d(folder: Path) -> list[object]:
    return [write_itk(folder / "t.nii.gz", np.zeros((3, *SHAPE), np.int16))]


def sheared(folder: Path) -> list[object]:
    affine = np.diag([1.0, 1, 4, 1])
    affine[0, 1] = 0.4
    image = nibabel.Nifti1Image(VALUES.T, affine)
    image.set_qform(None, 0)
    image.to_filename(folder / "s.nii")
    return [folder / "s.nii"]


def missing_slice(folder: Path) -> list[object]:
    write_dicom_series(folder / "s", VALUES)[3].unlink()
    return [folder / "s"]


def with_nan(folder: Path) -> list[object]:
    values = VALUES.astype(np.float32)
    values[1, 2, 3] = np.nan
    return [scan_in(folder, values=values)]


def other_grid(folder: Path) -> list[object]:
    write_itk(folder / "m.nii.gz", np.ones(SHAPE, np.uint8), (1.0, 1.0, 3.0))
    return [scan_in(folder), "--mask", folder / "m.nii.gz"]


def unknown_scan(folder: Path) -> list[object]:
    (folder / "p.csv").write_text("scan,x,y,slice\nother.nii.gz,20,24,2\n")
    return [scan_in(folder), "--prompts", folder / "p.csv"]


BAD = {
    "4-D": (four_d, r"4-D with 3 frames; .*--frame"),
    "sheared": (sheared, r"not at right angles \(a sheared grid\); resample"),
    "missing slice": (missing_slice, "is a slice missing"),
    "outside": (lambda p: [scan_in(p), "--point", "60,24,2"], r"--point 60,24,2: .*outside of scan\.nii\.gz"),
    "swapped": (lambda p: [scan_in(p), "--box", "32,36,9,13,2"], r"did you mean 9,13,32,36\?"),
    "no slice": (lambda p: [scan_in(p), "--point", "20,24"], r"which of the 6 slices \(0 to 5\)\?"),
    "stroke": (lambda p: [scan_in(p), "--stroke", "1,2,3"], "--stroke 1,2,3: expected x0,y0,x1,y1 and so on"),
    "stroke without a slice": (lambda p: [scan_in(p), "--stroke", "1,2,3,4"], "which of the 6 slices"),
    "stroke outside": (
        lambda p: [scan_in(p), "--stroke", "90,2,99,4,2"],
        "--stroke 90,2,99,4,2: stroke 1 inside lies outside of the image",
    ),
    "stroke in no slice": (lambda p: [scan_in(p), "--stroke", "1,2,9,4,7"], "slice 7: outside of scan"),
    "strokes of both kinds": (
        lambda p: [scan_in(p), "--stroke", "1,2,9,2,2", "--stroke", "1,2,9,2,2,-"],
        "stroke 1 inside lies on strokes that say the contrary",
    ),
    "stroke far outside": (
        lambda p: [scan_in(p), "--stroke", "1,2,1e300,4,2"],
        "no image has so many pixels",
    ),
    "stroke in mm": (lambda p: [scan_in(p), "--stroke", "1,2,3,4", "--world"], "strokes are in pixels"),
    "another grid": (other_grid, r"m\.nii\.gz: spacing .* differs .*grid of scan\.nii\.gz"),
    "unknown scan": (unknown_scan, r"p\.csv: scan 'other\.nii\.gz': not among the scans given"),
    "NaN": (with_nan, r"1 voxels are NaN or infinite, the first at voxel \(3, 2, 1\)"),
    "none": (lambda p: [p / "none.nii"], "no such file"),
    "format": (lambda p: [scan_in(p), "--format", ".stl"], r"no kind of mask file ends so; expected one of"),
    "checkpoint": (lambda p: [scan_in(p), "--checkpoint", p / "x.pth"], r"x\.pth"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    words = make(tmp_path)
    asked = (
        [] if {"--point", "--box", "--stroke", "--mask", "--prompts"} & {*map(str, words)} else ["--box", BOX]
    )
    line = only_line(predict(*words, *asked, "--out", tmp_path / "out"), 2)
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


def test_a_scan_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("synthfm.evaluation.scans.scan.MOST_VOXELS", 10_000)
    line = only_line(predict(scan_in(tmp_path), "--box", BOX, "--out", tmp_path / "o"), 2)
    assert "48 x 48 x 6 voxels, 1.4 times as many as fit" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.nii.gz", "--out", "o"], "nothing is asked: give --box, --point, --stroke, --mask or --prompts"),
        (["a.nii.gz", "--box", BOX, "--out", "a.nii.gz"], "a.nii.gz would be written over"),
        (["*.nii.gz", "--box", BOX, "--out", "o.nii.gz"], "one file for 2 scans; give a folder"),
        (["a.nii.gz", "--box", BOX, "--out", "o.jpg"], "no kind of mask file ends so"),
        (["x*", "--box", BOX, "--out", "o"], "x*: matches no file"),
        ([".", "--box", BOX, "--out", "."], "the scans are read from this folder; give another"),
        (["a.nii.gz", "--box", BOX, "--out", "o.mha", "--format", ".mha"], "--format is for a folder"),
        (["a.nii.gz", "--prompts", "a.json", "--out", "a.mha"], "a.json would be written over"),
    ],
)
def test_arguments_that_do_not_fit_are_named(tmp_path: Path, monkeypatch, words, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    scan_in(Path("."), "a.nii.gz"), scan_in(Path("."), "b.nii.gz")
    Path("a.json").write_text('{"scans": [{"objects": [{"points": [[20, 24, 2]]}]}]}')
    before = {path: path.read_bytes() for path in Path(".").iterdir()}
    assert message in only_line(predict(*words), 2)
    assert {path: path.read_bytes() for path in Path(".").iterdir()} == before


def test_of_many_scans_a_bad_one_costs_itself(tmp_path: Path) -> None:
    scan_in(tmp_path / "ct", "a.nii.gz")
    scan_in(tmp_path / "ct", "b.nii.gz", np.where(BALL, np.nan, 1.0))
    scan_in(tmp_path / "ct", "c.nii.gz")
    result = predict(tmp_path / "ct", "--box", BOX, "--two-d", "--out", tmp_path / "o")
    assert result.exit_code == 1
    first, last = result.stderr.strip().splitlines()
    assert first.startswith(f"failed: {tmp_path / 'ct' / 'b.nii.gz'}: {BALL.sum()} voxels are NaN")
    assert last == "Error: 1 failed"
    assert len(list((tmp_path / "o").glob("*_mask.nii.gz"))) == 2


def test_where_every_scan_fails_the_exit_code_is_2(tmp_path: Path) -> None:
    for name in "ab":
        scan_in(tmp_path / "ct", f"{name}.nii.gz")
    line = only_line(predict(tmp_path / "ct", "--box", "1,1,5,5,9", "--out", tmp_path / "o"), 2)
    assert "a.nii.gz: --box 1,1,5,5,9:" in line
    assert line.endswith("none of the 2 scans is done")


def test_after_ctrl_c_what_is_there_is_whole(tmp_path: Path, monkeypatch) -> None:
    for name in "ab":
        scan_in(tmp_path / "ct", f"{name}.nii.gz")
    replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if "b_mask" in str(target):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("os.replace", interrupted)
    result = predict(tmp_path / "ct", "--box", BOX, "--two-d", "--out", tmp_path / "o")
    assert result.exit_code == 130
    assert "stopped; 1 of 2 scans are done" in result.stderr
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "a_mask.json",
        "a_mask.nii.gz",
        "a_mask_overlay.png",
    ]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_prompts_file_that_also_names_an_unknown_scan_costs_that_one(tmp_path: Path, kind: str) -> None:
    scan = scan_in(tmp_path)
    prompts = tmp_path / f"p.{kind}"
    asked = {"objects": [{"points": [[20, 24, 2]]}]}
    prompts.write_text(
        f"scan,x,y,slice\nother.nii.gz,20,24,2\n{scan.name},20,24,2\nother.nii.gz,3,4,2\n"
        if kind == "csv"
        else json.dumps({"scans": [{"scan": "other.nii.gz", **asked}, {"scan": scan.name, **asked}]})
    )
    result = predict(scan, "--prompts", prompts, "--two-d", "--out", tmp_path / "o")
    assert result.exit_code == 1, result.stderr
    assert "scan 'other.nii.gz': not among the scans given" in result.stderr
    assert "1 failed" in result.stderr
    assert (tmp_path / "o" / "scan_mask.nii.gz").is_file()


def test_scans_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    scans = [scan_in(tmp_path / "x"), scan_in(tmp_path / "y")]
    done(*scans, "--box", BOX, "--two-d", "--out", tmp_path / "o", "--format", ".mha")
    names = {path.name for path in (tmp_path / "o").glob("*.mha")}
    assert names == {"x_scan_mask.mha", "y_scan_mask.mha"}


def test_folders_hold_series_and_files_in_natural_order(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "patients" / "p1" / "ct", VALUES[:2])
    scan_in(tmp_path / "patients" / "p1", "s10.nii.gz")
    scan_in(tmp_path / "patients" / "p1", "s9.nii.gz")
    (tmp_path / "patients" / "p1" / "notes.txt").write_text("")
    found = list_scans([tmp_path / "patients" / "p1", tmp_path / "patients" / "p1" / "s9.nii.gz"])
    assert [path.name for path in found] == ["ct", "s9.nii.gz", "s10.nii.gz"]
    with pytest.raises(InputError, match=r"patients: holds no scan; expected DICOM"):
        list_scans([tmp_path / "patients"])


def test_from_python_a_file_and_an_array_are_answered_alike(tmp_path: Path) -> None:
    box = [9, 13, 32, 36, 2]
    of_file = segment(scan_in(tmp_path), box=box)
    np.testing.assert_array_equal(segment(VALUES, (4, 1, 1), box=box), of_file)
    assert dice(of_file, BALL) > 0.9
    grey = VALUES[2].clip(0, 255).astype(np.uint8)
    flat = segment(np.dstack([grey] * 3), points=[[20, 24], [40, 40]], labels=[1, 0])
    assert flat.shape == grey.shape
    assert dice(flat, BALL[2]) > 0.85
    stroke, other = [[14, 24, 2], [20, 20, 2], [27, 25, 2]], [[2, 2, 2], [40, 3, 2]]
    drawn = segment(VALUES, strokes=[stroke, other], stroke_labels=[1, 0], two_d=True)
    assert dice(drawn[2], BALL[2]) > 0.8
    refined = segment(grey, mask=BALL[2])
    assert dice(refined, BALL[2]) > 0.9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing is asked: give box, points, strokes or mask"),
        ({"strokes": [[[1, 2, 3], [4, 5, 4]]]}, r"stroke .*: expected points \(x, y, slice\) of one slice"),
        ({"strokes": [[[1, 2, 3], [4, 5, 3]]], "stroke_labels": []}, "0 labels of 1 strokes"),
        ({"box": [1, 2, 3]}, r"segment: expected x0,y0,x1,y1 or x0,y0,x1,y1,slice"),
        ({"box": [9, 13, 32, 36, 7]}, r"outside of array, which has 48 x 48 pixels"),
        ({"points": [[1, 2, 3]], "labels": [1, 0]}, "2 labels of 1 points; one for each"),
        ({"mask": np.ones((2, 2))}, r"mask \(2, 2\): expected \(6, 48, 48\), as the scan"),
        ({"spacing": (1, 1), "box": [9, 13, 32, 36, 2]}, r"expected 3 numbers above 0, mm along each axis"),
    ],
)
def test_from_python_a_wrong_argument_is_named(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        segment(VALUES, **given)


ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["README.md", "docs/segment.md"])
def test_the_example_of_a_page_runs(tmp_path: Path, monkeypatch, page: str) -> None:
    (example,) = re.findall(
        r"^```python\n(from synthfm.evaluation.segment .*?)^```", (ROOT / page).read_text(), re.M | re.S
    )
    z, y, x = np.indices((8, 128, 128))
    there = (np.hypot(y - 90, x - 65) < 26) & (z > 4)
    volume = np.where(there, 160, 40).astype(np.int16)
    scan_in(tmp_path, "ct.nii.gz", volume)
    monkeypatch.chdir(tmp_path)
    names: dict = {"volume": volume}
    exec(example, names)
    mask = names["mask"]
    assert dice(mask if mask.ndim == 3 else mask[None], there if mask.ndim == 3 else there[6:7]) > 0.9
