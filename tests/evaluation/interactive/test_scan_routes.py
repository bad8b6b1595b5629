"""The page's server for scans of several slices: what is done, what is told of it, what is saved."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import nibabel
import numpy as np
import pydicom
import pytest
import slicerio
from PIL import Image
from skimage.draw import polygon2mask

from synthfm.data.console import InputError
from synthfm.evaluation.interactive.page.actions import stroke
from synthfm.evaluation.interactive.page.editing import MOST, Editors
from synthfm.evaluation.interactive.page.pictures import Library
from synthfm.evaluation.interactive.page.routes import make_app
from tests.support.files import write_dicom_series, write_itk
from tests.support.scans import BALL, SHAPE, SMALL

LEVELS = [30, 220]
MIDDLE = [3, 29, 41]
"""Of the larger ball, in the place's own count: the file's rows and columns run the other way."""


class Person:
    """Somebody who has a scan open."""

    def __init__(self, client, image="file/0"):
        self.client, self.place = client, MIDDLE
        reply = client.post("/api/scans", json={"image": image})
        assert reply.status_code == 200, reply.get_json()
        self.info = reply.get_json()
        self.scan = self.info["scan"]
        self.last = {}

    def post(self, path, code=200, **body):
        reply = self.client.post(f"/api/scans/{self.scan}/{path}", json={"place": self.place, **body})
        assert reply.status_code == code, reply.get_data(as_text=True)
        self.last = reply.get_json()
        return self.last

    def click(self, name, x, y, label=1, **more):
        return self.post(
            "do/click", **{"object": name, "points": [[x, y]], "label": label, "levels": LEVELS, **more}
        )

    def whole(self, name):
        self.post("propagate", object=name, levels=LEVELS)
        while self.last["job"]["runs"]:
            time.sleep(0.02)
            self.post("view")
        assert self.last["job"]["error"] is None
        return self.last

    def object(self, name):
        return next(item for item in self.last["objects"] if item["name"] == name)

    def masks(self):
        """What would be saved, the file's label map (Z, Y, X)."""
        reply = self.client.post(
            f"/api/scans/{self.scan}/save", json={"place": self.place, "suffix": ".nii.gz"}
        )
        assert reply.status_code == 200, reply.get_json()
        return np.asarray(nibabel.Nifti1Image.from_bytes(gunzip(reply.data)).dataobj).T


def gunzip(content):
    import gzip

    return gzip.decompress(content)


@pytest.fixture
def person(scan_app):
    return Person(scan_app.test_client())


def dice(first, second):
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def filled(outlines, shape):
    drawn = np.zeros(shape, int)
    for line in outlines:
        drawn += polygon2mask(shape, np.array(line).reshape(-1, 2)[:, ::-1] - 0.5)
    return drawn % 2 == 1


def upright(mask):
    """An array of the file, (Z, Y, X), along s, p, l."""
    return mask[:, ::-1, ::-1]


def test_a_click_the_whole_volume_and_the_file_on_the_scans_grid(person, balls, tmp_path):
    assert (person.info["shape"], person.info["own"], person.info["upright"]) == (list(SHAPE), 0, True)
    person.click("liver", 41, 29)
    item = person.object("liver")
    assert item["anchors"] == item["slices"] == [3]
    assert item["prompt"] == {"clicks": [[41, 29, 1]], "box": None}
    assert 0 < item["iou"] <= 1
    person.whole("liver")
    item = person.object("liver")
    saved = person.masks()
    assert dice(saved == 1, BALL) > 0.9
    assert item["voxels"] == (saved > 0).sum()
    assert item["ml"] == pytest.approx(item["voxels"] * 4 / 1000)
    assert item["slices"] == np.flatnonzero(saved.any((1, 2))).tolist()
    # What is seen in each plane is what is saved.
    for plane, at in enumerate(MIDDLE):
        seen = np.moveaxis(upright(saved > 0), plane, 0)[at]
        seen = seen[::-1] if plane else seen
        np.testing.assert_array_equal(filled(item["outlines"][plane], seen.shape), seen)
    source = nibabel.load(balls)
    reply = person.client.post(f"/api/scans/{person.scan}/save", json={"place": MIDDLE, "suffix": ".nii.gz"})
    assert "balls_mask.nii.gz" in reply.headers["Content-Disposition"]
    written = nibabel.Nifti1Image.from_bytes(gunzip(reply.data))
    np.testing.assert_array_equal(written.affine, source.affine)


