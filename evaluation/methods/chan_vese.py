"""Morphological Chan-Vese: a contour that parts the window into two regions of even grey.

It starts from the ellipse in the box, or from discs around the clicks of 10 % of the window's shorter side,
and runs 60 iterations with two of smoothing; of the result, the parts that hold a click (or the box's
middle) count. It has no use for negative clicks: such settings are not for it.

References
----------
Marquez-Neila, Baumela and Alvarez (2014), A morphological approach to curvature-based evolution of curves
and surfaces. IEEE TPAMI 36(1). scikit-image's ``morphological_chan_vese``.
"""

from __future__ import annotations

import numpy as np
from skimage.segmentation import morphological_chan_vese

from synthfm.evaluation.methods.classical import Classical, Local, Mask, touched
from synthfm.evaluation.methods.method import Method

ITERATIONS = 60


def segment(local: Local) -> Mask:
    start = local.inside_box()
    if local.box is None:
        start = local.discs(local.positives, 0.1 * min(local.image.shape))
    if start.all() or not start.any():
        return start
    image = local.image.astype(np.float32) / 255
    found = morphological_chan_vese(image, ITERATIONS, init_level_set=start, smoothing=2).astype(bool)
    return touched(found, local.seeds())


def build(name: str) -> Method:
    return Classical(name, segment, negatives=False)
