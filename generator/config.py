"""The config of a sample's content, put together of what every scene has and what each modality adds.

How many samples, from which root seed and in what shards is the factory's; this config alone decides what a
sample with a given seed looks like. Keys of scenes are explained in :mod:`synthfm.generator.settings`, those
of ``acquisition.NAME`` in the modality's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from synthfm.data.config import Config, Weight, Weights, load_preset, preset_values, validate
from synthfm.data.console import InputError
from synthfm.generator.canvas.section import LARGEST_SHARE
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.plans.tools import PLANS
from synthfm.generator.settings import ResolutionConfig, SceneConfig, ShapesConfig, VolumeConfig

PRESETS = Path(__file__).parent / "presets"

MAX_VOLUME_PIXELS = 3 << 22
"""Pixels of a volume, which a worker holds whole: with them it stays under 600 MB."""

MIX = {"generic": 0.25, "CT": 0.27, "MR": 0.26, "US": 0.22}
"""How often each modality is drawn unless a preset says otherwise; those not named are not."""


def _model(name: str, base: type[Config], fields: Mapping[str, Any]) -> Any:
    """A config of these fields (type and default), under its name in this module: workers unpickle it."""
    model = pydantic.create_model(name, __base__=base, __module__=__name__, **dict(fields))
    globals()[name] = model
    return model


def _weights(name: str, defaults: Mapping[str, float]) -> Any:
    return _model(name, Weights, {key: (Weight, value) for key, value in defaults.items()})


def _parts(name: str, base: type[Config], models: Mapping[str, type[Config]]) -> Any:
    return _model(name, base, {key: (model, model()) for key, model in models.items()})


_NAMES = [*MIX, *(name for name in MODALITIES if name not in MIX)]
_Mix = _weights("ModalityMix", {name: MIX.get(name, 0.0) for name in _NAMES})
_plans = {name: _weights(f"{name}Plans", MODALITIES[name].plans) for name in _NAMES}
_settings = {name: MODALITIES[name].settings for name in _NAMES}
_Shapes = _parts("Shapes", ShapesConfig, {"plans": _parts("Plans", Config, _plans)})
_Acquisition = _parts("Acquisition", ResolutionConfig, _settings)


class GeneratorConfig(SceneConfig):
    """Everything that a sample's look depends on, apart from its seed.

    `modality` weighs the modalities, `shapes.plans.NAME` the plans of each, and `acquisition.NAME` holds the
    settings of its scanner.
    """

    if TYPE_CHECKING:  # which modalities there are is known when the program runs
        modality: Weights
        acquisition: ResolutionConfig
    else:
        modality: _Mix = _Mix()
        shapes: _Shapes = _Shapes()
        acquisition: _Acquisition = _Acquisition()

    @property
    def makes_volumes(self) -> bool:
        """Whether samples are slices of volumes."""
        return self.volume.depth[1] > 1

    def plans(self, modality: str) -> Weights:
        """How often a modality shows which plan."""
        return getattr(getattr(self.shapes, "plans"), modality)  # noqa: B009

    def modality_weights(self) -> tuple[list[str], list[float]]:
        """Names of the modalities and how often each is drawn; in volumes none without a plan for them."""
        return _shares(self.modality, lambda name: not self.makes_volumes or bool(self._solid_plans(name)))

    def plan_weights(self, modality: str) -> tuple[list[str], list[float]]:
        """Names of a modality's plans and how often each is drawn; in volumes no projections."""
        solid = self._solid_plans(modality)
        return _shares(self.plans(modality), lambda name: not self.makes_volumes or name in solid)

    def _solid_plans(self, modality: str) -> list[str]:
        """A modality's plans that volumes can show."""
        if MODALITIES[modality].projects:
            return []
        weights = self.plans(modality)
        return [name for name, weight in weights if weight > 0 and not PLANS[name].projection]

    def settings(self, modality: str) -> Config:
        """A modality's settings."""
        return getattr(self.acquisition, modality)

    @pydantic.model_validator(mode="after")
    def _volumes_can_be_made(self) -> GeneratorConfig:
        low, high = self.volume.depth
        if high == 1:
            changed = self.volume.model_copy(update={"depth": VolumeConfig().depth})
            for name, value in VolumeConfig().model_dump().items():
                if getattr(changed, name) != value:
                    raise ValueError(
                        f"volume.{name} is set, but volume.depth is 1, which makes single images; set "
                        "volume.depth=16..64, or leave the volume's settings out"
                    )
            return self
        most = MAX_VOLUME_PIXELS // self.size**2
        if high > most:
            raise ValueError(
                f"volume.depth is up to {high}; a worker's memory holds {most} slices of size {self.size}"
            )
        if low == 1:
            raise ValueError("volume.depth: a volume has 2 slices at least, and 1 alone makes single images")
        if not any(
            weight > 0 and self._solid_plans(name) for name, weight in self.modality.model_dump().items()
        ):
            raise ValueError(
                "volume.depth is above 1, but all that is drawn are projections (XR), of which there are no "
                "volumes; leave volume.depth at 1 or give another modality a weight"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _objects_fit(self) -> GeneratorConfig:
        most = int(LARGEST_SHARE * self.size**2)
        if self.shapes.min_area > most:
            raise ValueError(
                f"shapes.min_area is {self.shapes.min_area}; at most {most} pixels at size {self.size}"
            )
        return self


def _shares(weights: Weights, allowed: Callable[[str], bool]) -> tuple[list[str], list[float]]:
    """Names and probabilities of the alternatives, 0 for those that are not allowed."""
    names, shares = weights.items()
    if all(allowed(name) for name, share in zip(names, shares, strict=True) if share):
        return names, shares
    kept = [share * allowed(name) for name, share in zip(names, shares, strict=True)]
    return names, [share / sum(kept) for share in kept]


def modality_shares(config: Mapping[str, Any]) -> dict[str, float]:
    """How often each modality is expected, from a config as a manifest holds it; empty if it does not say.

    A plan that always shows one modality (:class:`synthfm.generator.plans.tools.Plan`) counts as that one,
    where the config knows it: datasets of format 1 do not. Volumes show no projections.
    """
    mix = config.get("modality", {})
    solid = max(config.get("volume", {}).get("depth", [1])) > 1
    if solid:
        made = GeneratorConfig.model_validate(config)
        mix = dict(zip(*made.modality_weights(), strict=True))
    shares = dict.fromkeys(mix, 0.0)
    for name, weight in mix.items():
        plans = config.get("shapes", {}).get("plans", {}).get(name, {})
        if solid:
            plans = {plan: part for plan, part in plans.items() if not PLANS[plan].projection}
        if not config.get("shapes", {}).get("anatomical", True):
            plans = {}
        for plan, part in plans.items() or [("", 1.0)]:
            shown = PLANS[plan].modality if plan in PLANS else ""
            shares[shown if shown in mix else name] += (
                weight / sum(mix.values()) * part / (sum(plans.values()) or 1.0)
            )
    return shares


def load_config(preset: str = "full", overrides: Iterable[str] = (), **keys: Any) -> GeneratorConfig:
    """The config of a shipped preset or YAML file, with ``key.subkey=value`` overrides and top-level keys.

    Raises
    ------
    synthfm.data.console.InputError
        Naming the preset or key that is wrong and what is allowed.

    >>> load_config("neither", ["prompts.positives=3"], size=64).prompts.positives
    3
    """
    config = load_preset(GeneratorConfig, PRESETS, preset, overrides, **keys)
    if not config.makes_volumes:
        own = validate(VolumeConfig, preset_values(PRESETS, preset).get("volume") or {}, f"preset {preset}")
        if own.depth[1] > 1:
            raise InputError(
                f"preset {preset}: makes volumes, and with volume.depth=1 single images; give a depth of 2 "
                "slices at least, or a preset of images, such as full"
            )
    return config
