"""Prompt settings: from a reference mask to what every method is given.

A prompt depends on the root seed and on (dataset, case, object, setting) alone, never on the order in which
cases or methods run, so that every method gets the same ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthfm.data import prompts as draw
from synthfm.data import strokes
from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt, SomePrompt
from synthfm.evaluation.cases import volume_prompts
from synthfm.evaluation.cases.volume_prompts import BySlice, Draw, Spacing

Mask = NDArray[np.bool_]

SCRIBBLE_POINTS = strokes.STROKE_POINTS
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
        How its (first) prompt is drawn from a mask (H, W).
    in_volume
        Of a setting of volumes, how its (first) prompts are drawn from a mask (slices, H, W).
    clicks, negatives, box
        Whether there are clicks, clicks on the background among them, and a box.
    rounds
        How often the method is asked, each time with one more click.
    interactive
        Whether later prompts depend on the method's own masks.
    slices
        Of a setting of volumes: how many slices are prompted at first, None for every one that holds the
        object, whose ends are known then.
    person
        Whose strokes it takes, from 1, where people's are with the dataset; nothing is drawn then.
    seeded
        The name from which its prompts are seeded, shared by settings that hold one another's; empty for its
        own.
    """

    name: str
    text: str = ""
    draw: Draw | None = field(default=None, compare=False)
    in_volume: Callable[[Mask, np.random.Generator], BySlice] | None = field(default=None, compare=False)
    clicks: bool = False
    negatives: bool = False
    box: bool = False
    rounds: int = 1
    interactive: bool = False
    slices: int | None = 1
    person: int | None = None
    seeded: str = ""

    @property
    def dims(self) -> int:
        """2 where single images are prompted, 3 where volumes are."""
        return 2 if self.in_volume is None else 3

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

    @property
    def clicks(self) -> int:
        """How many there are."""
        return len(self.points)


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawnVolumePrompt:
    """Prompts drawn from a reference mask of a volume.

    Attributes
    ----------
    prompts
        Slice to prompt, one at least.
    ends
        First and last slice of the object, for methods that are told.
    last
        Slice in which the last click of a correction lies; None at first.
    setting, key, seed
        As of a :class:`DrawnPrompt`.
    """

    prompts: BySlice
    ends: tuple[int, int]
    last: int | None = None
    setting: Setting
    key: Key
    seed: int

    @property
    def clicks(self) -> int:
        """How many there are in all slices."""
        return sum(len(prompt.points) for prompt in self.prompts.values())

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last slice in which the object may be, where the prompts say so."""
        return self.ends if self.setting.slices is None else None

    def with_click(self, number: int, point: NDArray, label: int) -> DrawnVolumePrompt:
        """The same and one more click, (x, y), in a slice."""
        prompt = self.prompts.get(number, Prompt()).with_click(point, label)
        return replace(self, prompts={**self.prompts, number: prompt}, last=number)


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
        "box_frame",
        "the box of the whole image, as around a tree of vessels",
        lambda mask, rng: Prompt(box=draw.frame_box(mask.shape)),
        box=True,
    ),
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


def _volume(
    name: str, text: str, base: str, place: Callable[..., BySlice], slices: int | None = 1
) -> Setting:
    """A setting of volumes: the prompt of one of single images, in some slices."""
    of_slice = SETTINGS[base]
    in_volume = partial(place, draw=of_slice.draw)
    return replace(of_slice, name=name, text=text, in_volume=in_volume, slices=slices)


_LARGEST, _EVERY = volume_prompts.in_largest, volume_prompts.in_every
_THREE = partial(volume_prompts.in_spread, count=3)
_VOLUMES = (
    _volume("slice_box", "the tight box in the slice of the largest area", "box", _LARGEST),
    _volume("slice_box_loose", "a box as a person would draw it there", "box_loose", _LARGEST),
    _volume("slice_point1", "one click there, deepest inside", "point1", _LARGEST),
    _volume("slice_point1_person", "one click there as people place it", "point1_person", _LARGEST),
    _volume("slices3_box", "tight boxes in three slices spread over the object", "box", _THREE, 3),
    _volume("every_slice_box", "the tight box in every slice: nothing to carry on", "box", _EVERY, None),
)
VOLUME_SETTINGS = {setting.name: setting for setting in _VOLUMES}
"""Settings of volumes by name; beside them ``clicks3d:k`` and ``box_clicks3d:k``, round by round."""

_ROUNDS = re.compile(r"(clicks|clicks3d|box_clicks3d):([1-9][0-9]?)")
_SEVERAL = re.compile(r"(points|scribble|strokes):([1-9][0-9]?)")
_INSIDE = 0.6
"""Share of the clicks of ``points:k`` that lie inside."""


def _several(kind: str, count: int) -> Setting:
    """``points:k``, ``scribble:k`` and ``strokes:k``: many at once. Of the first two, more hold the fewer."""
    name = f"{kind}:{count}"
    if kind == "strokes":
        text = f"what person {count} drew inside and outside"
        return Setting(name, text, person=count, clicks=True, negatives=True)
    if kind == "points":
        text = f"{count} clicks at once, inside and around it"
        made = partial(strokes.many_clicks, count=count, share=_INSIDE)
    else:
        text = f"{count} strokes inside and {count} around it, as clicks along them"
        made = partial(strokes.draw_prompt, inside=count, outside=count)
    return Setting(
        name, text, lambda mask, rng: made(mask, rng=rng), clicks=True, negatives=True, seeded=kind
    )


def parse_setting(name: str) -> Setting:
    """The setting of a name: one of :data:`SETTINGS` or :data:`VOLUME_SETTINGS`, ``clicks:k`` and its like.

    Raises
    ------
    InputError
        If there is none.

    >>> parse_setting("clicks:7").rounds, parse_setting("box").rounds
    (7, 1)
    """
    known = SETTINGS | VOLUME_SETTINGS
    if name in known:
        return known[name]
    if several := _SEVERAL.fullmatch(name):
        return _several(several[1], int(several[2]))
    match = _ROUNDS.fullmatch(name)
    if match is None:
        raise InputError(
            f"unknown prompt setting {name!r}; choose among {', '.join(SETTINGS)}, clicks:K, points:K, "
            f"scribble:K and strokes:K (K from 1 to 99); for volumes {', '.join(VOLUME_SETTINGS)}, "
            "clicks3d:K and box_clicks3d:K"
        )
    first = known[{"clicks": "point1", "clicks3d": "slice_point1", "box_clicks3d": "slice_box"}[match[1]]]
    rounds = int(match[2]) + first.box  # the box is a round of its own
    # A later click may be on the background.
    return replace(first, name=name, clicks=True, negatives=True, rounds=rounds, interactive=True)


def prompt_seed(root: int, key: Key) -> int:
    """The seed of one prompt, 0 to 2^63 - 1, from the root seed and its key alone."""
    text = "\0".join([str(root), *key])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_prompt(mask: Mask, key: Key, root: int) -> DrawnPrompt:
    """Draw the prompt (the first round's, if there are several) of one object.

    Parameters
    ----------
    mask
        The reference, bool (H, W), not empty.
    key
        What it is drawn for.
    root
        The evaluation's seed.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    setting = parse_setting(key.setting)
    seed = prompt_seed(root, key._replace(setting=setting.seeded or key.setting))
    assert setting.draw is not None  # only Setting.of and people's strokes leave it out
    if not mask.any():
        raise ValueError("an empty mask has no prompt")
    drawn = setting.draw(mask, np.random.default_rng(seed))
    return DrawnPrompt(drawn.points, drawn.labels, drawn.box, setting=setting, key=key, seed=seed)


def person_prompt(drawn: Sequence[NDArray[np.bool_]], key: Key) -> DrawnPrompt:
    """The prompt of one person's strokes; `drawn` holds each person's, bool (2, H, W): inside, outside.

    Raises
    ------
    ValueError
        If the person drew none, or only what says nothing.
    """
    setting = parse_setting(key.setting)
    number = setting.person or 0
    if number > len(drawn):
        raise ValueError(f"{key.setting}: {len(drawn)} people's strokes are with {key.object}")
    inside, outside = (strokes.strokes_in(part) for part in drawn[number - 1])
    found = strokes.prompt_of(inside, outside, drawn[number - 1].shape[1:])
    return DrawnPrompt(found.points, found.labels, setting=setting, key=key, seed=0)


def make_volume_prompt(mask: Mask, key: Key, root: int) -> DrawnVolumePrompt:
    """As :func:`make_prompt`, of a mask (slices, H, W) and a setting of volumes."""
    setting, seed = parse_setting(key.setting), prompt_seed(root, key)
    assert setting.in_volume is not None
    drawn = setting.in_volume(mask, np.random.default_rng(seed))
    ends = volume_prompts.ends_of(mask)
    return DrawnVolumePrompt(prompts=drawn, ends=ends, setting=setting, key=key, seed=seed)


def correct_volume(
    prompt: DrawnVolumePrompt, predicted: Mask, mask: Mask, spacing: Spacing
) -> DrawnVolumePrompt:
    """The next round's prompts: the same and one more click, deepest in the largest error."""
    return prompt.with_click(*volume_prompts.corrective_voxel(predicted, mask, spacing))


def correct(prompt: SomePrompt, predicted: Mask, mask: Mask) -> SomePrompt:
    """The next round's prompt: the same clicks and one more in the middle of the largest error."""
    return prompt.with_click(*draw.corrective_point(predicted, mask))
