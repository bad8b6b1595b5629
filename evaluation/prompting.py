"""Prompt settings: from a reference mask to what every method is given.

A prompt depends on the root seed and on (dataset, case, object, setting) alone, never on the order in which
cases or methods run, so that every method gets the same ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import prompts as draw
from data.console import InputError

Mask = NDArray[np.bool_]
Points = NDArray[np.int16]

SCRIBBLE_POINTS = 10
"""A scribble is given as so many positive clicks along it."""


@dataclass(frozen=True)
class Prompt:
    """What a method is given for one object.

    Attributes
    ----------
    points, labels
        int16 (N, 2) clicks (x, y) in pixels and int8 (N,), 1 for object, 0 for background; N may be 0.
    box
        float32 (4,) XYXY, half-open, in pixels; None without a box.
    seed
        What it was drawn from.
    key
        (dataset, case, object, setting): where masks saved by another system are looked up.
    memory
        What the method returned for the round before (SAM's low-resolution logits); None in the first.
    """

    points: Points
    labels: NDArray[np.int8]
    box: NDArray[np.float32] | None
    seed: int
    key: tuple[str, str, str, str]
    memory: Any = field(default=None, compare=False)

    @property
    def positives(self) -> Points:
        return self.points[self.labels == 1]

    @property
    def negatives(self) -> Points:
        return self.points[self.labels == 0]


Drawn = tuple[list[Points], list[Points], NDArray | None]
"""Groups of positive and of negative clicks, and a box."""


def _clicks(positive: int, negative: int) -> Callable[[Mask, np.random.Generator], Drawn]:
    def make(mask: Mask, rng: np.random.Generator) -> Drawn:
        return [draw.positive_points(mask, positive, rng)], [draw.negative_points(mask, negative, rng)], None

    return make


SETTINGS: dict[str, tuple[str, Callable[[Mask, np.random.Generator], Drawn]]] = {
    "point1": ("one click at the point deepest inside", _clicks(1, 0)),
    "point1_random": (
        "one click on a random pixel of the object",
        lambda mask, rng: ([draw.random_point(mask, rng)[None]], [], None),
    ),
    "point1_person": (
        "one click as people place it: drawn towards the middle",
        lambda mask, rng: ([draw.person_point(mask, rng)[None]], [], None),
    ),
    "point3": ("the centre and two more clicks spread over the object", _clicks(3, 0)),
    "point5": ("the centre and four more clicks spread over the object", _clicks(5, 0)),
    "point1_neg1": ("the centre and one click just outside", _clicks(1, 1)),
    "point3_neg2": ("three clicks inside and two just outside", _clicks(3, 2)),
    "box": ("the tight bounding box", lambda mask, rng: ([], [], draw.tight_box(mask))),
    "box_loose": (
        "a box as a person would draw it",
        lambda mask, rng: ([], [], draw.loose_box(draw.tight_box(mask), rng, mask.shape)),
    ),
    "box_wide": (
        "a careless box: each side up to half of the object's extent beyond it",
        lambda mask, rng: ([], [], draw.loose_box(draw.tight_box(mask), rng, mask.shape, outward=0.5)),
    ),
    "box_point": (
        "the tight box and the centre",
        lambda mask, rng: ([draw.centre_point(mask)[None]], [], draw.tight_box(mask)),
    ),
    "scribble": (
        f"a stroke along the inside, as {SCRIBBLE_POINTS} clicks",
        lambda mask, rng: ([draw.scribble(mask, SCRIBBLE_POINTS, rng)], [], None),
    ),
}
"""Name to (description, how it is drawn). ``clicks:k`` is made round by round, see :func:`correct`."""

_ROUNDS = re.compile(r"clicks:([1-9][0-9]?)")


def check_setting(setting: str) -> None:
    """Raise :class:`InputError` unless `setting` is one that this module draws."""
    if setting not in SETTINGS and not _ROUNDS.fullmatch(setting):
        raise InputError(
            f"unknown prompt setting {setting!r}; choose among {', '.join(SETTINGS)} "
            "and clicks:K (K from 1 to 99)"
        )


def rounds(setting: str) -> int:
    """How many rounds a setting has: k for ``clicks:k``, else 1.

    >>> rounds("clicks:7"), rounds("box")
    (7, 1)
    """
    match = _ROUNDS.fullmatch(setting)
    return int(match[1]) if match else 1


def is_interactive(setting: str) -> bool:
    """Whether later prompts depend on the method's own masks."""
    return _ROUNDS.fullmatch(setting) is not None


def prompt_seed(root: int, key: tuple[str, str, str, str]) -> int:
    """The seed of one prompt, 0 to 2^63 - 1, from the root seed and its key alone."""
    text = "\0".join([str(root), *key])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_prompt(mask: Mask, key: tuple[str, str, str, str], root: int) -> Prompt:
    """Draw the prompt (the first round's, if there are several) of one object.

    Parameters
    ----------
    mask
        The reference, bool (H, W), not empty.
    key
        (dataset, case, object, setting).
    root
        The evaluation's seed.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    seed = prompt_seed(root, key)
    name = "point1" if is_interactive(key[3]) else key[3]
    inside, outside, box = SETTINGS[name][1](mask, np.random.default_rng(seed))
    empty = np.zeros((0, 2), np.int16)
    positive, negative = np.concatenate([empty, *inside]), np.concatenate([empty, *outside])
    return Prompt(
        points=np.concatenate([positive, negative]),
        labels=np.repeat(np.array([1, 0], np.int8), [len(positive), len(negative)]),
        box=None if box is None else np.asarray(box, np.float32),
        seed=seed,
        key=key,
    )


def correct(prompt: Prompt, predicted: Mask, mask: Mask, memory: Any) -> Prompt:
    """The next round's prompt: the same clicks and one more in the middle of the largest error."""
    point, label = draw.corrective_point(predicted, mask)
    return Prompt(
        points=np.concatenate([prompt.points, point[None]]),
        labels=np.append(prompt.labels, np.int8(label)),
        box=prompt.box,
        seed=prompt.seed,
        key=prompt.key,
        memory=memory,
    )
