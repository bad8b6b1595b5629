"""How fast the generator is, everything included: ``python benchmarks/bench_generate.py``.

A worker makes whole shards as the factory's do: labels, image, prompts, statistics, HDF5 file. Its start and
the compilation of its kernels are not timed. Rates are medians over the rounds, by the processor's seconds
and by the clock's in the same run: they differ where other work had the core.
"""

from __future__ import annotations

import functools
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tables import write_table

from synthfm.data.shards import ShardWriter
from synthfm.generator import scene
from synthfm.generator.config import load_config
from synthfm.generator.folder import factory
from synthfm.generator.folder.compiling import SMALL
from synthfm.generator.modalities.base import Scan
from synthfm.generator.volume import volume_depth

STAGES = {
    "layout: shapes, contact, nesting": (scene, "draw_scene"),
    "contrast and texture drawn": (scene, "draw_look"),
    "labels to a clean image": (scene, "render"),
    "acquisition": (Scan, "acquire"),
    "display: window, gamma": (scene, "display"),
    "statistics and prompts": (scene, "tabulate"),
    "compression": (ShardWriter, "append"),
    "tables, file": (ShardWriter, "close"),
}
SIZES = {128: None, 256: "60 samples/s", 512: "15 samples/s", 1024: None}
"""Sides in pixels, and what was aimed at."""
HEADER = ("", "goal", "samples a second of the processor", "of the clock", "peak memory, MB")


@dataclass(frozen=True)
class Made:
    """What a shard took: seconds, the processor's seconds, and the process's peak memory in MB so far."""

    samples: int
    seconds: float
    processor: float
    peak: float


def make_shard(preset: str, size: int, count: int, first: int) -> Made:
    """Make one shard in a temporary folder; of volumes with about as many slices."""
    config, volumes = load_config(preset, size=size), None
    if config.makes_volumes:
        each = round(sum(config.volume.depth) / 2)
        volumes = range(first // each, first // each + max(1, count // each))
        count = sum(volume_depth(config, 1, number) for number in volumes)
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder) / "progress"
        progress.touch()
        task = factory.Task(
            path=Path(folder) / "shard.h5",
            progress=progress,
            config=config,
            package_version=importlib.metadata.version("synthfm"),
            root_seed=1,
            first_index=first,
            count=count,
            volumes=volumes,
        )
        began, used = time.perf_counter(), time.process_time()
        factory.fill_shard(task)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, on a Mac bytes
    return Made(count, seconds, processor, peak / (1e6 if platform.system() == "Darwin" else 1e3))


def time_stages(preset: str, size: int, count: int) -> dict[str, float]:
    """Milliseconds of the processor a sample of every stage."""
    spent = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[stage] += time.process_time() - began

        return wrapper

    make_shard(preset, SMALL, 96, 0)  # loads the kernels, of rare kinds of samples too
    for stage, (owner, name) in STAGES.items():
        setattr(owner, name, timed(stage, getattr(owner, name)))
    seconds = make_shard(preset, size, count, 0).processor
    spent["the rest"] = seconds - sum(spent.values())
    return {stage: 1000 * value / count for stage, value in spent.items()}


