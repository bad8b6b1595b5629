"""Many clicks of one prompt, asked in turn: some at first, then those on whose wrong side the answer lies.

A model asked with forty clicks at once answers worse than with five: most of them say what the others have
said, and what few of them say drowns. Asked in turn, as a person would click, each that is added corrects
something.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthfm.data.prompts import SomePrompt
from synthfm.data.strokes import spread

Said = NDArray[np.bool_]
"""Which of a prompt's clicks have been said, (N,)."""


@dataclass(frozen=True)
class InTurn:
    """Settings.

    Attributes
    ----------
    first
        Clicks of a first question, half of them on the object where there are enough of both kinds; a prompt
        of no more is asked as it is.
    more
        The most that a further question adds.
    turns
        The most further questions.
    """

    first: int = 10
    more: int = 5
    turns: int = 3


SHIPPED = InTurn()


def said_first(
    prompt: SomePrompt, settings: InTurn = SHIPPED, known: NDArray[np.bool_] | None = None
) -> Said:
    """The clicks that are asked with first: all of a few, else as many of either kind, evenly by their order.

    Where a mask (H, W) is `known` that the prompt corrects, those on its wrong side are said first.
    """
    count = len(prompt.points)
    said = np.zeros(count, bool)
    if count <= settings.first:
        return ~said
    if known is not None:
        said = unkept(prompt, known, said, settings)
    left = settings.first - int(said.sum())
    kinds = [np.flatnonzero((prompt.labels == label) & ~said) for label in (1, 0)]
    of_object = min(len(kinds[0]), max(left - len(kinds[1]), (left + 1) // 2))
    for rows, wanted in zip(kinds, (of_object, left - of_object), strict=True):
        said[rows[np.linspace(0, len(rows) - 1, wanted).round().astype(int)] if wanted > 0 else []] = True
    return said


def unkept(prompt: SomePrompt, mask: NDArray[np.bool_], said: Said, settings: InTurn = SHIPPED) -> Said:
    """The clicks to be added: of those that have not been said and lie on a mask's wrong side, such as lie
    farthest from all that have been."""
    last = np.array(mask.shape) - 1
    rows, columns = np.clip(np.round(prompt.points[:, ::-1]).astype(np.int64), 0, last).T
    waiting = np.flatnonzero((mask[rows, columns] != (prompt.labels == 1)) & ~said)
    added = np.zeros_like(said)
    added[waiting[spread(prompt.points[waiting], settings.more, prompt.points[said])]] = True
    return added


def only(prompt: SomePrompt, said: Said) -> SomePrompt:
    """The prompt with these clicks alone; its box and mask stay."""
    return prompt if said.all() else replace(prompt, points=prompt.points[said], labels=prompt.labels[said])
