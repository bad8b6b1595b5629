"""What an image's own grey values say of a mask.

The model has learned what objects look like in general. How *this* object differs from *its* surroundings is
in the image itself: the mask, wrong in places only, teaches two likelihoods, of the object's grey values and
of those around it, and every pixel is asked which explains it better. Added to the mask's log-odds this is
Bayes' rule with the model as the prior. Then pixels that look alike and lie side by side agree, and the
mended mask teaches again. GrabCut [1]_ does all this with a box as the prior and colours alone. Here the
agreement is the mean field of a random field as in [2]_, its messages passed by a guided filter [3]_.

References
----------
.. [1] C. Rother, V. Kolmogorov, A. Blake, "GrabCut: interactive foreground extraction using iterated graph
   cuts", ACM Transactions on Graphics (2004).
.. [2] P. Krähenbühl, V. Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials",
   NeurIPS (2011).
.. [3] K. He, J. Sun, X. Tang, "Guided image filtering", IEEE Transactions on Pattern Analysis and Machine
   Intelligence (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from synthfm.data.distance import bounds


@dataclass(frozen=True)
class GreyValues:
    """How a mask asks its image.

    Attributes
    ----------
    reach
        How far around a mask pixels are asked, over the square root of its area.
    histogram, texture
        Weights of the two log-likelihood ratios. Below 1, since neighbouring pixels say the same again.
    limit
        Largest absolute value of either ratio: no grey value overrules a mask that is sure.
    bins
        Of the histograms.
    scales
        Standard deviations of the Gaussians that the image is smoothed with, over the square root of the
        area.
    grain
        The same, of the window in which the local standard deviation is taken.
    ridge
        Added to the variances, of features scaled to variance 1.
    agreement
        Largest change of a pixel's logit by its neighbours.
    window
        Standard deviation of the neighbours' window, over the square root of the area.
    contrast
        The variance at which grey values tell neighbours apart, over that of the pixels asked.
    rounds
        How often the mask teaches the likelihoods and neighbours are asked.
    side
        Longest side in pixels of what is asked, shrunk if it is larger.
    """

    reach: float = 0.3
    histogram: float = 0.6
    texture: float = 0.5
    limit: float = 3.0
    bins: int = 32
    scales: tuple[float, ...] = (0.02, 0.05, 0.1)
    grain: float = 0.04
    ridge: float = 0.05
    agreement: float = 4.0
    window: float = 0.02
    contrast: float = 0.2
    rounds: int = 3
    side: int = 128


SHIPPED = GreyValues()


def refine(logits: Tensor, image: NDArray[np.uint8], settings: GreyValues = SHIPPED) -> Tensor:
    """A mask's logits (H, W) with the :func:`log_odds` of its image, uint8 (H, W) or (H, W, C), added.

    Where there is no mask, or nothing but the mask, they stay as they are.
    """
    mask = (logits > 0).cpu().numpy()
    if not mask.any():
        return logits
    margin = math.ceil(2 * settings.reach * math.sqrt(np.count_nonzero(mask)))
    x0, y0, x1, y1 = bounds(mask).tolist()
    part = (slice(max(y0 - margin, 0), y1 + margin), slice(max(x0 - margin, 0), x1 + margin))
    grey = as_grey(image[part])
    scale = min(settings.side / max(grey.shape), 1)
    height, width = (max(round(scale * side), 1) for side in grey.shape)
    planes = (logits[part].detach().float().cpu(), torch.from_numpy(grey))
    prior, shown = (resized(plane, (height, width)).numpy() for plane in planes)
    added = resized(torch.from_numpy(log_odds(prior, shown, settings)), grey.shape)
    refined = logits.clone()
    refined[part] += added.to(logits.device)
    return refined


def as_grey(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values, float32 (H, W), of an image, uint8 (H, W) or (H, W, C): the mean of its channels."""
    return image.astype(np.float32) if image.ndim == 2 else image.mean(2, dtype=np.float32)


def expected_iou(logits: Tensor) -> float:
    """Expected intersection over expected union of a mask, logits (...), with the object that it means.

    Each pixel is the object's with the chance that its logit says, so that this is low where the image leaves
    the outline open. 0 where there is no mask.

    >>> round(expected_iou(torch.tensor([1.1, -1.1, -1.1])), 2)  # chances of 0.75, 0.25 and 0.25
    0.5
    """
    chance, mask = torch.sigmoid(logits.detach().float()), logits > 0
    if not mask.any():
        return 0.0
    return float((chance * mask).sum() / torch.maximum(chance, mask.float()).sum())


