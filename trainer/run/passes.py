"""The forward and backward passes of one step, and what is wrong where they give no number."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from synthfm.data.console import Failed, InputError
from synthfm.trainer.config import TrainConfig
from synthfm.trainer.objective.prompting import draw_plans
from synthfm.trainer.objective.step import Step
from synthfm.trainer.run import state
from synthfm.trainer.run.meter import Meter
from synthfm.trainer.stream.stream import Batch, Source
from synthfm.trainer.system.interruption import Interruption
from synthfm.trainer.system.processes import together

log = logging.getLogger("synthfm.train")


@dataclass(frozen=True)
class Pass:
    """One step's forward and backward passes.

    Attributes
    ----------
    loss, logs
        Their means over all parts and processes.
    asked
        Whether any process has been asked to stop.
    batches, losses
        This process's parts, and the loss of each.
    """

    loss: Tensor
    logs: dict[str, Tensor]
    asked: bool
    batches: list[Batch]
    losses: list[Tensor]

    def numbers(self) -> list[int]:
        """The numbers of this process's samples."""
        return [number for batch in self.batches for number in batch.index.tolist()]

    def suspects(
        self, fabric: Fabric, step: Step, config: TrainConfig, position: state.Position, source: Source
    ) -> str:
        """Where this process's loss stopped being a number: the first sample that alone gives none, else all.

        Without DDP around the step, since the other processes may have nothing to look for.
        """
        plans = draw_plans(config.prompts, config.seed, position.step)
        broken = [not math.isfinite(float(loss)) for loss in self.losses]
        for batch in (batch for batch, bad in zip(self.batches, broken, strict=True) if bad):
            for row, number in enumerate(batch.index.tolist()):
                with torch.no_grad(), fabric.autocast():
                    loss, _ = step(batch.only(row).to(fabric.device), plans)
                if not math.isfinite(float(loss)):
                    return f" (sample {number} of {source.holder(number)})"
        return samples(self.numbers()) if any(broken) else ""


def samples(numbers: Sequence[int]) -> str:
    """The samples of a step, for a message."""
    return f" (samples {list(numbers)})"


def gradients(
    fabric: Fabric,
    module: nn.Module,
    config: TrainConfig,
    meter: Meter,
    stream: Iterator[Batch],
    position: state.Position,
    strict: bool,
    interruption: Interruption,
) -> Pass:
    """One step's forward and backward passes, with what all processes share of them in one reduction."""
    plans = draw_plans(config.prompts, config.seed, position.step)
    batches: list[Batch] = []
    losses: list[Tensor] = []
    parts: list[Tensor] = []
    skipped = 0
    for part in range(config.accumulate):
        batch = meter.wait(stream)
        skipped += len(batch.problems)
        with fabric.no_backward_sync(module, enabled=part + 1 < config.accumulate):  # type: ignore[arg-type]
            loss, logs = module(batch.to(fabric.device), plans)
            fabric.backward(loss / config.accumulate)
        batches.append(batch)
        losses.append(loss.detach())
        parts.append(torch.stack([loss.detach().float(), *(value.float() for value in logs.values())]))
    means = torch.stack(parts).mean(0)
    shared = torch.cat([means, means.new_tensor([skipped, interruption.asked])])
    if fabric.world_size > 1:  # a NaN, a skipped sample or a signal anywhere then counts everywhere
        shared = fabric.all_reduce(shared, reduce_op="sum")  # type: ignore[assignment]
    skipped, asked = (int(count) for count in shared[-2:].tolist())
    if skipped:
        with together(fabric):
            report([problem for batch in batches for problem in batch.problems], strict)
    position.skipped += skipped
    loss, *values = (shared[:-2] / fabric.world_size).unbind()
    return Pass(loss, dict(zip(logs, values, strict=True)), asked > 0, batches, losses)


def no_number(name: str, value: Tensor, samples: str, position: state.Position, out: Path) -> Failed:
    """The error for a loss or gradient that is not finite; what is saved is from before it."""
    path = out / state.STATE
    kept = f"the last good state is {path}" if path.is_file() else "no state is saved yet"
    return Failed(
        f"the {name} is {float(value)} at step {position.step}{samples}; {kept}: lower optim.lr, or try "
        "precision=32"
    )


def report(problems: Sequence[str], strict: bool) -> None:
    """Say what was wrong with samples that were replaced; with `strict` that is an :class:`InputError`."""
    for problem in problems:
        if strict:
            raise InputError(f"{problem} (--strict)")
        log.warning("skipped: %s", problem)
