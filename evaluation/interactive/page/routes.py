"""The page's routes: JSON in and out of what it shows (`pictures`) and whom it asks (`asking`)."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Literal

import flask
import numpy as np
import pydantic
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from synthfm.data.config import Config
from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt
from synthfm.evaluation.interactive.listening import LOCAL, has_left, only_for, with_headers
from synthfm.evaluation.interactive.page.asking import Answer, Asked, Asker
from synthfm.evaluation.interactive.page.desk import (
    MOST_CLICKS,
    Desk,
    Levels,
    Number,
    body,
    desk,
    outline,
    png,
)
from synthfm.evaluation.interactive.page.pictures import Library, Picture, Place
from synthfm.evaluation.interactive.page.scan_routes import scans
from synthfm.evaluation.interactive.page.uploads import Uploads
from synthfm.evaluation.methods.method import Predicted
from synthfm.evaluation.scoring.metrics import overlap

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
MOST_BYTES = 4 << 30
"""Of one request, and as ``files.js`` has it of all that is opened at once."""
MOST_JSON = 1 << 20
"""Bytes of a request that sends no files."""

WITHIN = 20.0
"""Seconds in which a prompt of many rounds is answered, or one is told to ask again."""

api = flask.Blueprint("api", __name__, url_prefix="/api")


class _Request(flask.Request):
    """A request that is not read any further where it is too much, whatever it says of its length."""

    max_form_memory_size = MOST_JSON  # fields that are no files; files go to the disk

    @property  # type: ignore[misc]
    def max_content_length(self) -> int:  # type: ignore[override]
        return MOST_BYTES if _sends_files(self) else MOST_JSON


def _sends_files(request: flask.Request) -> bool:
    return request.path == "/api/files" and request.mimetype == "multipart/form-data"


def make_app(
    library: Future[Library], asker: Future[Asker], folder: Path, hosts: Sequence[str] = LOCAL
) -> flask.Flask:
    """The web application.

    Parameters
    ----------
    library, asker
        What is shown, and who is asked, when it is there.
    folder
        Where the files lie that are sent from the page.
    hosts
        Names under which it may be asked for, so that no other site that the browser has open can use it;
        empty for any.
    """
    app = flask.Flask(__name__, static_folder=str(HERE / "static"))
    app.request_class = _Request
    app.extensions["desk"] = Desk(library, asker, Uploads(folder))
    app.before_request(lambda: only_for(hosts))
    app.before_request(_not_too_much)
    app.after_request(with_headers)
    app.register_error_handler(Exception, _in_one_line)
    app.register_error_handler(RequestEntityTooLarge, _too_large)
    app.add_url_rule("/", view_func=lambda: app.send_static_file("index.html"), endpoint="page")
    app.register_blueprint(api)
    app.register_blueprint(scans)
    return app


def _not_too_much() -> None:
    size = flask.request.content_length or 0
    if size > MOST_JSON and not _sends_files(flask.request):
        flask.abort(413, f"too much in one request: {size} bytes, at most {MOST_JSON}")


def _in_one_line(error: Exception) -> Any:
    if isinstance(error, HTTPException):
        return {"error": error.description or error.name}, error.code or 500
    text = desk().uploads.one_line(error)
    if isinstance(error, InputError):
        return {"error": text}, 400
    log.error("%s %s failed", flask.request.method, flask.request.path, exc_info=error)
    return {"error": f"{type(error).__name__}: {text}"}, 500


def _too_large(error: RequestEntityTooLarge) -> Any:
    if error.description != RequestEntityTooLarge.description:
        return {"error": error.description}, 413
    most = f"{flask.current_app.config['MAX_FORM_PARTS']} files and {MOST_BYTES >> 30} GiB"
    return {"error": f"too much in one request: at most {most}"}, 413


Coordinate = Annotated[int, pydantic.Field(ge=-(2**15), lt=2**15)]


class _Shown(Config):
    """What is to be shown: an image's name and a place in it."""

    image: str
    frame: Annotated[int, pydantic.Field(ge=0)] = 0
    levels: Levels | None = None

    def picture(self) -> Picture:
        return desk().library.result().show(self.image, Place(self.frame, self.levels))


class _Sent(Config):
    """What has been sent is to be opened."""

    upload: str


