"""Magnetic resonance imaging."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy import fft

from synthfm.data.config import Config, Share
from synthfm.generator.look.textures import even_power
from synthfm.generator.look.tissues import NAMES, Palette, any_spread, any_values
from synthfm.generator.modalities.base import GridScan, Modality, Place, Scan, log_uniform, modality
from synthfm.generator.raster.filters import Image, bilinear, gaussian_blur, upsample
from synthfm.generator.settings import Bias, Positive, ResolutionConfig

# Relative signal under T1, T2 and proton-density weighting.
_SIGNAL = {
    "air": ((0.0, 0.03), (0.0, 0.03), (0.0, 0.03)),
    "lung": ((0.0, 0.1), (0.0, 0.1), (0.0, 0.12)),
    "fat": ((0.75, 1.0), (0.45, 0.95), (0.6, 0.9)),
    "fluid": ((0.05, 0.25), (0.8, 1.0), (0.7, 0.95)),
    "bowel": ((0.1, 0.6), (0.2, 0.9), (0.2, 0.8)),
    "soft": ((0.3, 0.6), (0.25, 0.6), (0.4, 0.75)),
    "muscle": ((0.25, 0.42), (0.1, 0.3), (0.35, 0.55)),
    "organ": ((0.35, 0.65), (0.2, 0.6), (0.4, 0.7)),
    "lesion": ((0.1, 0.7), (0.2, 0.95), (0.3, 0.95)),
    "vein": ((0.05, 0.9), (0.0, 0.6), (0.1, 0.9)),
    "blood": ((0.05, 1.0), (0.0, 0.9), (0.5, 1.0)),
    "marrow": ((0.5, 0.95), (0.35, 0.8), (0.5, 0.85)),
    "bone": ((0.3, 0.8), (0.2, 0.7), (0.3, 0.75)),
    "cortex": ((0.0, 0.12), (0.0, 0.1), (0.0, 0.12)),
    "brain": ((0.55, 0.8), (0.25, 0.45), (0.45, 0.7)),
    "grey": ((0.4, 0.6), (0.4, 0.6), (0.6, 0.8)),
    "liquor": ((0.05, 0.2), (0.8, 1.0), (0.6, 0.95)),
    "skin": ((0.4, 0.8), (0.3, 0.7), (0.4, 0.8)),
    "disc": ((0.25, 0.45), (0.1, 0.95), (0.4, 0.8)),
    "gland": ((0.3, 0.5), (0.45, 0.9), (0.5, 0.8)),
    "septum": ((0.2, 0.5), (0.1, 0.4), (0.3, 0.6)),
}


class MRSettings(Config):
    """MR: `noise` is the standard deviation of either channel relative to white.

    `bias` is the standard deviation of the nodes of a smooth field, whose own is 0.6 of that; the signal is
    multiplied by the field's exponential. Shares of the images: `truncation_share` with k-space cut short
    (ringing), `ghost_share` with ghosts, `thick_slice_share` from a thick slice.
    """

    noise: Positive = (0.005, 0.09)
    bias: Bias = (0.0, 0.35)
    truncation_share: Share = 0.35
    ghost_share: Share = 0.15
    thick_slice_share: Share = 0.25


@dataclass(frozen=True, kw_only=True)
class MRScan(GridScan):
    """A scanner that measures magnitudes of a complex signal."""

    @staticmethod
    def draw_parameters(rng: np.random.Generator, settings: MRSettings) -> dict[str, float]:
        return {
            "noise": log_uniform(rng, settings.noise),
            "bias": rng.uniform(*settings.bias),
            "kept_x": rng.uniform(0.35, 0.9),
            "kept_y": rng.uniform(0.35, 0.9),
            "truncated": float(rng.random() < settings.truncation_share),
            "ghost": rng.uniform(0.05, 0.25) * (rng.random() < settings.ghost_share),
            "ghosts": float(rng.integers(2, 6)),
            "slice": rng.uniform(0.01, 0.05) * (rng.random() < settings.thick_slice_share),
            "psf": rng.uniform(0.0, 0.8),
        }

    def of_slice(self, place: Place) -> MRScan:
        """As the base's; how thick its slices are is the volume's."""
        return replace(super().of_slice(place), parameters=self.parameters | {"slice": 0.0})

    def _measure(self, ideal: Image, palette: Palette, rng: np.random.Generator) -> tuple[Image, Image]:
        p = self.parameters
        if p["slice"]:
            ideal = thick_slice(ideal, p["slice"], rng)
        ideal = gaussian_blur(ideal, p["psf"]) if p["psf"] > 0.3 else ideal
        # A smooth field in the logarithm, as in N3 (Sled, Zijdenbos & Evans, IEEE TMI 17(1), 1998).
        bias = np.exp(np.float32(p["bias"]) * upsample(self.coarse, ideal.shape, sharp=False))
        signal = np.maximum(ideal, 0) * bias
        if p["truncated"] or p["ghost"]:
            kept = (p["kept_y"], p["kept_x"]) if p["truncated"] else (1.0, 1.0)
            return k_space(signal, kept, p["noise"], p["ghost"], int(p["ghosts"]), rng), ideal
        return rician(signal, p["noise"], rng), ideal


@modality
class MR(Modality):
    """Sections through the body under any weighting."""

    name = "MR"
    plans: ClassVar = {
        "head": 0.24,
        "cardiac": 0.2,
        "crop": 0.16,
        "pelvis": 0.14,
        "spine": 0.08,
        "abdomen": 0.1,
        "free": 0.08,
        "gyri": 0.0,
        "cord": 0.0,
        "walls": 0.0,
        "rows": 0.0,
        "angiogram": 0.0,
    }
    settings = MRSettings
    cines = True

    def draw_palette(self, rng: np.random.Generator, physical: bool) -> Palette:
        if rng.random() >= 0.75:
            return Palette(any_values(rng), any_spread(rng))
        # Between two weightings lies every sequence; the mixture is drawn, not the sequence.
        first, second = rng.integers(3, size=2)
        mix = rng.uniform(0, 1) if rng.random() < 0.4 else 1.0
        values = {
            name: mix * rng.uniform(*_SIGNAL[name][first]) + (1 - mix) * rng.uniform(*_SIGNAL[name][second])
            for name in NAMES
        }
        return Palette(values, 0.03)

    def draw_scan(
        self, rng: np.random.Generator, size: int, field: Any, resolution: ResolutionConfig, settings: Any
    ) -> Scan:
        return MRScan.draw(rng, size, resolution, settings)


def rician(signal: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Magnitude of a signal with complex Gaussian noise of standard deviation `sigma` per channel [1]_.

    References
    ----------
    .. [1] H. Gudbjartsson, S. Patz, "The Rician distribution of noisy MRI data", Magn. Reson. Med. 34 (1995),
       910-914.
    """
    noise = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(sigma)
    return np.hypot(signal + noise[0], noise[1])


