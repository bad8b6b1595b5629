"""Muon: steps of orthogonal matrices for the weights that are matrices, AdamW for the rest.

PyTorch's own takes two-dimensional weights alone and one after the other; here kernels of convolutions count
as matrices too, AdamW's share is part of it, and matrices of one shape are made orthogonal in one product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.775, 2.0315)
MOMENTUM = 0.95


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with ``matrices=True`` momentum orthogonalised by Newton-Schulz iterations [1]_.

    Parameters
    ----------
    groups
        Parameter groups, each with ``matrices``; in those with True every parameter has two or more axes, of
        which the first counts as rows and the others as columns.
    dtype
        In which the iterations run; they need no more than bfloat16.
    **options
        AdamW's.

    Notes
    -----
    Steps are scaled by ``0.2 sqrt(max(rows, columns))``, so that their size is that of AdamW's and one
    learning rate does for all [2]_.

    References
    ----------
    .. [1] K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024,
       https://kellerjordan.github.io/posts/muon/
    .. [2] J. Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982, 2025.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, dtype: torch.dtype, **options: Any) -> None:
        super().__init__(list(groups), **options)
        self.dtype = dtype

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Without AdamW's repairs of old states, which look for its own keys in the state of matrices."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all groups."""
        every = self.param_groups
        self.param_groups = [group for group in every if not group["matrices"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = every
        for group in every:
            if group["matrices"]:
                self._step_matrices(group)
        return loss  # type: ignore[no-any-return]

    def _step_matrices(self, group: dict[str, Any]) -> None:
        weights = [p for p in group["params"] if p.grad is not None]
        if not weights:
            return
        gradients = [p.grad for p in weights]
        for p in weights:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        stacks: dict[torch.Size, list[int]] = defaultdict(list)
        for number, gradient in enumerate(gradients):
            gradient.lerp_(momenta[number], MOMENTUM)  # Nesterov's; the gradient is not needed any more
            stacks[gradient.flatten(1).shape].append(number)
        for shape, numbers in stacks.items():
            steps = orthogonal(torch.stack([gradients[k].flatten(1).to(self.dtype) for k in numbers]))
            for number, step in zip(numbers, steps, strict=True):
                size = -0.2 * max(shape) ** 0.5 * group["lr"]
                weights[number].add_(step.view(weights[number].shape), alpha=size)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values of about 1 (0.7 to 1.2), by five Newton-Schulz iterations.

    Parameters
    ----------
    matrices
        (N, rows, columns); the iterations run in their type, for which bfloat16 is enough.
    """
    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    wide = x.shape[1] <= x.shape[2]
    for _ in range(5):
        square = x @ x.mT if wide else x.mT @ x
        change = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, change, x, beta=a) if wide else torch.baddbmm(x, x, change, beta=a)
    return x