class _Question(_Shown):
    """One method is asked for a mask in what is shown."""

    method: str
    clicks: Annotated[
        tuple[tuple[Coordinate, Coordinate, Literal[0, 1]], ...], pydantic.Field(max_length=MOST_CLICKS)
    ] = ()
    box: tuple[Number, Number, Number, Number] | None = None
    choice: int | None = None

    def asked(self) -> Asked:
        """The prompt."""
        points, labels = [click[:2] for click in self.clicks], [click[2] for click in self.clicks]
        return Asked(Prompt(points, labels, self.box), self.choice)

    def answer(self) -> tuple[Picture, Answer]:
        """What is shown, and the method's answer, as far as it comes in time and somebody waits for it."""
        picture, asker, until = self.picture(), desk().asker.result(), time.monotonic() + WITHIN
        key = self.image, picture.place

        def enough() -> bool:
            return time.monotonic() > until or has_left()

        found = asker.ask(self.method, key, picture.image, self.asked(), desk().asking, enough)
        return picture, found

    def choices(self) -> Sequence[Predicted]:
        """What one click alone may mean to the method."""
        picture, asker = self.picture(), desk().asker.result()
        key = self.image, picture.place
        return asker.choices(self.method, key, picture.image, self.asked(), desk().asking)


@api.get("/start")
def _start() -> Any:
    library = desk().library.result()
    return {
        "token": desk().token,
        "first": library.first(),
        "datasets": [
            {"name": name, "title": item.descriptor.title} for name, item in library.datasets.items()
        ],
        "files": [_listed(library, name) for name in list(library.files)],
    }


def _listed(library: Library, name: str) -> dict[str, Any]:
    file = library.files[name]
    return {"image": name, "title": file.title, "slices": file.slices, "frames": file.frames}


@api.get("/methods")
def _methods() -> Any:
    titles = desk().asker.result().titles
    return {"methods": [{"name": name, "title": title} for name, title in titles.items()]}


@api.get("/datasets/<path:name>")
def _cases(name: str) -> Any:
    library = desk().library.result()
    if name not in library.datasets:
        raise InputError(f"no dataset {name!r}")
    found = library.datasets[name]
    cases = [
        {"image": f"case/{name}/{number}", "title": case.case} for number, case in enumerate(found.cases)
    ]
    problems = [f"{item.case}: {item.reason}" for item in found.failures]
    return {"cases": cases, "problems": problems}


@api.post("/files")
def _keep() -> Any:
    """Keep files; many are sent in several requests."""
    upload = flask.request.form.get("upload")
    return {"upload": desk().uploads.keep(flask.request.files.getlist("files"), upload)}


@api.post("/open")
def _open() -> Any:
    upload, library = body(_Sent).upload, desk().library.result()
    names, problems = desk().uploads.open(upload, library)
    return {"opened": [_listed(library, name) for name in names], "problems": problems}


@api.post("/show")
def _show() -> Any:
    picture = body(_Shown).picture()
    place, (height, width) = picture.place, picture.image.shape
    return {
        "width": width,
        "height": height,
        "png": "data:image/png;base64," + base64.b64encode(png(picture.image)).decode(),
        "frames": picture.frames,
        "ct": picture.is_ct,
        "spacing": picture.spacing,
        "frame": place.frame,
        "levels": place.levels,
        "references": [
            {"structure": item.structure, "outline": outline(item.mask)} for item in picture.references
        ],
    }


@api.post("/ask")
def _ask() -> Any:
    picture, found = body(_Question).answer()
    mask = found.predicted.mask
    pixels = int(mask.sum())
    scores = [
        (overlap(int(item.mask.sum()), pixels, int((item.mask & mask).sum()))[0], item.structure)
        for item in picture.references
    ]
    best, structure = max(scores, default=(None, None))
    return {
        "outline": outline(mask),
        "iou": found.predicted.iou,
        "pixels": pixels,
        "mm2": None if picture.spacing is None else pixels * picture.spacing[0] * picture.spacing[1],
        "dsc": best,
        "structure": structure,
        "encode_ms": found.encode_seconds * 1e3,
        "predict_ms": found.predict_seconds * 1e3,
    }


@api.post("/choices")
def _choices() -> Any:
    """What one click alone may mean, the smallest first; a mask that the model has twice is named once."""
    found = body(_Question).choices()
    masks = {item.mask.tobytes(): (number, item.mask) for number, item in reversed([*enumerate(found)])}
    rising = sorted(masks.values(), key=lambda item: int(item[1].sum()))
    return {
        "choices": [
            {"choice": number, "outline": outline(mask), "pixels": int(mask.sum())}
            for number, mask in rising
            if mask.any()
        ]
    }


@api.post("/mask.png")
def _mask() -> Any:
    _, found = body(_Question).answer()
    return flask.Response(png(found.predicted.mask.astype(np.uint8) * 255), mimetype="image/png")
