"""Progress and throughput of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from synthfm.data.console import Progress
from synthfm.trainer.config import TrainConfig
from synthfm.trainer.stream.batch import Batch


class Meter:
    """Progress bar, throughput, and the rows of the log.

    Parameters
    ----------
    config
        The run's config.
    shown
        Whether to draw the bar.
    step
        The first step.
    """

    def __init__(self, config: TrainConfig, shown: bool, step: int) -> None:
        self.config = config
        self.step = step
        self.bar = Progress(total=config.steps, initial=step, disable=not shown, unit="step")
        self._start()

    def _start(self) -> None:
        self.waited, self.began, self.steps = 0.0, time.perf_counter(), 0
        self.sums: dict[str, Tensor] = {}

    def wait(self, stream: Iterator[Batch]) -> Batch:
        """The next batch; counts the time that it kept the model waiting."""
        before = time.perf_counter()
        batch = next(stream)
        self.waited += time.perf_counter() - before
        return batch

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done within (validating, saving) is no training, and counts for no throughput."""
        before = time.perf_counter()
        yield
        self.began += time.perf_counter() - before

    def update(
        self,
        loss: Tensor,
        parts: dict[str, Tensor],
        lr: float,
        norm: Tensor,
        skipped: int,
    ) -> dict[str, float] | None:
        """Count a step; every `log_every` steps the log's row: means since the last. None between them."""
        self.bar.update()
        self.steps += 1
        for name, value in {"loss": loss, "grad_norm": norm, **parts}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()
        self.step += 1
        if self.step % self.config.log_every and self.step != self.config.steps:
            return None
        seconds = max(time.perf_counter() - self.began, 1e-9)
        speed, share = self.steps * self.config.batch / seconds, self.waited / seconds
        means = {name: float(value) / self.steps for name, value in self.sums.items()}
        self.bar.set_postfix_str(f"loss {means['loss']:.3f}, {speed:.1f} img/s, wait {100 * share:.0f} %")
        self._start()
        return {
            "step": self.step, "images": self.step * self.config.batch, **means, "lr": lr,
            "images_per_s": speed, "wait_share": share, "skipped": skipped,
        }  # fmt: skip

    def close(self) -> None:
        """End the bar."""
        self.bar.close()
