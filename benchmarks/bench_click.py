"""How long the model `tiny` takes for a click: ``python benchmarks/bench_click.py [--threads N]``.

A synthetic image of 512 pixels; ``SamPredictor``'s two steps, and both looks of ``trainer.zoom.predict``.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable

import click
import numpy as np
import torch
from segment_anything import SamPredictor

from generator.config import load_config
from generator.scene import make_sample
from trainer import models, zoom


def milliseconds(call: Callable[[], object], times: int) -> float:
    """Median time of a call, after one that does not count."""
    return 1000 * statistics.median(timeit.repeat(call, number=1, repeat=times + 1)[1:])


@click.command()
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; PyTorch's choice by default.")
@click.option("--times", type=click.IntRange(min=1), default=20, show_default=True)
def main(threads: int | None, times: int) -> None:
    """Print the medians."""
    if threads:
        torch.set_num_threads(threads)
    sample = make_sample(load_config("ct", size=512), 0, 0)
    objects, colour = sample.objects, np.repeat(sample.image[..., None], 3, 2)
    x, y = objects.points[np.argsort(objects.area)[len(objects.area) // 2], 0]  # neither large nor small
    sam = models.load("tiny")[0].eval()
    predictor = SamPredictor(sam)
    rows = {
        "SamPredictor.set_image": lambda: predictor.set_image(colour),
        "SamPredictor.predict": lambda: predictor.predict(np.array([[x, y]]), np.array([1])),
        "zoom.predict, both looks": lambda: zoom.predict(sam, sample.image, [[x, y]], [1]),
    }
    for name, call in rows.items():
        click.echo(f"{name:<26}{milliseconds(call, times):6.1f} ms")


if __name__ == "__main__":
    main()
