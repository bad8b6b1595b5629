"""Asking a model: an image is encoded once, then any prompts of it are answered.

This is the one way in to a model for whoever uses it: a program, the evaluation, the page.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor

from synthfm.data.prompts import Multimask, Prompt
from synthfm.data.strokes import thinned
from synthfm.trainer.model import click_middle, in_turn, look, second_look
from synthfm.trainer.model.look import Encoding, Prediction, Segmentation
from synthfm.trainer.model.packing import pack
from synthfm.trainer.model.second_look import SecondLook, mask_prompt

__all__ = ["Encoding", "Prompt", "SecondLook", "Segmentation", "Segmenter"]

BATCH = 64
"""Prompts decoded at once: bounds the memory, the numbers do not depend on it."""

MASK_LOGIT = 6.0
"""Logit of the pixels of a mask prompt that says yes or no, about as large as training's are."""


class Segmenter:
    """A model that answers prompts.

    Parameters
    ----------
    sam
        As :func:`synthfm.trainer.model.models.load` opens it; it is put into evaluation mode.
    second_look
        Its settings; None for the plain answers of ``SamPredictor``.
    multimask
        See :data:`synthfm.data.prompts.Multimask`.

    >>> from synthfm.trainer.model import models
    >>> segmenter = Segmenter(models.load("tiny")[0], SecondLook())
    >>> ys, xs = np.indices((120, 160))
    >>> image = np.where(np.hypot(ys - 60, xs - 70) < 20, 180, 90).astype(np.uint8)
    >>> encoding = segmenter.encode(image)
    >>> (found,) = segmenter.predict(encoding, [Prompt(box=[50, 40, 91, 81])])
    >>> found.mask.shape, bool(found.mask[60, 70])
    ((120, 160), True)
    """

    def __init__(
        self, sam: Sam, second_look: SecondLook | None = None, *, multimask: Multimask = "auto"
    ) -> None:
        self.sam = sam.eval()
        self.second_look = second_look
        self.multimask = multimask

    def encode(self, image: NDArray[np.uint8]) -> Encoding:
        """Encode an image, uint8 (H, W) or (H, W, 3). The encoding may be kept, for any number of prompts.

        Raises
        ------
        ValueError
            If the image is of another kind.
        """
        return look.encode_image(self.sam, image)

    def predict(
        self,
        encoding: Encoding,
        prompts: Sequence[Prompt],
        previous: Sequence[Segmentation | None] | None = None,
    ) -> list[Segmentation]:
        """A mask for each prompt of an image, each with the numbers that it would get alone.

        Parameters
        ----------
        encoding
            Of the image.
        prompts
            Of any kinds, in pixels of the image; boxes are cut to it, and hundreds of clicks thinned out
            (:func:`synthfm.data.strokes.thinned`).
        previous
            For prompts that correct a mask, with all that was asked before, its segmentation; None for the
            others. A prompt's own mask is then not looked at.

        Returns
        -------
        list of Segmentation
            In the prompts' order. Beside the masks, with a second look each holds its logits: five bytes a
            pixel in all, so that of very many prompts some may be asked at a time.

        Raises
        ------
        ValueError
            If a prompt is empty or lies outside of the image, or a previous segmentation is of another image
            or model.
        """
        asked = [thinned(prompt.within(encoding.original_size)) for prompt in prompts]
        before = [None] * len(asked) if previous is None else list(previous)
        if len(before) != len(asked):
            raise ValueError(f"{len(before)} previous segmentations of {len(asked)} prompts")
        for one in before:
            self._check(one, encoding)
        return self._in_turn(encoding, asked, before)

    def _in_turn(
        self, encoding: Encoding, prompts: Sequence[Prompt], previous: Sequence[Segmentation | None]
    ) -> list[Segmentation]:
        """The answers to prompts of any number of clicks, see :mod:`synthfm.trainer.model.in_turn`."""
        settings = None if self.second_look is None else self.second_look.in_turn
        if self.second_look is None or settings is None:
            return self._asked(encoding, prompts, previous)
        begun = [
            (number, prompt, one, said)
            for number, (prompt, one) in enumerate(zip(prompts, previous, strict=True))
            for said in in_turn.beginnings(prompt, settings, None if one is None else one.mask)
        ]
        asked, starts = [prompt for _, prompt, _, _ in begun], [said for _, _, _, said in begun]
        together: dict[int, in_turn.Said] = {}
        for number, _, _, said_first in begun:
            together.setdefault(number, said_first)
        first = self._asked(encoding, list(map(in_turn.only, asked, starts)), [one for _, _, one, _ in begun])
        found, said = list(first), list(starts)
        for _ in range(settings.turns):
            added = [
                in_turn.unkept(prompt, one.mask, so_far, settings.more)
                for prompt, one, so_far in zip(asked, found, said, strict=True)
            ]
            rows = [row for row, clicks in enumerate(added) if clicks.any()]
            if not rows:
                break
            for row in rows:
                said[row] = said[row] | added[row]
            corrected = [in_turn.only(asked[row], said[row]) for row in rows]
            answers = self._asked(encoding, corrected, [found[row] for row in rows])
            for row, answer in zip(rows, answers, strict=True):
                found[row] = answer
        chosen: dict[int, Segmentation] = {}
        for row, (number, *_) in enumerate(begun):
            answer = found[row]
            if not said[row].all():
                answer = second_look.of_all_clicks(
                    answer, encoding.image, asked[row], first[row], starts[row], self.second_look
                )
            if number not in chosen or answer.iou > chosen[number].iou + settings.surer:
                chosen[number] = answer
        return [
            second_look.or_thin(
                self.sam, chosen[number], encoding.image, prompt, together[number], self.second_look
            )
            for number, prompt in enumerate(prompts)
        ]

    def _asked(
        self, encoding: Encoding, prompts: Sequence[Prompt], previous: Sequence[Segmentation | None]
    ) -> list[Segmentation]:
        """The answers to prompts, each asked with all of its clicks."""
        found: dict[int, Segmentation] = {}
        shown = [
            one is not None or prompt.mask is not None for prompt, one in zip(prompts, previous, strict=True)
        ]
        for rows in batches(shown, BATCH):
            some = self._batch(encoding, [prompts[row] for row in rows], [previous[row] for row in rows])
            found.update(zip(rows, some, strict=True))
        return [found[row] for row in range(len(prompts))]

    def alternatives(self, encoding: Encoding, prompt: Prompt) -> list[Segmentation]:
        """The three masks of a prompt that may mean several things, in the model's order.

        Of one click alone, the one that :meth:`predict` answers with is among them.
        """
        prompt = prompt.within(encoding.original_size)
        found = self._first_look(encoding, [prompt], [None])
        each = (found[:, number : number + 1] for number in range(1, found.iou.shape[1]))
        return [self._finished(encoding, [prompt], [None], one, [True])[0] for one in each]

    def _batch(
        self, encoding: Encoding, prompts: Sequence[Prompt], previous: Sequence[Segmentation | None]
    ) -> list[Segmentation]:
        several = [
            chooses(self.multimask, prompt, one is not None)
            for prompt, one in zip(prompts, previous, strict=True)
        ]
        # The best of several masks is picked before it is brought to the image's size: a third of the work.
        best = self._first_look(encoding, prompts, previous).best(torch.tensor(several))
        return self._finished(encoding, prompts, previous, best, several)

    def _finished(
        self,
        encoding: Encoding,
        prompts: Sequence[Prompt],
        previous: Sequence[Segmentation | None],
        best: Prediction,
        several: Sequence[bool],
    ) -> list[Segmentation]:
        """The answers from the first look's one mask of each prompt."""
        if self.second_look is None:
            masks, iou = best.masks()[:, 0], best.iou[:, 0].tolist()
            return [Segmentation(*parts) for parts in zip(masks, iou, best.low_res, strict=True)]
        return [
            second_look.predict(
                self.sam,
                encoding,
                prompt,
                best[row : row + 1],
                self.second_look,
                several=several[row],
                previous=previous[row],
            )
            for row, prompt in enumerate(prompts)
        ]

    def _first_look(
        self, encoding: Encoding, prompts: Sequence[Prompt], previous: Sequence[Segmentation | None]
    ) -> Prediction:
        shown = [self._shown(encoding, *pair) for pair in zip(prompts, previous, strict=True)]
        masks = [mask for mask in shown if mask is not None]
        found = look.predict(self.sam, encoding, pack(prompts), torch.stack(masks) if masks else None)
        settings = self.second_look
        if settings is None or settings.middle is None or self.multimask == "never" or masks:
            return found
        rows = [row for row, prompt in enumerate(prompts) if prompt.is_ambiguous and prompt.labels[0] == 1]
        if rows:
            clicks = [prompts[row] for row in rows]
            asked = click_middle.ask_again(self.sam, encoding, clicks, found[rows], settings.middle)
            found.low_res[rows], found.iou[rows] = asked.low_res, asked.iou
        return found

    def _shown(self, encoding: Encoding, prompt: Prompt, previous: Segmentation | None) -> Tensor | None:
        """The mask prompt (1, 4h, 4w)."""
        if previous is not None:
            return previous.low_res
        if prompt.mask is None:
            return None
        return shown_mask(self.sam, prompt.mask, encoding.input_size)

    def _check(self, previous: Segmentation | None, encoding: Encoding) -> None:
        if previous is None:
            return
        if not isinstance(previous, Segmentation):
            kind = type(previous).__name__
            raise ValueError(f"previous {kind}: expected the Segmentation of the round before")
        given = (tuple(previous.low_res.shape), previous.mask.shape)
        wanted = ((1, *self.sam.prompt_encoder.mask_input_size), encoding.original_size)
        if given != wanted:
            raise ValueError(f"previous low_res and mask {given}: expected {wanted}, as of this image")


def shown_mask(sam: Sam, mask: NDArray, input_size: tuple[int, int]) -> Tensor:
    """A prompt's mask, bool or logits (H, W), as the decoder is shown it: logits (1, 4h, 4w).

    `input_size` is that of the image at the model's input.
    """
    given = torch.tensor(mask, device=sam.device)
    logits = (given.float() * 2 - 1) * MASK_LOGIT if given.dtype == torch.bool else given.float()
    return mask_prompt(logits, input_size, sam.prompt_encoder.mask_input_size[0])


def chooses(multimask: Multimask, prompt: Prompt, corrects: bool = False) -> bool:
    """Whether a prompt gets three masks to choose from; `corrects` is True of one that corrects a mask."""
    return multimask == "always" or (multimask == "auto" and prompt.is_ambiguous and not corrects)


def batches(kinds: Sequence[Hashable], size: int) -> Iterator[list[int]]:
    """Rows to be decoded together: of one kind, and no more than `size`."""
    alike: dict[Hashable, list[int]] = {}
    for row, kind in enumerate(kinds):
        alike.setdefault(kind, []).append(row)
    for rows in alike.values():
        yield from (rows[start : start + size] for start in range(0, len(rows), size))
