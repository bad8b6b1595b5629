"""What masks have taught of an object's grey values, and what that says of other pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm.data.distance import bounds
from synthfm.trainer.model.grey_values import as_grey

Mask = NDArray[np.bool_]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class LikelihoodRatio:
    """What masks have taught of an object's grey values and of those around it.

    Attributes
    ----------
    inside, outside
        Histograms (FEATURES, BINS), each with sum 1, of the grey values and of the smoothed ones.
    size
        Square root of the object's area in the anchor, pixels: the scale of what is smoothed.
    """

    inside: NDArray[np.float64]
    outside: NDArray[np.float64]
    size: float

    @classmethod
    def of(cls, image: Image, mask: Mask) -> LikelihoodRatio:
        """What a mask, not empty, teaches in its slice."""
        size = math.sqrt(np.count_nonzero(mask))
        return cls(*_histograms(image, mask, size), size)

    def and_of(self, image: Image, mask: Mask, share: float) -> LikelihoodRatio:
        """The same, and of one more slice with a share."""
        inside, outside = _histograms(image, mask, self.size)
        return LikelihoodRatio(
            (1 - share) * self.inside + share * inside,
            (1 - share) * self.outside + share * outside,
            self.size,
        )

    def ratio(self, image: Image) -> NDArray[np.float32]:
        """Log-likelihood ratio of object to surroundings of each pixel, float32 (H, W)."""
        table = self._table()
        rows = [line[_bins(plane)] for line, plane in zip(table, _features(image, self.size), strict=True)]
        return np.mean(rows, axis=0, dtype=np.float32)

    def presence(self, image: Image, mask: Mask) -> float:
        """Mean ratio of a mask's grey values over what it is for the object itself: about 1 where the object
        is, below 0 where the grey values are rather those of its surroundings.
        """
        table = self._table()
        expected = float((self.inside * table).sum())
        inside, _ = _histograms(image, mask, self.size)
        return float((inside * table).sum()) / expected if expected > 0.1 else 1.0

    def _table(self) -> NDArray[np.float64]:
        return np.clip(np.log((self.inside + RARE) / (self.outside + RARE)), -LIMIT, LIMIT)


BINS = 32
REACH = 0.3
"""How far around an object what surrounds it is looked at, over the square root of its area."""
RARE = 0.002
"""Added to the shares of a histogram's bins."""
LIMIT = 3.0
"""Largest log-likelihood ratio of a pixel."""
BLUR = 0.05
"""Standard deviation of the smoothed grey values, over the square root of the area."""


def _features(image: Image, size: float) -> list[NDArray[np.float32]]:
    grey = as_grey(image)
    return [grey, ndimage.gaussian_filter(grey, max(BLUR * size, 0.8))]


def _bins(values: NDArray) -> NDArray[np.intp]:
    return np.clip(values * (BINS / 256), 0, BINS - 1).astype(np.intp)


def _histograms(image: Image, mask: Mask, size: float) -> tuple[NDArray, NDArray]:
    """Of a mask and of what surrounds it, (FEATURES, BINS) each."""
    reach = max(math.ceil(REACH * math.sqrt(np.count_nonzero(mask))), 3)
    x0, y0, x1, y1 = bounds(mask).tolist()
    part = np.s_[max(y0 - reach, 0) : y1 + reach, max(x0 - reach, 0) : x1 + reach]
    planes, mask = _features(image[part], size), mask[part]
    around = (ndimage.distance_transform_edt(~mask) <= reach) & ~mask
    return (
        np.stack([_histogram(plane[mask]) for plane in planes]),
        np.stack([_histogram(plane[around]) for plane in planes]),
    )


def _histogram(values: NDArray) -> NDArray[np.float64]:
    counts = np.bincount(_bins(values), minlength=BINS).astype(float)
    smooth = ndimage.gaussian_filter1d(counts, 1.0)
    return smooth / max(smooth.sum(), 1e-9)
