"""The optimisers: Muon against PyTorch's own, and which weights it takes for matrices."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from synthfm.trainer.config import Optim, TrainConfig
from synthfm.trainer.model import models
from synthfm.trainer.run import optim
from synthfm.trainer.run.muon import Muon, orthogonal

OPTIONS = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.05}


def test_orthogonal_keeps_the_singular_vectors():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 20, 50, generator=generator)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = left.transpose(1, 2) @ orthogonal(matrices) @ right.transpose(1, 2)
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    assert (values - torch.diag_embed(diagonal)).abs().max() < 1e-3
    rough = left.transpose(1, 2) @ orthogonal(matrices.bfloat16()).float() @ right.transpose(1, 2)
    assert (rough - values).abs().max() < 0.15


def steps(make, weights, count=3):
    """The weights after some steps down the same gradients."""
    weights = copy.deepcopy(weights)
    optimizer = make(weights)
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return weights


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch's own came with 2.9")
def test_muon_is_pytorchs_own_and_adamw_for_the_rest():
    generator = torch.Generator().manual_seed(2)
    shapes = [(32, 64), (64, 32), (32, 64), (24,)]
    weights = [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in shapes]

    def ours(weights):
        groups = [
            {"params": weights[:3], "matrices": True},
            {"params": weights[3:], "matrices": False},
        ]
        return Muon(groups, dtype=torch.bfloat16, **OPTIONS)

    def theirs(weights):
        return torch.optim.Muon(
            weights[:3], lr=0.01, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )

    found = steps(ours, weights)
    moved = [(a - b).abs().max() for a, b in zip(found, weights, strict=True)]
    assert min(moved) > 0.005
    for mine, reference in zip(found[:3], steps(theirs, weights)[:3], strict=True):
        assert (mine - reference).abs().max() < 0.02 * 0.01 * 0.2 * 8 * 3  # two roundings of bfloat16
    plain = steps(lambda weights: torch.optim.AdamW(weights[3:], **OPTIONS), weights)[3]
    assert torch.equal(found[3], plain)


def test_muon_takes_a_kernel_for_the_matrix_of_its_output_channels():
    generator = torch.Generator().manual_seed(3)
    kernel = nn.Parameter(torch.randn(16, 4, 3, 3, generator=generator))
    flat = nn.Parameter(kernel.detach().flatten(1))

    def make(weights):
        return Muon([{"params": weights, "matrices": True}], dtype=torch.float32, **OPTIONS)

    generator = torch.Generator().manual_seed(4)
    kernel.grad = torch.randn(kernel.shape, generator=generator)
    flat.grad = kernel.grad.flatten(1)
    make([kernel]).step()
    make([flat]).step()
    assert torch.allclose(kernel.flatten(1), flat, atol=1e-7)


def test_which_weights_are_matrices():
    sam = models.build("tiny", image_size=32)
    config = TrainConfig(model="tiny", freeze=(), optim=Optim(kind="muon"))
    optimizer = optim.make_optimizer(sam, config)
    assert isinstance(optimizer, Muon)
    names = {p: name for name, p in sam.named_parameters()}
    grouped = {names[p]: group for group in optimizer.param_groups for p in group["params"]}
    assert grouped.keys() == {name for name, p in sam.named_parameters() if p.requires_grad}
    matrices = {name for name, group in grouped.items() if group["matrices"]}
    assert "mask_decoder.transformer.layers.0.self_attn.q_proj.weight" in matrices
    assert "mask_decoder.transformer.layers.1.cross_attn_token_to_image.q_proj.weight" in matrices
    assert "mask_decoder.mask_tokens.weight" not in matrices
    assert "mask_decoder.output_upscaling.0.weight" not in matrices
    for name in matrices:
        assert dict(sam.named_parameters())[name].shape[1] > 1, f"{name} is depthwise"
        assert grouped[name]["weight_decay"] == config.optim.weight_decay
    assert not any(
        group["weight_decay"] for name, group in grouped.items() if "token.w" in name or "norm" in name
    )
    plain = sum(p.numel() for name, p in sam.named_parameters() if name not in matrices)
    assert plain < 0.03 * sum(p.numel() for p in sam.parameters())


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    sam = models.build("tiny", image_size=32)
    settings = Optim(lr=2.0, encoder_lr=0.25, warmup=10, final=0.1)
    config = TrainConfig(model="tiny", freeze=(), steps=110, optim=settings)
    optimizer = optim.make_optimizer(sam, config)
    encoder = set(sam.image_encoder.parameters())
    for step, share in ((0, 0.1), (4, 0.5), (10, 1.0), (35, 0.8682), (60, 0.55), (110, 0.1), (200, 0.1)):
        rate = optim.set_learning_rate(optimizer, config, step)
        assert rate == pytest.approx(2 * share, rel=1e-4)
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(rate * (0.25 if group["params"][0] in encoder else 1))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_optimiser_has_the_settings_of_the_config(kind):
    config = TrainConfig(model="tiny", freeze=(), optim=Optim(kind=kind, beta2=0.9, weight_decay=0.3))
    groups = optim.make_optimizer(models.build("tiny", image_size=32), config).param_groups
    assert all(group["betas"] == (0.9, 0.9) for group in groups)
    assert {group["weight_decay"] for group in groups} == {0.0, 0.3}


@pytest.mark.parametrize(("largest", "left"), [(0.5, 0.5), (20.0, 5.0), (0.0, 5.0)])
def test_gradients_are_clipped_to_the_norm_asked_for(largest, left):
    module = nn.Linear(2, 1, bias=False)
    module.weight.grad = torch.tensor([[3.0, 4.0]])
    fabric = Fabric(accelerator="cpu", devices=1)
    module, optimizer = fabric.setup(module, torch.optim.SGD(module.parameters(), lr=1))
    assert float(optim.clip(fabric, module, optimizer, largest)) == pytest.approx(5)
    assert float(module.weight.grad.norm()) == pytest.approx(left, rel=1e-4)


def test_the_warm_up_of_a_short_run_is_a_quarter_of_it():
    sam = models.build("tiny", image_size=32)
    config = TrainConfig(model="tiny", freeze=(), steps=30, optim=Optim(lr=1.0, warmup=250))
    optimizer = optim.make_optimizer(sam, config)
    rates = [optim.set_learning_rate(optimizer, config, step) for step in range(30)]
    assert rates[:7] == pytest.approx([(step + 1) / 7 for step in range(7)])
    assert rates[7] == max(rates)
    assert rates[-1] < 0.05
