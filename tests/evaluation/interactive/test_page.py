"""The page to try methods by hand, in a real browser."""

import time
from concurrent.futures import Future

import numpy as np
import pytest
from PIL import Image

from synthfm.evaluation.interactive.page.asking import Asker
from synthfm.evaluation.interactive.page.routes import make_app
from tests.support.files import blocks, picture_of, write_dicom_series, write_itk, write_picture


@pytest.fixture
def held():
    """Paths that the server does not answer as long as they are in here."""
    held = set()
    yield held
    held.clear()


@pytest.fixture
def page(library, methods, sent, held, browse):
    shown, asked = Future(), Future()
    shown.set_result(library)
    asked.set_result(Asker(methods, {"rand": "first look"}))
    app = make_app(shown, asked, sent)

    def slow(environ, start_response):
        while environ["PATH_INFO"] in held:
            time.sleep(0.01)
        return app(environ, start_response)

    page = browse(slow, 1200, 900)
    ready(page)
    return page


def ready(page):
    """Wait until the page shows an image and knows the methods."""
    page.wait_for_function(
        "window.synthfm?.state.shown && synthfm.state.methods.length && !synthfm.isAsking()"
    )


def settled(page):
    page.wait_for_function("!synthfm.isAsking()")


def results(page):
    """The rows of the comparison; `comparing` opens it."""
    settled(page)
    rows = page.locator("#comparison tbody tr").all()
    return [[cell.inner_text() for cell in row.locator("td").all()] for row in rows]


def comparing(page, *methods):
    """Compare with these methods and no others."""
    if not page.evaluate("document.getElementById('compare').open"):
        page.click("#compare summary")
    for tick in page.locator("#methods input").all():
        tick.set_checked(tick.get_attribute("value") in methods)
    settled(page)


def prompt(page):
    return page.evaluate("synthfm.prompt()")


def clicks(page):
    return prompt(page)["clicks"]


GREY = """([x, y]) => {
  const canvas = document.getElementById("canvas"), edge = canvas.getBoundingClientRect();
  const [across, down] = synthfm.onScreen(x + 0.5, y + 0.5);
  const place = [(across - edge.left) * devicePixelRatio, (down - edge.top) * devicePixelRatio];
  const [red, green, blue] = canvas.getContext("2d").getImageData(...place, 1, 1).data;
  return red === green && green === blue;
}"""
"""Whether nothing is drawn over a pixel."""


def on_screen(page, x, y):
    """Where a pixel's centre lies on the page."""
    return page.evaluate("([x, y]) => synthfm.onScreen(x + 0.5, y + 0.5)", [int(x), int(y)])


