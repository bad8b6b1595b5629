"""What the site has beside this folder's pages: pages that lie elsewhere, and the reference, from the code.

MkDocs calls the functions named ``on_...`` (see ``hooks`` in ``mkdocs.yml``). Nothing of it is kept in the
repository, so that the reference is always that of the code.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import math
import posixpath
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic

from synthfm.data.config import Config

ROOT = Path(__file__).parents[1]

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "data/weights/tiny.md": "tiny.md",
}
"""Pages of the repository that lie outside of this folder, and what the site calls them."""

DATASETS = {
    f"evaluation/datasets/{path.name}": f"datasets/{path.stem}.md"
    for path in sorted((ROOT / "evaluation" / "datasets").glob("*.yaml"))
}
"""Descriptors, and the pages that are made of them."""

PROGRAMS = {
    "synthfm-generate": "synthfm.generator.cli",
    "synthfm-train": "synthfm.trainer.cli",
    "synthfm-eval": "synthfm.evaluation.cli",
}

RECIPE = ("Recipe", "Stage", "Images")
DATASET = ("Descriptor", "Source", "Masks", "SpacingTable")
SCHEMA = "synthfm.evaluation.cases.schema"
SETTINGS: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "generator": (
        "synthfm-generate run --set KEY=VALUE",
        "generator",
        [("synthfm.generator.config", "GeneratorConfig")],
    ),
    "training": (
        "synthfm-train run --set KEY=VALUE",
        "trainer",
        [("synthfm.trainer.config", "TrainConfig"), *(("synthfm.trainer.recipe", k) for k in RECIPE)],
    ),
    "evaluation": (
        "synthfm-eval run --set KEY=VALUE",
        "evaluation",
        [("synthfm.evaluation.config", "EvalConfig"), *((SCHEMA, name) for name in DATASET)],
    ),
}
"""Page to the command that takes its keys, the package of its presets, and the models that hold the keys."""

PACKAGES = ("data", "generator", "trainer", "evaluation")


# --- what MkDocs calls ---


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links of this folder's pages to what lies outside of it."""
    if page.file.generated_by is not None:
        return markdown
    return relinked(markdown, posixpath.join("docs", posixpath.dirname(page.file.src_uri)))


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """What an option without a default has: click's own name for that is no use to a reader."""
    return html.replace("<code>Sentinel.UNSET</code>", "")


# --- pages ---


def pages() -> dict[str, str]:
    """All pages that are made, by their place in the site."""
    made = {
        site: relinked((ROOT / own).read_text(encoding="utf-8"), posixpath.dirname(own))
        for own, site in PAGES.items()
    }
    made |= {f"reference/{name}.md": commands_page(name, module) for name, module in PROGRAMS.items()}
    made |= {f"reference/settings-{name}.md": settings_page(name) for name in SETTINGS}
    made |= {f"reference/synthfm.{name}.md": python_page(name) for name in PACKAGES}
    made |= {page: dataset_page(Path(descriptor).stem) for descriptor, page in DATASETS.items()}
    return made


def relinked(text: str, folder: str) -> str:
    """Markdown of a page in a folder of the repository, with its links as the site's root has them."""

    def target(match: re.Match[str]) -> str:
        link, hash_, anchor = match[1].partition("#")
        if not link or re.match(r"\w+:", link):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, link))
        return f"]({(PAGES | DATASETS).get(path, path.removeprefix('docs/'))}{hash_}{anchor})"

    parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)  # what is code stays
    return "".join(
        part if k % 2 else re.sub(r"\]\(([^)\s]+)\)", target, part) for k, part in enumerate(parts)
    )


def commands_page(name: str, module: str) -> str:
    """Every option of a program."""
    lines = ["::: mkdocs-click", f"    :module: {module}", "    :command: main", f"    :prog_name: {name}"]
    return "\n".join([*lines, "    :depth: 0", "    :style: table", "    :list_subcommands: true", ""])


def dataset_page(name: str) -> str:
    """What a shipped dataset is, how to get it, and its descriptor."""
    from synthfm.evaluation.cases.descriptor import load_descriptor

    descriptor = load_descriptor(name)
    rows = {
        "name": f"`{name}`",
        "modality": descriptor.modality,
        "structures": ", ".join(descriptor.structures()) or "as its files are named",
        "licence": descriptor.licence,
        "cite": descriptor.citation,
        "where": f"<{descriptor.url}>" if descriptor.url else "",
        "get it": descriptor.get,
    }
    lines = [f"# {descriptor.title}", "", "| | |", "| --- | --- |"]
    lines += [f"| {key} | {cell(text)} |" for key, text in rows.items() if text]
    if descriptor.tree:
        lines += ["", "Its files under `--data-root`:", "", "```text", descriptor.tree.rstrip(), "```"]
    command = f"synthfm-eval run --checkpoint tiny --data-root DATA --dataset {name} --prompts box,point1"
    lines += ["", "Score it:", "", "```", f"{command} --out runs/{name}", "```"]
    lines += ["", "The descriptor ([what the keys mean](../datasets.md#write-your-own)):", "", "```yaml"]
    text = (ROOT / "evaluation" / "datasets" / f"{name}.yaml").read_text(encoding="utf-8")
    lines += [text.rstrip(), "```", "", "The dataset's own page counts: licences and addresses change.", ""]
    return "\n".join(lines)


