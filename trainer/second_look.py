"""A second look: a prompt's object again, from a crop around what the first look saw of it.

A model of 256 pixels sees an image of 512 at half its resolution, and a small structure as a few tokens.
Once a first mask says where the object is, the same model encodes the square around it as an image of its
own, and answers the same prompt there with the first mask as mask prompt, unless it is surer of itself
without; in a round that corrects a mask, with that one. Each look's mask is settled by what the image's
grey values say of it, see :mod:`trainer.grey_values`, and a box that it nearly keeps to, see
:mod:`trainer.ellipse_prior`, and then put right where it leaves a click on the wrong side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from data.distance import bounds
from trainer import ellipse_prior, look
from trainer.grey_values import expected_iou, resized, settle

FACTOR = 1.6
"""Side of the square over the longest side of what is in it."""

DOUBT = 0.05
"""By how much its IoU estimate must be higher for the answer that has not been shown the first mask."""

SAME = 0.5
"""Dice with the first mask below which an answer that lies in that mask is a part of it."""

SHARPNESS = 6
"""The power of :func:`trainer.grey_values.expected_iou` in `Look.iou`: settled chances are surer than they
are right, as pixels that say the same are counted one by one."""

SPOT, HELD = 0.03, 1.0
"""Of what puts right a mask around a click on its wrong side: the standard deviation, over the square root of
the mask's area, and the logit that the click's own pixel gets (its negative for the background)."""

View = tuple[int, int, int, int]
"""Part of an image, XYXY, half-open, in whole pixels."""


@dataclass(frozen=True)
class Look:
    """One prompt's answer after a second look.

    Attributes
    ----------
    logits
        float32 (H, W) at the image's resolution; every click lies on its own side, unless all is background.
        In a next round they are the second look's mask prompt.
    low_res
        The first look's logits (1, 4h, 4w): the mask prompt of the next round's first look, at the whole
        image again. (What the square showed is too fine for it: brought to this size, a small mask fades.)
    iou
        Estimate of the mask's IoU: the geometric mean of the model's own, made before the mask was settled,
        and the :data:`SHARPNESS`-th power of :func:`trainer.grey_values.expected_iou`, from what it became.
    """

    logits: Tensor
    low_res: Tensor
    iou: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool (H, W)."""
        return (self.logits > 0).cpu().numpy()


def predict(
    sam: Sam,
    image: NDArray[np.uint8],
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    box: ArrayLike | None = None,
    memory: Look | None = None,
) -> Look:
    """A mask for one prompt, in two looks; one click alone gets the best of three masks at the first.

    Clicks that correct a mask come with what came before them, and with that mask's `Look` as `memory`.

    Parameters
    ----------
    sam
        The model, in evaluation mode.
    image
        uint8 (H, W) or (H, W, 3).
    points, labels
        Clicks (N, 2) as (x, y) in pixels, and (N,) 1 for object, 0 for background.
    box
        XYXY, half-open, in pixels; cut to the image.
    memory
        The answer of the round before, to the same image.

    Raises
    ------
    ValueError
        If the image is of another kind, there is no prompt, it has another shape, or it lies outside of the
        image, or `memory` is of another model or image.
    """
    look.check_image(image)
    clicks, marks = _clicks(points, labels, image.shape[:2])
    corners = None if box is None else _box(box, image.shape[:2])
    if not len(clicks) and corners is None:
        raise ValueError("no prompt: give points or a box")
    if memory is not None:
        _check_memory(memory, (1, *sam.prompt_encoder.mask_input_size), image.shape[:2])
    coords, kinds = look.pack_points([clicks], [marks], [corners])
    shown = None if memory is None else memory.low_res[None]
    found = look.predict_points(sam, look.encode_image(sam, image), coords, kinds, shown)
    several = memory is None and look.is_ambiguous(clicks, corners)
    return look_again(sam, image, found.best(several), coords[0], kinds[0], several=several, memory=memory)


