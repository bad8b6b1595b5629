"""Masks saved by any other system: scored beside the methods that run here.

``synthfm-eval prompts`` exports what every method is given; the masks come back as images (above 0 is the
object) of the case's size, each under the path that the export names for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.files import fingerprint, slug
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import SETTINGS, DrawnPrompt, Setting
from synthfm.evaluation.formats.readers import read_volume
from synthfm.evaluation.formats.volume import Unreadable
from synthfm.evaluation.methods.method import Method, Predicted

PROMPTS = "prompts.json"


class SavedMasks:
    """See the module. Settings for which the folder holds no masks are not for it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._settings = {setting for setting in SETTINGS if any(_pictures(folder, setting))}
        self._seeds = exported_seeds(folder)

    def accepts(self, setting: Setting) -> bool:
        return setting.name in self._settings

    def encode(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        return image.shape[0], image.shape[1]

    def predict(
        self, encoded: tuple[int, int], prompts: Sequence[Prompt], previous: Sequence[Predicted] = ()
    ) -> list[Predicted]:
        return [Predicted(self._read(prompt, encoded)) for prompt in prompts]

    def _read(self, prompt: Prompt, shape: tuple[int, int]) -> NDArray[np.bool_]:
        if not isinstance(prompt, DrawnPrompt):
            raise InputError(f"{self.folder}: saved masks answer the prompts of an evaluation alone")
        name = mask_file(prompt)
        path = self.folder / name
        if self._seeds.get(name, prompt.seed) != prompt.seed:
            raise InputError(
                f"{path}: was made for another prompt ({PROMPTS} there has seed {self._seeds[name]}, "
                f"this run {prompt.seed}); use the same --seed"
            )
        if not path.is_file():
            raise InputError(f"{path}: no such mask")
        try:
            volume = read_volume(path, mask=True)
        except Unreadable as error:
            raise InputError(f"{path}: {error}") from error
        values = volume.array[0] if volume.flat else volume.array
        if values.shape != shape:
            raise InputError(f"{path}: {values.shape} pixels, the image has {shape}")
        return np.asarray(values > 0)


def mask_file(prompt: DrawnPrompt) -> str:
    """Where the mask of a prompt is expected under the folder: ``SETTING/DATASET/CASE/OBJECT.png``."""
    key = prompt.key
    return "/".join([slug(key.setting), slug(key.dataset), slug(key.case), f"{slug(key.object)}.png"])


def _pictures(folder: Path, setting: str) -> Iterator[Path]:
    return (folder / slug(setting)).rglob("*.png")


def digest(folder: Path, settings: Sequence[str]) -> str:
    """What the masks in a folder that belong to the settings are, without reading them."""
    return fingerprint(sorted(path for setting in settings for path in _pictures(folder, setting)), folder)


def exported_seeds(folder: Path) -> dict[str, int]:
    """The seed of each prompt of an export, by the name of its mask; none without one."""
    path = folder / PROMPTS
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {line["mask"]: int(line["seed"]) for case in content["cases"] for line in case["prompts"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not an export of 'synthfm-eval prompts' ({error})") from error


def build(name: str, folder: str) -> Method:
    if not Path(folder).is_dir():
        raise InputError(f"masks:{folder}: no such folder")
    return SavedMasks(name, Path(folder))
