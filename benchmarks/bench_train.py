"""How fast the trainer is, and what it waits for: ``python benchmarks/bench_train.py --shards DIR``.

Prints one line for each claim of docs/training.md. Numbers are of this machine and this moment.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import psutil
import torch
from segment_anything.modeling import Sam

from synthfm.data.console import Group
from synthfm.generator.cli import main as generate
from synthfm.trainer.config import TrainConfig, load_config
from synthfm.trainer.model import look, models
from synthfm.trainer.model.decoder import decode
from synthfm.trainer.model.packing import pack_alike
from synthfm.trainer.objective.prompting import draw_plans
from synthfm.trainer.objective.step import Step
from synthfm.trainer.run import inputs, optim
from synthfm.trainer.stream import embeddings
from synthfm.trainer.stream.batch import Batch
from synthfm.trainer.stream.stream import Batches, Source, loader

REPEATS = 5


@dataclass
class Fed:
    """A training fed from one source, and the seconds that its steps took and waited, block by block."""

    step: Step
    optimizer: torch.optim.Optimizer
    batches: Iterator[Batch]
    seconds: list[float] = field(default_factory=list)
    waited: float = 0.0
    number: int = 0

    def run(self, config: TrainConfig, steps: int) -> None:
        """Time `steps` steps."""
        device = next(self.step.parameters()).device
        dtype = torch.float16 if config.precision == "16" else torch.bfloat16
        synchronise(device)
        began = time.perf_counter()
        for _ in range(steps):
            before = time.perf_counter()
            batch = next(self.batches)
            self.waited += time.perf_counter() - before
            with torch.autocast(device.type, dtype, enabled=config.precision != "32"):
                loss, _ = self.step(batch.to(device), draw_plans(config.prompts, 0, self.number))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.number += 1
        synchronise(device)
        self.seconds.append(time.perf_counter() - began)


def compare(
    config: TrainConfig, make: Callable[[], Sam], sources: Sequence[Iterable[Batch]], steps: int
) -> tuple[list[float], float, float]:
    """Train from two sources of batches in turn, block by block, so that both meet the same moments.

    Returns
    -------
    rates, ratio, wait
        Images per second of either, the median over the blocks of the second's speed over the first's, and
        the share of its time that the second waited for data.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runs = []
    for batches in sources:
        sam = make().to(device)
        runs.append(Fed(Step(sam, config).train(), optim.make_optimizer(sam, config), iter(batches)))
    for run in runs:
        run.run(config, 3)  # to warm up
        run.seconds.clear()
        run.waited = 0.0
    for _ in range(REPEATS):
        for run in runs:
            run.run(config, steps)
    memory, stream = runs
    rates = [steps * config.batch / statistics.median(run.seconds) for run in runs]
    ratio = statistics.median(a / b for a, b in zip(memory.seconds, stream.seconds, strict=True))
    return rates, ratio, stream.waited / sum(stream.seconds)


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, where there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize()


@click.group(cls=Group, invoke_without_command=True)
@click.option("--shards", help="A dataset folder; without it 200 images are generated first.")
@click.option("--model", "names", multiple=True, type=click.Choice(["tiny", "vit_b", "vit_l", "vit_h"]),
              help="Trained from the stream, with random weights; repeat for several.  "
              "[default: tiny, and on a GPU vit_b]")  # fmt: skip
