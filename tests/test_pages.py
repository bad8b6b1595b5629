"""What the pages of the docs show is run as it stands, each page in a process and a folder of its own."""

from __future__ import annotations

import csv
import html
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click.shell_completion
import h5py
import numpy as np
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner
from PIL import Image

from synthfm.data.shards import VERSION
from synthfm.evaluation.cases.descriptor import load_descriptor
from synthfm.generator.labelled import LabelsConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = {"synthfm-generate": "generator", "synthfm-train": "trainer", "synthfm-eval": "evaluation"}

RUN = """
import json, shlex, sys
from importlib import import_module

import matplotlib
matplotlib.use("Agg")
packages, steps = json.load(sys.stdin)
for kind, text in steps:
    if kind == "python":
        exec(compile(text, f"<{text[:60]}>", "exec"), globals())
        continue
    program, *arguments = shlex.split(text)
    main = import_module(f"synthfm.{packages[program]}.cli").main
    assert not main.main(arguments, program, standalone_mode=False), text
print("all of it ran")
"""


def steps(page: Path) -> list[tuple[str, str]]:
    """The Python blocks of a page and its commands after a ``$``, in order."""
    found = []
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
        if kind == "python":
            found.append((kind, block))
        found += [("command", line[2:]) for line in block.splitlines() if line.startswith("$ synthfm-")]
    return found


