"""One person's work on one scan: the session behind the page, and its propagation, which runs beside it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.evaluation.interactive.finding import Model, spacing_of
from synthfm.evaluation.interactive.page.planes import Planes
from synthfm.evaluation.scans.scan import Scan
from synthfm.evaluation.scans.session import Object, Session
from synthfm.trainer.model import propagate
from synthfm.trainer.model.bits import Bits

log = logging.getLogger(__name__)
MEMORY = 64 * 2**20
"""Bytes of encodings that each editor keeps."""
MOST = 200
"""Editors that a server has."""
AWAKE = 8
"""Of them, those used last, which keep encodings."""
PATIENCE = 1.0
"""Seconds that a propagation which is cancelled is waited for."""
UNSEEN = 180.0
"""Seconds without a request after which a propagation ends; a page that waits asks, if seldom when hidden."""
IDLE = 3600.0
"""Seconds after which one with objects that nobody has used may go, where there are so many."""

Place = tuple[int, int, int]


@dataclass
class Job:
    """A propagation that runs, or has ended.

    Attributes
    ----------
    name
        The object's.
    most
        Slices that it asks at most: it ends where the object does.
    found
        Slice to its mask, as they come.
    cancelled
        Set to end it, which leaves everything as it was.
    error
        Why it ended without a result, None where it did not.
    """

    name: str
    most: int
    found: dict[int, Bits] = field(default_factory=dict)
    asked: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)
    error: str | None = None
    thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.thread is not None and self.thread.is_alive()


class Awaited:
    """A segmenter of a model that may still be on its way: who asks waits for it."""

    def __init__(self, model: Callable[[], Model], part: str) -> None:
        self._model, self._part = model, part

    def encode(self, image: NDArray[np.uint8]) -> Any:
        """See :class:`synthfm.evaluation.scans.encodings.Segmenter`."""
        return getattr(self._model(), self._part).encode(image)

    def predict(self, encoding: Any, prompts: Sequence[Any], previous: Any = None) -> Any:
        """See :class:`synthfm.evaluation.scans.encodings.Segmenter`."""
        return getattr(self._model(), self._part).predict(encoding, prompts, previous)


class Slices(Sequence[NDArray[np.uint8]]):
    """The slices of a scan in a window of grey values, see :class:`synthfm.evaluation.scans.scan.Shown`."""

    def __init__(self, read: Callable[[], Scan], levels: tuple[float, float]) -> None:
        self._read, self._levels = read, levels

    def __len__(self) -> int:
        return len(self._read().values)

    def __getitem__(self, index: Any) -> Any:
        return replace(self._read(), levels=self._levels).shown[index]


class Editor:
    """One person's session on a scan.

    Whoever calls holds :attr:`lock`; a propagation does not, so that it keeps nobody waiting.

    Parameters
    ----------
    title
        What people call the scan.
    frames
        How many its file has.
    read
        Gives the scan, upright, each time that it is needed: not everything that is open is kept in memory.
    model
        Who answers, asked for when somebody is.
    """

    def __init__(self, title: str, frames: int, read: Callable[[], Scan], model: Callable[[], Model]) -> None:
        self.title, self.frames, self._read = title, frames, read
        scan = self.scan
        self.coding = Planes(scan).coding()
        low, high = scan.levels
        self.levels = (low, high) if low < high else (low, low + 1.0)  # of an empty scan
        self.session = Session(
            Slices(read, self.levels),
            Awaited(model, "whole"),
            nearby=Awaited(model, "nearby"),
            spacing=spacing_of(scan),
            memory=MEMORY,
        )
        self.lock = threading.Lock()
        self.job: Job | None = None
        self.used = time.monotonic()
        self.revision = 0

    @property
    def scan(self) -> Scan:
        """What is worked on."""
        return self._read()

    @property
    def planes(self) -> Planes:
        """How it is cut."""
        return Planes(self._read())

    def take(self, other: Editor) -> None:
        """Begin with the masks that another, of the same scan in another plane, has come to."""
        for name in other.session.names:
            placed = other.scan.on_grid(other.session.mask(name))
            self.session.begin(name, np.ascontiguousarray(self.scan.by_slice(placed)))
            if other.session[name].finished:
                self.session.finish(name)
        self.session.forget_steps()

    def see(self, levels: tuple[float, float]) -> None:
        """The model is shown what the person sees: values in this window."""
        if levels != self.levels:
            self.levels = levels
            self.session.show(Slices(self._read, levels))

    def rest(self) -> None:
        """Let the encodings go, if nobody is at work."""
        if self.lock.acquire(blocking=False):
            try:
                self.session.encodings.clear()
            finally:
                self.lock.release()

    def propagate(self, name: str) -> None:
        """Find an object in the other slices, in a thread; what ran before is cancelled."""
        self.cancel()
        item = self.session[name]
        if not any(bits.count for bits in item.anchors.values()):
            raise InputError(f"{name}: nothing to go out from; click on it in a slice first")
        most = len(propagate.affected(item.anchors, len(self.session.slices), item.changed))
        job = self.job = Job(name, most)
        job.thread = threading.Thread(target=self._run, args=(job,), daemon=True)
        job.thread.start()

    def _run(self, job: Job) -> None:
        try:
            for step in self.session.propagate(job.name):
                job.found[step.slice] = step.bits
                job.asked += 1
                if job.cancelled.is_set():
                    return
                if time.monotonic() - self.used > UNSEEN:
                    job.error = "stopped, as nobody looked any more"
                    return
        except (ValueError, InputError) as error:
            job.error = str(error)
        except Exception as error:
            log.exception("propagation failed")
            job.error = f"{type(error).__name__}: {error}"

    def cancel(self, name: str | None = None) -> None:
        """End the propagation that runs; with a name, only where it is of that object."""
        job = self.job
        if job is not None and job.thread is not None and name in (None, job.name):
            job.cancelled.set()
            job.thread.join(PATIENCE)  # a slow model may still answer, and nobody listens
            self.job = None

    def step(self, back: bool, number: int) -> int | None:
        """Undo or redo; the slice next to one in which a prompt or a stroke changed, None where none did."""
        self.cancel()
        before = {name: self.session[name] for name in self.session.names}
        if not (self.session.undo() if back else self.session.redo()):
            return None
        after = {name: self.session[name] for name in self.session.names}
        return _changed(before, after, number)

    def masks(self, name: str) -> dict[int, Bits]:
        """An object's masks by slice, as far as a propagation that runs has come."""
        item, job = self.session[name], self.job
        known = {k: self.session.bits_in(name, k) for k in {*item.anchors, *item.found}}
        if job is not None and job.name == name and job.runs:
            known.update(job.found)
        return {k: bits for k, bits in sorted(known.items()) if bits is not None and bits.count}


