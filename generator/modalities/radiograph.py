"""Radiographs: projections, in which densities add up."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from synthfm.generator.look.tissues import Palette, any_spread, any_values
from synthfm.generator.modalities.base import modality
from synthfm.generator.modalities.generic import Generic, GenericSettings

# Brightness of a projection: what absorbs X-rays is bright.
_BRIGHTNESS = {
    "air": (0.0, 0.08),
    "lung": (0.08, 0.35),
    "fat": (0.3, 0.45),
    "soft": (0.4, 0.6),
    "organ": (0.55, 0.85),
    "lesion": (0.3, 0.8),
    "marrow": (0.6, 0.8),
    "bone": (0.7, 1.0),
}


class XRSettings(GenericSettings):
    """Radiographs: noise, blur and shading as of generic images."""


@modality
class XR(Generic):
    """Chests and limbs; plans add the densities of what lies before and behind."""

    name = "XR"
    projects = True
    plans: ClassVar = {"radiograph": 0.35, "chest": 0.65, "teeth": 0.0, "angiogram": 0.0, "rows": 0.0}
    settings = XRSettings

    def draw_palette(self, rng: np.random.Generator, physical: bool) -> Palette:
        values = any_values(rng)
        if not physical:
            return Palette(values, any_spread(rng))
        return Palette(values | {name: rng.uniform(*span) for name, span in _BRIGHTNESS.items()}, 0.03)
