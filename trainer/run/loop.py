"""The training loop."""

from __future__ import annotations

import itertools
import logging
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from segment_anything.modeling import Sam

from synthfm.data.console import Failed, InputError, Progress
from synthfm.data.files import locked
from synthfm.trainer.config import TrainConfig
from synthfm.trainer.model import models
from synthfm.trainer.model.precision import resolve
from synthfm.trainer.objective.step import Step
from synthfm.trainer.run import state
from synthfm.trainer.run.meter import Meter
from synthfm.trainer.run.optim import clip, make_optimizer, moving_average, set_learning_rate
from synthfm.trainer.run.passes import gradients, no_number, samples
from synthfm.trainer.run.record import Record
from synthfm.trainer.run.validate import validate
from synthfm.trainer.stream.embeddings import Cache, encoder_hash, out_of_memory
from synthfm.trainer.stream.stream import Batches, Source, check_apart, loader, validation_batches
from synthfm.trainer.system.interruption import Interruption, shielded
from synthfm.trainer.system.processes import (
    ended,
    gather,
    launched,
    lost_another,
    make_fabric,
    pick_accelerator,
    together,
)

log = logging.getLogger("synthfm.train")
OVERFLOWS = 20
"""Steps in a row whose gradient fp16 may skip: its scale, 65536 at first, is halved by each."""


@dataclass(frozen=True)
class Inputs:
    """Where a run reads from.

    Attributes
    ----------
    shards, val
        Dataset folders; without `val` a share of the samples is held out.
    checkpoint
        The model's pretrained weights, whose decoder may be drawn afresh.
    init_from
        Weights to go on from as they are, decoder included.
    embeddings
        Folder of an embedding cache.
    """

    shards: tuple[str, ...]
    val: tuple[str, ...] = ()
    checkpoint: str | None = None
    init_from: str | None = None
    embeddings: str | None = None


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
    device, asked = pick_accelerator(accelerator), config.precision
    config = config.model_copy(update={"precision": resolve(asked, device)})
    fabric = make_fabric(config, devices, device)
    with launched(fabric), ExitStack() as held:
        with together(fabric):
            ready = set_up(fabric, config, inputs, out, held, fresh, asked)
        return run_steps(fabric, config, ready, out, strict=strict, progress=progress)


def run_steps(
    fabric: Fabric, config: TrainConfig, ready: Ready, out: Path, *, strict: bool, progress: bool
) -> Path:
    """The steps that are left, with all that is written on the way; as :func:`train`."""
    sam, average, position, batches = ready.parts.sam, ready.parts.average, ready.position, ready.batches
    step = Step(compiled(sam, config), config).train()
    module, optimizer = fabric.setup(step, ready.parts.optimizer)
    record = None
    first, last = position.step * config.accumulate, config.steps * config.accumulate
    meter = Meter(config, fabric.is_global_zero and progress, position.step)
    overflows = 0
    try:
        with Interruption(fabric.is_global_zero) as interruption:
            with shielded():
                read = iter(loader(batches, first, last, pin=fabric.device.type == "cuda"))
            with together(fabric):  # where no sample will do, all processes find that here
                stream = itertools.chain(list(itertools.islice(read, 1)), read)
                if fabric.is_global_zero:
                    if ready.fresh:
                        state.discard(out)
                    record = Record(out, position.step, ready.run)
            while position.step < config.steps and not exhausted(config, position):
                lr = set_learning_rate(optimizer, config, position.step)
                passed = gradients(fabric, module, config, meter, stream, position, strict, interruption)
                if not math.isfinite(float(passed.loss)):
                    suspects = gather(fabric, passed.suspects(fabric, step, config, position, batches.source))
                    named = next(filter(None, suspects), "")
                    raise ended(fabric, no_number("loss", passed.loss, named, position, out))
                norm = clip(fabric, module, optimizer, config.optim.clip)
                overflows = 0 if math.isfinite(float(norm)) else overflows + 1
                # The scaler of fp16 skips such a step and lowers its scale; that must help in the end.
                if overflows > (OVERFLOWS if config.precision == "16" else 0):
                    numbers = [number for part in gather(fabric, passed.numbers()) for number in part]
                    raise ended(fabric, no_number("gradient norm", norm, samples(numbers), position, out))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if average is not None:
                    average.update_parameters(sam)
                position.step += 1
                row = meter.update(passed.loss, passed.logs, lr, norm, position.skipped)
                if row is not None:
                    with together(fabric):
                        if record is not None:
                            record.log(row)
                if position.step % config.validate_every == 0 or position.step == config.steps:
                    candidate = average.module if average is not None else sam
                    with meter.aside():
                        stop = judge(fabric, candidate, ready.held_out, config, position, record, out, strict)
                    if stop:
                        break
                if position.step % config.save_every == 0:
                    with meter.aside():
                        save(fabric, out, ready)
                stop = passed.asked if fabric.world_size > 1 else interruption.asked
                if stop and position.step < config.steps:
                    save(fabric, out, ready)
                    again = "the same command, without --fresh," if ready.fresh else "the same command"
                    text = f"interrupted after step {position.step}; {again} goes on from there"
                    raise ended(fabric, Failed(text))
            if exhausted(config, position):
                text = "no better for %d validations: stopped at step %d"
                log.info(text, config.patience, position.step)
            save(fabric, out, ready)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise Failed(memory_hint(config, fabric.world_size)) from error
        if fabric.world_size > 1 and lost_another(error):
            raise Failed("another process of this run has ended; its own line says why") from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"compile: PyTorch could not compile the encoder ({reason}); compile=false trains without"
        ) from error
    finally:
        meter.close()
        if record is not None:
            record.close()
    return out / state.MODEL


