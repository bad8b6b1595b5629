"""Images to embeddings and prompts to masks, many at a time, with the numbers of ``SamPredictor``.

SAM's own loop decodes one image after the other. Here the embedding is repeated for every prompt and all
prompts go through the decoder in one call. Points and boxes are in pixels of the original image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn import functional as F

BOX_LABELS = (2, 3)
"""Labels of a box's two corners where it is written as two points, as in SAM's ONNX model."""
PAD_LABEL = -1


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
        return (self.logits() > 0).cpu().numpy()

    def best(self) -> NDArray[np.bool_]:
        """The mask of highest estimated IoU of each prompt, bool (B, H, W)."""
        rows = torch.arange(len(self.iou), device=self.iou.device)
        return (self.logits()[rows, self.iou.argmax(1)] > 0).cpu().numpy()


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
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"image is {image.dtype} {image.shape}; expected uint8 (H, W) or (H, W, 3)")
    colour = np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
    resized = ResizeLongestSide(sam.image_encoder.img_size).apply_image(colour)
    tensor = torch.as_tensor(resized, device=sam.device).permute(2, 0, 1)[None]
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
        If there is no prompt, or points come without labels.
    """
    if points is None and boxes is None and logits is None:
        raise ValueError("no prompt: give points, boxes or logits")
    if (points is None) != (labels is None):
        raise ValueError("points and labels go together")
    device = sam.device
    height, width = embedding.original_size
    # SAM's transform: the scale of each axis after rounding the resized image to whole pixels.
    scale = torch.tensor([embedding.input_size[1] / width, embedding.input_size[0] / height], device=device)
    clicks = None if points is None else torch.as_tensor(points, dtype=torch.float32, device=device) * scale
    marks = None if labels is None else torch.as_tensor(labels, device=device)
    corners = None
    if boxes is not None:
        corners = torch.as_tensor(boxes, dtype=torch.float32, device=device) * scale.repeat(2)
    coords, kinds = as_points(clicks, marks, corners)
    count = len(kinds) if kinds is not None else len(logits)  # type: ignore[arg-type]
    features = embedding.features.expand(count, -1, -1, -1)
    low_res, iou = decode(sam, features, coords, kinds, logits)
    chosen = slice(1, None) if multimask else slice(0, 1)
    return Prediction(
        low_res[:, chosen],
        iou[:, chosen],
        sam.image_encoder.img_size,
        embedding.original_size,
        embedding.input_size,
    )


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
        kinds.append(torch.tensor(BOX_LABELS, device=boxes.device).expand(len(boxes), -1))
    else:
        coords.append(torch.zeros_like(coords[0][:, :1]))
        kinds.append(torch.full_like(kinds[0][:, :1], PAD_LABEL))
    return torch.cat(coords, 1), torch.cat(kinds, 1)


def decode(
    sam: Sam, features: Tensor, coords: Tensor | None, kinds: Tensor | None, logits: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Decode N prompts, each with its own copy of an embedding.

    Parameters
    ----------
    features
        (N, C, h, w), the embedding for each prompt.
    coords, kinds
        As :func:`as_points` gives them, in pixels of the model's input; None for none.
    logits
        (N, 1, 4h, 4w) mask prompts or None.

    Returns
    -------
    masks, iou
        Logits (N, 4, 4h, 4w) and estimated IoU (N, 4); the first mask is the single one, the other three are
        those for ambiguous prompts. Gradients flow unless the caller turns them off.
    """
    encoder = sam.prompt_encoder
    # Positions are sines of high frequency: in bfloat16 a click would move by pixels.
    with torch.autocast(features.device.type, enabled=False):
        sparse = embed_points(encoder, coords, kinds, len(features))
        image_pe = encoder.get_dense_pe()
    if logits is not None:
        dense = encoder.mask_downscaling(logits)
    else:
        dense = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    # One type for all that is as large as the image: under autocast, sums in float32 cost twice the memory.
    image_pe, dense = image_pe.to(features.dtype), dense.to(features.dtype)
    return decode_masks(sam.mask_decoder, features + dense, image_pe, sparse)


def embed_points(encoder: PromptEncoder, coords: Tensor | None, kinds: Tensor | None, count: int) -> Tensor:
    """SAM's embedding of points and box corners without branching on their labels: (N, M, C).

    The same numbers as ``PromptEncoder.forward``; labels may differ from row to row.
    """
    if coords is None or kinds is None:
        return torch.zeros((count, 0, encoder.embed_dim), device=encoder.no_mask_embed.weight.device)
    position = encoder.pe_layer.forward_with_coords(coords.float() + 0.5, encoder.input_image_size)
    weights = [encoder.not_a_point_embed.weight, *(part.weight for part in encoder.point_embeddings)]
    table = torch.cat(weights)
    return position * (kinds != PAD_LABEL)[..., None] + F.embedding(kinds + 1, table)


def decode_masks(
    decoder: MaskDecoder, features: Tensor, image_pe: Tensor, sparse: Tensor
) -> tuple[Tensor, Tensor]:
    """``MaskDecoder.predict_masks`` for N prompts with one embedding each.

    Parameters
    ----------
    features
        (N, C, h, w), embedding plus dense prompt.
    image_pe
        (1, C, h, w).
    sparse
        (N, M, C), embedded points and boxes.

    Returns
    -------
    masks, iou
        (N, 4, 4h, 4w) and (N, 4).
    """
    count, channels, height, width = features.shape
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output.expand(count, -1, -1), sparse], dim=1)
    hidden, source = decoder.transformer(features, image_pe.expand(count, -1, -1, -1), tokens)
    source = source.transpose(1, 2).view(count, channels, height, width)
    upscaled = decoder.output_upscaling(source).flatten(2)
    heads = decoder.output_hypernetworks_mlps
    weights = torch.stack([head(hidden[:, 1 + i]) for i, head in enumerate(heads)], dim=1)
    masks = (weights @ upscaled).view(count, -1, 4 * height, 4 * width)
    return masks, decoder.iou_prediction_head(hidden[:, 0])
