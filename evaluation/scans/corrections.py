"""What clicks make of a mask that is already known: what is asked, and what is taken of the answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from synthfm.data.distance import bounds, depth
from synthfm.data.prompts import Prompt, centre_point, deepest
from synthfm.evaluation.scans.encodings import Image
from synthfm.trainer.model import next_slice
from synthfm.trainer.model.bits import Bits
from synthfm.trainer.model.next_slice import Segmenter
from synthfm.trainer.model.predict import MASK_LOGIT

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

    Parameters
    ----------
    prompt
        All that was asked in the slice, `clicks`, places (N, 2) and their label, included.
    factor
        See :func:`ask_with`.
    """
    away = reach(known, *clicks)
    rest = known & (away > 2)
    if rest.any() and not _denies(known, *clicks):  # else it could mean another object
        prompt = prompt.with_click(centre_point(rest), 1)
    said, estimate = ask_with(segmenter, image, prompt, known, factor, doubted(known, away, clicks[1]))
    return corrected(said, known, *clicks), estimate


def reach(known: Mask, places: ArrayLike, label: int) -> NDArray[np.float32]:
    """Distance of each pixel to the nearest click, float32 (H, W), over how far that click surely reaches.

    That is to the mask's edge, on whose wrong side it lies.
    """
    wrong = next_slice.signed_distance(known) * (1 if label == 0 else -1)
    rows, columns = np.indices(known.shape, np.float32)
    away = np.full(known.shape, np.inf, np.float32)
    for x, y in np.rint(np.atleast_2d(np.asarray(places, float))).astype(int).tolist():
        inside = wrong[min(max(y, 0), known.shape[0] - 1), min(max(x, 0), known.shape[1] - 1)]
        away = np.minimum(away, np.hypot(columns - x, rows - y) / max(inside + 0.5, 1.5))
    return away


def _denies(known: Mask, places: NDArray, label: int) -> bool:
    """Whether a click on the background lies so near a mask's middle that none of it may be the object's."""
    inner = depth(known)
    away = np.linalg.norm(np.atleast_2d(places) - deepest(inner), axis=1)
    return label == 0 and bool(2 * away.min() <= inner.max())


def doubted(known: Mask, away: NDArray[np.float32], label: int) -> NDArray[np.float32]:
    """A mask as it is shown to a model that is to correct it, logits float32 (H, W).

    A model believes what it is shown. So where a click says that the mask is wrong, it is shown the contrary,
    and around that what is less and less in doubt, up to three times as far away.

    Parameters
    ----------
    away
        See :func:`reach`.
    label
        Of the clicks, 1 on the object, 0 on the background.
    """
    sure = np.where(known, MASK_LOGIT, -MASK_LOGIT).astype(np.float32)
    return np.where(known == bool(label), sure, sure * np.clip((away - 1) / 2, -1, 1))


def ask_with(
    segmenter: Segmenter,
    image: Image,
    prompt: Prompt,
    known: Mask,
    factor: float,
    shown: NDArray[np.float32] | None = None,
) -> tuple[Mask, float]:
    """Ask in the square around clicks and a mask, not empty, of about where the object is.

    That mask is shown as well, or what is given as `shown` in its place, logits (H, W). The square's side is
    `factor` times the longest of what it holds.
    """
    marked, said = known.copy(), known.copy()
    x, y = np.rint(prompt.points).astype(int).T
    marked[y.clip(0, known.shape[0] - 1), x.clip(0, known.shape[1] - 1)] = True
    square = next_slice.square_around(bounds(marked), known.shape, factor)
    part = next_slice.part_of(image, square)
    mask = next_slice.part_of(known if shown is None else shown, square)
    asked = Prompt(prompt.points - square[:2], prompt.labels, mask=mask)
    (answer,) = segmenter.predict(segmenter.encode(part), [asked])
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