def test_slices_are_sent_in_sixteen_bits_and_give_their_values_back(person, balls):
    values = np.asarray(nibabel.load(balls).dataobj).T
    low, step = person.info["coding"]
    for plane, name in enumerate(("axial", "coronal", "sagittal")):
        reply = person.client.get(f"/api/scans/{person.scan}/slices/{name}/5")
        expected = np.moveaxis(upright(values), plane, 0)[5]
        expected = expected[::-1] if plane else expected
        codes = np.frombuffer(reply.data, "<u2").reshape(expected.shape)
        np.testing.assert_array_equal(low + step * codes, expected)
    for path in ("axial/8", "sideways/0"):
        assert person.client.get(f"/api/scans/{person.scan}/slices/{path}").status_code == 400


def test_every_prompt_and_correction_and_undo(person):
    person.post("do/box", object="liver", box=[27, 15, 55, 43], levels=LEVELS)
    first = person.object("liver")["voxels"]
    person.post("do/brush", object="liver", points=[[2, 2], [8, 2]], radius=2, levels=LEVELS)
    assert person.object("liver")["voxels"] > first
    person.post("do/brush", object="liver", points=[[2, 2], [8, 2]], radius=2, erase=True, levels=LEVELS)
    assert person.object("liver")["voxels"] == first
    line = [
        [k, 29] for k in range(33, 63)
    ]  # from the inside to beyond it: clicked where that is not known yet
    person.post("do/click", object="liver", points=line, scribble=True, levels=LEVELS)
    clicks = person.object("liver")["prompt"]["clicks"]
    assert 1 <= len(clicks) <= 10
    assert all(x > 50 and y == 29 and label == 1 for x, y, label in clicks)
    person.post("do/clear", object="liver")
    assert person.object("liver")["voxels"] == 0
    person.place = [5, *MIDDLE[1:]]
    back = person.post("undo")
    assert (back["moved"], back["place"]) == (3, MIDDLE)
    for _ in range(3):
        assert person.post("undo")["undo"]
    assert person.object("liver")["voxels"] == first
    assert person.post("undo")["objects"] == []  # the box and its object came at once
    assert not person.last["undo"]
    assert person.post("undo")["moved"] is None
    person.post("redo")
    assert person.object("liver")["voxels"] == first


def test_the_model_is_shown_what_the_person_sees(person):
    person.click("liver", 41, 29)
    person.click("dark", 41, 29, levels=[150, 151])  # the larger ball is black in it, as all around
    liver, dark = (item["outlines"][0] for item in person.last["objects"])
    assert dice(filled(liver, SHAPE[1:]), upright(BALL)[3]) > 0.9
    assert dice(filled(dark, SHAPE[1:]), upright(BALL)[3]) < 0.7


def test_objects_have_names_and_a_finished_one_is_protected(person):
    person.click("liver", 41, 29)
    person.post("do/finish", object="liver", finished=True)
    person.post("do/box", object="other", box=[24, 10, 59, 48], levels=LEVELS)
    person.post("do/brush", object="other", points=[[41, 29]], radius=12, levels=LEVELS)
    masks = person.masks()
    assert dice(masks[3] == 1, BALL[3]) > 0.9
    beside = person.object("other")["voxels"]
    assert beside == (masks == 2).sum()
    person.post("do/finish", object="liver", finished=False)
    assert person.object("other")["voxels"] > beside + 300  # the brush was on the liver
    person.post("do/finish", object="liver", finished=True)
    assert (
        "is locked" in person.post("do/click", 400, object="liver", points=[[1, 1]], levels=LEVELS)["error"]
    )
    assert "is locked" in person.post("propagate", 400, object="liver", levels=LEVELS)["error"]
    person.post("do/rename", object="other", new="spleen")
    assert [item["name"] for item in person.last["objects"]] == ["liver", "spleen"]
    assert "already" in person.post("do/rename", 400, object="spleen", new="liver")["error"]
    person.post("do/remove", object="liver")
    assert [item["name"] for item in person.last["objects"]] == ["spleen"]


