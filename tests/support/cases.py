"""Small cases for the tests of the evaluation: image folders and checkpoints made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from synthfm.evaluation.cases.case import Case, Failure, Object
from synthfm.evaluation.cases.cases import iter_cases
from synthfm.evaluation.cases.descriptor import Descriptor, load_descriptor
from synthfm.evaluation.methods.ellipse import inscribed

DESCRIPTOR = """
title: Discs on grey
modality: US
sources:
  - folder: discs
    image: images/{id}.png
    masks:
      - {file: "masks/{id}.png", structure: disc}
licence: none
"""


def disc_image(number: int, size: tuple[int, int] = (60, 72)) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipse on noisy grey, uint8, and its mask."""
    rng = np.random.default_rng(number)
    left, top = rng.integers(8, 24, 2)
    mask = inscribed(np.array([left, top, left + 22 + number % 5, top + 18]), size)
    image = np.clip(rng.normal(90, 6, size) + 90 * mask, 0, 255).astype(np.uint8)
    return image, mask


def disc_folder(root: Path, count: int = 4) -> tuple[Path, Path]:
    """A dataset of `count` images under `root`; returns the data root and the descriptor's path."""
    folder = root / "data" / "discs"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, mask = disc_image(number)
        Image.fromarray(image).save(folder / "images" / f"p{number}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"p{number}.png")
    descriptor = root / "discs.yaml"
    descriptor.write_text(DESCRIPTOR)
    return root / "data", descriptor


def disc_case(number: int = 0, *, spacing: tuple[float, float] | None = None, second: bool = False) -> Case:
    """One case without files; with `second`, a small object beside the disc."""
    image, mask = disc_image(number)
    objects = [Object("disc", mask)]
    if second:
        other = np.zeros_like(mask)
        other[48:56, 50:64] = True
        objects.append(Object("bar", other))
    return Case("discs", "US", f"p{number}", f"p{number}", f"p{number}", 0, image, spacing, tuple(objects))


def random_tiny(path: Path) -> Path:
    """A `tiny` checkpoint with random weights."""
    from synthfm.trainer.model import models

    models.export(models.build("tiny", image_size=64, seed=1), path)
    return path


def descriptor(**keys: Any) -> Descriptor:
    """Volumes ``NAME.nii.gz`` with label maps ``NAME_label.nii.gz``."""
    masks = {"file": "{id}_label.nii.gz", "labels": {"liver": 1, "spleen": 2}, **keys.pop("masks", {})}
    if "structure" in masks:
        masks.pop("labels")
    source = {"folder": ".", "image": keys.pop("pattern", "{id:[a-z]+[0-9]*}.nii.gz"), "masks": [masks]}
    return Descriptor.model_validate(
        {"name": "test", "title": "t", "modality": "CT", "sources": [source], **keys}
    )


def source(image: str, *masks: dict[str, Any], **keys: Any) -> Descriptor:
    """A descriptor of ultrasound images, or of what `keys` say, with these entries of masks."""
    sources = [{"folder": ".", "image": image, "masks": list(masks)}]
    return Descriptor.model_validate(
        {"name": "test", "title": "t", "modality": "US", "sources": sources, **keys}
    )


def split(found: Any) -> tuple[list[Case], list[Failure]]:
    items = list(found)
    return [i for i in items if isinstance(i, Case)], [i for i in items if isinstance(i, Failure)]


OWN: dict[str, Any] = {
    "title": "mine",
    "modality": "US",
    "sources": [
        {"folder": ".", "image": "{id}.png", "masks": [{"file": "masks/{id}.png", "structure": "cyst"}]}
    ],
}


def cases_of(name: str, root: Path) -> list[Case]:
    """All cases of a dataset, none of which may fail."""
    found = list(iter_cases(load_descriptor(name), root))
    failures = [item for item in found if isinstance(item, Failure)]
    assert not failures, failures[:3]
    return [item for item in found if isinstance(item, Case)]


def write_own(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**OWN, **changes}))
    return path
