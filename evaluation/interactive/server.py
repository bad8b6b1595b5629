"""nnInteractive's own clients, in 3D Slicer, napari or a script, ask this model: ``synthfm-eval serve``.

The protocol is HTTP, as the package ``nninteractive-client`` speaks it; paths, headers and packed arrays are
taken from there. Each client has a session of its own (:mod:`.remote`) for as long as its lease lasts.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import blosc2
import flask
from nnInteractive.inference.remote import _protocol as protocol
from nnInteractive.inference.remote.serialization import pack_array
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.serving import make_server

from synthfm.data.console import InputError
from synthfm.evaluation.interactive.finding import Model, open_model
from synthfm.evaluation.interactive.leases import Lease, Leases
from synthfm.evaluation.interactive.listening import (
    EVERYWHERE,
    LOCAL,
    Handler,
    Turns,
    in_address,
    listen,
    names_of,
    only_for,
    serve_until_ended,
    with_headers,
)
from synthfm.evaluation.interactive.remote import Change, RemoteSession
from synthfm.evaluation.interactive.wire import (
    Begun,
    Box,
    Buffer,
    Drawn,
    Image,
    Point,
    Prompted,
    read_array,
    read_header,
    read_json,
)
from synthfm.evaluation.scans.encodings import Segmenter
from synthfm.evaluation.scans.scan import MOST_VOXELS

log = logging.getLogger(__name__)
MOST_BYTES = 4 << 30
"""Of one request."""
WITHIN = 40.0
"""Seconds after which a propagation is ended, and what is found so far is the answer: clients wait for 60."""

api = flask.Blueprint("nninteractive", __name__)


@dataclass
class Desk:
    """What the routes share.

    Attributes
    ----------
    model
        Who is asked.
    capabilities
        What clients are told of it.
    leases
        The clients.
    api_key
        What each has to know; None where nothing.
    within
        See :data:`WITHIN`.
    say
        Told what the protocol has no place for.
    asking
        In which order: one slice of a client's, then one of the next who waits.
    ending
        Set where the server ends.
    """

    model: Model
    capabilities: Mapping[str, Any]
    leases: Leases
    api_key: str | None
    within: float
    say: Callable[[str], Any]
    asking: Turns = field(default_factory=Turns)
    ending: threading.Event = field(default_factory=threading.Event)


class InTurns:
    """A segmenter that several ask, for a slice at a time, so that nobody waits for all that others want.

    See :class:`synthfm.evaluation.scans.encodings.Segmenter`.
    """

    def __init__(self, segmenter: Segmenter, turns: Turns) -> None:
        self._segmenter, self._turns = segmenter, turns

    def encode(self, image: Any) -> Any:
        """See :class:`synthfm.evaluation.scans.encodings.Segmenter`."""
        with self._turns:
            return self._segmenter.encode(image)

    def predict(self, encoding: Any, prompts: Sequence[Any], previous: Any = None) -> Any:
        """See :class:`synthfm.evaluation.scans.encodings.Segmenter`."""
        with self._turns:
            return self._segmenter.predict(encoding, prompts, previous)


def serve(
    *,
    checkpoint: str,
    device: str,
    host: str,
    port: int,
    api_key: str | None,
    most: int,
    say: Callable[[str], Any],
) -> None:
    """Serve clients until SIGINT, SIGTERM or SIGHUP.

    Parameters
    ----------
    checkpoint, device
        See :func:`synthfm.evaluation.interactive.finding.open_model`.
    host, port
        Where to listen; port 0 takes any that is free.
    api_key
        What clients have to know; one is made up where others than this machine can ask and none is given.
    most
        Clients at once.
    say
        What tells the address, and all else that a person should know.

    Raises
    ------
    InputError
        If the port is taken, or the checkpoint cannot be opened.
    """
    local = in_address(host) in {in_address(name) for name in LOCAL}
    made_up = not local and api_key is None
    api_key = secrets.token_urlsafe(16) if made_up else api_key
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with listen(host, port) as listening:
        model = open_model(checkpoint, device)
        desk = Desk(model, capabilities(checkpoint), Leases(most), api_key, WITHIN, say)
        app = make_app(desk, () if host in EVERYWHERE else names_of(host))  # a key is asked for everywhere
        server = make_server(host, port, app, threaded=True, request_handler=Handler, fd=listening.fileno())
        server.service_actions = desk.leases.sweep  # type: ignore[method-assign]  # each half a second
        if made_up:
            say(f"API key, made up as others than this machine can ask: {api_key}")
        address = f"http://{in_address(host)}:{listening.getsockname()[1]}"
        say(f"{address} answers nnInteractive's clients in 3D Slicer, napari and Python (Ctrl-C ends it)")
        serve_until_ended(server)
        desk.ending.set()
        say("stopped")
        if not desk.asking.take(timeout=5):  # an interpreter that ends under a thread of PyTorch may crash
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


def capabilities(checkpoint: str) -> dict[str, Any]:
    """What clients are told: what they may ask. nnInteractive's network has channels, which have no equal."""
    return {
        "supported_interactions": dict.fromkeys(("points", "bbox2d", "bbox3d", "scribble", "lasso"), True),
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": True,
        "supports_undo": True,
        "preferred_scribble_thickness": [2, 2, 2],
        "channel_mapping": {},
        "num_interaction_channels": 0,
        "interaction_decay": None,
        "do_autozoom": False,
        "inference_session_version": None,
        "license": "Apache-2.0" if checkpoint == "tiny" else None,
    }


