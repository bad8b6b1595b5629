"""The page's server: JSON in and out of :mod:`evaluation.app.pictures` and :mod:`evaluation.app.asking`."""

from __future__ import annotations

import base64
import errno
import io
import ipaddress
import logging
import re
import shutil
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import flask
import numpy as np
import pydantic
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.serving import make_server

from data.config import Config
from data.console import InputError
from evaluation.app.asking import Asked, Asker
from evaluation.app.pictures import Library, Picture, Place, images_in
from evaluation.methods import Method
from evaluation.metrics import overlap
from evaluation.schema import Descriptor

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
MOST_BYTES = 4 << 30
"""Of one request, and as ``app.js`` has it of all that is opened at once."""
LOCAL = ("127.0.0.1", "localhost", "::1")


class _Shown(Config):
    """What is to be shown: an image's name and a place in it."""

    image: str
    frame: Annotated[int, pydantic.Field(ge=0)] = 0
    plane: Literal["auto", "axial", "coronal", "sagittal"] = "auto"
    slice: int | None = None
    levels: tuple[float, float] | None = None

    @pydantic.field_validator("levels")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not (np.isfinite(value).all() and value[0] < value[1]):
            raise ValueError("the value of black must be below that of white")
        return value

    def place(self) -> Place:
        return Place(self.frame, self.plane, self.slice, self.levels)


class _Sent(Config):
    """What has been sent is to be opened."""

    upload: str


class _Question(_Shown):
    """One method is asked for a mask in what is shown."""

    method: str
    clicks: tuple[tuple[int, int, Literal[0, 1]], ...] = ()
    box: tuple[float, float, float, float] | None = None


Body = TypeVar("Body", bound=Config)


def _body(kind: type[Body]) -> Body:
    """The request's JSON."""
    try:
        return kind.model_validate(flask.request.get_json(), strict=False)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def make_app(library: Library, asker: Asker, folder: Path, hosts: Sequence[str] = LOCAL) -> flask.Flask:
    """The web application.

    Parameters
    ----------
    library, asker
        What is shown, and who is asked.
    folder
        Where the files lie that are sent from the page.
    hosts
        Names under which it may be asked for, so that no other site that the browser has open can use it;
        empty for any.
    """
    app = flask.Flask(__name__, static_folder=str(HERE / "static"))
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    allowed = {in_address(host) for host in hosts}
    lock = threading.Lock()  # methods and volumes are used by one request at a time
    uploads: dict[str, list[str]] = {}  # the files of each folder that is not opened yet
    kept_in = re.compile(re.escape(str(folder)) + r"[/\\][^/\\]+[/\\]")

    def one_line(error: Exception) -> str:
        return " ".join(kept_in.sub("", str(error)).split())  # where a file is kept says nothing to its owner

    @app.before_request
    def _only_from_here() -> Any:
        host = flask.request.host.lower()
        origin = flask.request.headers.get("Origin")
        strange = allowed and host.rpartition(":")[0] not in allowed and host not in allowed
        if strange or (origin is not None and origin.partition("://")[2] != host):
            return {"error": f"not for {origin or host}"}, 403
        return None

    @app.errorhandler(Exception)
    def _in_one_line(error: Exception) -> Any:
        if isinstance(error, HTTPException):
            return {"error": error.description or error.name}, error.code or 500
        text = one_line(error)
        if isinstance(error, InputError):
            return {"error": text}, 400
        log.error("%s %s failed", flask.request.method, flask.request.path, exc_info=error)
        return {"error": f"{type(error).__name__}: {text}"}, 500

    @app.errorhandler(RequestEntityTooLarge)
    def _too_large(error: RequestEntityTooLarge) -> Any:
        most = f"{app.config['MAX_FORM_PARTS']} files and {MOST_BYTES >> 30} GiB"
        return {"error": f"too much in one request: at most {most}"}, 413

    def shown(asked: _Shown) -> Picture:
        return library.show(asked.image, asked.place())

    @app.get("/")
    def _page() -> Any:
        return app.send_static_file("index.html")

    @app.get("/api/start")
    def _start() -> Any:
        with lock:
            return {
                "methods": list(asker.methods),
                "datasets": [
                    {"name": name, "title": item.descriptor.title} for name, item in library.datasets.items()
                ],
                "files": [{"image": name, "title": file.title} for name, file in library.files.items()],
            }

    @app.get("/api/datasets/<path:name>")
    def _cases(name: str) -> Any:
        if name not in library.datasets:
            raise InputError(f"no dataset {name!r}")
        with lock:
            found = library.datasets[name]
            cases = [
                {"image": f"case/{name}/{number}", "title": case.case}
                for number, case in enumerate(found.cases)
            ]
            problems = [f"{item.case}: {item.reason}" for item in found.failures]
        return {"cases": cases, "problems": problems}

    @app.post("/api/files")
    def _keep() -> Any:
        """Keep files, with those of an earlier request where it is named: many are sent in several."""
        sent = [item for item in flask.request.files.getlist("files") if item.filename]
        if not sent:
            raise InputError("no file was sent")
        upload = flask.request.form.get("upload")
        if upload is None:
            upload = Path(tempfile.mkdtemp(dir=folder)).name
            uploads[upload] = []
        elif upload not in uploads:
            raise InputError("the files sent before are not here any more: open all of them again")
        own, names = folder / upload, uploads[upload]
        try:
            for item in sent:
                name = Path(str(item.filename).replace("\\", "/")).name
                if name in ("", ".."):
                    raise InputError(f"{item.filename!r} is no name of a file")
                while (own / name).exists():  # of another folder
                    name = f"_{name}"
                item.save(own / name)
                names.append(name)
        except BaseException:
            uploads.pop(upload, None)
            shutil.rmtree(own, ignore_errors=True)
            raise
        return {"upload": upload}

    @app.post("/api/open")
    def _open() -> Any:
        """Open what has been sent, as one image or several."""
        upload = _body(_Sent).upload
        names = uploads.pop(upload, None)
        if names is None:
            raise InputError("nothing was sent, or it has been opened")
        opened: list[dict[str, str]] = []
        problems: list[str] = []
        try:
            with lock:
                for path, title in images_in(folder / upload, names):
                    try:
                        opened.append({"image": library.open(path, title), "title": title})
                    except InputError as error:
                        problems.append(one_line(error))
        finally:
            if not opened:
                shutil.rmtree(folder / upload, ignore_errors=True)
        if not opened:
            more = f" (and {len(problems) - 1} more that cannot be read)" if len(problems) > 1 else ""
            raise InputError("".join(problems[:1]) + more)
        return {"opened": opened, "problems": problems}

    @app.post("/api/show")
    def _show() -> Any:
        with lock:
            picture = shown(_body(_Shown))
        place, (height, width) = picture.place, picture.image.shape
        return {
            "width": width,
            "height": height,
            "png": "data:image/png;base64," + base64.b64encode(_png(picture.image)).decode(),
            "frames": picture.frames,
            "slices": picture.slices,
            "span": picture.span,
            "spacing": picture.spacing,
            "frame": place.frame,
            "plane": place.plane,
            "slice": place.slice,
            "levels": place.levels,
            "references": [
                {"structure": item.structure, "outline": outline(item.mask)} for item in picture.references
            ],
        }

    def answer(asked: _Question) -> tuple[Picture, Any]:
        picture = shown(asked)
        key = (asked.image, picture.place)
        prompt = Asked(asked.clicks, asked.box)
        return picture, asker.ask(asked.method, key, picture.image, prompt)

    @app.post("/api/ask")
    def _ask() -> Any:
        with lock:
            picture, found = answer(_body(_Question))
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

    @app.post("/api/mask.png")
    def _mask() -> Any:
        with lock:
            _, found = answer(_body(_Question))
        return flask.Response(_png(found.predicted.mask.astype(np.uint8) * 255), mimetype="image/png")

    return app


