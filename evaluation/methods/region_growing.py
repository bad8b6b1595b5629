"""Confidence-connected region growing from the positive clicks, or from the middle of the box.

Starting from the grey values within three pixels of the first seed, the region is all pixels connected to a
seed whose value lies within 2.5 standard deviations of the region's mean; mean and deviation are taken again
from the region, four times. (A later click corrects a mask: it lies at the object's edge, where half of its
disc is background.) Where the region swallows a negative click, it is divided between the positive and
the negative clicks, discs of three pixels, by a watershed of the gradient at a scale of two pixels: of single
pixels, speckle would wall a click in. Holes are filled. The image is smoothed by a 5 x 5 median first; a
deviation counts as two grey values at least.

References
----------
Ibanez et al. (2005), The ITK Software Guide: ``ConfidenceConnectedImageFilter``.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from synthfm.evaluation.methods.classical import OBJECT, Classical, Local, Mask, touched
from synthfm.evaluation.methods.method import Method

FACTOR = 2.5
ROUNDS = 4


def segment(local: Local) -> Mask:
    smooth = ndimage.median_filter(local.image, 5).astype(np.float32)
    seeds, others = local.seeds(), local.negatives
    region = grow(smooth, seeds, local)
    if region[others[:, 1], others[:, 0]].any():
        edges = ndimage.gaussian_gradient_magnitude(smooth, 2.0)
        region = np.asarray(watershed(edges, local.marks(3), mask=region) == OBJECT)
    return region


def grow(smooth: np.ndarray, seeds: np.ndarray, local: Local) -> Mask:
    """The region after :data:`ROUNDS` rounds, bool (h, w)."""
    within = local.box_area()
    region = local.discs(seeds[:1], 3) & within
    for _ in range(ROUNDS + 1):
        values = smooth[region] if region.any() else smooth[seeds[:1, 1], seeds[:1, 0]]
        near = np.abs(smooth - values.mean()) <= FACTOR * max(float(values.std()), 2.0)
        near[seeds[:, 1], seeds[:, 0]] = True
        region = touched(near & within, seeds)
    return region


def build(name: str) -> Method:
    return Classical(name, segment)
