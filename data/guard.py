"""What everything that opens a file guards itself with.

Files come from anywhere. A few megabytes may claim, or unpack to, more than the machine has; and libraries
raise what they like on damage. So the size that a file claims is compared with what it has
(:func:`admit`) before memory is asked for, what a library raises becomes one line (:func:`opening`), and
JSON and YAML are read within bounds (:func:`read_json`, :func:`parse_yaml`).
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from synthfm.data.console import Failed, InputError

log = logging.getLogger(__name__)

VARIABLE = "SYNTHFM_MAX_GB"
"""Environment variable: gigabytes that any file may unpack to, in place of the bounds below."""
GIGABYTE = 10**9
ALWAYS = GIGABYTE
"""Bytes that even the smallest file may unpack to."""
RATIO = 250
"""How many times its own size a file may unpack to. (Deflate reaches 1030 where one value fills all; a label
map of a whole body, which comes near that, has less than :data:`ALWAYS`.)"""
LIMIT = 16 * GIGABYTE
"""Bytes that no file may unpack to."""

JSON_BYTES = 256_000_000
YAML_BYTES = 100_000
YAML_DEPTH = 200
"""Brackets that stand in each other: PyYAML takes the square of their number."""
YAML_WEIGHT = 100_000
"""Values in a YAML file, those counted again that stand there by an alias; long texts count more."""
NUMBER_LENGTH = 100
"""Characters of a number in a YAML file."""

_OF_THE_CONTENT = (errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)
"""The system's errors that a damaged file causes too: a place beyond all that exists is looked for in it."""


class TooLarge(InputError):
    """A file claims, or unpacks to, more than is let in."""


def most(packed: int) -> int:
    """Bytes that a file of so many bytes may unpack to.

    Raises
    ------
    InputError
        If the environment variable :data:`VARIABLE` is no number above 0.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return min(LIMIT, max(ALWAYS, RATIO * packed))
    try:
        wanted = float(text)
    except ValueError:
        wanted = 0.0
    if not 0 < wanted < float("inf"):
        raise InputError(f"{VARIABLE}={text}: expected a number of gigabytes above 0")
    return int(wanted * GIGABYTE)


def admit(unpacked: float, packed: int, *, stored: bool = False) -> None:
    """Refuse content that is larger than its file may hold.

    Parameters
    ----------
    unpacked
        Bytes that the content takes in memory, as the file says or as were counted.
    packed
        Bytes that it takes in the file.
    stored
        Whether it lies there as it is, not compressed: then the file cannot hold more than its size.

    Raises
    ------
    TooLarge
        The message does not name the file.
    """
    if stored and unpacked > packed:
        raise TooLarge(f"cut short: it announces {_size(unpacked)}, but has {_size(packed)}")
    if unpacked > most(packed):
        needed = f"{unpacked / GIGABYTE * 1.1:.2g}" if unpacked < 1e15 else "N"
        raise TooLarge(
            f"unpacks to {_size(unpacked)} from {_size(packed)}, at most {_size(most(packed))} is let in; "
            f"{VARIABLE}={needed} raises that"
        )


def _size(number: float) -> str:
    for unit, name in ((GIGABYTE, "GB"), (10**6, "MB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f} bytes"


def reason(error: BaseException) -> str:
    """What a library said of a file, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def opening(path: Path, problem: str) -> Iterator[None]:
    """Whatever is raised while a file is opened and read becomes one line that names it.

    The one list of exceptions for all libraries that read files: on damage they raise what they like.
    Errors of the system (it may not be read, too many files are open) stay what they are, and get the file's
    name.

    Parameters
    ----------
    path
        The file.
    problem
        What it is then, such as "not a training state, or cut short".

    Raises
    ------
    InputError
        ``PATH: PROBLEM (what the library said)``.
    """
    try:
        yield
    except TooLarge as error:
        if str(error).startswith(f"{path}:"):
            raise
        raise TooLarge(f"{path}: {error}") from error
    except (InputError, Failed):
        raise
    except MemoryError as error:
        raise TooLarge(f"{path}: needs more memory than there is") from error
    except Exception as error:
        log.debug("%s", path, exc_info=True)
        if isinstance(error, OSError) and error.errno and error.errno not in _OF_THE_CONTENT:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise InputError(f"{path}: {problem} ({reason(error)})") from error


def read_text(path: Path, what: str, largest: int) -> str:
    """A text file in UTF-8 of at most so many bytes; :class:`InputError` if it is none."""
    with opening(path, f"not {what}: cannot be read as text"):
        with open(path, "rb") as handle:
            content = handle.read(largest + 1)
        if len(content) > largest:
            raise TooLarge(f"{path}: more than {_size(largest)}, not {what}")
        return content.decode()


def read_json(path: Path, what: str) -> Any:
    """What a JSON file holds.

    Raises
    ------
    InputError
        If it is no JSON, nested too deeply, or too large.
    """
    text = read_text(path, what, JSON_BYTES)
    with opening(path, f"not {what}"):
        return json.loads(text)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises
    ------
    ValueError, yaml.YAMLError
        If it is no YAML, or a key stands twice in one mapping; if it is too long, or too much once its
        aliases are followed, or holds a number of
        more than :data:`NUMBER_LENGTH` characters.
    """
    if len(text) > YAML_BYTES:
        raise ValueError(f"more than {YAML_BYTES} characters")
    depths = itertools.accumulate((character in "[{") - (character in "]}") for character in text)
    if max(depths, default=0) > YAML_DEPTH:
        raise ValueError("nested too deeply")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _weight(node, {})
        twice = _repeated(node)  # before it is constructed, which puts merged keys beside its own
        if twice is not None:
            raise ValueError(f"line {twice.start_mark.line + 1}: key {twice.value!r:.100} stands twice")
        return loader.construct_document(node)
    except (AttributeError, KeyError, IndexError, TypeError, OverflowError) as error:  # on odd tags
        raise ValueError(f"{type(error).__name__}: {reason(error)}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]


def _weight(node: yaml.Node, known: dict[int, int]) -> int:
    """How much a node is, its aliases followed."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError(f"line {node.start_mark.line + 1}: an alias of what it stands in")
        return known[id(node)]
    known[id(node)] = 0  # until it is known: an alias that comes back here is within itself
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > NUMBER_LENGTH and not node.tag.endswith((":str", ":binary")):
            raise ValueError(f"line {node.start_mark.line + 1}: a number of {len(node.value)} characters")
        weight = 1 + len(node.value) // 100
    else:
        parts = (
            node.value
            if isinstance(node, yaml.SequenceNode)
            else [one for pair in node.value for one in pair]
        )
        weight = 1
        for part in parts:
            weight += _weight(part, known)
            if weight > YAML_WEIGHT:
                raise ValueError(f"more than {YAML_WEIGHT} values, its aliases followed")
    known[id(node)] = weight
    return weight


def _repeated(root: yaml.Node) -> yaml.Node | None:
    """The first key of a YAML node that stands twice in one mapping: of the two YAML would take the last."""
    nodes, seen = [root], set[int]()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                nodes.append(value)
                if isinstance(key, yaml.ScalarNode):
                    if key.value in names:
                        return key
                    names.add(key.value)
    return None


@contextmanager
def in_time(seconds: float, what: str) -> Iterator[None]:
    """End what is done within after so many seconds; in the main thread, others have no timer.

    Raises
    ------
    InputError
        ``WHAT takes more than N seconds``.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise InputError(f"{what} takes more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
