"""Computed tomography."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synthfm.data.compiled import compiled
from synthfm.data.config import Config, Share
from synthfm.generator.canvas.section import OUTSIDE, Section
from synthfm.generator.look.appearance import Look
from synthfm.generator.look.textures import filtered, frequencies, standardise
from synthfm.generator.look.tissues import NAMES, Palette, any_values
from synthfm.generator.modalities.base import GridScan, Modality, Scan, log_uniform, modality
from synthfm.generator.plans.tools import Plan
from synthfm.generator.raster.filters import Image, gaussian_blur, shrink, upsample
from synthfm.generator.settings import Positive, ResolutionConfig

# Hounsfield units.
_UNITS = {
    "air": (-1000, -950),
    "lung": (-900, -700),
    "fat": (-120, -75),
    "fluid": (-5, 25),
    "bowel": (0, 90),
    "soft": (15, 75),
    "muscle": (40, 70),
    "organ": (35, 135),
    "lesion": (0, 120),
    "vein": (40, 190),
    "blood": (40, 380),
    "marrow": (80, 320),
    "bone": (250, 900),
    "cortex": (600, 1600),
    "brain": (25, 45),
    "grey": (32, 50),
    "liquor": (0, 15),
    "skin": (10, 60),
    "disc": (60, 120),
    "gland": (40, 110),
    "septum": (30, 90),
}

# Windows: level and width in Hounsfield units, with how often each is drawn.
_WINDOWS = (
    ((20, 70), (280, 520), 0.69),
    ((20, 60), (90, 200), 0.05),
    ((-650, -400), (1100, 1900), 0.09),
    ((250, 550), (1200, 2400), 0.09),
    ((-150, 150), (700, 1400), 0.08),
)


class CTSettings(Config):
    """CT: `noise` is its standard deviation over the window's width.

    Shares of the images: `streak_share` with dark bands between dense objects and streaks, `cupping_share`
    darker in the middle, `circle_share` cut to the round field of view.
    """

    noise: Positive = (0.008, 0.13)
    streak_share: Share = 0.3
    cupping_share: Share = 0.3
    circle_share: Share = 0.15


@dataclass(frozen=True)
class Circle:
    """The round field of view of a reconstruction, as wide as the frame."""

    def seen(self, size: int) -> NDArray[np.bool_]:
        """The pixels within, bool (size, size)."""
        y, x = np.ogrid[0:size, 0:size]
        middle = (size - 1) / 2
        return (x - middle) ** 2 + (y - middle) ** 2 <= (size / 2) ** 2


@dataclass(frozen=True, kw_only=True)
class CTScan(GridScan):
    """A scanner whose grey values are those of the palette's window; beyond the field of view is black."""

    @staticmethod
    def draw_parameters(rng: np.random.Generator, settings: CTSettings) -> dict[str, float]:
        streaks, cupping = rng.random() < settings.streak_share, rng.random() < settings.cupping_share
        return {
            "noise": log_uniform(rng, settings.noise),
            "cutoff": rng.uniform(0.15, 0.45),
            "psf": rng.uniform(0.3, 0.9),
            "hardening": rng.uniform(0.01, 0.06) * streaks,
            "starvation": rng.uniform(0.0, 0.04) * streaks,
            "cupping": rng.uniform(0.002, 0.012) * cupping,
        }

    def _acquire(
        self, clean: Image, section: Section, look: Look, rng: np.random.Generator
    ) -> tuple[Image, Image]:
        image, ideal = super()._acquire(clean, section, look, rng)
        image[section.region == OUTSIDE] = 0
        return image, ideal

    def _measure(self, ideal: Image, palette: Palette, rng: np.random.Generator) -> tuple[Image, Image]:
        p = self.parameters
        ideal = gaussian_blur(ideal, p["psf"])
        low, width = palette.window
        image = ideal
        attenuation = np.clip((ideal * np.float32(width) + np.float32(low)) / 1000 + 1, 0, 4)
        if p["hardening"] or p["cupping"]:
            n = min(64, *ideal.shape)
            error = beam_artefacts(
                shrink(attenuation, (n, n)), p["hardening"], p["starvation"], p["cupping"], rng
            )
            image = image + upsample(error - np.float32(np.median(error)), ideal.shape) * np.float32(
                1000 / width
            )
        # More noise where beams pass more tissue.
        thick = gaussian_blur(shrink(attenuation, (16, 16)), 2.5)
        local = upsample(0.4 + 0.6 * thick / max(float(thick.mean()), 0.1), ideal.shape, sharp=False)
        image = image + np.float32(p["noise"]) * local * ct_noise(rng, ideal.shape, p["cutoff"])
        return np.clip(image, 0, 1), np.clip(ideal, 0, 1)