def k_space(
    signal: Image,
    kept: tuple[float, float],
    sigma: float,
    ghost: float,
    ghosts: int,
    rng: np.random.Generator,
) -> Image:
    """Magnitude image of a k-space of which the central part is measured, the rest zero (Gibbs ringing [1]_).

    Parameters
    ----------
    kept
        Measured share of the rows (y) and columns (x) of k-space.
    sigma
        Standard deviation of the noise per channel in the image.
    ghost, ghosts
        Every `ghosts`-th phase-encoding line (y), counted from the middle of k-space, deviates by `ghost` of
        its value, which makes ``ghosts - 1`` displaced copies of the image [2]_.

    References
    ----------
    .. [1] J. P. Czervionke et al., "Characteristic features of MR truncation artifacts", AJR 151 (1988),
       1219-1228.
    .. [2] M. L. Wood, R. M. Henkelman, "MR image artifacts from periodic motion", Med. Phys. 12 (1985),
       143-151.
    """
    height, width = signal.shape
    half = fft.rfft2(signal)
    rows = np.abs(np.fft.fftfreq(height)) <= 0.5 * kept[0]
    columns = np.arange(half.shape[1]) <= 0.5 * kept[1] * width
    half *= (rows[:, None] & columns).astype(np.float32)
    if ghost:
        lines = np.rint(np.fft.fftfreq(height, 1 / height)).astype(int)
        half[lines % ghosts == 0] *= np.float32(1 + ghost)
    share = float(rows.mean() * min(1.0, (2 * columns.sum() - 1) / width))
    clean = fft.irfft2(half, s=signal.shape, overwrite_x=True)
    noise = np.zeros((2, height, half.shape[1]), np.complex64)
    scale = np.float32(sigma * np.sqrt(height * width / 2 / max(share, 1e-3)))
    measured = int(rows.sum()), int(columns.sum())
    for channel in noise:
        white = rng.standard_normal((*measured, 2), np.float32).view(np.complex64)[..., 0]
        channel[np.ix_(rows, columns)] = white * scale
        even_power(channel, width)
    real, imaginary = (fft.irfft2(channel, s=signal.shape) for channel in noise)
    return np.hypot(clean + real, imaginary)


def thick_slice(image: Image, taper: float, rng: np.random.Generator) -> Image:
    """Average over a thick slice through which outlines drift by about 0.6 `taper` of the frame's side.

    `taper` is the standard deviation of the nodes of the drift, which is smooth between them.

    What a voxel shows is the mean over its extent: the partial volume model of Van Leemput et al. (IEEE TMI
    22(1), 2003) with three sheets.
    """
    height, width = image.shape
    drift = rng.standard_normal((2, 4, 4), np.float32) * np.float32(taper * max(height, width))
    dx, dy = (upsample(axis, image.shape, sharp=False) for axis in drift)
    y, x = np.ogrid[0:height, 0:width]
    x, y = x.astype(np.float32), y.astype(np.float32)
    return (image + bilinear(image, x + dx, y + dy) + bilinear(image, x - dx, y - dy)) / np.float32(3)
