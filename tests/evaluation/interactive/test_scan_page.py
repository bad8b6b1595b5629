"""A scan of several slices on the page, in a real browser."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest

from synthfm.evaluation.interactive.page.editing import Awaited
from tests.support.files import write_itk
from tests.support.scans import BALL, SHAPE, SMALL

LARGE, OTHER = (41, 29), (15, 19)
"""Pixels of the balls' middles in axial slices; rows and columns run against the file's."""


@pytest.fixture
def page(scan_app, browse):
    page = browse(scan_app)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    settled(page)
    yield page
    assert problems == []


def settled(page):
    page.wait_for_function("window.synthfm?.isSettled()")


def at(page, x, y, role=0):
    """Where a pixel of the main plane lies on the page; role 1 and 2 are the small ones."""
    return page.evaluate("([role, x, y]) => synthfm.onPane(role, x, y)", [role, x, y])


def click(page, x, y, **more):
    page.mouse.click(*at(page, x, y), **more)
    settled(page)


def drag(page, *points, **more):
    page.mouse.move(*at(page, *points[0]))
    page.mouse.down(**more)
    for point in points[1:]:
        page.mouse.move(*at(page, *point), steps=4)
    page.mouse.up(**more)
    settled(page)


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)
    settled(page)


def choose(page, tool):
    page.locator("#scan-tools label", has_text=tool).click()


def objects(page):
    return page.evaluate("synthfm.scan.seen.objects")


def place(page):
    return page.evaluate("synthfm.scan.place")


def saved(page, folder: Path, title="NIfTI"):
    """The file that is saved."""
    page.keyboard.press("Control+s")
    with page.expect_download() as download:
        page.get_by_role("button", name=title).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def labels(path: Path):
    """A label map, along s, p, l."""
    return np.asarray(nibabel.load(path).dataobj).T[:, ::-1, ::-1]


def dice(first, second):
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def turned(mask):
    return mask[:, ::-1, ::-1]


IS_GREY = """([role, x, y]) => {
  const canvas = document.querySelectorAll(".plane canvas")[role], edge = canvas.getBoundingClientRect();
  const [across, down] = synthfm.onPane(role, x, y);
  const place = [(across - edge.left) * devicePixelRatio, (down - edge.top) * devicePixelRatio];
  const [red, green, blue] = canvas.getContext("2d").getImageData(...place, 1, 1).data;
  return red === green && green === blue;
}"""
"""Whether nothing is drawn over a pixel of a plane."""


def test_from_a_click_to_the_file_of_the_whole_volume(page, balls, tmp_path):
    press(page, "ArrowDown")
    assert place(page)[0] == 3
    click(page, *LARGE)
    (item,) = objects(page)
    assert (item["name"], item["slices"]) == ("object 1", [3])
    assert place(page) == [3, LARGE[1], LARGE[0]]  # the cross is where the click was
    assert not page.evaluate(IS_GREY, [0, LARGE[0] - 5, LARGE[1] - 3])
    assert page.evaluate(IS_GREY, [0, 5, 50])
    page.click("#whole")
    settled(page)
    # It is seen in both cuts, beside the slice.
    for role, across in ((1, LARGE[0]), (2, LARGE[1])):
        assert not page.evaluate(IS_GREY, [role, across + 2, 5])
    assert "7 slices" in page.inner_text("#facts") or "6 slices" in page.inner_text("#facts")
    path = saved(page, tmp_path)
    assert path.name == "balls_mask.nii.gz"
    np.testing.assert_array_equal(nibabel.load(path).affine, nibabel.load(balls).affine)
    assert dice(labels(path) == 1, turned(BALL)) > 0.9
    # A correction on another slice stays when it is found again; undo takes both back.
    press(page, "ArrowUp", "ArrowUp", "p")
    drag(page, (5, 50), (9, 50))
    page.click("#whole")
    settled(page)
    corrected = labels(saved(page, tmp_path))
    assert corrected[5, 50, 7] == 1
    press(page, "Control+z", "Control+z")
    np.testing.assert_array_equal(labels(saved(page, tmp_path)), labels(path))
    press(page, "Control+Shift+z")
    assert labels(saved(page, tmp_path))[5, 50, 7] == 1


def test_each_tool_draws_what_it_says(page):
    drag(page, (26, 14), (56, 44))
    assert objects(page)[0]["prompt"]["box"] == [26, 14, 57, 45]
    click(page, *OTHER, button="right")
    assert objects(page)[0]["prompt"]["clicks"] == [[*OTHER, 0]]
    choose(page, "Background")
    click(page, 5, 5)
    choose(page, "Object")
    page.keyboard.down("Shift")
    click(page, 7, 5)
    page.keyboard.up("Shift")
    assert objects(page)[0]["prompt"]["clicks"][1:] == [[5, 5, 0], [7, 5, 0]]
    choose(page, "Scribble")
    drag(page, (35, 29), (45, 29), (62, 29))
    marks = objects(page)[0]["prompt"]["clicks"][3:]
    assert 1 <= len(marks) <= 10
    assert all(x > 45 and y == 29 and label == 1 for x, y, label in marks)  # where it is not the object yet
    choose(page, "Brush")
    before = objects(page)[0]["voxels"]
    drag(page, (3, 50), (9, 50))
    painted = objects(page)[0]["voxels"]
    assert painted > before
    choose(page, "Eraser")
    drag(page, (2, 50), (10, 50))
    assert objects(page)[0]["voxels"] == before
    choose(page, "Box")
    click(page, 5, 5)  # no box
    assert objects(page)[0]["voxels"] == before


def test_the_window_is_dragged_and_the_model_sees_it(page):
    low, high = page.evaluate("synthfm.scan.levels")
    drag(page, (30, 30), (50, 30), button="right")
    wider = page.evaluate("synthfm.scan.levels")
    assert wider[1] - wider[0] > high - low
    assert objects(page) == []  # it was no click
    choose(page, "Window")
    drag(page, (30, 30), (30, 40))
    assert sum(page.evaluate("synthfm.scan.levels")) > sum(wider)
    page.fill("#level", "100")
    page.fill("#width", "50")
    page.press("#width", "Enter")
    assert page.evaluate("synthfm.scan.levels") == [75, 125]
    press(page, "c")
    with page.expect_request("**/do/click") as request:
        click(page, *LARGE)
    assert request.value.post_data_json["levels"] == [75, 125]
    page.get_by_role("button", name="as opened").click()
    assert page.evaluate("synthfm.scan.levels") == [low, high]


def test_the_planes_are_linked(page):
    page.mouse.click(*at(page, 20, 2, role=1))  # coronal: superior is on top
    settled(page)
    assert place(page) == [SHAPE[0] - 1 - 2, 28, 20]
    page.mouse.click(*at(page, 12, 5, role=2))
    settled(page)
    assert place(page) == [SHAPE[0] - 1 - 5, 12, 20]
    page.mouse.move(*at(page, 30, 30))
    page.mouse.wheel(0, 100)
    settled(page)
    assert place(page)[0] == SHAPE[0] - 1 - 4
    page.mouse.move(*at(page, 30, 3, role=1))
    page.mouse.wheel(0, -100)
    settled(page)
    assert place(page)[1] == 11
    page.keyboard.down("Alt")
    click(page, 33, 44)
    page.keyboard.up("Alt")
    assert place(page)[1:] == [44, 33]
    assert objects(page) == []
    page.mouse.move(*at(page, 10, 11))
    assert page.inner_text("#readout").startswith(f"voxel {63 - 10}, {55 - 11}, 3 · ")


def test_another_plane_is_drawn_on(page, tmp_path):
    click(page, *LARGE)
    page.click("#whole")
    settled(page)
    before = labels(saved(page, tmp_path))
    page.select_option("#scan-plane", "coronal")
    page.wait_for_function("synthfm.scan.info.own === 1")
    settled(page)
    np.testing.assert_array_equal(labels(saved(page, tmp_path)), before)
    page.click("#radius")
    page.evaluate("synthfm.scan.radius = 0.6")
    page.locator("#main-plane").focus()
    press(page, "ArrowUp", "p")
    assert place(page) == [4, LARGE[1] + 1, LARGE[0]]
    click(page, 3, 1)
    changed = labels(saved(page, tmp_path)) != before
    assert np.argwhere(changed).tolist() == [[SHAPE[0] - 1 - 1, LARGE[1] + 1, 3]]
    page.mouse.click(*at(page, 20, 44, role=1))  # the axial one
    settled(page)
    assert place(page) == [SHAPE[0] - 1 - 1, 44, 20]


def test_the_mouse_on_a_button_leaves_the_keys_to_the_image(page):
    choose(page, "Brush")
    press(page, "ArrowUp")
    assert place(page)[0] == 5
    assert page.evaluate("synthfm.scan.tool") == "brush"
    page.click("#scan-zoom-in")
    press(page, "ArrowDown")
    assert place(page)[0] == 4


def test_zooming_keeps_what_lies_under_the_pointer(page):
    where = at(page, 50, 12)
    page.mouse.move(*where)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -500)
    page.keyboard.up("Control")
    assert at(page, 50, 12) == pytest.approx(where, abs=2)
    assert at(page, 51, 12)[0] - at(page, 50, 12)[0] > 20
    click(page, 50, 12)
    assert objects(page)[0]["prompt"]["clicks"] == [[50, 12, 1]]
    page.mouse.down(button="middle")
    page.mouse.move(where[0] - 60, where[1] + 10, steps=3)
    page.mouse.up(button="middle")
    assert at(page, 50, 12) == pytest.approx([where[0] - 60, where[1] + 10], abs=2)
    press(page, "0")
    assert at(page, 50, 12) == pytest.approx(where, abs=2)


def test_everything_is_done_with_the_keyboard(page, tmp_path):
    press(page, "Home")
    assert place(page)[0] == 0
    press(page, "End", "PageDown", "ArrowUp", "ArrowUp", "ArrowUp")
    assert place(page)[0] == 3
    while place(page)[2] < LARGE[0]:
        press(page, "Shift+ArrowRight")
    while place(page)[1] < LARGE[1]:
        press(page, "Shift+ArrowDown")
    press(page, "Space", "Enter")
    press(page, "n", "b")
    page.evaluate("synthfm.scan.place = [3, 11, 7]")
    press(page, "Space")
    for _ in range(17):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    press(page, "Space")
    assert objects(page)[1]["prompt"]["box"] == [7, 11, 25, 29]
    press(page, "Enter")
    press(page, "F2")
    page.keyboard.type("kidney")
    press(page, "Enter")
    press(page, "l")
    first, second = objects(page)
    assert (first["name"], second["name"], second["finished"]) == ("object 1", "kidney", True)
    assert dice(labels(saved(page, tmp_path)) == 2, turned(SMALL)) > 0.7
    press(page, "1", "p", "]")
    assert page.evaluate("[synthfm.scan.active, synthfm.scan.tool, synthfm.scan.radius]") == [
        "object 1",
        "brush",
        7,
    ]
    voxels = objects(page)[0]["voxels"]
    press(page, "Shift+ArrowLeft", "Space", "Shift+ArrowLeft", "Space")
    assert objects(page)[0]["voxels"] != voxels
    press(page, "Escape")
    assert 3 not in objects(page)[0]["slices"]
    press(page, "Control+z")
    assert 3 in objects(page)[0]["slices"]
    press(page, "Delete")
    assert [item["name"] for item in objects(page)] == ["kidney"]
    press(page, "Control+z", "2", "a")
    assert page.is_checked("#auto")
    press(page, "h")
    assert page.evaluate("synthfm.scan.hidden")
    page.keyboard.press("?")
    assert page.is_visible("#scan-help")
    page.keyboard.press("Escape")
    assert page.is_hidden("#scan-help")
    assert 3 in objects(page)[0]["slices"]  # the key closed the help alone


def test_a_propagation_shows_how_far_it_is_and_is_cancelled(page, scan_app, monkeypatch):
    gate, predict = threading.Semaphore(2), Awaited.predict

    def slowly(self, *given):
        if self._part == "nearby":
            gate.acquire(timeout=30)
        return predict(self, *given)

    monkeypatch.setattr(Awaited, "predict", slowly)
    click(page, *LARGE)
    page.keyboard.press("Enter")
    page.wait_for_function("synthfm.scan.seen.job?.asked === 2")
    assert page.inner_text("#progress-text") == "object 1: 2 slices"
    assert page.get_attribute("#progress", "max") == "7"
    assert len(objects(page)[0]["slices"]) == 3  # what is found is seen as it comes
    page.click("#cancel", no_wait_after=True)
    gate.release(20)
    settled(page)
    assert objects(page)[0]["slices"] == [4]
    assert page.inner_text("#status") == "cancelled; everything is as it was"
    assert page.is_visible("#whole")
    page.keyboard.press("Enter")
    settled(page)
    assert len(objects(page)[0]["slices"]) > 4
    assert page.inner_text("#status").startswith("object 1: in ")


def test_a_mask_is_opened_and_a_reload_keeps_all(page, tmp_path):
    both = (BALL + 2 * SMALL).astype(np.uint8)
    path = write_itk(tmp_path / "organs.nii.gz", both, (1.0, 1.0, 4.0), "RAS", (10.0, -20.0, 30.0))
    page.set_input_files("#mask-files", str(path))
    page.wait_for_function("synthfm.scan.seen.objects.length === 2")
    settled(page)
    np.testing.assert_array_equal(labels(saved(page, tmp_path)), turned(both))
    assert page.locator("#objects .name").all_inner_texts() == ["organs 1", "organs 2"]
    press(page, "1", "ArrowUp", "e")
    click(page, *LARGE)
    before, where = objects(page), place(page)
    page.reload()
    settled(page)
    assert (objects(page), place(page)) == (before, where)
    assert page.evaluate("synthfm.scan.active") == "organs 1"
    press(page, "Control+z")
    np.testing.assert_array_equal(labels(saved(page, tmp_path)), turned(both))
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(b"nothing"))
    page.set_input_files("#mask-files", str(tmp_path / "short.nii.gz"))
    page.wait_for_function("document.getElementById('status').classList.contains('bad')")
    assert page.inner_text("#status").startswith("short.nii.gz: ")
    assert len(objects(page)) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_fits_without_scrolling_and_every_control_has_a_name(page, scheme):
    page.emulate_media(color_scheme=scheme)
    for number in range(6):
        page.click("#add-object")
        page.wait_for_function(f"synthfm.scan.seen.objects.length === {number + 1}")
    click(page, *LARGE)
    for selector in ("html", "body", "aside", "main"):
        inner, outer = page.evaluate(
            "name => { const it = document.querySelector(name);"
            " return [[it.scrollWidth, it.scrollHeight], [it.clientWidth, it.clientHeight]]; }",
            selector,
        )
        assert inner[0] <= outer[0], selector
        assert inner[1] <= outer[1], selector
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=file]), select, canvas[tabindex]")]
          .filter(it => it.checkVisibility() && !(it.labels?.length || it.getAttribute("aria-label")
            || it.getAttribute("aria-labelledby") || it.textContent.trim()))
          .map(it => it.outerHTML)"""
    )
    assert nameless == []
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_a_sample_is_shown_after_a_scan_and_the_scan_again(page, library, scan_app):
    click(page, *LARGE)
    shown = scan_app.extensions["desk"].library.result()
    shown.datasets.update(library.datasets)
    page.reload()
    settled(page)
    page.select_option("#source", "discs")
    page.wait_for_function("synthfm.state.shown?.width === 72")
    assert page.is_visible("#stage")
    assert page.is_hidden("#planes")
    page.select_option("#source", "")
    settled(page)
    assert page.is_visible("#planes")
    assert page.is_hidden("#stage")
    assert len(objects(page)) == 1
