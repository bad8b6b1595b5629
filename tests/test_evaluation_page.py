"""The page to try methods by hand, in a real browser."""

import shutil
import threading
import time

import numpy as np
import pytest
from evaluation_files import blocks, picture_of, write_dicom_series, write_itk, write_picture
from PIL import Image
from werkzeug.serving import make_server

from evaluation.app.asking import Asker
from evaluation.app.server import make_app


@pytest.fixture
def held():
    """Paths that the server does not answer as long as they are in here."""
    return set()


@pytest.fixture
def page(library, methods, sent, held):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here to run the page in")
    from playwright.sync_api import sync_playwright

    app = make_app(library, Asker(methods), sent)

    def slow(environ, start_response):
        while environ["PATH_INFO"] in held:
            time.sleep(0.01)
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, slow, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1200, "height": 900})
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("state.shown !== null")
            yield page
            chromium.close()
    finally:
        held.clear()
        server.shutdown()
        thread.join()


def results(page):
    page.wait_for_function("!asking")
    return [[cell.inner_text() for cell in row.locator("td").all()] for row in page.locator("tbody tr").all()]


GREY = """([x, y]) => {
  const [across, down] = [canvas.width / state.shown.width, canvas.height / state.shown.height];
  const [red, green, blue] = pen.getImageData((x + 0.5) * across, (y + 0.5) * down, 1, 1).data;
  return red === green && green === blue;
}"""
"""Whether nothing is drawn over a pixel."""


def on_screen(page, x, y):
    """Where a pixel's centre lies on the page."""
    edge = page.locator("#canvas").bounding_box()
    width, height = page.evaluate("[state.shown.width, state.shown.height]")
    return edge["x"] + (x + 0.5) * edge["width"] / width, edge["y"] + (y + 0.5) * edge["height"] / height


