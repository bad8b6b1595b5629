"""Ultrasound: field of view, beams, shadows, fully developed speckle, log compression.

An image is formed along beams, as in a scanner: echo levels are looked up on a grid of beams and depths,
scatterers of that strength are seen through a point-spread function that widens away from the focus, the
envelope is log-compressed (Dutt & Greenleaf, IEEE TMI 15(6), 1996), and the result is scan-converted to the
frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from synthfm.data.compiled import compiled
from synthfm.data.config import Config, Rising, Share
from synthfm.generator.canvas.section import Section
from synthfm.generator.look.appearance import Look
from synthfm.generator.look.tissues import NAMES, Palette, any_spread, any_values
from synthfm.generator.modalities.base import Display, Modality, Place, Scan, modality
from synthfm.generator.plans.tools import Plan
from synthfm.generator.raster.filters import Image, bilinear, convolve, gaussian_blur
from synthfm.generator.settings import AppearanceConfig, NotNegative, Positive, ResolutionConfig

# Log-compressed echo level.
_ECHO = {
    "air": (0.65, 0.95),
    "lung": (0.55, 0.9),
    "fat": (0.25, 0.55),
    "fluid": (0.0, 0.12),
    "bowel": (0.3, 0.7),
    "soft": (0.35, 0.65),
    "muscle": (0.25, 0.5),
    "organ": (0.35, 0.65),
    "lesion": (0.08, 0.5),
    "vein": (0.0, 0.15),
    "blood": (0.0, 0.16),
    "marrow": (0.4, 0.7),
    "bone": (0.8, 1.0),
    "cortex": (0.85, 1.05),
    "brain": (0.12, 0.4),
    "grey": (0.2, 0.5),
    "liquor": (0.0, 0.15),
    "skin": (0.6, 0.95),
    "disc": (0.3, 0.6),
    "gland": (0.4, 0.75),
    "septum": (0.5, 0.9),
}

_Looks = Annotated[int, Field(ge=1, le=8)]
# Beyond it the exponential of a dynamic range leaves what float32 can tell apart.
_Decibel = Annotated[float, Field(gt=0, le=200)]


class USSettings(Config):
    """Ultrasound: dynamic range in dB, compounded looks, `shadow` (what tissue absorbs times that).

    `speckle` is the standard deviation of the point-spread function across the beams at the focus, in pixels
    of a frame of 256 under a linear probe; along the beam it is 0.4 to 0.8 of that. In `covered_share` of the
    images black patches cover what was burned in (text, callipers, icons).
    """

    dynamic_range: Rising[_Decibel] = (40.0, 75.0)
    speckle: Positive = (0.9, 2.6)
    looks: Rising[_Looks] = (1, 3)
    shadow: NotNegative = (0.0, 1.0)
    covered_share: Share = 0.0


@dataclass(frozen=True)
class Probe:
    """Where the beams run, in pixels of the frame.

    Attributes
    ----------
    kind
        ``linear`` (parallel beams), ``curved`` or ``sector`` (beams from one apex).
    apex
        x, y of the point from which the beams come; of the top left corner for a linear probe.
    near, far
        First and last depth from the apex.
    half
        Half opening angle in radians; the width in pixels for a linear probe.
    """

    kind: str
    apex: tuple[float, float]
    near: float
    far: float
    half: float

    def beams(self, x: Image, y: Image) -> tuple[Image, Image]:
        """Beam and depth of pixels, both 0 to 1 within the field of view."""
        dx, dy = x - np.float32(self.apex[0]), y - np.float32(self.apex[1])
        if self.kind == "linear":
            return dx / np.float32(self.half), dy / np.float32(self.far)
        angle, radius = np.arctan2(dx, dy), np.sqrt(dx * dx + dy * dy)
        beam = (angle / np.float32(self.half) + 1) / 2
        return beam, (radius - np.float32(self.near)) / np.float32(self.far - self.near)

    def pixels(self, beam: Image, depth: Image) -> tuple[Image, Image]:
        """The inverse of :meth:`beams`."""
        if self.kind == "linear":
            return self.apex[0] + beam * np.float32(self.half), self.apex[1] + depth * np.float32(self.far)
        angle = (2 * beam - 1) * np.float32(self.half)
        radius = self.near + depth * np.float32(self.far - self.near)
        return self.apex[0] + radius * np.sin(angle), self.apex[1] + radius * np.cos(angle)

    def seen(self, size: int) -> NDArray[np.bool_]:
        """The pixels that the probe sees, bool (size, size)."""
        beam, depth = self.beams(*_pixel_grid(size))
        return (beam >= 0) & (beam <= 1) & (depth >= 0) & (depth <= 1)


def draw_probe(
    rng: np.random.Generator, size: int, kinds: tuple[str, ...] = ("linear", "curved", "sector")
) -> Probe:
    """Draw a field of view that fills most of a frame of `size` pixels, or is cropped by it."""
    kind = kinds[int(rng.integers(len(kinds)))]
    middle = (size - 1) / 2 + rng.normal(0, 0.02 * size)
    if kind == "linear":
        width = size * (rng.uniform(0.7, 1.0) if rng.random() < 0.3 else 1.05)
        deep = size * (rng.uniform(0.7, 1.0) if rng.random() < 0.3 else 1.05)
        corner = (middle - width / 2, (size - 1 - deep) / 2)
        return Probe(kind, corner, 0.0, float(deep), float(width))
    far = size * rng.uniform(0.9, 1.25)
    if kind == "sector":
        top = size * rng.uniform(-0.05, 0.06)
        return Probe(kind, (middle, float(top)), 0.01 * size, float(far), float(rng.uniform(0.55, 0.85)))
    behind = size * rng.uniform(0.15, 0.7)
    top = size * rng.uniform(-0.12, 0.04)
    return Probe(
        kind,
        (middle, float(top - behind)),
        float(behind),
        float(behind + far),
        float(rng.uniform(0.45, 0.75)),
    )


def _pixel_grid(size: int) -> tuple[Image, Image]:
    axis = np.arange(size, dtype=np.float32)
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


@lru_cache(maxsize=1)  # the same for all slices of a volume
def _geometry(probe: Probe, size: int, beams: int) -> tuple[Image, Image, Image, Image, NDArray[np.bool_]]:
    """Pixels x and y of the cells of beams and as many depths as the frame has rows, (size, beams); beam and
    depth of each pixel, in cells, and whether the probe does not see it, (size, size)."""
    beam, depth = np.meshgrid(
        np.linspace(0, 1, beams, dtype=np.float32), np.linspace(0, 1, size, dtype=np.float32)
    )
    x, y = (part.astype(np.float32) for part in probe.pixels(beam, depth))
    seen_beam, seen_depth = probe.beams(*_pixel_grid(size))
    outside = (seen_beam < 0) | (seen_beam > 1) | (seen_depth < 0) | (seen_depth > 1)
    return x, y, seen_beam * np.float32(beams - 1), seen_depth * np.float32(size - 1), outside


@compiled
def shadow(absorption: NDArray, strength: float) -> NDArray:
    """Echo level lost at each depth to what lies before it, along beams: float32 (depths, beams).

    `absorption` is the loss per tenth of the depth. The loss behind fluid is negative (enhancement), and
    bounded: time-gain compensation never makes up for more. As in Wein et al. (Medical Image Analysis 12(5),
    2008), what is lost accumulates along the beam; here in the logarithm, as the image shows it.
    """
    depths, beams = absorption.shape
    loss = np.zeros((depths, beams), np.float32)
    step = np.float32(10.0 * strength / depths)
    for i in range(1, depths):
        for j in range(beams):
            total = loss[i - 1, j] + step * absorption[i - 1, j]
            loss[i, j] = min(max(total, np.float32(-0.15)), np.float32(1.2))
    return loss


@compiled
def blur_rows(image: NDArray, sigma: NDArray) -> NDArray:
    """Gaussian blur along each row by its own standard deviation, unit energy (sum of squared taps is 1).

    At the ends of a row the taps that reach over it are missing, and the energy is that of the others.
    """
    height, width = image.shape
    out = np.zeros((height, width), np.float32)
    for i in range(height):
        radius = int(np.ceil(2.5 * sigma[i]))
        taps = np.empty(2 * radius + 1, np.float32)
        for k in range(-radius, radius + 1):
            taps[k + radius] = np.exp(-0.5 * (k / sigma[i]) ** 2)
        taps /= np.sqrt((taps * taps).sum())
        energy = np.cumsum(taps * taps)
        for k in range(-radius, radius + 1):
            tap = taps[k + radius]
            count = max(0, width - abs(k))
            line, source = out[i, max(0, -k) :], image[i, max(0, k) :]
            for j in range(count):
                line[j] += tap * source[j]
        for j in range(width):
            if radius <= j < width - radius:
                continue
            first, last = radius - min(radius, width - 1 - j), radius + min(radius, j)
            out[i, j] /= np.sqrt(energy[last] - (energy[first - 1] if first > 0 else 0.0))
    return out


def envelope(
    amplitude: Image,
    lateral: Image,
    axial: float,
    rng: np.random.Generator,
    echoes: Image | None = None,
) -> Image:
    """Envelope of the echo of random scatterers: fully developed speckle.

    Each cell holds many scatterers, so its echo is a circular complex Gaussian of standard deviation
    `amplitude` (per channel); the point-spread function adds neighbouring cells, and the envelope is Rayleigh
    distributed where the tissue is uniform, with a signal-to-noise ratio of ``sqrt(pi / (4 - pi)) = 1.91``
    [1]_.

    Parameters
    ----------
    amplitude
        float32 (depths, beams).
    lateral
        float32 (depths,), standard deviation of the point-spread function across the beams, in beams.
    axial
        The same along the beam, in depth samples.
    echoes
        What the scatterers of each cell send back, standard normal, float32 (2, depths, beams); drawn if not
        given.

    References
    ----------
    .. [1] C. B. Burckhardt, "Speckle in ultrasound B-mode scans", IEEE Trans. Sonics Ultrason. 25
       (1978), 1-6.
    """
    reach = max(1, int(np.ceil(2.5 * axial)))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / axial) ** 2)
    taps = (taps / np.sqrt((taps**2).sum())).astype(np.float32)
    power = np.zeros_like(amplitude)
    beyond = np.pad(amplitude, ((reach, reach), (0, 0)), mode="edge")  # scatterers above and below count too
    for channel_number in range(2):
        if echoes is None:
            channel = beyond * rng.standard_normal(beyond.shape, np.float32)
        else:
            channel = beyond * np.pad(echoes[channel_number], ((reach, reach), (0, 0)), mode="wrap")
        channel = convolve(channel, np.ones(1, np.float32), taps)[reach:-reach]
        channel = blur_rows(channel, lateral)
        power += channel * channel
    return np.sqrt(power)


@dataclass(frozen=True, kw_only=True)
class USScan(Scan):
    """A drawn ultrasound acquisition; lengths in pixels of a frame of 256."""

    probe: Probe
    dynamic_range: float
    lateral: float
    axial: float
    focus: float
    divergence: float
    looks: int
    floor: float
    shadow: float
    interface: float
    gain: tuple[float, ...]
    motion: NDArray[np.float32] | None = None

    def of_slice(self, place: Place) -> USScan:
        """As the base's; in a cine the scatterers are the same in all frames, and move with the tissue."""
        if place.motion is None:
            return super().of_slice(place)
        return replace(self, motion=place.motion)

    def _acquire(
        self, clean: Image, section: Section, look: Look, rng: np.random.Generator
    ) -> tuple[Image, Image]:
        return form_image(clean, look.absorption[section.region], self, rng)


