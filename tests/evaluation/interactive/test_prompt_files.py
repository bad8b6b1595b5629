"""Prompts as people write them: options, JSON, CSV, 3D Slicer's markups, masks; and where they lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synthfm.data.console import InputError
from synthfm.evaluation.interactive.placing import place
from synthfm.evaluation.interactive.prompt_files import Mark, parse_box, parse_point, read_prompts
from synthfm.evaluation.scans.scan import Scan, read_scan
from tests.support.files import write_itk, write_picture

SHAPE = (6, 20, 30)


def scan_of(folder: Path, name: str = "scan.mha", direction: str = "LPS") -> Scan:
    values = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    return read_scan(write_itk(folder / name, values, (0.5, 0.5, 4.0), direction, (10.0, -20.0, 30.0)))


def test_options_are_boxes_and_clicks_by_slice_and_object(tmp_path: Path) -> None:
    marks = [parse_box("liver:3,4,12,9,2"), parse_point("liver:5,6,2"), parse_point("liver:1,1,2,-")]
    liver, other = place([*marks, parse_point("7,8,5,+")], scan_of(tmp_path))
    assert (liver.name, other.name) == ("liver", "object")
    assert list(liver.prompts) == [2]
    assert liver.prompts[2].box.tolist() == [3, 4, 12, 9]
    assert liver.prompts[2].points.tolist() == [[5, 6], [1, 1]]
    assert liver.prompts[2].labels.tolist() == [1, 0]
    assert other.prompts[5].points.tolist() == [[7, 8]]


def test_a_picture_needs_no_slice(tmp_path: Path) -> None:
    scan = read_scan(write_picture(tmp_path / "a.png", np.arange(200, dtype=np.uint8).reshape(10, 20)))
    (found,) = place([parse_box("3,4,12,9")], scan)
    assert list(found.prompts) == [0]


@pytest.mark.parametrize("direction", ["LPS", "RAS", "PSR"])
def test_millimetres_of_the_patient_name_the_same_pixels(tmp_path: Path, direction: str) -> None:
    scan = scan_of(tmp_path, direction=direction)
    corners = scan.grid.to_patient(scan.to_voxels([[2.5, 3.5, 4], [11.5, 8.5, 4]]))
    point = scan.grid.to_patient(scan.to_voxels([[5, 6, 4]]))[0]
    text = ",".join(f"{number:.6f}" for number in corners.ravel())
    marks = [
        parse_box(text, world=True),
        parse_point(",".join(f"{n:.6f}" for n in point) + ",-", world=True),
    ]
    (found,) = place(marks, scan)
    assert list(found.prompts) == [4]
    np.testing.assert_allclose(found.prompts[4].box, [3, 4, 12, 9], atol=1e-4)
    np.testing.assert_allclose(found.prompts[4].points, [[5, 6]], atol=1e-4)
    assert found.prompts[4].labels.tolist() == [0]
    assert found.span is None


def markups(path: Path, *items: dict) -> Path:
    path.write_text(json.dumps({"@schema": "markups-schema-v1.0.3.json#", "markups": list(items)}))
    return path


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_slicers_markups_are_clicks_and_boxes_of_one_object(tmp_path: Path, system: str) -> None:
    scan = scan_of(tmp_path, direction="PSR")
    sign = np.array([-1, -1, 1]) if system == "RAS" else np.ones(3)
    places = scan.grid.to_patient(scan.to_voxels([[5, 6, 2], [20, 15, 2], [8, 8, 3]])) * sign
    points = [
        {"label": label, "position": position.tolist()}
        for label, position in zip(["F-1", "F-2-", "F-3"], places, strict=True)
    ]
    points[2]["positionStatus"] = "undefined"
    edges = scan.grid.to_patient(scan.to_voxels([[2.5, 3.5, 1], [11.5, 8.5, 4]])) * sign
    axes = (
        np.array(scan.grid.direction) * sign[:, None]
    )  # a region along the scan's own axes, as Slicer fits it
    region = {
        "type": "ROI",
        "coordinateSystem": system,
        "center": edges.mean(0).tolist(),
        "size": np.abs(axes.T @ (edges[1] - edges[0])).tolist(),
        "orientation": axes.ravel().tolist(),
    }
    path = markups(
        tmp_path / "left kidney.mrk.json",
        {"type": "Fiducial", "coordinateSystem": system, "controlPoints": points},
        region,
    )
    marks = read_prompts(path, [scan.path])[0][scan.path]
    (found,) = place(marks, scan)
    assert found.name == "left kidney"
    assert sorted(found.prompts) == [2]
    np.testing.assert_allclose(found.prompts[2].points, [[5, 6], [20, 15]], atol=1e-4)
    assert found.prompts[2].labels.tolist() == [1, 0]
    np.testing.assert_allclose(
        found.prompts[2].box, [3, 4, 12, 9], atol=1e-3
    )  # the middle one of slices 1 to 4
    assert found.span == (1, 4)


def test_a_json_file_for_several_scans_and_objects(tmp_path: Path) -> None:
    first, second = scan_of(tmp_path, "a.mha"), scan_of(tmp_path / "b", "b.mha")
    mask = np.zeros(SHAPE, np.uint8)
    mask[2, 4:9, 3:12] = 1
    write_itk(tmp_path / "coarse.mha", mask, (0.5, 0.5, 4.0), origin=(10.0, -20.0, 30.0))
    asked = {
        "scans": [
            {"scan": "a.mha", "objects": [{"name": "liver", "boxes": [[3, 4, 12, 9, 2]]}]},
            {
                "scan": "b/b.mha",
                "objects": [
                    {"name": "spleen", "points": [[5, 6, 2], [9, 9, 3]], "labels": [1, 0]},
                    {"name": "cyst", "mask": "coarse.mha"},
                ],
            },
        ]
    }
    (tmp_path / "p.json").write_text(json.dumps(asked))
    found, _ = read_prompts(tmp_path / "p.json", [first.path, second.path])
    assert place(found[first.path], first)[0].prompts[2].box.tolist() == [3, 4, 12, 9]
    spleen, cyst = place(found[second.path], second)
    assert {k: prompt.labels.tolist() for k, prompt in spleen.prompts.items()} == {2: [1], 3: [0]}
    np.testing.assert_array_equal(cyst.mask, mask > 0)


def test_strokes_of_an_object_in_a_slice_count_together(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    item = {
        "name": "liver",
        "points": [[9, 9, 2]],
        "strokes": [[3, 5, 15, 5, 2], [3, 5, 3, 12, 2], [4, 8, 16, 8, 3]],
        "stroke_labels": [1, 0, 1],
    }
    (tmp_path / "p.json").write_text(json.dumps({"scans": [{"objects": [item]}]}))
    (found,) = place(read_prompts(tmp_path / "p.json", [scan.path])[0][scan.path], scan)
    second = found.prompts[2]
    assert second.points[0].tolist() == [9, 9]
    assert (second.positives[1:, 1] == 5).all()
    assert len(second.positives) > 3
    assert (second.negatives[:, 0] == 3).all()
    assert [3, 5] not in second.points.tolist()  # both say something of it
    assert (found.prompts[3].points[:, 1] == 8).all()


def test_a_csv_file_has_a_box_or_a_click_a_line(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    path = tmp_path / "p.csv"
    path.write_text(
        "scan,object,x0,y0,x1,y1,x,y,slice,label\nscan.mha,liver,3,4,12,9,,,2,\n,liver,,,,,5,6,3,0\n"
    )
    (found,) = place(read_prompts(path, [scan.path])[0][scan.path], scan)
    assert found.prompts[2].box.tolist() == [3, 4, 12, 9]
    assert found.prompts[3].labels.tolist() == [0]


def test_what_the_evaluation_exports_is_read_for_the_pictures_given(tmp_path: Path) -> None:
    picture = write_picture(
        tmp_path / "images" / "d" / "c.png", np.arange(200, dtype=np.uint8).reshape(10, 20)
    )
    line = {"seed": 1, "mask": "m.png", "object": "liver"}
    prompts = [
        line | {"setting": "box", "points": [], "labels": [], "box": [3.0, 4.0, 12.0, 9.0]},
        line | {"setting": "point1", "points": [[5, 6]], "labels": [1], "box": None},
    ]
    case = {"dataset": "d", "case": "c", "image": "images/d/c.png", "size": [20, 10], "prompts": prompts}
    other = case | {"case": "e", "image": "images/d/e.png"}
    (tmp_path / "prompts.json").write_text(json.dumps({"seed": 0, "cases": [case, other]}))
    found = place(read_prompts(tmp_path / "prompts.json", [picture])[0][picture], read_scan(picture))
    assert [asked.name for asked in found] == ["liver, box", "liver, point1"]
    assert found[0].prompts[0].box.tolist() == [3, 4, 12, 9]


def test_a_mask_of_several_labels_is_several_objects_in_the_cut_of_the_scan(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    scan = read_scan(write_itk(tmp_path / "scan.mha", values), plane="sagittal")
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 4:9, 3:12], labels[4, 1:3, 1:3] = 1, 7
    write_itk(tmp_path / "coarse.mha", labels)
    found = place([Mark("--mask", "object", "mask", file=tmp_path / "coarse.mha")], scan)
    assert [asked.name for asked in found] == ["object 1", "object 7"]
    np.testing.assert_array_equal(scan.on_grid(found[1].mask), labels == 7)


OUTSIDE = r"outside of scan\.mha, which has 30 x 20 pixels \(x 0 to 29, y 0 to 19\) and 6 slices \(0 to 5\)$"


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_box, "1,2,3", r"^--box 1,2,3: expected x0,y0,x1,y1 or x0,y0,x1,y1,slice$"),
        (parse_box, "1,2,x,4", r"^--box 1,2,x,4: expected x0"),
        (parse_box, "1,2,nan,4", "expected x0"),
        (parse_box, "1,2,3,4,2.5", r"slice 2\.5; expected a whole number"),
        (parse_box, "12,4,3,9,2", r"^--box 12,4,3,9,2: .* did you mean 3,4,12,9\?$"),
        (parse_box, "3,4,3,9,2", r"it is empty"),
        (parse_box, "3,4,12,9", r"^--box 3,4,12,9: which of the 6 slices \(0 to 5\)\? Add it"),
        (parse_box, "3,4,12,9,6", OUTSIDE),
        (parse_box, "40,4,50,9,2", OUTSIDE),
        (parse_point, "5,6,-1", OUTSIDE),
        (parse_point, "5,20,1", r"^--point 5,20,1: x 5, y 20, slice 1: " + OUTSIDE),
        (parse_point, "5", r"expected x,y or x,y,slice, and ,- for the background"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(
    tmp_path: Path, parse, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        place([parse(text)], scan_of(tmp_path))


def test_two_boxes_of_one_object_in_one_slice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="object has two boxes in slice 2"):
        place([parse_box("3,4,12,9,2"), parse_box("3,4,12,10,2")], scan_of(tmp_path))


def test_a_picture_has_no_millimetres_of_a_patient(tmp_path: Path) -> None:
    scan = read_scan(write_picture(tmp_path / "a.png", np.arange(200, dtype=np.uint8).reshape(10, 20)))
    with pytest.raises(InputError, match=r"a\.png has no place in a patient; give pixels, without --world"):
        place([parse_point("3,4,5", world=True)], scan)


def test_points_outside_in_the_patient_are_told_in_pixels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--point 0,0,0: x -20, y 40, slice -8: " + OUTSIDE):
        place([parse_point("0,0,0", world=True)], scan_of(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "{", r"p\.json: not a file of prompts"),
        ("p.json", "[]", "expected a JSON object with scans"),
        (
            "p.json",
            '{"scans": [{"scan": "z.mha", "objects": []}]}',
            r"'z\.mha': not among the scans given: .*scan",
        ),
        ("p.json", '{"scans": [{"objects": [{"box": [1]}]}]}', r"unknown key .*did you mean 'boxes'\?"),
        (
            "p.json",
            '{"scans": [{"objects": [{"name": "liver", "boxes": [[1, 2, 3]]}]}]}',
            r"p\.json: object liver: expected x0,y0,x1,y1",
        ),
        (
            "p.json",
            '{"scans": [{"objects": [{"points": [[1, 2, 3]], "labels": [1, 0]}]}]}',
            "2 labels of 1 points",
        ),
        ("p.json", '{"cases": [{"image": "x.png", "prompts": []}]}', "names none of the scans given"),
        ("p.json", '{"cases": [{}]}', "not as synthfm-eval prompts writes it"),
        ("p.csv", "scan,objekt\n", r"p\.csv: no rows"),
        ("p.csv", "x,y,colour\n1,2,3\n", r"p\.csv: column 'colour'; expected the columns"),
        ("p.csv", "x,y,slice\n1,2,3\n5,,1\n", r"p\.csv: line 3: no y; expected x and y of a point"),
        ("p.csv", "x,y,label\n1,2,5\n", r"p\.csv: line 2: label '5'; expected 1"),
        ("p.mrk.json", '{"markups": [{"type": "Angle", "controlPoints": []}]}', "Angle 1: is no prompt"),
        ("p.mrk.json", '{"markups": [{"type": "ROI"}]}', "has no center and size"),
        ("p.mrk.json", '{"markups": [{"type": "Fiducial", "controlPoints": []}]}', "has no control point"),
        ("p.mrk.json", '{"markups": [{"type": "Fiducial"}]}', "not as 3D Slicer writes markups"),
        (
            "p.mrk.json",
            '{"markups": [{"type": "Fiducial", "coordinateSystem": "XYZ", "controlPoints": []}]}',
            "coordinates XYZ in mm; expected LPS or RAS",
        ),
        ("none.json", None, "no such file"),
    ],
)
def test_a_wrong_file_is_named_with_the_place_in_it(tmp_path: Path, name: str, content, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(tmp_path / name, [tmp_path / "scan.mha"])
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_mask_of_another_grid_is_refused(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    mark = Mark("--mask", "object", "mask", file=tmp_path / "coarse.mha")
    for shape, spacing, message in [
        ((6, 20, 29), (0.5, 0.5, 4.0), "size 6 x 20 x 29 differs from the image's 6 x 20 x 30"),
        (SHAPE, (0.5, 0.5, 5.0), "spacing .* differs"),
        (SHAPE, (0.5, 0.5, 4.0), r"origin lies .*; expected a mask on the grid of scan\.mha"),
    ]:
        write_itk(tmp_path / "coarse.mha", np.ones(shape, np.uint8), spacing)
        with pytest.raises(InputError, match=message):
            place([mark], scan)
    write_itk(tmp_path / "coarse.mha", np.zeros(SHAPE, np.uint8), (0.5, 0.5, 4.0), origin=(10.0, -20.0, 30.0))
    with pytest.raises(InputError, match=r"coarse\.mha: the mask is empty"):
        place([mark], scan)
    with pytest.raises(InputError, match="no such file"):
        place([Mark("--mask", "object", "mask", file=tmp_path / "no.mha")], scan)
