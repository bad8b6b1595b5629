"""How each cost grows with its work: ``python benchmarks/bench_growth.py``.

Each work is done in several amounts, in one thread, in turn, and the seconds that the processor computed
are compared: medians of the rounds. Through their logarithms a line is laid; its slope is the exponent. 1
says that twice the work takes twice as long, 0 that it takes no longer. A fixed cost beside the work makes it
smaller, so the exponent of the last two amounts stands beside it. ``docs/img/make_growth_picture.py`` draws
the file.
"""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from bench_generate import make_shard
from numpy.typing import NDArray
from tables import RESULTS as FOLDER
from tables import three, write_table

from synthfm.data.prompts import Prompt
from synthfm.evaluation.segment import segment
from synthfm.generator.config import load_config as generator_config
from synthfm.generator.folder.factory import generate
from synthfm.generator.scene import make_sample
from synthfm.trainer.config import load_config
from synthfm.trainer.model import models
from synthfm.trainer.model.predict import Segmenter
from synthfm.trainer.stream.stream import Batches, Source

RESULTS = FOLDER / "growth.csv"
HEADER = ("cost", "grows with", "at", "seconds", "exponent", "of the last two")
ON_GPUS = "none at hand; last on one, an H200, 2026-11-26: `vit_b`, 1024 pixels, 28.7 images/s"
"""What stands in the place of a measurement that wants several."""


@dataclass(frozen=True)
class Growth:
    """One cost: what is done, in what it is counted, in which amounts, and the function that does one."""

    cost: str
    unit: str
    amounts: Sequence[int]
    work: Callable[[int], object]


def exponent(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of the line through the logarithms: of ``seconds = c * amounts ** exponent``."""
    return float(np.polyfit(np.log(amounts), np.log(seconds), 1)[0])


def processor_seconds() -> float:
    """Seconds that this process and those that it has waited for have computed."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def measured(growth: Growth, rounds: int) -> list[float]:
    """Median seconds at each amount; all amounts in turn, so that they meet the same moments of a machine."""
    growth.work(growth.amounts[0])
    taken: list[list[float]] = [[] for _ in growth.amounts]
    for _ in range(rounds):
        for amount, its in zip(growth.amounts, taken, strict=True):
            began = processor_seconds()
            growth.work(amount)
            its.append(processor_seconds() - began)
    return [statistics.median(its) for its in taken]


def generating() -> Iterator[Growth]:
    """The generator, by samples, by size, and by the workers among which the same samples are divided."""
    firsts = itertools.count(0, 1000)
    yield Growth(
        "generate images of 128 pixels",
        "samples",
        (4, 8, 16, 32, 64),
        lambda count: make_shard("full", 128, count, next(firsts)),
    )
    yield Growth(
        "generate 8 images",
        "pixels of a side",
        (64, 128, 256, 512),
        lambda size: make_shard("full", size, 8, 0),
    )

    def divided(jobs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program = [sys.executable, "-m", "synthfm.generator.cli", "run", "--out", f"{folder}/shards"]
            options = ["--num", "128", "--size", "128", "--shard-size", "8", "--jobs", str(jobs)]
            subprocess.run([*program, *options], check=True, capture_output=True)

    yield Growth("generate 128 images, all processes together", "workers", (1, 2, 4), divided)


def streaming(folder: Path) -> Iterator[Growth]:
    """The trainer's stream, by the objects of an image."""
    generate(folder, generator_config("full", size=256), num=32, jobs=1)
    source, numbers = Source([folder]), itertools.count()

    def batches(objects: int) -> None:
        settings = [
            f"stream.objects_per_image={objects}",
            "batch=16",
            "stream.val_share=0",
            "prompts.groups=1",
        ]
        made = Batches(source, load_config("tiny_cpu", settings))
        for _ in range(8):
            made[next(numbers)].masks()

    yield Growth("8 batches of 16 images of 256 pixels", "objects of an image", (1, 2, 4, 8, 16), batches)


def asking() -> Iterator[Growth]:
    """A model, by prompts of one image and by clicks of one prompt."""
    sample = make_sample(generator_config("ct", size=256), 0, 0)
    segmenter, rng = Segmenter(models.load("tiny")[0]), np.random.default_rng(0)
    encoding = segmenter.encode(sample.image)

    def boxes(count: int) -> None:
        low = rng.uniform(0, 160, (count, 2))
        for found in segmenter.predict(encoding, [Prompt(box=box) for box in np.hstack([low, low + 60])]):
            _ = found.mask

    def clicks(count: int) -> None:
        for _ in range(8):
            (found,) = segmenter.predict(
                encoding, [Prompt(rng.uniform(0, 255, (count, 2)), rng.integers(0, 2, count))]
            )
            _ = found.mask

    yield Growth("masks of one image, encoded", "prompts", (1, 4, 16, 64), boxes)
    yield Growth("8 masks of one object, encoded", "clicks of a prompt", (1, 4, 16, 64), clicks)


DISC = (39, 35, 89, 85)
"""The box around what :func:`scan` shows."""


def scan(slices: int) -> NDArray[np.int16]:
    """A disc in noise, of the same size in all slices, which have 128 pixels."""
    y, x = np.indices((128, 128), np.float32)
    disc = 100.0 * (np.hypot(x - 64, y - 60) < 25)
    return (disc + np.random.default_rng(0).normal(0, 15, (slices, 128, 128))).astype(np.int16)


def scanning() -> Iterator[Growth]:
    """An organ through a scan, by slices."""
    yield Growth(
        "one box through a scan of 128 pixels",
        "slices",
        (4, 8, 16, 32),
        lambda slices: segment(scan(slices), box=(*DISC, slices // 2)),
    )


def row(growth: Growth, seconds: Sequence[float]) -> list[str]:
    """Its line of the file."""
    last = exponent(growth.amounts[-2:], seconds[-2:])
    return [
        growth.cost,
        growth.unit,
        ", ".join(map(str, growth.amounts)),
        ", ".join(three(value) for value in seconds),
        f"{exponent(growth.amounts, seconds):.2f}",
        f"{last:.2f}",
    ]


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="A CSV file.")
def main(rounds: int, out: Path) -> None:
    """Measure all of them, print the lines and write the file."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"  # for the workers
    torch.set_num_threads(1)
    began, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for growth in itertools.chain(generating(), streaming(Path(folder) / "shards"), asking(), scanning()):
            rows.append(row(growth, measured(growth, rounds)))
            print(" | ".join(rows[-1]), flush=True)
    rows.append(["training", "GPUs", ON_GPUS, "", "", ""])
    write_table(out, HEADER, rows)
    print(f"{out}, in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
