"""What stopped a run, in words for the person who started it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from synthfm.data.console import Failed, InputError
from synthfm.trainer.config import TrainConfig
from synthfm.trainer.run import state
from synthfm.trainer.stream.embeddings import out_of_memory


@contextmanager
def explained(config: TrainConfig, processes: int) -> Iterator[None]:
    """Memory that runs out and a failed compilation become one line each."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):
            raise Failed(f"out of memory: {memory_hint(config, processes)}") from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"compile: PyTorch could not compile the encoder ({reason}); compile=false trains without"
        ) from error


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
        f"{hint} stream.objects_per_image (now {config.stream.objects_per_image}), "
        f"loss.scale (now {config.loss.scale}) or prompts.rounds_max (now {config.prompts.rounds_max})"
    )


def not_finite(name: str, value: Tensor, samples: str, step: int, out: Path) -> Failed:
    """The error for a loss or gradient norm that is not finite; what is saved is from before it."""
    path = out / state.STATE
    kept = f"the last good state is {path}" if path.is_file() else "no state is saved yet"
    return Failed(
        f"the {name} is {float(value)} at step {step}{samples}; {kept}: lower optim.lr, or try precision=32"
    )


def listed(samples: Sequence[int]) -> str:
    """The numbers of a step's samples, for a message."""
    return f" (samples {list(samples)})"