def _changed(before: Mapping[str, Object], after: Mapping[str, Object], number: int) -> int | None:
    """The slice next to one with another prompt or stroke; what was found shows in all planes."""
    changed = []
    for name in {*before, *after}:
        first, second = (state[name].anchors if name in state else {} for state in (before, after))
        changed += [k for k in {*first, *second} if first.get(k) is not second.get(k)]
    return int(min(changed, key=lambda k: (abs(k - number), k))) if changed else None


class Editors:
    """All that are open, by names that nobody can guess."""

    def __init__(self) -> None:
        self._open: dict[str, Editor] = {}
        self._lock = threading.Lock()

    def add(self, editor: Editor) -> str:
        """Keep an editor; returns its name.

        Raises
        ------
        InputError
            If there are :data:`MOST` of which each has objects and was used in the last hour.
        """
        with self._lock:
            by_use = sorted(self._open, key=lambda key: self._open[key].used)
            for name in by_use[:-AWAKE]:
                self._open[name].rest()
            if len(by_use) >= MOST:
                name = next((key for key in by_use if not self._open[key].session.names), by_use[0])
                oldest = self._open[name]
                if oldest.session.names and time.monotonic() - oldest.used < IDLE:
                    raise InputError(f"{MOST} scans are worked on here; wait until one is idle for an hour")
                self._open.pop(name).cancel()
            name = secrets.token_urlsafe(16)
            self._open[name] = editor
            return name

    def __getitem__(self, name: str) -> Editor:
        """The one of a name; a KeyError where there is none."""
        editor = self._open[name]
        editor.used = time.monotonic()
        return editor

    def close(self, name: str) -> None:
        """Let one go."""
        with self._lock:
            editor = self._open.pop(name, None)
        if editor is not None:
            editor.cancel()


def model_of(methods: Future[Any]) -> Model:
    """The model that answers in scans: of the first method that is one of SAM's format."""
    from synthfm.evaluation.methods.sam import SamMethod
    from synthfm.trainer.model.predict import Segmenter

    for method in methods.result().methods.values():
        if isinstance(method, SamMethod):
            return Model(method.segmenter, Segmenter(method.segmenter.sam))
    raise InputError("none of the methods answers in volumes; start with --checkpoint FILE, or with none")
