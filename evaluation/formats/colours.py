"""Colours of an image or of a mask, to one value a pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.formats.volume import Unreadable

Colours = Literal["shown", "stored", "number"]
"""What a mask's picture is read as: how bright it is shown, for one object; the numbers that are stored (of a
palette, its indices), for labels, where other colours are an error; or numbers 0xRRGGBB."""


def grey(array: NDArray, mask: bool, colours: Colours = "shown") -> NDArray:
    """Colours (..., C), the last of two or four their alpha, to one value.

    Luminance (ITU-R BT.601) of an image, without alpha; of a mask what `colours` says. As it is shown, a mask
    has a black background: what is transparent is black, and a drawing in black on nothing is its alpha.

    Raises
    ------
    Unreadable
        If a mask has colours where numbers are stored, or several and no black among them.
    """
    channels = [array[..., k] for k in range(1 if array.shape[-1] == 2 else min(3, array.shape[-1]))]
    alpha = array[..., -1] if mask and array.shape[-1] in (2, 4) else None
    if alpha is not None and colours != "stored" and alpha.min() < alpha.max():  # one for all says nothing
        channels = [_over_black(channel, alpha) for channel in channels]
        if colours == "shown" and not any(channel.any() for channel in channels):
            return np.ascontiguousarray(alpha)
    if mask and colours == "number":
        return _colour_numbers(channels)
    if all(np.array_equal(channels[0], other) for other in channels[1:]):
        return np.ascontiguousarray(channels[0])
    if mask and colours == "stored":
        found = np.unique(_colour_numbers(channels))
        raise Unreadable(f'holds colours, {colour_names(found)}; give colours as labels: "#ff0000"')
    if mask:
        brightest = np.maximum.reduce(channels)
        if brightest.min() > 0 and any(channel.min() < channel.max() for channel in channels):
            names = colour_names(np.unique(_colour_numbers(channels)))
            raise Unreadable(
                f'holds the colours {names} and no black; say which is the object: labels: "#ff0000"'
            )
        return brightest
    grey = sum(weight * channel for weight, channel in zip((0.299, 0.587, 0.114), channels, strict=True))
    return np.rint(grey).astype(array.dtype) if array.dtype.kind in "ui" else np.asarray(grey)


def _over_black(channel: NDArray, alpha: NDArray) -> NDArray:
    """A channel as it is shown in front of black."""
    opaque = 1.0 if channel.dtype.kind == "f" else np.iinfo(channel.dtype).max
    return np.rint(channel * (alpha / opaque)).astype(channel.dtype)


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
