"""How long an organ in a scan takes, and how much memory: ``python benchmarks/bench_scan.py``.

A synthetic CT of 512 x 512 pixels in a NIfTI file: a bent ellipsoid through 60 of its 300 slices, with
another organ beside it of nearly its grey values. One box in the middle slice is carried to all, then one
click corrects a slice between the middle and an end. Medians over several runs in a process of their own.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

SIDE, SLICES, LENGTH, BETWEEN = 512, 300, 60, 2.5
"""Pixels of a side, slices, those that hold the organ, and mm between them; a pixel is 0.8 mm."""


def write_scan(path: Path) -> tuple[list[int], tuple[int, int, int]]:
    """Write the scan; returns a box (x0, y0, x1, y1, slice) and a click on the organ (x, y, slice)."""
    import numpy as np
    import SimpleITK as sitk
    from scipy import ndimage

    rng = np.random.default_rng(0)
    y, x = np.indices((SIDE, SIDE), np.float32)
    body = np.hypot((x - 256) / 230, (y - 256) / 180) < 1
    volume = np.empty((SLICES, SIDE, SIDE), np.int16)
    middle = SLICES // 2
    centres = {}
    for k in range(SLICES):
        high = (k - middle) / (LENGTH / 2)
        clean = np.where(body, 40.0, -1000.0)
        clean[np.hypot((x - 330) / 60, (y - 260) / 50) < 1] = 90.0  # beside it, all the way through
        if abs(high) < 1:
            size, centre = np.sqrt(1 - high**2), (200 + 20 * high, 250 + 10 * high**2)
            clean[np.hypot((x - centre[0]) / (80 * size), (y - centre[1]) / (60 * size)) < 1] = 110.0
            centres[k] = centre
        noise = ndimage.gaussian_filter(rng.normal(0, 40, (SIDE, SIDE)).astype(np.float32), 0.8)
        volume[k] = ndimage.gaussian_filter(clean.astype(np.float32), 0.8) + noise
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((0.8, 0.8, BETWEEN))
    sitk.WriteImage(image, str(path))
    other = middle + LENGTH // 4
    x0, y0 = (round(part) for part in centres[other])
    return [120, 190, 281, 311, middle], (x0, y0, other)


def peak() -> float:
    """Most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux: kilobytes


def measure(path: Path, box: list[int], point: tuple[int, int, int]) -> dict[str, float]:
    """Seconds of each step, and the peak of memory, in this process."""
    from synthfm.evaluation.interactive.finding import open_model
    from synthfm.evaluation.scans.scan import read_scan
    from synthfm.evaluation.scans.session import Session

    model = open_model("tiny", "cpu")
    seconds = {}
    start = time.perf_counter()
    scan = read_scan(path)
    seconds["read the file, s"] = time.perf_counter() - start
    session = Session(scan.shown, model.whole, nearby=model.nearby, spacing=BETWEEN / 0.8)
    session.add("organ")
    start = time.perf_counter()
    session.box("organ", box[4], box[:4])
    seconds["the prompted slice, s"] = time.perf_counter() - start
    start = time.perf_counter()
    found = sum(1 for _ in session.propagate("organ"))
    seconds["the whole organ, s"] = time.perf_counter() - start
    start = time.perf_counter()
    session.click("organ", point[2], point[:2])
    changed = sum(1 for _ in session.propagate("organ"))
    seconds["a correction and what it changes, s"] = time.perf_counter() - start
    session.mask("organ")
    return seconds | {"slices found": found + 1, "slices changed": changed, "peak of memory, GB": peak()}


@click.command()
@click.option("--times", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--here", nargs=3, hidden=True)
def main(times: int, here: tuple[str, str, str] | None) -> None:
    """Print a Markdown table of the medians."""
    if here:
        click.echo(json.dumps(measure(Path(here[0]), json.loads(here[1]), json.loads(here[2]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii"
        box, point = write_scan(path)
        command = [sys.executable, __file__, "--here", str(path), json.dumps(box), json.dumps(point)]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(times)
        ]
    click.echo(f"| {SIDE} x {SIDE} x {SLICES}, the organ in {LENGTH} slices | median of {times} |")
    click.echo("| --- | ---: |")
    for name in runs[0]:
        click.echo(f"| {name} | {statistics.median(run[name] for run in runs):.3g} |")


if __name__ == "__main__":
    main()
