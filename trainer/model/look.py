"""One look at an image: it is encoded once, then any prompts are decoded to masks, with SAM's numbers.

SAM's own loop decodes one prompt after the other. Here prompts go through the decoder in one call, whatever
their numbers of clicks, each with the numbers that ``SamPredictor`` gives it alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn import functional as F

from synthfm.trainer.model.decoder import decode
from synthfm.trainer.model.packing import PackedPrompts


@dataclass(frozen=True)
class Encoding:
    """One encoded image.

    Attributes
    ----------
    image
        As given, uint8 (H, W) or (H, W, 3).
    features
        float32 (1, C, h, w).
    input_size
        Height and width after its longest side was brought to the model's input size, before padding.
    """

    image: NDArray[np.uint8]
    features: Tensor
    input_size: tuple[int, int]

    @property
    def original_size(self) -> tuple[int, int]:
        """Height and width of the image as given."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class Prediction:
    """Masks for B prompts of one image, C for each prompt.

    Attributes
    ----------
    low_res
        Logits (B, C, 4h, 4w) at a quarter of the model's input size; a mask where they are above 0. They are
        what the next round takes as its mask prompt.
    iou
        The model's own estimate of each mask's IoU, (B, C).
    """

    low_res: Tensor
    iou: Tensor
    image_size: int
    original_size: tuple[int, int]
    input_size: tuple[int, int]

    def logits(self) -> Tensor:
        """Logits at the original image's resolution, (B, C, H, W), as SAM upsamples them."""
        height, width = self.input_size
        size = (self.image_size, self.image_size)
        full = F.interpolate(self.low_res, size, mode="bilinear", align_corners=False)
        full = full[..., :height, :width]
        return F.interpolate(full, self.original_size, mode="bilinear", align_corners=False)

    def masks(self) -> NDArray[np.bool_]:
        """Masks at the original image's resolution, bool (B, C, H, W)."""
        found = np.empty((*self.iou.shape, *self.original_size), bool)
        for row in range(len(found)):  # one prompt at a time: the logits are four times as large as the masks
            found[row] = (self[row : row + 1].logits() > 0).cpu().numpy()[0]
        return found

    def best(self, several: Tensor | bool) -> Prediction:
        """The one mask of each prompt that :func:`choose` takes, (B, 1)."""
        chosen = choose(self.iou, several)
        rows = torch.arange(len(chosen), device=chosen.device)
        return replace(self, low_res=self.low_res[rows, chosen][:, None], iou=self.iou[rows, chosen][:, None])

    def __getitem__(self, some: slice | list[int] | tuple[slice, slice]) -> Prediction:
        """Some of the prompts, or of their masks."""
        return replace(self, low_res=self.low_res[some], iou=self.iou[some])


@dataclass(frozen=True)
class Segmentation:
    """One prompt's answer; given back with the next click, it is what that click corrects.

    Attributes
    ----------
    mask
        bool (H, W), of the image's size.
    iou
        Estimate of the mask's IoU with what is meant.
    low_res
        Logits (1, 4h, 4w) of the look at the whole image: the mask prompt of its next round. (What a second
        look has drawn is too fine for it: brought to this size, a small mask fades.)
    logits
        float32 (H, W) of a second look, whose mask prompt they are in the next round; None without one.
    """

    mask: NDArray[np.bool_]
    iou: float
    low_res: Tensor
    logits: Tensor | None = None

    def drawn(self) -> Tensor:
        """Logits of the mask at the image's resolution, float32 (H, W)."""
        if self.logits is not None:
            return self.logits
        height, width = self.mask.shape
        longest = max(height, width)
        full = F.interpolate(self.low_res[None].float(), (longest, longest), mode="bilinear")
        return full[0, 0, :height, :width]


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise a :class:`ValueError` for an image that is not uint8 (H, W) or (H, W, 3)."""
    kind, shape = getattr(image, "dtype", type(image).__name__), getattr(image, "shape", ())
    if kind != np.uint8 or not (len(shape) == 2 or shape[2:] == (3,)) or 0 in shape:
        raise ValueError(f"image is {kind} {tuple(shape)}; expected uint8 (H, W) or (H, W, 3)")


class _Resize(ResizeLongestSide):
    """SAM's, but that of an image of 1 x 600 a row is left."""

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        height, width = ResizeLongestSide.get_preprocess_shape(oldh, oldw, long_side_length)
        return max(height, 1), max(width, 1)


