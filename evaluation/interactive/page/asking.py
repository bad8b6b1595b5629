"""Prompts of a person at the page to masks, as the evaluation would ask for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import Setting
from synthfm.evaluation.methods.method import Ambiguous, Method, Predicted


@dataclass(frozen=True)
class Asked:
    """What a person has drawn, in order: a box or none, then clicks.

    Attributes
    ----------
    prompt
        All of it.
    choice
        Which of the masks that the first click may mean was chosen, see :meth:`Asker.choices`; None takes
        the method's own answer.
    """

    prompt: Prompt
    choice: int | None = None

    def within(self, shape: tuple[int, ...]) -> Asked:
        """As :meth:`synthfm.data.prompts.Prompt.within`, with an :class:`InputError` for what is wrong."""
        try:
            asked = replace(self, prompt=self.prompt.within(shape))
        except ValueError as error:
            raise InputError(str(error)) from error
        if asked.choice is not None and not asked.rounds()[0].ambiguous:
            raise InputError("a mask is chosen for one click on an object, without a box")
        return asked

    @property
    def ambiguous(self) -> bool:
        """Whether it is one click on an object alone, which may mean a part or the whole."""
        return self.prompt.is_ambiguous and bool(self.prompt.labels[0])

    def rounds(self) -> list[Asked]:
        """What was asked so far after each thing drawn, as in the setting ``clicks:K``."""
        prompt = self.prompt
        first = 1 if prompt.box is None and prompt.mask is None else 0
        counts = range(first, len(prompt.points) + 1)
        parts = [replace(prompt, points=prompt.points[:k], labels=prompt.labels[:k]) for k in counts]
        return [replace(self, prompt=part) for part in parts]


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

    def ask(
        self,
        name: str,
        key: Hashable,
        image: NDArray[np.uint8],
        asked: Asked,
        turn: AbstractContextManager[None] | None = None,
        enough: Callable[[], bool] = lambda: False,
    ) -> Answer:
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
        turn
            Entered for each round, in between which others may ask.
        enough
            Whether to end between two rounds: what was answered is known when the same is asked again.

        Raises
        ------
        InputError
            If there is no such method, it cannot use such prompts, or the prompt lies outside of the image;
            or if it is `enough` before the last round.
        """
        turn = turn or nullcontext()
        asked = asked.within(image.shape)
        method = self._method(name, asked)
        if not isinstance(method, Ambiguous):
            asked = replace(asked, choice=None)
        with turn:
            last, seconds = self._seen(method, key, image)
        before: Predicted | None = None
        steps = asked.rounds()
        # Of the other ways that were tried nothing is kept: a second look is as large as the image.
        said = last.said = {step: answer for step in steps if (answer := last.said.get(step)) is not None}
        for number, step in enumerate(steps):
            if before is not None and before.state is None:
                before = None
            if number and before is None and step != asked:
                continue  # a method that corrects nothing answers the whole prompt alone
            if step not in said:
                if number and enough():
                    raise InputError(
                        f"{method.name} has answered {number} of {len(steps)} rounds so far; ask again"
                    )
                with turn:
                    started = time.perf_counter()
                    predicted = _answer(method, last, step, before)
                    said[step] = Answer(predicted, seconds, time.perf_counter() - started)
            before = said[step].predicted
        return said[asked]

    def choices(
        self,
        name: str,
        key: Hashable,
        image: NDArray[np.uint8],
        asked: Asked,
        turn: AbstractContextManager[None] | None = None,
    ) -> Sequence[Predicted]:
        """What one click alone may mean to a method, as masks; none if it has but one, or for other prompts.

        Parameters and errors are those of :meth:`ask`.
        """
        asked = asked.within(image.shape)
        method = self._method(name, asked)
        if not isinstance(method, Ambiguous) or not asked.ambiguous:
            return []
        with turn or nullcontext():
            last, _ = self._seen(method, key, image)
            return _choices(method, last, asked)

    def _method(self, name: str, asked: Asked) -> Method:
        """The method of a name, which can use the prompt."""
        if name not in self.methods:
            raise InputError(f"no method {name!r}; there are {', '.join(self.methods)}")
        method = self.methods[name]
        setting = Setting.of(asked.prompt)
        if not method.accepts(setting):
            needs_box = not setting.box and method.accepts(replace(setting, box=True))
            raise InputError("needs a box" if needs_box else f"takes no such prompt ({setting.name})")
        return method

    def _seen(self, method: Method, key: Hashable, image: NDArray[np.uint8]) -> tuple[_Last, float]:
        """What a method knows of an image, and the seconds that its encoding took now."""
        last = self._last.get(method.name)
        if last is not None and last.image == key:
            return last, 0.0
        started = time.perf_counter()
        last = self._last[method.name] = _Last(key, method.encode(image))
        return last, time.perf_counter() - started


def _answer(method: Method, last: _Last, step: Asked, before: Predicted | None) -> Predicted:
    """A method's mask for one round."""
    if step.choice is not None and step.ambiguous and isinstance(method, Ambiguous):
        masks = _choices(method, last, step)
        if not 0 <= step.choice < len(masks):
            raise InputError(f"choice {step.choice} does not exist; there are {len(masks)} (counted from 0)")
        return masks[step.choice]
    (found,) = method.predict(last.encoded, [step.prompt], [before] if before is not None else [])
    return found


def _choices(method: Ambiguous, last: _Last, asked: Asked) -> Sequence[Predicted]:
    asked = replace(asked, choice=None)
    if last.choices is None or last.choices[0] != asked:
        last.choices = asked, method.alternatives(last.encoded, asked.prompt)
    return last.choices[1]
