"""From a mask in one slice, or some, to the object in all slices of a volume, with a model of single images.

A slice is asked with what its neighbour says. The neighbour's mask is first moved to where the grey values
of this slice let its edge go; then the square around it is encoded as an image of its own, with that mask
and the point deepest inside it as the prompt; and the model's answer, the neighbour's mask, and what the grey
values say of each pixel, as the prompted slices have taught them, are weighed against each other. So the
answer walks outward from each slice that somebody has prompted (an *anchor*), until the object has ended.
Between two anchors it runs from both, and each slice is a mixture of the two answers, much nearer to that of
the nearer anchor: their signed distances are averaged, as in shape-based interpolation [1]_.

Where an object ends no mask is right, and the model answers with one all the same; but it believes in it
less. What ends a run is that the new mask no longer agrees with the one before or is suddenly much smaller,
that its grey values are clearly not those that the anchor has taught, or that the model's own estimate falls
below what it was so far while the mask changes. These limits were chosen on synthetic volumes
(``benchmarks/propagation_limits.py``).

References
----------
.. [1] S. P. Raya, J. K. Udupa, "Shape-based interpolation of multidimensional objects", IEEE Transactions on
   Medical Imaging (1990).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm.data.distance import bounds
from synthfm.data.prompts import Prompt, centre_point
from synthfm.trainer.model.bits import Bits
from synthfm.trainer.model.likelihood import LikelihoodRatio

Mask = NDArray[np.bool_]
Image = NDArray[np.uint8]


class Answer(Protocol):
    """What a model says to one prompt."""

    @property
    def mask(self) -> Mask:
        """bool (H, W)."""

    @property
    def iou(self) -> float:
        """Its own estimate of the mask's IoU."""


class Segmenter(Protocol):
    """A model that is asked: an image is encoded once, then prompts of it are answered."""

    def encode(self, image: Image) -> Any:
        """Encode uint8 (H, W) or (H, W, 3)."""

    def predict(self, encoding: Any, prompts: Sequence[Prompt]) -> Sequence[Answer]:
        """One answer a prompt."""


@dataclass(frozen=True)
class Propagation:
    """Settings of a propagation.

    Attributes
    ----------
    factor
        Side of the square that is encoded over the longest side of the neighbour's mask.
    forecast
        Weight of what the grey values say when the neighbour's mask is moved to this slice, before the model
        is asked; 0 for the neighbour's mask as it is.
    slope
        How far an edge moves from slice to slice, over the distance between them: so far from the neighbour's
        edge its mask's log-odds are 1, and no larger than `sureness` anywhere.
    sureness
        See `slope`.
    spread
        How far an edge moves outward at most, all around, over the distance between slices: of what would be
        larger, only the surest pixels are kept, and those of which the grey values speak clearly.
    clear
        Log-likelihood ratio from which they do.
    persistence
        Weight of the neighbour's mask beside the model's answer.
    likelihood
        Weight of what the grey values say of the model's answer.
    smooth
        Standard deviation of the Gaussian over what the grey values say, over the square root of the area.
    agreement
        Dice with the neighbour's mask below which the object has ended.
    shrinkage
        Area over the neighbour's below which it has ended.
    presence
        Mean log-likelihood ratio of a mask's grey values, object to surroundings as the anchors have taught
        them, below which it has ended; 1 is what it is on the anchors.
    doubt, same
        How far the model's own estimate of the IoU may fall below its mean in the run so far, and below that
        of the run behind, on its way to this one's anchor. Below that the object has ended, unless the mask
        has at least a Dice of `same` with the neighbour's.
    smallest
        Pixels; what is smaller has ended.
    learning
        Share that each new slice has in what the grey values teach.
    meeting
        Dice in two slices running from which two runs count as one from there on.
    """

    factor: float = 1.6
    forecast: float = 0.5
    slope: float = 1.0
    sureness: float = 4.0
    persistence: float = 0.5
    spread: float = 0.2
    clear: float = 1.0
    likelihood: float = 0.5
    smooth: float = 0.05
    agreement: float = 0.4
    shrinkage: float = 0.25
    presence: float = -0.5
    doubt: float = 0.15
    same: float = 0.95
    smallest: int = 8
    learning: float = 0.1
    meeting: float = 0.98


SHIPPED = Propagation()


@dataclass(frozen=True)
class Step:
    """The object in one slice.

    Attributes
    ----------
    slice
        Its number.
    bits
        Its mask.
    iou
        The model's own estimate of the mask's IoU; of a mixture of two, as they are mixed.
    """

    slice: int
    bits: Bits
    iou: float

    @classmethod
    def of(cls, number: int, mask: Mask, iou: float) -> Step:
        return cls(number, Bits.of(mask), iou)

    @property
    def mask(self) -> Mask:
        """bool (H, W)."""
        return self.bits.mask


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
        return _is_doubted(step, before, belief, self._asking.settings)

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


SUREST = 4.0
"""Log-odds that a model's answer gives a pixel at most."""

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
    return _dice(one.mask, other.mask) >= settings.meeting


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


def ask(
    image: Image,
    number: int,
    mask: Mask,
    segmenter: Segmenter,
    settings: Propagation,
    taught: LikelihoodRatio,
    spacing: float = 1.0,
) -> Step:
    """The object in one slice, from its mask (H, W), not empty, in the slice beside it.

    `spacing` is the distance between the two in pixels.
    """
    asked = Question.of(image, mask, settings, taught, spacing)
    if not asked.expected.any():
        return Step.of(number, np.zeros_like(mask), 0.0)
    (answer,) = segmenter.predict(segmenter.encode(asked.part(image)), [as_prompt(asked.expected)])
    return Step.of(number, asked.weighed(answer, settings), float(answer.iou))


