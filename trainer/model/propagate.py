"""From a mask in one slice, or some, to the object in all slices of a volume, with a model of single images.

A mask is carried from slice to slice (:mod:`synthfm.trainer.model.next_slice`), outward from each slice that
somebody has prompted (an *anchor*), until the object has ended. Between two anchors it runs from both, and
each slice is a mixture of the two answers, much nearer to that of the nearer anchor: their signed distances
are averaged, as in shape-based interpolation [1]_.

References
----------
.. [1] S. P. Raya, J. K. Udupa, "Shape-based interpolation of multidimensional objects", IEEE Transactions on
   Medical Imaging (1990).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from synthfm.data.distance import bounds
from synthfm.trainer.model.bits import Bits
from synthfm.trainer.model.likelihood import LikelihoodRatio
from synthfm.trainer.model.next_slice import (
    SHIPPED,
    Image,
    Mask,
    Propagation,
    Segmenter,
    Step,
    ask,
    dice,
    has_ended,
    is_doubted,
    signed_distance,
)


class Run:
    """An anchor's mask carried one way, as far as somebody has asked for it.

    It depends on nothing but its own anchor, so that it stays as it is while others come and go.

    Parameters
    ----------
    start, direction
        The anchor's slice; 1 towards the last slice, -1 towards the first.
    mask
        The anchor's, not empty.
    """

    def __init__(
        self, slices: Sequence[Image], start: int, direction: int, mask: Mask, asking: Asking
    ) -> None:
        self.start, self.direction, self.spacing = start, direction, asking.spacing
        self.steps: list[Step] = []
        self.ended = False
        self._slices, self._asking = slices, asking
        self._anchor = self._mask = Bits.of(mask)
        self._taught = LikelihoodRatio.of(slices[start], mask)

    def knows(self, number: int) -> bool:
        """Whether a slice that lies in its way has been asked, or lies beyond its end."""
        return self.ended or (number - self.start) * self.direction <= len(self.steps)

    def at(self, number: int) -> Step | None:
        """The object in a slice that lies in its way; None beyond its end."""
        away = (number - self.start) * self.direction
        while not self.ended and len(self.steps) < away:
            self._go_on()
        return self.steps[away - 1] if away <= len(self.steps) else None

    def belief(self, number: int) -> float:
        """Mean of the model's estimates on the way to a slice, or to the end before it; 0 without any."""
        self.at(number)
        return _mean([step.iou for step in self.steps[: (number - self.start) * self.direction]], 0.0)

    def doubts(self, step: Step, belief: float) -> bool:
        """Whether the model believes less in one of its steps, see :attr:`Propagation.doubt`."""
        away = (step.slice - self.start) * self.direction
        before = self.steps[away - 2].mask if away > 1 else self._anchor.mask
        return is_doubted(step, before, belief, self._asking.settings)

    def _go_on(self) -> None:
        k = self.start + (len(self.steps) + 1) * self.direction
        if not 0 <= k < len(self._slices):
            self.ended = True
            return
        image, mask, asking = self._slices[k], self._mask.mask, self._asking
        step = ask(image, k, mask, asking.segmenter, asking.settings, self._taught, asking.spacing)
        belief = _mean([before.iou for before in self.steps], step.iou)
        if has_ended(step, mask, belief, image, asking.settings, self._taught):
            self.ended = True
            return
        self.steps.append(step)
        self._mask = step.bits
        self._taught = self._taught.and_of(image, step.mask, asking.settings.learning)


@dataclass(frozen=True)
class Asking:
    """Who is asked in a propagation, how, and the distance between slices in pixels."""

    segmenter: Segmenter
    settings: Propagation
    spacing: float


Runs = dict[tuple[int, int], Run]
"""(anchor, direction) to its run."""


def propagate(
    slices: Sequence[Image],
    anchors: Mapping[int, Mask],
    segmenter: Segmenter,
    settings: Propagation = SHIPPED,
    *,
    spacing: float = 1.0,
    span: tuple[int, int] | None = None,
    changed: Collection[int] | None = None,
    runs: Runs | None = None,
) -> Iterator[Step]:
    """The object in the slices without a prompt of their own, as they are found.

    Parameters
    ----------
    slices
        uint8 (H, W) or (H, W, 3) each, as the model is shown them; made when asked for, if that saves memory.
    anchors
        Slice to the mask of the object there, bool (H, W), one at least. An empty one says that the object is
        not there: nothing runs past it.
    segmenter
        The model.
    spacing
        Distance between slices in pixels: their spacing over that of rows and columns; 1 in a cine.
    span
        First and last slice in which the object may be.
    changed
        Anchors that are new, have been corrected or taken out: only slices that lie between one of them and
        the next anchors on both sides (or the ends) are asked. All where it is None.
    runs
        Of an earlier propagation of this object, of anchors that have not changed; new ones are added. What
        they know is not asked again.

    Yields
    ------
    Step
        Of the slices that are asked; where one comes twice, the later step counts. Slices of a range that get
        none are empty now. What is not in :func:`affected` stays as it was.
    """
    runs = {} if runs is None else runs
    asking = Asking(segmenter, settings, spacing)
    for start, mask in anchors.items():
        for direction in (-1, 1):
            if mask.any():
                runs.setdefault((start, direction), Run(slices, start, direction, mask, asking))
    low, high = (0, len(slices) - 1) if span is None else span
    for left, right in gaps(anchors, len(slices), changed):
        first, last = 0 if left is None else left + 1, len(slices) - 1 if right is None else right - 1
        way = range(max(first, low), min(last, high) + 1)
        forward, backward = runs.get((left, 1)), runs.get((right, -1))  # type: ignore[arg-type]
        if forward and backward:
            yield from _between(forward, backward, way, settings)
        elif forward:
            yield from _outward(forward, _behind(runs, forward), way, settings)
        elif backward:
            yield from _outward(backward, _behind(runs, backward), way[::-1], settings)