class Ready(NamedTuple):
    """What a run trains, on what, and from where it goes on.

    Attributes
    ----------
    parts
        The model, its optimiser and moving average, as the state in the run's folder has them.
    batches
        This process's share of the stream.
    held_out
        Whose held-out samples are validated on.
    position
        Where the run goes on.
    run
        Config and inputs, by which a run knows itself again.
    fresh
        Whether a run that was there before is to be discarded.
    """

    parts: state.Parts
    batches: Batches
    held_out: Source
    position: state.Position
    run: dict[str, Any]
    fresh: bool


def set_up(
    fabric: Fabric,
    config: TrainConfig,
    inputs: Inputs,
    out: Path,
    held: ExitStack,
    fresh: bool,
    asked: str,
) -> Ready:
    """Open all inputs, hold `out` and open the state in it; no process waits for another.

    `asked` is the precision as the config had it, by which the run is known: ``auto`` may be another one on
    another machine.
    """
    sam = build_model(config, inputs)
    check_apart((*inputs.shards, *inputs.val))
    source = Source(inputs.shards, 0 if inputs.val else config.stream.val_share, config.stream.val_images)
    held_out = Source(inputs.val, 1.0, config.stream.val_images) if inputs.val else source
    if fabric.is_global_zero and not sum(map(len, held_out.held_out)):
        log.warning("no samples are held out, so nothing is validated, and model.pth is of the last step")
    cache = open_cache(config, inputs, sam)
    batches = Batches(source, config, fabric.global_rank, fabric.world_size, cache)
    sam.to(fabric.device)  # before the state is loaded: the optimiser's goes where the weights are
    optimizer = make_optimizer(sam, config)
    average = moving_average(sam, config.optim.ema)
    parts = state.Parts(sam, optimizer, average, fabric.strategy.precision)
    run = {
        "config": config.model_dump(mode="json") | {"precision": asked},
        "inputs": state.describe(inputs),
        "precision": config.precision,
    }
    out.mkdir(parents=True, exist_ok=True)
    if fabric.is_global_zero:
        held.enter_context(locked(out, "synthfm-train"))
    position = state.Position() if fresh else state.resume(out, run, parts)
    return Ready(parts, batches, held_out, position, run, fresh)


def build_model(config: TrainConfig, inputs: Inputs) -> Sam:
    """The model as training finds it: decoder drawn afresh if asked for, frozen parts without gradient."""
    start = inputs.init_from or inputs.checkpoint
    decoder = "pretrained" if inputs.init_from else config.decoder
    if start is None and config.freeze:
        raise InputError(
            f"{config.model}: a frozen {config.freeze[0]} needs its weights: give --checkpoint "
            "('synthfm-train weights' fetches SAM's), or train it too with --train-encoder"
        )
    if start is None and decoder == "pretrained":
        raise InputError("decoder: there are no weights to keep; give --checkpoint, or --decoder scratch")
    if decoder == "scratch" and "decoder" in config.freeze:
        raise InputError(
            "freeze: a decoder that is drawn afresh has to learn; --decoder pretrained keeps the checkpoint's"
        )
    sam = models.build(
        config.model,
        checkpoint=start,
        decoder=decoder,
        image_size=config.image_size,
        depths=config.depths,
        seed=config.seed,
    )
    return prepare(sam, config)


