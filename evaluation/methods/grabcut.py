"""GrabCut: Gaussian mixtures of grey values inside and outside, and a graph cut between them.

With a box, what lies outside it is background for sure, the ellipse in it probably the object (at 0.6 of its
size for sure) and the corners probably not. With clicks alone, a disc around each positive click of 25 % of
the window's shorter side is probably the object (of 8 % for sure), and the window's frame is background. With
a box clicks are certain with a radius of two pixels. Five iterations on the image smoothed by one pixel.

Every window is brought to 192 pixels: the cut pays for its length in pixels, and in few of them it is
cheapest around the seeds. This and the seeds were chosen on the development sets, to its favour.

References
----------
Rother, Kolmogorov and Blake (2004), GrabCut: interactive foreground extraction using iterated graph cuts.
ACM Transactions on Graphics 23(3). OpenCV's ``grabCut``.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from synthfm.data.console import brought_by
from synthfm.evaluation.methods.classical import Classical, Local, Mask, frame, touched
from synthfm.evaluation.methods.method import Method, Unavailable

ITERATIONS = 5


def segment(local: Local) -> Mask:
    import cv2

    if local.box is not None:
        likely, outside = local.inside_box(), ~local.box_area()
    else:
        likely = local.discs(local.positives, 0.25 * min(local.image.shape))
        outside = frame(local.image.shape)
    marks = np.full(local.image.shape, cv2.GC_PR_BGD, np.uint8)
    marks[likely] = cv2.GC_PR_FGD
    marks[outside] = cv2.GC_BGD
    marks[local.inside_box(0.6)] = cv2.GC_FGD
    sure = 2.0 if local.box is not None else max(2.0, 0.08 * min(local.image.shape))
    marks[local.discs(local.positives, sure)] = cv2.GC_FGD
    marks[local.discs(local.negatives, 2)] = cv2.GC_BGD
    marks[tuple(local.positives.T[::-1])] = cv2.GC_FGD
    inside = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    if inside.all() or not inside.any():
        return inside  # no two mixtures to fit
    smooth = ndimage.gaussian_filter(local.image, 1.0)
    cv2.setRNGSeed(0)  # the mixtures start from k-means
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(cv2.cvtColor(smooth, cv2.COLOR_GRAY2BGR), marks, (0, 0, 0, 0), *models, ITERATIONS,
                cv2.GC_INIT_WITH_MASK)  # fmt: skip
    found = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
    return touched(found, local.positives) if len(local.positives) else np.asarray(found)


def build(name: str) -> Method:
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise Unavailable(f"GrabCut needs OpenCV; {brought_by('eval')}") from error
    return Classical(name, segment, side=192, enlarge=True)
