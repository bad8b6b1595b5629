"""How long `tiny` takes for a click, alone and beside other work: ``python benchmarks/bench_click.py``.

A synthetic image of 512 pixels; ``SamPredictor``'s two steps, a ``Segmenter`` with a second look, and a
request of the page for a click on a slice that was not seen before, in a scan of 60 such slices, with all
that it tells.
Each cell is the median of a process of its own, whose threads wait as the column says, beside so many
processes that keep a core busy.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import WAIT_PASSIVELY

WAITING = {
    "PyTorch's own": dict.fromkeys(WAIT_PASSIVELY),
    "as the programs set it": WAIT_PASSIVELY,
    "one thread": {**WAIT_PASSIVELY, "OMP_NUM_THREADS": "1"},
}
"""Column to the environment of its processes; None removes a variable."""


def milliseconds(call: Callable[[], object], times: int) -> float:
    """Median time of a call, after one that does not count."""
    return 1000 * statistics.median(timeit.repeat(call, number=1, repeat=times + 1)[1:])


def measure(times: int) -> dict[str, float]:
    """Milliseconds of each step in this process."""
    from segment_anything import SamPredictor

    from synthfm.generator.config import load_config
    from synthfm.generator.scene import make_sample
    from synthfm.trainer.model import models
    from synthfm.trainer.model.predict import Prompt, SecondLook, Segmenter

    sample = make_sample(load_config("ct", size=512), 0, 0)
    objects, colour = sample.objects, np.repeat(sample.image[..., None], 3, 2)
    x, y = objects.points[np.argsort(objects.area)[len(objects.area) // 2], 0]  # neither large nor small
    sam = models.load("tiny")[0].eval()
    predictor, segmenter = SamPredictor(sam), Segmenter(sam, SecondLook())
    prompt = Prompt([[x, y]], [1])
    with tempfile.TemporaryDirectory() as folder:
        on_page = page_click(sample.image, [int(x), int(y)], Path(folder))
        clicks = milliseconds(on_page, times)
    steps = {
        "SamPredictor.set_image": lambda: predictor.set_image(colour),
        "SamPredictor.predict": lambda: predictor.predict(np.array([[x, y]]), np.array([1])),
        "a click, second look": lambda: segmenter.predict(segmenter.encode(sample.image), [prompt]),
    }
    return {
        **{name: milliseconds(call, times) for name, call in steps.items()},
        "a click on the page": clicks,
    }


def page_click(image: NDArray[np.uint8], point: list[int], folder: Path) -> Callable[[], object]:
    """A click on the next slice of a scan of the same images, by the page's server."""
    from synthfm.evaluation.interactive.page.loading import Wanted, load
    from synthfm.evaluation.interactive.page.routes import make_app

    np.save(folder / "scan.npy", np.stack([image] * 60))
    library: Future[Any] = Future()
    asker: Future[Any] = Future()
    load(Wanted(["second-look:tiny"], files=[folder / "scan.npy"]), library, asker)
    client = make_app(library, asker, folder).test_client()
    scan = client.post("/api/scans", json={"image": "file/0"}).get_json()["scan"]
    numbers = itertools.cycle(range(60))

    def ask() -> None:
        body = {"place": [next(numbers), *point[::-1]], "object": "a", "points": [point], "levels": [0, 255]}
        assert client.post(f"/api/scans/{scan}/do/click", json=body).status_code == 200

    return ask


def _spin() -> None:
    while True:
        pass


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute without a pause."""
    others = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()


def separately(settings: dict[str, str | None], times: int) -> dict[str, float]:
    """:func:`measure` in a process of its own with these variables."""
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    environment |= {name: value for name, value in settings.items() if value is not None}
    command = [sys.executable, __file__, "--times", str(times), "--here"]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


@click.command()
@click.option("--times", type=click.IntRange(min=1), default=15, show_default=True)
@click.option(
    "--others", type=click.IntRange(min=0), default=2, show_default=True, help="Most busy processes."
)
@click.option("--here", is_flag=True, help="Measure in this process, and print JSON.")
def main(times: int, others: int, here: bool) -> None:
    """Print a Markdown table of the medians in milliseconds."""
    if here:
        click.echo(json.dumps(measure(times)))
        return
    click.echo(f"| ms, {os.cpu_count()} cores | busy processes | {' | '.join(WAITING)} |")
    click.echo("| --- | ---: |" + " ---: |" * len(WAITING))
    for count in range(others + 1):
        with busy(count):
            columns = [separately(settings, times) for settings in WAITING.values()]
        for name in columns[0]:
            cells = " | ".join(f"{column[name]:.0f}" for column in columns)
            click.echo(f"| {name} | {count} | {cells} |")


if __name__ == "__main__":
    main()
