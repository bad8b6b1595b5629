"""``synthfm-eval``: parse, call, print."""

from __future__ import annotations

import synthfm.data.starting  # noqa: F401  # before what takes long

# isort: split

import importlib.util
import logging
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from synthfm.data import console
from synthfm.data.console import Failed, InputError, NamedPath

EXAMPLES = 5
"""How many images ``datasets NAME`` lists."""


@click.group(cls=console.Group, extra="eval", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="synthfm")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of what failed.")
def main(verbose: bool) -> None:
    """Score promptable segmentation on real datasets: Dice tables, per-case scores, figures."""
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(message)s")
    for noisy in ("matplotlib", "PIL", "numba", "h5py"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


_data = [
    click.option(
        "--data-root",
        type=NamedPath(),
        default=Path("."),
        show_default=True,
        help="Folder under which the datasets lie.",
    ),
    click.option(
        "--dataset",
        "datasets",
        multiple=True,
        required=True,
        callback=console.separated,
        help="NAME (see 'datasets'), FILE.yaml or a folder of shards; repeat or separate by commas.",
    ),
    click.option(
        "--prompts",
        multiple=True,
        callback=console.separated,
        help="Prompt settings, e.g. box,point1,clicks:5.",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="At most this many cases a dataset."),
    click.option(
        "--dims",
        type=click.Choice(("2", "3")),
        help="3 scores objects in whole volumes, from prompts in a slice or some; 2 (default) slices.",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Root seed of the prompts."),
    click.option("--preset", default="default", show_default=True, help="Settings: a name or a YAML file."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting."),
]


def _data_options(command: Any) -> Any:
    for option in reversed(_data):
        command = option(command)
    return command


def _config(
    preset: str, overrides: tuple[str, ...], prompts: tuple[str, ...], dims: str | None, **keys: Any
) -> Any:
    from synthfm.data.config import load_preset
    from synthfm.evaluation.config import PRESETS, EvalConfig

    if dims == "3" and preset == "default":
        preset = "volumes"
    asked = {"dims": None if dims is None else int(dims), "prompts": list(prompts) or None}
    return load_preset(EvalConfig, PRESETS, preset, overrides, **asked, **keys)


@main.command()
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="[NAME=]FILE", callback=console.separated,
              help="A SAM-format checkpoint (or 'tiny', the embedded one); repeat for several.")  # fmt: skip
@_data_options
@click.option("--method", "methods", multiple=True, callback=console.separated,
              help="As 'methods' lists them: second-look:FILE, say; 'none' for none.  [default: ellipse, of "
              "volumes ellipsoid]")  # fmt: skip
@click.option("--out", type=NamedPath(), required=True, help="Folder of the run.")
@click.option("--baseline", help="Method that the others are tested against.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--jobs", type=int, default=-1, show_default=True, help="Threads for the scores; -1 for all.")
def run(
    checkpoints: tuple[str, ...],
    data_root: Path,
    datasets: tuple[str, ...],
    methods: tuple[str, ...],
    out: Path,
    baseline: str | None,
    device: str,
    jobs: int,
    **settings: Any,
) -> None:
    """Score checkpoints and other methods on datasets.

    Writes scores.csv (row by row: the same command goes on after an interruption), the tables and overlay
    pictures to OUT, and prints the table. Exit code 1 if a case failed, 2 if nothing could run.
    """
    from synthfm.evaluation.session import evaluate

    config = _config(**settings)
    methods = methods or ("ellipse" if config.dims == 2 else "ellipsoid",)
    specs = [_checkpoint_spec(item) for item in checkpoints] + [item for item in methods if item != "none"]
    table, failures = evaluate(
        specs, list(datasets), data_root, config, out, device=device, jobs=jobs, baseline=baseline
    )
    click.echo(table)
    again = ["synthfm-eval", "report", str(out), *(["--baseline", baseline] if baseline else [])]
    click.echo(f"Scores, tables and pictures are in {out}; figures and a page: {shlex.join(again)}")
    _report_failures(failures, 1)


def _report_failures(failures: list[Any], done: int) -> None:
    """List what failed on stderr and end with exit code 1, or 2 if nothing could be done."""
    for failure in failures[:20]:
        who = f"({failure.method})" if failure.method else ""
        what = " ".join(filter(None, (failure.dataset, failure.file or failure.case, who)))
        click.echo(console.shortened(f"failed: {what}: {failure.reason}"), err=True)
    if failures:
        message = f"{len(failures)} failed" + (", the first 20 are listed" if len(failures) > 20 else "")
        raise Failed(message) if done else InputError(f"nothing could be read: {message}")


def _checkpoint_spec(item: str) -> str:
    name, equals, file = item.partition("=")
    if not equals or Path(item).is_file():  # as epoch=3.pth
        return f"checkpoint:{item}"
    return f"{name}=checkpoint:{file}"


@main.command()
@_data_options
@click.option("--out", type=NamedPath(), required=True, help="Folder to write.")
def prompts(data_root: Path, datasets: tuple[str, ...], out: Path, **settings: Any) -> None:
    """Export the prompts as JSON and the images as PNG, for any other system.

    Put its masks under OUT where prompts.json says, then score them with 'run --method NAME=masks:OUT'.
    """
    from synthfm.evaluation.cases.descriptor import load_datasets
    from synthfm.evaluation.export import export_prompts

    config = _config(**settings)
    cases, failures = export_prompts(load_datasets(datasets, data_root), data_root, config, out)
    click.echo(f"{cases} cases, {', '.join(config.prompts)}: {out / 'prompts.json'}")
    _report_failures(failures, cases)


@main.command()
@click.argument("folder", type=NamedPath())
@click.option("--baseline", help="Method that the others are tested against (paired Wilcoxon, Holm).")
def report(folder: Path, baseline: str | None) -> None:
    """Make every table and figure, and one HTML page, from FOLDER/scores.csv."""
    from synthfm.evaluation.report.report import PAGE, write_report
    from synthfm.evaluation.scoring.scores import read_scores

    scores = read_scores(folder)
    folder = folder if folder.is_dir() else folder.parent
    click.echo(write_report(scores, folder, baseline=baseline))
    click.echo(f"{folder / PAGE}, figures/; all tables: table.md, table.tex, table.csv, tables/")


@main.command()
@click.argument("files", nargs=-1, type=NamedPath())
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="[NAME=]FILE", callback=console.separated,
              help="As for 'run'. Without it and --method: 'tiny', and others to compare.")  # fmt: skip
@click.option("--method", "methods", multiple=True, callback=console.separated, help="As for 'run'.")
@click.option("--data-root", type=NamedPath(), default=Path("."), show_default=True,
              help="Folder under which the datasets lie.")  # fmt: skip
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    callback=console.separated,
    help="As for 'run', beside the samples.",
)
@click.option("--limit", type=click.IntRange(min=1), default=40, show_default=True, help="Cases a dataset.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; beyond 127.0.0.1 all who reach it may use it.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
              help="0 takes any that is free.")  # fmt: skip
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page.")
def app(
    files: tuple[Path, ...],
    checkpoints: tuple[str, ...],
    methods: tuple[str, ...],
    data_root: Path,
    datasets: tuple[str, ...],
    limit: int,
    device: str,
    host: str,
    port: int,
    browser: bool,
) -> None:
    """Try a model by hand in the browser: clicks and boxes on FILES, on datasets, or on files opened there.

    The page is served to this machine alone (--host says otherwise) and sends nothing anywhere else.
    """
    from synthfm.evaluation.interactive.page.loading import METHODS, Wanted
    from synthfm.evaluation.interactive.page.server import serve

    specs = [_checkpoint_spec(item) for item in checkpoints] + list(methods)
    wanted = Wanted(specs or METHODS, datasets, data_root, limit, files, device)
    serve(wanted, host=host, port=port, browser=browser, say=click.echo)


