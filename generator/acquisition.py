"""What a scanner does to a clean image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from generator import textures
from generator.filters import gaussian_blur

Image = NDArray[np.float32]


def acquire(clean: Image, modality: str, rng: np.random.Generator) -> Image:
    """The image that a scanner of the modality makes of a clean one, float32 (H, W)."""
    shape = clean.shape
    level = rng.uniform(0.01, 0.08)
    if modality == "MR":
        real = clean + rng.standard_normal(shape, np.float32) * np.float32(level)
        return np.hypot(real, rng.standard_normal(shape, np.float32) * np.float32(level))
    if modality == "US":
        parts = [gaussian_blur(rng.standard_normal(shape, np.float32), 1.5, 0.8) for _ in range(2)]
        speckle = np.hypot(*parts)
        return clean + 0.12 * np.log(speckle / speckle.mean() + 1e-3).astype(np.float32)
    field = textures.spectral(rng, shape[0], -1.0)
    return clean + np.float32(level) * gaussian_blur(field, 0.7)