def make_app(desk: Desk, hosts: Sequence[str] = LOCAL) -> flask.Flask:
    """The web application; `hosts` are as :func:`.listening.only_for` takes them."""
    app = flask.Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    app.extensions["desk"] = desk
    app.before_request(lambda: only_for(hosts))
    app.before_request(_check_key)
    app.after_request(with_headers)
    app.register_error_handler(Exception, _in_one_line)
    app.register_blueprint(api)
    return app


def _desk() -> Desk:
    desk: Desk = flask.current_app.extensions["desk"]
    return desk


def _check_key() -> None:
    key = _desk().api_key
    if key is None or flask.request.path == protocol.PATH_HEALTHZ:
        return
    given = flask.request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        flask.abort(401, "the server wants its API key" if not given else "not the server's API key")


def _in_one_line(error: Exception) -> flask.Response:
    """An error as clients show it: they look into the reply, or show no more than its status."""
    if isinstance(error, HTTPException):
        code, text = error.code or 500, error.description or error.name
        if isinstance(error, RequestEntityTooLarge):
            text = f"more than {MOST_BYTES >> 30} GiB in one request"
    elif isinstance(error, InputError):
        code, text = 400, str(error)
    else:
        log.error("%s failed", flask.request.path, exc_info=error)
        code, text = 500, f"{type(error).__name__}: {error}"
    line = re.sub(r"[^\x20-\x7e]+", " ", text)[:300]
    reply = flask.jsonify(detail=line)
    reply.status = f"{code} {line}"
    return reply


def _lease(*, acts: bool = True) -> Lease:
    """The lease of the client that asks. What it does counts as activity, or as a sign of life at least."""
    lease = _desk().leases.get(flask.request.headers.get(protocol.LEASE_HEADER))
    if lease is None:
        flask.abort(410, "the session has ended, as it does after an hour without a prompt; connect again")
    lease.heard = time.monotonic()
    if acts:
        lease.active = lease.heard
    return lease


@contextmanager
def _session() -> Iterator[tuple[RemoteSession, Callable[[], bool]]]:
    """The client's session, asked by nobody else meanwhile, and what says that it is time to answer."""
    lease, desk = _lease(), _desk()
    until = time.monotonic() + desk.within
    if not lease.turn.acquire(timeout=desk.within):
        flask.abort(503, "still answering what was asked before")
    try:
        if lease.session is None:
            raise InputError("no image yet; send one first (set_image)")
        yield lease.session, lambda: time.monotonic() > until or lease.ended or desk.ending.is_set()
    finally:
        lease.turn.release()


@api.get(protocol.PATH_HEALTHZ)
def _health() -> Any:
    return {"ok": True}


@api.get(protocol.PATH_CAPABILITIES)
def _capabilities() -> Any:
    return dict(_desk().capabilities)


@api.post(protocol.PATH_CLAIM)
def _claim() -> Any:
    leases = _desk().leases
    token = leases.claim()
    if token is None:
        flask.abort(503, f"all {leases.most} places are taken (--max-sessions)")
    return {
        "lease_token": token,
        "idle_timeout_seconds": leases.idle,
        "liveness_timeout_seconds": leases.silent,
        "max_sessions": leases.most,
    }


@api.post(protocol.PATH_RELEASE)
def _release() -> Any:
    _desk().leases.release(flask.request.headers.get(protocol.LEASE_HEADER))
    return {"released": True}


@api.post(protocol.PATH_HEARTBEAT)
@api.get(protocol.PATH_LEASE_STATUS)
def _heartbeat() -> Any:
    lease, idle = _lease(acts=False), _desk().leases.idle
    return {
        "remaining_seconds": max(lease.active + idle - time.monotonic(), 0.0),
        "idle_timeout_seconds": idle,
    }


