"""What the pixels look like that many clicks mark, and which others look so.

Strokes on a vessel and beside it say more than where it runs: what a vessel's pixels look like here, and what
others do. A logistic regression on features of each pixel learns that, as interactive pixel classification
does [1]_, and its log-odds are added to the model's. How much they weigh is measured: the clicks that the
model's first answer has not been asked with are held out from the one, and, by cross-validation, from the
other.

References
----------
.. [1] S. Berg et al., "ilastik: interactive machine learning for (bio)image analysis", Nature Methods (2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from synthfm.data.prompts import SomePrompt
from synthfm.trainer.model.grey_values import as_grey, resized


@dataclass(frozen=True)
class PixelClassifier:
    """How clicked pixels are learned from.

    Attributes
    ----------
    scales
        Standard deviations of the Gaussians under the features, in pixels of an image of 256.
    ridge
        Weight of the squared coefficients, of features scaled to variance 1.
    limit, surest
        Largest absolute values of a pixel's log-odds, and of the model's logits beside them.
    folds
        Of the cross-validation.
    weight, doubt
        What the log-odds weigh where the clicks held out do not say, and how much it takes to say so: the
        weight is the one of most likelihood under a normal prior of this mean and precision.
    heaviest
        The largest weight.
    reach
        How far from the mask, and from clicks on the object, a pixel may join it, over the square root of
        the mask's area.
    side
        Longest side in pixels of what is classified, shrunk if it is larger.
    """

    scales: tuple[float, ...] = (0.7, 1.5, 3.0, 6.0)
    ridge: float = 0.3
    limit: float = 4.0
    surest: float = 6.0
    folds: int = 5
    weight: float = 1.5
    doubt: float = 2.0
    heaviest: float = 4.0
    reach: float = 0.1
    side: int = 512


SHIPPED = PixelClassifier()


def refine(
    logits: Tensor,
    image: NDArray[np.uint8],
    prompt: SomePrompt,
    first: Tensor,
    said: NDArray[np.bool_],
    settings: PixelClassifier = SHIPPED,
) -> Tensor:
    """A mask's logits (H, W) with the log-odds of what its prompt's clicks mark added.

    Parameters
    ----------
    image
        uint8 (H, W) or (H, W, C).
    prompt
        With all of its clicks.
    first, said
        The logits (H, W) of an answer to some of the clicks, and to which, (N,). Where the others are not of
        both kinds, `logits` stay as they are.
    """
    held_out, inside = ~said, prompt.labels == 1
    if len(set(inside[held_out].tolist())) < 2 or not (logits > 0).any():
        return logits
    height, width = logits.shape
    scale = min(settings.side / max(height, width), 1)
    small = (max(round(scale * height), 1), max(round(scale * width), 1))
    rows, columns = np.clip(np.round(prompt.points[:, ::-1]).astype(np.int64), 0, [height - 1, width - 1]).T
    at = (rows * small[0] // height, columns * small[1] // width)
    features = _features(resized(torch.from_numpy(as_grey(image)), small).numpy(), settings)
    marked = features[:, at[0], at[1]].T
    weight = _weight(
        first.detach().cpu().numpy()[rows, columns][held_out],
        _cross_validated(marked, inside, settings)[held_out],
        inside[held_out],
        settings,
    )
    if not weight:
        return logits
    coefficients = _fitted(marked, inside, settings)
    ratio = _log_odds(np.moveaxis(features, 0, -1), coefficients, settings).astype(np.float32)
    added = weight * resized(torch.from_numpy(ratio), (height, width))
    near = (logits > 0).cpu().numpy()
    reach = settings.reach * math.sqrt(np.count_nonzero(near))
    near[rows[inside], columns[inside]] = True
    near = scipy.ndimage.distance_transform_edt(~near) < reach
    added = torch.where(torch.from_numpy(near), added, added.clamp(max=0)).to(logits.device)
    return logits.clamp(-settings.surest, settings.surest) + added


def _features(grey: NDArray[np.float32], settings: PixelClassifier) -> NDArray[np.float32]:
    """(D, H, W) of mean 0 and variance 1: at each scale the grey value, its slope and the two curvatures."""
    unit = max(grey.shape) / 256
    planes = [grey]
    for sigma in settings.scales:
        width = max(sigma * unit, 0.5)
        smooth = scipy.ndimage.gaussian_filter(grey, width, truncate=3)
        down, along = np.gradient(smooth) if min(grey.shape) > 1 else (np.zeros_like(grey),) * 2
        planes += [smooth, np.hypot(down, along)]
        planes += _curvatures(down, along) if min(grey.shape) > 1 else []
    found = np.stack(planes)
    found -= found.mean((1, 2), keepdims=True)
    found /= found.std((1, 2), keepdims=True) + np.float32(1e-3)
    return np.clip(found, -4, 4)


def _curvatures(down: NDArray, along: NDArray) -> list[NDArray]:
    """The larger and the smaller eigenvalue of the Hessian, from the two slopes."""
    (yy, xy), xx = np.gradient(down), np.gradient(along)[1]
    middle, apart = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    return [middle + apart, middle - apart]


def _log_odds(features: NDArray, coefficients: NDArray, settings: PixelClassifier) -> NDArray:
    """Of features (..., D) by coefficients (D + 1,), the last one the intercept."""
    return np.clip(features @ coefficients[:-1] + coefficients[-1], -settings.limit, settings.limit)


def _fitted(features: NDArray, inside: NDArray[np.bool_], settings: PixelClassifier) -> NDArray[np.float64]:
    """Coefficients (D + 1,) of a logistic regression: features (N, D), both kinds of equal weight in all."""
    known = np.c_[features, np.ones(len(features))].astype(float)
    wanted = inside.astype(float)
    shares = _balanced(inside)
    ridge = np.full(known.shape[1], settings.ridge)
    ridge[-1] = 0.01

    def loss(coefficients: NDArray) -> tuple[float, NDArray]:
        odds = known @ coefficients
        value = shares @ (np.logaddexp(0, odds) - wanted * odds) + 0.5 * ridge @ coefficients**2
        return value, known.T @ (shares * (expit(odds) - wanted)) + ridge * coefficients

    return scipy.optimize.minimize(loss, np.zeros(len(ridge)), jac=True, method="L-BFGS-B").x


def _balanced(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights (N,), 1 in the mean, that give both kinds the same."""
    counts = np.where(inside, inside.sum(), (~inside).sum())
    return len(inside) / (2 * counts)