@main.command()
@click.argument("scans", nargs=-1, required=True, type=NamedPath())
@click.option("--out", type=NamedPath(), required=True,
              help="File for the masks of one scan, or a folder, where they bear its name.")  # fmt: skip
@click.option("--box", "boxes", multiple=True, metavar="[NAME:]x0,y0,x1,y1[,SLICE]",
              help="Around an object, half-open, in pixels of a slice (from 0); repeatable.")  # fmt: skip
@click.option("--point", "points", multiple=True, metavar="[NAME:]x,y[,SLICE][,-]",
              help="A click on an object, with ,- on what is not it; repeatable.")  # fmt: skip
@click.option("--stroke", "strokes", multiple=True, metavar="[NAME:]x0,y0,x1,y1,...[,SLICE][,-]",
              help="A line through an object, with ,- through what is not it; repeatable.")  # fmt: skip
@click.option("--mask", "masks", multiple=True, metavar="[NAME:]FILE",
              help="A coarse mask on the scan's grid, to be refined.")  # fmt: skip
@click.option("--prompts", type=NamedPath(),
              help="Prompts of many scans and objects: JSON, CSV, 3D Slicer's .mrk.json.")  # fmt: skip
@click.option("--world", is_flag=True, help="Prompts are in mm of the patient (LPS), x,y,z.")
@click.option("--format", "kind", metavar="SUFFIX",
              help="In a folder: .nii.gz, .seg.nrrd, .mha, .dcm, .png; by default as the scan.")  # fmt: skip
