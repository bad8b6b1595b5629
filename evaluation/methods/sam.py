"""SAM-format checkpoints: SynthFM, SAM, MedSAM, MobileSAM, `tiny`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.methods import Method, Predicted
from evaluation.prompting import Prompt
from trainer import decode, models

BATCH = 64
"""Prompts decoded at once: bounds the memory, the numbers do not depend on it."""


class SamMethod:
    """A SAM behind the method protocol.

    Prompts with the same number of clicks, with or without a box, go through the decoder together; nothing
    is padded, so that each gets the numbers it would get alone from ``SamPredictor``.
    """

    def __init__(self, name: str, sam: Any, *, device: str = "cpu", multimask: str = "auto") -> None:
        self.name = name
        self._sam = sam.to(device).eval()
        self._multimask = multimask

    def accepts(self, setting: str) -> bool:
        return True

    def encode(self, image: NDArray[np.uint8]) -> decode.Embedding:
        return decode.encode_image(self._sam, image)

    def predict(self, encoded: decode.Embedding, prompts: Sequence[Prompt]) -> list[Predicted]:
        found: dict[int, Predicted] = {}
        for rows in batches(prompts, BATCH):
            found.update(zip(rows, self._decode(encoded, [prompts[row] for row in rows]), strict=True))
        return [found[row] for row in range(len(prompts))]

    def _decode(self, encoded: decode.Embedding, prompts: Sequence[Prompt]) -> list[Predicted]:
        first = prompts[0]
        clicks = len(first.points) > 0
        result = decode.predict(
            self._sam,
            encoded,
            points=np.stack([prompt.points for prompt in prompts]) if clicks else None,
            labels=np.stack([prompt.labels for prompt in prompts]) if clicks else None,
            boxes=np.stack([prompt.box for prompt in prompts if prompt.box is not None])
            if first.box is not None
            else None,
            logits=torch.stack([prompt.memory for prompt in prompts]) if first.memory is not None else None,
            multimask=wants_multimask(self._multimask, first),
        )
        # The best of several masks is picked before it is brought to the image's size: a third of the work.
        best = result.iou.argmax(1)
        rows = torch.arange(len(prompts), device=best.device)
        result = dataclasses.replace(
            result, low_res=result.low_res[rows, best][:, None], iou=result.iou[rows, best][:, None]
        )
        masks = result.masks()[:, 0]
        return [
            Predicted(masks[row], iou=float(result.iou[row, 0]), memory=result.low_res[row])
            for row in range(len(prompts))
        ]


def batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[int]]:
    """Rows of prompts to decode together: as many clicks each, all with a box and memory or none."""
    alike: dict[tuple[int, bool, bool], list[int]] = {}
    for row, prompt in enumerate(prompts):
        kind = (len(prompt.points), prompt.box is not None, prompt.memory is not None)
        alike.setdefault(kind, []).append(row)
    for rows in alike.values():
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def wants_multimask(choice: str, prompt: Prompt) -> bool:
    """Whether a prompt gets three masks to choose from, see :class:`evaluation.config.EvalConfig`."""
    return choice == "always" or (choice == "auto" and len(prompt.points) == 1 and prompt.box is None)


def open_checkpoint(name: str, checkpoint: str, *, device: str, multimask: str) -> Method:
    """A method from a checkpoint of SAM or SAM 2, or from the word ``tiny`` for the embedded one."""
    from evaluation.methods import sam2

    weights = models.read_weights(checkpoint)
    if sam2.is_sam2(weights):
        return sam2.from_weights(name, weights, device=device, multimask=multimask)
    sam, _ = models.load(checkpoint)
    return SamMethod(name, sam, device=device, multimask=multimask)