def test_the_page_in_a_browser(page, library, methods, tmp_path):
    case = library.datasets["discs"].cases[0]
    (item,) = case.objects
    rows, columns = np.nonzero(item.mask)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max(), rows.max()
    # A box around the disc, for two methods.
    comparing(page, "ellipse")
    drag(page, x0, y0, x1, y1)
    first, second = results(page)
    assert prompt(page)["box"] == [x0, y0, x1 + 1, y1 + 1]
    assert [first[0].strip(), second[0].strip()] == ["first look", "ellipse"]
    assert page.locator("#result .method").inner_text() == "first look"
    assert second[1].endswith("(disc)")
    assert float(second[1].split()[0]) > 0.95
    # The mask is drawn where it is: inside of the ellipse the canvas is not the image's grey any more.
    inside, outside = [int((x0 + x1) // 2), int((y0 + y1) // 2)], [1, 1]
    edge = [int(x0), int((y0 + y1) // 2)]
    assert page.evaluate(GREY, edge) is False
    # What is saved is the mask that is shown.
    with page.expect_download() as download:
        page.locator("#comparison tr", has_text="ellipse").get_by_text("Save mask").click()
    download.value.save_as(tmp_path / "mask.png")
    assert download.value.suggested_filename == "p0_ellipse.png"
    saved = np.asarray(Image.open(tmp_path / "mask.png")) > 127
    assert saved.shape == item.mask.shape
    assert 2 * (saved & item.mask).sum() / (saved.sum() + item.mask.sum()) == pytest.approx(
        float(second[1].split()[0]), abs=1e-3
    )
    # Clicks: object, then background with the right button; undo takes the last away; Escape all.
    page.keyboard.press("Escape")
    assert results(page) == []
    assert page.evaluate(GREY, edge) is True
    click(page, *inside)
    page.mouse.click(*on_screen(page, *outside), button="right")
    assert len(results(page)) == 2
    assert clicks(page) == [[*inside, 1], [*outside, 0]]
    page.keyboard.press("Control+z")
    assert "needs a box" in results(page)[1][1]
    assert clicks(page) == [[*inside, 1]]
    page.keyboard.press("Control+Shift+z")
    settled(page)
    assert clicks(page) == [[*inside, 1], [*outside, 0]]


def test_the_tools_do_what_they_say(page):
    page.locator("#tools label", has_text="Background").click()
    click(page, 5, 5)
    page.locator("#tools label", has_text="Box").click()
    click(page, 9, 9)
    assert clicks(page) == [[5, 5, 0]]
    page.locator("#tools label", has_text="Move").click()
    drag(page, 4, 4, 20, 20)
    assert prompt(page) == {"clicks": [[5, 5, 0]], "box": None, "choice": None}
    page.locator("#tools label", has_text="Object").click()
    drag(page, 4, 4, 20, 20)
    assert prompt(page) == {"clicks": [], "box": [4, 4, 21, 21], "choice": None}


def test_what_no_answer_has_takes_no_column(page, tmp_path):
    comparing(page, "grabcut")
    click(page, 20, 22)
    settled(page)
    assert "Dice" in page.inner_text("#comparison thead")
    assert "Dice" in page.inner_text("#result")
    page.set_input_files("#files", str(write_picture(tmp_path / "a.png", np.eye(40, dtype=np.uint8) * 99)))
    page.wait_for_function("synthfm.state.shown.width === 40")
    click(page, 20, 22)
    settled(page)
    assert "Dice" not in page.inner_text("#comparison thead")
    assert "Dice" not in page.inner_text("#result")
    assert "IoU" in page.inner_text("#result")


def test_one_of_three_masks_is_chosen_and_undone(page):
    click(page, 20, 22)
    settled(page)
    offered = page.locator("#masks button")
    count = offered.count()
    assert count > 1
    pressed = [item.get_attribute("aria-pressed") for item in offered.all()]
    assert pressed.count("true") == 1
    other = pressed.index("false")
    before = page.evaluate("synthfm.state.answers.rand.outline")
    page.keyboard.press(str(other + 1))
    settled(page)
    assert offered.nth(other).get_attribute("aria-pressed") == "true"
    chosen = prompt(page)["choice"]
    assert page.evaluate("synthfm.state.answers.rand.outline") != before
    with page.expect_request("**/api/ask") as request:
        page.mouse.click(*on_screen(page, 2, 2), button="right")
    assert request.value.post_data_json["choice"] == chosen
    settled(page)
    assert not page.is_visible("#choices")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    settled(page)
    assert page.evaluate("synthfm.state.answers.rand.outline") == before
    assert page.is_visible("#choices")


def test_zooming_keeps_what_lies_under_the_pointer_and_clicks_hit_their_pixel(page):
    place = on_screen(page, 50, 12)
    page.mouse.move(*place)
    page.mouse.wheel(0, -500)
    assert on_screen(page, 50, 12) == pytest.approx(place, abs=2)
    near, far = on_screen(page, 50, 12), on_screen(page, 51, 12)
    assert far[0] - near[0] > 20
    page.mouse.click(*place)
    assert clicks(page) == [[50, 12, 1]]
    page.mouse.down(button="middle")
    page.mouse.move(place[0] - 60, place[1] + 10, steps=3)
    page.mouse.up(button="middle")
    assert on_screen(page, 50, 12) == pytest.approx([place[0] - 60, place[1] + 10], abs=2)
    page.keyboard.press("0")
    assert on_screen(page, 50, 12) == pytest.approx(place, abs=2)
    page.keyboard.press("+")
    page.focus("#canvas")
    before = on_screen(page, 30, 30)
    page.keyboard.press("ArrowLeft")
    assert on_screen(page, 30, 30)[0] > before[0]
    assert clicks(page) == [[50, 12, 1]]


def test_the_dark_scheme_is_followed(page):
    def brightness():
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(value) for value in colour.strip("rgb()").split(","))

    assert brightness() > 600
    page.emulate_media(color_scheme="dark")
    assert brightness() < 150


def test_a_click_before_the_model_is_loaded_is_answered_when_it_is(page, held):
    held.add("/api/methods")
    page.reload()
    page.wait_for_function("window.synthfm?.state.shown")
    assert page.is_visible("#loading")
    click(page, 20, 22)
    assert page.locator("#result").is_hidden()
    held.clear()
    page.wait_for_selector("#result:not([hidden])")
    assert page.is_hidden("#loading")


def test_own_files_in_a_browser(page, tmp_path):
    image = picture_of(blocks((3, 30, 40), [1]), np.random.default_rng(5))[1:2]
    scan = write_itk(tmp_path / "scan.nii.gz", image)
    page.set_input_files("#files", str(scan))
    page.wait_for_function("synthfm.state.shown.image.startsWith('file/')")
    page.fill("#low", "40")
    page.fill("#high", "60")
    page.press("#high", "Enter")
    page.wait_for_function("synthfm.state.shown.levels[1] === 60")
    (tmp_path / "broken.nii.gz").write_bytes(scan.read_bytes()[:60])
    page.set_input_files("#files", str(tmp_path / "broken.nii.gz"))
    page.wait_for_function("document.getElementById('status').classList.contains('bad')")
    assert page.inner_text("#status").startswith("broken.nii.gz: ")
    assert page.evaluate("synthfm.state.shown.width") == 40  # what was open still is


def click(page, x, y):
    page.mouse.click(*on_screen(page, x, y))


def drag(page, x0, y0, x1, y1):
    page.mouse.move(*on_screen(page, x0, y0))
    page.mouse.down()
    page.mouse.move(*on_screen(page, x1, y1), steps=4)
    page.mouse.up()


def open_image(page, path, shape=(30, 40)):
    """Open an image of noise and a block on the page; one of three axes is a cine."""
    label = np.broadcast_to(blocks(shape[-2:], [1]), shape)
    image = picture_of(label, np.random.default_rng(6)).reshape(*shape[:-2], 1, *shape[-2:])
    page.set_input_files("#files", str(write_itk(path, image)))
    page.wait_for_function(f"synthfm.state.shown.width === {shape[-1]}")
    settled(page)


def test_nothing_is_drawn_on_a_picture_that_goes(page, held, tmp_path):
    open_image(page, tmp_path / "first.nii.gz")
    open_image(page, tmp_path / "second.nii.gz", (30, 42))
    page.fill("#high", "50")
    page.press("#high", "Enter")
    page.wait_for_function("synthfm.state.shown.levels[1] === 50")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    held.add("/api/show")
    with page.expect_request("**/api/show"):
        page.select_option("#cases", label="first.nii.gz")
    click(page, 5, 5)
    held.clear()
    page.wait_for_function("synthfm.state.shown.width === 40")
    assert results(page) == []
    assert not [url for url in requests if url.endswith("/api/ask")]
    assert clicks(page) == []
    assert page.evaluate("synthfm.state.shown.levels[1]") > 50


def test_what_cannot_be_shown_leaves_the_picture_with_its_prompts(page, library, tmp_path):
    open_image(page, tmp_path / "first.nii.gz")
    for k in range(4):  # more than are kept as they were read
        open_image(page, tmp_path / f"other{k}.nii.gz", (30, 42 + k))
    library.files["file/0"].path.unlink()
    click(page, 5, 5)
    settled(page)
    page.select_option("#cases", label="first.nii.gz")
    page.wait_for_function("document.getElementById('status').classList.contains('bad')")
    assert clicks(page) == [[5, 5, 1]]
    assert page.locator("#cases option:checked").inner_text() == "other3.nii.gz"
    with page.expect_response("**/api/ask") as response:
        click(page, 6, 6)
    assert response.value.ok
    settled(page)
    assert page.is_visible("#result")


def test_a_wrong_window_leaves_the_answer_that_is_awaited(page, held, tmp_path):
    open_image(page, tmp_path / "scan.nii.gz")
    comparing(page, "ellipse")
    held.add("/api/ask")
    with page.expect_request("**/api/ask"):
        click(page, 5, 5)
    page.fill("#low", "500")
    page.fill("#high", "10")
    page.press("#high", "Enter")
    page.wait_for_function("document.getElementById('status').classList.contains('bad')")
    held.clear()
    settled(page)
    assert [row[0].strip() for row in results(page)] == ["first look", "ellipse"]
    assert "black must be below" in page.inner_text("#status")


def test_the_status_does_not_outlive_what_is_asked(page, held):
    held.add("/api/ask")
    with page.expect_request("**/api/ask"):
        click(page, 5, 5)
    page.keyboard.press("Escape")
    held.clear()
    assert results(page) == []
    assert page.inner_text("#status") == ""


def go_to(page, frame):
    """Move the slider, as a person does."""
    page.evaluate(
        """value => {
          const slider = document.getElementById("frame");
          slider.value = value;
          slider.dispatchEvent(new Event("input"));
        }""",
        frame,
    )
    page.wait_for_function(f"synthfm.state.shown.frame === {frame}")
    settled(page)


def test_prompts_stay_with_their_frame_and_come_back(page, tmp_path):
    open_image(page, tmp_path / "cine.nii.gz", (3, 30, 40))
    click(page, 5, 5)
    page.fill("#high", "60")
    page.press("#high", "Enter")
    page.wait_for_function("synthfm.state.shown.levels[1] === 60")
    assert clicks(page) == [[5, 5, 1]]  # other grey levels are the same frame
    go_to(page, 1)
    assert clicks(page) == []
    drag(page, 3, 3, 9, 9)
    settled(page)
    go_to(page, 0)
    assert clicks(page) == [[5, 5, 1]]
    assert page.is_visible("#result")
    go_to(page, 1)
    assert prompt(page)["box"] == [3, 3, 10, 10]


def test_undo_and_redo_go_to_the_frame_where_it_was(page, tmp_path):
    open_image(page, tmp_path / "cine.nii.gz", (3, 30, 40))
    click(page, 5, 5)
    go_to(page, 2)
    click(page, 9, 9)
    go_to(page, 1)
    page.keyboard.press("Control+z")
    page.wait_for_function("synthfm.state.shown.frame === 2")
    assert clicks(page) == []
    page.keyboard.press("Control+z")
    page.wait_for_function("synthfm.state.shown.frame === 0")
    assert clicks(page) == []
    assert page.is_disabled("#undo")
    page.click("#redo")
    page.wait_for_function("synthfm.prompt().clicks.length === 1")
    page.click("#redo")
    page.wait_for_function("synthfm.state.shown.frame === 2")
    assert clicks(page) == [[9, 9, 1]]
    assert page.is_disabled("#redo")


def test_a_reload_keeps_all(page, tmp_path):
    open_image(page, tmp_path / "cine.nii.gz", (3, 30, 40))
    comparing(page, "grabcut")
    click(page, 5, 5)
    go_to(page, 2)
    click(page, 9, 9)
    settled(page)
    page.keyboard.press("2")
    settled(page)
    before, place = prompt(page), page.evaluate("synthfm.state.shown.frame")
    page.reload()
    ready(page)
    assert (prompt(page), page.evaluate("synthfm.state.shown.frame")) == (before, place)
    assert len(results(page)) == 2
    assert page.locator("#cases option:checked").inner_text() == "cine.nii.gz"
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.wait_for_function("synthfm.state.shown.frame === 0")
    # Another start of the server gives the same names to other files.
    page.evaluate(
        "localStorage.setItem('synthfm', localStorage.getItem('synthfm').replace(/[0-9a-f]{16}/, 'other'))"
    )
    page.reload()
    ready(page)
    assert page.evaluate("Object.keys(synthfm.state.prompts).length") == 0


def test_undo_brings_back_what_a_box_or_escape_took(page):
    click(page, 5, 5)
    click(page, 9, 5)
    drag(page, 4, 4, 20, 20)
    assert prompt(page)["box"] == [4, 4, 21, 21]
    page.keyboard.press("Escape")
    assert prompt(page)["box"] is None
    page.keyboard.press("Control+z")
    assert prompt(page)["box"] == [4, 4, 21, 21]
    page.click("#undo")
    assert clicks(page) == [[5, 5, 1], [9, 5, 1]]
    page.click("#undo")
    page.click("#undo")
    assert clicks(page) == []
    settled(page)
    assert page.locator("#result").is_hidden()


def test_pixels_that_are_not_square_are_drawn_in_millimetres(page, tmp_path):
    values = picture_of(np.ones((6, 1, 40), np.uint8), np.random.default_rng(7))  # one coronal slice
    page.set_input_files("#files", str(write_itk(tmp_path / "thick.nii.gz", values, (1.0, 1.0, 5.0))))
    page.wait_for_function("synthfm.state.shown.height === 6")
    first, last = page.evaluate("[synthfm.onScreen(0, 0), synthfm.onScreen(40, 6)]")
    assert (last[0] - first[0]) / (last[1] - first[1]) == pytest.approx(40 / (6 * 5), rel=0.01)
    for x, y in ((0, 0), (39, 5), (17, 4)):
        click(page, x, y)
    assert clicks(page) == [[0, 0, 1], [39, 5, 1], [17, 4, 1]]
    drag(page, 20, 1, 35, 3)
    assert prompt(page)["box"] == [20, 1, 36, 4]


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
    page.wait_for_function(
        "document.getElementById('source').value === '' && synthfm.state.shown.width === 20"
    )
    assert titles(page) == ["a.png", "b.png"]
    assert page.inner_text("#status").startswith("1 could not be read, the first: notes.txt: ")
    page.select_option("#cases", label="b.png")
    page.wait_for_function("synthfm.state.shown.width === 21")


def test_a_series_of_very_many_slices_is_opened_and_keeps_its_title(page, tmp_path):
    volume = np.random.default_rng(9).integers(0, 99, (1001, 4, 5)).astype(np.int16)
    series = write_dicom_series(tmp_path / "series", volume)
    page.set_default_timeout(120_000)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.set_input_files("#files", [str(path) for path in series])
    page.wait_for_function(
        "synthfm.scan.info?.shape[0] === 1001 || document.getElementById('status').classList.contains('bad')"
    )
    assert page.inner_text("#status") == ""
    assert titles(page) == ["i0000,0000b.dcm and 1000 more"]
    sendings = sum(url.endswith("/api/files") for url in requests)
    assert sendings * 50 > 1001  # the server has all files of a request open at once
    page.reload()
    page.wait_for_function("synthfm.scan.info?.shape[0] === 1001")
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
    page.wait_for_function("document.getElementById('status').classList.contains('bad')")
    assert page.inner_text("#status") == "no file lies in the folder"
    drop(tmp_path / "study")
    page.wait_for_function("synthfm.scan.info?.shape[0] === 4")
    assert page.inner_text("#status") == ""


def test_nothing_of_the_page_is_against_its_own_policy(library, methods, sent, browse):
    shown, asked = Future(), Future()
    shown.set_result(library)
    asked.set_result(Asker(methods, {"rand": "first look"}))
    page = browse(make_app(shown, asked, sent), 1200, 900, policy=True)
    for _ in range(200):
        if page.evaluate("Boolean(window.synthfm?.state.shown && synthfm.state.methods.length)"):
            break
        page.wait_for_timeout(100)
    page.locator("canvas").first.click()
    page.wait_for_timeout(1000)
    assert page.evaluate("synthfm.prompt().clicks.length") == 1
    with page.expect_download() as download:
        page.get_by_text("Save mask").first.click()
    assert download.value.suggested_filename.endswith(".png")
    assert not [text for text in page.said if "Content Security Policy" in text]