def workers(count: int) -> ProcessPoolExecutor:
    """Fresh processes, as the factory's are."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def alone(preset: str, size: int, num: int, rounds: int) -> list[Made]:
    """Shards of `num` samples, made one after another by one fresh worker that is warm."""
    with workers(1) as pool:
        pool.submit(make_shard, preset, size, 16, 0).result()  # loads and compiles
        firsts = range(num, num * (rounds + 1), num)
        return list(pool.map(functools.partial(make_shard, preset, size, num), firsts))


@dataclass(frozen=True)
class Gain:
    """Two workers beside one: how much more they make in the same time, and samples per second of both."""

    ratio: float
    clock: float
    processor: float


def gain(preset: str, size: int, num: int, rounds: int) -> Gain:
    """One and two workers in turn, on the same shards."""
    ratios, seconds, used = [], [], []
    with workers(2) as pool:
        make = functools.partial(make_shard, preset, size, num)
        list(pool.map(functools.partial(make_shard, preset, size), [16] * 4, range(4)))
        for number in range(rounds):
            first = 2 * num * number
            single = sum(pool.submit(make, first + k * num).result().seconds for k in range(2))
            began = time.perf_counter()
            made = list(pool.map(make, (first, first + num)))
            seconds.append(time.perf_counter() - began)
            used.append(sum(shard.processor for shard in made))
            ratios.append(single / seconds[-1])
    ratio, clock, processor = (statistics.median(its) for its in (ratios, seconds, used))
    return Gain(ratio, 2 * num / clock, 2 * num / processor)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def line(what: str, goal: str | None, made: list[Made]) -> list[str]:
    """A row of the table: medians of the rounds' rates, and the peak of memory."""
    by_processor, by_clock = (
        statistics.median(shard.samples / getattr(shard, kind) for shard in made)
        for kind in ("processor", "seconds")
    )
    return [what, goal or "", whole(by_processor), whole(by_clock), f"{max(one.peak for one in made):.0f}"]


def whole(rate: float) -> str:
    """A rate to the unit, a small one to a tenth."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def speed(preset: str, num: int, rounds: int) -> Iterator[list[str]]:
    """The rows: sizes, volumes, and two workers where there are two cores."""
    lines = {}
    for size, goal in SIZES.items():
        made = alone(preset, size, max(num * 256 // size, 2), rounds)
        lines[size] = line(f"{size} x {size}, one worker", goal, made)
        yield lines[size]
    # Of many volumes, as one takes up to three times as long a slice as another.
    slices = line("slices of volumes, 256 x 256, one worker", None, alone("volumes", 256, 16 * num, rounds))
    yield slices
    ratios = [f"{float(slices[k]) / float(lines[256][k]):.2f}" for k in (2, 3)]
    yield ["slices of volumes / images, 256 x 256", "1.5", *ratios, ""]
    if cores() > 1:
        two = gain(preset, 256, num, rounds)
        yield ["256 x 256, two workers", "", whole(two.processor), whole(two.clock), ""]
        yield ["two workers / one", "1.9", "", f"{two.ratio:.2f}", ""]


def stages(preset: str, num: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows: milliseconds of the processor a sample of every stage, and its share, by size."""
    spent = {}
    for size in SIZES:
        with workers(1) as one:
            count = max(num * 256 // max(size, 256), 2)
            spent[size] = one.submit(time_stages, preset, size, count).result()
    header = ["stage", *(name for size in SIZES for name in (f"{size} pixels", "share"))]
    rows = [
        [
            stage,
            *(
                cell
                for size in SIZES
                for cell in (
                    f"{spent[size][stage]:.1f}",
                    f"{100 * spent[size][stage] / sum(spent[size].values()):.0f} %",
                )
            ),
        ]
        for stage in spent[256]
    ]
    total = [cell for size in SIZES for cell in (f"{sum(spent[size].values()):.1f}", "")]
    return header, [*rows, ["all", *total]]


@click.command()
@click.option("--preset", default="full", show_default=True)
@click.option("--num", default=64, show_default=True, help="Samples a shard at 256 pixels; fewer of larger.")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A folder for speed_generator.csv and generator_stages.csv.",
)
def main(preset: str, num: int, rounds: int, out: Path | None) -> None:
    """Measure the generator on one core, and on two where there are two."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"  # for the workers
    click.echo(
        f"preset {preset}, {cores()} cores (load {os.getloadavg()[0]:.1f} before), medians of {rounds}"
    )
    rows = []
    for row in speed(preset, num, rounds):
        rows.append(row)
        click.echo(" | ".join(row))
    header, by_stage = stages(preset, num)
    for row in (header, *by_stage):
        click.echo(" | ".join(row))
    if out:
        write_table(out / "speed_generator.csv", HEADER, rows)
        write_table(out / "generator_stages.csv", header, by_stage)


if __name__ == "__main__":
    main()
