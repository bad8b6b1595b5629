"""The object in one slice, from its mask in the slice beside it, with a model of single images.

A slice is asked with what its neighbour says. The neighbour's mask is first moved to where the grey values
of this slice let its edge go; then the square around it is encoded as an image of its own, with that mask
and the point deepest inside it as the prompt; and the model's answer, the neighbour's mask, and what the grey
values say of each pixel, as the prompted slices have taught them, are weighed against each other. Training
asks the same (:mod:`synthfm.trainer.objective.carry`).

Where an object ends no mask is right, and the model answers with one all the same; but it believes in it
less. So what has ended is told from the answer, see :func:`has_ended`. The limits were chosen on synthetic
volumes (``benchmarks/propagation_limits.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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


SUREST = 4.0
"""Log-odds that a model's answer gives a pixel at most."""


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
        dice(mask, before) < settings.agreement
        or is_doubted(step, before, belief, settings)
        or taught.presence(image, mask) < settings.presence
    )


def is_doubted(step: Step, before: Mask, belief: float, settings: Propagation) -> bool:
    """Whether the model believes less in a mask that changes, see :attr:`Propagation.doubt`."""
    return step.iou < belief - settings.doubt and dice(step.mask, before) < settings.same


def dice(first: Mask, second: Mask) -> float:
    """Of two masks, not both empty."""
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def signed_distance(mask: Mask) -> NDArray[np.float32]:
    """Distance to the mask's edge in pixels, above 0 inside, below 0 outside.

    >>> signed_distance(np.array([[False, True, True, True, False]])).tolist()
    [[-0.5, 0.5, 1.5, 0.5, -0.5]]
    """
    inside, outside = (ndimage.distance_transform_edt(side) for side in (mask, ~mask))
    return np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32)
