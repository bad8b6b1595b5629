"""The page's server: it listens at once and loads behind the page."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from synthfm.evaluation.interactive.listening import (
    Handler,
    in_address,
    listen,
    names_of,
    serve_until_ended,
)
from synthfm.evaluation.interactive.page.asking import Asker
from synthfm.evaluation.interactive.page.loading import Wanted, load
from synthfm.evaluation.interactive.page.pictures import Library
from synthfm.evaluation.interactive.page.routes import make_app


def serve(wanted: Wanted, *, host: str, port: int, browser: bool, say: Callable[[str], Any]) -> None:
    """Serve the page until SIGINT, SIGTERM or SIGHUP, which end the program.

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
    listening = listen(host, port)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="synthfm-app-") as folder, listening:
        library: Future[Library] = Future()
        asker: Future[Asker] = Future()
        server = make_server(
            host,
            port,
            make_app(library, asker, Path(folder), names_of(host)),
            threaded=True,
            request_handler=Handler,
            fd=listening.fileno(),
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
        serve_until_ended(server)
    if asker.done():
        asker.result()
    # An interpreter that ends under a thread that imports PyTorch, or computes in it, may crash.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
