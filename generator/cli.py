"""synthfm-generate: parse, call, print."""

from __future__ import annotations

import synthfm.data.starting  # noqa: F401  # before what takes long

# isort: split

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from synthfm.data.console import Failed, Group, InputError, NamedPath, Progress

if TYPE_CHECKING:
    from synthfm.generator.config import GeneratorConfig

# Before NumPy is loaded: one thread a process, also where no worker process is started.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

FOLDER = NamedPath(file_okay=False)
IMAGE = NamedPath(dir_okay=False)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="synthfm")
def main() -> None:
    """Make synthetic medical images with label maps and prompts, and look at them."""


MAKING = (
    click.option("--size", type=int, help="Side of the images in pixels; the preset's own if not given."),
    click.option("--seed", type=int, default=0, help="Root seed; sample i depends on it and on i alone."),
    click.option("--jobs", type=int, default=-1, help="Worker processes; -1 for one a core."),
    click.option("--preset", default="full", help="A preset's name (see presets) or a YAML file."),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY.SUB=VALUE", help="Override a key; repeatable."
    ),
    click.option(
        "--shard-size", type=int, help="Samples a shard; 64 if not given, fewer where they are very large."
    ),
)
"""Options of every command that makes images."""


def making(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :data:`MAKING`."""
    for option in reversed(MAKING):
        command = option(command)
    return command


@main.command()
@click.option("--out", type=FOLDER, required=True, help="Folder to fill; made if missing.")
@click.option("--num", type=int, required=True, help="Number of images, or of volumes.")
@making
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

    config = load_config(preset, overrides, size=size)
    settings = {"shard_size": shard_size, "jobs": jobs, "backend": backend, "scheduler": scheduler}
    volumes = f" of {num} volumes" if config.makes_volumes else ""
    _fill(out, config, volumes, num=num, root_seed=seed, **settings)


def _fill(out: Path, config: GeneratorConfig, what: str, **settings: Any) -> None:
    """Fill a folder and say what it holds, or how to go on."""
    from synthfm.generator.folder.factory import Stopped, generate

    try:
        manifest = generate(out, config, progress=True, **settings)
    except Stopped as stopped:
        if stopped.whole:
            click.echo(f"{stopped}; to go on: {shlex.join(['synthfm-generate', *sys.argv[1:]])}", err=True)
        else:
            click.echo(f"{stopped}; nothing was left behind", err=True)
        sys.exit(128 + stopped.signum)
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    objects = sum(shard.objects for shard in manifest.shards)
    click.echo(
        f"{out}: {manifest.num} samples{what}, {objects} objects, {len(manifest.shards)} shards, "
        f"{megabytes:.1f} MB"
    )


def _pairs(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """Callback of an option that may be repeated, ``LABEL=SOMETHING``."""
    pairs: dict[int, str] = {}
    for value in values:
        number, equals, text = value.partition("=")
        if not (equals and text and number.isdecimal() and int(number) > 0):
            raise click.BadParameter(f"{value!r}: write {option.metavar}, a label is a number from 1")
        if int(number) in pairs:
            raise click.BadParameter(f"{value!r}: label {number} is given twice")
        pairs[int(number)] = text
    return tuple(sorted(pairs.items()))


@main.command("from-labels")
@click.argument("labels", nargs=-1, required=True, type=NamedPath())
@click.option("--out", type=FOLDER, required=True, help="Folder to fill; made if missing.")
@click.option(
    "--images", type=NamedPath(), help="The label maps' images: a folder of files of the same names."
)
@click.option("--modality", default="generic", help="Of those images: CT, MR, US, XR, generic, ...")
@click.option(
    "--window", type=float, nargs=2, metavar="LOW HIGH", default=None, help="Their values of black and white."
)
@click.option("--copies", type=int, default=1, help="Images painted for each label map.")
@click.option(
    "--instances",
    type=click.Choice(["labels", "components"]),
    default="labels",
    help="What an object is: all pixels of a number, or each connected component.",
)
@click.option(
    "--parent", "parents", multiple=True, metavar="LABEL=LABEL", callback=_pairs,
    help="The first is part of the second, such as a tumour of the liver; repeatable.",
)  # fmt: skip
@click.option(
    "--tissue", "tissues", multiple=True, metavar="LABEL=NAME", callback=_pairs,
    help="What a label is painted as; any tissue if not given; repeatable.",
)  # fmt: skip
@making
def from_labels(
    labels: tuple[Path, ...],
    out: Path,
    images: Path | None,
    modality: str,
    window: tuple[float, float] | None,
    copies: int,
    instances: Literal["labels", "components"],
    parents: tuple[tuple[int, str], ...],
    tissues: tuple[tuple[int, str], ...],
    size: int | None,
    seed: int,
    jobs: int,
    preset: str,
    overrides: tuple[str, ...],
    shard_size: int | None,
) -> None:
    """Fill a folder with shards from label maps of your own: PNG, TIFF, npy, npz, NIfTI, or folders of them.

    With --images each sample is a label map and its own image. Without, an image is painted for each label
    map as for a synthetic scene: --preset ct paints it as CT. 0 is background; each slice of a volume is a
    sample.
    """
    from synthfm.generator.config import load_config
    from synthfm.generator.folder.label_files import survey
    from synthfm.generator.labelled import LabelsConfig

    _check_options(images, modality, window, copies, tissues, instances, parents)
    given = LabelsConfig(
        sha256="",
        images=images is not None,
        modality=modality,
        window=window,
        instances=instances,
        parents=tuple((label, int(parent)) for label, parent in parents),
        tissues=tissues,
    )
    config, slices, total = survey(labels, images, load_config(preset, overrides, size=size), given)
    left_out = total - len(slices)
    what = f" of {len(slices)} label maps" + f" ({left_out} without an object left out)" * (left_out > 0)
    _fill(
        out,
        config,
        what,
        num=copies * len(slices),
        root_seed=seed,
        shard_size=shard_size,
        jobs=jobs,
        given=slices,
    )


def _check_options(
    images: Path | None,
    modality: str,
    window: tuple[float, float] | None,
    copies: int,
    tissues: tuple[tuple[int, str], ...],
    instances: str,
    parents: tuple[tuple[int, str], ...],
) -> None:
    if copies < 1:
        raise InputError(f"--copies {copies}: at least 1")
    if images is not None and (copies > 1 or tissues):
        raise InputError(
            f"{'--copies' if copies > 1 else '--tissue'} is for images that are painted: without --images"
        )
    if images is None and (window or modality != "generic"):
        raise InputError(
            "--window and --modality are of given --images; of painted ones --preset says what they are"
        )
    if window and not window[0] < window[1]:
        raise InputError(f"--window {window[0]:g} {window[1]:g}: the first number must be the smaller one")
    if not (modality.isascii() and modality.isalnum() and len(modality) <= 24):
        raise InputError(f"--modality {modality!r}: a name of letters and digits, such as CT")
    if parents and instances == "components":
        raise InputError(
            "--parent goes with --instances labels: of components nothing says which lies in which"
        )
    for label, parent in parents:
        if not (parent.isdecimal() and int(parent) > 0):
            raise InputError(f"--parent {label}={parent}: write two labels, numbers from 1")


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