def outline(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Closed outlines of a mask, bool (H, W): each x, y, x, y, ... in pixels from the image's corner."""
    lines = find_contours(np.pad(mask, 1).astype(np.uint8), 0.5)
    return [np.round(line[:, ::-1] - 0.5, 1).ravel().tolist() for line in lines]


def in_address(host: str) -> str:
    """A host as browsers write it: in lower case, an IPv6 address short and in brackets."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower()
    return f"[{address}]" if address.version == 6 else str(address)


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def serve(
    methods: Sequence[Method],
    descriptors: Sequence[Descriptor],
    root: Path,
    files: Sequence[Path],
    *,
    limit: int,
    host: str,
    port: int,
    browser: bool,
    say: Callable[[str], Any],
) -> None:
    """Serve the page until SIGINT, SIGTERM or SIGHUP.

    Parameters
    ----------
    methods
        Who may be asked.
    descriptors, root, limit
        As for :class:`evaluation.app.pictures.Library`.
    files
        Images to open at once.
    host, port
        Where to listen; port 0 takes any that is free.
    browser
        Whether to open the page.
    say
        What tells the address.

    Raises
    ------
    InputError
        If the port is taken, or a file cannot be read.
    """
    library = Library(descriptors, root, limit)
    for path in files:
        library.open(path)
    listening = _listen(host, port)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="synthfm-app-") as folder, listening:
        hosts = (*LOCAL, host) if host not in ("0.0.0.0", "::") else ()
        app = make_app(library, Asker(methods), Path(folder), hosts)
        server = make_server(host, port, app, threaded=True, fd=listening.fileno())
        address = f"http://{in_address(host)}:{listening.getsockname()[1]}"
        say(f"{address} (Ctrl-C ends it)")
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):  # also where the shell has a background job ignore one
            signal.signal(number, _end)
        hangup = getattr(signal, "SIGHUP", None)  # not on Windows
        if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:  # as nohup has it ignored
            signal.signal(hangup, _end)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _end(number: int, frame: Any) -> None:
    """End the server, once: a terminal that closes sends SIGHUP twice, while files are being removed."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, or an :class:`InputError` that says why there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"--port {port}: in use; choose another, or 0 for any that is free") from error
        raise InputError(f"--host {host}, --port {port}: {error.strerror or error}") from error
    return listening