@click.option("--separate", is_flag=True, help="A file an object.")
@click.option(
    "--overlap", is_flag=True, help="Objects may claim the same voxels; else they are the first one's."
)
@click.option("--two-d", is_flag=True, help="Answer in the prompted slices alone.")
@click.option("--plane", type=click.Choice(("auto", "axial", "coronal", "sagittal")), default="auto",
              show_default=True, help="Slices; auto is as they were acquired.")  # fmt: skip
@click.option("--frame", type=click.IntRange(min=0), help="Time point or channel of a 4-D file.")
@click.option(
    "--window", type=(float, float), metavar="LOW HIGH", help="Values that are shown black and white."
)
@click.option(
    "--checkpoint", default="tiny", show_default=True, help="A SAM-format file; 'tiny' is the embedded one."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
def predict(scans: tuple[Path, ...], out: Path, **settings: Any) -> None:
    """Segment SCANS: from a box or clicks in one slice to the object in all, on the scan's own grid.

    SCANS are NIfTI, NRRD, MetaImage, DICOM files or the folder of a series, PNG, TIFF, JPEG, folders of them
    or patterns. Beside each mask lie a picture and a JSON file with its volume. Exit code 1 if some of
    several scans failed, 2 if nothing could be done.
    """
    from synthfm.evaluation.interactive.predict import predict as segment_scans

    _report_failures(segment_scans(scans, out, say=click.echo, **settings), 1)


@main.command()
@click.option(
    "--checkpoint", default="tiny", show_default=True, help="A SAM-format file; 'tiny' is the embedded one."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen on; beyond this machine, clients need an API key.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=1527, show_default=True,
              help="0 takes any that is free.")  # fmt: skip
@click.option("--api-key", envvar="NN_INTERACTIVE_API_KEY", show_envvar=True, metavar="KEY",
              help="What clients have to know; made up where they need one and none is given.")  # fmt: skip
@click.option("--max-sessions", type=click.IntRange(min=1), default=4, show_default=True,
              help="Clients at once; each keeps its image in memory.")  # fmt: skip
def serve(checkpoint: str, device: str, host: str, port: int, api_key: str | None, max_sessions: int) -> None:
    """Let nnInteractive's plug-ins for 3D Slicer and napari, and its Python client, ask this model.

    Enter the address that is printed as their remote server. Points, boxes, scribbles, lassos and a mask to
    begin with are answered slice by slice and brought to the whole volume. docs/tools.md says what to click.
    """
    if importlib.util.find_spec("nnInteractive") is None:
        raise InputError(f"nninteractive-client is not installed; {console.brought_by('serve')}")
    from synthfm.evaluation.interactive.server import serve as serve_clients

    serve_clients(checkpoint=checkpoint, device=device, host=host, port=port, api_key=api_key,
                  most=max_sessions, say=click.echo)  # fmt: skip


@main.command("methods")
def list_methods() -> None:
    """List the methods and the prompt settings."""
    from synthfm.evaluation.cases.prompting import SETTINGS, VOLUME_SETTINGS
    from synthfm.evaluation.methods.registry import CLASSICAL, VOLUMES

    click.echo("methods (--method)")
    for name, text in CLASSICAL.items():
        click.echo(f"  {name:<18}{text}")
    click.echo(f"  {'masks:DIR':<18}masks saved by another system, see 'synthfm-eval prompts'")
    click.echo(
        f"  {'second-look:FILE':<18}a SAM-format one with a second look, at the square around its mask"
    )
    click.echo(f"  {'medsam:FILE':<18}MedSAM's checkpoint, prepared as its own program does; boxes alone")
    click.echo("models (--checkpoint [NAME=]FILE)")
    click.echo(f"  {'SAM format':<18}SynthFM, SAM, MobileSAM; 'tiny' is the embedded one")
    click.echo(f"  {'SAM 2':<18}its own checkpoints, with the optional package sam2")
    click.echo("prompt settings (--prompts)")
    for name, setting in SETTINGS.items():
        click.echo(f"  {name:<18}{setting.text}")
    click.echo(f"  {'clicks:K':<18}K rounds, each next click in the middle of the largest error")
    click.echo(f"  {'points:K':<18}K clicks at once, inside and around it; more hold the fewer")
    click.echo(f"  {'scribble:K':<18}K strokes inside and K around it; more hold the fewer")
    click.echo(f"  {'strokes:K':<18}what person K drew, where people's strokes are with the dataset")
    click.echo("methods for volumes (--dims 3), beside masks:DIR and models, which carry their mask on")
    for name, text in VOLUMES.items():
        click.echo(f"  {name:<18}{text}")
    click.echo(
        f"  {'copy[:METHOD]':<18}masks of the prompted slices copied to those between the object's ends"
    )
    click.echo(f"  {'interpolation':<18}the same interpolated between prompted slices ([:METHOD])")
    click.echo("prompt settings for volumes")
    for name, setting in VOLUME_SETTINGS.items():
        click.echo(f"  {name:<22}{setting.text}")
    click.echo(f"  {'clicks3d:K':<22}K rounds, each next click deepest in the largest error of the volume")
    click.echo(f"  {'box_clicks3d:K':<22}slice_box, then K such clicks")


@main.command()
def presets() -> None:
    """List the presets: prompt settings under one name."""
    from synthfm.data.config import list_presets

    click.echo("\n".join(list_presets(Path(__file__).parent / "presets")))


@main.command("datasets")
@click.argument("name", required=False)
@click.option("--data-root", type=NamedPath(), default=Path("."), show_default=True,
              help="Folder under which the datasets lie.")  # fmt: skip
def list_datasets(name: str | None, data_root: Path) -> None:
    """List the datasets and what of them is under the data root.

    With NAME or FILE.yaml: how to get that one and, with --data-root, its first images with their masks.
    """
    from synthfm.evaluation.cases.descriptor import (
        describe,
        descriptor_names,
        find,
        load_datasets,
        load_descriptor,
    )
    from synthfm.evaluation.cases.preview import examples

    if not data_root.is_dir():
        raise InputError(f"--data-root {data_root}: no such folder")
    if name is not None:
        click.echo(describe(load_descriptor(name)))
        given = click.get_current_context().get_parameter_source("data_root")
        if given is not ParameterSource.DEFAULT:
            (descriptor,) = load_datasets([name], data_root)
            click.echo(f"under {data_root}: {find(descriptor, data_root)}")
            if descriptor.shards is None:
                click.echo("\n".join(examples(descriptor, data_root, EXAMPLES)))
        return
    for known in descriptor_names():
        descriptor = load_descriptor(known)
        try:
            there = str(find(descriptor, data_root))
        except InputError as error:  # of one dataset's files; the others are listed all the same
            there = f"unusable: {error}"
        click.echo(f"{known:<28}{descriptor.modality:<4}{there:<40}{descriptor.title}")


if __name__ == "__main__":
    main()
