"""What HDF5's filters cost and save on images and label maps: ``python benchmarks/bench_filters.py``.

The same samples, a chunk each, are written and read back with every filter in turn, files in memory, in one
thread: bytes of a sample's image and label map, and samples per second of the processor. The first row is the
shard as its writer makes it, which packs chunks itself (:func:`synthfm.data.chunks.deflated`).
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
from numpy.typing import NDArray
from tables import RESULTS, three, write_table

from synthfm.data.chunks import deflated
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample

COMPRESSION: dict[str, dict[str, Any]] = {
    "none": {},
    "lzf": {"compression": "lzf"},
    **{f"gzip {level}": {"compression": "gzip", "compression_opts": level} for level in (1, 4, 9)},
}
OURS = "as the shard's writer packs gzip 1"
Pictures = dict[str, NDArray[np.uint8]]
Write = Callable[[h5py.File, Pictures], None]


@dataclass(frozen=True)
class Filter:
    """A row: what is done to a chunk, and how it is written."""

    compression: str
    shuffle: bool
    checksum: bool
    write: Write


@dataclass(frozen=True)
class Cost:
    """What a filter costs; the fields are the file's columns."""

    compression: str
    shuffle: str
    checksum: str
    bytes_a_sample: int
    written: str
    read: str


HEADER = ("compression", "shuffle", "Fletcher-32", "bytes a sample", "samples/s written", "samples/s read")


def filters() -> list[Filter]:
    """The shard's own first, then every combination of HDF5's."""

    def packed(file: h5py.File, pictures: Pictures) -> None:
        for name, values in pictures.items():
            dataset = empty(file, name, values, compression="gzip", compression_opts=1, fletcher32=True)
            for k, picture in enumerate(values):
                dataset.id.write_direct_chunk((k, 0, 0), deflated(picture))

    def plainly(**options: Any) -> Write:
        def write(file: h5py.File, pictures: Pictures) -> None:
            for name, values in pictures.items():
                dataset = empty(file, name, values, **options)
                for k, picture in enumerate(values):
                    dataset[k] = picture

        return write

    own = Filter(OURS, shuffle=False, checksum=True, write=packed)
    return [own] + [
        Filter(name, shuffle, checksum, plainly(shuffle=shuffle, fletcher32=checksum, **options))
        for (name, options), shuffle, checksum in itertools.product(
            COMPRESSION.items(), (False, True), (False, True)
        )
    ]


def empty(file: h5py.File, name: str, values: NDArray[np.uint8], **options: Any) -> h5py.Dataset:
    return file.create_dataset(name, values.shape, values.dtype, chunks=(1, *values.shape[1:]), **options)


def in_memory(name: str = "bench_filters") -> h5py.File:
    """A file without a cache of chunks, so that what is read is unpacked each time."""
    return h5py.File(name, "w", driver="core", backing_store=False, libver=("v110", "v110"), rdcc_nbytes=0)


def once(one: Filter, pictures: Pictures) -> tuple[int, float, float]:
    """Bytes a sample, seconds of the processor to write all of them and to read them.

    Raises
    ------
    ValueError
        If what is read is not what was written.
    """
    count = len(pictures["image"])
    with in_memory() as file:
        began = time.process_time()
        one.write(file, pictures)
        file.flush()
        wrote = time.process_time()
        read = {name: [file[name][k] for k in range(count)] for name in pictures}
        seconds = time.process_time() - wrote
        for name, values in pictures.items():
            if not np.array_equal(read[name], values):
                raise ValueError(f"{one.compression}: {name!r} is read back as something else")
        size = sum(file[name].id.get_storage_size() for name in pictures)
    return round(size / count), wrote - began, seconds


def measured(pictures: Pictures, rounds: int) -> list[Cost]:
    """All filters in turn, so that they meet the same moments of a machine; medians of the rounds."""
    chosen, count = filters(), len(pictures["image"])
    for one in chosen[:2]:
        once(one, pictures)  # compiles the checksum, and warms up
    taken: list[list[tuple[int, float, float]]] = [[] for _ in chosen]
    for _ in range(rounds):
        for one, its in zip(chosen, taken, strict=True):
            its.append(once(one, pictures))
    costs = []
    for one, its in zip(chosen, taken, strict=True):
        wrote, read = (count / statistics.median(run[k] for run in its) for k in (1, 2))
        flags = ["yes" if flag else "no" for flag in (one.shuffle, one.checksum)]
        costs.append(Cost(one.compression, *flags, its[0][0], three(wrote), three(read)))
    return costs


def samples(count: int, size: int) -> Pictures:
    """Images and label maps of the preset `full`, each uint8 (count, size, size)."""
    config = load_config("full", size=size)
    made = [make_sample(config, 0, index) for index in range(count)]
    return {name: np.stack([getattr(sample, name) for sample in made]) for name in ("image", "label")}


@click.command()
@click.option("--num", default=64, show_default=True, help="Samples.")
@click.option("--size", default=256, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS / "filters.csv", help="A CSV file.")
def main(num: int, size: int, rounds: int, out: Path) -> None:
    """Measure all of them, print the lines and write the file."""
    costs = measured(samples(num, size), rounds)
    for cost in costs:
        print(" | ".join(map(str, astuple(cost))))
    write_table(out, HEADER, map(astuple, costs))


if __name__ == "__main__":
    main()