def _check_memory(memory: Look, low_res: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if not isinstance(memory, Look):
        raise ValueError(f"memory {type(memory).__name__}: expected the Look of the round before")
    given = (tuple(memory.low_res.shape), tuple(memory.logits.shape))
    if given != (low_res, shape):
        raise ValueError(
            f"memory of low_res and logits {given}: expected {(low_res, shape)}, as of this image"
        )


def _clicks(
    points: ArrayLike | None, labels: ArrayLike | None, shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Clicks (N, 2) and their labels (N,), checked."""
    if (points is None) != (labels is None):
        raise ValueError("points and labels go together")
    if points is None:
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    clicks, marks = _numbers("points", points), np.asarray(labels)
    if clicks.size == marks.size == 0:
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    if clicks.ndim != 2 or clicks.shape[1] != 2 or marks.shape != clicks.shape[:1]:
        raise ValueError(f"points {clicks.shape} and labels {marks.shape}: expected (N, 2) and (N,)")
    if not np.isin(marks, (0, 1)).all():
        raise ValueError(f"labels {marks.tolist()}: expected 1 for object, 0 for background")
    height, width = shape
    if not ((clicks >= -0.5) & (clicks <= [width - 0.5, height - 0.5])).all():  # NaN is neither
        raise ValueError(f"points {clicks.tolist()} are not all in the image, {width} x {height}")
    return clicks, marks.astype(np.int64)


def _numbers(name: str, given: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} {given!r}: expected numbers ({error})") from error


def _box(box: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A box XYXY, checked and cut to the image; it may reach beyond it, as no box of the training does."""
    corners = _numbers("box", box)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise ValueError(f"box {corners.tolist()}: expected four numbers, XYXY")
    height, width = shape
    x0, y0, x1, y1 = corners
    if not (x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
        raise ValueError(f"box {corners.tolist()} holds nothing of the image, {width} x {height} (XYXY)")
    return np.clip(corners, 0, [width, height, width, height])


@torch.no_grad()
def look_again(
    sam: Sam,
    image: NDArray[np.uint8],
    first: look.Prediction,
    coords: Tensor,
    kinds: Tensor,
    *,
    several: bool = False,
    memory: Look | None = None,
) -> Look:
    """Look again at one prompt's object.

    Parameters
    ----------
    image
        uint8 (H, W) or (H, W, 3), the image that `first` is of.
    first
        The first look's mask, (1, 1): one prompt's one mask.
    coords, kinds
        (M, 2) and (M,), the prompt in pixels of the image, as :func:`trainer.look.as_points` writes it.
    several
        Whether the first look chose among three masks, and an answer without its mask does too.
    memory
        The round before, whose mask then takes the place of the first look's: it has been seen from nearby.

    Returns
    -------
    Look
        The first look's own answer, settled, where its mask is empty, the square is the whole image, or one
        click alone would now mean a part of it.
    """
    own = before = _settled(first, image, first.low_res[0], coords, kinds)
    if memory is not None and memory.mask.any():
        before = replace(memory, logits=held(memory.logits, coords, kinds))
    height, width = first.original_size
    x0, y0, x1, y1 = view_around(extent(before.mask, coords, kinds), (height, width))
    if not before.mask.any() or (y1 - y0, x1 - x0) == (height, width):
        return own
    part = look.encode_image(sam, np.ascontiguousarray(image[y0:y1, x0:x1]))
    moved = coords - torch.tensor([x0, y0], device=coords.device)
    shown = _mask_prompt(before.logits[y0:y1, x0:x1], part.input_size, first.low_res.shape[-1])
    second = look.predict_points(sam, part, moved[None], kinds[None], shown).best(False)
    afresh = look.predict_points(sam, part, moved[None], kinds[None]).best(several)
    surer = float(afresh.iou) > float(second.iou) + DOUBT  # then a wrong first mask has misled
    seen = before.mask[y0:y1, x0:x1]
    if surer and not _is_part(afresh.masks()[0, 0], seen):
        second = afresh
    elif several and _is_part(second.masks()[0, 0], seen):
        return own
    found = _settled(second, image[y0:y1, x0:x1], first.low_res[0], moved, kinds)
    logits = before.logits.clone()  # all that it has above 0 lies in the square
    logits[y0:y1, x0:x1] = found.logits
    return replace(found, logits=logits)


def _is_part(mask: NDArray[np.bool_], whole: NDArray[np.bool_]) -> bool:
    """Whether a mask is a part of another: one click on a vessel may mean the vessel, seen from nearby."""
    shared, size = (mask & whole).sum(), mask.sum()
    return bool(2 * shared > size and 2 * shared < SAME * (size + whole.sum()))


def _settled(
    found: look.Prediction, image: NDArray[np.uint8], low_res: Tensor, coords: Tensor, kinds: Tensor
) -> Look:
    """A look's one mask, settled by the image, or the part of it, that it was drawn on, and by the prompt."""
    drawn = found.logits()[0, 0]
    clicks, corners = _split(coords, kinds)
    logits = settle(drawn, image)
    if len(corners) and not len(clicks):  # a click says more of the outline than what is round in general
        prior = ellipse_prior.evidence((logits > 0).cpu().numpy(), corners.ravel())
        if prior is not None:
            logits = settle(drawn + torch.from_numpy(prior).to(drawn.device), image)
    logits = held(logits, coords, kinds)
    iou = math.sqrt(max(float(found.iou), 0) * expected_iou(logits) ** SHARPNESS)
    return Look(logits, low_res, iou)


def held(logits: Tensor, coords: Tensor, kinds: Tensor) -> Tensor:
    """A mask's logits with every click on its own side.

    To the model a click is strong evidence, which what it has learned and the grey values may outvote; but
    whoever clicks there has looked. A Gaussian of :data:`SPOT` is added around a click on the wrong side, cut
    before it reaches a click of the other kind.

    Parameters
    ----------
    logits
        (H, W), a mask where they are above 0. An empty one stays empty: nothing was found that could be
        corrected.
    coords, kinds
        (M, 2) and (M,), the prompt in pixels, as :func:`trainer.look.as_points` writes it. Of clicks in one
        pixel that contradict each other the last one counts.

    >>> held(torch.tensor([[4.0, 4, 4, -4, -4]]), torch.tensor([[3, 0], [4, 0]]), torch.tensor([1, 0]))
    tensor([[ 4.,  4.,  4.,  1., -4.]])
    """
    area = int((logits > 0).sum())
    is_click = (kinds == 0) | (kinds == 1)
    if not area or not is_click.any():
        return logits
    size = torch.tensor(logits.shape, device=logits.device)
    places = torch.minimum(coords[is_click].flip(1).round().long().clamp(min=0), size - 1)
    wanted = kinds[is_click] == 1
    logits = logits.clone()
    rows, columns = (torch.arange(side, device=logits.device) for side in logits.shape)
    for place, inside in zip(places, wanted, strict=True):
        row, column = place.tolist()
        at = float(logits[row, column])
        if (at > 0) == bool(inside):
            continue
        distances = (places[wanted != inside] - place).float().norm(dim=1)
        width = max(SPOT * math.sqrt(area), 1)
        width = min([width, *(float(distance) / 3 for distance in distances if distance)])
        reach = math.ceil(3 * width)
        near = tuple(slice(max(middle - reach, 0), middle + reach + 1) for middle in (row, column))
        square = ((rows[near[0]] - row)[:, None] ** 2 + (columns[near[1]] - column) ** 2) / width**2
        logits[near] += ((HELD if inside else -HELD) - at) * torch.where(
            square < 9, torch.exp(-square / 2), 0
        )
    return logits


def extent(mask: NDArray[np.bool_], coords: Tensor, kinds: Tensor) -> NDArray[np.float64]:
    """XYXY, half-open, of a mask (H, W) and of a prompt, coords (M, 2) and kinds (M,), together."""
    clicks, corners = _split(coords, kinds)
    box = bounds(mask).reshape(2, 2)[: 2 * bool(mask.any())]
    found = np.concatenate([clicks, clicks + 1, corners, box])
    return np.concatenate([found.min(0), found.max(0)])


def _split(coords: Tensor, kinds: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A prompt's clicks (N, 2) and its box's corners, (2, 2) or none."""
    points, labels = coords.cpu().numpy().astype(float), kinds.cpu().numpy()
    return points[(labels == 0) | (labels == 1)], points[np.isin(labels, look.BOX_LABELS)]


def view_around(box: NDArray, shape: tuple[int, int]) -> View:
    """The square of :data:`FACTOR` times a box's longest side around it, moved and cut to fit the image.

    >>> view_around(np.array([40, 40, 60, 50]), (100, 100))
    (34, 29, 66, 61)
    >>> view_around(np.array([0, 40, 20, 50]), (100, 30))
    (0, 29, 30, 61)
    """
    x0, y0, x1, y1 = (float(side) for side in box)
    side = math.ceil(FACTOR * max(x1 - x0, y1 - y0))
    starts, ends = [], []
    for low, high, size in ((x0, x1, shape[1]), (y0, y1, shape[0])):
        start = min(max(round((low + high - side) / 2), 0), max(size - side, 0))
        starts.append(start)
        ends.append(min(start + side, size))
    return starts[0], starts[1], ends[0], ends[1]


def squares(masks: Tensor, coords: Tensor, kinds: Tensor, sizes: Tensor, side: int) -> Tensor:
    """As :func:`view_around` of :func:`extent`, for a batch: where N second looks go.

    Parameters
    ----------
    masks
        bool (N, h, h), first masks on the grid of the model's square input.
    coords, kinds
        (N, M, 2) and (N, M), the prompts in pixels of that input.
    sizes
        (N, 2), height and width of what is image in it.
    side
        Pixels of the input's side.

    Returns
    -------
    Tensor
        float32 (N, 3), x and y of the top left corner and the side, in pixels of the input; the whole input
        where a mask is empty.
    """
    cell = side / masks.shape[-1]
    found = []
    for along in (1, 2):  # across columns, then rows
        used = masks.any(along)  # of an empty mask, first and last are the input's
        first, last = used.float().argmax(1), used.shape[1] - used.flip(1).float().argmax(1)
        found.append((first * cell, last * cell))
    clicks = ((kinds == 0) | (kinds == 1))[..., None]
    corners = ((kinds == look.BOX_LABELS[0]) | (kinds == look.BOX_LABELS[1]))[..., None]
    low = torch.where(clicks | corners, coords, torch.inf).amin(1)
    high = torch.where(clicks | corners, coords + clicks, -torch.inf).amax(1)
    low = torch.minimum(low, torch.stack([first for first, _ in found], 1))
    high = torch.maximum(high, torch.stack([last for _, last in found], 1))
    wide = FACTOR * (high - low).amax(1, keepdim=True)
    room = (sizes.flip(1) - wide).clamp(min=0)
    start = torch.minimum(((low + high - wide) / 2).clamp(min=0), room)
    longest = sizes.amax(1, keepdim=True)
    whole = wide >= longest
    return torch.cat([torch.where(whole, 0, start), torch.where(whole, side, wide)], 1)


def cut(images: Tensor, views: Tensor, side: int, count: int) -> Tensor:
    """What the squares show, bilinearly: (N, C, count, count) of images (N, C, h, h) of the square input.

    `views` are :func:`squares` of an input of `side` pixels. Beyond its border the last pixels go on.
    """
    steps = (torch.arange(count, device=images.device) + 0.5) / count
    x, y = (views[:, axis, None] + steps * views[:, 2:] for axis in (0, 1))
    grid = torch.stack([x[:, None].expand(-1, count, -1), y[..., None].expand(-1, -1, count)], -1)
    return F.grid_sample(images, grid * (2 / side) - 1, padding_mode="border", align_corners=False)


def _mask_prompt(logits: Tensor, input_size: tuple[int, int], side: int) -> Tensor:
    """Logits (H, W) of an image as a mask prompt (1, 1, side, side), padded as the image is to be square."""
    rows, columns = (max(round(side * length / max(input_size)), 1) for length in input_size)
    size = (rows, columns)
    padding = (0, side - columns, 0, side - rows)
    return F.pad(resized(logits, size), padding, value=float(logits.min()))[None, None]