@modality
class CT(Modality):
    """Sections through the body in Hounsfield units, windowed."""

    name = "CT"
    plans: ClassVar = {
        "abdomen": 0.42,
        "thorax": 0.2,
        "pelvis": 0.12,
        "head": 0.07,
        "spine": 0.07,
        "free": 0.08,
        "crop": 0.04,
        "angiogram": 0.0,
        "teeth": 0.0,
        "rows": 0.0,
        "gyri": 0.0,
        "cord": 0.0,
        "walls": 0.0,
    }
    settings = CTSettings
    gamma_share = 0.25

    def draw_field(
        self, rng: np.random.Generator, size: int, plan: Plan, settings: CTSettings
    ) -> Circle | None:
        return Circle() if rng.random() < settings.circle_share else None

    def draw_palette(self, rng: np.random.Generator, physical: bool) -> Palette:
        weights = np.array([window[2] for window in _WINDOWS])
        level, width, _ = _WINDOWS[int(rng.choice(len(_WINDOWS), p=weights / weights.sum()))]
        wide = rng.uniform(*width)
        low = rng.uniform(*level) - wide / 2
        if physical:
            units = {name: rng.uniform(*_UNITS[name]) for name in NAMES}
            values, spread = {name: (hu - low) / wide for name, hu in units.items()}, 10 / wide
        else:
            values, spread = any_values(rng), 0.04
        air = (-1000 - low) / wide
        return Palette(values, spread, shown=(0.0, 1.0), outside=air, window=(low, wide))

    def draw_scan(
        self, rng: np.random.Generator, size: int, field: Any, resolution: ResolutionConfig, settings: Any
    ) -> Scan:
        return CTScan.draw(rng, size, resolution, settings)


def ct_noise(rng: np.random.Generator, shape: tuple[int, int], cutoff: float) -> Image:
    """Quantum noise of filtered backprojection, unit variance.

    Its power spectrum rises with the frequency like the ramp filter that made it, and falls with the
    apodisation window: ``P(f) ~ f exp(-(f / cutoff)^2)`` [1]_.

    References
    ----------
    .. [1] S. J. Riederer, N. J. Pelc, D. A. Chesler, "The noise power spectrum in computed X-ray tomography",
       Phys. Med. Biol. 23 (1978), 446-454.
    """
    fy, fx = frequencies(shape)
    radius = np.sqrt(fy**2 + fx**2)
    return filtered(rng, shape, np.sqrt(radius) * np.exp(np.float32(-0.5 / cutoff**2) * radius**2))


