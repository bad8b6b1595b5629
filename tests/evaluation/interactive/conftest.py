"""A scan to be worked on, the page's server with the embedded model, and a browser to look at it."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import flask
import pytest

from synthfm.evaluation.interactive.page.asking import Asker
from synthfm.evaluation.interactive.page.pictures import Dataset, Library
from synthfm.evaluation.interactive.page.routes import make_app
from synthfm.evaluation.methods.registry import build
from synthfm.evaluation.session import load_datasets
from tests.support.cases import disc_folder, random_tiny
from tests.support.scans import write_balls


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    """What the page asks."""
    weights = random_tiny(tmp_path_factory.mktemp("app") / "rand.pth")
    specs = (f"rand=checkpoint:{weights}", f"zoom:{weights}", "ellipse", "grabcut", "chan_vese")
    return [build(spec) for spec in specs]


@pytest.fixture
def library(tmp_path):
    """What the page shows."""
    root, descriptor = disc_folder(tmp_path / "sets")
    return Library([Dataset(item, root, 3) for item in load_datasets([str(descriptor)], root)])


@pytest.fixture
def sent(tmp_path):
    """Where the page's server keeps what is sent to it."""
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def tiny() -> Future[Asker]:
    """The embedded model with two looks."""
    asker: Future[Asker] = Future()
    asker.set_result(Asker([build("second-look:tiny")]))
    return asker


@pytest.fixture
def balls(tmp_path: Path) -> Path:
    """The file of a scan that lies in the patient as NIfTI's own axes do: turned against the view."""
    return write_balls(tmp_path / "scans" / "balls.nii.gz", "RAS")


@pytest.fixture
def scan_app(balls: Path, tiny: Future[Asker], sent: Path) -> flask.Flask:
    """The page's application with that scan open."""
    library: Future[Library] = Future()
    library.set_result(Library([]))
    library.result().open(balls)
    return make_app(library, tiny, sent)


@contextmanager
def _served(app: Any) -> Iterator[str]:
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture
def browse() -> Iterator[Callable[..., Any]]:
    """A function that serves an application and opens it in Chromium, in a window of some size."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here to run the page in")
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:

        def browse(app: Any, width: int = 1280, height: int = 800, *, policy: bool = False) -> Any:
            address = stack.enter_context(_served(app))
            playwright = stack.enter_context(sync_playwright())
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            stack.callback(chromium.close)
            # What Playwright waits for is evaluated in the page, which the page's own policy forbids.
            page = chromium.new_page(viewport={"width": width, "height": height}, bypass_csp=not policy)
            page.said = []
            page.on("console", lambda message: page.said.append(message.text))
            page.goto(address)
            return page

        yield browse
