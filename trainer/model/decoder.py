"""SAM's prompt encoder and mask decoder, in their function, for all prompts of many images in one call.

What the prompts of an image share is computed once, and large products take the place of many small ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam
from segment_anything.modeling.transformer import Attention, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from synthfm.trainer.model.packing import IGNORE_LABEL, PAD_LABEL, PackedPrompts
from synthfm.trainer.model.tiny import attention as attend

NOTHING = 1e-30
"""A share of attention that changes no sum in float32."""


def decode(
    sam: Sam, features: Tensor, prompts: PackedPrompts, logits: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Decode N prompts of B images, as many for each image.

    Parameters
    ----------
    features
        (B, C, h, w), the embeddings; prompt n belongs to image ``n // (N // B)``.
    prompts
        In pixels of the model's input.
    logits
        (N, 1, 4h, 4w) mask prompts or None.

    Returns
    -------
    masks, iou
        Logits (N, 4, 4h, 4w) and estimated IoU (N, 4); the first mask is the single one, the other three are
        those for ambiguous prompts. Gradients flow unless the caller turns them off.
    """
    encoder = sam.prompt_encoder
    count = len(prompts.kinds)
    # Positions are sines of high frequency: in bfloat16 a click would move by pixels.
    with torch.autocast(features.device.type, enabled=False):
        sparse = embed_points(encoder, prompts.coords, prompts.kinds)
        image_pe = encoder.get_dense_pe()
    if logits is not None:
        dense = encoder.mask_downscaling(logits)
        features = features.repeat_interleave(count // len(features), 0)
    else:
        dense = encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    # One type for all that is as large as the image: under autocast, sums in float32 cost twice the memory.
    image_pe, dense = image_pe.to(features.dtype), dense.to(features.dtype)
    ignored = prompts.kinds == IGNORE_LABEL if prompts.ragged else None
    return decode_masks(sam.mask_decoder, features + dense, image_pe, sparse, ignored)


def embed_points(encoder: PromptEncoder, coords: Tensor, kinds: Tensor) -> Tensor:
    """SAM's embedding of points and box corners without branching on their labels: (N, M, C).

    The same numbers as ``PromptEncoder.forward``; labels may differ from row to row.
    """
    position = encoder.pe_layer.forward_with_coords(coords.float() + 0.5, encoder.input_image_size)
    weights = [encoder.not_a_point_embed.weight, *(part.weight for part in encoder.point_embeddings)]
    table = torch.cat(weights)
    return position * (kinds > PAD_LABEL)[..., None] + F.embedding(kinds.clamp(PAD_LABEL) + 1, table)


def decode_masks(
    decoder: MaskDecoder, features: Tensor, image_pe: Tensor, sparse: Tensor, ignored: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``MaskDecoder.predict_masks`` for N prompts of B images.

    Parameters
    ----------
    features
        (B, C, h, w), embedding plus dense prompt; prompt n belongs to ``n // (N // B)``.
    image_pe
        (1, C, h, w).
    sparse
        (N, M, C), embedded points and boxes.
    ignored
        (N, M), points that are not there.

    Returns
    -------
    masks, iou
        (N, 4, 4h, 4w) and (N, 4).
    """
    count, (height, width) = len(sparse), features.shape[2:]
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output.expand(count, -1, -1), sparse], dim=1)
    seen = None if ignored is None else F.pad(~ignored, (len(output), 0), value=True)
    hidden, source = two_way(decoder.transformer, features, image_pe, tokens, seen)
    heads = decoder.output_hypernetworks_mlps
    weights = torch.stack([head(hidden[:, 1 + i]) for i, head in enumerate(heads)], dim=2)
    cells = upscale(decoder.output_upscaling, source) @ weights
    # Rows and columns of a token's cells: of the first doubling, then of the second.
    cells = cells.view(count, height, width, 2, 2, 2, 2, -1).permute(0, 7, 1, 3, 5, 2, 4, 6)
    masks = cells.reshape(count, -1, 4 * height, 4 * width)
    return masks, decoder.iou_prediction_head(hidden[:, 0])


def upscale(layers: nn.Sequential, source: Tensor) -> Tensor:
    """``MaskDecoder.output_upscaling`` token by token, as matrix products.

    Its transposed convolutions have a stride as large as their kernels, so that nothing passes between the
    cells of one token and those of another, and the cells need not lie in their places before the masks do.

    Parameters
    ----------
    source
        (N, h w, C).

    Returns
    -------
    Tensor
        (N, h w 16, c), the sixteen cells of a token by row and column of the first doubling, then of the
        second.
    """
    parts: list[Any] = list(layers)
    first, norm, activation, second, last = parts
    cells = _doubled(first, source)
    normed = F.layer_norm(cells.float(), norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return last(_doubled(second, activation(normed.to(cells.dtype))))


def _doubled(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A 2x2 transposed convolution of stride 2 of cells (N, K, C) on their own: (N, 4 K, c)."""
    weight = layer.weight.permute(2, 3, 1, 0).reshape(-1, layer.in_channels)
    bias = None if layer.bias is None else layer.bias.repeat(4)
    return F.linear(x, weight, bias).view(len(x), -1, layer.out_channels)


def two_way(
    transformer: TwoWayTransformer, features: Tensor, image_pe: Tensor, tokens: Tensor, seen: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``TwoWayTransformer.forward`` for N prompts of B images.

    The same function, computed in another order. A prompt has some ten tokens and an image hundreds or
    thousands, so that nearly all the work is in projecting the image's tokens for attention from and to those
    few. Until the first layer has written into them they are the same for all prompts of an image and are
    projected once. After that the projection is moved to the other side of the product:
    ``(x W + b) . k = x . (W k) + b . k``, and likewise for values, which takes about half the multiplications
    and leaves large matrix products instead of many small ones.

    Parameters
    ----------
    features, image_pe
        (B, C, h, w) and (1, C, h, w).
    tokens
        (N, T, C).
    seen
        Tokens that may be attended to, bool (N, T), or None for all.

    Returns
    -------
    tokens, image
        (N, T, C) and (N, h w, C).
    """
    queries, image = tokens, features.flatten(2).transpose(1, 2)
    position = image_pe.flatten(2).transpose(1, 2)
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.norm1(_attend(layer.self_attn, queries, queries, queries, seen))
        else:
            placed = queries + tokens
            queries = layer.norm1(queries + _attend(layer.self_attn, placed, placed, queries, seen))
        keys = image + position
        read = _attend if len(image) < len(tokens) else _read_image
        queries = layer.norm2(queries + read(layer.cross_attn_token_to_image, queries + tokens, keys, image))
        queries = layer.norm3(queries + layer.mlp(queries))
        change = _change_image(layer.cross_attn_image_to_token, keys, queries + tokens, queries, seen)
        image = layer.norm4(_repeat(image, len(change)) + change)
    final = transformer.final_attn_token_to_image
    queries = queries + _read_image(final, queries + tokens, image + position, image)
    return transformer.norm_final_attn(queries), image


def _attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """SAM's ``Attention``: q (N, Q, C); k and v have a row for every prompt, or one for all of an image."""
    projected = (attention.q_proj(q), attention.k_proj(k), attention.v_proj(v))
    q, k, v = (_repeat(_heads(attention, part).transpose(1, 2), len(q)) for part in projected)
    out = attend(q, k, v, None if seen is None else seen[:, None, None])
    return attention.out_proj(out.transpose(1, 2).flatten(2))


def _read_image(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same for few queries and many keys, (N, Q, C) and (N, K, C), without projecting the keys."""
    q = _heads(attention, attention.q_proj(q))
    asked = torch.einsum(
        "nqhd,hdc->nhqc", q / math.sqrt(q.shape[-1]), _heads(attention, attention.k_proj.weight, 0)
    )
    # The keys' bias adds the same to all of a query's scores and drops out of the softmax.
    # The keys on the left: their gradient then lies in memory as they do, and is added up faster.
    weights = shares_of((k @ asked.flatten(1, 2).transpose(1, 2)).transpose(1, 2), -1)
    read = (weights @ v).unflatten(1, (attention.num_heads, -1))
    out = torch.einsum("nhqc,hdc->nqhd", read, _heads(attention, attention.v_proj.weight, 0))
    return attention.out_proj(out.flatten(2) + attention.v_proj.bias)


def _change_image(attention: Attention, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
    """The same for many queries (N or B, Q, C) and few keys (N, K, C), without projecting the queries."""
    k, v = _heads(attention, attention.k_proj(k)), _heads(attention, attention.v_proj(v))
    k = k / math.sqrt(k.shape[-1])
    asked = torch.einsum("nkhd,hdc->nhkc", k, _heads(attention, attention.q_proj.weight, 0))
    bias = torch.einsum("nkhd,hd->nhk", k, _heads(attention, attention.q_proj.bias, 0))
    if seen is not None:
        bias = bias.masked_fill(~seen[:, None], -torch.inf)
    # Keys before queries: the softmax then runs over rows of many queries and not of few keys.
    scores = _repeat(q, len(k)) @ asked.flatten(1, 2).transpose(1, 2)
    scores = scores.transpose(1, 2) + bias.flatten(1)[:, :, None]
    weights = shares_of(scores.unflatten(1, (attention.num_heads, -1)), 2).flatten(1, 2)
    values = torch.einsum("nkhd,chd->nhkc", v, _heads(attention, attention.out_proj.weight, 1))
    return torch.baddbmm(attention.out_proj.bias, weights.transpose(1, 2), values.flatten(1, 2))


def shares_of(scores: Tensor, axis: int) -> Tensor:
    """The softmax of scores, 0 where that is next to nothing (:data:`NOTHING`).

    Trained attention is so sharp that many shares are denormal numbers, which processors multiply a hundred
    times as slowly as others: a click took half as long again.
    """
    shares = torch.softmax(scores, axis)
    return shares if shares.is_cuda else F.threshold(shares, NOTHING, 0.0)


def _heads(attention: Attention, projected: Tensor, axis: int = -1) -> Tensor:
    """The axis of the projected channels as heads times channels of a head."""
    return projected.unflatten(axis, (attention.num_heads, -1))


def _repeat(rows: Tensor, count: int) -> Tensor:
    """(B, ...) as (N, ...), each row N / B times in turn; nothing is copied for one image."""
    if len(rows) == 1:
        return rows.expand(count, *rows.shape[1:])
    return rows if len(rows) == count else rows.repeat_interleave(count // len(rows), 0)
