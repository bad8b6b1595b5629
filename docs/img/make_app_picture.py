"""Makes the picture of the page in README: ``python docs/img/make_app_picture.py`` (needs Chromium).

A synthetic image, for the reason given in ``make_model_picture.py``.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path

from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from synthfm.data.prompts import centre_point
from synthfm.evaluation.interactive.page.asking import Asker
from synthfm.evaluation.interactive.page.loading import METHODS, Wanted, load
from synthfm.evaluation.interactive.page.pictures import Library
from synthfm.evaluation.interactive.page.routes import make_app

STRUCTURE = 0
"""Of the first sample, the one that is clicked on."""


def main() -> None:
    """Write ``app.png`` beside this file: one click on an organ of the first sample."""
    with tempfile.TemporaryDirectory() as temporary:
        library: Future[Library] = Future()
        asker: Future[Asker] = Future()
        load(Wanted(METHODS), library, asker)
        (dataset,) = library.result().datasets.values()
        app = make_app(library, asker, Path(temporary))
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1080, "height": 760}, bypass_csp=True)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("window.synthfm?.state.shown && synthfm.state.methods.length")
            x, y = (int(value) for value in centre_point(dataset.cases[0].objects[STRUCTURE].mask))
            place = page.evaluate("([x, y]) => synthfm.onScreen(x + 0.5, y + 0.5)", [x, y])
            for number in range(2):  # the first one is asked while the program still warms up
                if number:
                    page.get_by_role("button", name="Clear").click()
                    page.wait_for_function("!synthfm.isAsking()")
                page.mouse.click(*place)
                page.wait_for_selector("#choices:not([hidden])")
                page.wait_for_function("!synthfm.isAsking()")
            page.screenshot(path=Path(__file__).with_name("app.png"))
            browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
