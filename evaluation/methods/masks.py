"""Masks saved by any other system: scored beside the methods that run here.

``synthfm-eval prompts`` exports what every method is given; the masks come back as images, of volumes as
NIfTI, of the case's size, each under the path that the export names for it. Which values are the object,
:mod:`synthfm.evaluation.formats.foreground` says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.files import fingerprint, slug
from synthfm.data.guard import opening, read_json
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import (
    SETTINGS,
    VOLUME_SETTINGS,
    DrawnPrompt,
    DrawnVolumePrompt,
    Setting,
)
from synthfm.evaluation.cases.volume_prompts import Spacing
from synthfm.evaluation.formats.foreground import threshold_of
from synthfm.evaluation.formats.readers import read_volume
from synthfm.evaluation.formats.volume import Unreadable
from synthfm.evaluation.methods.method import Method, Predicted, VolumeMethod

log = logging.getLogger(__name__)
PROMPTS = "prompts.json"

PICTURE, VOLUME = ".png", ".nii.gz"
"""Suffixes of the masks of images, and of volumes."""


class _Folder:
    """A folder of saved masks. Settings for which it holds none are not for it."""

    suffix = PICTURE

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        known = SETTINGS if self.suffix == PICTURE else VOLUME_SETTINGS
        self._settings = {setting for setting in known if any(_files(folder, setting))}
        self._seeds = exported_seeds(folder)
        self._told = False

    def accepts(self, setting: Setting) -> bool:
        return setting.name in self._settings

    def _read(self, prompt: DrawnPrompt | DrawnVolumePrompt, shape: tuple[int, ...]) -> NDArray[np.bool_]:
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
        values = volume.array[0] if len(shape) == 2 and volume.flat else volume.array
        if values.shape != shape:
            what = "pixels, the image" if len(shape) == 2 else "voxels, the volume"
            raise InputError(f"{path}: {values.shape} {what} has {shape}")
        found = threshold_of(values)
        if found.doubt is not None and not self._told:
            self._told = True
            log.warning("%s %s (told once of each folder)", path, found.doubt)
        return np.asarray(values > found.value)


class SavedMasks(_Folder):
    """Of single images, see the module."""

    def encode(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        return image.shape[0], image.shape[1]

    def predict(
        self, encoded: tuple[int, int], prompts: Sequence[Prompt], previous: Sequence[Predicted] = ()
    ) -> list[Predicted]:
        found = []
        for prompt in prompts:
            if not isinstance(prompt, DrawnPrompt):
                raise InputError(f"{self.folder}: saved masks answer the prompts of an evaluation alone")
            found.append(Predicted(self._read(prompt, encoded)))
        return found


class SavedVolumes(_Folder):
    """Of volumes, see the module."""

    suffix = VOLUME

    def encode(self, volume: NDArray[np.uint8], spacing: Spacing) -> tuple[int, ...]:
        return volume.shape

    def predict(
        self, encoded: tuple[int, ...], prompt: DrawnVolumePrompt, previous: Predicted | None = None
    ) -> Predicted:
        return Predicted(self._read(prompt, encoded))


def mask_file(prompt: DrawnPrompt | DrawnVolumePrompt) -> str:
    """Where the mask of a prompt is expected under the folder: ``SETTING/DATASET/CASE/OBJECT.png``, of a
    volume ``.nii.gz``.
    """
    key, suffix = prompt.key, PICTURE if prompt.setting.dims == 2 else VOLUME
    return "/".join([slug(key.setting), slug(key.dataset), slug(key.case), f"{slug(key.object)}{suffix}"])


def _files(folder: Path, setting: str) -> Iterator[Path]:
    """The masks of a setting; a setting is of images or of volumes."""
    suffix = VOLUME if setting in VOLUME_SETTINGS else PICTURE
    return (folder / slug(setting)).rglob(f"*{suffix}")


def digest(folder: Path, settings: Sequence[str]) -> str:
    """What the masks in a folder that belong to the settings are, without reading them."""
    return fingerprint(sorted(path for setting in settings for path in _files(folder, setting)), folder)


def exported_seeds(folder: Path) -> dict[str, int]:
    """The seed of each prompt of an export, by the name of its mask; none without one."""
    path = folder / PROMPTS
    if not path.is_file():
        return {}
    export = "an export of 'synthfm-eval prompts'"
    content = read_json(path, export)
    with opening(path, f"not {export}"):
        return {line["mask"]: int(line["seed"]) for case in content["cases"] for line in case["prompts"]}


def build(name: str, folder: str) -> Method:
    return SavedMasks(name, _existing(folder))


def build_for_volumes(name: str, folder: str) -> VolumeMethod:
    return SavedVolumes(name, _existing(folder))


def _existing(folder: str) -> Path:
    if not Path(folder).is_dir():
        raise InputError(f"masks:{folder}: no such folder")
    return Path(folder)
