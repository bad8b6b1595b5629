"""What a box says of a mask that is nearly the ellipse in it.

A box that somebody drew touches its object on all four sides [1]_. A mask that comes close to all of them and
to the ellipse between them, but does not keep to the sides, has its outline a little off: the edge that it
follows is not the one that was meant, as of a skull whose inner edge is the brighter one. Most that is round
in a picture of the body is an ellipse to a few per cent, so the ellipse that touches the box, leaning as the
mask does, is added to the mask's log-odds as a prior, before the image's grey values are asked
(:mod:`synthfm.trainer.model.grey_values`). A mask that keeps to the sides of its box stays as it is, whatever
its shape, and so does one that is far from them: its box is a loose one.

References
----------
.. [1] V. Lempitsky, P. Kohli, C. Rother, T. Sharp, "Image segmentation with a bounding box prior", ICCV
   (2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from synthfm.data.distance import bounds


@dataclass(frozen=True)
class EllipsePrior:
    """When a mask is taken for an ellipse in its box, and how much that says.

    Attributes
    ----------
    off
        How far the mask is off the box's sides in pixels (root mean square): up to the first it keeps to
        them, from the second on it does not.
    like
        Dice of mask and ellipse: from the first on the ellipse counts, from the second on in full.
    weight
        Largest absolute value of what is added to the logits.
    rim
        Over the ellipse's radius, how far from its outline that value is reached.
    lean
        Largest correlation of an ellipse's x and y.
    piece
        A piece of the mask apart from the largest is more than a speck from that share of it on: an object of
        several pieces is no ellipse.
    """

    off: tuple[float, float] = (0.5, 1.5)
    like: tuple[float, float] = (0.92, 0.96)
    weight: float = 16.0
    rim: float = 0.05
    lean: float = 0.9
    piece: float = 0.03


SHIPPED = EllipsePrior()


def log_odds(
    mask: NDArray[np.bool_], box: NDArray[np.floating], settings: EllipsePrior = SHIPPED
) -> NDArray[np.float32] | None:
    """What a box adds to the logits of a mask.

    Parameters
    ----------
    mask
        bool (H, W).
    box
        XYXY, half-open, in pixels.

    Returns
    -------
    NDArray or None
        float32 (H, W), positive in the ellipse; None where the mask is empty or a line, of several pieces,
        keeps to the box or is unlike the ellipse, and where the box ends with the image, as the object may
        then go on beyond it.
    """
    x0, y0, x1, y1 = (float(side) for side in box)
    if min(x0, y0) <= 0 or x1 >= mask.shape[1] or y1 >= mask.shape[0]:
        return None
    found = bounds(mask)
    if (found[2:] - found[:2] < 2).any():  # what is a line leans no way
        return None
    off = math.sqrt(np.mean((found - box) ** 2))
    most = (1 - settings.like[0]) * max(x1 - x0, y1 - y0)  # farther off, few are like enough
    if not settings.off[0] < off < most:  # most masks
        return None
    radius = _radius(mask, (x0, y0, x1, y1), settings.lean)
    ellipse = radius <= 1
    like = 2 * np.count_nonzero(mask & ellipse) / (np.count_nonzero(mask) + np.count_nonzero(ellipse))
    share = _rising(like, *settings.like) * _rising(off, *settings.off)
    if not share or _several(mask, settings.piece):
        return None
    return (settings.weight * share * np.clip((1 - radius) / settings.rim, -1, 1)).astype(np.float32)


def _several(mask: NDArray[np.bool_], piece: float) -> bool:
    """Whether a mask has a second piece of that share of the largest at least."""
    numbered, count = scipy.ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return False
    second, largest = np.sort(np.bincount(numbered.ravel())[1:])[-2:]
    return bool(second >= piece * largest)


def _rising(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0), 1)


def _radius(
    mask: NDArray[np.bool_], box: tuple[float, float, float, float], most: float
) -> NDArray[np.float64]:
    """(H, W), how far pixels lie from a box's middle: 1 on the ellipse that touches it and leans as a mask.

    Of the ellipses of covariance [[a^2, abc], [abc, b^2]], which touch a box of 2a by 2b, the one whose
    correlation c is that of the mask's pixels, at most `most`.
    """
    x0, y0, x1, y1 = box
    rows, columns = np.nonzero(mask)
    lean = np.clip(np.corrcoef(columns, rows)[0, 1], -most, most)
    x = (np.arange(mask.shape[1]) + 0.5 - (x0 + x1) / 2) / ((x1 - x0) / 2)
    y = ((np.arange(mask.shape[0]) + 0.5 - (y0 + y1) / 2) / ((y1 - y0) / 2))[:, None]
    return np.sqrt((x * x - 2 * lean * x * y + y * y) / (1 - lean * lean))
