"""Prompts of a person at the page to masks, as the evaluation would ask for them."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.console import InputError
from evaluation.methods import Ambiguous, Method, Predicted
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
    choice
        Which of the masks that the first click may mean was chosen, see :meth:`Asker.choices`; None takes
        the method's own answer.
    """

    clicks: tuple[tuple[int, int, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    choice: int | None = None

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
        if self.choice is not None and not self.rounds()[0].ambiguous:
            raise InputError("a mask is chosen for one click on an object, without a box")

    @property
    def ambiguous(self) -> bool:
        """Whether it is one click on an object alone, which may mean a part or the whole."""
        return self.box is None and len(self.clicks) == 1 and self.clicks[0][2] == 1

    def rounds(self) -> list[Asked]:
        """What was asked so far after each thing drawn, as in the setting ``clicks:K``."""
        first = [] if self.box is None else [Asked(box=self.box)]
        return first + [replace(self, clicks=self.clicks[: k + 1]) for k in range(len(self.clicks))]

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
    """A mask and how long it took when it was asked for first.

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
    said: dict[Asked, Answer] = field(default_factory=dict)
    choices: tuple[Asked, Sequence[Predicted]] | None = None


class Asker:
    """Asks methods; of the image that each saw last it keeps the encoding, and of the prompt the rounds.

    Parameters
    ----------
    methods
        The first one is the one that answers, the others are compared with it.
    titles
        What people call a method, by its name; the name where none is given.
    """

    def __init__(self, methods: Sequence[Method], titles: Mapping[str, str] | None = None) -> None:
        self.methods = {method.name: method for method in methods}
        self.titles = {name: (titles or {}).get(name, name) for name in self.methods}
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
            The prompt. A choice is left out for methods that offer none.

        Raises
        ------
        InputError
            If there is no such method, it cannot use such prompts, or the prompt lies outside of the image.
        """
        method = self._method(name, image, asked)
        if not isinstance(method, Ambiguous):
            asked = replace(asked, choice=None)
        last, seconds = self._seen(method, key, image)
        memory = None
        steps = asked.rounds()
        # Of the other ways that were tried nothing is kept: a second look is as large as the image.
        last.said = {step: last.said[step] for step in steps if step in last.said}
        for number, step in enumerate(steps):
            if number and memory is None and step != asked:
                continue  # a method without a memory answers the whole prompt alone
            if step not in last.said:
                started = time.perf_counter()
                predicted = _answer(method, last, step, memory)
                last.said[step] = Answer(predicted, seconds, time.perf_counter() - started)
            memory = last.said[step].predicted.memory
        return last.said[asked]

    def choices(
        self, name: str, key: Hashable, image: NDArray[np.uint8], asked: Asked
    ) -> Sequence[Predicted]:
        """What one click alone may mean to a method, as masks; none if it has but one, or for other prompts.

        Parameters and errors are those of :meth:`ask`.
        """
        method = self._method(name, image, asked)
        if not isinstance(method, Ambiguous) or not asked.ambiguous:
            return []
        last, _ = self._seen(method, key, image)
        return _choices(method, last, asked)

    def _method(self, name: str, image: NDArray[np.uint8], asked: Asked) -> Method:
        """The method of a name, which can use the prompt."""
        if name not in self.methods:
            raise InputError(f"no method {name!r}; there are {', '.join(self.methods)}")
        method = self.methods[name]
        asked.check(image.shape)  # type: ignore[arg-type]
        if not method.accepts(asked.setting):
            needs_box = asked.box is None and method.accepts(f"box_{asked.setting}")
            raise InputError("needs a box" if needs_box else f"takes no such prompt ({asked.setting})")
        return method

    def _seen(self, method: Method, key: Hashable, image: NDArray[np.uint8]) -> tuple[_Last, float]:
        """What a method knows of an image, and the seconds that its encoding took now."""
        last = self._last.get(method.name)
        if last is not None and last.image == key:
            return last, 0.0
        started = time.perf_counter()
        last = self._last[method.name] = _Last(key, method.encode(image))
        return last, time.perf_counter() - started


def _answer(method: Method, last: _Last, step: Asked, memory: Any) -> Predicted:
    """A method's mask for one round."""
    if step.choice is not None and step.ambiguous and isinstance(method, Ambiguous):
        masks = _choices(method, last, step)
        if not 0 <= step.choice < len(masks):
            raise InputError(f"choice {step.choice} does not exist; there are {len(masks)} (counted from 0)")
        return masks[step.choice]
    (found,) = method.predict(last.encoded, [step.prompt(memory)])
    return found


def _choices(method: Ambiguous, last: _Last, asked: Asked) -> Sequence[Predicted]:
    asked = replace(asked, choice=None)
    if last.choices is None or last.choices[0] != asked:
        last.choices = asked, method.alternatives(last.encoded, asked.prompt(None))
    return last.choices[1]
