"""What clicks make of a mask that is already known: what is asked, and what is taken of the answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from synthfm.data.distance import bounds, depth
from synthfm.data.prompts import Prompt, centre_point
from synthfm.evaluation.scans.encodings import Image, Segmenter
from synthfm.trainer.model import propagate
from synthfm.trainer.model.bits import Bits

Mask = NDArray[np.bool_]


def correct(
    segmenter: Segmenter,
    image: Image,
    prompt: Prompt,
    known: Mask,
    clicks: tuple[NDArray, int],
    factor: float,
) -> tuple[Mask, float]:
    """What is known, bool (H, W), changed where the answer to clicks says so; and its estimated IoU.

    Where that would leave less than half, and no click lies in the very middle, the model has taken
    clicks on the background for another question: it is told that the middle is the object's.

    Parameters
    ----------
    prompt
        All that was asked in the slice, `clicks`, places (N, 2) and their label, included.
    factor
        See :func:`ask_with`.
    """
    said, estimate = ask_with(segmenter, image, prompt, known, factor)
    mask, middle = corrected(said, known, *clicks), centre_point(known)
    away = np.linalg.norm(prompt.points - middle, axis=1).min()
    if 2 * np.count_nonzero(mask) < np.count_nonzero(known) and 2 * away > depth(known).max():
        said, estimate = ask_with(segmenter, image, prompt.with_click(middle, 1), known, factor)
        mask = corrected(said, known, *clicks)
    return mask, estimate


def ask_with(
    segmenter: Segmenter, image: Image, prompt: Prompt, expected: Mask, factor: float
) -> tuple[Mask, float]:
    """Ask in the square around clicks and a mask of about where the object is, which is shown as well.

    Its side is `factor` times the longest of what it shows.
    """
    marked = expected.copy()
    x, y = np.rint(prompt.points).astype(int).T
    marked[y.clip(0, expected.shape[0] - 1), x.clip(0, expected.shape[1] - 1)] = True
    square = propagate.square_around(bounds(marked), expected.shape, factor)
    part = propagate.part_of(image, square)
    shown = Prompt(prompt.points - square[:2], prompt.labels, mask=propagate.part_of(expected, square))
    (answer,) = segmenter.predict(segmenter.encode(part), [shown], [None])
    said = expected.copy()
    said[square[1] : square[3], square[0] : square[2]] = answer.mask
    return said, float(answer.iou)


def beside(masks: Mapping[int, Bits], number: int, prompt: Prompt) -> Mask | None:
    """An object's mask in the nearest slice that has one, if clicks here may mean that it goes on.

    They may where all that lie on the object lie in the box around that mask.
    """
    filled = {k: bits for k, bits in masks.items() if bits.count}
    if not filled or not len(prompt.positives):
        return None
    mask = filled[min(filled, key=lambda k: abs(k - number))].mask
    x0, y0, x1, y1 = bounds(mask)
    within = (prompt.positives >= [x0, y0]) & (prompt.positives < [x1, y1])
    return mask if within.all() else None


def corrected(answer: Mask, known: Mask, points: ArrayLike, label: int) -> Mask:
    """What clicks of one kind make of a mask that is known, from the model's answer to them, bool (H, W).

    Clicks on the object (label 1) say that something is missing: the pieces of the answer that hold one are
    added. Clicks on the background say that something is too much: the pieces that the answer leaves out and
    that hold one are taken away. What lies elsewhere nobody has complained of.

    >>> known, answer = np.array([[1, 1, 1, 0, 0, 0]], bool), np.array([[0, 0, 0, 0, 1, 1]], bool)
    >>> corrected(answer, known, [[4, 0]], 1).astype(int).tolist()
    [[1, 1, 1, 0, 1, 1]]
    >>> corrected(answer, known, [[0, 0]], 0).astype(int).tolist()
    [[0, 0, 0, 0, 0, 0]]
    """
    differing = answer & ~known if label == 1 else known & ~answer
    numbered, _ = ndimage.label(differing)
    x, y = np.rint(np.atleast_2d(np.asarray(points, float))).astype(int).T
    places = y.clip(0, known.shape[0] - 1), x.clip(0, known.shape[1] - 1)
    meant = np.unique(numbered[places])
    found = known ^ np.isin(numbered, meant[meant > 0])
    found[places] = bool(label)  # whatever the answer
    return found
