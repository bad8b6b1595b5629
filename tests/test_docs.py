"""README and docs: tables are those of data/results, links lead somewhere, commands and examples are real."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil

import click
import pytest

from synthfm.evaluation.cli import main as evaluation_main
from synthfm.generator.cli import main as generator_main
from synthfm.trainer.cli import main as trainer_main
from synthfm.trainer.recipe import read_recipe
from tests.support.pages import PAGES, ROOT, blocks, commands

PROGRAMS = {
    "synthfm-generate": generator_main,
    "synthfm-train": trainer_main,
    "synthfm-eval": evaluation_main,
}


def load(path):
    """A script of the docs as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page):
    """Its headings, as links name them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def test_tables_are_those_of_the_results():
    tables = load(ROOT / "docs" / "make_tables.py")
    named = [found[2] for page in tables.pages() for found in tables.TABLE.finditer(page.read_text())]
    assert set(named) == {path.stem for path in tables.RESULTS.glob("*.csv")}
    for page in tables.pages():
        assert tables.rewritten(page.read_text()) == page.read_text(), f"run python {tables.__file__}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(page))):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    folders = "data|generator|trainer|evaluation|tests|benchmarks|docs"
    for path in re.findall(rf"\b(?:{folders})/[\w/-]+\.(?:py|yaml|md|csv)\b", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_the_programs_know(page):
    makefile = (ROOT / "Makefile").read_text()
    for words in map(shlex.split, commands(page)):
        if words[0] == "make":
            for word in words[1:]:
                name, given, _ = word.partition("=")
                assert re.search(rf"^{name} \?=|\$\(({name})\)|\(or \$\({name}\)" if given else rf"^{name}:",
                                 makefile, re.M), word  # fmt: skip
        elif words[0] == "python":
            assert words[1] == "-m" or (ROOT / words[1]).is_file(), words
        else:
            group = PROGRAMS[words[0]]
            name, command, rest = group.resolve_command(click.Context(group), words[1:])
            assert command is not None, name
            context = click.Context(command, info_name=name)
            command.make_parser(context).parse_args(rest)


def test_pages_are_as_short_as_they_promise():
    for name, most in (("README.md", 1300), ("docs/model.md", 1500)):
        assert len((ROOT / name).read_text().split()) <= most, name


def test_the_recipe_of_the_docs_is_one(tmp_path):
    (example,) = blocks(ROOT / "docs" / "training.md", "yaml")
    (tmp_path / "example.yaml").write_text(example)
    assert read_recipe(tmp_path / "example.yaml").stages[2].mean == (1, 2, 2)


def test_the_example_of_many_prompts_runs(tmp_path, monkeypatch):
    import numpy as np

    (example,) = blocks(ROOT / "docs" / "training.md", "python")
    (tmp_path / "runs" / "train").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "weights" / "tiny.pth", tmp_path / "runs" / "train" / "model.pth")
    monkeypatch.chdir(tmp_path)
    image = np.zeros((80, 120), np.uint8)
    image[20:50, 30:80] = 200
    names = {"image": image, "boxes": np.array([[30, 20, 80, 50], [10, 10, 100, 70]])}
    exec(example, names)
    assert [mask.shape for mask in names["masks"]] == [(80, 120)] * 2
    assert names["masks"][0][30, 50]


def test_nobody_is_told_to_ask_the_package_index_for_this_project():
    """It is on none: what bears its name there one day may be anybody's."""
    folders = ("data", "generator", "trainer", "evaluation", "docs")
    sources = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")
    ]
    for path in [*PAGES, *sources]:
        assert not re.search(r"install [^\n]*\bsynthfm\b(?!-|/|\.)", path.read_text()), path


def test_every_sweep_of_the_generators_page_shows_something():
    """A setting that has another name, or that no longer changes anything, leaves a row of equal images."""
    sweeps = load(ROOT / "docs" / "img" / "make_sweep_pictures.py")
    sweeps.SIDE = 64
    page = (ROOT / "docs" / "generator.md").read_text()
    for name, rows in sweeps.SWEEPS.items():
        assert f"(img/generator_sweep_{name}.png)" in page
        for sweep in rows:
            first, last = (sweeps.shown(sweep, sweep.values[k]) for k in (0, -1))
            differ = (
                first.label != last.label if sweep.key == "boundary.margin" else first.image != last.image
            )
            assert differ.mean() > 0.02, sweep.title
    assert len(list(sweeps.shape_rows(24))) == len(sweeps.FAMILIES) + len(sweeps.SLENDER)
