"""An object carried through the slices of a volume in training, as propagation carries it.

What is asked of a slice, and what becomes of the answer, is :mod:`synthfm.trainer.model.next_slice`'s; so the
model is trained on the masks, and on the errors, that it will see. Where the object has ended, nothing is
right: the IoU of any mask with nothing is 0, which the IoU head then learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from synthfm.trainer.model import look
from synthfm.trainer.model.likelihood import LikelihoodRatio
from synthfm.trainer.model.next_slice import (
    SHIPPED,
    Mask,
    Question,
    as_prompt,
    signed_distance,
)
from synthfm.trainer.model.packing import PackedPrompts, pack
from synthfm.trainer.model.predict import shown_mask
from synthfm.trainer.objective import losses

SAME = 0.7
"""Dice with the reference below which the model's own answer means another object, and is not carried."""


@dataclass
class Carried:
    """One object on its way through a run of slices.

    Attributes
    ----------
    images, masks
        uint8 and bool (h, w) each: the slices from the first on, and where the object is in them.
    apart
        How far each slice lies from the one before, in pixels; of the first 0.
    mask
        What is known of it in the last slice that was asked where something was found.
    away
        How far that lies from the last slice that was asked.
    taught
        What the slices so far have taught of its grey values.
    """

    images: Sequence[NDArray[np.uint8]]
    masks: Sequence[Mask]
    apart: Sequence[float]
    mask: Mask
    taught: LikelihoodRatio
    away: float = 0.0

    @classmethod
    def of(
        cls,
        images: Sequence[NDArray[np.uint8]],
        masks: Sequence[Mask],
        apart: Sequence[float],
        own: Mask,
        rng: np.random.Generator,
    ) -> Carried:
        """Begin with the model's `own` answer in the first slice, the reference, or one that is spoilt."""
        true = masks[0]
        area = np.count_nonzero(true) + np.count_nonzero(own)
        begins = int(rng.integers(3))
        first = own if begins == 0 else true if begins == 1 else spoilt(true, rng)
        if begins == 0 and 2 * np.count_nonzero(own & true) < SAME * area:
            first = spoilt(true, rng)
        return cls(images, masks, apart, first, LikelihoodRatio.of(images[0], first))

    def question(self, number: int, *, whole: bool) -> Question:
        """What slice `number` is asked."""
        away = self.away + self.apart[number]
        asked = Question.of(self.images[number], self.mask, SHIPPED, self.taught, away, whole=whole)
        return asked if asked.expected.any() else replace(asked, expected=asked.part(self.mask))

    def answered(self, number: int, asked: Question, answer: look.Segmentation) -> None:
        """Go on from an answer; where nothing is found, from what was known before."""
        found = asked.weighed(answer, SHIPPED)
        if np.count_nonzero(found) < SHIPPED.smallest:
            self.away += self.apart[number]
            return
        self.mask, self.away = found, 0.0
        self.taught = self.taught.and_of(self.images[number], found, SHIPPED.learning)


def spoilt(mask: Mask, rng: np.random.Generator) -> Mask:
    """A mask (H, W), not empty, as propagation spoils it: shifted, grown or shrunk, with holes, pieces lost.

    The mask itself where half of it would be lost.
    """
    size = np.sqrt(np.count_nonzero(mask))
    rough = ndimage.gaussian_filter(rng.standard_normal(mask.shape, np.float32), max(0.2 * size, 1.0))
    rough /= max(float(rough.std()), 1e-6)
    depth = signed_distance(mask) + size * (rng.uniform(-0.08, 0.08) + rng.uniform(0, 0.05) * rough)
    depth = ndimage.shift(depth, size * rng.uniform(-0.12, 0.12, 2), order=1, mode="nearest")
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    rows, columns = np.nonzero(mask)
    for _ in range(int(rng.integers(3))):
        at = int(rng.integers(len(rows)))
        depth[np.hypot(y - rows[at], x - columns[at]) < size * rng.uniform(0.05, 0.3)] = -1
    found = depth > 0
    shared = np.count_nonzero(found & mask)
    return found if 4 * shared > np.count_nonzero(found) + np.count_nonzero(mask) else mask


@dataclass(frozen=True)
class Asked:
    """Questions, one of each of B slices, as the model takes them.

    Attributes
    ----------
    images, sizes
        uint8 (B, 1, S, S), and int64 (B, 2), what of each is not padding.
    prompts, memory
        In pixels of the model's input, and the mask prompts, logits (B, 1, 4h, 4w).
    """

    images: Tensor
    sizes: Tensor
    prompts: PackedPrompts
    memory: Tensor

    @classmethod
    def of(cls, sam: Sam, questions: Sequence[Question], images: Sequence[NDArray[np.uint8]]) -> Asked:
        """With the numbers that :class:`synthfm.trainer.model.predict.Segmenter` has for each alone."""
        size, prompts = sam.image_encoder.img_size, [as_prompt(q.expected) for q in questions]
        parts = [look.to_input(q.part(image), size) for q, image in zip(questions, images, strict=True)]
        padded = [np.pad(part, [(0, size - length) for length in part.shape]) for part in parts]
        sizes = [(part.shape[0], part.shape[1]) for part in parts]
        scale = np.array(sizes) / [q.expected.shape for q in questions]
        across = torch.tensor(scale[:, None, ::-1].copy(), dtype=torch.float32, device=sam.device)
        shown = [shown_mask(sam, q.expected, seen) for q, seen in zip(questions, sizes, strict=True)]
        return cls(
            images=torch.from_numpy(np.stack(padded))[:, None].to(sam.device),
            sizes=torch.tensor(sizes, device=sam.device),
            prompts=pack(prompts).scaled(across),
            memory=torch.stack(shown),
        )


def targets(masks: Sequence[Mask], side: int) -> Tensor:
    """Masks, each padded right and below to a square, averaged over the cells of a grid: (B, side, side)."""
    found = []
    for mask in masks:
        missing = [max(mask.shape) - length for length in mask.shape]
        square = F.pad(torch.from_numpy(mask).float(), (0, missing[1], 0, missing[0]))
        found.append(losses.area_average(square[None], (side, side)))
    return torch.cat(found)


def answers_in(
    sam: Sam, questions: Sequence[Question], sizes: Tensor, logits: Tensor, estimated: Tensor
) -> list[look.Segmentation]:
    """The single mask of each answer (B, 4, 4h, 4w), in its view."""
    found = []
    for q, size, low_res, iou in zip(questions, sizes.tolist(), logits, estimated, strict=True):
        shape = (q.expected.shape[0], q.expected.shape[1])
        one = look.Prediction(
            low_res[None, :1].float(), iou[None, :1], sam.image_encoder.img_size, shape, (size[0], size[1])
        )
        found.append(look.Segmentation(one.masks()[0, 0], float(one.iou), one.low_res[0]))
    return found
