"""The training loop."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from synthfm.data.console import Failed, InputError, Progress
from synthfm.data.files import locked
from synthfm.data.prompts import compile_kernels
from synthfm.trainer.config import TrainConfig
from synthfm.trainer.model import models
from synthfm.trainer.model.precision import resolve
from synthfm.trainer.objective.prompting import draw_plans, slices_following
from synthfm.trainer.objective.step import Step
from synthfm.trainer.objective.thin import ThinStep
from synthfm.trainer.run import state
from synthfm.trainer.run.failures import explained, listed, memory_hint, not_finite
from synthfm.trainer.run.inputs import Inputs, build_model, open_cache
from synthfm.trainer.run.meter import Meter
from synthfm.trainer.run.optim import clip, make_optimizer, moving_average, set_learning_rate
from synthfm.trainer.run.record import Record
from synthfm.trainer.run.validate import validate
from synthfm.trainer.stream.batch import Batch
from synthfm.trainer.stream.stream import Batches, Source, check_disjoint, loader, validation_batches
from synthfm.trainer.system.interruption import Interruption, shielded
from synthfm.trainer.system.processes import (
    collective,
    error_of_all,
    gather,
    launched,
    make_fabric,
    pick_accelerator,
)

log = logging.getLogger("synthfm.train")
OVERFLOWS = 20
"""Steps in a row whose gradient fp16 may skip: its scale, 65536 at first, is halved by each."""


def train(
    config: TrainConfig,
    inputs: Inputs,
    out: Path,
    *,
    devices: int | str = "auto",
    accelerator: str = "auto",
    strict: bool = False,
    progress: bool = True,
    fresh: bool = False,
) -> Path:
    """Train, or go on where the run in `out` stopped; returns the path of the exported model.

    With `fresh` a run in `out` is discarded, once all inputs are found to be right and a first batch is read.

    Raises
    ------
    InputError
        If an input is wrong, `out` holds another run or is being filled, or (`strict`) a shard goes bad.
    Failed
        If the loss or its gradient is no number, the memory does not suffice, or SIGINT or SIGTERM stops it.
    """
    device = pick_accelerator(accelerator)
    resolved = config.model_copy(update={"precision": resolve(config.precision, device)})
    fabric = make_fabric(resolved, devices, device)
    advice = partial(memory_hint, resolved)
    with launched(fabric, advice):  # no name for the run here: the group of processes has to outlive it
        run_steps(Run(fabric, resolved, config, out, strict, fresh), inputs, progress)
    return out / state.MODEL


def run_steps(run: Run, inputs: Inputs, progress: bool) -> None:
    """The steps that are left, with all that is written on the way."""
    config = run.config
    with run.opened(inputs), explained(config, run.fabric.world_size), run.started(progress):
        position = run.position
        while position.step < config.steps and not run.exhausted:
            passed = run.backward(run.next())
            lr, norm = run.step(passed)
            run.log(passed, lr, norm)
            if position.step % config.validate_every == 0 or position.step == config.steps:
                run.validate()
                if run.exhausted:
                    break
            if position.step % config.save_every == 0:
                run.save()
            if run.interrupted(passed) and position.step < config.steps:
                run.stop()
        run.save()


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

    def samples(self) -> list[int]:
        """The numbers of this process's samples."""
        return [number for batch in self.batches for number in batch.index.tolist()]


