"""Optical coherence tomography of the retina: layers, foveal pit, fluid, shadows below vessels, speckle.

An image is a row of A-scans, one a column, with light from above. Light is scattered once and attenuated on
its way down and up [1]_; the interference of many scatterers in a cell of the resolution is speckle [2]_; the
sensitivity of a spectrometer falls with depth [3]_; the logarithm of the mean of some frames is shown. The
foveal pit is a difference of Gaussians [4]_.

References
----------
.. [1] K. A. Vermeer et al., "Depth-resolved model-based reconstruction of attenuation coefficients in optical
   coherence tomography", Biomed. Opt. Express 5 (2014), 322-337.
.. [2] J. M. Schmitt, S. H. Xiang, K. M. Yung, "Speckle in optical coherence tomography", J. Biomed. Opt. 4
   (1999), 95-105.
.. [3] N. A. Nassif et al., "In vivo high-resolution video-rate spectral-domain optical coherence tomography
   of the human retina and optic nerve", Opt. Express 12 (2004), 367-376.
.. [4] A. M. Dubis et al., "Reconstructing foveal pit morphology from optical coherence tomography imaging",
   Br. J. Ophthalmol. 93 (2009), 1223-1227.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from synthfm.data.config import Config, Rising
from synthfm.generator.canvas import outlines
from synthfm.generator.canvas.layout import Canvas
from synthfm.generator.canvas.section import Section
from synthfm.generator.look.appearance import Look
from synthfm.generator.look.tissues import Palette, any_spread, any_values
from synthfm.generator.modalities.base import Modality, Scan, modality
from synthfm.generator.modalities.ultrasound import envelope, shadow
from synthfm.generator.plans.tools import plan
from synthfm.generator.raster.filters import Image, gaussian_blur, upsample
from synthfm.generator.settings import NotNegative, Positive, ResolutionConfig

# Log-compressed reflectivity of each tissue, and the level lost below a tenth of the frame's depth of it.
_TISSUES = {
    "vitreous": ((0.0, 0.1), (0.0, 0.0)),
    "nerve_fibre": ((0.62, 0.84), (0.02, 0.15)),
    "ganglion": ((0.48, 0.64), (0.0, 0.06)),
    "nuclear_inner": ((0.3, 0.44), (0.0, 0.04)),
    "plexiform_outer": ((0.5, 0.68), (0.0, 0.05)),
    "nuclear_outer": ((0.2, 0.36), (0.0, 0.03)),
    "ellipsoid": ((0.78, 1.0), (0.0, 0.15)),
    "outer_segment": ((0.5, 0.72), (0.0, 0.1)),
    "pigment": ((0.86, 1.05), (0.3, 1.0)),
    "drusen": ((0.42, 0.7), (0.05, 0.2)),
    "choroid": ((0.55, 0.76), (0.12, 0.3)),
    "lumen": ((0.3, 0.48), (0.02, 0.12)),
    "sclera": ((0.45, 0.7), (0.2, 0.4)),
    "vessel": ((0.6, 0.85), (0.3, 1.1)),
    "fluid": ((0.0, 0.1), (0.0, 0.0)),
    "hyaloid": ((0.25, 0.5), (0.0, 0.0)),
}

# From the vitreous down: tissue, share of the thickness, and how much thicker it is in the foveal pit.
_LAYERS = (
    ("nerve_fibre", 0.1, -1.0),
    ("ganglion", 0.26, -0.99),
    ("nuclear_inner", 0.13, -0.97),
    ("plexiform_outer", 0.08, -0.4),
    ("nuclear_outer", 0.24, 0.5),
    ("ellipsoid", 0.055, 0.0),
    ("outer_segment", 0.065, 0.6),
    ("pigment", 0.07, 0.0),
)

_Looks = Annotated[int, Field(ge=1, le=8)]


class OCTSettings(Config):
    """Optical coherence tomography: `dynamic_range` in dB of what is shown, `looks` frames that are averaged.

    `axial` and `lateral` are standard deviations of the point-spread function in pixels of a frame of 256;
    `attenuation` times what tissue attenuates is lost, `roll_off` of the range at the bottom of the frame.
    """

    dynamic_range: Positive = (28.0, 45.0)
    looks: Rising[_Looks] = (2, 6)
    axial: Positive = (0.55, 1.0)
    lateral: Positive = (0.6, 1.6)
    attenuation: NotNegative = (0.5, 1.2)
    roll_off: NotNegative = (0.0, 0.2)


@dataclass(frozen=True, kw_only=True)
class OCTScan(Scan):
    """A drawn acquisition.

    Attributes
    ----------
    dynamic_range, looks, axial, lateral, roll_off
        As :class:`OCTSettings` has them.
    attenuation
        By tissue, level lost per tenth of the frame's depth.
    floor
        Level of the detector's noise.
    opacity
        Nodes of the level lost to the eye's media before the retina, by A-scan, (12,).
    """

    dynamic_range: float
    looks: int
    axial: float
    lateral: float
    roll_off: float
    attenuation: dict[str, float]
    floor: float
    opacity: Image

    def _acquire(
        self, clean: Image, section: Section, look: Look, rng: np.random.Generator
    ) -> tuple[Image, Image]:
        size, scale = len(clean), len(clean) / 256
        by_number = np.zeros(256, np.float32)
        for region in section.regions.values():
            by_number[region.number] = self.attenuation.get(region.tissue, 0.02)
        lost = shadow(gaussian_blur(by_number[section.region], 1.4 * scale, 0.0), 1.0)
        lost = lost + np.float32(self.roll_off) * np.linspace(0, 1, size, dtype=np.float32)[:, None] ** 2
        lost += upsample(np.broadcast_to(self.opacity, (4, len(self.opacity))), clean.shape, sharp=False)
        decibel = np.float32(self.dynamic_range * np.log(10) / 20)
        # Half the mean power of an echo of amplitude 1 lies in each channel.
        amplitude = np.exp((np.clip(clean - lost, -1, 1.3) - 1) * decibel) * np.float32(np.sqrt(0.5))
        noise = np.float32(np.exp((self.floor - 1) * decibel) * np.sqrt(0.5))
        lateral = np.full(size, max(0.4, self.lateral * scale), np.float32)
        axial = max(0.4, self.axial * scale)
        power = np.zeros_like(clean)
        for _ in range(self.looks):
            detector = rng.standard_normal((2, *clean.shape), np.float32) * noise
            power += envelope(amplitude, lateral, axial, rng) ** 2 + detector[0] ** 2 + detector[1] ** 2
        shown = np.log(np.maximum(power / np.float32(self.looks), np.float32(1e-9))) / (2 * decibel) + 1
        return np.clip(shown, 0, 1), gaussian_blur(clean, float(lateral[0]), axial)


@modality
class OCT(Modality):
    """Sections through the retina."""

    name = "OCT"
    plans: ClassVar = {"retina": 1.0}
    settings = OCTSettings

    def draw_palette(self, rng: np.random.Generator, physical: bool) -> Palette:
        values = any_values(rng)
        if not physical:
            values |= {name: float(rng.uniform(0, 1)) for name in _TISSUES}
            return Palette(values, any_spread(rng), ground="vitreous")
        values |= {name: rng.uniform(*level) for name, (level, _) in _TISSUES.items()}
        return Palette(values, 0.02, ground="vitreous")

    def draw_scan(
        self, rng: np.random.Generator, size: int, field: Any, resolution: ResolutionConfig, settings: Any
    ) -> OCTScan:
        strength = rng.uniform(*settings.attenuation)
        opacity = np.abs(rng.normal(0, 0.12, 12)) * (rng.random(12) < 0.35)
        opacity += rng.uniform(0, 0.2) * np.linspace(-1, 1, 12) ** 2  # less light at the pupil's edge
        return OCTScan(
            dynamic_range=rng.uniform(*settings.dynamic_range),
            looks=int(rng.integers(settings.looks[0], settings.looks[1] + 1)),
            axial=rng.uniform(*settings.axial),
            lateral=rng.uniform(*settings.lateral),
            roll_off=rng.uniform(*settings.roll_off),
            attenuation={name: strength * rng.uniform(*loss) for name, (_, loss) in _TISSUES.items()},
            floor=rng.uniform(-0.1, 0.12),
            opacity=opacity.astype(np.float32),
            seed=int(rng.integers(2**63)),
        )


def _dome(x: NDArray[np.float64], middle: float, half: float, height: float) -> NDArray[np.float64]:
    """A smooth elevation that ends at `half` from its middle."""
    return height * np.maximum(0, 1 - ((x - middle) / half) ** 2) ** 1.5


def _band(
    canvas: Canvas,
    x: NDArray[np.float64],
    upper: NDArray[np.float64],
    lower: NDArray[np.float64],
    tissue: str,
    labelled: float,
    parent: int | None = 0,
) -> int | None:
    """A layer between two curves; where they meet it has no pixels, and may be in pieces."""
    points = np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])
    shape = outlines.from_parts("band", [[points]], connected=False)
    return canvas.put(shape, (0, 0), 1, parent=parent, tissue=tissue, labelled=labelled, least=0.05)


@plan(upright=True)
def retina(canvas: Canvas) -> None:
    """Layers between vitreous and choroid, most often with the fovea; fluid, cysts and drusen in some."""
    rng = canvas.rng
    x = np.linspace(-3, 3, 361)
    thick = rng.uniform(0.42, 0.85)
    floor = rng.uniform(0.1, 0.45) + rng.normal(0, 0.08) * x + rng.normal(-0.02, 0.05) * x**2
    for k in range(1, 5):
        floor = floor + rng.normal(0, 0.012 / k) * np.sin(2 * k * x + canvas.turn())
    sick = canvas.chance(0.55)
    drusen = np.zeros_like(x)
    for _ in range(int(rng.integers(1, 9)) if sick and canvas.chance(0.4) else 0):
        half = rng.uniform(0.03, 0.12) if canvas.chance(0.8) else rng.uniform(0.2, 0.5)
        drusen = np.maximum(drusen, _dome(x, rng.uniform(-1.1, 1.1), half, half * rng.uniform(0.2, 0.6)))
    lifted = np.zeros_like(x)
    if sick and canvas.chance(0.4):
        half = rng.uniform(0.2, 0.8)
        lifted = _dome(x, rng.uniform(-0.7, 0.7), half, half * rng.uniform(0.1, 0.35))
    # The pit, a difference of Gaussians: the inner layers end in its middle and are thickest on its rim.
    fovea = canvas.chance(0.75)
    away = (x - rng.normal(0, 0.25)) / rng.uniform(0.16, 0.34)
    pit = np.exp(-0.5 * away**2) * fovea
    rim = 0.25 * np.exp(-0.5 * (away / 2.6) ** 2) * fovea
    nasal = np.clip(np.exp(rng.normal(0, 0.7) * x), 0.25, 3.0)  # fibres gather towards the optic disc
    deep = {}
    for tissue, share, middle in _LAYERS:
        part = share * rng.uniform(0.75, 1.3) * thick * np.maximum(1 + middle * pit, 0.0)
        if middle < -0.9:
            part = part * (1 + rim)
        wave = 1 + rng.normal(0, 0.06) * np.sin(rng.uniform(1, 4) * x + canvas.turn())
        deep[tissue] = part * wave * (nasal if tissue == "nerve_fibre" else 1.0)
    faces = {"pigment": (floor - drusen - deep["pigment"], floor - drusen)}
    low = faces["pigment"][0] - lifted
    for tissue, _, _ in _LAYERS[-2::-1]:
        faces[tissue] = (low - deep[tissue], low)
        low = faces[tissue][0]
    if canvas.chance(0.2):  # the hyaloid, detached
        path = low - rng.uniform(0.05, 0.3) - rng.uniform(0, 0.15) * x**2
        half = rng.uniform(0.003, 0.008)
        _band(canvas, x, path - half, path + half, "hyaloid", 0.0)
    whole = _band(canvas, x, low, floor, "nuclear_outer", 0.35)
    numbers = {}
    for tissue, _, _ in _LAYERS:
        numbers[tissue] = _band(canvas, x, *faces[tissue], tissue, 0.75, whole)
    if lifted.any():
        bottom = faces["pigment"][0]
        _band(canvas, x, bottom - lifted, bottom, "fluid", 1.0, whole)
    if drusen.any():
        _band(canvas, x, floor - drusen, floor, "drusen", 0.8, whole)
    _inner_retina(canvas, numbers, sick)
    _choroid(canvas, x, floor)


def _inner_retina(canvas: Canvas, numbers: dict[str, int | None], sick: bool) -> None:
    """Vessels with their shadows, and in some cysts and bright foci."""
    rng = canvas.rng
    for _ in range(int(rng.integers(0, 6))):
        layer = numbers[canvas.pick(("nerve_fibre", "ganglion", "ganglion"))]
        if layer:
            at, size = canvas.somewhere(layer), rng.uniform(0.015, 0.05)
            canvas.put("ellipse", at, (size, 0.8 * size), parent=layer, tissue="vessel", labelled=0.4)
    if not sick:
        return
    if canvas.chance(0.6):
        for name in ("nuclear_inner", "nuclear_outer", "ganglion"):
            layer, most = numbers[name], rng.uniform(0.04, 0.16)
            for _ in range(int(rng.integers(0, 6)) if layer else 0):
                at, size = canvas.somewhere(layer or 0), most * rng.uniform(0.3, 1.0)
                family, flat = canvas.pick(("ellipse", "star", "star", "bent")), rng.uniform(0.5, 1.1)
                canvas.put(family, at, (size, flat * size), rng.normal(0, 0.3), parent=layer, tissue="fluid")
    for _ in range(int(rng.integers(0, 9)) if canvas.chance(0.4) else 0):
        layer = numbers[canvas.pick(("nuclear_inner", "plexiform_outer", "nuclear_outer"))]
        if layer:
            at, size = canvas.somewhere(layer), rng.uniform(0.008, 0.02)
            canvas.put("star", at, size, parent=layer, tissue="pigment", labelled=0.1)


def _choroid(canvas: Canvas, x: NDArray[np.float64], floor: NDArray[np.float64]) -> None:
    """The choroid with its vessels, larger the deeper they lie, and the sclera."""
    rng = canvas.rng
    thick = rng.uniform(0.12, 0.5) * (1 + rng.normal(0, 0.2) * x)
    thick = np.maximum(thick + rng.normal(0, 0.02) * np.sin(rng.uniform(3, 8) * x + canvas.turn()), 0.05)
    choroid = _band(canvas, x, floor, floor + thick, "choroid", 0.5)
    for _ in range(int(rng.integers(8, 40)) if choroid else 0):
        at, size = canvas.somewhere(choroid or 0), 0.12 * np.exp(rng.uniform(-1.8, 0))
        family, flat = canvas.pick(("ellipse", "bent", "star")), rng.uniform(0.4, 0.9)
        canvas.put(
            family, at, (size, flat * size), rng.normal(0, 0.3), parent=choroid, tissue="lumen", labelled=0.03
        )
    _band(canvas, x, floor + thick, floor + thick + rng.uniform(0.3, 2.0), "sclera", 0.1)
