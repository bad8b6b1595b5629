"""Several clicks of one prompt, asked in turn: some at first, then those on whose wrong side the answer lies.

A model asked with forty clicks at once may answer worse than with one: most of them say what the others have
said, and what few of them say drowns. Asked in turn, as a person would click, each that is added corrects
something. One in the middle is a good beginning for a compact object, some together for one that is thin or
in pieces; so both are asked, and the model's estimates decide.
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
    few
        So many clicks are asked together at first, half of them on the object where there are enough.
    more
        The most that a further question adds.
    turns
        The most further questions.
    surer
        By how much surer the model must be of the answer that one click alone has begun.
    """

    few: int = 10
    more: int = 2
    turns: int = 5
    surer: float = 0.05


SHIPPED = InTurn()


def beginnings(
    prompt: SomePrompt, settings: InTurn = SHIPPED, known: NDArray[np.bool_] | None = None
) -> list[Said]:
    """With which of its clicks a prompt is asked first: one beginning, or two.

    All of a few come together, else as many of either kind, evenly by their order, those on the wrong side of
    a mask (H, W) that is `known` before the others. Where there is neither a mask nor a box to say what is
    meant, the click in the middle of those on the object begins alone, too.
    """
    count = len(prompt.points)
    together = _some(prompt, settings, known)
    inside = np.flatnonzero(prompt.labels == 1)
    if known is not None or prompt.box is not None or prompt.mask is not None or count < 2 or not len(inside):
        return [together]
    places = prompt.points[inside].astype(float)
    away = np.linalg.norm(places[:, None] - places, axis=-1).sum(1)
    alone = np.zeros(count, bool)
    alone[inside[away.argmin()]] = True
    return [together, alone]


def _some(prompt: SomePrompt, settings: InTurn, known: NDArray[np.bool_] | None) -> Said:
    said = np.zeros(len(prompt.points), bool)
    if len(said) <= settings.few:
        return ~said
    if known is not None:
        said = unkept(prompt, known, said, settings.few)
    left = settings.few - int(said.sum())
    kinds = [np.flatnonzero((prompt.labels == label) & ~said) for label in (1, 0)]
    of_object = min(len(kinds[0]), max(left - len(kinds[1]), (left + 1) // 2))
    for rows, wanted in zip(kinds, (of_object, left - of_object), strict=True):
        said[rows[np.linspace(0, len(rows) - 1, wanted).round().astype(int)] if wanted > 0 else []] = True
    return said


def unkept(prompt: SomePrompt, mask: NDArray[np.bool_], said: Said, most: int) -> Said:
    """The clicks to be added: of those on a mask's wrong side that have not been said, so many at most, the
    farthest from all that have been."""
    last = np.array(mask.shape) - 1
    rows, columns = np.clip(np.round(prompt.points[:, ::-1]).astype(np.int64), 0, last).T
    waiting = np.flatnonzero((mask[rows, columns] != (prompt.labels == 1)) & ~said)
    added = np.zeros_like(said)
    added[waiting[spread(prompt.points[waiting], most, prompt.points[said])]] = True
    return added


def only(prompt: SomePrompt, said: Said) -> SomePrompt:
    """The prompt with these clicks alone; its box and mask stay."""
    return prompt if said.all() else replace(prompt, points=prompt.points[said], labels=prompt.labels[said])