def draw_scan(rng: np.random.Generator, probe: Probe, config: USSettings) -> USScan:
    """Draw the scanner's settings."""
    lateral = rng.uniform(*config.speckle)
    return USScan(
        probe=probe,
        dynamic_range=rng.uniform(*config.dynamic_range),
        lateral=lateral,
        axial=lateral * rng.uniform(0.4, 0.8),
        focus=rng.uniform(0.2, 0.8),
        divergence=rng.uniform(0.3, 1.2),
        looks=int(min(rng.integers(config.looks[0], config.looks[1] + 1, 2))),
        floor=rng.uniform(0.0, 0.12),
        shadow=rng.uniform(*config.shadow),
        interface=rng.uniform(0.0, 2.5),
        gain=tuple(rng.normal(0, 0.05, 4)),
        seed=int(rng.integers(2**63)),
    )


def form_image(
    clean: Image, absorption: Image, scan: USScan, rng: np.random.Generator
) -> tuple[Image, Image]:
    """The image of a probe, float32 (H, W) in 0 to 1, and the echo level without speckle, float32 (H, W).

    The second is `clean`, whose values may lie beyond 0 and 1, blurred by the mean width of a linear probe's
    point-spread function. Where other probes' beams run apart their own is narrower near the probe (a third
    of that at a fifth of a sector's depth) and wider far from it (1.8 times for a curved one).

    Parameters
    ----------
    clean
        Log-compressed echo level, float32 (H, W).
    absorption
        Echo level lost per tenth of the depth, float32 (H, W).
    """
    size = clean.shape[0]
    scale = size / 256
    depths, beams = size, max(32, (3 * size) // 4)
    x, y, seen_beam, seen_depth, outside = _geometry(scan.probe, size, beams)
    level = bilinear(clean, x, y)
    lost = gaussian_blur(bilinear(absorption, x, y), 1.0, 0.0)
    gain = np.interp(np.linspace(0, 1, depths), np.linspace(0, 1, 4), scan.gain).astype(np.float32)
    rise = np.zeros_like(level)
    np.abs(level[2:] - level[:-2], out=rise[1:-1])  # an interface across the beam reflects
    level = level + np.float32(scan.interface / 4) * gaussian_blur(rise, 1.0, 0.6)
    level = level - shadow(lost, scan.shadow) + gain[:, None]
    lateral_pixels = (
        scan.lateral * scale * np.hypot(1.0, scan.divergence * (np.linspace(0, 1, depths) - scan.focus) * 2)
    )
    linear = scan.probe.kind == "linear"
    wide, deep = (scan.probe.half, scan.probe.far) if linear else (size, size)
    lateral = np.maximum(lateral_pixels * beams / wide, 0.5).astype(np.float32)
    axial = max(0.5, scan.axial * scale * depths / deep)
    decibel = np.float32(scan.dynamic_range * np.log(10) / 20)
    # Half the mean power of an echo of amplitude 1 lies in each channel.
    amplitude = np.exp((np.clip(level, -0.4, 1.3) - 1) * decibel) * np.float32(np.sqrt(0.5))
    noise = np.float32(np.exp((scan.floor - 1) * decibel))
    shown = np.zeros_like(amplitude)
    echoes = None if scan.motion is None else _moved_echoes(scan, scan.motion, x, y, size)
    for k in range(scan.looks):
        own = None if echoes is None else echoes[k]
        echo = envelope(np.hypot(amplitude, noise), lateral, axial, rng, own)
        shown += np.log(np.maximum(echo, np.float32(1e-6))) / decibel + 1
    shown /= np.float32(scan.looks)
    image = bilinear(shown, seen_beam, seen_depth)
    image = np.clip(image, 0, 1)
    image[outside] = 0
    expected = gaussian_blur(clean, float(np.mean(lateral_pixels)), max(0.5, scan.axial * scale))
    return image, expected


def _moved_echoes(scan: USScan, motion: NDArray[np.float32], x: Image, y: Image, size: int) -> Image:
    """The echoes of a cine's scatterers where they have moved to, for each look: (looks, 2, *of `x`)."""
    u, v = ((position * np.float32(32 / size)).astype(np.float32) for position in (x, y))
    before = x - bilinear(motion[0], u, v), y - bilinear(motion[1], u, v)
    beam, depth = scan.probe.beams(*(part.astype(np.float32) for part in before))
    depths, beams = x.shape
    rows, columns = np.rint(depth * (depths - 1)).astype(int), np.rint(beam * (beams - 1)).astype(int)
    drawn = _echoes(scan.seed, (2 * scan.looks, depths * beams))
    moved = drawn[:, ((rows % depths) * beams + columns % beams).ravel()]
    return moved.reshape(scan.looks, 2, depths, beams)


@lru_cache(maxsize=1)  # the same in all frames of a cine
def _echoes(seed: int, shape: tuple[int, int]) -> Image:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@modality
class US(Modality):
    """Echo levels under a probe; black patches cover what was burned in."""

    name = "US"
    plans: ClassVar = {
        "layers": 0.34,
        "fetal": 0.2,
        "chambers": 0.16,
        "upper_abdomen": 0.16,
        "free": 0.14,
        "walls": 0.0,
        "rows": 0.0,
        "angiogram": 0.0,
    }
    settings = USSettings
    negatives = False
    cines = True

    def draw_field(self, rng: np.random.Generator, size: int, plan: Plan, settings: USSettings) -> Probe:
        return draw_probe(rng, size, plan.probes or ("linear", "curved", "sector"))

    def draw_palette(self, rng: np.random.Generator, physical: bool) -> Palette:
        if not physical:
            return Palette(any_values(rng), any_spread(rng), ground="soft")
        gain = rng.normal(0, 0.06)
        return Palette({name: rng.uniform(*_ECHO[name]) + gain for name in NAMES}, 0.05, ground="soft")

    def draw_scan(
        self,
        rng: np.random.Generator,
        size: int,
        field: Probe,
        resolution: ResolutionConfig,
        settings: USSettings,
    ) -> USScan:
        return draw_scan(rng, field, settings)

    def draw_display(
        self, rng: np.random.Generator, size: int, appearance: AppearanceConfig, settings: USSettings
    ) -> Display:
        shown = super().draw_display(rng, size, appearance, settings)
        if rng.random() >= settings.covered_share:
            return shown
        return replace(shown, patches=tuple(_draw_patch(rng, size) for _ in range(int(rng.integers(1, 3)))))


def _draw_patch(rng: np.random.Generator, size: int) -> tuple[slice, slice]:
    """A rectangle in a corner of the frame."""
    high, wide = (round(size * rng.uniform(0.1, 0.42)) for _ in range(2))
    rows = slice(0, high) if rng.random() < 0.5 else slice(size - high, None)
    columns = slice(0, wide) if rng.random() < 0.5 else slice(size - wide, None)
    return rows, columns
