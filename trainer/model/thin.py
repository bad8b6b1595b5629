"""The network for thin objects: vessels and nets of them, drawn at the image's resolution.

SAM's decoder answers at a quarter of the model's input size, where a vessel two pixels wide is lost, and it
reads a stroke as so many separate points. This small U-Net [1]_ sees the image, and clicks, strokes and box
as maps of the same size, as ScribblePrompt does [2]_. It has learned vessels alone, and to answer with
nothing where something else is meant; as it often draws edges there all the same, what speaks for its mask is
weighed before it is believed.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation",
   MICCAI (2015).
.. [2] H. Wong, M. Rakic, J. Guttag, A. Dalca, "ScribblePrompt: fast and flexible interactive segmentation for
   any biomedical image", ECCV (2024).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from synthfm.data.distance import bounds
from synthfm.data.prompts import SomePrompt
from synthfm.trainer.model.grey_values import as_grey, expected_iou, resized
from synthfm.trainer.model.packing import BOX_LABELS, PackedPrompts, pack
from synthfm.trainer.model.tiny import ConvBlock

WIDTHS = (12, 24, 48, 96)
"""Channels at full, half, quarter and eighth resolution."""
STRIDE = 8
"""Sides of what the network sees are multiples of it."""
PLANES = 4
"""Image, clicks inside, clicks outside, box."""
THIN = 0.2
"""The most that :func:`slenderness` is of a thin object."""


@dataclass(frozen=True)
class ThinObjects:
    """How the network is asked, and when it is believed.

    Attributes
    ----------
    side, most
        Pixels along the longest side of what it sees at first; a larger image is looked at again with so
        many at most, if what is seen at first falls short by no more than `doubt`.
    least
        Where what is asked spans less of the image, the network is not asked.
    doubt
        See `most`.
    weights, bias
        Of :class:`Evidence`, in the order of its fields, and what they are to exceed together. They were
        chosen on synthetic images and the development sets: of many drawn at random, the mean of those that
        brought most on vessels while no development set of compact objects lost.
    """

    side: int = 256
    most: int = 512
    least: float = 0.1
    doubt: float = 2.0
    weights: tuple[float, ...] = (1.8, 0.7, 5.0, 3.5, 4.0, 1.1)
    bias: float = 13.0


SHIPPED = ThinObjects()


class Evidence(NamedTuple):
    """What speaks for a thin mask beside another answer to the same prompt.

    Attributes
    ----------
    sure
        Log-odds of its expected IoU.
    contrast
        Difference of the mean grey values three pixels inside and outside of its outline, over their standard
        deviation.
    span, asked_span
        Shares of the image that its tight box covers, and the box around what is asked.
    inside, outside
        Shares of the clicks inside and outside that it agrees with; 1 without any.
    """

    sure: float
    contrast: float
    span: float
    asked_span: float
    inside: float
    outside: float


class Block(ConvBlock):
    """That of `tiny`'s encoder, but with a norm over the whole image, and smaller weights at first."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.GroupNorm(1, width)
        nn.init.normal_(self.conv2.weight, std=0.5 / (9 * width) ** 0.5)