@click.option(
    "--preset", help="Of the training.  [default: tiny_cpu or tiny_gpu for tiny, default for SAM's models]"
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting.")
@click.option("--steps", default=8, show_default=True, help="In each of five blocks.")
def main(
    shards: str | None, names: tuple[str, ...], preset: str | None, overrides: tuple[str, ...], steps: int
) -> None:
    """Measure the stream, the embedding cache, batched decoding and the pipeline's memory."""
    if shards is None:
        shards = "runs/bench/shards"
        made = ["run", "--out", shards, "--num", "200", "--size", "256", "--seed", "0"]
        generate.main(made, standalone_mode=False)
    source = Source([shards])
    gpu = torch.cuda.is_available()
    for name in names or (["tiny", "vit_b"] if gpu else ["tiny"]):
        chosen = preset or ("default" if name != "tiny" else "tiny_gpu" if gpu else "tiny_cpu")
        config = load_config(chosen, ["stream.val_share=0", *overrides], model=name)
        streamed(config, source, steps)
    config = load_config("tiny_cpu", ["stream.val_share=0"])
    cached(config, source, shards, steps)
    decoding(models.build("tiny", image_size=config.image_size).eval())
    memory(config, shards)


def streamed(config: TrainConfig, source: Source, steps: int) -> None:
    """Training from the stream, against one batch of it in memory."""
    batches = Batches(source, config)
    random = models.build(config.model, image_size=config.image_size, depths=config.depths)
    what = f"{random.image_encoder.img_size} pixels, {config.batch} images a step"
    click.echo(f"{config.model:20} {what}, frozen: {', '.join(config.freeze) or 'nothing'}")
    report("one batch in memory", "from the stream", compare(
        config,
        lambda: inputs.prepare(copy.deepcopy(random), config),
        (itertools.repeat(batches[0]), loader(batches, 0, 3 + REPEATS * steps, torch.cuda.is_available())),
        steps,
    ))  # fmt: skip


def cached(config: TrainConfig, source: Source, shards: str, steps: int) -> None:
    """Training a decoder from embeddings in files, against one batch of them in memory."""
    frozen = load_config("decoder_cpu", ["stream.val_share=0"]).model_copy(
        update={"image_size": config.image_size}
    )
    sam = inputs.prepare(models.build("tiny", image_size=config.image_size), frozen)
    with tempfile.TemporaryDirectory() as folder:
        embeddings.embed(sam, [shards], Path(folder), progress=False)
        cache = embeddings.Cache(folder, embeddings.encoder_hash(sam), [shards], frozen.stream.window)
        batches = Batches(source, frozen, cache=cache)
        report("embeddings in memory", "embeddings in files", compare(
            frozen,
            lambda: copy.deepcopy(sam),
            (itertools.repeat(batches[0]), loader(batches, 0, 3 + REPEATS * steps)),
            steps,
        ))  # fmt: skip


def report(first: str, second: str, result: tuple[list[float], float, float]) -> None:
    """Two lines: the speed of either source."""
    (memory, stream), ratio, wait = result
    click.echo(f"{first:20} {memory:8.1f} images/s")
    click.echo(f"{second:20} {stream:8.1f} images/s, {ratio:.2f} of it, {100 * wait:.1f} % waiting")


def seconds(function: Callable[[], object]) -> float:
    """What one call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


@torch.no_grad()
def decoding(sam: Sam, images: int = 16, prompts: int = 1) -> None:
    """All prompts of some images in one call, against SAM's image-by-image decoder."""
    sam = sam.cpu()
    size = sam.image_encoder.img_size
    rng = np.random.default_rng(0)
    features = look.encode(
        sam, torch.from_numpy(rng.integers(0, 256, (images, 1, size, size), dtype=np.uint8))
    )
    points = torch.from_numpy(rng.uniform(0, size, (images, prompts, 1, 2))).float()
    labels = torch.ones(images, prompts, 1, dtype=torch.long)

    def one_by_one() -> torch.Tensor:
        masks = []
        for k in range(images):
            sparse, dense = sam.prompt_encoder(points=(points[k], labels[k]), boxes=None, masks=None)
            pe = sam.prompt_encoder.get_dense_pe()
            masks.append(sam.mask_decoder.predict_masks(features[k : k + 1], pe, sparse, dense)[0])
        return torch.cat(masks)

    def batched() -> torch.Tensor:
        return decode(sam, features, pack_alike(points.flatten(0, 1), labels.flatten(0, 1), None), None)[0]

    difference = float((one_by_one() - batched()).abs().max())
    ratio = statistics.median(seconds(one_by_one) / seconds(batched) for _ in range(3 * REPEATS))
    click.echo(f"batched decoding     {ratio:8.2f} times SAM's loop ({images} images x {prompts} prompts), "
               f"logits differ by {difference:.1e}")  # fmt: skip


def memory(config: TrainConfig, shards: str, rounds: int = 100) -> None:
    """Memory of the input pipeline over `rounds` openings of shards."""
    small = config.model_copy(update={"stream": config.stream.model_copy(update={"window": 1})})
    batches = Batches(Source([shards] * rounds), small)
    process, used = psutil.Process(), []
    total = min(len(batches.source) // config.batch, 200)
    for number in range(total):
        batches[number]
        if number in (total // 5, total - 1):
            used.append(process.memory_info().rss / 1e6)
    early, late = used
    click.echo(
        f"input pipeline       {early:8.0f} MB after {total // 5} batches, {late:.0f} MB after {total}"
    )


if __name__ == "__main__":
    main()
