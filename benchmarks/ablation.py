"""The paper's ablation: generate with each module on and off, train each alike, evaluate, print one table.

    python benchmarks/ablation.py --data-root DIR [--num N --steps S --seeds 0,1,2 --out runs/ablation]

For every preset and seed it runs the three programs as a user would; each goes on where it stopped, so the
same command continues an interrupted ablation. Only the generator's preset differs between the columns:
number and size of images, model, steps, batch and every seed are the same. Unless told otherwise it trains
decoders from scratch behind the frozen encoder of `tiny`, from its embedding cache.

With `--depth D` the presets make volumes of D slices (`--num` of them), decoders are also trained to carry a
mask through them, and whole volumes are scored. Two columns come to the four: `apart`, `full` whose slices
have nothing to do with one another (`through_plane: false`), and `not_carried`, trained on the volumes of
`full` as if they were single images. A mask cannot be carried through slices that are apart, so neither is
trained to.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd

from synthfm.data.files import write_atomically
from synthfm.evaluation.report import tables, typeset
from synthfm.evaluation.scoring.scores import read_scores

PRESETS = ("neither", "shape_only", "boundary_only", "full")
CARRY = ("--set", "prompts.carry=0.5")
SHORT = (
    "--accelerator cpu --devices 1 --set optim.warmup=50 --set optim.ema=0.98 --set validate_every=500 "
    "--set stream.val_images=8 --set prompts.mix.point=5"
)
"""What a run of some hundred steps needs of `decoder_cpu`."""


@dataclass(frozen=True)
class Column:
    """What is generated for a column, in a folder by the name `shards`, and how it is trained."""

    shards: str
    generate: Sequence[str]
    train: Sequence[str] = ()


def columns_of(presets: Sequence[str], depth: int | None) -> dict[str, Column]:
    """The columns by their names: the presets, and of volumes two more where `full` is among them."""
    names = {Path(preset).stem: preset for preset in presets}
    if len(names) < len(presets):
        raise click.UsageError(f"--presets {','.join(presets)}: two columns of one name")
    if depth is None:
        return {name: Column(name, ("--preset", preset)) for name, preset in names.items()}
    volumes = ("--set", f"volume.depth={depth}..{depth}")
    columns = {name: Column(name, ("--preset", preset, *volumes), CARRY) for name, preset in names.items()}
    if "full" in columns:
        full = columns["full"].generate
        columns["apart"] = Column("apart", (*full, "--set", "volume.through_plane=false"))
        columns["not_carried"] = Column("full", full)
    return columns


def call(program: str, *arguments: object) -> None:
    """Run one of the programs; its errors end this one with its exit code."""
    words = [f"synthfm-{program}", *map(str, arguments)]
    click.echo(" ".join(words), err=True)
    words[0] = str(Path(sys.executable).with_name(words[0]))
    done = subprocess.run(words, check=False)
    # A failed case (exit code 1) of the evaluation leaves scores that can be compared.
    if done.returncode not in ((0, 1) if program == "eval" else (0,)):
        sys.exit(done.returncode)


def ablation_table(scores: dict[int, pd.DataFrame]) -> typeset.Grid:
    """Modality rows by preset columns: mean DSC, its standard deviation over seeds, and the interval.

    An object's DSC is averaged over the seeds before the patients are resampled, so that the interval is
    about the data, and the standard deviation about the training.

    Parameters
    ----------
    scores
        ``scores.csv`` of each seed, with the presets as methods.
    """
    keys = [*tables.OBJECT, "modality", tables.PATIENT, "unit", "method", "round"]
    pooled = pd.concat(scores.values()).groupby(keys, sort=False)["dsc"].mean().reset_index()
    table = tables.by_modality(pooled)
    seeds = pd.concat([tables.by_modality(part) for part in scores.values()])
    spread = seeds.groupby(["prompt", "modality", "method"])["mean"].std(ddof=1)
    table["sd"] = [
        spread[prompt, modality, method]
        for prompt, modality, method in zip(table["prompt"], table["modality"], table["method"], strict=True)
    ]
    return typeset.modality_grid(table)


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), required=True, help="Where the datasets lie.")
@click.option("--datasets", default="chaos-ct,msd-hippocampus,hc18,busi", show_default=True)
@click.option("--prompts", help="The evaluation's  [default: box,box_loose,point1; slice_box,slice_point1]")
@click.option("--limit", type=int, default=40, show_default=True, help="Cases a dataset.")
@click.option("--depth", type=int, help="Slices of a volume; single images if not given.")
@click.option(
    "--presets",
    default=",".join(PRESETS),
    show_default=True,
    help="The generator's, or YAML files; a column is called by the file's name.",
)
@click.option("--num", type=int, default=1000, show_default=True, help="Images, or volumes, per preset.")
@click.option("--size", type=int, default=256, show_default=True, help="Their side in pixels.")
@click.option("--steps", type=int, default=500, show_default=True, help="Training steps of each model.")
@click.option("--train-preset", default="decoder_cpu", show_default=True)
@click.option(
    "--train-args",
    default=SHORT,
    show_default=True,
    help="Further arguments for synthfm-train run, in one string.",
)
@click.option(
    "--embed",
    default="tiny",
    show_default=True,
    help="Train from an embedding cache of this encoder; '' for none.",
)
@click.option("--seeds", default="0", show_default=True, help="Seeds of generator and training, by commas.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/ablation"), show_default=True)
def main(
    data_root: Path,
    datasets: str,
    prompts: str | None,
    limit: int,
    depth: int | None,
    presets: str,
    num: int,
    size: int,
    steps: int,
    train_preset: str,
    train_args: str,
    embed: str,
    seeds: str,
    out: Path,
) -> None:
    """Run the ablation and print its table."""
    columns, scores = columns_of(presets.split(","), depth), {}
    prompts = prompts or ("slice_box,slice_point1" if depth else "box,box_loose,point1")
    dims: list[object] = ["--dims", 3] if depth else []
    cache = out / "embeddings"
    cached: list[object] = ["--checkpoint", embed, "--embeddings", cache] if embed else []
    for seed in map(int, seeds.split(",")):
        checkpoints: list[object] = []
        for name, column in columns.items():
            shards, trained = out / f"shards-{column.shards}-{seed}", out / f"train-{name}-{seed}"
            call("generate", "run", "--out", shards, "--num", num, "--size", size, "--seed", seed,
                 *column.generate)  # fmt: skip
            if embed:
                call("train", "embed", "--shards", shards, "--checkpoint", embed, "--out", cache)
            call("train", "run", "--shards", shards, "--out", trained, "--preset", train_preset,
                 "--steps", steps, "--seed", seed, *cached, *train_args.split(), *column.train)  # fmt: skip
            checkpoints += ["--checkpoint", f"{name}={trained / 'model.pth'}"]
        folder = out / f"eval-{seed}"
        call("eval", "run", *checkpoints, "--method", "none", "--data-root", data_root, "--dataset",
             datasets, "--prompts", prompts, "--limit", limit, "--out", folder, *dims)  # fmt: skip
        scores[seed] = read_scores(folder)
    grid = ablation_table(scores)
    images = f"volumes of {depth} slices" if depth else "images"
    text = typeset.markdown(grid) + (
        f"\n{num} {images} of {size} pixels and {steps} steps for each preset, seeds {seeds}. "
        "Mean DSC over structures"
        + (" ± standard deviation over seeds" if np.size(list(scores)) > 1 else "")
        + " [95 % bootstrap interval, patients resampled; none where a structure has fewer than five]. "
        "Best in bold, second underlined.\n"
    )
    write_atomically(out / "ablation.md", text)
    write_atomically(
        out / "ablation.tex", typeset.latex([grid], f"{num} images, {steps} steps, seeds {seeds}.")
    )
    click.echo(text)


if __name__ == "__main__":
    main()
