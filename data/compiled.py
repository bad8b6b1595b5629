"""How this project compiles its kernels."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from numba import njit
from numba.core import event

from synthfm.data.console import InputError, Progress

_compile = partial(njit, nogil=True, error_model="numpy")
_kernels: list[Any] = []


def compiled(kernel: Callable[..., Any]) -> Any:
    """Compile a kernel at its first call and keep it in numba's cache; in memory where that has no place.

    Kernels are single-threaded and use no fast-math, so that the same input gives the same output whatever
    runs beside them; they release the interpreter lock.
    """
    try:
        made = _compile(kernel, cache=True)
        _name_the_cache(made)
    except RuntimeError:  # neither the program's folder nor the user's own can be written
        made = _compile(kernel)
    _kernels.append(made)
    return made


def _name_the_cache(made: Any) -> None:
    """Have errors of writing to numba's cache (its disk is full) name it, and not what is being made."""
    save = made._cache.save_overload

    def save_overload(signature: Any, data: Any) -> None:
        try:
            save(signature, data)
        except OSError as error:
            raise InputError(
                f"{made.stats.cache_path}: {error.strerror or error}; numba keeps there what it compiles, "
                "NUMBA_CACHE_DIR names another folder"
            ) from error

    made._cache.save_overload = save_overload


def kept() -> bool:
    """Whether what this process compiles is there for others, in numba's cache."""
    return all(kernel.stats.cache_path for kernel in _kernels)


class Compiling(event.Listener):
    """Counts what numba compiles, and does not find in its cache; tells of it, if asked to."""

    def __init__(self, shown: bool) -> None:
        self.count, self.began = 0, 0.0
        self._shown = shown
        self._bar: Progress | None = None

    def on_start(self, event: event.Event) -> None:
        """Called by numba. The first has a line of its own: it takes seconds before there is progress."""
        if not self.began:
            self.began = time.perf_counter()
            if self._shown:
                Progress.write("compiling, once for this version on this machine", sys.stderr)
            self._bar = Progress(unit="kernel", desc="compiled", disable=not self._shown)

    def on_end(self, event: event.Event) -> None:
        """Called by numba."""
        self.count += 1
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """End the progress with a line on how long it took."""
        if self._bar is not None:
            self._bar.close()
            if self._shown:
                seconds = time.perf_counter() - self.began
                Progress.write(f"compiled {self.count} kernels in {seconds:.0f} s", sys.stderr)


@contextmanager
def compiling(shown: bool) -> Iterator[Compiling]:
    """Watch what is compiled within; with `shown` it is told on standard error, if there is anything."""
    listener = Compiling(shown)
    with event.install_listener("numba:compile", listener):
        try:
            yield listener
        finally:
            listener.close()
