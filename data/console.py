"""How the three programs speak to the person at the keyboard."""

from __future__ import annotations

import difflib
import errno
import math
import multiprocessing.util
import os
import re
import select
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import click
from tqdm import tqdm

EVERY = 10.0
"""Seconds between two lines on the progress of a command whose output is no terminal."""


class InputError(Exception):
    """Something the user gave is wrong; the message says what, where, and what would be right."""


class Failed(Exception):
    """The work was done as far as it went, but a part of it failed (exit code 1)."""

    exit_code = 1


class Interrupted(Failed):
    """The work was broken off by a signal, and what was done is kept (exit code 130 for Ctrl-C)."""

    exit_code = 130


WAIT_PASSIVELY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
"""Environment in which PyTorch's threads sleep while they wait for one another (GNU's OpenMP and Intel's).

By default they spin, which gains some microseconds on a machine of one's own, and where any other process
wants a core costs ten times the work (``benchmarks/bench_click.py``).
"""


def printable(text: str) -> str:
    r"""A name from the disk as text that can be written: bytes that are not UTF-8 become ``\xfc``.

    >>> print(printable("M\udcfcller.png"))
    M\xfcller.png
    """
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question to put into a message on an unknown name; empty if none of those known is like it.

    >>> did_you_mean("hc19", ["acdc", "hc18"])
    "did you mean 'hc18'? "
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def check_jobs(jobs: int) -> None:
    """Raise :class:`InputError` unless `jobs` is -1 (one a core) or a number of workers."""
    if jobs == 0 or jobs < -1:
        raise InputError(f"--jobs {jobs}: a number from 1, or -1 for one a core")


