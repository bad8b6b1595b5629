"""Datasets described by YAML files: loaded, looked for, shown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from data.config import preset_names, read_yaml, validate
from data.console import InputError
from data.folder import MANIFEST, read_manifest
from evaluation.layout import Found, find
from evaluation.schema import Descriptor

__all__ = ["Descriptor", "Found", "describe", "descriptor_names", "find", "load_descriptor"]

DATASETS = Path(__file__).parent / "datasets"


def descriptor_names() -> list[str]:
    """Names of the shipped descriptors, sorted."""
    return preset_names(DATASETS)


def load_descriptor(name_or_path: str) -> Descriptor:
    """Load a shipped descriptor by name, a YAML file, or a folder of shards.

    Raises
    ------
    InputError
        If there is no such dataset, or a key of its descriptor is wrong; the message names the key.
    """
    path = Path(name_or_path)
    if (path / MANIFEST).is_file():
        read_manifest(path)
        name = path.resolve().name
        return Descriptor(
            name=name,
            title=f"Synthetic shards in {path}",
            modality="generic",
            shards=str(path),
            licence="your own",
        )
    if path.suffix not in (".yaml", ".yml"):
        path = DATASETS / f"{name_or_path}.yaml"
        if not path.is_file():
            raise InputError(
                f"unknown dataset {name_or_path!r}; choose one of {', '.join(descriptor_names())}, "
                "or give a .yaml descriptor or a folder of shards"
            )
    elif not path.is_file():
        raise InputError(f"{path}: no such descriptor")
    values = read_yaml(path)
    return validate(Descriptor, {"name": path.stem, **values}, source=str(path))


def describe(descriptor: Descriptor) -> str:
    """What a dataset is and how to get it, as text for the terminal."""
    lines = [f"{descriptor.name}: {descriptor.title}", f"modality    {descriptor.modality}"]
    lines += _wrapped("structures", ", ".join(descriptor.structures()) or "the generator's shape families")
    for key, text in (
        ("licence", descriptor.licence),
        ("cite", descriptor.citation),
        ("url", descriptor.url),
        ("get it", descriptor.get),
    ):
        lines += _wrapped(key, text)
    if descriptor.tree:
        lines += ["expected under the data root:", textwrap.indent(descriptor.tree.rstrip(), "    ")]
    return "\n".join(lines)


def _wrapped(key: str, text: str) -> Iterable[str]:
    if not text.strip():
        return []
    return textwrap.wrap(
        " ".join(text.split()),
        width=96,
        initial_indent=f"{key:<12}",
        subsequent_indent=" " * 12,
        break_on_hyphens=False,
        break_long_words=False,
    )