@compiled
def project(image: NDArray, views: int) -> NDArray:
    """Parallel-beam line integrals of a square image over half a turn, float32 (views, 2 n).

    Along each ray one sample a row, or a column where the ray is nearer to those, interpolated linearly [1]_.
    Spreading pixels over the detector instead leaves ripples in the oblique views, and a hatch in the image.

    References
    ----------
    .. [1] P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Trans. Med.
       Imaging 1 (1982), 192-196.
    """
    n = image.shape[0]
    middle = (n - 1) / 2
    sinogram = np.zeros((views, 2 * n), np.float32)
    for view in range(views):
        c, s = np.cos(np.pi * view / views), np.sin(np.pi * view / views)
        by_rows = abs(c) > abs(s)
        along, across = (s, c) if by_rows else (c, s)
        weight = np.float32(1 / abs(across))
        for line in range(n):
            values = image[line] if by_rows else image[:, line]
            start = n + (line - middle) * along  # the detector where this line's middle is seen
            ends = start + (-1 - middle) * across, start + (n - middle) * across
            for k in range(max(0, int(np.ceil(min(ends)))), min(2 * n, int(np.floor(max(ends))) + 1)):
                at = (k - start) / across + middle
                j = int(np.floor(at))
                a = np.float32(at - j)
                if 0 <= j < n:
                    sinogram[view, k] += weight * (np.float32(1) - a) * values[j]
                if -1 <= j < n - 1:
                    sinogram[view, k] += weight * a * values[j + 1]
    return sinogram


@compiled
def _backproject(sinogram: NDArray, n: int) -> NDArray:
    views = sinogram.shape[0]
    image = np.zeros((n, n), np.float32)
    for view in range(views):
        c, s = np.cos(np.pi * view / views), np.sin(np.pi * view / views)
        for row in range(n):
            for column in range(n):
                at = (column - n / 2 + 0.5) * c + (row - n / 2 + 0.5) * s + n
                k = int(at)
                a = np.float32(at - k)
                image[row, column] += sinogram[view, k] + a * (sinogram[view, k + 1] - sinogram[view, k])
    return image


def reconstruct(sinogram: Image) -> Image:
    """Filtered backprojection of line integrals (views, 2 n) to an image (n, n)."""
    views, bins = sinogram.shape
    ramp = np.abs(np.fft.rfftfreq(2 * bins)).astype(np.float32)
    filtered_rows = fft.irfft(fft.rfft(sinogram, 2 * bins, axis=1) * ramp, axis=1)[:, :bins]
    image = _backproject(np.ascontiguousarray(filtered_rows, np.float32), bins // 2)
    return image * np.float32(np.pi / views)


def beam_artefacts(
    attenuation: Image, hardening: float, starvation: float, cupping: float, rng: np.random.Generator
) -> Image:
    """Error image of a polychromatic beam and few photons, in units of water's attenuation.

    `attenuation` is (n, n), water 1, n the number of pixels over about 40 cm. A beam hardens on its way, so
    that line integrals p are measured too small, by a term in their square: ``dp = -cupping p^2`` for all
    tissue darkens the middle, and ``-hardening p p_bone`` leaves dark bands between dense objects [1]_. Few
    photons pass where p is large; their noise, proportional to ``sqrt(exp(p))``, becomes streaks of standard
    deviation `starvation` [2]_.

    References
    ----------
    .. [1] P. M. Joseph, R. D. Spital, "A method for correcting bone induced artifacts in computed tomography
       scanners", J. Comput. Assist. Tomogr. 2 (1978), 100-108.
    .. [2] J. Hsieh, "Adaptive streak artifact reduction in computed tomography resulting from excessive x-ray
       photon noise", Med. Phys. 25 (1998), 2139-2147.
    """
    n = attenuation.shape[0]
    length = np.float32(8.0 / n)  # water's attenuation is about 0.2 per cm: 8 over 40 cm
    views = 64
    path = project(attenuation, views) * length
    dense = project(np.maximum(attenuation - np.float32(1.25), 0), views) * length
    error = -np.float32(cupping) * path**2 - np.float32(hardening) * path * dense
    image = reconstruct(error) / length
    if starvation > 0:
        noise = rng.standard_normal(path.shape, np.float32)
        noise *= np.exp(np.minimum(path, 10) * np.float32(0.5))
        image += np.float32(starvation) * standardise(reconstruct(noise))
    return image
