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
        stacks: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is None:
                continue
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.lerp_(p.grad, 1 - MOMENTUM)
            ahead = p.grad.lerp(momentum, MOMENTUM).flatten(1)  # Nesterov's
            wide = ahead if len(ahead) <= ahead.shape[1] else ahead.T
            stacks[wide.shape[0], wide.shape[1]].append((p, wide))
        for shape, items in stacks.items():
            steps = orthogonal(torch.stack([wide for _, wide in items]), self.dtype)
            for (p, _), change in zip(items, steps, strict=True):
                wide = change if shape[0] == len(p) else change.T
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(wide.reshape(p.shape), alpha=-0.2 * max(shape) ** 0.5 * group["lr"])


def orthogonal(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest matrices with singular values of about 1 (0.7 to 1.2), float32 (N, rows, columns).

    Parameters
    ----------
    matrices
        (N, rows, columns), no more rows than columns.
    dtype
        In which the five Newton-Schulz iterations run.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.float()
