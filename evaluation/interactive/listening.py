"""What the page and the server for other programs share: a port, who may ask there, in which order, and how
it ends.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import signal
import socket
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler

from synthfm.data.console import InputError

SILENT = 60.0
"""Seconds after which nobody is waited for who says no more in the middle of a request."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every reply: no other site may show it, run in it or use it."""
LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")
"""All of this machine's addresses."""


class Handler(WSGIRequestHandler):
    """Reads a request, and gives up on who does not go on with it."""

    timeout = SILENT

    def log_error(self, format: str, *args: Any) -> None:
        """Nothing: who left, or was silent for too long, is not of interest."""


class Turns:
    """A lock that those who wait get in the order in which they came, so that nobody is kept out for long."""

    def __init__(self) -> None:
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, timeout: float | None = None) -> bool:
        """Wait for one's turn; False where it has not come in so many seconds."""
        mine = object()
        with self._changed:
            self._waiting.append(mine)
            come = self._changed.wait_for(lambda: self._waiting[0] is mine, timeout)
            if not come:
                self._waiting.remove(mine)
            return come

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._changed:
            self._waiting.popleft()
            self._changed.notify_all()


def has_left() -> bool:
    """Whether the client of the request that is being answered has closed its connection."""
    connection = flask.request.environ.get("werkzeug.socket")
    if connection is None:
        return False
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
    except BlockingIOError:
        return False
    except OSError:
        return True


def with_headers(reply: flask.Response) -> flask.Response:
    """Add :data:`HEADERS` to a reply."""
    reply.headers.update(HEADERS)
    return reply


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free.

    Raises
    ------
    InputError
        If there can be none.
    """
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


def names_of(host: str) -> tuple[str, ...]:
    """The names of this machine for what listens at `host`, for :func:`only_for`."""
    if host not in EVERYWHERE:
        return (*LOCAL, host)
    name = socket.gethostname()
    return (*LOCAL, host, name, f"{name}.local", socket.getfqdn())


def only_for(hosts: Sequence[str]) -> None:
    """Turn away what another site that the browser has open asks for, before a request is answered.

    Such a site may have its own name lead to this machine, but no address in numbers. `hosts` are the names
    under which a server may be asked for, empty for any; of :data:`EVERYWHERE` one stands for all addresses.
    """
    host = flask.request.host.lower()
    origin = flask.request.headers.get("Origin")
    allowed = {in_address(name) for name in hosts}
    named = host if host in allowed else re.sub(r":\d*$", "", host)
    by_number = _is_address(named.strip("[]")) and not allowed.isdisjoint(map(in_address, EVERYWHERE))
    if allowed and named not in allowed and not by_number:
        flask.abort(403, f"not for {origin or host}; ask for it by the machine's own name or address")
    if origin is not None and origin.partition("://")[2] != host:
        flask.abort(403, f"not for {origin}")


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def in_address(host: str) -> str:
    """A host as browsers write it: in lower case, an IPv6 address short and in brackets."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower()
    return f"[{address}]" if address.version == 6 else str(address)


def serve_until_ended(server: BaseWSGIServer) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where the shell has a background job ignore one
        signal.signal(number, _end)
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:  # as nohup has it ignored
        signal.signal(hangup, _end)
    before = signal.set_wakeup_fd(-1)  # it ends at once, so that nothing is said of what a signal waits for
    try:
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)


def _end(number: int, frame: Any) -> None:
    """End the server, once: a terminal that closes sends SIGHUP twice, while files are being removed."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
