"""Confidence-connected region growing in a volume, from the clicks or the middles of the boxes.

The region is what is connected to a seed and lies within 2.5 standard deviations of the region's mean, which
are taken again from the region four times; first of all they are those of what the prompts say is the object
for sure. The image is smoothed by a 3 x 3 median in each slice; a deviation counts as two grey values at
least; holes in slices are filled.

References
----------
Ibanez et al. (2005), The ITK Software Guide: ``ConfidenceConnectedImageFilter``.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from synthfm.evaluation.methods.region_growing import FACTOR, ROUNDS
from synthfm.evaluation.methods.volumes.classical import BACKGROUND, OBJECT, ClassicalVolume, Mask, Window


def segment(local: Window) -> Mask:
    smooth = ndimage.median_filter(local.image, (1, 3, 3)).astype(np.float32)
    seeds = local.marks == OBJECT
    within = local.allowed & (local.marks != BACKGROUND)
    region = seeds
    for _ in range(ROUNDS + 1):
        values = smooth[region]
        if not values.size:
            return seeds
        near = (np.abs(smooth - values.mean()) <= FACTOR * max(float(values.std()), 2.0)) & within
        numbered, _ = ndimage.label(near | seeds)
        kept = np.unique(numbered[seeds])
        region = np.isin(numbered, kept[kept > 0])
    return np.stack([ndimage.binary_fill_holes(part) for part in region])


def build(name: str) -> ClassicalVolume:
    return ClassicalVolume(name, segment, negatives=False)
