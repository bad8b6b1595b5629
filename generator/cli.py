"""synthfm-generate: parse, call, print."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from synthfm.data.console import Failed, Group, NamedPath, Progress

# Before NumPy is loaded: one thread a process, also where no worker process is started.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

FOLDER = NamedPath(file_okay=False)
IMAGE = NamedPath(dir_okay=False)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="synthfm")
def main() -> None:
    """Make synthetic medical images with label maps and prompts, and look at them."""


@main.command()
@click.option("--out", type=FOLDER, required=True, help="Folder to fill; made if missing.")
@click.option("--num", type=int, required=True, help="Number of images, or of volumes.")
@click.option("--size", type=int, help="Side of the images in pixels; the preset's own if not given.")
@click.option("--seed", type=int, default=0, help="Root seed; sample i depends on it and on i alone.")
@click.option("--jobs", type=int, default=-1, help="Worker processes; -1 for one a core.")
@click.option("--preset", default="full", help="A preset's name (see presets) or a YAML file.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY.SUB=VALUE", help="Override a key; repeatable."
)
@click.option(
    "--shard-size", type=int, help="Samples a shard; 64 if not given, fewer where they are very large."
)
@click.option("--backend", default="loky", help="loky: processes of this machine; dask: a cluster.")
@click.option("--scheduler", metavar="ADDRESS", help="The Dask scheduler's, such as tcp://host:8786.")
def run(
    out: Path,
    num: int,
    size: int | None,
    seed: int,
    jobs: int,
    preset: str,
    overrides: tuple[str, ...],
    shard_size: int | None,
    backend: str,
    scheduler: str | None,
) -> None:
    """Fill a folder with shards of samples, single images or the slices of volumes.

    The same arguments give the same bytes, whatever the number of workers. Ctrl-C leaves whole shards only;
    the same command goes on from there.
    """
    from synthfm.generator.config import load_config
    from synthfm.generator.folder.factory import Stopped, generate

    config = load_config(preset, overrides, size=size)
    try:
        manifest = generate(
            out,
            config,
            num=num,
            root_seed=seed,
            shard_size=shard_size,
            jobs=jobs,
            backend=backend,
            scheduler=scheduler,
            progress=True,
        )
    except Stopped as stopped:
        if stopped.whole:
            click.echo(f"{stopped}; to go on: {shlex.join(['synthfm-generate', *sys.argv[1:]])}", err=True)
        else:
            click.echo(f"{stopped}; nothing was left behind", err=True)
        sys.exit(128 + stopped.signum)
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    objects = sum(shard.objects for shard in manifest.shards)
    volumes = f" of {num} volumes" if config.makes_volumes else ""
    click.echo(
        f"{out}: {manifest.num} samples{volumes}, {objects} objects, {len(manifest.shards)} shards, "
        f"{megabytes:.1f} MB"
    )


@main.command()
def presets() -> None:
    """List the presets."""
    from synthfm.data.config import list_presets

    click.echo("\n".join(list_presets(Path(__file__).parent / "presets")))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=IMAGE, required=True, help="The PNG file to write.")
@click.option("--count", type=int, default=30, help="Samples shown.")
@click.option("--family", help="Only objects of this shape family.")
@click.option("--modality", help="Only samples of this modality.")
def preview(folder: Path, out: Path, count: int, family: str | None, modality: str | None) -> None:
    """Draw a contact sheet: images, label maps, prompts; of volumes cuts and a film strip."""
    from synthfm.generator.folder.film import count_volumes
    from synthfm.generator.folder.preview import contact_sheet

    shown = contact_sheet(folder, out, count=count, family=family, modality=modality)
    click.echo(f"{out}: {shown} {'volumes' if count_volumes(folder) else 'samples'}")


@main.command()
@click.argument("folder", type=FOLDER)
def verify(folder: Path) -> None:
    """Read a folder back against its manifest, schema and checksums."""
    from synthfm.data.folder import read_manifest
    from synthfm.data.folder import verify as check

    total = len(read_manifest(folder).shards)
    problems = 0
    with Progress(total=total, unit="shard") as bar:
        for _, problem in check(folder):
            bar.update()
            if problem:
                problems += 1
                bar.write(problem, file=sys.stdout)
    if problems:
        raise Failed(
            f"{folder}: {problems} problem{'s' * (problems > 1)} in {total} shards and their manifest"
        )
    click.echo(f"{folder}: {total} shards, no damage")


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", type=IMAGE, help="Also draw the histograms into this PNG file.")
def stats(folder: Path, out: Path | None) -> None:
    """Histograms of area, contrast, edge width and objects; shares of families and modalities."""
    from synthfm.data.folder import MANIFEST
    from synthfm.data.guard import opening
    from synthfm.generator.folder.drawing import check_png
    from synthfm.generator.folder.stats import draw_page, measure, text_page, warnings

    if out is not None:
        check_png(out)
    measured = measure(folder)
    with opening(folder / MANIFEST, "its config is none that synthfm-generate writes"):
        page, noted = text_page(measured), list(warnings(measured))
    click.echo(page)
    for warning in noted:
        click.echo(f"Warning: {warning}", err=True)
    if out is not None:
        draw_page(measured, out)
        click.echo(f"{out}: written")


if __name__ == "__main__":
    main()
