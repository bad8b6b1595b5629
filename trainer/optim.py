"""The optimiser, its learning rate, the clipping of gradients and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from lightning_fabric import Fabric
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.config import Optim, TrainConfig


def make_optimizer(sam: Sam, config: Optim, fused: bool = True) -> Optimizer:
    """AdamW; no weight decay on norms, biases and embeddings; the encoder at its own learning rate.

    The fused one takes a quarter of the time on CPUs; before it Fabric cannot clip the scaled gradients of
    fp16.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, p in sam.named_parameters():
        if p.requires_grad:
            decays = p.ndim > 1 and "embed" not in name and "token" not in name
            groups.setdefault((name.startswith("image_encoder"), decays), []).append(p)
    settings = [
        {
            "params": params,
            "weight_decay": config.weight_decay if decays else 0.0,
            "share": config.encoder_lr if encoder else 1.0,
        }
        for (encoder, decays), params in groups.items()
    ]
    return torch.optim.AdamW(
        settings, lr=config.lr, betas=(0.9, config.beta2), fused=fused, foreach=not fused
    )


def moving_average(sam: Sam, decay: float) -> AveragedModel | None:
    """The average of the weights that is validated and exported; None for no decay."""
    return AveragedModel(sam, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None


def set_learning_rate(optimizer: Optimizer, config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to ``final * lr``; returns the rate of the decoder."""
    optim = config.optim
    warm = min(1.0, (step + 1) / max(optim.warmup, 1))
    progress = max(0.0, step - optim.warmup) / max(config.steps - optim.warmup, 1)
    cosine = optim.final + (1 - optim.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    rate = optim.lr * warm * cosine
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    return rate


def clip(fabric: Fabric, module: nn.Module, optimizer: Optimizer, largest: float) -> Tensor:
    """Clip the gradient's norm; returns what it was."""
    norm = fabric.clip_gradients(module, optimizer, max_norm=largest or math.inf, error_if_nonfinite=False)  # type: ignore[arg-type]
    return torch.as_tensor(0.0 if norm is None else norm)
