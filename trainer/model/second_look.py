"""A second look: a prompt's object again, from a crop around what the first look saw of it.

A model of 256 pixels sees an image of 512 at half its resolution, and a small structure as a few tokens.
Once a first mask says where the object is, the same model encodes the square around it as an image of its
own, and answers the same prompt there with the first mask as mask prompt, unless it is surer of itself
without; in a round that corrects a mask, with that one. Each look's mask is refined by the image's grey
values, see :mod:`synthfm.trainer.model.grey_values`, and by a box that it nearly keeps to, see
:mod:`synthfm.trainer.model.ellipse_prior`, and then put right where it leaves a click on the wrong side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from synthfm.data.distance import bounds
from synthfm.data.prompts import Prompt
from synthfm.trainer.model import ellipse_prior, grey_values, in_turn, look, pixel_classifier, thin
from synthfm.trainer.model.ellipse_prior import EllipsePrior
from synthfm.trainer.model.grey_values import GreyValues, expected_iou, resized
from synthfm.trainer.model.in_turn import InTurn
from synthfm.trainer.model.look import Encoding, Prediction, Segmentation
from synthfm.trainer.model.packing import BOX_LABELS, PackedPrompts, pack
from synthfm.trainer.model.pixel_classifier import PixelClassifier
from synthfm.trainer.model.thin import ThinObjects

View = tuple[int, int, int, int]
"""Part of an image, XYXY, half-open, in whole pixels."""


@dataclass(frozen=True)
class SecondLook:
    """Settings of a second look; the defaults are those that `tiny` is used with.

    Attributes
    ----------
    factor
        Side of the square over the longest side of what is in it.
    doubt
        By how much its IoU estimate must be higher for the answer that has not been shown the first mask.
    same
        Dice with the first mask below which an answer that lies in that mask is a part of it.
    sharpness
        The power of :func:`synthfm.trainer.model.grey_values.expected_iou` in the estimate of the IoU:
        refined chances are surer than they are right, as pixels that say the same are counted one by one.
    spot, click_logit
        Of what puts right a mask around a click on its wrong side: the standard deviation, over the square
        root of the mask's area, and the logit that the click's own pixel gets (its negative for the
        background).
    middle
        By how much surer the model must be of an answer to a click in the middle of what the click may mean,
        see :mod:`synthfm.trainer.model.click_middle`; None to ask the click alone.
    in_turn
        How many clicks are asked, see :mod:`synthfm.trainer.model.in_turn`; None to ask them all at once.
    pixels
        How an answer in turn learns from the pixels that are clicked, see
        :mod:`synthfm.trainer.model.pixel_classifier`; None to leave it out.
    thin
        When the network for thin objects is believed, see :mod:`synthfm.trainer.model.thin`, of a model that
        has one; None to leave it out.
    grey_values, ellipse
        What refines each look's mask; None to leave it out.
    """

    factor: float = 1.6
    doubt: float = 0.05
    same: float = 0.5
    sharpness: float = 6
    spot: float = 0.03
    click_logit: float = 1.0
    middle: float | None = 0.1
    in_turn: InTurn | None = in_turn.SHIPPED
    pixels: PixelClassifier | None = pixel_classifier.SHIPPED
    thin: ThinObjects | None = thin.SHIPPED
    grey_values: GreyValues | None = grey_values.SHIPPED
    ellipse: EllipsePrior | None = ellipse_prior.SHIPPED


SHIPPED = SecondLook()


@torch.no_grad()
def predict(
    sam: Sam,
    encoding: Encoding,
    prompt: Prompt,
    first: Prediction,
    settings: SecondLook = SHIPPED,
    *,
    several: bool = False,
    previous: Segmentation | None = None,
) -> Segmentation:
    """Take a second look at one prompt's object.

    Parameters
    ----------
    encoding
        The image that `first` is of.
    prompt
        In pixels of the image.
    first
        The first look's mask, (1, 1): one prompt's one mask.
    several
        Whether the first look chose among three masks, and an answer without its mask does too.
    previous
        The round before, whose mask then takes the place of the first look's: it has been seen from nearby.

    Returns
    -------
    Segmentation
        Every click lies on its own side, unless all is background. The first look's own answer, refined,
        where its mask is empty, the square is the whole image, or one click alone would now mean a part of
        it.
    """
    image, low_res = encoding.image, first.low_res[0]
    before, iou = refined(first, image, prompt, settings)
    own = segmentation(before, iou, low_res)
    if previous is not None and previous.logits is not None and previous.mask.any():
        before = keep_clicks(previous.logits, prompt, settings)
    mask = (before > 0).cpu().numpy()
    if not mask.any():
        return own
    x0, y0, x1, y1 = view_around(extent(mask, prompt), first.original_size, settings.factor)
    if (y1 - y0, x1 - x0) == first.original_size:
        return own
    part = look.encode_image(sam, np.ascontiguousarray(image[y0:y1, x0:x1]))
    moved = prompt.moved(x0, y0)
    packed = pack([moved])
    shown = mask_prompt(before[y0:y1, x0:x1], part.input_size, low_res.shape[-1])
    second = look.predict(sam, part, packed, shown[None]).best(False)
    # A mask prompt alone says nothing without a mask.
    afresh = look.predict(sam, part, packed).best(several) if packed.kinds.numel() else second
    surer = float(afresh.iou) > float(second.iou) + settings.doubt  # then a wrong first mask has misled
    seen = mask[y0:y1, x0:x1]
    if surer and not _is_part(afresh.masks()[0, 0], seen, settings.same):
        second = afresh
    elif several and _is_part(second.masks()[0, 0], seen, settings.same):
        return own
    found, iou = refined(second, part.image, moved, settings)
    logits = before.clone()  # all that it has above 0 lies in the square
    logits[y0:y1, x0:x1] = found
    return segmentation(logits, iou, low_res)


def segmentation(logits: Tensor, iou: float, low_res: Tensor) -> Segmentation:
    """The one of these logits (H, W)."""
    return Segmentation((logits > 0).cpu().numpy(), iou, low_res, logits)


def of_all_clicks(
    found: Segmentation,
    image: NDArray[np.uint8],
    prompt: Prompt,
    first: Segmentation,
    said: NDArray[np.bool_],
    settings: SecondLook = SHIPPED,
) -> Segmentation:
    """A second look's answer to clicks in turn, with what all of them teach, and each on its own side.

    `first` is the answer to those of the prompt's clicks that are `said`, (N,), alone.
    """
    logits = found.logits
    if logits is None or first.logits is None:
        return found
    if settings.pixels is not None:
        logits = pixel_classifier.refine(logits, image, prompt, first.logits, said, settings.pixels)
    return segmentation(keep_clicks(logits, prompt, settings), found.iou, found.low_res)


def or_thin(
    sam: Sam,
    found: Segmentation,
    image: NDArray[np.uint8],
    prompt: Prompt,
    said: NDArray[np.bool_],
    settings: SecondLook = SHIPPED,
) -> Segmentation:
    """An answer to a prompt, or that of the network for thin objects, where one is meant.

    That one learns from the clicks that are not `said`, (N,), as others do, and has all on their own sides.
    """
    if settings.thin is None or not hasattr(sam, "thin"):
        return found
    asked = prompt.box
    if asked is None:
        inside = in_turn.only(prompt, prompt.labels == 1)
        if not len(inside.points) and not (len(prompt.points) and found.mask.any()):
            return found
        asked = extent(found.mask, inside)
    other = thin.answer(sam.thin, image, prompt, asked, settings.thin)
    if other is None:
        return found
    logits, iou = other
    if settings.pixels is not None and not said.all():
        side = thin.sides(image, settings.thin)[-1]
        first = thin.drawn(sam.thin, image, in_turn.only(prompt, said), side)
        if first is not None:
            logits = pixel_classifier.refine(logits, image, prompt, first, said, settings.pixels)
    return segmentation(keep_clicks(logits, prompt, settings), iou, found.low_res)


def _is_part(mask: NDArray[np.bool_], whole: NDArray[np.bool_], same: float) -> bool:
    """Whether a mask is a part of another: one click on a vessel may mean the vessel, seen from nearby."""
    shared, size = (mask & whole).sum(), mask.sum()
    return bool(2 * shared > size and 2 * shared < same * (size + whole.sum()))


def refined(
    found: Prediction, image: NDArray[np.uint8], prompt: Prompt, settings: SecondLook
) -> tuple[Tensor, float]:
    """A look's one mask, refined by the image, or the part of it, that it was drawn on, and by the prompt.

    Returns its logits (H, W), and an estimate of its IoU: the geometric mean of the model's own, made before
    the mask was refined, and the `sharpness`-th power of
    :func:`synthfm.trainer.model.grey_values.expected_iou`, from what it became.
    """
    drawn = found.logits()[0, 0]

    def by_grey_values(logits: Tensor) -> Tensor:
        wanted = settings.grey_values
        return logits if wanted is None else grey_values.refine(logits, image, wanted)

    logits = by_grey_values(drawn)
    # A click says more of the outline than what is round in general.
    if settings.ellipse is not None and prompt.box is not None and not len(prompt.points):
        prior = ellipse_prior.log_odds((logits > 0).cpu().numpy(), prompt.box, settings.ellipse)
        if prior is not None:
            logits = by_grey_values(drawn + torch.from_numpy(prior).to(drawn.device))
    logits = keep_clicks(logits, prompt, settings)
    return logits, math.sqrt(max(float(found.iou), 0) * expected_iou(logits) ** settings.sharpness)


def keep_clicks(logits: Tensor, prompt: Prompt, settings: SecondLook = SHIPPED) -> Tensor:
    """A mask's logits with every click on its own side.

    To the model a click weighs much, yet what it has learned and the grey values may outvote it; but
    whoever clicks there has looked. A Gaussian of `spot` is added around a click on the wrong side, cut
    before it reaches a click of the other kind.

    Parameters
    ----------
    logits
        (H, W), a mask where they are above 0. An empty one stays empty: nothing was found that could be
        corrected.
    prompt
        In its pixels. Of clicks in one pixel that contradict each other the last one counts.

    >>> keep_clicks(torch.tensor([[4.0, 4, 4, -4, -4]]), Prompt([[3, 0], [4, 0]], [1, 0]))
    tensor([[ 4.,  4.,  4.,  1., -4.]])
    """
    area = int((logits > 0).sum())
    if not area or not len(prompt.points):
        return logits
    last = np.array(logits.shape) - 1
    places = np.clip(np.round(prompt.points[:, ::-1]).astype(np.int64), 0, last)
    wanted = prompt.labels == 1
    logits = logits.clone()
    rows, columns = (torch.arange(side, device=logits.device) for side in logits.shape)
    for place, inside in zip(places, wanted, strict=True):
        row, column = place.tolist()
        at = float(logits[row, column])
        if (at > 0) == inside:
            continue
        distances = np.linalg.norm(places[wanted != inside] - place, axis=1)
        width = max(settings.spot * math.sqrt(area), 1)
        width = min([width, *(float(distance) / 3 for distance in distances if distance)])
        reach = math.ceil(3 * width)
        near = tuple(slice(max(middle - reach, 0), middle + reach + 1) for middle in (row, column))
        square = ((rows[near[0]] - row)[:, None] ** 2 + (columns[near[1]] - column) ** 2) / width**2
        aim = settings.click_logit if inside else -settings.click_logit
        logits[near] += (aim - at) * torch.where(square < 9, torch.exp(-square / 2), 0)
    return logits


def extent(mask: NDArray[np.bool_], prompt: Prompt) -> NDArray[np.float64]:
    """XYXY, half-open, of a mask (H, W) and of a prompt's clicks and box together."""
    corners = [] if prompt.box is None else [prompt.box.reshape(2, 2)]
    box = bounds(mask).reshape(2, 2)[: 2 * bool(mask.any())]
    found = np.concatenate([prompt.points, prompt.points + 1, *corners, box])
    return np.concatenate([found.min(0), found.max(0)])


