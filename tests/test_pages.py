"""What the pages of the docs show is run as it stands, each page in a process and a folder of its own."""

from __future__ import annotations

import csv
import html
import importlib
import json
import os
import re
import shutil
import socket
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
from tests.support import trees
from tests.support.files import write_dicom_series, write_itk
from tests.support.pages import DOCS, PACKAGES, PAGES, ROOT, all_blocks, blocks, lines_of, made_by

TRAINED = "a training as that of training.md, which is run"
EXCUSED = {
    r"^make (demo|app|docs|setup|test|lint|lock|audit|bench)": "an environment, a server, minutes to days",
    r"^python ": "an environment, or an hour of a benchmark",
    r"vit_b": "SAM's own weights, 375 MB that are downloaded",
    r"\.\./shared/realdata": "real images",
    r"^synthfm-eval app": "serves until it is stopped; tests/evaluation/interactive asks it in a browser",
    r"^synthfm-eval serve (--host 0|--checkpoint)": "as the one before it, which answers",
    r"^synthfm-eval report": "half a minute of figures; tests/evaluation/report makes them",
    r"^make eval": "as evaluation.md's, which is run",
    r"SLURM|--scheduler|shards/0": "a cluster",
    r"^synthfm-train (run|embed) .*(runs/(mixed|fine-tuned|us,|carry)|us,mild)": TRAINED,
    r"^make train SHARDS=runs/shards OUT": TRAINED,
}
"""Commands and Python that are not run, and why. A line that is neither run nor here fails."""

SMALLER = {
    r"--num \d+": "--num 6",
    r"--size 256": "--size 64",
    r"--jobs -1": "--jobs 1",
    r"depth=16\.\.64": "depth=3",
    r"(--preset volumes .*)--num 6": r"\1--num 2",
    r"--preset volumes (?!--set)": "--preset volumes --set volume.depth=3 ",
    r"--seed (\d+) --out DIR": r"--seed \1 --out runs/seed-\1",
    r"(--preset (\w+) .*)--out DIR": r"\1--out runs/any-\2",
    r"(synthfm-train run .*)--steps \d+": r"\1",
    r"^synthfm-train run (.*)": r"synthfm-train run \1 --accelerator cpu --devices 1 --steps 2 --set batch=2"
                              r" --set validate_every=2 --set stream.val_images=2 --set stream.workers=0",
    r"^synthfm-train recipe data/(.*?)( --dry-run)?$": rf"synthfm-train recipe {ROOT}/data/\1 --dry-run",
    r"^synthfm-eval run ": "synthfm-eval run --limit 1 --set overlays=0 ",
    r"~/datasets|/data$": "datasets",
    r"sam_vit_b_01ec64\.pth(?=\s+--method)": "sam.pth",
}  # fmt: skip
"""What makes them short; `sam.pth` is a file of ours."""

RUN = """
import json, os, shlex, sys
from importlib import import_module

import matplotlib
matplotlib.use("Agg")
packages, steps = json.load(sys.stdin)
for kind, text in steps:
    if kind == "folder":
        os.chdir(text)
        continue
    if kind == "python":
        exec(compile(text, f"<{text[:60]}>", "exec"), globals())
        continue
    program, *arguments = shlex.split(text)
    main = import_module(f"synthfm.{packages[program]}.cli").main
    assert not main.main(arguments, program, standalone_mode=False), text
print("all of it ran")
"""


def smaller(line: str) -> str:
    for found, instead in SMALLER.items():
        line = re.sub(found, instead, line)
    return line


def steps(page: Path) -> list[tuple[str, str]]:
    """The Python blocks of a page and its commands, in order, without those that are excused."""
    found = []
    for kind, block in all_blocks(page):
        if kind == "python":
            found.append((kind, block))
        for line in lines_of(block) if kind in ("", "bash") else []:
            if any(re.search(pattern, smaller(line)) for pattern in EXCUSED):
                continue
            made = made_by(line) if line.startswith("make") else [line]
            assert made, line
            found += [("command", smaller(one)) for one in made]
    return [step for step in found if not any(re.search(pattern, step[1]) for pattern in EXCUSED)]


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


TINY = ROOT / "data" / "weights" / "tiny.pth"


def scan(centres: list[tuple[int, int, int]], slices: int) -> np.ndarray:
    """A CT-like volume of bright ellipsoids, int16 (slices, 224, 224); centres are x, y, slice."""
    z, y, x = np.indices((slices, 224, 224))
    values = np.random.default_rng(0).normal(-60, 10, z.shape)
    for u, v, w in centres:
        values[((x - u) / 26) ** 2 + ((y - v) / 30) ** 2 + ((z - w) / 2) ** 2 < 1] += 160
    return values.astype(np.int16)


def readme_files(folder: Path) -> list[tuple[str, str]]:
    datasets(folder)
    write_itk(folder / "ct.nii.gz", scan([(65, 90, 6)], 8), (0.8, 0.8, 5.0))
    image = scan([(65, 90, 3)], 6)[3].clip(-160, 240) * 0.6 + 100
    Image.fromarray(image.astype(np.uint8)).save(folder / "slice.png")
    return [("python", "import skimage.io\ngrey = skimage.io.imread('slice.png')")]


