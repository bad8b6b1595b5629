"""The compact image encoder of the model `tiny`: 256 pixels in, 256 channels at stride 16 out.

Convolutions where the image is fine, attention where it is coarse. What the fine stages saw is added to the
output through strided projections, so that structures smaller than a token survive. There is no table of
positions: depthwise convolutions tell a token where it lies, as in CPVT (Chu et al., 2021), so the same
weights run at any input size that is a multiple of 16.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 16
WIDTHS = (48, 96, 224)
"""Channels at stride 4, 8 and 16."""
DEPTHS = (1, 2, 5)
"""Blocks at stride 4, 8 and 16 of a model from nothing, unless told otherwise."""
Depths = tuple[int, int, int]
_BLOCK = re.compile(r"(?:^|\.)stage([123])\.(\d+)\.")


class ChannelNorm(LayerNorm2d):
    """SAM's ``LayerNorm2d`` (same weights, same numbers) by the fused kernel: Bx(C)xHxW to the same.

    It runs in float32 under autocast: the kernel's bfloat16 backward is five times slower on CPUs.
    """

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.permute(0, 2, 3, 1).float()
        y = F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, self.eps)
        return y.to(x.dtype).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with pre-norm and a residual.

    Full convolutions: on CPUs the backward pass of a wide depthwise one costs more.

    Parameters
    ----------
    width
        Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm: nn.Module = ChannelNorm(width)
        self.conv1 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Bx(width)xHxW to the same."""
        return x + self.conv2(F.relu(self.conv1(self.norm(x))))

    def become_identity(self) -> None:
        """Change nothing, until trained."""
        _zero(self.conv2)


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP over all tokens, after a depthwise convolution for position.

    Parameters
    ----------
    width
        Channels in and out.
    heads
        Attention heads; divides `width`.
    ratio
        Hidden channels of the MLP per channel.
    """

    def __init__(self, width: int, heads: int = 4, ratio: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.lin1 = nn.Linear(width, ratio * width)
        self.lin2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Bx(width)xHxW to the same."""
        x = x + self.position(x)
        batch, width, height, columns = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(batch, height * columns, width)
        qkv = self.qkv(self.norm1(tokens)).view(batch, -1, 3, self.heads, width // self.heads)
        mixed = attention(*qkv.permute(2, 0, 3, 1, 4))
        tokens = tokens + self.proj(mixed.transpose(1, 2).reshape(batch, -1, width))
        tokens = tokens + self.lin2(F.gelu(self.lin1(self.norm2(tokens))))
        return tokens.view(batch, height, columns, width).permute(0, 3, 1, 2)

    def become_identity(self) -> None:
        """Change nothing, until trained."""
        for layer in (self.position, self.proj, self.lin2):
            _zero(layer)


def attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """Softmax attention, (B, heads, N, d) each; `seen` says which keys count, bool (B, 1, 1, N).

    Written out where a CPU needs gradients: the fused kernel's backward takes more than twice as long.
    """
    if query.is_cuda or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return torch.softmax(scores, dim=-1).to(value.dtype) @ value


class TinyEncoder(nn.Module):
    """Image encoder with the interface of SAM's ``ImageEncoderViT``.

    The colour channels are averaged first: it is a model of grey images.

    Parameters
    ----------
    image_size
        Input height and width in pixels, a multiple of 16. Kept in the state dict as ``input_size``, so that
        a plain state dict says all that is needed to build the model again.
    out_channels
        Channels of the embedding.
    depths
        Blocks at stride 4, 8 and 16.
    """

    input_size: Tensor

    def __init__(self, image_size: int = 256, out_channels: int = 256, depths: Depths = DEPTHS) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.img_size = image_size
        self.register_buffer("input_size", torch.tensor(image_size))
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, fine, kernel_size=3, stride=2, padding=1),
        )
        self.stage1 = nn.Sequential(*[ConvBlock(fine) for _ in range(depths[0])])
        self.down1 = nn.Sequential(ChannelNorm(fine), nn.Conv2d(fine, middle, kernel_size=2, stride=2))
        self.stage2 = nn.Sequential(*[ConvBlock(middle) for _ in range(depths[1])])
        self.down2 = nn.Sequential(ChannelNorm(middle), nn.Conv2d(middle, coarse, kernel_size=2, stride=2))
        self.stage3 = nn.Sequential(*[AttentionBlock(coarse) for _ in range(depths[2])])
        self.out1 = nn.Sequential(ChannelNorm(fine), nn.Conv2d(fine, out_channels, kernel_size=4, stride=4))
        self.out2 = nn.Sequential(
            ChannelNorm(middle), nn.Conv2d(middle, out_channels, kernel_size=2, stride=2)
        )
        self.out3 = nn.Sequential(ChannelNorm(coarse), nn.Conv2d(coarse, out_channels, kernel_size=1))
        self.neck = nn.Sequential(
            ChannelNorm(out_channels),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            ChannelNorm(out_channels),
        )
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images Bx3xSxS to embeddings Bx(out_channels)x(S/16)x(S/16)."""
        x = x.mean(1, keepdim=True).contiguous(memory_format=torch.channels_last)
        x1 = self.stage1(self.stem(x))
        x2 = self.stage2(self.down1(x1))
        x3 = self.stage3(self.down2(x2))
        return self.neck(self.out1(x1) + self.out2(x2) + self.out3(x3))


def depths_of(keys: Iterable[str]) -> Depths:
    """Blocks at stride 4, 8 and 16 of a :class:`TinyEncoder`, from its state dict's keys under any prefix."""
    found = [match for key in keys if (match := _BLOCK.search(key))]
    return tuple(max((int(m[2]) + 1 for m in found if int(m[1]) == stage), default=0) for stage in (1, 2, 3))  # type: ignore[return-value]


def grow(encoder: TinyEncoder, weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights of a shallower encoder for a deeper one: the blocks that it lacks begin as the identity.

    So the deeper network is the same function at first (Chen, Goodfellow & Shlens, 2016, Net2DeeperNet).

    Parameters
    ----------
    encoder
        The deeper encoder, whose further blocks are set.
    weights
        A state dict with the encoder's keys under `prefix`.
    """
    grown = dict(weights)
    for stage, depth in enumerate(depths_of(weights), start=1):
        blocks = getattr(encoder, f"stage{stage}")
        for number in range(depth, len(blocks)):
            blocks[number].become_identity()
            own = blocks[number].state_dict(prefix=f"{prefix}stage{stage}.{number}.")
            grown.update(own)
    return grown


def _zero(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _initialise(module: nn.Module) -> None:
    """Truncated normal for the linear layers, as in ViT; He for the full convolutions of the stem."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
