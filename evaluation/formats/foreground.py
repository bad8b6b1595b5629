"""Which values of a mask are the object.

One rule for every mask of one structure, whatever its format, of a dataset, of another system (`masks:`) and
of a person: black, 0, is the background and all above it is the object, as the picture is *shown* (of a
palette the colours, MINISWHITE turned, what is transparent is black). What holds no more than two values is
divided between them: the larger one is the object. Of more than two (from a JPEG, smoothed edges,
probabilities) the object is what is above half of the scale, 0 to 1, 255 or 65535, if the values reach so
far, and else, as of numbered objects, what is above 0.
"""

from __future__ import annotations

from typing import NamedTuple

from numpy.typing import NDArray


class Threshold(NamedTuple):
    """The value above which a mask is the object, and what a person should be told of it, or None."""

    value: float
    doubt: str | None


def threshold_of(values: NDArray) -> Threshold:
    """The threshold of a mask's values, see the module; without NaN, of any real type.

    >>> import numpy as np
    >>> threshold_of(np.array([0, 255])), threshold_of(np.array([3, 250])).value
    (Threshold(value=0.0, doubt=None), 3.0)
    >>> threshold_of(np.array([0, 4, 130, 255])).value, threshold_of(np.array([0, 1, 2])).value
    (127.0, 0.0)
    """
    if values.dtype == bool or not values.size:
        return Threshold(0.0, None)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Threshold(0.0, None)
    if ((values == low) | (values == high)).all():
        doubt = f"holds the values {low:g} and {high:g}, none of them 0: {high:g} is taken for the object"
        return Threshold(max(low, 0.0), doubt if low > 0 else None)
    scale = 1 if high <= 1 else 255 if high <= 255 else 65535
    half = 0.5 if scale == 1 else scale // 2
    value = float(half) if low >= 0 and half < high <= scale else 0.0
    doubt = (
        f"holds more than two values, {low:g} to {high:g}: what is above {value:g} is taken for the object"
    )
    return Threshold(value, doubt)
