"""Prompts as JSON and images as PNG for any other system, whose masks ``--method masks:DIR`` then scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from synthfm.data.console import InputError
from synthfm.data.files import replacing, slug, write_atomically
from synthfm.evaluation.cases.case import Case, Failure
from synthfm.evaluation.cases.descriptor import Descriptor
from synthfm.evaluation.cases.prompting import DrawnPrompt, parse_setting
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.methods.masks import PROMPTS, exported_seeds, mask_file
from synthfm.evaluation.scoring.ask import case_prompts, object_key
from synthfm.evaluation.scoring.run import read_cases


def export_prompts(
    descriptors: Sequence[Descriptor], root: Path, config: EvalConfig, out: Path
) -> tuple[int, list[Failure]]:
    """Write ``OUT/prompts.json`` and ``OUT/images/DATASET/CASE.png``.

    Coordinates are pixels of the image, x right, y down, (0, 0) the centre of the top left pixel; boxes are
    XYXY, half-open. Each prompt names the file in which its mask is expected under OUT.

    Returns
    -------
    cases, failures
        How many cases were written, and what could not be read.

    Raises
    ------
    InputError
        For a ``clicks:k`` setting: its prompts depend on the masks. If `out` holds masks for other prompts.
    """
    for setting in config.prompts:
        if parse_setting(setting).interactive:
            raise InputError(f"{setting}: interactive clicks depend on the masks and cannot be exported")
    cases: list[dict[str, Any]] = []
    failures: list[Failure] = []
    out.mkdir(parents=True, exist_ok=True)
    for item in read_cases(descriptors, root, limit=config.limit):
        if isinstance(item, Failure):
            failures.append(item)
        else:
            cases.append(_export_case(item, config, out))
    _check_masks(cases, out)
    content = {"seed": config.seed, "cases": cases}
    write_atomically(out / PROMPTS, json.dumps(content, indent=1) + "\n")
    return len(cases), failures


def _check_masks(cases: Sequence[dict[str, Any]], out: Path) -> None:
    """Masks that lie there for an earlier export must not be taken for those of these prompts."""
    before = exported_seeds(out)
    for line in (line for case in cases for line in case["prompts"]):
        name = line["mask"]
        if before.get(name, line["seed"]) != line["seed"] and (out / name).is_file():
            raise InputError(f"{out / name}: was made for the prompts of another --seed; give another --out")


def _export_case(case: Case, config: EvalConfig, out: Path) -> dict[str, Any]:
    image = Path("images") / slug(case.dataset) / f"{slug(case.case)}.png"
    (out / image).parent.mkdir(parents=True, exist_ok=True)
    with replacing(out / image) as partial:
        Image.fromarray(case.image).save(partial, format="PNG")
    return {
        "dataset": case.dataset,
        "case": case.case,
        "image": str(image),
        "size": [case.image.shape[1], case.image.shape[0]],
        "prompts": [
            _as_json(prompt) | {"object": object_key(item)}
            for item, prompt in case_prompts(case, config.prompts, config.seed)
        ],
    }


def _as_json(prompt: DrawnPrompt) -> dict[str, Any]:
    return {
        "setting": prompt.setting.name,
        "seed": prompt.seed,
        "points": prompt.points.tolist(),
        "labels": prompt.labels.tolist(),
        "box": None if prompt.box is None else prompt.box.tolist(),
        "mask": mask_file(prompt),
    }
