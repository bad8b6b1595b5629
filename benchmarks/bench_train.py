"""How fast the trainer is, and what it waits for: ``python benchmarks/bench_train.py --shards DIR``.

Prints one line for each claim of docs/training.md. Numbers are of this machine and this moment.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import numpy as np
import psutil
import torch
from segment_anything.modeling import Sam

from data.console import Group
from trainer import decode, embeddings, loop, models
from trainer.config import TrainConfig, load_config
from trainer.prompting import draw_plans
from trainer.step import Step
from trainer.stream import Batch, Batches, Source, loader


def steps_per_second(
    config: TrainConfig, sam: Sam, batches: Iterable[Batch], steps: int
) -> tuple[float, float]:
    """Steps per second over `steps` after three to warm up, and the share of the time spent waiting."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    step, optimizer = Step(sam.to(device), config).train(), loop.make_optimizer(sam, config.optim)
    stream, waited, began = iter(batches), 0.0, 0.0
    for number in range(steps + 3):
        if number == 3:
            synchronise(device)
            waited, began = 0.0, time.perf_counter()
        before = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - before
        with torch.autocast(device.type, torch.bfloat16):
            loss, _ = step(batch.to(device), draw_plans(config.prompts, 0, number))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    synchronise(device)
    seconds = time.perf_counter() - began
    return steps / seconds, waited / seconds


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, where there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def best_of(function: Callable[[], object], times: int = 3) -> float:
    """Least seconds of several calls."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


@click.group(cls=Group, invoke_without_command=True)
@click.option("--shards", help="A dataset folder; without it 200 images are generated first.")
@click.option("--checkpoint", help="A checkpoint; without it, tiny with random weights.")
@click.option("--preset", default="tiny_cpu", show_default=True)
@click.option("--steps", default=20, show_default=True)
def main(shards: str | None, checkpoint: str | None, preset: str, steps: int) -> None:
    """Measure the stream, the embedding cache, batched decoding and the pipeline's memory."""
    if shards is None:
        shards = "runs/bench/shards"
        command = ["generator.cli", "run", "--out", shards, "--num", "200", "--size", "256", "--seed", "0"]
        subprocess.run([sys.executable, "-m", *command], check=True)
    config = load_config(preset, ["stream.val_share=0"])
    if checkpoint:
        config = config.model_copy(update={"model": models.load(checkpoint)[1], "image_size": None})
    source = Source([shards])
    fresh = loop.build_model
    inputs = loop.Inputs((shards,), checkpoint=checkpoint)
    batches = Batches(source, config)
    held, _ = steps_per_second(config, fresh(config, inputs), itertools.repeat(batches[0]), steps)
    streamed, wait = steps_per_second(config, fresh(config, inputs), loader(batches, 0, steps + 3), steps)
    click.echo(f"one batch in memory  {held * config.batch:8.1f} images/s")
    click.echo(f"from the stream      {streamed * config.batch:8.1f} images/s, {streamed / held:.2f} of it, "
               f"{100 * wait:.1f} % waiting")  # fmt: skip
    cached(config, source, shards, steps)
    decoding(fresh(config, inputs).eval())
    memory(config, shards)


def cached(config: TrainConfig, source: Source, shards: str, steps: int) -> None:
    """Training a decoder from embeddings in files, against one batch of them in memory."""
    frozen = load_config("decoder_cpu", ["stream.val_share=0"]).model_copy(
        update={"image_size": config.image_size}
    )
    sam = models.build("tiny", image_size=config.image_size)
    sam.image_encoder.requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        embeddings.embed(sam, [shards], Path(folder), progress=False)
        cache = embeddings.Cache(folder, embeddings.encoder_hash(sam), [shards])
        batches = Batches(source, frozen, cache=cache)
        held, _ = steps_per_second(frozen, sam, itertools.repeat(batches[0]), steps)
        read, wait = steps_per_second(frozen, sam, loader(batches, 0, steps + 3), steps)
    click.echo(f"embeddings in memory {held * frozen.batch:8.1f} images/s")
    click.echo(f"embeddings in files  {read * frozen.batch:8.1f} images/s, {read / held:.2f} of it, "
               f"{100 * wait:.1f} % waiting")  # fmt: skip


@torch.no_grad()
def decoding(sam: Sam, images: int = 16, prompts: int = 1) -> None:
    """All prompts of some images in one call, against SAM's image-by-image decoder."""
    sam = sam.cpu()
    size = sam.image_encoder.img_size
    rng = np.random.default_rng(0)
    features = decode.encode(
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

    def together() -> torch.Tensor:
        coords, kinds = decode.as_points(points.flatten(0, 1), labels.flatten(0, 1), None)
        return decode.decode(sam, features.repeat_interleave(prompts, 0), coords, kinds, None)[0]

    difference = float((one_by_one() - together()).abs().max())
    ratio = best_of(one_by_one) / best_of(together)
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
