"""Images of no scanner in particular: any noise, blur and shading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from synthfm.data.config import Config, Share
from synthfm.generator.look.textures import spectral
from synthfm.generator.look.tissues import Palette, any_spread, any_values
from synthfm.generator.modalities.base import GridScan, Modality, Scan, log_uniform, modality
from synthfm.generator.raster.filters import Image, gaussian_blur, upsample
from synthfm.generator.settings import Bias, Positive, ResolutionConfig


class GenericSettings(Config):
    """Any noise, blur and shading (`bias`, as for MR).

    `curve_share` of them have a grey-level curve that need not rise.
    """

    noise: Positive = (0.004, 0.15)
    bias: Bias = (0.0, 0.3)
    curve_share: Share = 0.4


@dataclass(frozen=True, kw_only=True)
class GenericScan(GridScan):
    """Any scanner."""

    @staticmethod
    def draw_parameters(rng: np.random.Generator, settings: GenericSettings) -> dict[str, float]:
        return {
            "noise": log_uniform(rng, settings.noise),
            "slope": rng.uniform(-1.0, 1.5),
            "coloured": float(rng.random() < 0.5),
            "speckle": rng.uniform(0.05, 0.35) * (rng.random() < 0.25),
            "bias": rng.uniform(*settings.bias),
            "psf": rng.uniform(0.0, 1.4),
            "curve": float(rng.random() < settings.curve_share),
            "bend": rng.uniform(-1, 1),
            "wave": rng.uniform(-1, 1),
        }

    def _measure(self, ideal: Image, palette: Palette, rng: np.random.Generator) -> tuple[Image, Image]:
        p = self.parameters
        if p["curve"]:  # a smooth curve of grey levels that need not be monotonic
            t = np.clip(ideal, 0, 1)
            ideal = t + np.float32(p["bend"]) * t * (1 - t) + np.float32(0.2 * p["wave"]) * np.sin(6 * t)
        ideal = gaussian_blur(ideal, p["psf"]) if p["psf"] > 0.25 else ideal
        image = ideal * np.exp(np.float32(p["bias"]) * upsample(self.coarse, ideal.shape, sharp=False))
        if p["speckle"]:  # multiplicative noise with a grain
            grain = gaussian_blur(rng.standard_normal(ideal.shape, np.float32), 0.8)
            image = image * (1 + np.float32(2.5 * p["speckle"]) * grain)
        if p["coloured"]:
            side = max(ideal.shape)
            noise = spectral(rng, side, p["slope"])[: ideal.shape[0], : ideal.shape[1]]
        else:
            noise = rng.standard_normal(ideal.shape, np.float32)
        return image + np.float32(p["noise"]) * noise, ideal


@modality
class Generic(Modality):
    """Anything; the plan `radiograph` among them is a radiograph."""

    name = "generic"
    plans: ClassVar = {
        "free": 0.5,
        "tiles": 0.12,
        "radiograph": 0.16,
        "crop": 0.12,
        "abdomen": 0.05,
        "head": 0.05,
        "chest": 0.0,
        "angiogram": 0.0,
        "capillaries": 0.0,
        "cells": 0.0,
        "teeth": 0.0,
        "rows": 0.0,
        "gyri": 0.0,
        "cord": 0.0,
        "walls": 0.0,
    }
    settings = GenericSettings

    def draw_palette(self, rng: np.random.Generator, physical: bool) -> Palette:
        return Palette(any_values(rng), any_spread(rng))

    def draw_scan(
        self, rng: np.random.Generator, size: int, field: Any, resolution: ResolutionConfig, settings: Any
    ) -> Scan:
        return GenericScan.draw(rng, size, resolution, settings)
