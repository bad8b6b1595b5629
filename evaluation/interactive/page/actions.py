"""What is done to the objects of a scan, as the page sends it."""

from __future__ import annotations

import abc
import math
from typing import Annotated, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from scipy import ndimage
from skimage import draw

from synthfm.data.config import Config
from synthfm.data.console import InputError
from synthfm.data.distance import bounds
from synthfm.data.prompts import Prompt
from synthfm.evaluation.interactive.page.desk import MOST_CLICKS, Levels, Number
from synthfm.evaluation.interactive.page.editing import Editor

MOST_STROKE = 5000
"""Places of a stroke that is sent."""
MOST_OBJECTS = 50
"""Of one scan."""
SCRIBBLE = 10
"""Clicks that a scribble becomes, as the evaluation's setting has it."""

Name = Annotated[
    str,
    pydantic.StringConstraints(
        strip_whitespace=True, min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"
    ),
]
Point = tuple[Number, Number]
Stroke = Annotated[tuple[Point, ...], pydantic.Field(min_length=1, max_length=MOST_STROKE)]


class At(Config):
    """Where somebody looks, see :mod:`synthfm.evaluation.interactive.page.planes`."""

    place: tuple[int, int, int]


class OnObject(At):
    """Something is asked for an object, at a place."""

    object: Name


class Action(OnObject):
    """Something that is done to an object, in the slice of the scan's own plane that the place lies in."""

    def number(self, editor: Editor) -> int:
        """The slice."""
        return self.place[editor.planes.own]

    @abc.abstractmethod
    def on(self, editor: Editor) -> None:
        """Do it."""


class _Add(Action):
    def on(self, editor: Editor) -> None:
        if len(editor.session.names) >= MOST_OBJECTS:
            raise InputError(f"{MOST_OBJECTS} objects are there, and no more fit")
        editor.session.add(self.object)


class _Rename(Action):
    new: Name

    def on(self, editor: Editor) -> None:
        editor.cancel(self.object)
        if self.new != self.object:
            editor.session.rename(self.object, self.new)


class _Remove(Action):
    def on(self, editor: Editor) -> None:
        editor.cancel(self.object)
        editor.session.remove(self.object)


class _Finish(Action):
    finished: bool

    def on(self, editor: Editor) -> None:
        editor.cancel(self.object)
        editor.session.finish(self.object, self.finished)


class _Clear(Action):
    """Forget what is known of an object in the slice, or everywhere."""

    everywhere: bool = False

    def on(self, editor: Editor) -> None:
        editor.cancel(self.object)
        editor.session.clear(self.object, None if self.everywhere else self.number(editor))


class _Drawn(Action):
    """What is drawn on a slice; an object of a new name is added, and a finished one stays as it is."""

    levels: Levels

    def on(self, editor: Editor) -> None:
        session = editor.session
        if self.object not in session.names:
            _Add(place=self.place, object=self.object).on(editor)
        if session[self.object].finished:
            raise InputError(f"{self.object} is locked; unlock it to change it")
        editor.cancel(self.object)
        editor.see(self.levels)
        self.draw(editor, self.number(editor))

    @abc.abstractmethod
    def draw(self, editor: Editor, number: int) -> None:
        """Draw it."""


class _Click(_Drawn):
    """Clicks, or a stroke: a scribble."""

    points: Stroke
    label: Literal[0, 1] = 1
    scribble: bool = False

    def draw(self, editor: Editor, number: int) -> None:
        points = np.array(self.points)
        draw = editor.session.click
        if self.scribble:
            points, draw = along(points, SCRIBBLE), editor.session.scribble
        asked = editor.session[self.object].prompts.get(number, Prompt())
        if len(asked.points) + len(points) > MOST_CLICKS:
            raise InputError(f"more than {MOST_CLICKS} clicks in one slice; clear it, or use the brush")
        known = editor.session.mask_in(self.object, number).any()
        if not self.label and not known and not len(asked.positives) and asked.box is None:
            raise InputError("nothing is here to take from; click on the object first")
        draw(self.object, number, points, self.label)


class _Box(_Drawn):
    box: tuple[Number, Number, Number, Number]

    def draw(self, editor: Editor, number: int) -> None:
        editor.session.ask(self.object, number, Prompt(box=self.box))


class _Brush(_Drawn):
    """A stroke of a round brush, which adds or erases; radius in pixels."""

    points: Stroke
    radius: Annotated[float, pydantic.Field(gt=0, le=500)]
    erase: bool = False

    def draw(self, editor: Editor, number: int) -> None:
        mask = editor.session.mask_in(self.object, number)
        mask[stroke(np.array(self.points), self.radius, mask.shape)] = not self.erase
        editor.session.draw(self.object, number, mask)


ACTIONS: dict[str, type[Action]] = {
    "add": _Add,
    "rename": _Rename,
    "remove": _Remove,
    "finish": _Finish,
    "clear": _Clear,
    "click": _Click,
    "box": _Box,
    "brush": _Brush,
}


def along(points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Places evenly along a line (N, 2), the ends among them; fewer where it is short.

    >>> along(np.array([[0.0, 0.0], [4.0, 0.0], [8.0, 0.0]]), 3).tolist()
    [[0.0, 0.0], [4.0, 0.0], [8.0, 0.0]]
    """
    steps = np.hypot(*np.diff(points, axis=0).T) if len(points) > 1 else np.zeros(0)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0, length[-1], min(count, int(length[-1]) + 1))
    return np.stack([np.interp(at, length, points[:, axis]) for axis in (0, 1)], axis=1)


def stroke(points: NDArray[np.float64], radius: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """What a round brush covers of an image, bool (H, W), along a line (N, 2) of (x, y) in pixels."""
    line = np.zeros(shape, bool)
    columns, rows = (
        np.rint(np.clip(axis, 0, size - 1)).astype(int)
        for axis, size in zip(points.T, shape[::-1], strict=True)
    )
    line[rows[0], columns[0]] = True
    for k in range(len(rows) - 1):
        line[draw.line(rows[k], columns[k], rows[k + 1], columns[k + 1])] = True
    x0, y0, x1, y1 = bounds(line).tolist()
    reach = math.ceil(radius)
    part = np.s_[max(y0 - reach, 0) : y1 + reach, max(x0 - reach, 0) : x1 + reach]
    line[part] = ndimage.distance_transform_edt(~line[part]) < max(radius, 0.5)
    return line