def log_odds(
    logits: NDArray[np.floating], image: NDArray[np.floating], settings: GreyValues = SHIPPED
) -> NDArray[np.float32]:
    """What the grey values add to a mask's logits.

    Parameters
    ----------
    logits
        (H, W), the mask's log-odds.
    image
        (H, W), grey values of any unit.

    Returns
    -------
    NDArray
        float32 (H, W), the log-likelihood ratio of object to surroundings and the neighbours' agreement; 0
        farther than `reach` from the mask, and everywhere if nothing lies there but the mask, or the
        mask is empty.
    """
    mask = logits > 0
    count = np.count_nonzero(mask)
    size = math.sqrt(count)
    near = ndimage.distance_transform_edt(~mask) < settings.reach * size
    added = np.zeros(logits.shape, np.float32)
    if np.count_nonzero(near) == count:
        return added
    grey = image.astype(np.float32)
    grey = (grey - grey[near].mean()) / (grey[near].std() + np.float32(1e-3))
    bins = _bins(grey[near], settings.bins)
    features = _scaled(_features(grey, size, settings)[:, near])
    agreed = np.zeros(near.sum(), np.float32)
    for _ in range(settings.rounds):
        chance = expit((logits + added)[near])
        ratio = settings.histogram * _by_grey_value(bins, chance, settings)
        ratio += settings.texture * _by_texture(features, chance, settings)
        added[near] = ratio + agreed
        smooth = _guided(expit(logits + added), grey, max(settings.window * size, 1), settings.contrast)
        agreed = settings.agreement * (2 * smooth[near] - 1)
        added[near] = ratio + agreed
    return added


def _bins(values: NDArray, count: int) -> NDArray[np.intp]:
    """Bins (N,) of grey values (N,), a few of the lowest and the highest in the first and the last."""
    low, high = np.percentile(values, [0.5, 99.5])
    step = np.maximum(high - low, np.finfo(np.float32).tiny) / count
    return np.clip((values - low) / step, 0, count - 1).astype(np.intp)


def _by_grey_value(bins: NDArray[np.intp], chance: NDArray, settings: GreyValues) -> NDArray:
    """Log-likelihood ratios (N,) of grey values in bins (N,) by smoothed histograms, given chances (N,)."""
    of_each = []
    for weights in (chance, 1 - chance):
        counts = ndimage.gaussian_filter1d(np.bincount(bins, weights, settings.bins), 1.5)
        of_each.append(counts / counts.sum() + 0.002)
    return np.clip(np.log(of_each[0] / of_each[1]), -settings.limit, settings.limit)[bins]


def _features(grey: NDArray, size: float, settings: GreyValues) -> NDArray:
    """(D, H, W): grey values, smoothed at each scale, and their local standard deviation."""
    smooth = [_gaussian(grey, max(scale * size, 0.7)) for scale in settings.scales]
    grain = max(settings.grain * size, 1)
    mean = _gaussian(grey, grain)
    spread = np.sqrt(np.maximum(_gaussian(grey * grey, grain) - mean * mean, 0))
    return np.stack([grey, *smooth, spread])


def _scaled(features: NDArray) -> NDArray:
    """Features (D, N) with mean 0 and variance 1."""
    centred = features - features.mean(1, keepdims=True, dtype=np.float64)
    return centred / (centred.std(1, keepdims=True) + 1e-3)


def _by_texture(features: NDArray, chance: NDArray, settings: GreyValues) -> NDArray:
    """Log-likelihood ratios (N,) of features (D, N) by a normal distribution each, given chances (N,)."""
    first, second = (
        _log_normal(features, weights + 1e-4, settings.ridge) for weights in (chance, 1 - chance)
    )
    return np.clip(first - second, -settings.limit, settings.limit)


def _log_normal(features: NDArray, weights: NDArray, ridge: float) -> NDArray:
    """Log-densities (N,), but for a constant, of features (D, N) under the normal that weights (N,) fit."""
    weights = weights / weights.sum()
    centred = features - (features @ weights)[:, None]
    covariance = (weights * centred) @ centred.T + ridge * np.eye(len(features))
    distance = (centred * (np.linalg.inv(covariance) @ centred)).sum(0)
    return -0.5 * (distance + np.linalg.slogdet(covariance)[1])


def _guided(chance: NDArray, grey: NDArray, sigma: float, contrast: float) -> NDArray:
    """Chances (H, W) smoothed with Gaussian windows, but not across the edges of the grey values (H, W)."""
    mean, grey_mean = _gaussian(chance, sigma), _gaussian(grey, sigma)
    slope = _gaussian(grey * chance, sigma) - grey_mean * mean
    slope /= _gaussian(grey * grey, sigma) - grey_mean**2 + contrast
    return np.clip(_gaussian(slope, sigma) * grey + _gaussian(mean - slope * grey_mean, sigma), 0, 1)


def _gaussian(image: NDArray, sigma: float) -> NDArray:
    return ndimage.gaussian_filter(image, sigma, truncate=3)


def resized(planes: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Planes (..., H, W) brought to another shape, bilinearly, without aliases where they shrink."""
    flat = planes.reshape(-1, 1, *planes.shape[-2:])
    found = F.interpolate(flat, shape, mode="bilinear", align_corners=False, antialias=True)
    return found.view(*planes.shape[:-2], *shape)
