"""A file layer in which a chosen call fails, or is the last one of its process."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

Fault = Callable[[], None]
"""What happens in place of the call: it raises, or ends the process."""


class _Written:
    """A file open for writing, whose writes count; one that is to fail writes half of its content first."""

    def __init__(self, handle: Any, called: Callable[[str, Fault], None]) -> None:
        self._handle, self._called = handle, called

    def write(self, content: Any) -> int:
        def half() -> None:
            self._handle.write(content[: len(content) // 2])
            self._handle.flush()

        self._called("write", half)
        return int(self._handle.write(content))

    def flush(self) -> None:
        self._called("flush", lambda: None)
        self._handle.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()


@contextmanager
def faulty(at: int, fault: Fault) -> Iterator[list[str]]:
    """Within, the `at`-th call that opens to write, writes, flushes, syncs, renames or removes has a fault.

    Yields the calls so far; what a library writes past Python does not count.
    """
    calls: list[str] = []

    def called(name: str, before: Fault) -> None:
        calls.append(name)
        if len(calls) == at:
            before()
            fault()

    def counting(name: str, function: Any) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            called(name, lambda: None)
            return function(*args, **options)

        return wrapped

    original = io.open

    def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+"):
            return original(file, mode, *args, **options)
        called("open", lambda: None)
        return _Written(original(file, mode, *args, **options), called)

    with (
        mock.patch.object(builtins, "open", opened),
        mock.patch.object(io, "open", opened),
        mock.patch.object(os, "fsync", counting("fsync", os.fsync)),
        mock.patch.object(os, "replace", counting("replace", os.replace)),
        mock.patch.object(os, "unlink", counting("unlink", os.unlink)),
    ):
        yield calls


def killed(at: int, work: Callable[[], object]) -> bool:
    """Whether a process that does the work was killed at its `at`-th call; nothing is tidied up then."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with faulty(at, lambda: os._exit(9)):
                work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"the work failed at call {at}"
    return code == 9
