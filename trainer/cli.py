"""``synthfm-train``: train on shards, cache embeddings, export and download weights."""

from __future__ import annotations

import synthfm.data.starting  # noqa: F401  # before what takes long

# isort: split

import logging
from pathlib import Path
from typing import Any

import click

from synthfm.data.console import Group, InputError, NamedPath, separated

_FREEZE = ("encoder", "prompt_encoder", "decoder")


@click.group(cls=Group, extra="train", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="synthfm")
def main() -> None:
    """Train promptable segmenters on synthetic shards."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


_shards = click.option(
    "--shards",
    multiple=True,
    required=True,
    callback=separated,
    help="Dataset folder(s); repeat, or separate by commas.",
)


@main.command()
@_shards
@click.option(
    "--val",
    multiple=True,
    callback=separated,
    help="Validation folder(s). Without it a share of --shards is held out.",
)
@click.option("--out", type=NamedPath(file_okay=False), required=True, help="The run's folder.")
@click.option("--preset", default="default", show_default=True, help="A preset's name, or a YAML file.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting; repeatable."
)
@click.option("--model", help="tiny, vit_b, vit_l, vit_h or mobile_sam.")
@click.option("--checkpoint", help="The model's weights. A frozen 'tiny' takes the embedded ones.")
@click.option("--init-from", help="Go on from these weights, decoder included (at another size, say).")
@click.option(
    "--decoder", type=click.Choice(["scratch", "pretrained"]), help="Draw the decoder afresh, or keep it."
)
@click.option(
    "--freeze", help="Parts to freeze, separated by commas: encoder, prompt_encoder, decoder; or none."
)
@click.option("--train-encoder", is_flag=True, help="Train all parts: as --freeze none.")
@click.option("--embeddings", help="Folder of an embedding cache made by 'embed'.")
@click.option("--steps", type=int, help="Optimiser steps.")
@click.option("--batch", type=int, help="Images per step.")
@click.option("--seed", type=int, help="Seed of everything drawn.")
@click.option("--devices", default="auto", show_default=True, help="How many GPUs, or processes on the CPU.")
@click.option(
    "--accelerator", default="auto", show_default=True, help="cpu, cuda, or auto: a GPU where there is one."
)
@click.option("--strict", is_flag=True, help="Stop at a bad shard instead of skipping its samples.")
@click.option("--fresh", is_flag=True, help="Start over where --out holds a run.")
@click.option("--resume", is_flag=True, help="Insist on going on with a run in --out (it happens by itself).")
def run(
    shards: tuple[str, ...],
    val: tuple[str, ...],
    out: Path,
    preset: str,
    overrides: tuple[str, ...],
    freeze: str | None,
    train_encoder: bool,
    checkpoint: str | None,
    init_from: str | None,
    embeddings: str | None,
    devices: str,
    accelerator: str,
    strict: bool,
    fresh: bool,
    resume: bool,
    **keys: Any,
) -> None:
    """Train a model, or go on with the run that --out holds.

    Writes model.pth (the best so far, a plain SAM state dict), state.pt (to resume), log.csv, val.csv,
    config.json and TensorBoard files.
    """
    from lightning_fabric.utilities import rank_zero_only

    from synthfm.trainer.config import load_config

    given = {"--checkpoint": checkpoint, "--init-from": init_from, "--embeddings": embeddings}
    for option, value in given.items():
        if value == "":  # as from a variable that is not set
            raise InputError(f"{option} is given, but empty")
    if init_from is not None and keys["decoder"] == "scratch":
        raise InputError(
            "--init-from goes on from all weights; with --checkpoint the decoder is drawn afresh"
        )
    if checkpoint is not None and init_from is not None:
        raise InputError("give --checkpoint or --init-from, not both: either holds the whole model")
    config = load_config(preset, overrides, freeze=_frozen(freeze, train_encoder), **keys)
    from segment_anything import sam_model_registry

    from synthfm.trainer.run.loop import Inputs, train
    from synthfm.trainer.run.state import STATE

    if resume and fresh:
        raise InputError("give --resume or --fresh, not both: one keeps the run, the other discards it")
    if resume and not (out / STATE).is_file():
        raise InputError(f"{out}: no run to resume here (no {STATE})")
    if checkpoint is None and init_from is None and config.model == "tiny" and "encoder" in config.freeze:
        checkpoint = "tiny"
    inputs = Inputs(shards, val, checkpoint, init_from, embeddings)
    count = int(devices) if devices.isdecimal() else devices
    path = train(config, inputs, out, devices=count, accelerator=accelerator, strict=strict, fresh=fresh)
    opens = f": opens in segment_anything ({config.model})" if config.model in sam_model_registry else ""
    rank_zero_only(click.echo)(f"{path}{opens}")


def _frozen(freeze: str | None, train_encoder: bool) -> list[str] | None:
    if freeze is not None and train_encoder:
        raise InputError("give --freeze or --train-encoder, not both")
    if train_encoder or freeze == "none":
        return []
    if freeze is None:
        return None
    parts = [part.strip() for part in freeze.split(",") if part.strip()]
    if not parts:  # as from a variable that is not set
        raise InputError("--freeze is given, but empty; 'none' freezes nothing")
    for part in parts:
        if part not in _FREEZE:
            raise InputError(f"--freeze {part!r}: choose from {', '.join(_FREEZE)}, or none")
    return parts


@main.command()
@_shards
@click.option("--checkpoint", default="tiny", show_default=True, help="Whose encoder.")
@click.option("--out", type=NamedPath(file_okay=False), required=True, help="The cache's folder.")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Images at a time.")
@click.option("--dry-run", is_flag=True, help="Only say how much disk it takes.")
def embed(shards: tuple[str, ...], checkpoint: str, out: Path, batch: int, dry_run: bool) -> None:
    """Encode every image once, for training with a frozen encoder."""
    import torch

    from synthfm.trainer.model import models
    from synthfm.trainer.stream import embeddings

    sam, name = models.load(checkpoint)
    needed = embeddings.in_bytes(embeddings.disk_needed(sam, shards))
    click.echo(f"{out}: up to {needed} of embeddings by {name}")
    if dry_run:
        return
    sam.to("cuda" if torch.cuda.is_available() else "cpu")
    written, kept = embeddings.embed(sam, shards, out, batch)
    click.echo(f"{out}: {written} shards embedded, {kept} were there already")


@main.command()
@click.argument("recipe", metavar="FILE", type=NamedPath(dir_okay=False))
@click.option("--out", type=NamedPath(file_okay=False), required=True, help="The folder of all stages.")
@click.option("--start", type=int, default=1, show_default=True, help="The first stage to run.")
@click.option("--init-from", help="The weights that the first stage goes on from.")
@click.option("--dry-run", is_flag=True, help="Print the commands, and run nothing.")
def recipe(recipe: Path, out: Path, start: int, init_from: str | None, dry_run: bool) -> None:
    """Run the stages of a recipe (YAML): generate, train, average; or go on with them.

    A stage that is done is skipped, one that was killed goes on, and a recipe that has changed is refused.
    """
    from synthfm.trainer.recipe import run_recipe

    weights = None
    if init_from is not None:
        from synthfm.trainer.model.checkpoints import locate

        weights = locate(init_from)
    path = run_recipe(recipe, out, start=start, weights=weights, dry_run=dry_run)
    if not dry_run:
        click.echo(str(path))


@main.command()
@click.argument("checkpoints", nargs=-1, required=True)
@click.option("--out", type=NamedPath(dir_okay=False), required=True,
              help="The file; its suffix says the format: .pth, .safetensors or .onnx.")  # fmt: skip
@click.option("--half", is_flag=True, help="Half precision: half the size.")
def export(checkpoints: tuple[str, ...], out: Path, half: bool) -> None:
    """Convert a checkpoint, or a run's state.pt, to SAM's format, safetensors or ONNX.

    Of several of one model the mean of their weights is taken; one named twice counts double.
    """
    from synthfm.trainer.model import models
    from synthfm.trainer.model.export import export as write

    sam, name = models.load_mean(checkpoints)
    for path in write(sam, out, half):
        click.echo(f"{path}: {name}, {path.stat().st_size / 1e6:.1f} MB")


@main.command()
@click.option("--model", required=True, help="vit_b, vit_l or vit_h.")
@click.option("--out", type=NamedPath(file_okay=False), default=Path("runs/weights"),
              show_default=True, help="The folder.")  # fmt: skip
@click.option("--base-url", help="Another server that holds the same files.")
def weights(model: str, out: Path, base_url: str | None) -> None:
    """Download SAM's own weights and check their SHA-256."""
    from synthfm.trainer.model.download import BASE_URL, download

    click.echo(f"{download(model, out, base_url or BASE_URL)}: SHA-256 is right")


@main.command()
def presets() -> None:
    """List the presets."""
    from synthfm.data.config import list_presets

    click.echo("\n".join(list_presets(Path(__file__).parent / "presets")))


if __name__ == "__main__":
    main()
