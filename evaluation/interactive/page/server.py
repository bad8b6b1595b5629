"""The page's server: it listens at once and loads behind the page."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from synthfm.data.console import InputError, waiting_for
from synthfm.evaluation.interactive.page.asking import Asker
from synthfm.evaluation.interactive.page.loading import Wanted, load
from synthfm.evaluation.interactive.page.pictures import Library
from synthfm.evaluation.interactive.page.routes import LOCAL, in_address, make_app


def serve(wanted: Wanted, *, host: str, port: int, browser: bool, say: Callable[[str], Any]) -> None:
    """Serve the page until SIGINT, SIGTERM or SIGHUP.

    Parameters
    ----------
    wanted
        What is shown and who may be asked.
    host, port
        Where to listen; port 0 takes any that is free.
    browser
        Whether to open the page.
    say
        What tells the address, and when all is there.

    Raises
    ------
    InputError
        If the port is taken, or what is wanted cannot be had.
    """
    wanted.check()
    listening = _listen(host, port)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="synthfm-app-") as folder, listening:
        hosts = (*LOCAL, host) if host not in ("0.0.0.0", "::") else ()
        library: Future[Library] = Future()
        asker: Future[Asker] = Future()
        server = make_server(
            host, port, make_app(library, asker, Path(folder), hosts), threaded=True, fd=listening.fileno()
        )

        def work() -> None:
            load(wanted, library, asker)
            if asker.exception() is None:
                say("the model is loaded")
            else:
                server.shutdown()

        address = f"http://{in_address(host)}:{listening.getsockname()[1]}"
        say(f"{address} (Ctrl-C ends it); the model is being loaded")
        threading.Thread(target=work, daemon=True).start()
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):  # also where the shell has a background job ignore one
            signal.signal(number, _end)
        hangup = getattr(signal, "SIGHUP", None)  # not on Windows
        if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:  # as nohup has it ignored
            signal.signal(hangup, _end)
        with suppress(KeyboardInterrupt), waiting_for(""):  # it ends at once
            server.serve_forever()
    if not asker.done():  # an interpreter that ends under a thread that imports PyTorch may crash
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    asker.result()


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
