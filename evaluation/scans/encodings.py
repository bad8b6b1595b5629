"""A model that is asked of slices, and what it has encoded of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synthfm.data.prompts import Prompt
from synthfm.trainer.model.next_slice import Answer

Image = NDArray[np.uint8]

MEMORY = 256 * 2**20
"""Bytes that the encodings of seen slices may take."""


class Segmenter(Protocol):
    """A model that is asked: an image is encoded once, then prompts of it are answered."""

    def encode(self, image: Image) -> Any:
        """Encode uint8 (H, W) or (H, W, 3)."""

    def predict(self, encoding: Any, prompts: Sequence[Prompt], previous: Any = None) -> Sequence[Answer]:
        """One answer a prompt; `previous` has the answers that clicks correct, None where there is none."""


class Encodings:
    """Encodings of slices, at most `memory` bytes of them: those not asked for the longest go first."""

    def __init__(self, slices: Sequence[Image], segmenter: Segmenter, memory: int = MEMORY) -> None:
        self._slices, self._segmenter, self._memory = slices, segmenter, memory
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self.bytes = 0

    def __getitem__(self, number: int) -> Any:
        if number not in self._kept:
            encoding = self._segmenter.encode(self._slices[number])
            self._kept[number] = encoding
            self.bytes += size_of(encoding)
            while self.bytes > self._memory and len(self._kept) > 1:
                self.bytes -= size_of(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(number)
        return self._kept[number]

    def __contains__(self, number: int) -> bool:
        return number in self._kept

    def clear(self) -> None:
        """Let all go; they are made again when they are asked for."""
        self._kept.clear()
        self.bytes = 0


def size_of(encoding: Any) -> int:
    """Bytes of the arrays that an encoding is, or holds as attributes."""
    parts = [encoding, *getattr(encoding, "__dict__", {}).values()]
    return sum(int(getattr(part, "nbytes", 0)) for part in parts)