def test_a_correction_on_another_slice_is_kept_by_the_next_propagation(person):
    person.click("liver", 41, 29)
    person.whole("liver")
    person.place = [5, *MIDDLE[1:]]
    person.post("do/brush", object="liver", points=[[5, 50]], radius=3, levels=LEVELS)
    person.whole("liver")
    assert person.object("liver")["anchors"] == [3, 5]
    assert upright(person.masks())[5, 50, 5] == 1


def test_a_propagation_is_cancelled_without_a_trace(person):
    person.click("liver", 41, 29)
    before = person.masks()
    person.post("propagate", object="liver", levels=LEVELS)
    person.post("cancel")
    assert person.last["job"] is None
    np.testing.assert_array_equal(person.masks(), before)


class Slow:
    """A model that answers when it may."""

    def __init__(self, segmenter):
        self.segmenter, self.may = segmenter, threading.Event()

    def encode(self, image):
        self.may.wait(20)
        return self.segmenter.encode(image)

    def predict(self, *given):
        return self.segmenter.predict(*given)


def test_one_persons_propagation_keeps_nobody_waiting(scan_app, monkeypatch):
    from synthfm.evaluation.interactive.finding import Model
    from synthfm.evaluation.interactive.page import scan_routes
    from synthfm.evaluation.interactive.page.editing import model_of

    asker = scan_app.extensions["desk"].asker
    slow = Slow(model_of(asker).nearby)
    monkeypatch.setattr(scan_routes, "model_of", lambda asker: Model(model_of(asker).whole, slow))
    one, other = Person(scan_app.test_client()), Person(scan_app.test_client())
    one.click("liver", 41, 29)
    one.post("propagate", object="liver", levels=LEVELS)
    other.click("kidney", 15, 19)
    assert other.object("kidney")["voxels"] > 50
    one.click("kidney", 15, 19)  # nor that person's own clicks on other objects
    assert one.object("kidney")["voxels"] > 50
    assert one.last["job"]["runs"]
    slow.may.set()
    while one.post("view")["job"]["runs"]:
        time.sleep(0.02)
    masks = one.masks()
    assert dice(masks == 1, BALL) > 0.9
    assert dice((masks == 2)[3], SMALL[3]) > 0.8
    assert {item["name"] for item in other.post("view")["objects"]} == {"kidney"}


def test_a_mask_is_opened_and_gone_on_with(person, tmp_path):
    labels = (BALL + 2 * SMALL).astype(np.uint8)
    path = write_itk(tmp_path / "organs.nii.gz", labels, (1.0, 1.0, 4.0), "RAS", (10.0, -20.0, 30.0))

    def begin(path, code=200):
        files = [(io.BytesIO(path.read_bytes()), path.name)]
        upload = person.client.post("/api/files", data={"files": files}).get_json()["upload"]
        return person.post("begin", code, upload=upload)

    begin(path)
    assert [item["name"] for item in person.last["objects"]] == ["organs 1", "organs 2"]
    np.testing.assert_array_equal(person.masks(), labels)
    person.post("do/brush", object="organs 1", points=[[41, 29]], radius=2, erase=True, levels=LEVELS)
    assert person.object("organs 1")["voxels"] < BALL.sum()
    person.post("undo")
    person.post("undo")
    assert person.last["objects"] == []
    other = write_itk(tmp_path / "other.nii.gz", labels[:4], (1.0, 1.0, 4.0), "RAS", (10.0, -20.0, 30.0))
    assert "other.nii.gz: size" in begin(other, 400)["error"]
    empty = write_itk(tmp_path / "empty.nii.gz", 0 * labels, (1.0, 1.0, 4.0), "RAS", (10.0, -20.0, 30.0))
    assert "the mask is empty" in begin(empty, 400)["error"]