@torch.no_grad()
def encode_image(sam: Sam, image: NDArray[np.uint8]) -> Encoding:
    """Encode one image as ``SamPredictor.set_image`` does.

    Parameters
    ----------
    sam
        The model, in evaluation mode.
    image
        uint8, (H, W) grey or (H, W, 3) RGB; grey is given to the model as three equal channels.
    """
    check_image(image)
    resized = to_input(image, sam.image_encoder.img_size)
    tensor = (
        torch.as_tensor(np.atleast_3d(resized), device=sam.device)
        .permute(2, 0, 1)[None]
        .expand(-1, 3, -1, -1)
    )
    features = sam.image_encoder(sam.preprocess(tensor))
    return Encoding(image, features, (resized.shape[0], resized.shape[1]))


def to_input(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """An image, uint8 (H, W) or (H, W, 3), with its longest side brought to `size`, as SAM does it."""
    return _Resize(size).apply_image(image)


def encode(sam: Sam, images: Tensor, sizes: Tensor | None = None) -> Tensor:
    """Encode a batch of images that are at the model's input size already.

    Parameters
    ----------
    images
        (B, 1, S, S) or (B, 3, S, S), values 0 to 255, uint8 or floating point; smaller ones are padded right
        and below.
    sizes
        Height and width (B, 2) of what is image and not padding, where that differs from image to image.

    Returns
    -------
    Tensor
        Embeddings (B, C, h, w). Gradients flow unless the caller turns them off.
    """
    normalised = sam.preprocess(images.expand(-1, 3, -1, -1))
    if sizes is not None:  # SAM pads after normalisation, with 0
        rows = torch.arange(normalised.shape[-2], device=images.device) < sizes[:, :1]
        columns = torch.arange(normalised.shape[-1], device=images.device) < sizes[:, 1:]
        normalised = normalised * (rows[:, None, :, None] & columns[:, None, None, :])
    return sam.image_encoder(normalised)


@torch.no_grad()
def predict(sam: Sam, encoding: Encoding, prompts: PackedPrompts, logits: Tensor | None = None) -> Prediction:
    """Masks for B prompts of one image in one call of the decoder.

    Parameters
    ----------
    prompts
        In pixels of the image, as :func:`synthfm.trainer.model.packing.pack` packs them.
    logits
        (B, 1, 4h, 4w), mask prompts such as the `low_res` of an earlier round.

    Returns
    -------
    Prediction
        All four masks: the single one, then the three for ambiguous prompts.
    """
    (height, width), (rows, columns) = encoding.original_size, encoding.input_size
    # SAM's transform: the scale of each axis after rounding the resized image to whole pixels.
    scaled = prompts.scaled(torch.tensor([columns / width, rows / height], device=sam.device))
    low_res, iou = decode(sam, encoding.features, scaled, logits)
    return Prediction(low_res, iou, sam.image_encoder.img_size, encoding.original_size, encoding.input_size)


def choose(iou: Tensor, several: Tensor | bool) -> Tensor:
    """Which of SAM's four masks answers a prompt: the single one, or the best of the three others.

    Parameters
    ----------
    iou
        The model's estimates (B, 4), the single mask's first.
    several
        Which prompts get the best of three, bool (B,) or one for all.

    Returns
    -------
    int64 (B,), numbers of masks.
    """
    best = 1 + iou[:, 1:].argmax(1)
    if isinstance(several, bool):
        return best if several else torch.zeros_like(best)
    return torch.where(several.to(iou.device), best, 0)
