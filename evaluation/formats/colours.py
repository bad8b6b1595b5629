"""Colours of an image or of a mask, to one value a pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.volume import Unreadable

Colours = Literal["any", "refuse", "number"]
"""What a mask's colours are: the largest channel, an error, or numbers 0xRRGGBB (those of a palette too)."""


def grey(array: NDArray, mask: bool, colours: Colours = "any") -> NDArray:
    """Colours (..., C) to one value without alpha.

    Luminance (ITU-R BT.601) of an image, of a mask what `colours` says.
    """
    channels = [array[..., k] for k in range(1 if array.shape[-1] == 2 else min(3, array.shape[-1]))]
    if mask and colours == "number":
        return _colour_numbers(channels)
    if all(np.array_equal(channels[0], other) for other in channels[1:]):
        return np.ascontiguousarray(channels[0])
    if mask and colours == "refuse":
        found = np.unique(_colour_numbers(channels))
        raise Unreadable(f'holds colours, {colour_names(found)}; give colours as labels: "#ff0000"')
    if mask:
        return np.maximum.reduce(channels)
    grey = sum(weight * channel for weight, channel in zip((0.299, 0.587, 0.114), channels, strict=True))
    return np.rint(grey).astype(array.dtype) if array.dtype.kind in "ui" else np.asarray(grey)


def _colour_numbers(channels: list[NDArray]) -> NDArray[np.int32]:
    """One or three channels to numbers 0xRRGGBB."""
    if channels[0].dtype == bool:
        channels = [channel * np.uint8(255) for channel in channels]
    if channels[0].dtype != np.uint8:
        raise Unreadable(f"holds colours of {channels[0].dtype}, expected 8 bits a channel")
    red, green, blue = (channel.astype(np.int32) for channel in channels * (3 // len(channels)))
    return red << 16 | green << 8 | blue


def colour_names(numbers: NDArray, most: int = 6) -> str:
    """The first colours of a list as people write them.

    >>> colour_names(np.array([0, 0xFF8000]))
    '#000000, #ff8000'
    """
    return ", ".join(f"#{number:06x}" for number in numbers[:most]) + (", ..." if len(numbers) > most else "")