def separated(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of an option that may be repeated and may hold several values, separated by commas.

    What is a file or folder as a whole is one value, whatever commas are in its path.
    """
    parts = tuple(part for value in values for part in _split(value.split(",")) if part)
    if values and not parts:  # as from a variable that is not set
        raise InputError(f"{option.opts[0]} is given, but empty")
    return parts


def _split(parts: list[str]) -> Iterator[str]:
    """Parts of a text between commas, those together that are a path together."""
    while parts:
        whole = (end for end in range(len(parts), 1, -1) if _names_path(",".join(parts[:end])))
        end = next(whole, 1)
        yield ",".join(parts[:end])
        parts = parts[end:]


def _names_path(text: str) -> bool:
    """Whether a value is the path of what is there, bare or after ``NAME=``, ``KIND:`` or ``NAME=KIND:``.

    A comma before one of these ends another value.
    """
    name, _, named = text.partition("=")
    ways = [("", text), (name, named)]
    ways += [(before + kind, rest) for before, way in ways for kind, _, rest in [way.partition(":")]]
    return any(way and "," not in before and os.path.exists(way) for before, way in ways)


class NamedPath(click.Path):
    """A path; an empty one, as from a variable that is not set, is not the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "":
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


class Progress(tqdm):
    """tqdm's bar on standard error; where that is no terminal, a line of the same every ten seconds.

    A thread writes the lines, so they come also while one unit of the work takes longer than that. Work that
    ends before the first has none.
    """

    def __init__(self, **options: Any) -> None:
        self._ended = threading.Event()
        self._lines: threading.Thread | None = None
        if not sys.stderr.isatty():
            self._lines = threading.Thread(target=self._speak, daemon=True)
            options |= {"delay": math.inf}  # it would write \r, and only where it is told of an advance
        super().__init__(dynamic_ncols=self._lines is None, **options)
        if self._lines is not None and not self.disable:
            self._lines.start()

    def _speak(self) -> None:
        spoken = False
        while not self._ended.wait(EVERY):
            spoken = True
            print(self, file=self.fp, flush=True)
        if spoken:
            print(self, file=self.fp, flush=True)

    def __iter__(self) -> Iterator[Any]:
        """The items; each is counted when the next one is asked for. tqdm's own counts when it draws."""
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, in a terminal."""
        if self._lines is None:
            super().display(msg, pos)

    def clear(self, *args: Any, **options: Any) -> None:
        """Make room for other text, in a terminal."""
        if self._lines is None:
            super().clear(*args, **options)

    def close(self) -> None:
        """End the bar, or the lines with one on all that was done."""
        self._ended.set()
        if self._lines is not None and self._lines.is_alive():
            self._lines.join()
        super().close()


PATIENCE = 3.0
"""Seconds after a signal until a program ends without waiting any longer: all is gone within five."""
SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
"""The signals that ask a program to stop, and what a person calls them."""


class Signalled(KeyboardInterrupt):
    """One of :data:`SIGNALS`, raised in the main thread; `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {SIGNALS[signal.Signals(number)]}")
        self.number = number


_received: list[int] = []
"""The signals of :data:`SIGNALS` that have come."""
_waits_for: list[tuple[str, float]] = [("what is being computed now", 0.0)]


@contextmanager
def waiting_for(what: str, longer: float = 0.0) -> Iterator[None]:
    """What a Ctrl-C within waits for, as :func:`acknowledged` says it; nothing is said of an empty text.

    It may take so many seconds `longer` than others, where another process has to end first.
    """
    _waits_for.append((what, longer))
    try:
        yield
    finally:
        _waits_for.pop()


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, each of :data:`SIGNALS` raises :class:`Signalled`, but those that are ignored (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: Any) -> None:
        if (
            number != signal.SIGINT
        ):  # a terminal that closes sends SIGHUP twice, while files are being removed
            signal.signal(number, lambda *_: None)
        raise Signalled(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, old in before.items():
        if old is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)  # None: one that Python cannot put back


@contextmanager
def acknowledged(go_on: str) -> Iterator[None]:
    """Within, a line on standard error tells of a signal at once, and for what it has to wait; not for ever.

    Python's own handlers run between two steps of the main thread's Python code: after a computation of
    minutes in a library, minutes late. The system's handler writes the signal's number to a pipe at once,
    from which a thread reads. It says something only of signals that the program has a handler for, and
    after :data:`PATIENCE` it ends the process: what is written is written whole, so nothing is lost but work.

    Parameters
    ----------
    go_on
        What to say then: how to go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = threading.Thread(target=_acknowledge, args=(reader, go_on), daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()


def _acknowledge(reader: int, go_on: str) -> None:
    first, last = 0, math.inf
    place = -1
    with open(reader, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select(
                [pipe], [], [], None if last == math.inf else max(0, last - time.monotonic())
            )
            if not ready:
                end_at_once(f"{SIGNALS[signal.Signals(first)]}: not waited any longer; {go_on}", 128 + first)
            numbers = pipe.read(1)
            if not numbers:  # the program has ended in time
                return
            if numbers[0] not in SIGNALS:
                continue
            _received.append(numbers[0])
            what, longer = _waits_for[-1]
            if not first:
                first, last = numbers[0], time.monotonic() + PATIENCE + longer
            if what:
                _say(f"{SIGNALS[signal.Signals(numbers[0])]}: waiting for {_waits_for[place][0]}")
                place = 0  # a second one is not that patient


def signalled() -> bool:
    """Whether one of :data:`SIGNALS` has come, which ends the program soon."""
    return bool(_received)


def end_at_once(text: str, exit_code: int) -> NoReturn:
    """End this process with a line, without waiting for what it does: what is written is written whole."""
    if text:
        _say(text)
    _leave(exit_code)


def kill_workers(kind: type = object) -> None:
    """Kill what this process has started through multiprocessing, as joblib and the data loader do.

    Told to stop, a worker that still loads its packages would hear of it only when it has them.

    Parameters
    ----------
    kind
        The class of those that are meant.
    """
    workers = [one for one in multiprocessing.active_children() if isinstance(one, kind)]
    for worker in workers:
        if worker.pid:
            with suppress(ProcessLookupError):  # loky's have no kill()
                os.kill(worker.pid, signal.SIGKILL)
    last = time.monotonic() + 1
    for worker in workers:
        worker.join(max(0, last - time.monotonic()))


def _kill_server() -> None:
    """Kill the process that workers are forked from: while it loads their packages it sees no end of ours."""
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if pid := getattr(server, "_forkserver_pid", None):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _leave(exit_code: int) -> NoReturn:
    """End this process without Python's own end, but for the workers and the folder of their sockets."""
    try:
        kill_workers()
        _kill_server()
        shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)
    finally:
        os._exit(exit_code)


def _say(text: str) -> None:
    if is_first():
        Progress.write(text, file=sys.stderr)


def is_first() -> bool:
    """Whether this is the first of a run's processes on this machine, which speaks for all."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def brought_by(extra: str) -> str:
    """How to get what an install option brings. No package index has this project: its bare name is no use.

    >>> brought_by("onnx")
    "pip install '.[onnx]' in the clone, or 'FILE.whl[onnx]' of the wheel, brings it"
    """
    return f"pip install '.[{extra}]' in the clone, or 'FILE.whl[{extra}]' of the wheel, brings it"


class Group(click.Group):
    """A click group whose commands end with one line and exit code 2 on :class:`InputError`.

    An operating-system error that names a file (no space left, permission denied) reads the same way, and a
    package that is missing, which the install option `extra` brings.
    """

    def __init__(self, *args: Any, extra: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._extra = extra
        self._words: list[str] = []

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program; its threads and worker processes wait passively, unless the user says how."""
        if not WAIT_PASSIVELY.keys() & os.environ.keys():
            os.environ.update(WAIT_PASSIVELY)  # OpenMP reads it when PyTorch is imported, in a command
        os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")  # of what it tidies up
        given = args[0] if args else options.get("args")
        self._words = [str(word) for word in (sys.argv[1:] if given is None else given)]
        try:
            return super().main(*args, **options)
        except SystemExit as end:
            if given is None and end.code:
                _kill_server()
            if given is None and _received and isinstance(end.code, int):
                # On a busy machine the end of Python itself takes seconds; nothing is left for it to do.
                sys.stdout.flush()
                sys.stderr.flush()
                _leave(end.code)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the first sentence of each, on as many lines as it takes: click cuts it."""
        rows = [(name, self.commands[name].get_short_help_str(LINE)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        go_on = f"to go on: {ctx.info_name or sys.argv[0]} {shlex.join(self._words)}"
        try:
            with acknowledged(go_on), stoppable():
                return super().invoke(ctx)
        except InputError as error:
            raise _one_line(error, exit_code=2) from error
        except Failed as error:
            code = error.exit_code
            if isinstance(error.__cause__, Signalled):
                code = 128 + error.__cause__.number
            raise _one_line(error, exit_code=code) from error
        except KeyboardInterrupt as error:
            code = 128 + getattr(error, "number", signal.SIGINT)
            if not is_first():
                raise SystemExit(code) from error
            raise _one_line(
                f"{error or 'stopped'}; what is there is whole; {go_on}", exit_code=code
            ) from error
        except ModuleNotFoundError as error:
            if error.name in ("fcntl", "resource"):  # parts of Python itself, on Unix
                raise _one_line(
                    f"this Python has no {error.name}: Windows is not supported (docs/start.md)", exit_code=2
                ) from error
            if self._extra is None:
                raise
            hint = brought_by(self._extra)
            raise _one_line(f"the package {error.name} is not installed; {hint}", exit_code=2) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno is None or error.strerror is None:  # a library's own, such as h5py's: a defect
                raise
            name = f"{os.fspath(error.filename)}: " if error.filename else ""
            hint = "; raise the limit (ulimit -n)" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
            raise _one_line(f"{name}{error.strerror}{hint}", exit_code=2) from error


LINE = 1000
"""Most characters of a message: what a file holds may be half a megabyte on one line."""


def shortened(text: str, most: int = LINE) -> str:
    """A text of which the middle is left out where it is longer.

    >>> shortened("a" * 10 + "b" * 10, 12)
    'aaaa ... bbb'
    """
    if len(text) <= most:
        return text
    end = (most - 5) // 2
    return f"{text[: most - 5 - end]} ... {text[len(text) - end :]}"


def _one_line(error: Exception | str, exit_code: int) -> click.ClickException:
    exception = click.ClickException(shortened(re.sub(r"\s*\n\s*", "; ", str(error).strip())))
    exception.exit_code = exit_code  # type: ignore[misc]  # click reads the instance's
    return exception