def segment_files(folder: Path) -> list[tuple[str, str]]:
    both = scan([(65, 90, 6), (195, 130, 6)], 8)
    for name in ("ct.nii.gz", "ct/ct.nii.gz"):
        write_itk(folder / name, both, (0.8, 0.8, 5.0))
    write_dicom_series(folder / "DICOM_FOLDER", scan([(120, 200, 30)], 32) + 1024, intercept=-1024.0)
    (prompts,) = blocks(DOCS / "segment.md", "json")
    (folder / "prompts.json").write_text(prompts)
    return [("python", "import nibabel\nvolume = nibabel.load('ct.nii.gz').get_fdata().transpose(2, 1, 0)")]


def datasets(folder: Path) -> None:
    """Miniatures of the datasets of which the pages speak."""
    (folder / "datasets").mkdir()
    trees.hc18(folder / "datasets")
    trees.chaos_ct(folder / "datasets")
    trees.msd("Task04_Hippocampus", "hippocampus", ["001", "023"], [1, 2])(folder / "datasets")


ANSWER = """
import json, skimage.io, numpy
from pathlib import Path
for case in json.loads(Path("exchange/prompts.json").read_text())["cases"]:
    image = skimage.io.imread(Path("exchange", case["image"]))
    for asked in case["prompts"]:
        mask = Path("exchange", asked["mask"])
        mask.parent.mkdir(parents=True, exist_ok=True)
        skimage.io.imsave(mask, numpy.uint8(image > image.mean()) * 255, check_contrast=False)
"""
"""What another program does: a mask for each prompt that was exported."""


def evaluation_files(folder: Path) -> list[tuple[str, str]]:
    datasets(folder)
    (folder / "runs" / "train").mkdir(parents=True)
    for name in ("sam.pth", "runs/train/model.pth"):
        shutil.copy(TINY, folder / name)
    return []


def dataset_files(folder: Path) -> list[tuple[str, str]]:
    datasets(folder)
    (folder / "my.yaml").write_text((ROOT / "evaluation" / "datasets" / "hc18.yaml").read_text())
    return []


def training_files(folder: Path) -> list[tuple[str, str]]:
    made = "synthfm-generate run --preset demo --num 6 --size 64 --jobs 1 --out runs/shards"
    before = "import numpy as np, shutil\nfrom pathlib import Path\nPath('runs/train').mkdir(parents=True)\n"
    before += f"shutil.copy({str(TINY)!r}, 'runs/train/model.pth')\n"
    before += "image, boxes = np.zeros((80, 120), np.uint8), [[30, 20, 80, 50]]\nimage[20:50, 30:80] = 200"
    return [("command", made), ("python", before)]


def no_files(folder: Path) -> list[tuple[str, str]]:
    return []


READY = {
    "README.md": readme_files,
    "docs/segment.md": segment_files,
    "docs/evaluation.md": evaluation_files,
    "docs/datasets.md": dataset_files,
    "docs/training.md": training_files,
    "docs/results.md": no_files,
    "docs/generator.md": no_files,
}
"""What is there before a page begins: files, and steps of ours."""
APART = {f"docs/{name}.md" for name in ("start", "labels", "extend", "formats", "cluster", "tools")}
"""Pages that a test of their own runs."""


def test_what_the_pages_show_runs(tmp_path):
    """All in one process, which imports PyTorch once; each page in a folder of its own."""
    what = []
    for name, ready in READY.items():
        folder = tmp_path / name.replace("/", "-")
        folder.mkdir()
        what += [("folder", str(folder)), *ready(folder)]
        for step in steps(ROOT / name):
            what.append(step)
            if step[1].startswith("synthfm-eval prompts"):
                what.append(("python", ANSWER))
    shown = run(what, tmp_path)
    for name in READY:
        for promised in blocks(ROOT / name, "text"):
            assert promised in shown, name


def test_all_that_a_page_shows_is_run_or_excused():
    """Each excuse is of something; no page is left out."""
    assert {str(page.relative_to(ROOT)) for page in PAGES if steps(page)} == {*READY, *APART}
    lines = [smaller(line) for page in PAGES for _, block in all_blocks(page) for line in lines_of(block)]
    lines += [text for page in PAGES for text in blocks(page, "python")]
    for pattern in EXCUSED:
        assert any(re.search(pattern, line) for line in lines), pattern


def test_start(tmp_path):
    (tmp_path / "runs").mkdir()
    what = steps(DOCS / "start.md")
    shown = run([*what, ("python", "print(f'{dice=:.3f}', mask.shape)")], tmp_path)
    found = re.search(r"dice=([\d.]+)", shown)
    assert found is not None
    assert float(found[1]) > 0.9
    assert (tmp_path / "runs" / "mask_overlay.png").is_file()
    assert (tmp_path / "runs" / "mask.json").is_file()


def test_tools(tmp_path):
    """The server in a process of its own, at a free port; the page's client asks it."""
    (serve, _), (_, client) = steps(DOCS / "tools.md")
    assert serve == "command"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from synthfm.evaluation.cli import main; main()", "serve"]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert str(port) in server.stdout.readline()
        np.save(tmp_path / "scan.npy", scan([(65, 90, 6)], 9))
        what = f"import numpy as np\nvolume = np.load('scan.npy')\n{client}\nassert mask[6, 90, 65]"
        assert "1527" in what
        run([("python", what.replace("1527", str(port)))], tmp_path)
    finally:
        server.terminate()
        server.wait()


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