@dataclass(eq=False)
class Run:
    """A training run on one of its processes: opened, started, then step by step.

    Attributes
    ----------
    fabric
        Its devices and processes.
    config, asked
        The config, and as it was given: ``auto`` may be another precision on another machine.
    out
        The run's folder.
    strict
        Whether a bad sample ends the run.
    fresh
        Whether a run that was there before is to be discarded.
    parts, position
        The model, its optimiser and moving average, and how far they have come, as the folder has them.
    batches, validation
        This process's share of the stream, and whose held-out samples are validated on.
    description
        Config and inputs, by which a run knows itself again.
    record
        What it writes, on the first process; None on the others.
    """

    fabric: Fabric
    config: TrainConfig
    asked: TrainConfig
    out: Path
    strict: bool
    fresh: bool

    @contextmanager
    def opened(self, inputs: Inputs) -> Iterator[None]:
        """Open all inputs, lock `out` and read the state in it; no process waits for another."""
        with ExitStack() as stack:
            with collective(self.fabric):
                self._set_up(inputs, stack)
            yield

    def _set_up(self, inputs: Inputs, stack: ExitStack) -> None:
        fabric, config = self.fabric, self.config
        sam = build_model(config, inputs)
        check_disjoint((*inputs.shards, *inputs.val))
        images = config.stream.val_images
        source = Source(inputs.shards, 0 if inputs.val else config.stream.val_share, images)
        self.validation = Source(inputs.val, 1.0, images) if inputs.val else source
        if fabric.is_global_zero and not sum(map(len, self.validation.held_out)):
            log.warning("no samples are held out, so nothing is validated, and model.pth is of the last step")
        cache = open_cache(config, inputs, sam)
        if fabric.is_global_zero and source.of_volumes and not config.prompts.carry:
            of_volumes = ", ".join(source.of_volumes)
            log.warning("%s: volumes, taken as single images (prompts.carry is 0)", of_volumes)
        following = partial(slices_following, config.prompts, config.seed)
        self.batches = Batches(source, config, fabric.global_rank, fabric.world_size, cache, following)
        sam.to(fabric.device)  # before the state is loaded: the optimiser's goes where the weights are
        optimizer, average = make_optimizer(sam, config), moving_average(sam, config.optim.ema)
        self.parts = state.Parts(sam, optimizer, average, fabric.strategy.precision)
        self.description: dict[str, Any] = {
            "config": self.asked.model_dump(mode="json"),
            "inputs": state.describe(inputs),
            "precision": config.precision,
        }
        self.out.mkdir(parents=True, exist_ok=True)
        if fabric.is_global_zero:
            stack.enter_context(locked(self.out, "synthfm-train"))
        new = state.Position()
        self.position = new if self.fresh else state.resume(self.out, self.description, self.parts)

    @contextmanager
    def started(self, progress: bool) -> Iterator[None]:
        """Start the stream and the record; signals are noted from here on."""
        fabric, config, begun = self.fabric, self.config, self.position.step
        if config.compile:
            self.parts.sam.image_encoder.compile()  # in place: the state dict keeps its keys
        kind = ThinStep if config.thin else Step
        self.objective = kind(self.parts.sam, config).train()
        self.module, self.optimizer = fabric.setup(self.objective, self.parts.optimizer)
        self.meter = Meter(config, fabric.is_global_zero and progress, begun)
        self.record: Record | None = None
        self.overflows = 0
        try:
            with Interruption(fabric.is_global_zero) as self.interruption:
                first, last = begun * config.accumulate, config.steps * config.accumulate
                with collective(fabric):
                    if fabric.local_rank == 0:  # the readers of all processes find them in numba's cache
                        compile_kernels(fabric.is_global_zero and progress)
                with collective(fabric), shielded():
                    read = loader(self.batches, first, last, pin=fabric.device.type == "cuda")
                with collective(fabric):  # where no sample will do, all processes find that here
                    self.stream = itertools.chain(list(itertools.islice(read, 1)), read)
                    if fabric.is_global_zero:
                        if self.fresh:
                            state.discard(self.out)
                        self.record = Record(self.out, begun, self.description)
                yield
        finally:
            self.meter.close()
            if self.record is not None:
                self.record.close()

    def next(self) -> Iterator[Batch]:
        """The batches of a step, each read when it is asked for; where one process cannot, none goes on."""
        for _ in range(self.config.accumulate):
            with collective(self.fabric):
                batch = self.meter.wait(self.stream)
            yield batch

    def backward(self, batches: Iterable[Batch]) -> Pass:
        """One step's forward and backward passes, with what all processes share of them in one reduction."""
        fabric, parts = self.fabric, self.config.accumulate
        plans = draw_plans(self.config.prompts, self.config.seed, self.position.step)
        passed: list[Batch] = []
        losses: list[Tensor] = []
        rows: list[Tensor] = []
        for batch in batches:
            passed.append(batch)
            with fabric.no_backward_sync(self.module, enabled=len(passed) < parts):
                loss, logs = self.module(batch.to(fabric.device), plans)
                fabric.backward(loss / parts)
            losses.append(loss.detach())
            rows.append(torch.stack([loss.detach().float(), *(value.float() for value in logs.values())]))
        means = torch.stack(rows).mean(0)
        problems = [problem for batch in passed for problem in batch.problems]
        shared = torch.cat([means, means.new_tensor([len(problems), self.interruption.asked])])
        if fabric.world_size > 1:  # a NaN, a skipped sample or a signal anywhere then counts everywhere
            shared = fabric.all_reduce(shared, reduce_op="sum")  # type: ignore[assignment]
        skipped, asked = (int(count) for count in shared[-2:].tolist())
        if skipped:
            with collective(fabric):
                for problem in problems:
                    if self.strict:
                        raise InputError(f"{problem} (--strict)")
                    log.warning("skipped: %s", problem)
        self.position.skipped += skipped
        loss, *values = (shared[:-2] / fabric.world_size).unbind()
        return Pass(loss, dict(zip(logs, values, strict=True)), asked > 0, passed, losses)

    def step(self, passed: Pass) -> tuple[float, Tensor]:
        """Change the weights; returns the learning rate and the norm of the gradient.

        Raises
        ------
        Failed
            If the loss or the norm is no number; the weights are as before.
        """
        fabric, config = self.fabric, self.config
        if not math.isfinite(float(passed.loss)):
            suspects = gather(fabric, self._suspects(passed))
            self._fail("loss", passed.loss, next(filter(None, suspects), ""))
        lr = set_learning_rate(self.optimizer, config, self.position.step)
        norm = clip(fabric, self.module, self.optimizer, config.optim.clip)
        self.overflows = 0 if math.isfinite(float(norm)) else self.overflows + 1
        # The scaler of fp16 skips such a step and lowers its scale; that must help in the end.
        if self.overflows > (OVERFLOWS if config.precision == "16" else 0):
            self._fail("gradient norm", norm, listed([*itertools.chain(*gather(fabric, passed.samples()))]))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.parts.average is not None:
            self.parts.average.update_parameters(self.parts.sam)
        self.position.step += 1
        return lr, norm

    def _fail(self, name: str, value: Tensor, samples: str) -> None:
        raise error_of_all(self.fabric, not_finite(name, value, samples, self.position.step, self.out))

    def _suspects(self, passed: Pass) -> str:
        """Where this process's loss stopped being a number: the first sample that alone gives none, else all.

        Without DDP around the step, since the other processes may have nothing to look for.
        """
        plans = draw_plans(self.config.prompts, self.config.seed, self.position.step)
        broken = [not math.isfinite(float(loss)) for loss in passed.losses]
        for batch in itertools.compress(passed.batches, broken):
            for row, number in enumerate(batch.index.tolist()):
                with torch.no_grad(), self.fabric.autocast():
                    loss, _ = self.objective(batch.only(row).to(self.fabric.device), plans)
                if not math.isfinite(float(loss)):
                    return f" (sample {number} of {self.batches.source.holder(number)})"
        return listed(passed.samples()) if any(broken) else ""

    def log(self, passed: Pass, lr: float, norm: Tensor) -> None:
        """Count a step; every `log_every` steps a row of the log."""
        row = self.meter.update(passed.loss, passed.logs, lr, norm, self.position.skipped)
        if row is not None:
            with collective(self.fabric):
                if self.record is not None:
                    self.record.log(row)

    def validate(self) -> None:
        """Validate the weights, or their moving average, and export the best so far."""
        average, position = self.parts.average, self.position
        sam = self.parts.sam if average is None else average.module
        with self.meter.aside():
            with collective(self.fabric):
                if self.record is not None:
                    batches = validation_batches(self.validation, self.config, self.strict)
                    scores, pictures = validate(sam, batches, self.fabric.device, self.config.thin)
                    if scores.dice:
                        self.record.validation(position.step, scores, pictures)
                        means = "  ".join(f"{name} {dice:.3f}" for name, dice in scores.by_setting().items())
                        Progress.write(f"step {position.step}: Dice {scores.mean:.4f}  ({means})")
                    if not scores.dice or scores.mean > position.best:
                        position.best, position.stale = (scores.mean if scores.dice else position.best), 0
                        models.export(sam, self.out / state.MODEL)
                    else:
                        position.stale += 1
            position.stale = self.fabric.broadcast(position.stale)
        if self.exhausted and self.fabric.is_global_zero:
            text = "no better for %d validations: stopped at step %d"
            log.info(text, self.config.patience, position.step)

    @property
    def exhausted(self) -> bool:
        """Whether validation has not improved for so long that the run is over, when it goes on as well."""
        return bool(self.config.patience and self.position.stale >= self.config.patience)

    def save(self) -> None:
        """Write the training state, on the first process."""
        with self.meter.aside(), collective(self.fabric):
            if self.fabric.is_global_zero:
                state.write(self.out, self.description, self.parts, self.position)

    def interrupted(self, passed: Pass) -> bool:
        """Whether the run is asked to stop; of several processes, as all of them know since the backward."""
        return passed.asked if self.fabric.world_size > 1 else self.interruption.asked

    def stop(self) -> None:
        """Save the state and raise :class:`Failed`, which says how to go on."""
        self.save()
        again = "the same command, without --fresh," if self.fresh else "the same command"
        text = f"interrupted after step {self.position.step}; {again} goes on from there"
        raise error_of_all(self.fabric, Failed(text))
