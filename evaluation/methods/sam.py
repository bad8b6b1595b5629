"""SAM-format checkpoints: SynthFM, SAM, MobileSAM, `tiny`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.console import InputError
from evaluation.methods import Method, Predicted, Unavailable
from evaluation.prompting import Prompt
from trainer import checkpoints, look, models
from trainer.second_look import look_again

BATCH = 64
"""Prompts decoded at once: bounds the memory, the numbers do not depend on it."""


Encoded = tuple[NDArray[np.uint8], look.Embedding]
"""An image and what the encoder made of it: a second look needs both."""


class SamMethod:
    """A SAM behind the method protocol.

    Prompts go through the decoder together, whatever their clicks and boxes, and each gets the numbers it
    would get alone from ``SamPredictor``. With `zoom` each then gets a second look: :mod:`trainer.second_look`.
    """

    def __init__(
        self, name: str, sam: Any, *, device: str = "cpu", multimask: str = "auto", zoom: bool = False
    ) -> None:
        self.name = name
        self._sam = sam.to(device).eval()
        self._multimask = multimask
        self._zoom = zoom

    def accepts(self, setting: str) -> bool:
        return True

    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        return image, look.encode_image(self._sam, image)

    def predict(self, encoded: Encoded, prompts: Sequence[Prompt]) -> list[Predicted]:
        found: dict[int, Predicted] = {}
        for rows in batches(prompts, BATCH, _has_memory):
            found.update(zip(rows, self._decode(encoded, [prompts[row] for row in rows]), strict=True))
        return [found[row] for row in range(len(prompts))]

    def _decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> list[Predicted]:
        image, embedding = encoded
        coords, kinds = look.pack_points(
            [prompt.points for prompt in prompts],
            [prompt.labels for prompt in prompts],
            [prompt.box for prompt in prompts],
        )
        memory = [prompt.memory for prompt in prompts if prompt.memory is not None]
        if self._zoom:
            memory = [look.low_res for look in memory]
        result = look.predict_points(
            self._sam, embedding, coords, kinds, torch.stack(memory) if memory else None
        )
        # The best of several masks is picked before it is brought to the image's size: a third of the work.
        several = torch.tensor([wants_multimask(self._multimask, prompt) for prompt in prompts])
        best = result.best(several)
        if self._zoom:
            looks = [
                look_again(
                    self._sam,
                    image,
                    best[row : row + 1],
                    coords[row],
                    kinds[row],
                    several=bool(several[row]),
                    memory=prompt.memory,
                )
                for row, prompt in enumerate(prompts)
            ]
            return [Predicted(look.mask, look.iou, look) for look in looks]
        return _predicted(best)

    def alternatives(self, encoded: Encoded, prompt: Prompt) -> list[Predicted]:
        """SAM's three masks for one click, in its order, each looked at again if the method looks twice."""
        image, embedding = encoded
        coords, kinds = decode.pack_points([prompt.points], [prompt.labels], [prompt.box])
        result = decode.predict_points(self._sam, embedding, coords, kinds)
        found = []
        for k in range(1, result.iou.shape[1]):
            one = replace(result, low_res=result.low_res[:, k : k + 1], iou=result.iou[:, k : k + 1])
            if self._zoom:
                look = look_again(self._sam, image, one, coords[0], kinds[0], several=True)
                found.append(Predicted(look.mask, look.iou, look))
            else:
                found += _predicted(one)
        return found


def _predicted(found: decode.Prediction) -> list[Predicted]:
    """The one mask of each prompt."""
    rows = zip(found.masks()[:, 0], found.iou[:, 0].tolist(), found.low_res, strict=True)
    return [Predicted(mask, iou=iou, memory=low_res) for mask, iou, low_res in rows]


def _has_memory(prompt: Prompt) -> bool:
    return prompt.memory is not None


def batches(prompts: Sequence[Prompt], size: int, kind: Callable[[Prompt], Hashable]) -> Iterator[list[int]]:
    """Rows of prompts to decode together: of one kind, and no more than `size`."""
    alike: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(prompts):
        alike.setdefault(kind(prompt), []).append(row)
    for rows in alike.values():
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def wants_multimask(choice: str, prompt: Prompt) -> bool:
    """Whether a prompt gets three masks to choose from, see :class:`evaluation.config.EvalConfig`."""
    return choice == "always" or (choice == "auto" and look.is_ambiguous(prompt.points, prompt.box))


def open_checkpoint(name: str, checkpoint: str, *, device: str, multimask: str, zoom: bool = False) -> Method:
    """A method from a checkpoint of SAM or SAM 2, or from the word ``tiny`` for the embedded one.

    Parameters
    ----------
    zoom
        Whether it looks twice, see :mod:`trainer.second_look`.

    Raises
    ------
    Unavailable
        If the package of its encoder is not installed.
    InputError
        If the file is not such a checkpoint, or one of SAM 2 is to look twice.
    """
    from evaluation.methods import sam2

    weights = checkpoints.read_weights(checkpoint)
    if sam2.is_sam2(weights):
        if zoom:
            raise InputError(f"zoom:{checkpoint}: a SAM 2 checkpoint; zoom takes those of SAM's format")
        return sam2.from_weights(name, weights, device=device, multimask=multimask)
    if models.identify(weights) == "mobile_sam" and not all(map(find_spec, ("mobile_sam", "timm"))):
        raise Unavailable("a MobileSAM checkpoint needs its package: pip install 'synthfm[mobile]'")
    sam, _ = models.load(checkpoint)
    return SamMethod(name, sam, device=device, multimask=multimask, zoom=zoom)