def _cross_validated(
    features: NDArray, inside: NDArray[np.bool_], settings: PixelClassifier
) -> NDArray[np.float64]:
    """The log-odds (N,) of each click by what the others teach; 0 where those are of one kind.

    Clicks that follow one another are of one stroke, and held out together.
    """
    fold = np.zeros(len(inside), np.int64)
    for kind in (inside, ~inside):
        fold[kind] = np.arange(kind.sum()) * settings.folds // max(kind.sum(), 1)
    found = np.zeros(len(inside))
    for number in range(settings.folds):
        out = fold == number
        if len(set(inside[~out].tolist())) == 2:
            found[out] = _log_odds(features[out], _fitted(features[~out], inside[~out], settings), settings)
    return found


def _weight(
    first: NDArray, classified: NDArray, inside: NDArray[np.bool_], settings: PixelClassifier
) -> float:
    """What weight added to the model's logits (N,) the log-odds (N,) explain clicks best with."""
    first = np.clip(first, -settings.surest, settings.surest)
    sign, shares = np.where(inside, 1.0, -1.0), _balanced(inside)
    weights = np.arange(0, settings.heaviest + 0.01, 0.25)
    wrong = np.logaddexp(0, -sign * (first + weights[:, None] * classified)) @ shares
    return float(weights[np.argmin(wrong + 0.5 * settings.doubt * (weights - settings.weight) ** 2)])
