"""A mask in an eighth of its memory, and what can be told of it without unpacking it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1)
"""Bits that are set in each byte."""


@dataclass(frozen=True)
class Bits:
    """A mask, bool (H, W), eight pixels a byte.

    >>> bits = Bits.of(np.array([[True, False, True], [False, False, True]]))
    >>> bits.count, bits.line("row", 0).tolist(), bits.line("column", 2).tolist()
    (3, [True, False, True], [True, True])
    """

    shape: tuple[int, int]
    packed: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: Mask) -> Bits:
        return cls((mask.shape[0], mask.shape[1]), np.packbits(mask))

    @property
    def mask(self) -> Mask:
        count = self.shape[0] * self.shape[1]
        return np.unpackbits(self.packed, count=count).view(bool).reshape(self.shape)

    @cached_property
    def count(self) -> int:
        """How many pixels it has."""
        return int(_ONES[self.packed].sum())

    def line(self, axis: Literal["row", "column"], at: int) -> Mask:
        """One of its rows, bool (W,), or columns, bool (H,), without unpacking the others."""
        height, width = self.shape
        pixels = at * width + np.arange(width) if axis == "row" else np.arange(height) * width + at
        return (self.packed[pixels >> 3] >> (7 - (pixels & 7)).astype(np.uint8) & 1).astype(bool)

    def without(self, other: Bits) -> Bits:
        """What of it is not in another mask."""
        return Bits(self.shape, self.packed & ~other.packed)
