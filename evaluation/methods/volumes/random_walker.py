"""Random walker in a volume: each voxel goes to the seed that a walker hindered by edges reaches first.

Seeds of the object are the ellipse in each box at 0.6 of its size and discs of three pixels around clicks;
of the background what lies outside a box in its slice, negative clicks, and the window's frame in the plane.
Beta as for single images; distances between slices count by the spacing.

References
----------
Grady (2006), Random walks for image segmentation. IEEE TPAMI 28(11). scikit-image's ``random_walker``.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import ndimage
from skimage.segmentation import random_walker

from synthfm.evaluation.methods.random_walker import BETA
from synthfm.evaluation.methods.volumes.classical import BACKGROUND, OBJECT, ClassicalVolume, Mask, Window


def segment(local: Window) -> Mask:
    seeds = local.marks.copy()
    border = np.ones(seeds.shape[1:], bool)
    border[1:-1, 1:-1] = False
    seeds[:, border] = np.where(seeds[:, border] == OBJECT, OBJECT, BACKGROUND)
    seeds[~local.allowed & (seeds != OBJECT)] = BACKGROUND
    if not (seeds == OBJECT).any() or not (seeds == 0).any():
        return np.asarray(seeds == OBJECT)
    smooth = ndimage.gaussian_filter(local.image.astype(np.float32) / 255, (0.0, 1.0, 1.0))
    if np.ptp(smooth) == 0:
        return np.asarray(seeds == OBJECT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to install a multigrid solver, and other speed hints
        labels = random_walker(
            smooth,
            seeds,
            beta=BETA,
            mode="cg_j",
            tol=1e-3,
            spacing=np.array(local.spacing) / local.spacing[2],
        )
    return np.asarray(labels == OBJECT)


def build(name: str) -> ClassicalVolume:
    return ClassicalVolume(name, segment)
