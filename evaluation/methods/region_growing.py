"""Confidence-connected region growing from the positive clicks, or from the middle of the box.

Starting from the grey values within three pixels of the seeds, the region is all pixels connected to a seed
whose value lies within 2.5 standard deviations of the region's mean; mean and deviation are taken again from
the region, four times. Where the region would swallow a negative click, the factor is lowered (2, 1.5, 1,
0.5) until it does not. Holes are filled. The image is smoothed by a 5 x 5 median first; a deviation counts
as two grey values at least.

References
----------
Ibanez et al. (2005), The ITK Software Guide: ``ConfidenceConnectedImageFilter``.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from evaluation.methods import Method
from evaluation.methods.classical import Classical, Local, Mask, touched

FACTORS = (2.5, 2.0, 1.5, 1.0, 0.5)
ROUNDS = 4


def segment(local: Local) -> Mask:
    smooth = ndimage.median_filter(local.image, 5).astype(np.float32)
    seeds = local.seeds()
    region = np.zeros(local.image.shape, bool)
    for factor in FACTORS:
        region = grow(smooth, seeds, local, factor)
        if not region[local.negatives[:, 1], local.negatives[:, 0]].any():
            break
    region[local.negatives[:, 1], local.negatives[:, 0]] = False
    return region


def grow(smooth: np.ndarray, seeds: np.ndarray, local: Local, factor: float) -> Mask:
    """The region after :data:`ROUNDS` rounds, bool (h, w)."""
    within = local.box_area()
    region = local.discs(seeds, 3) & within
    for _ in range(ROUNDS + 1):
        values = smooth[region] if region.any() else smooth[seeds[:, 1], seeds[:, 0]]
        near = np.abs(smooth - values.mean()) <= factor * max(float(values.std()), 2.0)
        near[seeds[:, 1], seeds[:, 0]] = True
        region = touched(near & within, seeds)
    return region


def build(name: str) -> Method:
    return Classical(name, segment)
