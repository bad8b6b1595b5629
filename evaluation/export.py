"""Prompts as JSON and images as PNG (volumes: NIfTI) for other systems, scored by ``--method masks:DIR``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from synthfm.data.console import InputError
from synthfm.data.files import replacing, slug, write_atomically
from synthfm.data.prompts import Prompt, compile_kernels
from synthfm.evaluation.cases.case import Case, Failure, Object
from synthfm.evaluation.cases.descriptor import Descriptor
from synthfm.evaluation.cases.prompting import DrawnPrompt, DrawnVolumePrompt, parse_setting
from synthfm.evaluation.config import EvalConfig
from synthfm.evaluation.formats.volume import simpleitk
from synthfm.evaluation.methods.masks import PROMPTS, exported_seeds, mask_file
from synthfm.evaluation.scoring.ask import case_prompts, volume_prompts
from synthfm.evaluation.scoring.run import missing_in, read_cases


def export_prompts(
    descriptors: Sequence[Descriptor], root: Path, config: EvalConfig, out: Path
) -> tuple[int, list[Failure]]:
    """Write ``OUT/prompts.json`` and ``OUT/images/DATASET/CASE.png``, of volumes ``VOLUME.nii.gz``.

    Coordinates are pixels of the image, x right, y down, (0, 0) the centre of the top left pixel; boxes are
    XYXY, half-open. Of a volume x, y and slice count along its file's axes i, j, k. Each prompt names the
    file in which its mask is expected under OUT.

    Returns
    -------
    cases, failures
        How many cases were written, and what could not be read.

    Raises
    ------
    InputError
        For a ``clicks:k`` setting and its like: its prompts depend on the masks. If `out` holds masks for
        other prompts.
    """
    for setting in config.prompts:
        if parse_setting(setting).interactive:
            raise InputError(f"{setting}: interactive clicks depend on the masks and cannot be exported")
    cases: list[dict[str, Any]] = []
    failures: list[Failure] = []
    out.mkdir(parents=True, exist_ok=True)
    compile_kernels(shown=True)
    for item in read_cases(descriptors, root, limit=config.limit, dims=config.dims):
        if isinstance(item, Failure):
            failures.append(item)
        else:
            cases.append(_export_case(item, config, out, cases, failures))
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


def _export_case(
    case: Case, config: EvalConfig, out: Path, cases: Sequence[dict[str, Any]], failures: list[Failure]
) -> dict[str, Any]:
    folder = Path("images") / slug(case.dataset)
    (out / folder).mkdir(parents=True, exist_ok=True)
    if config.dims == 2:
        image = folder / f"{slug(case.case)}.png"
        with replacing(out / image) as partial:
            Image.fromarray(case.image).save(partial, format="PNG")
        drawn = case_prompts(case, config.prompts, config.seed, missing_in(case, failures))
        prompts = [_as_json(*asked) for asked in drawn]
    else:
        image = folder / f"{slug(case.volume)}.nii.gz"
        if not cases or cases[-1]["image"] != str(image):  # the last case may be another object in the same
            _write_volume(case, out / image)
        prompts = [_volume_as_json(*asked) for asked in volume_prompts(case, config.prompts, config.seed)]
    return {
        "dataset": case.dataset,
        "case": case.case,
        "image": str(image),
        "size": list(case.image.shape[::-1]),
        "prompts": prompts,
    }


def _write_volume(case: Case, path: Path) -> None:
    """A volume's grey levels with its spacing."""
    sitk = simpleitk()
    image = sitk.GetImageFromArray(case.image)
    image.SetSpacing((case.spacing or (1.0, 1.0, 1.0))[::-1])
    with replacing(path) as partial:
        whole = partial.with_name(f"{partial.name}.nii.gz")  # the format goes by the suffix
        sitk.WriteImage(image, str(whole))
        whole.replace(partial)


def _as_json(item: Object, prompt: DrawnPrompt) -> dict[str, Any]:
    about = {"setting": prompt.setting.name, "seed": prompt.seed}
    return about | _content(prompt) | {"mask": mask_file(prompt), "object": item.key}


def _volume_as_json(item: Object, prompt: DrawnVolumePrompt) -> dict[str, Any]:
    slices = [{"slice": k} | _content(asked) for k, asked in prompt.prompts.items()]
    about = {"setting": prompt.setting.name, "seed": prompt.seed}
    return about | {"slices": slices, "mask": mask_file(prompt), "object": item.key}


def _content(prompt: Prompt) -> dict[str, Any]:
    return {
        "points": prompt.points.tolist(),
        "labels": prompt.labels.tolist(),
        "box": None if prompt.box is None else prompt.box.tolist(),
    }
