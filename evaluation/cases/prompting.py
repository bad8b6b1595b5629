"""Prompt settings: from a reference mask to what every method is given.

A prompt depends on the root seed and on (dataset, case, object, setting) alone, never on the order in which
cases or methods run, so that every method gets the same ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthfm.data import prompts as draw
from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt, SomePrompt

Mask = NDArray[np.bool_]

SCRIBBLE_POINTS = 10
"""A scribble is given as so many positive clicks along it."""


@dataclass(frozen=True)
class Setting:
    """A kind of prompt, as a method is asked whether it can use it.

    Attributes
    ----------
    name
        As ``--prompts`` and the tables have it.
    text
        What it is.
    draw
        How its (first) prompt is drawn from a mask.
    clicks, negatives, box
        Whether there are clicks, clicks on the background among them, and a box.
    rounds
        How often the method is asked, each time with one more click.
    interactive
        Whether later prompts depend on the method's own masks.
    """

    name: str
    text: str = ""
    draw: Callable[[Mask, np.random.Generator], Prompt] | None = field(default=None, compare=False)
    clicks: bool = False
    negatives: bool = False
    box: bool = False
    rounds: int = 1
    interactive: bool = False

    @classmethod
    def of(cls, prompt: Prompt) -> Setting:
        """The kind of a prompt that somebody gave."""
        positive, negative = len(prompt.positives), len(prompt.negatives)
        parts = ["box"] if prompt.box is not None else []
        parts += [f"point{positive}"] if positive else []
        parts += [f"neg{negative}"] if negative else []
        clicks, negatives, box = positive + negative > 0, negative > 0, prompt.box is not None
        return cls("_".join(parts), clicks=clicks, negatives=negatives, box=box)


class Key(NamedTuple):
    """What a prompt was drawn for: its seed depends on this, and saved masks are found by it."""

    dataset: str
    case: str
    object: str
    setting: str


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawnPrompt(Prompt):
    """A prompt drawn from a reference mask.

    Attributes
    ----------
    setting, key, seed
        Of what kind, for what, and from which seed.
    """

    setting: Setting
    key: Key
    seed: int


def _clicks(name: str, text: str, positive: int, negative: int = 0) -> Setting:
    def make(mask: Mask, rng: np.random.Generator) -> Prompt:
        inside = draw.positive_points(mask, positive, rng)
        if not negative:
            return _inside(inside)
        outside = draw.negative_points(mask, negative, rng)
        return Prompt(np.concatenate([inside, outside]), np.repeat([1, 0], [len(inside), len(outside)]))

    return Setting(name, text, make, clicks=True, negatives=negative > 0)


def _inside(points: NDArray[np.int16], box: NDArray | None = None) -> Prompt:
    return Prompt(points, np.ones(len(points), np.int64), box)


def _boxes(name: str, text: str, outward: float) -> Setting:
    def make(mask: Mask, rng: np.random.Generator) -> Prompt:
        return Prompt(box=draw.loose_box(draw.tight_box(mask), rng, mask.shape, outward=outward))

    return Setting(name, text, make, box=True)


_ALL = (
    _clicks("point1", "one click at the point deepest inside", 1),
    Setting(
        "point1_random",
        "one click on a random pixel of the object",
        lambda mask, rng: _inside(draw.random_point(mask, rng)[None]),
        clicks=True,
    ),
    Setting(
        "point1_person",
        "one click as people place it: drawn towards the middle",
        lambda mask, rng: _inside(draw.person_point(mask, rng)[None]),
        clicks=True,
    ),
    _clicks("point3", "the centre and two more clicks spread over the object", 3),
    _clicks("point5", "the centre and four more clicks spread over the object", 5),
    _clicks("point1_neg1", "the centre and one click just outside", 1, 1),
    _clicks("point3_neg2", "three clicks inside and two just outside", 3, 2),
    Setting("box", "the tight bounding box", lambda mask, rng: Prompt(box=draw.tight_box(mask)), box=True),
    _boxes("box_loose", "a box as a person would draw it", 0.2),
    _boxes("box_wide", "a careless box: each side up to half of the object's extent beyond it", 0.5),
    Setting(
        "box_point",
        "the tight box and the centre",
        lambda mask, rng: _inside(draw.centre_point(mask)[None], draw.tight_box(mask)),
        clicks=True,
        box=True,
    ),
    Setting(
        "scribble",
        f"a stroke along the inside, as {SCRIBBLE_POINTS} clicks",
        lambda mask, rng: _inside(draw.scribble(mask, SCRIBBLE_POINTS, rng)),
        clicks=True,
    ),
)
SETTINGS = {setting.name: setting for setting in _ALL}
"""By name. ``clicks:k`` is made round by round, see :func:`parse_setting` and :func:`correct`."""

_ROUNDS = re.compile(r"clicks:([1-9][0-9]?)")


def parse_setting(name: str) -> Setting:
    """The setting of a name: one of :data:`SETTINGS`, or ``clicks:k``.

    Raises
    ------
    InputError
        If there is none.

    >>> parse_setting("clicks:7").rounds, parse_setting("box").rounds
    (7, 1)
    """
    if name in SETTINGS:
        return SETTINGS[name]
    match = _ROUNDS.fullmatch(name)
    if match is None:
        raise InputError(
            f"unknown prompt setting {name!r}; choose among {', '.join(SETTINGS)} "
            "and clicks:K (K from 1 to 99)"
        )
    # A later click may be on the background.
    return replace(SETTINGS["point1"], name=name, negatives=True, rounds=int(match[1]), interactive=True)


def prompt_seed(root: int, key: tuple[str, str, str, str]) -> int:
    """The seed of one prompt, 0 to 2^63 - 1, from the root seed and its key alone."""
    text = "\0".join([str(root), *key])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_prompt(mask: Mask, key: tuple[str, str, str, str], root: int) -> DrawnPrompt:
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
    setting, seed = parse_setting(key[3]), prompt_seed(root, key)
    assert setting.draw is not None  # only Setting.of leaves it out
    drawn = setting.draw(mask, np.random.default_rng(seed))
    return DrawnPrompt(drawn.points, drawn.labels, drawn.box, setting=setting, key=Key(*key), seed=seed)


def correct(prompt: SomePrompt, predicted: Mask, mask: Mask) -> SomePrompt:
    """The next round's prompt: the same clicks and one more in the middle of the largest error."""
    return prompt.with_click(*draw.corrective_point(predicted, mask))