class ThinNet(nn.Module):
    """Image and prompt to a mask's logits."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(WIDTHS))
        self.stem = nn.Conv2d(PLANES, WIDTHS[0], kernel_size=3, padding=1)
        self.seen = nn.ModuleList(Block(width) for width in WIDTHS)
        self.down = nn.ModuleList(nn.Conv2d(fine, wide, kernel_size=2, stride=2) for fine, wide in pairs)
        self.deepest = nn.Sequential(Block(WIDTHS[-1]), Block(WIDTHS[-1]))
        self.up = nn.ModuleList(nn.Conv2d(wide, fine, kernel_size=1) for fine, wide in pairs)
        self.drawn = nn.ModuleList(Block(width) for width in WIDTHS[:-1])
        self.head = nn.Conv2d(WIDTHS[0], 1, kernel_size=1)
        nn.init.normal_(self.head.weight, std=0.1)

    def forward(self, planes: Tensor) -> Tensor:
        """Planes (N, PLANES, H, W), see :func:`planes_of`, to logits (N, H, W)."""
        x = self.stem(planes.contiguous(memory_format=torch.channels_last))
        kept = []
        for down, block in zip(self.down, self.seen, strict=False):
            x = block(x)
            kept.append(x)
            x = down(x)
        x = self.deepest(self.seen[-1](x))
        for number in reversed(range(len(kept))):
            x = F.interpolate(self.up[number](x), scale_factor=2.0, mode="nearest") + kept[number]
            x = self.drawn[number](x)
        return self.head(x)[:, 0]


def slenderness(masks: Tensor) -> Tensor:
    """How thick masks (N, H, W) are for their area, (N,): the mean width over the area's square root.

    The mean width is twice the area over the number of pixels on the outline, as a line of `w` by `l` pixels
    has an outline of about `2 l`; that of the image's border does not count. 0.56 of a disc, 0.2 of a line
    that is 25 times as long as wide. 0 where a mask is empty.

    >>> bar = torch.zeros(1, 64, 64)
    >>> bar[:, 30:34, 2:62] = 1
    >>> round(float(slenderness(bar)), 2)
    0.25
    """
    mask = (masks > 0.5).float()[:, None]
    around = F.pad(mask, (1, 1, 1, 1), mode="replicate")
    kept = torch.minimum(
        torch.minimum(around[..., 1:-1, :-2], around[..., 1:-1, 2:]),
        torch.minimum(around[..., :-2, 1:-1], around[..., 2:, 1:-1]),
    )
    area = mask.sum((1, 2, 3))
    outline = (mask * (1 - kept)).sum((1, 2, 3))
    return 2 * area.sqrt() / outline.clamp(min=1)


def planes_of(images: Tensor, sizes: Tensor, prompts: PackedPrompts) -> Tensor:
    """What the network sees, float32 (N, PLANES, H, W), of N prompts, as many of each of B images.

    Grey values of mean 0 and variance 1 in what is image; 1 where a click lies inside the object, and next to
    it; the same of clicks outside; the box as 1 in it and -1 around it, 0 without one.

    Parameters
    ----------
    images
        (B, 1, H, W), grey values of any unit.
    sizes
        (B, 2), height and width of what is image and not padding.
    prompts
        Image by image, in pixels.
    """
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    used = ((rows < sizes[:, :1])[:, :, None] & (columns < sizes[:, 1:])[:, None]).float()[:, None]
    count = used.sum((2, 3), keepdim=True)
    grey = used * (images.float() - (images * used).sum((2, 3), keepdim=True) / count)
    grey = grey / (((grey * grey).sum((2, 3), keepdim=True) / count).sqrt() + 1)
    coords, kinds = prompts.coords, prompts.kinds
    planes = grey.new_zeros(len(kinds), PLANES, height, width)
    planes[:, 0] = grey[:, 0].repeat_interleave(len(kinds) // len(images), 0)
    for plane, label in ((1, 1), (2, 0)):
        prompt, place = torch.nonzero(kinds == label, as_tuple=True)
        x, y = coords[prompt, place].round().long().unbind(1)
        marks = torch.zeros_like(planes[:, :1])
        marks[prompt, 0, y.clamp(0, height - 1), x.clamp(0, width - 1)] = 1
        planes[:, plane] = F.max_pool2d(marks, 3, stride=1, padding=1)[:, 0]
    (x0, y0), (x1, y1) = (
        torch.where((kinds == label)[..., None], coords, 0).sum(1)[..., None].round().unbind(1)
        for label in BOX_LABELS
    )
    inside = ((rows >= y0) & (rows < y1))[:, :, None] & ((columns >= x0) & (columns < x1))[:, None]
    boxed = (kinds == BOX_LABELS[0]).any(1)[:, None, None]
    planes[:, 3] = boxed * (2 * inside.float() - 1)
    return planes


@torch.no_grad()
def logits_of(net: ThinNet, image: NDArray[np.uint8], prompts: PackedPrompts, side: int) -> Tensor:
    """Masks' logits, float32 (N, H, W), of N prompts of an image.

    Parameters
    ----------
    image
        uint8 (H, W) or (H, W, C).
    prompts
        In pixels of the image.
    side
        Pixels along the longest side of what the network sees.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(round(scale * height), 1), max(round(scale * width), 1))
    device = net.head.weight.device
    grey = resized(torch.from_numpy(as_grey(image)).to(device)[None], size)
    seen = F.pad(grey, (0, -size[1] % STRIDE, 0, -size[0] % STRIDE))
    factor = torch.tensor([size[1] / width, size[0] / height], device=device)
    planes = planes_of(seen[None], torch.tensor([size], device=device), prompts.scaled(factor))
    return resized(net(planes).float()[:, : size[0], : size[1]], (height, width))


