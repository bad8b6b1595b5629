"""Prompts of a person at the page to masks, as the evaluation would ask for them."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.console import InputError
from evaluation.methods import Method, Predicted
from evaluation.prompting import Prompt


@dataclass(frozen=True)
class Asked:
    """What a person has drawn, in order: a box or none, then clicks.

    Attributes
    ----------
    clicks
        (x, y, label) in pixels; label 1 for object, 0 for background.
    box
        XYXY, half-open, in pixels.
    """

    clicks: tuple[tuple[int, int, int], ...] = ()
    box: tuple[float, float, float, float] | None = None

    def check(self, shape: tuple[int, int]) -> None:
        """Raise :class:`InputError` unless there is a prompt and it lies in an image of this shape."""
        height, width = shape
        if not self.clicks and self.box is None:
            raise InputError("no prompt: click on the object, or draw a box around it")
        for x, y, _ in self.clicks:
            if not (0 <= x < width and 0 <= y < height):
                raise InputError(f"the click ({x}, {y}) lies outside of the image, {width} x {height}")
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
                raise InputError(f"{list(self.box)} is no box in the image, {width} x {height}")

    def rounds(self) -> list[Asked]:
        """What was asked so far after each thing drawn, as in the setting ``clicks:K``."""
        first = [] if self.box is None else [Asked(box=self.box)]
        return first + [Asked(self.clicks[: k + 1], self.box) for k in range(len(self.clicks))]

    @property
    def setting(self) -> str:
        """The kind of prompt as :data:`evaluation.prompting.SETTINGS` names them."""
        positive = sum(label for _, _, label in self.clicks)
        negative = len(self.clicks) - positive
        parts = ["box"] if self.box is not None else []
        parts += [f"point{positive}"] if positive else []
        parts += [f"neg{negative}"] if negative else []
        return "_".join(parts)

    def prompt(self, memory: Any) -> Prompt:
        """For the methods."""
        clicks = np.array(self.clicks, np.int16).reshape(-1, 3)
        box = None if self.box is None else np.array(self.box, np.float32)
        key = ("app", "", "", self.setting)
        return Prompt(clicks[:, :2], clicks[:, 2].astype(np.int8), box, 0, key, memory)


@dataclass(frozen=True)
class Answer:
    """A mask and how long it took.

    Attributes
    ----------
    predicted
        The mask.
    encode_seconds
        0 where the image was encoded for an earlier prompt.
    predict_seconds
        Of the last round.
    """

    predicted: Predicted
    encode_seconds: float
    predict_seconds: float


@dataclass
class _Last:
    """What a method has said to the image it saw last, in the rounds of the last prompt."""

    image: Hashable
    encoded: Any
    said: dict[Asked, Predicted] = field(default_factory=dict)


class Asker:
    """Asks methods; of the image that each saw last it keeps the encoding, and of the prompt the rounds."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self.methods = {method.name: method for method in methods}
        self._last: dict[str, _Last] = {}

    def ask(self, name: str, key: Hashable, image: NDArray[np.uint8], asked: Asked) -> Answer:
        """One method's mask; each click goes with what the method returned for the round before it.

        Parameters
        ----------
        name
            The method's.
        key
            Equal for equal images.
        image
            uint8 (H, W).
        asked
            The prompt.

        Raises
        ------
        InputError
            If there is no such method, it cannot use such prompts, or the prompt lies outside of the image.
        """
        if name not in self.methods:
            raise InputError(f"no method {name!r}; there are {', '.join(self.methods)}")
        method = self.methods[name]
        asked.check(image.shape)  # type: ignore[arg-type]
        if not method.accepts(asked.setting):
            needs_box = asked.box is None and method.accepts(f"box_{asked.setting}")
            raise InputError("needs a box" if needs_box else f"takes no such prompt ({asked.setting})")
        last = self._last.get(name)
        seconds = 0.0
        if last is None or last.image != key:
            started = time.perf_counter()
            last = self._last[name] = _Last(key, method.encode(image))
            seconds = time.perf_counter() - started
        memory = None
        steps = asked.rounds()
        # Of the other ways that were tried nothing is kept: a second look is as large as the image.
        last.said = {step: last.said[step] for step in steps if step in last.said}
        for number, step in enumerate(steps):
            if number and memory is None and step != asked:
                continue  # a method without a memory answers the whole prompt alone
            started = time.perf_counter()
            if step not in last.said:
                (last.said[step],) = method.predict(last.encoded, [step.prompt(memory)])
            memory = last.said[step].memory
        return Answer(last.said[asked], seconds, time.perf_counter() - started)
