"""From regions to a clean image: mean, texture and edge of each region."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from generator import textures
from generator.filters import gaussian_blur
from generator.layout import Canvas

Image = NDArray[np.float32]


def render(canvas: Canvas, rng: np.random.Generator) -> Image:
    """The clean image, float32 (H, W), about 0 to 1."""
    size = canvas.view.size
    tissues: dict[str, float] = {}
    mean, amplitude, kind = np.zeros((3, 256), np.float32)
    for region in canvas.regions:
        base = tissues.setdefault(region.tissue, float(rng.uniform(0, 1)))
        value = base + rng.normal(0, 0.06)
        low = region.is_object and rng.random() < 0.3
        if low:
            value = mean[region.parent] + rng.choice([-1, 1]) * rng.uniform(0.02, 0.08)
        mean[region.number] = np.clip(value, 0, 1)
        amplitude[region.number] = rng.uniform(0, 0.08)
        kind[region.number] = rng.integers(2)
    fields = np.stack([textures.draw_field(rng, size) for _ in range(2)])
    region = canvas.region
    texture = np.where(kind[region] > 0, fields[0], fields[1])
    image = mean[region] + amplitude[region] * texture
    return gaussian_blur(image, rng.uniform(0.5, 1.5))