@dataclass(frozen=True)
class Question:
    """What is asked of an object in one slice, from its mask in another: training asks the same.

    Attributes
    ----------
    shape
        Height and width of the slice.
    view
        The square of it that the model is shown, XYXY; what follows lies in it, (h, w).
    said
        float32, what the grey values say: log-likelihood ratio of object to surroundings.
    before
        float32, log-odds of the other slice's mask.
    expected
        bool, that mask, moved to where the grey values let its edge go: the prompt. It may be empty.
    most
        Pixels that the object fills at most.
    """

    shape: tuple[int, int]
    view: tuple[int, int, int, int]
    said: NDArray[np.float32]
    before: NDArray[np.float32]
    expected: Mask
    most: int

    @classmethod
    def of(
        cls,
        image: Image,
        mask: Mask,
        settings: Propagation,
        taught: LikelihoodRatio,
        spacing: float = 1.0,
        *,
        whole: bool = False,
    ) -> Question:
        """From a mask (H, W), not empty, `spacing` pixels away; with `whole` the view is the whole slice."""
        height, width = mask.shape
        square = square_around(bounds(mask), (height, width), settings.factor)
        view = (0, 0, width, height) if whole else square
        seen = part_of(mask, view)
        size = math.sqrt(np.count_nonzero(seen))
        said = ndimage.gaussian_filter(taught.ratio(part_of(image, view)), max(settings.smooth * size, 0.6))
        edge = signed_distance(seen) / max(settings.slope * spacing, 0.7)
        before = np.clip(edge, -settings.sureness, settings.sureness)
        expected = _joined(before + settings.forecast * said > 0, seen) if settings.forecast else seen
        most = np.pi * (size / math.sqrt(np.pi) + settings.spread * spacing) ** 2
        return cls((height, width), view, said, before, expected, int(most))

    def part(self, image: NDArray) -> NDArray:
        """What the view shows of a slice."""
        return part_of(image, self.view)

    def weighed(self, answer: Answer, settings: Propagation) -> Mask:
        """The object in the slice, bool (H, W): the model's answer, the other mask and the grey values."""
        logits = _logits(answer) + settings.likelihood * self.said + settings.persistence * self.before
        drawn = (logits > _threshold(logits, self.most)) | ((logits > 0) & (self.said > settings.clear))
        found = np.zeros(self.shape, bool)
        x0, y0, x1, y1 = self.view
        found[y0:y1, x0:x1] = _joined(drawn, self.expected)
        return found


def part_of(image: NDArray, view: tuple[int, int, int, int]) -> NDArray:
    """What lies in a view, XYXY, of an image, a copy of its own."""
    x0, y0, x1, y1 = view
    return np.ascontiguousarray(image[y0:y1, x0:x1])


def _threshold(logits: NDArray, most: int) -> float:
    """0, or what no more than that many pixels lie above."""
    if np.count_nonzero(logits > 0) <= most:
        return 0.0
    return float(np.partition(logits, logits.size - most - 1, axis=None)[logits.size - most - 1])


def _logits(answer: Answer) -> NDArray[np.float32]:
    """An answer's logits (H, W), of a model without them those of the distance to the mask's edge."""
    drawn = getattr(answer, "drawn", None)
    logits = signed_distance(answer.mask) if drawn is None else drawn().cpu().numpy()
    return np.clip(logits, -SUREST, SUREST)


def _joined(mask: Mask, seed: Mask) -> Mask:
    """The pieces of a mask that touch another; all where none does."""
    numbered, count = ndimage.label(mask, np.ones((3, 3)))
    kept = np.unique(numbered[mask & seed])
    return np.isin(numbered, kept) if 0 < len(kept) < count else mask


def as_prompt(mask: Mask) -> Prompt:
    """What a mask says of the object in the slice beside it: itself, and the point deepest inside.

    No box, however it is drawn: a model fills it, and what is too large in one slice stays so in the next.
    """
    return Prompt([centre_point(mask)], [1], mask=mask)


def square_around(box: NDArray, shape: tuple[int, int], factor: float) -> tuple[int, int, int, int]:
    """The square of `factor` times a box's longest side around it, moved and cut to fit the image, XYXY."""
    side = math.ceil(factor * float(max(box[2] - box[0], box[3] - box[1])))
    ends = []
    for low, high, size in ((box[0], box[2], shape[1]), (box[1], box[3], shape[0])):
        start = min(max(round(float(low + high - side) / 2), 0), max(size - side, 0))
        ends.append((start, min(start + side, size)))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def has_ended(
    step: Step, before: Mask, belief: float, image: Image, settings: Propagation, taught: LikelihoodRatio
) -> bool:
    """Whether what was found in a slice is no longer the object of the slice before.

    `belief` is the mean of the model's estimates in the run so far.
    """
    mask = step.mask
    area, size = np.count_nonzero(mask), np.count_nonzero(before)
    if area < max(settings.smallest, settings.shrinkage * size):
        return True
    return (
        _dice(mask, before) < settings.agreement
        or _is_doubted(step, before, belief, settings)
        or taught.presence(image, mask) < settings.presence
    )


def _is_doubted(step: Step, before: Mask, belief: float, settings: Propagation) -> bool:
    return step.iou < belief - settings.doubt and _dice(step.mask, before) < settings.same


def _dice(first: Mask, second: Mask) -> float:
    """Of two masks, not both empty."""
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


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


def signed_distance(mask: Mask) -> NDArray[np.float32]:
    """Distance to the mask's edge in pixels, above 0 inside, below 0 outside.

    >>> signed_distance(np.array([[False, True, True, True, False]])).tolist()
    [[-0.5, 0.5, 1.5, 0.5, -0.5]]
    """
    inside, outside = (ndimage.distance_transform_edt(side) for side in (mask, ~mask))
    return np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32)