def python_page(package: str) -> str:
    """Every module of a package that has something public, in the order of its folders."""
    modules = sorted(module_names(package), key=lambda name: (name.count("."), name))
    options = ["    options:", "      show_root_toc_entry: true"]
    blocks = ["\n".join([f"::: {name}", *options]) for name in modules]
    return "\n\n".join([f"# `synthfm.{package}`", *blocks]) + "\n"


def module_names(package: str) -> Iterator[str]:
    """The modules of a package that say what they are and hold something public."""
    for path in (ROOT / package).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = any(
            isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            for node in tree.body
        )
        if public and path.name not in ("__init__.py", "cli.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(("synthfm", *parts))


# --- settings ---


def settings_page(name: str) -> str:
    """Every key of some configs: its type, range, default and meaning."""
    command, package, models = SETTINGS[name]
    lines = [
        f"# Settings: {name}",
        "",
        f"`{command}`, or the same keys in a YAML file given as `--preset`.",
        "",
    ]
    for module, model in models:
        lines += model_section(getattr(importlib.import_module(module), model), "", depth=2)
    presets = importlib.import_module("synthfm.data.config").list_presets(ROOT / package / "presets")
    lines += ["## Presets", "", "| name | what it is |", "| --- | --- |"]
    lines += [f"| `{line[:22].strip()}` | {cell(line[22:].strip())} |" for line in presets]
    return "\n".join([*lines, ""])


def model_section(model: type[pydantic.BaseModel], prefix: str, depth: int) -> list[str]:
    """The keys of one config, then those of the configs in it."""
    title = f"`{prefix.rstrip('.')}`" if prefix else f"`{model.__name__}`"
    lines = [f"{'#' * min(depth, 4)} {title}", "", prose(model), ""]
    said = attribute_docstrings(model)
    properties = schema_of(model)["properties"]
    rows, inner = [], []
    for key, field in model.model_fields.items():
        nested = field.annotation
        if inspect.isclass(nested) and issubclass(nested, pydantic.BaseModel):
            inner.append((f"{prefix}{key}.", nested))
            continue
        shape = properties[key]
        default = (
            "required"
            if field.is_required()
            else f"`{default_text(field.get_default(call_default_factory=True))}`"
        )
        meaning = (f"`{prefix}{key}`", type_text(shape, schema_of(model)), default, said.get(key, ""))
        rows.append(f"| {' | '.join(map(cell, meaning))} |")
    if rows:
        lines += ["| key | value | default | |", "| --- | --- | --- | --- |", *rows, ""]
    for deeper, nested in inner:
        lines += model_section(nested, deeper, depth + 1)
    return lines


@functools.cache
def schema_of(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """A model's JSON schema."""
    return model.model_json_schema()


def prose(model: type[pydantic.BaseModel]) -> str:
    """A config's docstring, its numpydoc list of attributes as a list."""
    own = [
        kind.__dict__.get("__doc__")
        for kind in model.__mro__
        if issubclass(kind, Config) and kind is not Config
    ]
    text = inspect.cleandoc(next(filter(None, own), ""))
    text, _, listed = text.partition("Attributes\n----------\n")
    for found in re.finditer(r"^(\w[\w, ]*)\n((?:    .*\n?|\n)+)", listed + "\n", re.M):
        names = ", ".join(f"`{part.strip()}`" for part in found[1].split(","))
        text += f"\n- {names}: {' '.join(textwrap.dedent(found[2]).split())}"
    return re.sub(r":(?:class|func|mod|data|meth):`~?(.*?)`", r"`\1`", text.replace("``", "`"))


def attribute_docstrings(model: type[pydantic.BaseModel]) -> dict[str, str]:
    """The strings that stand after the fields of a model."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    except (OSError, TypeError, SyntaxError):  # put together when the program runs
        return {}
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
            text = ast.literal_eval(after.value) if isinstance(after.value, ast.Constant) else ""
            found[ast.unparse(before.target)] = " ".join(str(text).replace("``", "`").split())
    return found


def type_text(shape: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a value may be, from its JSON schema."""
    if "$ref" in shape:
        return type_text(schema["$defs"][shape["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in shape or "allOf" in shape:
        return " or ".join(
            dict.fromkeys(type_text(part, schema) for part in shape.get("anyOf", shape.get("allOf")))
        )
    if "enum" in shape:
        return ", ".join(f"`{value}`" for value in shape["enum"])
    if "const" in shape:
        return f"`{shape['const']}`"
    if "prefixItems" in shape:
        first = type_text(shape["prefixItems"][0], schema)
        return f"{len(shape['prefixItems'])} times {first}"
    kind = shape.get("type", "any")
    if kind == "array":
        return f"list of {type_text(shape.get('items', {}), schema)}"
    if kind == "object":
        return "mapping" if "properties" not in shape else "mapping, see `" + shape.get("title", "") + "`"
    return f"{kind}{bounds(shape)}"


def bounds(shape: dict[str, Any]) -> str:
    """The range of a number, as text."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {rounded(shape[key])}" for key, sign in signs.items() if key in shape]
    return f" {', '.join(found)}" if found else ""


def rounded(number: float) -> str:
    """A bound, a very large one as a power of two."""
    return f"2^{math.log2(number):g}" if number > 1 << 24 else f"{number:g}"


def default_text(value: Any) -> str:
    """A default as YAML would have it."""
    if isinstance(value, tuple):
        return f"[{', '.join(default_text(part) for part in value)}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value) if value != "" else '""'


def cell(text: str) -> str:
    """Text that can stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
