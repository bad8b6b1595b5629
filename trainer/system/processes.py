"""The devices and processes of a run, and how all of them end with one error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import clear_frames
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment

from synthfm.data.console import Failed, InputError, end_at_once, signalled
from synthfm.trainer.config import TrainConfig

T = TypeVar("T")
TORCHRUN = "TORCHELASTIC_RUN_ID"
STARTED_BY = "SYNTHFM_STARTED_BY"
"""Environment variable of a run's further processes: the number of the first, which they do not outlive."""
EVERY = 0.1
"""Seconds between two looks whether the other processes are still there."""
UNTIL_NOTICED = 5.0
"""Seconds in which a run's first process ends all, once one of the others is gone."""
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
def launched(fabric: Fabric, advice: Callable[[int], str]) -> Iterator[None]:
    """Start a run's processes, and end their group with what is done within.

    Gloo's threads hold what they exchanged last for a moment, and need the interpreter's lock to let go of
    it. Where that is ending already they abort the process (pytorch/pytorch#179291), so they end first.

    Parameters
    ----------
    fabric
        The devices; more than one is a process each.
    advice
        What to do where so many processes lack memory, of which the system has killed one.
    """
    with _not_alone(), _others(fabric, advice):
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
        except RuntimeError as error:
            if fabric.world_size == 1 or not lost_another(error):
                raise
            time.sleep(UNTIL_NOTICED)
            raise Failed("another process of this run has ended; its own line says why") from error
        _leave(fabric)


@contextmanager
def _not_alone() -> Iterator[None]:
    """End this process when the one that has started it ends within: it would wait for it in vain."""
    done = threading.Event()

    def watch(first: int) -> None:
        while not done.wait(EVERY):
            if os.getppid() != first:
                end_at_once("", 1)

    if STARTED_BY in os.environ:
        threading.Thread(target=watch, args=(int(os.environ[STARTED_BY]),), daemon=True).start()
    try:
        yield
    finally:
        done.set()


@contextmanager
def _others(fabric: Fabric, advice: Callable[[int], str]) -> Iterator[None]:
    """Start the run's further processes, as Fabric would, and end them all where one of them is lost within.

    Fabric kills the first process then, which says nothing and leaves a code that nobody understands.
    """
    strategy: Any = fabric.strategy
    number = getattr(strategy, "num_processes", 1)
    if number == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    os.environ["MASTER_PORT"] = str(strategy.cluster_environment.main_port)
    os.environ["LOCAL_RANK"] = "0"  # by which Fabric knows that there is nothing left to start
    module = sys.modules["__main__"].__spec__
    command = [sys.executable, *(["-m", module.name] if module else [os.path.abspath(sys.argv[0])])]
    started: list[subprocess.Popen[bytes]] = []
    done = threading.Event()
    try:
        for rank in range(1, number):
            own = os.environ | {"LOCAL_RANK": str(rank), STARTED_BY: str(os.getpid())}
            started.append(subprocess.Popen([*command, *sys.argv[1:]], env=own))
        threading.Thread(target=_end_with, args=(started, done, advice(number)), daemon=True).start()
        yield
    finally:
        done.set()
        del os.environ["LOCAL_RANK"]


def _end_with(others: list[subprocess.Popen[bytes]], done: threading.Event, advice: str) -> None:
    """End this process and the others with a line when one of them ends with an error."""
    while not done.wait(EVERY):
        for rank, process in enumerate(others, start=1):
            code = process.poll()
            if not code or signalled():  # this one is stopped too, and says so
                continue
            for one in others:
                one.kill()
            text, number = "", -code if code < 0 else code - 128
            if number == signal.SIGKILL:
                text = f"was killed, as where memory runs out: {advice}; the same command goes on"
            elif number in signal.valid_signals():
                text = f"was ended by {signal.Signals(number).name}; the same command goes on"
            # Else it has said itself what is wrong.
            end_at_once(
                text and f"Error: process {rank + 1} of {len(others) + 1} {text}", 2 if text else code
            )


def lost_another(error: BaseException) -> bool:
    """Whether an error is that of an exchange with a process that is not there any more.

    Gloo's are of no type of their own, and say it in several ways; all name a file of its source.
    """
    return isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)


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
