"""Ctrl-C and SIGTERM as a wish that a run grants between two steps."""

from __future__ import annotations

import multiprocessing.context
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from synthfm.data.console import waiting_for

SIGNALS = (signal.SIGINT, signal.SIGTERM)
WAITS_FOR = (
    "the step to end, or a validation, and its state to be saved; a second Ctrl-C stops at once, without"
)


class Interruption:
    """Within its context SIGINT and SIGTERM only set `asked`; a second SIGINT interrupts at once.

    An exception at any place would leave weights of one step beside the number of another, a validation
    half done or the other processes waiting. Only the main thread may have handlers: in another this does
    nothing.

    Parameters
    ----------
    shown
        Whether this process says what it waits for; of several one does.
    """

    def __init__(self, shown: bool = True) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}
        self._notice = waiting_for(WAITS_FOR if shown else "")

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        self._notice.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._notice.__exit__(None, None, None)
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that Python cannot put back

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def shielded() -> Iterator[None]:
    """Processes started within never receive SIGINT, and SIGTERM only after :func:`leave_group`.

    A terminal's Ctrl-C goes to every process of a run, and so does the SIGTERM of ``timeout`` or of a
    cluster: to the data loader's workers too, whose batches the last step may still need. Their parent ends
    them. A signal that arrives meanwhile is blocked, not lost.
    """
    resource_tracker.ensure_running()  # Python starts it with the first worker, and that lifts the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker(multiprocessing.context.ForkServerProcess):
    """A process that is killed where others are asked to end: it has nothing to save.

    While it starts, SIGTERM is held back from it, and then taken for one to the group: a run that had asked
    it to end would wait for it for ever.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        started: Any = multiprocessing.context.ForkServerProcess._Popen(process_obj)  # type: ignore[attr-defined]
        started.terminate = started.kill
        return started


class WorkersContext(multiprocessing.context.ForkServerContext):
    """Starts :class:`Worker`: forked from a server, as forking a process with threads may hang."""

    Process = Worker  # type: ignore[assignment]


def _outlive_no(parent: Any) -> None:
    parent.join()
    os._exit(1)


def leave_group(_: int) -> None:
    """Leave the run's process group, as a worker: what is sent to the group is not meant for it.

    SIGTERM to the process itself ends it again: so does Python end what is left at a parent's exit. And where
    the run is killed, so that it ends nothing any more, the worker ends by itself: PyTorch's watches for the
    end of the server that it was forked from, which the workers keep alive.
    """
    os.setpgid(0, 0)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_outlive_no, args=(parent,), daemon=True).start()
    if signal.SIGTERM in signal.sigpending():  # sent to the group before
        signal.sigwait({signal.SIGTERM})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