def answer(
    net: ThinNet,
    image: NDArray[np.uint8],
    prompt: SomePrompt,
    asked: NDArray,
    settings: ThinObjects = SHIPPED,
) -> tuple[Tensor, float] | None:
    """The logits (H, W) of a thin object's mask and its expected IoU; None where none is meant.

    The prompt has clicks or a box; `asked`, XYXY, half-open, is the box around what it asks for.
    """
    if _share(asked, image) < settings.least:
        return None
    believed = None
    for side in sides(image, settings):
        logits = drawn(net, image, prompt, side)
        if logits is None:
            return None
        told = np.dot(settings.weights, evidence(logits, image, prompt, asked))
        if told <= settings.bias - settings.doubt:
            return None
        believed = (logits, expected_iou(logits)) if told > settings.bias else None
    return believed


def sides(image: NDArray[np.uint8], settings: ThinObjects = SHIPPED) -> list[int]:
    """Pixels along the longest side of what the network sees of an image, one look after the other."""
    finer = min(max(image.shape[:2]), settings.most)
    return [settings.side, finer] if finer > settings.side else [settings.side]


def drawn(net: ThinNet, image: NDArray[np.uint8], prompt: SomePrompt, side: int) -> Tensor | None:
    """The logits (H, W) of what the network draws; None where that is nothing, or not thin."""
    logits = of_best_dice(logits_of(net, image, pack([prompt]), side)[0])
    mask = logits[None] > 0
    return logits if mask.any() and float(slenderness(mask)) <= THIN else None


def of_best_dice(logits: Tensor) -> Tensor:
    """Logits less the value at which they are to be cut for the highest expected Dice.

    That value is below 0 where much is uncertain: a pixel belongs into the mask if its chance is above half
    of the Dice that can be had [1]_.

    References
    ----------
    .. [1] Z. Lipton, C. Elkan, B. Naryanaswamy, "Optimal thresholding of classifiers to maximize F1 measure",
       ECML PKDD (2014).
    """
    step = max(1, max(logits.shape) // 256)  # a sample of a large image says as much
    some = logits[::step, ::step]
    chance = torch.sigmoid(some)
    cuts = torch.arange(-3, 0.01, 0.25, device=logits.device)
    masks = some > cuts[:, None, None]
    dice = 2 * (chance * masks).sum((1, 2)) / (masks.sum((1, 2)) + chance.sum())
    return logits - cuts[dice.argmax()]


def evidence(logits: Tensor, image: NDArray[np.uint8], prompt: SomePrompt, asked: NDArray) -> Evidence:
    """See :class:`Evidence`; of a mask's logits (H, W) that is not empty, and of what is `asked`, XYXY."""
    mask = (logits > 0).cpu().numpy()
    chance = min(max(expected_iou(logits), 0.01), 0.99)
    rows, columns = np.clip(np.round(prompt.points[:, ::-1]).astype(np.int64), 0, np.array(mask.shape) - 1).T
    kept, wanted = mask[rows, columns], prompt.labels == 1
    return Evidence(
        sure=math.log(chance / (1 - chance)),
        contrast=min(_contrast(logits > 0, as_grey(image)), 3.0),
        span=_share(bounds(mask), mask),
        asked_span=_share(asked, mask),
        inside=float(kept[wanted].mean()) if wanted.any() else 1.0,
        outside=float((~kept[~wanted]).mean()) if (~wanted).any() else 1.0,
    )


def _contrast(mask: Tensor, grey: NDArray[np.float32]) -> float:
    own = mask[None, None].float()
    near = [F.max_pool2d(part, 7, stride=1, padding=3)[0, 0] > 0 for part in (own, 1 - own)]
    inside, outside = (grey[part.cpu().numpy()] for part in (mask & near[1], ~mask & near[0]))
    if not len(inside) or not len(outside):
        return 0.0
    spread = math.sqrt((inside.var(dtype=float) + outside.var(dtype=float)) / 2)
    return float(abs(inside.mean(dtype=float) - outside.mean(dtype=float)) / (spread + 1))


def _share(box: NDArray, image: NDArray) -> float:
    x0, y0, x1, y1 = (float(side) for side in box)
    return (x1 - x0) * (y1 - y0) / (image.shape[0] * image.shape[1])
