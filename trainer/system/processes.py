"""The devices and processes of a run, and how all of them end with one error."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment

from synthfm.data.console import Failed, InputError
from synthfm.trainer.config import TrainConfig

T = TypeVar("T")
TORCHRUN = "TORCHELASTIC_RUN_ID"
EVERY = 0.1
"""Seconds between two looks whether the process that has started this one is still there."""
PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def pick_accelerator(accelerator: str) -> str:
    """``auto`` is cuda where there is a GPU, else cpu.

    (Fabric's own would take Apple's GPU, which lacks what a validation needs.)

    Raises
    ------
    InputError
        If it is none of these, or not here.
    """
    if accelerator not in ("auto", "cpu", "cuda"):
        raise InputError(f"--accelerator {accelerator}: choose auto, cpu or cuda")
    found = torch.cuda.is_available() and torch.cuda.device_count() > 0
    if accelerator == "cuda" and not found:
        raise InputError("--accelerator cuda: PyTorch finds no GPU here; cpu trains without")
    return ("cuda" if found else "cpu") if accelerator == "auto" else accelerator


def make_fabric(config: TrainConfig, devices: int | str, accelerator: str) -> Fabric:
    """The devices of a run, before it has started its processes.

    `accelerator` is cpu or cuda, as of :func:`pick_accelerator`, the config's precision not ``auto``.

    Raises
    ------
    InputError
        If they do not exist here, or the precision is none of theirs.
    """
    if TORCHRUN in os.environ:
        devices = "auto"  # as many as it has started
    if devices != "auto" and (not isinstance(devices, int) or devices < 1):
        raise InputError(f"--devices {devices}: a number from 1, or auto")
    if isinstance(devices, int) and accelerator == "cuda" and torch.cuda.device_count() < devices:
        raise InputError(f"--devices {devices}: there are {torch.cuda.device_count()} GPUs here")
    if config.precision == "16" and accelerator == "cpu":
        # Fabric would take bf16 on a CPU, and the loop would leave it to a scaler that is not there.
        raise InputError("precision: 16 needs a GPU; on a CPU take bf16 or 32")
    nodes = 1
    environment: Any = [LightningEnvironment()]  # a cluster's variables do not say that it has started more
    if TORCHRUN in os.environ:  # it has started the processes, and says how many on how many machines
        devices, nodes = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
        environment = []
    precision: Any = PRECISION[config.precision]
    return Fabric(
        accelerator=accelerator, devices=devices, num_nodes=nodes, precision=precision, plugins=environment
    )


@contextmanager
def launched(fabric: Fabric) -> Iterator[None]:
    """Start a run's processes, and end their group with what is done within.

    Gloo's threads hold what they exchanged last for a moment, and need the interpreter's lock to let go of
    it. Where that is ending already they abort the process (pytorch/pytorch#179291), so they end first.
    """
    with _not_alone():
        fabric.launch()
        try:
            yield
        except (InputError, Failed, OSError, SystemExit) as error:
            if getattr(
                error, "of_all", False
            ):  # else the others may be waiting for this one, and it for them
                clear_frames(error.__traceback__)  # which hold the model, and that the group
                _leave(fabric)
            raise
        _leave(fabric)


@contextmanager
def _not_alone() -> Iterator[None]:
    """End this process when the one that has started it ends within: it would wait for it in vain."""
    done, parent = threading.Event(), os.getppid()

    def watch() -> None:
        while not done.wait(EVERY):
            if os.getppid() != parent:
                os._exit(1)

    if "LOCAL_RANK" in os.environ and TORCHRUN not in os.environ:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def lost_another(error: BaseException) -> bool:
    """Whether an error is that of an exchange with a process that is not there any more."""
    return isinstance(error, torch.distributed.DistError) or "Connection closed by peer" in str(error)


def _leave(fabric: Fabric) -> None:
    if fabric.world_size > 1 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def collective(fabric: Fabric) -> Iterator[None]:
    """What goes wrong within on one process ends all of them, with one line of the first process.

    Else the others would wait for that one, and then fail in their own words. All processes must come here.
    """
    error: Exception | None = None
    try:
        yield
    except (InputError, Failed, OSError) as caught:
        if fabric.world_size == 1:
            raise
        error = caught
    failed: Any = fabric.all_reduce(torch.tensor(float(error is not None)), reduce_op="sum")
    if not failed:  # what went wrong is only sent round where something did: that takes longer
        return
    for first in filter(None, gather(fabric, error)):
        raise error_of_all(fabric, first)


def gather(fabric: Fabric, value: T) -> list[T]:
    """Every process's value, on each of them."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def error_of_all(fabric: Fabric, error: Exception) -> BaseException:
    """How a process ends where all of them do; the first one speaks for all.

    The others end without an error, for which Fabric would kill the first.
    """
    end: BaseException = error if fabric.is_global_zero else SystemExit(0)
    end.of_all = True  # type: ignore[attr-defined]  # see `launched`
    return end
