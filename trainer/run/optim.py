"""The optimiser, its learning rate, the clipping of gradients and the moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning_fabric import Fabric
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synthfm.trainer.config import TrainConfig
from synthfm.trainer.run.muon import Muon

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def make_optimizer(sam: Sam, config: TrainConfig) -> Optimizer:
    """AdamW or Muon; weight decay on the weights of layers alone, the encoder at its own learning rate.

    The fused AdamW takes a quarter of the time on CPUs; before it Fabric cannot clip the scaled gradients of
    fp16.
    """
    optim, fused = config.optim, config.precision != "16"
    layers = [layer for layer in sam.modules() if isinstance(layer, LAYERS)]
    matrices = {layer.weight: is_matrix(layer) for layer in layers}
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, p in sam.named_parameters():
        if p.requires_grad:
            key = (name.startswith("image_encoder"), p in matrices, matrices.get(p, False))
            groups.setdefault(key, []).append(p)
    settings = [
        {
            "params": params,
            "weight_decay": optim.weight_decay if decays else 0.0,
            "share": optim.encoder_lr if encoder else 1.0,
            "matrices": matrix,
        }
        for (encoder, decays, matrix), params in groups.items()
    ]
    options: dict[str, Any] = {
        "lr": optim.lr, "betas": (0.9, optim.beta2), "fused": fused, "foreach": not fused
    }  # fmt: skip
    if optim.kind == "muon":
        return Muon(settings, dtype=torch.float32 if config.precision == "32" else torch.bfloat16, **options)
    return torch.optim.AdamW(settings, **options)


def is_matrix(layer: nn.Module) -> bool:
    """Whether a layer's weight maps many channels to many: no depthwise kernel, no last layer of a head."""
    if not isinstance(layer, nn.Linear | nn.Conv2d) or getattr(layer, "groups", 1) > 1:
        return False
    return min(len(layer.weight), layer.weight[0].numel()) >= 16


def moving_average(sam: Sam, decay: float) -> AveragedModel | None:
    """The average of the weights that is validated and exported; None for no decay."""
    return AveragedModel(sam, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None


def set_learning_rate(optimizer: Optimizer, config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to ``final * lr``; returns the rate of the decoder.

    The warm-up takes a quarter of the steps at most: a short run is to train as well.
    """
    optim = config.optim
    warmup = min(optim.warmup, config.steps // 4)
    warm = min(1.0, (step + 1) / max(warmup, 1))
    progress = max(0.0, step - warmup) / max(config.steps - warmup, 1)
    cosine = optim.final + (1 - optim.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    rate = optim.lr * warm * cosine
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    return rate


def clip(fabric: Fabric, module: nn.Module, optimizer: Optimizer, largest: float) -> Tensor:
    """Clip the gradient's norm; returns what it was."""
    norm = fabric.clip_gradients(module, optimizer, max_norm=largest or math.inf, error_if_nonfinite=False)  # type: ignore[arg-type]
    return torch.as_tensor(0.0 if norm is None else norm)