def view_around(box: NDArray, shape: tuple[int, int], factor: float = SecondLook.factor) -> View:
    """The square of `factor` times a box's longest side around it, moved and cut to fit the image.

    >>> view_around(np.array([40, 40, 60, 50]), (100, 100))
    (34, 29, 66, 61)
    >>> view_around(np.array([0, 40, 20, 50]), (100, 30))
    (0, 29, 30, 61)
    """
    x0, y0, x1, y1 = (float(side) for side in box)
    side = math.ceil(factor * max(x1 - x0, y1 - y0))
    starts, ends = [], []
    for low, high, size in ((x0, x1, shape[1]), (y0, y1, shape[0])):
        start = min(max(round((low + high - side) / 2), 0), max(size - side, 0))
        starts.append(start)
        ends.append(min(start + side, size))
    return starts[0], starts[1], ends[0], ends[1]


def squares(
    masks: Tensor, prompts: PackedPrompts, sizes: Tensor, side: int, factor: float = SecondLook.factor
) -> Tensor:
    """As :func:`view_around` of :func:`extent`, for a batch: where N second looks go.

    Parameters
    ----------
    masks
        bool (N, h, h), first masks on the grid of the model's square input.
    prompts
        In pixels of that input.
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
    coords, kinds = prompts.coords, prompts.kinds
    clicks = ((kinds == 0) | (kinds == 1))[..., None]
    corners = ((kinds == BOX_LABELS[0]) | (kinds == BOX_LABELS[1]))[..., None]
    low = torch.where(clicks | corners, coords, torch.inf).amin(1)
    high = torch.where(clicks | corners, coords + clicks, -torch.inf).amax(1)
    low = torch.minimum(low, torch.stack([first for first, _ in found], 1))
    high = torch.maximum(high, torch.stack([last for _, last in found], 1))
    wide = factor * (high - low).amax(1, keepdim=True)
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


def mask_prompt(logits: Tensor, input_size: tuple[int, int], side: int) -> Tensor:
    """Logits (H, W) of an image as a mask prompt (1, side, side), padded as the image is to be square."""
    rows, columns = (max(round(side * length / max(input_size)), 1) for length in input_size)
    size = (rows, columns)
    padding = (0, side - columns, 0, side - rows)
    return F.pad(resized(logits, size), padding, value=float(logits.min()))[None]
