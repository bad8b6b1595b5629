"""Makes the picture of the page in README: ``python docs/img/make_app_picture.py`` (needs Chromium).

A synthetic image, for the reason given in ``make_model_picture.py``.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from data.prompts import centre_point
from evaluation.app.asking import Asker
from evaluation.app.pictures import Library
from evaluation.app.server import make_app
from evaluation.descriptor import load_descriptor
from evaluation.methods import build
from generator.config import load_config
from generator.factory import generate

NUMBER, SEED, CASE = 12, 1000, 8
METHODS = ("checkpoint:tiny", "zoom:tiny", "random_walker", "region_growing")


def main() -> None:
    """Write ``app.png`` beside this file: one click on the largest object that is not the body."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "synthetic"
        generate(folder, load_config("ct"), num=NUMBER, root_seed=SEED)
        library = Library([load_descriptor(str(folder))], Path(), NUMBER)
        (dataset,) = library.datasets.values()
        objects = sorted(dataset.cases[CASE].objects, key=lambda item: -item.mask.sum())
        app = make_app(library, Asker([build(spec) for spec in METHODS]), Path(temporary))
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1080, "height": 760})
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("state.shown !== null")
            page.select_option("#cases", index=CASE)
            page.wait_for_function(f"state.shown.image.endsWith('/{CASE}') && state.shown.references.length")
            for tick in page.locator("#methods input").all():
                tick.check()
            x, y = (int(value) for value in centre_point(objects[1].mask))
            page.evaluate("([x, y]) => change([[x, y, 1]])", [x, y])
            page.wait_for_function("!asking && Object.keys(state.answers).length === state.methods.length")
            page.screenshot(path=Path(__file__).with_name("app.png"))
            browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