def prepare(sam: Sam, config: TrainConfig) -> Sam:
    """Freeze what the config freezes, and lay the weights out as training wants them; in place."""
    parts = {"encoder": sam.image_encoder, "prompt_encoder": sam.prompt_encoder, "decoder": sam.mask_decoder}
    for name, part in parts.items():
        part.requires_grad_(name not in config.freeze)
    for name in ("norm_head", "head"):  # MobileSAM's classifier, which nothing reads: DDP would wait for it
        if hasattr(sam.image_encoder, name):
            getattr(sam.image_encoder, name).requires_grad_(False)
    if not any(p.requires_grad for p in sam.parameters()):
        raise InputError("freeze: every part is frozen; leave at least one to be trained")
    if config.model == "tiny":
        sam.image_encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return sam


def compiled(sam: Sam, config: TrainConfig) -> Sam:
    """Compile the encoder in place where the config says so; the state dict keeps its keys."""
    if config.compile:
        sam.image_encoder.compile()
    return sam


def open_cache(config: TrainConfig, inputs: Inputs, sam: Sam) -> Cache | None:
    """The embedding cache, which must fit the frozen encoder; images cannot be augmented then."""
    if inputs.embeddings is None:
        return None
    if "encoder" not in config.freeze:
        raise InputError("--embeddings needs a frozen encoder; leave out --train-encoder")
    changes = [
        name for name, value in config.augment.model_dump().items() if isinstance(value, float) and value
    ]
    changes = [name for name in changes if name != "angle"]
    if changes:
        off = ", ".join(f"augment.{name}=0" for name in changes)
        raise InputError(f"--embeddings: images are encoded as they are; set {off}")
    return Cache(inputs.embeddings, encoder_hash(sam), inputs.shards, config.stream.window)


def judge(
    fabric: Fabric,
    sam: Sam,
    held_out: Source,
    config: TrainConfig,
    position: state.Position,
    record: Record | None,
    out: Path,
    strict: bool,
) -> bool:
    """Validate, export the best model so far; returns whether to stop early."""
    with together(fabric):
        if record is not None:
            scores, pictures = validate(sam, validation_batches(held_out, config, strict), fabric.device)
            if scores.dice:
                record.validation(position.step, scores, pictures)
                settings: dict[str, list[tuple[float, int]]] = {}
                for (setting, _), dice in scores.dice.items():
                    settings.setdefault(setting, []).append((dice, scores.objects[setting, _]))
                text = "  ".join(
                    f"{name} {sum(d * n for d, n in values) / sum(n for _, n in values):.3f}"
                    for name, values in settings.items()
                )
                Progress.write(f"step {position.step}: Dice {scores.mean:.4f}  ({text})")
            if not scores.dice or scores.mean > position.best:
                position.best, position.stale = (scores.mean if scores.dice else position.best), 0
                models.export(sam, out / state.MODEL)
            else:
                position.stale += 1
    return bool(fabric.broadcast(exhausted(config, position)))


def exhausted(config: TrainConfig, position: state.Position) -> bool:
    """Whether validation has not improved for so long that the run is over, when it goes on as well."""
    return bool(config.patience and position.stale >= config.patience)


def save(fabric: Fabric, out: Path, ready: Ready) -> None:
    """Write the training state, on the first process."""
    with together(fabric):
        if fabric.is_global_zero:
            state.write(out, ready.run, ready.parts, ready.position)


def memory_hint(config: TrainConfig, processes: int) -> str:
    """Which setting to lower when memory runs out."""
    if config.accumulate * processes < config.batch:
        hint = (
            f"raise accumulate (now {config.accumulate}) to send a step's {config.batch} images through in "
            "more parts, or lower"
        )
    else:
        hint = (
            f"accumulate (now {config.accumulate}) takes a batch of {config.batch} one by one already: lower"
        )
    return (
        f"out of memory: {hint} stream.objects_per_image (now {config.stream.objects_per_image}), "
        f"loss.scale (now {config.loss.scale}) or prompts.rounds_max (now {config.prompts.rounds_max})"
    )
