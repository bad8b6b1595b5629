"""Makes the picture of a scan on the page: ``python docs/img/make_scan_picture.py`` (needs Chromium).

A scan of ellipsoids, for the reason given in ``make_model_picture.py``.
"""

from __future__ import annotations

import io
import logging
import shutil
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scipy import ndimage
from werkzeug.serving import make_server

from synthfm.evaluation.interactive.page.asking import Asker
from synthfm.evaluation.interactive.page.loading import Wanted, load
from synthfm.evaluation.interactive.page.pictures import Library
from synthfm.evaluation.interactive.page.routes import make_app

SHAPE = (48, 224, 256)
THICK = 3.0
"""mm from slice to slice; pixels have 1.4 mm."""
ORGANS = {  # centre and radii (z, y, x) in pixels of the slice, Hounsfield units
    "liver": ((24, 100, 84), (40, 52, 50), 105),
    "spleen": ((27, 118, 202), (20, 26, 15), 125),
    "kidney": ((18, 146, 164), (17, 14, 12), 165),
    "other kidney": ((17, 146, 96), (17, 14, 12), 165),
    "aorta": ((24, 130, 133), (400, 8, 8), 180),
    "vertebra": ((24, 158, 128), (400, 15, 17), 420),
}


def scan() -> NDArray[np.int16]:
    """Hounsfield units (Z, Y, X): organs with uneven outlines in a body, and noise."""
    rng = np.random.default_rng(4)
    z, y, x = np.indices(SHAPE).astype(np.float32)
    z *= THICK / 1.4
    bend = [6 * _smooth(rng, 14) for _ in range(3)]
    at = z + bend[0], y + bend[1], x + bend[2]
    values = np.full(SHAPE, -1000, np.float32)
    body = ((y - 114) / 88) ** 2 + ((x - 128) / 116) ** 2 < 1
    values[body] = -90
    values[((y - 116) / 74) ** 2 + ((x - 128) / 100) ** 2 < 1] = 45
    for (depth, row, column), radii, hounsfield in ORGANS.values():
        centre = depth * THICK / 1.4, row, column
        inside = sum(((a - c) / r) ** 2 for a, c, r in zip(at, centre, radii, strict=True)) < 1
        values[inside & body] = hounsfield
    values = ndimage.gaussian_filter(values, (0.4, 0.9, 0.9))
    noise = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), (0, 0.8, 0.8))
    return (values + 16 * noise / noise.std() + 8 * _smooth(rng, 5)).astype(np.int16)


def _smooth(rng: np.random.Generator, scale: float) -> NDArray[np.float32]:
    """Noise of unit variance that changes over so many pixels."""
    field = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), (scale / 2, scale, scale))
    return (field / field.std()).astype(np.float32)


def segment(page: Page, name: str, negatives: tuple[tuple[int, int], ...] = ()) -> None:
    """Click on an organ, have it found in all slices, and give it its name."""
    settled = "synthfm.isSettled()"
    (depth, row, column), _, _ = ORGANS[name]
    page.evaluate("k => { synthfm.scan.place = [k, ...synthfm.scan.place.slice(1)]; }", depth)
    page.keyboard.press("n")
    page.wait_for_function(settled)
    page.mouse.click(*page.evaluate("([x, y]) => synthfm.onPane(0, x, y)", [column, row]))
    page.wait_for_function(settled)
    for x, y in negatives:
        page.mouse.click(*page.evaluate("([x, y]) => synthfm.onPane(0, x, y)", [x, y]), button="right")
        page.wait_for_function(settled)
    page.keyboard.press("Enter")
    page.wait_for_function(settled)
    page.keyboard.press("F2")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_function(settled)


def main() -> None:
    """Write ``scan.png`` beside this file."""
    with tempfile.TemporaryDirectory() as temporary:
        image = sitk.GetImageFromArray(scan())
        image.SetSpacing((1.4, 1.4, THICK))
        path = Path(temporary) / "synthetic.nii.gz"
        sitk.WriteImage(image, str(path))
        library: Future[Library] = Future()
        asker: Future[Asker] = Future()
        load(Wanted(["second-look:tiny"], files=[path]), library, asker)
        app = make_app(library, asker, Path(temporary))
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1180, "height": 740}, bypass_csp=True)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("window.synthfm?.isSettled()")
            for name in ("spleen", "kidney", "liver"):
                segment(page, name)
            page.evaluate("synthfm.scan.place = [23, 108, 84]")
            page.keyboard.press("ArrowUp")
            page.wait_for_function("synthfm.isSettled()")
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(200)
            shot = Image.open(io.BytesIO(page.screenshot()))
            shot.quantize(256).save(Path(__file__).with_name("scan.png"), optimize=True)
            browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
