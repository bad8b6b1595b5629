"""What the generator draws: the content config and its presets.

How many samples, from which root seed and in what shards is the factory's; this config alone decides what a
sample with a given seed looks like.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field

from data.config import Config, load_preset

PRESETS = Path(__file__).parent / "presets"

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


def _rising(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"the range must rise, from low to high, not {span[0]} to {span[1]}")
    return span


Span = Annotated[tuple[float, float], pydantic.AfterValidator(_rising)]


def _some(weights: dict[str, float]) -> dict[str, float]:
    if any(weight < 0 for weight in weights.values()) or not sum(weights.values()) > 0:
        raise ValueError("weights must not be negative, and one must be above 0")
    return weights


class ModalityMix(Config):
    """Weights of the modalities; a sample draws one."""

    generic: Weight = 0.25
    CT: Weight = 0.27
    MR: Weight = 0.26
    US: Weight = 0.22

    @pydantic.model_validator(mode="after")
    def _some(self) -> ModalityMix:
        _some(self.model_dump())
        return self


class PromptsConfig(Config):
    """Clicks stored per object: `positives` (the centre first), then `negatives`."""

    positives: int = Field(5, ge=1, le=64)
    negatives: int = Field(3, ge=0, le=64)


class ShapesConfig(Config):
    """The shape-aware module; `anatomical: false` leaves ellipses."""

    anatomical: bool = True
    min_area: int = Field(16, ge=4)
    max_objects: int = Field(40, ge=1, le=60)
    deformation: Span = (0.0, 0.07)


class BoundaryConfig(Config):
    """The boundary-aware module; `enabled: false` leaves sharp, separated objects."""

    enabled: bool = True


class GeneratorConfig(Config):
    """Everything that a sample's look depends on, apart from its seed."""

    size: int = Field(256, ge=32, le=2048)
    modality: ModalityMix = ModalityMix()
    prompts: PromptsConfig = PromptsConfig()
    shapes: ShapesConfig = ShapesConfig()
    boundary: BoundaryConfig = BoundaryConfig()


def load_config(preset: str = "full", overrides: Iterable[str] = (), **keys: Any) -> GeneratorConfig:
    """The config of a shipped preset or YAML file, with ``key.subkey=value`` overrides and top-level keys.

    Raises
    ------
    data.console.InputError
        Naming the preset or key that is wrong and what is allowed.

    >>> load_config("neither", ["prompts.positives=3"], size=64).prompts.positives
    3
    """
    return load_preset(GeneratorConfig, PRESETS, preset, overrides, **keys)