def test_the_page_in_a_browser(page, library, methods, tmp_path):
    case = library.datasets["discs"].cases[0]
    (item,) = case.objects
    rows, columns = np.nonzero(item.mask)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max(), rows.max()
    # A box around the disc, for two methods.
    page.check("#methods input[value=ellipse]")
    drag(page, x0, y0, x1, y1)
    first, second = results(page)
    assert page.evaluate("box()") == [x0, y0, x1 + 1, y1 + 1]
    assert [first[0].strip(), second[0].strip()] == ["rand", "ellipse"]
    assert second[1].endswith("(disc)")
    assert float(second[1].split()[0]) > 0.95
    # The mask is drawn where it is: inside of the ellipse the canvas is not the image's grey any more.
    page.uncheck("#methods input[value=rand]")
    results(page)
    inside, outside = [int((x0 + x1) // 2), int((y0 + y1) // 2)], [1, 1]
    assert page.evaluate(GREY, inside) is False
    assert page.evaluate(GREY, outside) is True
    # What is saved is the mask that is shown.
    with page.expect_download() as download:
        page.click("text=Save mask")
    download.value.save_as(tmp_path / "mask.png")
    assert download.value.suggested_filename.endswith("_ellipse.png")
    saved = np.asarray(Image.open(tmp_path / "mask.png")) > 127
    assert saved.shape == item.mask.shape
    assert 2 * (saved & item.mask).sum() / (saved.sum() + item.mask.sum()) == pytest.approx(
        float(second[1].split()[0]), abs=1e-3
    )
    # Clicks: object, then background with the right button; undo takes the last away; Escape all.
    page.check("#methods input[value=rand]")
    page.keyboard.press("Escape")
    assert results(page) == []
    click(page, *inside)
    page.mouse.click(*on_screen(page, *outside), button="right")
    assert len(results(page)) == 2
    assert page.evaluate("clicks()") == [[*inside, 1], [*outside, 0]]
    page.keyboard.press("Control+z")
    assert "needs a box" in results(page)[1][1]
    assert page.evaluate("clicks()") == [[*inside, 1]]


def test_own_files_in_a_browser(page, tmp_path):
    volume = picture_of(blocks((5, 30, 40), [1]), np.random.default_rng(5))
    scan = write_itk(tmp_path / "scan.nii.gz", volume)
    page.set_input_files("#files", str(scan))
    page.wait_for_function("state.shown.image.startsWith('file/') && state.shown.slices === 5")
    assert page.is_visible("#slice")
    page.mouse.move(*on_screen(page, 5, 5))
    page.mouse.wheel(0, 100)
    page.wait_for_function("state.shown.slice === 3")
    page.fill("#low", "40")
    page.fill("#high", "60")
    page.press("#high", "Enter")
    page.wait_for_function("state.shown.levels[1] === 60")
    assert page.evaluate("state.shown.slice") == 3
    (tmp_path / "broken.nii.gz").write_bytes(scan.read_bytes()[:60])
    page.set_input_files("#files", str(tmp_path / "broken.nii.gz"))
    page.wait_for_function("document.getElementById('status').classList.contains('bad')")
    assert page.inner_text("#status").startswith("broken.nii.gz: ")
    assert page.evaluate("state.shown.slices") == 5  # what was open still is


def click(page, x, y):
    page.mouse.click(*on_screen(page, x, y))


def drag(page, x0, y0, x1, y1):
    page.mouse.move(*on_screen(page, x0, y0))
    page.mouse.down()
    page.mouse.move(*on_screen(page, x1, y1), steps=4)
    page.mouse.up()


def open_volume(page, path, shape=(5, 30, 40)):
    """Open a volume of noise and blocks on the page; one of four axes is a cine."""
    label = np.broadcast_to(blocks(shape[-3:], [1]), shape)
    page.set_input_files("#files", str(write_itk(path, picture_of(label, np.random.default_rng(6)))))
    page.wait_for_function(f"state.shown.slices === {shape[-3]}")


def test_nothing_is_drawn_on_a_picture_that_goes(page, held, tmp_path):
    open_volume(page, tmp_path / "first.nii.gz")
    open_volume(page, tmp_path / "second.nii.gz", (7, 30, 40))
    page.fill("#high", "50")
    page.press("#high", "Enter")
    page.wait_for_function("state.shown.levels[1] === 50")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    held.add("/api/show")
    with page.expect_request("**/api/show"):
        page.select_option("#cases", label="first.nii.gz")
    click(page, 5, 5)
    page.mouse.wheel(0, 100)
    page.focus("#canvas")
    page.keyboard.press("ArrowUp")
    held.clear()
    page.wait_for_function("state.shown.slices === 5")
    assert results(page) == []
    assert not [url for url in requests if url.endswith("/api/ask")]
    assert page.evaluate("state.drawn") == []
    assert page.evaluate("state.shown.slice") == 2
    assert page.evaluate("state.shown.levels[1]") > 50


def test_what_cannot_be_shown_leaves_the_picture_with_its_prompts(page, library, tmp_path):
    open_volume(page, tmp_path / "first.nii.gz")
    open_volume(page, tmp_path / "second.nii.gz", (7, 30, 40))
    library.files["file/0"].path.unlink()
    click(page, 5, 5)
    before = results(page)
    page.select_option("#cases", label="first.nii.gz")
    page.wait_for_function("document.getElementById('status').classList.contains('bad')")
    assert page.evaluate("clicks()") == [[5, 5, 1]]
    assert page.locator("#cases option:checked").inner_text() == "second.nii.gz"
    with page.expect_response("**/api/ask") as response:
        click(page, 6, 6)
    assert response.value.ok
    assert len(results(page)) == len(before) == 1


def test_a_wrong_window_leaves_the_answer_that_is_awaited(page, held, tmp_path):
    open_volume(page, tmp_path / "scan.nii.gz")
    page.check("#methods input[value=ellipse]")
    held.add("/api/ask")
    with page.expect_request("**/api/ask"):
        click(page, 5, 5)
    page.fill("#low", "500")
    page.fill("#high", "10")
    page.press("#high", "Enter")
    page.wait_for_function("document.getElementById('status').classList.contains('bad')")
    held.clear()
    page.wait_for_function("!asking")
    assert [row[0].strip() for row in results(page)] == ["rand", "ellipse"]
    assert "black must be below" in page.inner_text("#status")


def test_the_status_does_not_outlive_what_is_asked(page, held):
    held.add("/api/ask")
    with page.expect_request("**/api/ask"):
        click(page, 5, 5)
    page.keyboard.press("Escape")
    held.clear()
    assert results(page) == []
    assert page.inner_text("#status") == ""


def test_prompts_stay_with_their_picture(page, tmp_path):
    open_volume(page, tmp_path / "cine.nii.gz", (3, 4, 30, 40))
    for control in ("high", "frame", "slice"):
        click(page, 5, 5)
        assert len(results(page)) == 1
        with page.expect_response("**/api/show"):
            if control == "high":
                page.fill("#high", "60")
                page.press("#high", "Enter")
            else:
                page.evaluate("id => { $(id).value = 0 + ($(id).value === '0'); }", control)
                page.dispatch_event(f"#{control}", "input")
        page.wait_for_function("state.shown.levels[1] === 60 || !state.drawn.length")
        results(page)
        assert page.evaluate("clicks()") == ([[5, 5, 1]] if control == "high" else [])
        page.keyboard.press("Escape")


def test_undo_brings_back_what_a_box_or_escape_took(page):
    click(page, 5, 5)
    click(page, 9, 5)
    drag(page, 4, 4, 20, 20)
    assert page.evaluate("state.drawn") == [[4, 4, 21, 21]]
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    assert page.evaluate("state.drawn") == [[4, 4, 21, 21]]
    page.click("#undo")
    assert page.evaluate("clicks()") == [[5, 5, 1], [9, 5, 1]]
    page.click("#undo")
    page.click("#undo")
    page.click("#undo")
    assert page.evaluate("state.drawn") == []
    assert results(page) == []


def test_thick_slices_are_drawn_in_millimetres(page, tmp_path):
    values = picture_of(np.ones((6, 30, 40), np.uint8), np.random.default_rng(7))
    page.set_input_files("#files", str(write_itk(tmp_path / "thick.nii.gz", values, (1.0, 1.0, 5.0))))
    page.wait_for_function("state.shown.slices === 6")
    page.select_option("#plane", "coronal")
    page.wait_for_function("state.shown.slices === 30")
    edge = page.locator("#canvas").bounding_box()
    assert edge["width"] / edge["height"] == pytest.approx(40 / (6 * 5), rel=0.01)
    for x, y in ((0, 0), (39, 5), (17, 4)):
        click(page, x, y)
    assert page.evaluate("clicks()") == [[0, 0, 1], [39, 5, 1], [17, 4, 1]]
    page.check("#methods input[value=ellipse]")
    page.uncheck("#methods input[value=rand]")
    drag(page, 20, 1, 35, 3)
    assert len(results(page)) == 1
    assert page.evaluate("box()") == [20, 1, 36, 4]
    drawn = {(x, y) for x in (3, 27, 32) for y in (0, 2, 5) if not page.evaluate(GREY, [x, y])}
    assert drawn == {(27, 2), (32, 2)}


def titles(page):
    return page.locator("#cases option").all_inner_texts()


def test_pictures_opened_together_are_opened_each(page, tmp_path):
    rng = np.random.default_rng(8)
    paths = [
        write_picture(tmp_path / name, rng.integers(0, 255, (20, 20 + k), np.uint8))
        for k, name in enumerate(("a.png", "b.png"))
    ]
    (tmp_path / "notes.txt").write_text("no image")
    page.set_input_files("#files", [str(path) for path in (*paths, tmp_path / "notes.txt")])
    page.wait_for_function("$('source').value === '' && state.shown.width === 20")
    assert titles(page) == ["a.png", "b.png"]
    assert page.inner_text("#status").startswith("1 could not be read, the first: notes.txt: ")
    page.select_option("#cases", label="b.png")
    page.wait_for_function("state.shown.width === 21")


def test_a_series_of_very_many_slices_is_opened_and_keeps_its_title(page, tmp_path):
    volume = np.random.default_rng(9).integers(0, 99, (1001, 4, 5)).astype(np.int16)
    series = write_dicom_series(tmp_path / "series", volume)
    page.set_default_timeout(120_000)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.set_input_files("#files", [str(path) for path in series])
    page.wait_for_function("state.shown.slices === 1001 || $('status').classList.contains('bad')")
    assert page.inner_text("#status") == ""
    assert titles(page) == ["i0000,0000b.dcm and 1000 more"]
    sendings = sum(url.endswith("/api/files") for url in requests)
    assert sendings * 50 > 1001  # the server has all files of a request open at once
    page.reload()
    page.wait_for_function("state.shown?.slices === 1001")
    assert titles(page) == ["i0000,0000b.dcm and 1000 more"]


def test_a_folder_can_be_dropped(page, tmp_path):
    volume = picture_of(blocks((4, 24, 32), [1]), np.random.default_rng(10))
    write_dicom_series(tmp_path / "study" / "series", volume)
    (tmp_path / "study" / ".DS_Store").write_text("of the system")
    (tmp_path / "empty").mkdir()
    session = page.context.new_cdp_session(page)
    x, y = on_screen(page, 5, 5)

    def drop(path):
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})

    drop(tmp_path / "empty")
    page.wait_for_function("$('status').classList.contains('bad')")
    assert page.inner_text("#status") == "no file lies in the folder"
    drop(tmp_path / "study")
    page.wait_for_function("state.shown.slices === 4")
    assert page.inner_text("#status") == ""