def cells(notebook: Path) -> list[tuple[str, str]]:
    """The code of a notebook."""
    return [
        ("python", "".join(cell["source"]))
        for cell in json.loads(notebook.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]


def run(what: list[tuple[str, str]], folder: Path) -> str:
    """Run code and commands in a process of their own; what they printed."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([PACKAGES, what]),
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.endswith("all of it ran\n"), done.stdout + done.stderr
    return done.stdout


def blobs(number: int) -> np.ndarray:
    """A label map of an organ, 1, with a lesion, 2, beside a vessel, 3."""
    y, x = np.mgrid[:90, :120]
    label = np.zeros((90, 120), np.uint8)
    label[((x - 50 - number) / 30) ** 2 + ((y - 45) / 25) ** 2 < 1] = 1
    label[(x - 58) ** 2 + (y - 40 - number) ** 2 < 64] = 2
    label[(x - 105) ** 2 + (y - 45) ** 2 < 49] = 3
    return label


def given_labels(folder: Path) -> None:
    """The label maps and images of which a page speaks."""
    for name in ("labels", "images"):
        (folder / name).mkdir()
    for number in range(6):
        label = blobs(number)
        noise = np.random.default_rng(number).integers(0, 20, label.shape, np.uint8)
        Image.fromarray(label).save(folder / "labels" / f"case{number}.png")
        Image.fromarray(60 + 40 * label + noise).save(folder / "images" / f"case{number}.png")


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """A folder in which ``shards/`` is a small dataset of volumes and ``images/`` one of single images."""
    folder = tmp_path_factory.mktemp("formats")
    volumes = (
        "synthfm-generate run --preset volumes --set volume.depth=3 --num 2 --size 64 --jobs 1 --out shards"
    )
    run([("command", volumes)], folder)
    return folder


def test_start(tmp_path):
    (tmp_path / "runs").mkdir()
    what = steps(DOCS / "start.md")
    shown = run([*what, ("python", "print(f'{dice=:.3f}', mask.shape)")], tmp_path)
    found = re.search(r"dice=([\d.]+)", shown)
    assert found is not None
    assert float(found[1]) > 0.9
    assert (tmp_path / "runs" / "mask_overlay.png").is_file()
    assert (tmp_path / "runs" / "mask.json").is_file()


def test_labels(tmp_path):
    given_labels(tmp_path)
    page = DOCS / "labels.md"
    shown = run(steps(page), tmp_path)
    for promised in re.findall(r"^runs/\w+: \d+ samples of \d+ label maps", page.read_text(), re.M):
        assert promised in shown


def test_extend(tmp_path):
    run(steps(DOCS / "extend.md"), tmp_path)


def test_formats(shards):
    run(steps(DOCS / "formats.md"), shards)


def test_the_page_of_formats_lists_what_a_shard_holds(shards):
    names = r"^\| `(\w+(?:/\w+)?)` \| (\w+) \| \((.*?)\) \|"
    rows = re.findall(names, (DOCS / "formats.md").read_text(), re.M)
    listed = {name: (kind, shape.count(",") + 1 - shape.endswith(",")) for name, kind, shape in rows}
    listed.pop("features")
    found: dict[str, tuple[str, int]] = {}
    with h5py.File(shards / "shards" / "shard-00000.h5") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: (str(item.dtype).replace("|", ""), item.ndim)})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
        assert set(file.attrs) == set(re.findall(r"`(\w+)`", "`format` `version` `config` `package_version` "
                                                 "`root_seed` `first_index` `count`"))  # fmt: skip
    assert listed == found
    page = (DOCS / "formats.md").read_text()
    assert f"format `synthfm-shard`, version {VERSION}." in page
    for version in range(1, VERSION + 1):
        assert f"\n| {version} | " in page
    for key in LabelsConfig.model_fields:
        assert re.search(rf"\| `config.labels` .*`{key}`", page), key
    manifest = json.loads((shards / "shards" / "manifest.json").read_text())
    for key in (*manifest, *manifest["shards"][0]):
        assert f"`{key}`" in page, key


def test_costs_are_those_of_the_measured_rate(tmp_path):
    page = (DOCS / "cluster.md").read_text()
    with open(ROOT / "data" / "results" / "speed_generator.csv") as handle:
        measured = {row[0]: row[2] for row in csv.reader(handle)}
    shown = run(
        [*steps(DOCS / "cluster.md"), ("python", "print(rate, json.dumps(list(table.values())))")], tmp_path
    )
    assert shown.splitlines()[-2].split()[0] == measured["256 x 256, one worker"]
    for hours, on_64, terabytes in json.loads(shown.splitlines()[-2].partition(" ")[2]):
        of = f"{on_64:.1f} hours" if on_64 > 1 else f"{round(on_64 * 60)} minutes"
        assert re.search(rf"\| {hours} \| {of} \| .* \| {terabytes:g} TB", page), (hours, of, terabytes)


def test_the_disk_of_an_embedding_cache_is_what_the_page_says(tmp_path):
    from synthfm.trainer.model import models
    from synthfm.trainer.stream.embeddings import disk_needed

    run([("command", "synthfm-generate run --preset demo --num 8 --size 64 --jobs 1 --out shards")], tmp_path)
    tiny = disk_needed(models.load("tiny")[0], [tmp_path / "shards"]) / 8
    page = (DOCS / "training.md").read_text()
    assert (
        f"{tiny / 1e3:.0f} kB an image for `tiny` at 256 pixels, {16 * tiny / 1e6:.1f} MB for SAM's" in page
    )


@pytest.mark.parametrize("program", PACKAGES)
def test_a_shell_can_complete_commands_and_options(program):
    main = importlib.import_module(f"synthfm.{PACKAGES[program]}.cli").main
    page = (DOCS / "start.md").read_text()
    for shell in ("bash", "zsh", "fish"):
        assert f"_SYNTHFM_EVAL_COMPLETE={shell}_source synthfm-eval" in page
        written = click.shell_completion.get_completion_class(shell)(main, {}, program, "").source()
        assert program in written
    complete = BashComplete(main, {}, program, "")
    assert "--seed" in [item.value for item in complete.get_completions(["run"], "--se")]
    assert "run" in [item.value for item in complete.get_completions([], "ru")]


@pytest.mark.parametrize("program", PACKAGES)
def test_help_says_of_each_command_a_whole_sentence(program):
    main = importlib.import_module(f"synthfm.{PACKAGES[program]}.cli").main
    shown = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    assert "..." not in shown.partition("Commands:")[2]
    for name, command in main.commands.items():
        (first,) = re.findall(rf"^  {name}  ((?:.+\n)(?:    .+\n)*)", shown, re.M)
        assert " ".join(command.help.split()).startswith(" ".join(first.split()).removesuffix("."))


@pytest.mark.parametrize("name", ["generate", "evaluate"])
def test_notebooks_run_and_hold_no_output(name, tmp_path):
    notebook = DOCS / "notebooks" / f"{name}.ipynb"
    for cell in json.loads(notebook.read_text())["cells"]:
        assert not cell.get("outputs")
    run(cells(notebook), tmp_path)


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path):
    pytest.importorskip("mkdocs_click", reason="the extra 'docs' is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra 'docs' is not installed")
    subprocess.run(["make", "links"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert "--copies" in (site / "reference" / "synthfm-generate.html").read_text()
    assert "boundary.low_contrast_share" in (site / "reference" / "settings-generator.html").read_text()
    python = (site / "reference" / "synthfm.evaluation.html").read_text()
    assert 'id="synthfm.evaluation.segment.segment"' in python
    assert ":func:" not in python
    listed = (site / "datasets.html").read_text()
    for path in (ROOT / "evaluation" / "datasets").glob("*.yaml"):
        descriptor = load_descriptor(path.stem)
        page = html.unescape((site / "datasets" / f"{path.stem}.html").read_text())
        assert f'href="datasets/{path.stem}.html"' in listed
        for said in (descriptor.title, descriptor.licence, descriptor.url, *descriptor.structures()):
            assert " ".join(said.split()) in page, (path.stem, said)