def test_what_is_saved_for_slicer_has_names_and_is_opened_again(person, tmp_path):
    person.click("liver", 41, 29)
    person.click("spleen", 15, 19)
    body = {"place": MIDDLE, "suffix": ".seg.nrrd"}
    reply = person.client.post(f"/api/scans/{person.scan}/save", json=body)
    (tmp_path / "m.seg.nrrd").write_bytes(reply.data)
    found = slicerio.read_segmentation(str(tmp_path / "m.seg.nrrd"))
    assert [segment["name"] for segment in found["segments"]] == ["liver", "spleen"]
    np.testing.assert_array_equal(found["voxels"].T, person.masks())
    again = Person(person.client)
    files = [(io.BytesIO(reply.data), "m.seg.nrrd")]
    upload = person.client.post("/api/files", data={"files": files}).get_json()["upload"]
    again.post("begin", upload=upload)
    assert [item["name"] for item in again.last["objects"]] == ["liver", "spleen"]
    np.testing.assert_array_equal(again.masks(), person.masks())


def test_in_another_plane_the_masks_go_along(person):
    person.click("liver", 41, 29)
    person.whole("liver")
    person.click("spleen", 15, 19)
    person.post("do/finish", object="spleen", finished=True)
    before = person.masks()
    body = {"image": "file/0", "plane": "coronal", "after": person.scan}
    reply = person.client.post("/api/scans", json=body).get_json()
    assert person.client.get(f"/api/scans/{person.scan}").status_code == 404
    person.scan = reply["scan"]
    assert reply["own"] == 1
    np.testing.assert_array_equal(person.masks(), before)
    assert not person.post("view")["undo"]
    person.post("do/brush", object="liver", points=[[3, 1]], radius=0.6, levels=LEVELS)
    changed = upright(person.masks()) != upright(before)
    assert np.argwhere(changed).tolist() == [[SHAPE[0] - 1 - 1, 29, 3]]
    assert person.object("spleen")["finished"]


def test_a_slice_is_saved_as_it_is_shown(person):
    person.click("liver", 41, 29)
    reply = person.client.post(f"/api/scans/{person.scan}/save", json={"place": MIDDLE, "suffix": ".png"})
    assert "balls_slice3_mask.png" in reply.headers["Content-Disposition"]
    saved = np.asarray(Image.open(io.BytesIO(reply.data))) > 0
    np.testing.assert_array_equal(saved, upright(person.masks())[3] > 0)


def test_a_series_is_saved_as_a_segmentation_that_refers_to_it(tiny, sent, tmp_path):
    values = (40 + 100 * BALL).astype(np.int16)
    files = write_dicom_series(tmp_path / "series", values, spacing=(4.0, 1.0, 1.0))
    library = Library([])
    library.open(tmp_path / "series", "a series")
    ready = Future()
    ready.set_result(library)
    person = Person(make_app(ready, tiny, sent).test_client())
    assert ".dcm" in [item["suffix"] for item in person.info["formats"]]
    person.post("do/box", object="liver", box=[8, 12, 36, 40], levels=LEVELS)
    reply = person.client.post(f"/api/scans/{person.scan}/save", json={"place": MIDDLE, "suffix": ".dcm"})
    written = pydicom.dcmread(io.BytesIO(reply.data))
    assert written.SegmentSequence[0].SegmentLabel == "liver"
    (series,) = written.ReferencedSeriesSequence
    referred = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referred <= {pydicom.dcmread(file).SOPInstanceUID for file in files}


