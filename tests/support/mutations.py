"""Whole files made bad: seeded, one kind of damage after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

Mutation = Callable[[bytearray, np.random.Generator], bytearray]


def _flip(content: bytearray, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(0, 8 * len(content), rng.integers(1, 9)):
        content[place // 8] ^= 1 << int(place % 8)
    return content


def _head(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Bytes of the first kilobyte, where headers are."""
    for place in rng.integers(0, min(len(content), 1024), rng.integers(1, 6)):
        content[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)]))
    return content


def _cut(content: bytearray, rng: np.random.Generator) -> bytearray:
    return content[: rng.integers(0, len(content))]


def _zeros(content: bytearray, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(0, len(content)))
    end = min(len(content), start + int(rng.integers(1, 600)))
    content[start:end] = bytes(end - start)
    return content


def _move(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A piece once more, at another place, so that what follows it is shifted."""
    start, place = (int(k) for k in rng.integers(0, len(content), 2))
    piece = content[start : start + int(rng.integers(1, 200))]
    return content[:place] + piece + content[place:]


def _drop(content: bytearray, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(0, len(content)))
    return content[:start] + content[start + int(rng.integers(1, 200)) :]


def _number(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A number of 2, 4 or 8 bytes at an even place becomes extreme."""
    width = int(rng.choice([2, 4, 8]))
    place = int(rng.integers(0, max(1, min(len(content), 2048) - width))) // 2 * 2
    top = 2 ** (8 * width - 1)
    value = (0, 1, top - 1, top, 2 * top - 1)[rng.integers(5)]
    content[place : place + width] = value.to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return content


def _grow(content: bytearray, rng: np.random.Generator) -> bytearray:
    return content + bytearray(rng.bytes(int(rng.integers(1, 5000))))


def _digits(content: bytearray, rng: np.random.Generator) -> bytearray:
    """A run of digits of a text becomes another number, or none."""
    places = [k for k, byte in enumerate(content) if 48 <= byte < 58]
    if not places:
        return _flip(content, rng)
    place = int(rng.choice(places))
    end = place
    while end < len(content) and 48 <= content[end] < 58:
        end += 1
    words = [b"-1", b"0", b"99999999999", b"1e400", b"nan", b"0.5", b"", b"x", b"9" * 400, b"[1]", b"null"]
    return content[:place] + bytearray(words[rng.integers(len(words))]) + content[end:]


MUTATIONS: tuple[Mutation, ...] = (_flip, _head, _cut, _zeros, _move, _drop, _number, _grow, _digits)
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 10**12, 1.5, float("nan"), "", "x" * 300, "../../a", "/etc/passwd", "a\0b", [], [[]],
    {}, {"a": 1},
)  # fmt: skip


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A file's bytes with one to three damages."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        if not changed:
            break
        changed = MUTATIONS[rng.integers(len(MUTATIONS))](changed, rng)
    return bytes(changed)


def mutated_json(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON that still is JSON, with a value at some place that does not belong there, or none."""
    root = json.loads(content)
    for _ in range(int(rng.integers(1, 3))):
        parent, key, here = None, None, root
        while isinstance(here, (dict, list)) and here and (parent is None or rng.random() < 0.75):
            parent = here
            key = (
                list(here)[rng.integers(len(here))]
                if isinstance(here, dict)
                else int(rng.integers(len(here)))
            )
            here = here[key]
        if parent is None:
            break
        if rng.random() < 0.2:
            del parent[key]
        else:
            parent[key] = STRANGE[rng.integers(len(STRANGE))]
    return json.dumps(root).encode()
