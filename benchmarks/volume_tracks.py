"""How objects run through slices, synthetic beside real: ``python benchmarks/volume_tracks.py --help``.

Nothing is fitted to the real ones: the table is for comparison. The synthetic volumes are those of

    synthfm-generate run --preset volumes --num 20 --seed 12 --out DIR
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.cases.case import Case
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import load_datasets
from synthfm.generator.folder.tracks import Tracks, compare, measure_tracks

COLUMNS = (
    "",
    "tracks",
    "begin or end inside",
    "slices of a track (5 %, median, 95 %)",
    "Dice with the next slice (mean; 5 %, median)",
    "area ratio to the next slice (median, 95 %)",
)


def stretches(filled: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and last slice of each stretch of slices that hold an object: a track, as in a shard.

    >>> list(stretches(np.array([False, True, True, False, True])))
    [(1, 2), (4, 4)]
    """
    edges = np.flatnonzero(np.diff(np.pad(filled.astype(int), 1)))
    yield from zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True)


def tracks_of(cases: Iterable[Case]) -> Tracks:
    """The tracks of real volumes, from their reference masks."""
    volumes, lengths, ended, pairs = set(), [], [], []
    for case in cases:
        volumes.add(case.volume)
        for item in case.objects:
            for first, last in stretches(item.mask.any((1, 2))):
                lengths.append(last - first + 1)
                ended.append(first > 0 or last < len(item.mask) - 1)
                pairs += [compare(item.mask[k], item.mask[k + 1]) for k in range(first, last)]
    change, dice = np.array(pairs).reshape(-1, 2).T
    return Tracks(len(volumes), np.array(lengths), np.array(ended), change, dice)


def row(name: str, tracks: Tracks) -> list[str]:
    """A line of the table."""
    low, middle, high = np.percentile(tracks.length, [5, 50, 95])
    worst, median = np.percentile(tracks.dice, [5, 50])
    return [
        name,
        str(len(tracks.length)),
        f"{tracks.ended.mean():.0%}".replace("%", " %"),
        f"{low:.0f}, {middle:.0f}, {high:.0f}",
        f"{tracks.dice.mean():.2f}; {worst:.2f}, {median:.2f}",
        "{:.2f}, {:.2g}".format(*np.percentile(tracks.change, [50, 95])),
    ]


@click.command()
@click.option("--shards", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data-root", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--dataset", "datasets", required=True, help="Names or files of datasets of volumes, by commas."
)
def main(shards: Path, data_root: Path, datasets: str) -> None:
    """Print the table as CSV."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    synthetic = measure_tracks(shards)
    assert synthetic is not None
    out.writerow(COLUMNS)
    out.writerow(row(f"synthetic volumes, {synthetic.volumes}", synthetic))
    for descriptor in load_datasets(datasets.split(","), data_root):
        cases = (case for case in iter_cases(descriptor, data_root, dims=3) if isinstance(case, Case))
        tracks = tracks_of(cases)
        out.writerow(row(f"{descriptor.name}, {tracks.volumes}", tracks))


if __name__ == "__main__":
    main()