@pytest.mark.parametrize(
    ("action", "change", "message"),
    [
        ("click", {"points": [[500, 3]]}, "not all in the image"),
        ("click", {"points": [[3, 3]], "label": 2}, "label"),
        ("click", {"points": []}, "points"),
        ("click", {"points": [[3, 3]] * 5001}, "points"),
        ("click", {"points": [[3, 3]] * 201}, "more than 200 clicks"),
        ("click", {"points": [[3, 3]], "label": 0}, "nothing is here to take from"),
        ("click", {"points": [[3, 3]], "levels": [5, 5]}, "black must be below"),
        ("click", {"points": [[3, 3]], "place": [8, 0, 0]}, "outside of the scan"),
        ("click", {"points": [[-1e308, 0], [1e308, 0]], "scribble": True}, "points.0.0"),
        ("click", {"points": [[3, 3]], "levels": [-1e308, 1e308]}, "levels.0"),
        ("click", {"points": [[3, 3]], "object": " "}, "object"),
        ("box", {"box": [9, 9, 4, 20]}, "holds nothing of the image"),
        ("brush", {"points": [[3, 3]], "radius": 501}, "radius"),
        ("brush", {"points": [[float("nan"), 3]], "radius": 5}, "points"),
        ("remove", {}, "no object"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_and_changes_nothing(person, action, change, message):
    extra = {} if action == "remove" else {"levels": LEVELS}
    error = person.post(f"do/{action}", 400, **{"object": "liver", **extra, **change})["error"]
    assert message in error
    assert "\n" not in error
    assert person.post("view")["objects"] == []
    assert not person.last["undo"]


def test_nothing_is_saved_or_found_where_nothing_is(person):
    reply = person.client.post(f"/api/scans/{person.scan}/save", json={"place": MIDDLE, "suffix": ".nii.gz"})
    assert (reply.status_code, reply.get_json()["error"]) == (
        400,
        "no object has a mask yet; click on one first",
    )
    person.post("do/add", object="liver")
    assert "nothing to go out from" in person.post("propagate", 400, object="liver", levels=LEVELS)["error"]
    assert person.client.post("/api/scans/none/view", json={"place": MIDDLE}).status_code == 404
    assert person.client.post("/api/scans", json={"image": "file/7"}).status_code == 400
    person.client.post(f"/api/scans/{person.scan}/close")
    assert person.client.get(f"/api/scans/{person.scan}").status_code == 404


def test_a_request_that_is_too_large_is_refused_before_it_is_read(person):
    reply = person.client.post(
        f"/api/scans/{person.scan}/view", data=b"[" * (1 << 20) + b"]", content_type="application/json"
    )
    assert reply.status_code == 413
    assert "too much in one request" in reply.get_json()["error"]


def test_what_nobody_has_worked_on_goes_first_where_very_many_are_open(monkeypatch):
    class Idle:
        used, rests = 0.0, False

        def __init__(self, *names):
            self.session = SimpleNamespace(names=names)

        def cancel(self):
            pass

        def rest(self):
            self.rests = True

    editors = Editors()
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    names = [editors.add(Idle("liver")) for _ in range(MOST - 1)]
    empty = editors.add(Idle())
    editors[names[0]]
    assert editors[names[5]].rests
    editors.add(Idle("liver"))
    with pytest.raises(KeyError):
        editors[empty]
    with pytest.raises(InputError, match=f"{MOST} scans are worked on"):
        editors.add(Idle("liver"))
    monkeypatch.setattr(time, "monotonic", lambda: 1e6)
    editors[names[1]]
    editors.add(Idle("liver"))
    with pytest.raises(KeyError):
        editors[names[2]]
    assert editors[names[1]].used == 1e6


def test_a_brush_covers_what_lies_within_its_radius_of_the_line():
    ys, xs = np.indices((40, 50))
    line = np.array([[10.0, 20.0], [30.0, 20.0]])
    distance = np.hypot(np.maximum(np.abs(xs - 20) - 10, 0), ys - 20)
    np.testing.assert_array_equal(stroke(line, 5.5, (40, 50)), distance < 5.5)
    beyond = stroke(np.array([[-400.0, -300.0], [3.0, 3.0]]), 2.0, (40, 50))
    assert beyond[3, 3]
    assert not beyond[20:].any()
    assert stroke(np.array([[7.2, 8.4]]), 0.5, (40, 50)).sum() == 1
