"""Noise fields for tissue: zero mean, unit variance, float32 (H, W)."""

from __future__ import annotations

from functools import lru_cache

import noise
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from generator.filters import gaussian_blur, upsample

Field = NDArray[np.float32]


def standardise(field: Field) -> Field:
    """Zero mean and unit variance."""
    centred = field - field.mean()
    return (centred / max(float(centred.std()), 1e-6)).astype(np.float32)


@lru_cache(maxsize=32)
def _frequencies(size: int) -> tuple[Field, Field]:
    fy = np.fft.fftfreq(size).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(size).astype(np.float32)[None]
    return fy, fx


def filtered(rng: np.random.Generator, size: int, amplitude: Field) -> Field:
    """Gaussian noise with the given spectral amplitude, float32 (size, size // 2 + 1), standardised."""
    white = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    return standardise(fft.irfft2((white[0] + 1j * white[1]) * amplitude, s=(size, size)))


def spectral(rng: np.random.Generator, size: int, slope: float) -> Field:
    """Noise of power spectrum ``|f|^-slope``: 0 white, 2 cloudy, 4 very smooth."""
    fy, fx = _frequencies(size)
    squared = fy**2 + fx**2
    squared[0, 0] = 1
    amplitude = squared ** np.float32(-slope / 4)
    amplitude[0, 0] = 0
    return filtered(rng, size, amplitude)


def perlin(rng: np.random.Generator, size: int, cells: float, octaves: int = 3) -> Field:
    """Perlin noise of `cells` lattice cells across the frame, computed on a coarse grid and interpolated."""
    grid = 40
    shift = rng.uniform(0, 200, 2)
    step = cells / grid
    coarse = [
        [noise.pnoise2(shift[0] + i * step, shift[1] + j * step, octaves=octaves) for j in range(grid)]
        for i in range(grid)
    ]
    return standardise(upsample(np.array(coarse, np.float32), (size, size)))


def draw_field(rng: np.random.Generator, size: int) -> Field:
    """A field of a drawn kind."""
    if rng.random() < 0.3:
        return perlin(rng, size, rng.uniform(3, 10))
    return spectral(rng, size, rng.uniform(0.5, 3.0))


__all__ = ["draw_field", "filtered", "gaussian_blur", "perlin", "spectral", "standardise"]
