"""In which number format a machine computes: bfloat16 where it has units for it, else float32."""

from __future__ import annotations

import logging
import os
import time

import torch
from lightning_fabric.utilities import rank_zero_only
from llvmlite.binding import get_host_cpu_features
from segment_anything.modeling import Sam
from torch import Tensor

log = logging.getLogger(__name__)

NATIVE = ("avx512bf16", "amx-bf16", "bf16")
"""LLVM's names of the instructions that multiply bfloat16: two sets of x86's, and ARM's."""
BELOW_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA with which oneDNN, PyTorch's library for it, does not use them."""


def resolve(precision: str, device: str) -> str:
    """``auto`` as the format that `device` (a device's type) computes fastest in; others as they are.

    One that is asked for by name, and that the processor does not compute in, is taken, with a warning of
    what it costs.

    >>> resolve("32", "cpu")
    '32'
    """
    if precision == "auto":
        return "bf16" if computes_in_bf16(device) else "32"
    if precision == "bf16" and not computes_in_bf16(device):
        rank_zero_only(log.warning)(
            "precision: this %s does not compute in bf16 but imitates it: a matrix product takes %.1f times "
            "as long as in float32; precision=auto takes 32 here",
            "GPU" if device == "cuda" else "processor",
            _cost_of_bf16(device),
        )
    return precision


def encode_in(sam: Sam, precision: str) -> Sam:
    """Have a model's encoder, which is nearly all of what an image costs, compute in ``32`` or ``bf16``.

    Its embeddings, and all that is made of them, are float32 in any case. Returns the model.
    """
    if precision == "bf16":
        forward = sam.image_encoder.forward

        def lower(images: Tensor) -> Tensor:
            with torch.autocast(images.device.type, torch.bfloat16):
                return forward(images).float()

        sam.image_encoder.forward = lower
    return sam


def computes_in_bf16(device: str) -> bool:
    """Whether a device's own instructions multiply bfloat16.

    Asked of the processor, not timed, so that every process of a run finds the same on a busy machine, too.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu" or os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in BELOW_BF16:
        return False
    features = get_host_cpu_features()
    return any(features.get(name, False) for name in NATIVE)


def _cost_of_bf16(device: str, side: int = 256) -> float:
    """Time of a product of two matrices in bfloat16 over that in float32, the best of three each."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(side, side, dtype=dtype, device=device)
        tries = []
        for _ in range(3):
            start = time.perf_counter()
            (matrix @ matrix).sum().item()
            tries.append(time.perf_counter() - start)
        seconds[dtype] = min(tries)
    return seconds[torch.bfloat16] / seconds[torch.float32]
