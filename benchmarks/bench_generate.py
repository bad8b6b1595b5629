"""How fast the generator is, everything included: ``python benchmarks/bench_generate.py``.

A worker makes whole shards as the factory's do: labels, image, prompts, statistics, HDF5 file. Its start and
the compilation of its kernels are not timed. Rates are medians over repeats. Prints Markdown tables, of this
machine and this moment.
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
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from synthfm.data.shards import ShardWriter
from synthfm.generator import scene
from synthfm.generator.config import load_config
from synthfm.generator.folder import factory
from synthfm.generator.folder.compiling import SMALL
from synthfm.generator.modalities.base import Scan
from synthfm.generator.volume import volume_depth

STAGES = {
    "layout (shapes, contact, nesting)": (scene, "draw_scene"),
    "appearance: contrast and texture": (scene, "draw_look"),
    "appearance: labels to a clean image": (scene, "render"),
    "acquisition (CT, MR, ultrasound)": (Scan, "acquire"),
    "display (window, gamma)": (scene, "display"),
    "statistics and prompts": (scene, "tabulate"),
    "compression into HDF5": (ShardWriter, "append"),
    "tables, writing, fsync": (ShardWriter, "close"),
}


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


def alone(preset: str, size: int, num: int, repeats: int) -> list[Made]:
    """Shards of `num` samples, made one after another by one fresh worker that is warm."""
    with workers(1) as pool:
        pool.submit(make_shard, preset, size, 16, 0).result()  # loads and compiles
        firsts = range(num, num * (repeats + 1), num)
        return list(pool.map(functools.partial(make_shard, preset, size, num), firsts))


def gain(preset: str, size: int, num: int, repeats: int) -> float:
    """How much more two workers make in the same time; one and two in turn, on the same shards."""
    ratios = []
    with workers(2) as pool:
        make = functools.partial(make_shard, preset, size, num)
        list(pool.map(functools.partial(make_shard, preset, size), [16] * 4, range(4)))
        for repeat in range(repeats):
            first = 2 * num * repeat
            single = sum(pool.submit(make, first + k * num).result().seconds for k in range(2))
            began = time.perf_counter()
            list(pool.map(make, (first, first + num)))
            ratios.append(single / (time.perf_counter() - began))
    return statistics.median(ratios)


@click.command()
@click.option("--preset", default="full", show_default=True)
@click.option("--num", default=64, show_default=True, help="Samples a shard at 256 pixels; a quarter at 512.")
@click.option("--repeats", default=3, show_default=True)
def main(preset: str, num: int, repeats: int) -> None:
    """Measure the generator on one core and on two."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"  # for the workers
    load = os.getloadavg()[0]
    click.echo(f"preset {preset}, {os.cpu_count()} cores (load {load:.1f} before), medians of {repeats}\n")
    click.echo("| one worker | samples/s | per second of processor time |\n| --- | ---: | ---: |")
    for size, count in ((256, num), (512, num // 4)):
        made = alone(preset, size, count, repeats)
        wall, processor = (
            count / statistics.median(getattr(shard, kind) for shard in made)
            for kind in ("seconds", "processor")
        )
        click.echo(f"| {size} x {size} | {wall:.1f} | {processor:.1f} |")
    click.echo("\n| slices of volumes, one worker | samples/s | single images / s | ratio | MB |")
    click.echo("| --- | ---: | ---: | ---: | ---: |")
    slices, single = alone("volumes", 256, 4 * num, repeats), alone(preset, 256, num, repeats)
    rates = [sum(s.samples for s in made) / sum(s.processor for s in made) for made in (slices, single)]
    peak = max(shard.peak for shard in slices)
    click.echo(f"| 256 x 256 | {rates[0]:.1f} | {rates[1]:.1f} | {rates[0] / rates[1]:.2f} | {peak:.0f} |")
    click.echo(f"\ntwo workers: {gain(preset, 256, num, repeats):.2f} times one (256 x 256)")
    click.echo("\n| samples made by one worker | its peak memory, MB |\n| ---: | ---: |")
    for number, shard in enumerate(alone(preset, 256, num, 4), 1):
        if number in (1, 2, 4):
            click.echo(f"| {16 + number * num} | {shard.peak:.0f} |")
    with workers(1) as one:
        stages = one.submit(time_stages, preset, 256, num).result()
    total = sum(stages.values())
    click.echo("\n| stage at 256 x 256 | ms a sample | share |\n| --- | ---: | ---: |")
    for stage, value in stages.items():
        click.echo(f"| {stage} | {value:.1f} | {value / total:.0%} |")


if __name__ == "__main__":
    main()