@api.post(protocol.PATH_SET_IMAGE)
def _set_image() -> Any:
    lease = _lease()
    spacing = read_header(Image).image_properties.spacing
    array = read_array(4, MOST_VOXELS)
    if len(array) != 1:
        raise InputError(
            f"an image of {len(array)} channels: expected one; send that which shows the object best"
        )
    desk = _desk()
    model = Model(InTurns(desk.model.whole, desk.asking), InTurns(desk.model.nearby, desk.asking))
    session = RemoteSession(array[0], spacing, model)
    with lease.turn:
        lease.session = session
    return {"original_image_shape": array.shape}


@api.post(protocol.PATH_SET_TARGET_BUFFER)
def _set_target_buffer() -> Any:
    """The mask lies in the client's memory; it is told what changes there."""
    shape = read_json(Buffer).shape
    with _session() as (session, _):
        if shape != session.shape:
            raise InputError(f"a buffer of {shape} voxels for an image of {session.shape}")
        session.forget_known()
    return {}


@api.post(protocol.PATH_SET_DO_AUTOZOOM)
def _set_do_autozoom() -> Any:
    """The model looks as near as it wants to; clients ask for either without being asked whether they may."""
    _lease()
    return {}


@api.post(protocol.PATH_RESET_INTERACTIONS)
def _reset_interactions() -> Any:
    with _session() as (session, _):
        session.reset()
    return {}


@api.post(protocol.PATH_ADD_POINT)
def _add_point() -> Any:
    asked = read_json(Point)
    return _answer(asked, lambda session, _: session.point(asked.coordinates, asked.include_interaction))


@api.post(protocol.PATH_ADD_BBOX)
def _add_bbox() -> Any:
    asked = read_json(Box)
    return _answer(asked, lambda session, _: session.box(asked.bbox_coords, asked.include_interaction))


@api.post(protocol.PATH_ADD_SCRIBBLE)
def _add_scribble() -> Any:
    asked, drawn = read_header(Drawn), read_array(3, MOST_VOXELS)
    place, positive = asked.interaction_bbox, asked.include_interaction
    return _answer(asked, lambda session, _: session.scribble(drawn, place, positive))


@api.post(protocol.PATH_ADD_LASSO)
def _add_lasso() -> Any:
    asked, drawn = read_header(Drawn), read_array(3, MOST_VOXELS)
    place, positive = asked.interaction_bbox, asked.include_interaction
    return _answer(asked, lambda session, _: session.lasso(drawn, place, positive))


@api.post(protocol.PATH_ADD_INITIAL_SEG)
def _add_initial_seg() -> Any:
    asked, mask = read_header(Begun), read_array(3, MOST_VOXELS)
    return _answer(asked, lambda session, enough: session.begin(mask, asked.run_prediction, enough))


@api.post(protocol.PATH_PREDICT)
def _predict() -> Any:
    """Bring to the volume what was asked without a prediction."""
    with _session() as (session, enough):
        _propagate(session, enough)
        return _reply(session.change())


@api.post(protocol.PATH_UNDO)
def _undo() -> Any:
    with _session() as (session, _):
        undone = session.undo()
        return _reply(session.change() if undone else None, ran=undone)


def _answer(
    asked: Prompted | Begun, prompt: Callable[[RemoteSession, Callable[[], bool]], None]
) -> flask.Response:
    """Ask in the prompt's slices, and if the client wants to see what comes of it, in the volume."""
    with _session() as (session, enough):

        def ask() -> None:
            prompt(session, enough)
            if asked.run_prediction:
                _propagate(session, enough)

        session.interact(ask)
        if asked.run_prediction:
            return _reply(session.change(), ran=True)
        return _reply(None)


def _propagate(session: RemoteSession, enough: Callable[[], bool]) -> None:
    ended = session.propagate(enough)
    if ended is not None and not _desk().ending.is_set():
        first, last = ended
        _desk().say(
            f"answered after {_desk().within:g} s with what was found by then, slices {first} to {last}; "
            "a prompt in a slice beyond goes on from there"
        )


def _reply(change: Change | None, ran: bool | None = None) -> flask.Response:
    """What has changed in the client's mask, and whether anything was computed."""
    meta: dict[str, Any] = {"ran_prediction": change is not None if ran is None else ran, "bbox": None}
    body = b""
    if change is not None:
        meta |= {"bbox": change.bounds, "dtype": str(change.mask.dtype), "shape": change.mask.shape}
        body = pack_array(change.mask, filters=[blosc2.Filter.NOFILTER])
    headers = {protocol.META_HEADER: json.dumps(meta)}
    return flask.Response(body, mimetype=protocol.CONTENT_TYPE_OCTET_STREAM, headers=headers)
