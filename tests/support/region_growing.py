"""A segmenter that is no network: region growing from a prompt, for tests of those who ask one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm.data.prompts import Prompt


@dataclass(frozen=True)
class Grown:
    mask: NDArray[np.bool_]
    iou: float


class RegionGrowing:
    """All that is nearly as bright as what the prompt is on, and connected to it, in the box.

    Not around clicks on the background; with a previous answer or a mask, what hangs together with that.
    """

    def __init__(self) -> None:
        self.encoded: list[NDArray] = []
        self.asked: list[tuple[Prompt, Any]] = []

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.encoded.append(image)
        return image

    def predict(self, encoding: NDArray, prompts: Sequence[Prompt], previous: Any = None) -> list[Grown]:
        before = [None] * len(prompts) if previous is None else previous
        self.asked += zip(prompts, before, strict=True)
        return [self._grow(encoding, *pair) for pair in zip(prompts, before, strict=True)]

    def _grow(self, image: NDArray, prompt: Prompt, previous: Grown | None) -> Grown:
        grey = image.astype(float) if image.ndim == 2 else image.mean(2)
        inside = np.ones(grey.shape, bool)
        if prompt.box is not None:
            x0, y0, x1, y1 = np.rint(prompt.box).astype(int)
            inside[:] = False
            inside[y0:y1, x0:x1] = True
        seeds = np.zeros(grey.shape, bool)
        if len(prompt.positives):
            x, y = np.rint(prompt.positives).astype(int).T
            seeds[y, x] = True
        elif prompt.box is not None:
            seeds[(y0 + y1) // 2, (x0 + x1) // 2] = True
        elif previous is not None or prompt.mask is not None:
            seeds |= previous.mask if previous is not None else prompt.mask > 0
        middle = np.median(grey[seeds]) if seeds.any() else np.nan
        alike = inside & (np.abs(grey - middle) < 20)
        numbered, _ = ndimage.label(alike)
        mask = np.isin(numbered, np.setdiff1d(numbered[seeds], 0))
        for x, y in np.rint(prompt.negatives).astype(int):
            mask[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = False
        return Grown(mask, 0.9 if mask.any() else 0.0)


def ellipsoid(
    count: int = 24, side: int = 48, *, first: int = 5, last: int = 17, tilt: float = 0.3
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A bright ellipsoid in slices `first` to `last` of a darker volume, and its mask."""
    z, y, x = np.indices((count, side, side), dtype=float)
    middle, half = (first + last) / 2, (last - first) / 2 + 0.5
    drift = tilt * (z - middle)
    mask = ((z - middle) / half) ** 2 + ((y - 24) / 13) ** 2 + ((x - 22 - drift) / 10) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 4, mask.shape)
    return np.clip(np.where(mask, 170, 90) + noise, 0, 255).astype(np.uint8), mask