def _between(forward: Run, backward: Run, way: range, settings: Propagation) -> Iterator[Step]:
    """Between two anchors: each slice a mixture of both runs, nearer to that of the nearer anchor.

    One run is made whole; where the other has met it, the rest of the way is known.
    """
    whole, other = sorted((forward, backward), key=lambda run: -len(run.steps))
    for k in way if whole is forward else way[::-1]:
        fresh = not whole.knows(k)
        step = whole.at(k)
        if step is not None and fresh:
            yield step
    near = 0
    for k in way if other is forward else way[::-1]:
        one = whole.at(k)
        second = None if near >= MEETING else other.at(k)
        near = near + 1 if near >= MEETING or _alike(one, second, settings) else 0
        if second is None:
            if one is not None:
                yield one
            continue
        first, last = (one, second) if whole is forward else (second, one)
        yield _mixed(first, last, k - forward.start, backward.start - k, settings, forward.spacing)


def _mean(values: list[float], default: float) -> float:
    return float(np.mean(values)) if values else default


def _outward(run: Run, before: Run | None, way: Sequence[int], settings: Propagation) -> Iterator[Step]:
    """From the outermost anchor on; where the run has met the one from the anchor behind it, as that goes.

    It starts where somebody had to correct, and the model believes less in what it finds there. So the
    belief that counts is that of the run behind too, on its way to this anchor.
    """
    near, belief = 0, 0.0 if before is None else before.belief(run.start)
    for k in way:
        if near >= MEETING and before is not None:
            run, before, belief = before, None, 0.0
        step = run.at(k)
        if step is None or run.doubts(step, belief):
            return
        yield step
        if before is not None:
            near = near + 1 if before.knows(k) and _alike(step, before.at(k), settings) else 0


MEETING = 2
"""In so many slices one after the other two runs are alike, where they have met."""


def _alike(one: Step | None, other: Step | None, settings: Propagation) -> bool:
    if one is None or other is None:
        return one is other
    return dice(one.mask, other.mask) >= settings.meeting


def _behind(runs: Runs, run: Run) -> Run | None:
    """The run in the same direction from the nearest anchor behind."""
    others = [
        other
        for (start, way), other in runs.items()
        if way == run.direction and (run.start - start) * run.direction > 0
    ]
    return min(others, key=lambda other: abs(run.start - other.start), default=None)


def gaps(
    anchors: Collection[int], count: int, changed: Collection[int] | None = None
) -> list[tuple[int | None, int | None]]:
    """The ranges between anchors, each by its anchors on the left and the right, None for the volume's end.

    With `changed`, those that touch one of them.

    >>> gaps({3, 7}, 10)
    [(None, 3), (3, 7), (7, None)]
    >>> gaps({3, 7}, 10, changed={7}), gaps({3}, 10, changed={7})
    ([(3, 7), (7, None)], [(3, None)])
    """
    return [
        (left, right)
        for left, right in pairwise([None, *sorted(anchors), None])
        if changed is None
        or any((-1 if left is None else left) <= k <= (count if right is None else right) for k in changed)
    ]


def affected(anchors: Collection[int], count: int, changed: Collection[int] | None = None) -> list[int]:
    """The slices that :func:`propagate` decides on: what it yields no step for is empty.

    >>> affected({3, 7}, 10, changed={7})
    [4, 5, 6, 8, 9]
    """
    return [
        k
        for left, right in gaps(anchors, count, changed)
        for k in range(0 if left is None else left + 1, count if right is None else right)
    ]


def _mixed(
    first: Step | None, second: Step | None, after: int, before: int, settings: Propagation, spacing: float
) -> Step:
    """Two answers for a slice, so many slices after the first's anchor and before the second's.

    Their signed distances are averaged. Each counts by the square of the other's way, as errors grow with the
    way; and no distance counts for more than an edge moves from the nearer anchor, so that where the two have
    little in common the nearer one decides.
    """
    if first is None or second is None:
        (step,) = [one for one in (first, second) if one is not None]
        return step
    share = after**2 / (after**2 + before**2)
    masks = first.mask, second.mask
    x0, y0, x1, y1 = bounds(masks[0] | masks[1]).tolist()
    part = np.s_[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1]
    most = max(settings.slope * spacing * min(after, before), 1.0)
    one, other = (np.clip(signed_distance(mask[part]), -most, most) for mask in masks)
    mixed = np.zeros_like(masks[0])
    mixed[part] = (1 - share) * one + share * other > 0
    return Step.of(first.slice, mixed, (1 - share) * first.iou + share * second.iou)
