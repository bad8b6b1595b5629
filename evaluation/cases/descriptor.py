"""Datasets described by YAML files: loaded, looked for, shown."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from synthfm.data.config import preset_names, read_yaml, validate
from synthfm.data.console import InputError, did_you_mean
from synthfm.data.folder import MANIFEST, UNFINISHED, read_manifest
from synthfm.evaluation.cases.layout import Found, absence, entries, find
from synthfm.evaluation.cases.schema import Descriptor, GivenShards

__all__ = ["Descriptor", "Found", "describe", "descriptor_names", "find", "load_datasets", "load_descriptor"]

log = logging.getLogger(__name__)
DATASETS = Path(__file__).parents[1] / "datasets"


class NothingFound(InputError):
    """Nothing of a dataset is under the data root; `reason` says so without their names."""

    def __init__(self, descriptor: Descriptor, root: str | Path) -> None:
        expected = absence(descriptor, Path(root))
        super().__init__(f"dataset {descriptor.name}: nothing found under {root}; {expected}")
        self.reason = f"nothing found; {expected}"


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
    if any((path / name).is_file() for name in (MANIFEST, UNFINISHED)):
        read_manifest(path)  # it refuses one that is unfinished
        name = path.resolve().name
        return GivenShards(
            name=name,
            title=f"Synthetic shards in {path}",
            modality="generic",
            shards=str(path),
            licence="your own",
        )
    if path.suffix not in (".yaml", ".yml"):
        path = DATASETS / f"{name_or_path}.yaml"
        if not path.is_file():
            names = descriptor_names()
            raise InputError(
                f"unknown dataset {name_or_path!r}; {did_you_mean(name_or_path, names)}choose one of "
                f"{', '.join(names)}, or give a .yaml descriptor or a folder of shards"
            )
    elif not path.is_file():
        raise InputError(f"{path}: no such descriptor")
    values = read_yaml(path)
    return validate(Descriptor, {"name": path.stem, **values}, source=str(path))


def load_datasets(names: Sequence[str], root: Path) -> list[Descriptor]:
    """Load the descriptors and look whether each has something under the root, before any work is done.

    One of which nothing is there stays in the list, with a warning.

    Raises
    ------
    InputError
        If a dataset is unknown or given twice, or nothing of any is under the root.
    """
    if not root.is_dir():
        raise InputError(
            f"--data-root {root}: no such folder; give the one in which the datasets lie "
            "('synthfm-eval datasets' lists them)"
        )
    descriptors = [load_descriptor(name) for name in dict.fromkeys(names)]
    seen: dict[str, str] = {}
    for descriptor, name in zip(descriptors, dict.fromkeys(names), strict=True):
        if descriptor.name in seen:
            raise InputError(
                f"--dataset {name} and {seen[descriptor.name]} have the same name {descriptor.name!r}"
            )
        seen[descriptor.name] = name
    absent = [
        NothingFound(item, root)
        for item in descriptors
        if item.shards is None and next(entries(item, root), None) is None
    ]
    if len(absent) == len(descriptors):
        raise absent[0]
    for error in absent:
        log.warning("%s", error)
    return descriptors


def describe(descriptor: Descriptor) -> str:
    """What a dataset is and how to get it, as text for the terminal."""
    lines = [f"{descriptor.name}: {descriptor.title}", f"modality    {descriptor.modality}"]
    unnamed = "as its files are named" if descriptor.sources else "the generator's shape families"
    lines += _wrapped("structures", ", ".join(descriptor.structures()) or unnamed)
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
