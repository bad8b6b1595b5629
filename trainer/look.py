"""Images to embeddings and prompts to masks, many at a time, with the numbers of ``SamPredictor``.

SAM's own loop decodes one image after the other. Here all prompts go through the decoder in one call,
whatever their numbers of clicks (its arithmetic is in ``trainer/decoder.py``). Points and boxes are in pixels
of the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import PromptEncoder, Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn import functional as F

from trainer.decoder import decode_masks

BOX_LABELS = (2, 3)
"""Labels of a box's two corners where it is written as two points, as in SAM's ONNX model."""
PAD_LABEL = -1
"""SAM's padding point: a token of its own that is attended to."""
IGNORE_LABEL = -2
"""Fills rows of fewer points than others; nothing attends to it, so that a row's numbers stay the same."""


@dataclass(frozen=True)
class Embedding:
    """One encoded image.

    Attributes
    ----------
    features
        float32 (1, C, h, w).
    original_size
        Height and width of the image as given.
    input_size
        Height and width after its longest side was brought to the model's input size, before padding.
    """

    features: Tensor
    original_size: tuple[int, int]
    input_size: tuple[int, int]


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

    def __getitem__(self, rows: slice) -> Prediction:
        """Some of the prompts."""
        return replace(self, low_res=self.low_res[rows], iou=self.iou[rows])


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
def encode_image(sam: Sam, image: NDArray[np.uint8]) -> Embedding:
    """Encode one image as ``SamPredictor.set_image`` does.

    Parameters
    ----------
    sam
        The model, in evaluation mode.
    image
        uint8, (H, W) grey or (H, W, 3) RGB; grey is given to the model as three equal channels.
    """
    check_image(image)
    resized = _Resize(sam.image_encoder.img_size).apply_image(image)
    tensor = (
        torch.as_tensor(np.atleast_3d(resized), device=sam.device)
        .permute(2, 0, 1)[None]
        .expand(-1, 3, -1, -1)
    )
    features = sam.image_encoder(sam.preprocess(tensor))
    height, width = image.shape[:2]
    return Embedding(features, (height, width), (resized.shape[0], resized.shape[1]))


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
def predict(
    sam: Sam,
    embedding: Embedding,
    points: Tensor | NDArray | None = None,
    labels: Tensor | NDArray | None = None,
    boxes: Tensor | NDArray | None = None,
    logits: Tensor | None = None,
    multimask: bool = False,
) -> Prediction:
    """Masks for B prompts of one image in one call of the decoder.

    Parameters
    ----------
    points, labels
        (B, N, 2) clicks (x, y) in pixels of the original image; (B, N) 1 for object, 0 for background, -1
        for padding.
    boxes
        (B, 4) XYXY in pixels of the original image.
    logits
        (B, 1, 4h, 4w), the `low_res` of an earlier round, as mask prompt.
    multimask
        Three masks a prompt, for ambiguous ones, instead of one.

    Raises
    ------
    ValueError
        If there is no prompt, points come without labels, or a shape is another.
    """
    if points is None and boxes is None and logits is None:
        raise ValueError("no prompt: give points, boxes or logits")
    if (points is None) != (labels is None):
        raise ValueError("points and labels go together")
    given = {"points": points, "labels": labels, "boxes": boxes}
    tensors = {
        name: torch.as_tensor(value, device=sam.device) for name, value in given.items() if value is not None
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    count = len(next(iter(tensors.values()), ())) if all(shapes.values()) else 0
    clicks = shapes.get("labels", (count, 0))[1:]
    wanted = {"points": (count, *clicks, 2), "labels": (count, *clicks), "boxes": (count, 4)}
    if len(clicks) != 1 or any(shape != wanted[name] for name, shape in shapes.items()):
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{got}: expected points (B, N, 2), labels (B, N) and boxes (B, 4)")
    coords, kinds = as_points(tensors.get("points"), tensors.get("labels"), tensors.get("boxes"))
    found = predict_points(sam, embedding, coords, kinds, logits)
    chosen = slice(1, None) if multimask else slice(0, 1)
    return replace(found, low_res=found.low_res[:, chosen], iou=found.iou[:, chosen])


@torch.no_grad()
def predict_points(
    sam: Sam,
    embedding: Embedding,
    coords: Tensor | None,
    kinds: Tensor | None,
    logits: Tensor | None = None,
) -> Prediction:
    """Masks for B prompts of one image that are written as points, see :func:`as_points`.

    Parameters
    ----------
    coords, kinds
        (B, M, 2) points (x, y) in pixels of the original image, and (B, M) their labels: 1 object,
        0 background, 2 and 3 a box's corners, :data:`PAD_LABEL`, :data:`IGNORE_LABEL`. None where there are
        mask prompts only.
    logits
        (B, 1, 4h, 4w), the `low_res` of an earlier round, as mask prompt.

    Returns
    -------
    Prediction
        All four masks: the single one, then the three for ambiguous prompts.
    """
    height, width = embedding.original_size
    # SAM's transform: the scale of each axis after rounding the resized image to whole pixels.
    scale = torch.tensor(
        [embedding.input_size[1] / width, embedding.input_size[0] / height], device=sam.device
    )
    if coords is not None and kinds is not None:
        coords, kinds = coords.to(sam.device, torch.float32) * scale, kinds.to(sam.device)
    ragged = kinds is not None and bool((kinds == IGNORE_LABEL).any())
    low_res, iou = decode(sam, embedding.features, coords, kinds, logits, ragged=ragged)
    return Prediction(low_res, iou, sam.image_encoder.img_size, embedding.original_size, embedding.input_size)


def as_points(
    points: Tensor | None, labels: Tensor | None, boxes: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Points and boxes as one list of points, in SAM's order.

    A box is its two corners with labels 2 and 3 after the points; clicks without a box get one padding point.

    Returns
    -------
    coords, kinds
        (B, M, 2) and (B, M); None, None where neither points nor boxes are given.
    """
    if points is None and boxes is None:
        return None, None
    coords, kinds = [], []
    if points is not None and labels is not None:
        coords.append(points.float())
        kinds.append(labels.long())
    if boxes is not None:
        coords.append(boxes.float().view(-1, 2, 2))
        # Made where it is needed: a copy from the CPU would wait for the GPU.
        kinds.append(
            torch.arange(BOX_LABELS[0], BOX_LABELS[1] + 1, device=boxes.device).expand(len(boxes), -1)
        )
    else:
        coords.append(torch.zeros_like(coords[0][:, :1]))
        kinds.append(torch.full_like(kinds[0][:, :1], PAD_LABEL))
    return torch.cat(coords, 1), torch.cat(kinds, 1)


def is_ambiguous(points: NDArray, box: NDArray | None) -> bool:
    """Whether a prompt of clicks (n, 2) and a box is one click alone, which may mean a part or the whole."""
    return len(points) == 1 and box is None


def choose(iou: Tensor, several: Tensor | bool) -> Tensor:
    """Which of SAM's four masks answers a prompt: the single one, or the best of the three others.

    Parameters
    ----------
    iou
        The model's estimates (B, 4), the single mask's first.
    several
        Which prompts get the best of three, bool (B,) or one for all; see :func:`is_ambiguous`.

    Returns
    -------
    int64 (B,), numbers of masks.
    """
    best = 1 + iou[:, 1:].argmax(1)
    if isinstance(several, bool):
        return best if several else torch.zeros_like(best)
    return torch.where(several.to(iou.device), best, 0)


def pack_points(
    points: Sequence[NDArray], labels: Sequence[NDArray], boxes: Sequence[NDArray | None]
) -> tuple[Tensor, Tensor]:
    """:func:`as_points` for prompts of differing numbers of clicks, with a box or without.

    Parameters
    ----------
    points, labels, boxes
        For each prompt (n, 2), (n,) and (4,) or None; n may be 0.

    Returns
    -------
    coords, kinds
        float32 (B, M, 2) and int64 (B, M), M the largest number of points; ends of shorter rows are ignored.
    """
    longest = max(map(len, points)) + 2
    coords = np.zeros((len(points), longest, 2), np.float32)
    kinds = np.full((len(points), longest), IGNORE_LABEL)
    for row, (clicks, marks, box) in enumerate(zip(points, labels, boxes, strict=True)):
        count = len(clicks)
        coords[row, :count], kinds[row, :count] = clicks, marks
        if box is None:
            kinds[row, count] = PAD_LABEL
        else:
            coords[row, count : count + 2], kinds[row, count : count + 2] = (
                np.reshape(box, (2, 2)),
                BOX_LABELS,
            )
    used = (kinds != IGNORE_LABEL).any(0)
    return torch.from_numpy(coords[:, used]), torch.from_numpy(kinds[:, used])


def decode(
    sam: Sam,
    features: Tensor,
    coords: Tensor | None,
    kinds: Tensor | None,
    logits: Tensor | None,
    *,
    ragged: bool = False,
) -> tuple[Tensor, Tensor]:
    """Decode N prompts of B images, as many for each image.

    Parameters
    ----------
    features
        (B, C, h, w), the embeddings; prompt n belongs to image ``n // (N // B)``.
    coords, kinds
        As :func:`as_points` gives them, in pixels of the model's input; None for none.
    logits
        (N, 1, 4h, 4w) mask prompts or None.
    ragged
        Whether some of the points are to be ignored, see :data:`IGNORE_LABEL`.

    Returns
    -------
    masks, iou
        Logits (N, 4, 4h, 4w) and estimated IoU (N, 4); the first mask is the single one, the other three are
        those for ambiguous prompts. Gradients flow unless the caller turns them off.
    """
    encoder = sam.prompt_encoder
    count = len(kinds) if kinds is not None else len(logits)  # type: ignore[arg-type]
    # Positions are sines of high frequency: in bfloat16 a click would move by pixels.
    with torch.autocast(features.device.type, enabled=False):
        sparse = embed_points(encoder, coords, kinds, count)
        image_pe = encoder.get_dense_pe()
    if logits is not None:
        dense = encoder.mask_downscaling(logits)
        features = features.repeat_interleave(count // len(features), 0)
    else:
        dense = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    # One type for all that is as large as the image: under autocast, sums in float32 cost twice the memory.
    image_pe, dense = image_pe.to(features.dtype), dense.to(features.dtype)
    ignored = kinds == IGNORE_LABEL if ragged and kinds is not None else None
    return decode_masks(sam.mask_decoder, features + dense, image_pe, sparse, ignored)


def embed_points(encoder: PromptEncoder, coords: Tensor | None, kinds: Tensor | None, count: int) -> Tensor:
    """SAM's embedding of points and box corners without branching on their labels: (N, M, C).

    The same numbers as ``PromptEncoder.forward``; labels may differ from row to row.
    """
    if coords is None or kinds is None:
        return torch.zeros((count, 0, encoder.embed_dim), device=encoder.no_mask_embed.weight.device)
    position = encoder.pe_layer.forward_with_coords(coords.float() + 0.5, encoder.input_image_size)
    weights = [encoder.not_a_point_embed.weight, *(part.weight for part in encoder.point_embeddings)]
    table = torch.cat(weights)
    return position * (kinds > PAD_LABEL)[..., None] + F.embedding(kinds.clamp(PAD_LABEL) + 1, table)
