"""What a modality is: grey values of tissues, field of view, scanner, display, and which plans it shows.

A modality is one file of this folder: a subclass of :class:`Modality`, registered by :func:`modality`. The
file's settings appear in the config as ``acquisition.NAME``, its plans as ``shapes.plans.NAME``, and its
name among the weights of ``modality``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from synthfm.data.config import Config
from synthfm.generator.canvas.section import Section
from synthfm.generator.look.appearance import Look
from synthfm.generator.look.tissues import Palette
from synthfm.generator.plans.tools import Plan
from synthfm.generator.raster.filters import Image, shrink, upsample
from synthfm.generator.settings import AppearanceConfig, ResolutionConfig


class FieldOfView(Protocol):
    """A drawn field of view."""

    def seen(self, size: int) -> NDArray[np.bool_]:
        """The pixels of a frame that it shows, bool (size, size)."""
        ...


@dataclass(frozen=True, eq=False)
class Place:
    """Which slice of a volume is scanned.

    Attributes
    ----------
    number
        From 0.
    height
        Over the middle of the volume, in sides of the frame; 0 in a cine.
    motion
        Of a frame of a cine: how far what a pixel shows has moved since the cine's reference, float32
        (2, 33, 33), pixels over the frame. None in a volume in space.
    """

    number: int
    height: float
    motion: NDArray[np.float32] | None = None


_Scan = TypeVar("_Scan", bound="Scan")
_GridScan = TypeVar("_GridScan", bound="GridScan")


@dataclass(frozen=True, kw_only=True)
class Scan(ABC):
    """A drawn acquisition; `seed` is that of its noise."""

    seed: int

    def acquire(self, clean: Image, section: Section, look: Look) -> tuple[Image, Image]:
        """The scanner's image of a clean one, and the same without noise, float32 (H, W): a pure function."""
        return self._acquire(clean, section, look, np.random.default_rng(self.seed))

    def of_slice(self: _Scan, place: Place) -> _Scan:
        """The same scan of one slice of a volume: its noise is its own."""
        seed = np.random.SeedSequence(self.seed, spawn_key=(place.number,)).generate_state(1, np.uint64)[0]
        return replace(self, seed=int(seed))

    @abstractmethod
    def _acquire(
        self, clean: Image, section: Section, look: Look, rng: np.random.Generator
    ) -> tuple[Image, Image]: ...


@dataclass(frozen=True, kw_only=True)
class GridScan(Scan):
    """A scanner that averages tissue over its own voxels (partial volume); its image is interpolated back.

    Attributes
    ----------
    grid
        Rows and columns of its voxels.
    smooth
        Interpolated to the frame by B-splines, else by Catmull-Rom.
    parameters
        What its model takes.
    coarse
        Nodes of a slow field (bias, shading), (4, 4), standard normal.
    """

    grid: tuple[int, int]
    smooth: bool
    parameters: dict[str, float]
    coarse: Image

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int, config: ResolutionConfig, settings: Any) -> GridScan:
        """Draw a scan for a frame of `size` pixels, with the modality's `settings`."""
        grid = (size, size)
        if rng.random() < config.low_resolution_share:
            coarse = min(np.exp(rng.uniform(*np.log(config.coarseness))), size / 24)
            other = max(1.0, coarse / rng.uniform(*config.anisotropy))
            grid = (max(16, round(size / coarse)), max(16, round(size / other)))
            grid = grid if rng.random() < 0.5 else grid[::-1]
        return cls(
            grid=grid,
            smooth=bool(rng.random() < 0.6),
            parameters=cls.draw_parameters(rng, settings),
            coarse=rng.standard_normal((4, 4), np.float32),
            seed=int(rng.integers(2**63)),
        )

    @staticmethod
    @abstractmethod
    def draw_parameters(rng: np.random.Generator, settings: Any) -> dict[str, float]:
        """Draw what the model takes."""

    def _acquire(
        self, clean: Image, section: Section, look: Look, rng: np.random.Generator
    ) -> tuple[Image, Image]:
        size = clean.shape
        ideal = shrink(clean, self.grid) if self.grid != size else clean
        image, ideal = self._measure(ideal, look.palette, rng)
        if self.grid != size:
            image, ideal = (upsample(part, size, sharp=not self.smooth) for part in (image, ideal))
        return image, ideal

    def of_slice(self: _GridScan, place: Place) -> _GridScan:
        """As :meth:`Scan.of_slice`; the slow field is three-dimensional."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0, 1)))
        turn = 2 * np.pi * place.height / rng.uniform(1.5, 4.0)
        other = rng.standard_normal(self.coarse.shape, np.float32)
        coarse = np.float32(np.cos(turn)) * self.coarse + np.float32(np.sin(turn)) * other
        return replace(super().of_slice(place), coarse=coarse)

    @abstractmethod
    def _measure(self, ideal: Image, palette: Palette, rng: np.random.Generator) -> tuple[Image, Image]:
        """What the scanner measures of its voxels, and the same without noise and artefacts."""


@dataclass(frozen=True)
class Display:
    """How grey values become an 8-bit image.

    Attributes
    ----------
    low, high
        Quantiles that become black and white.
    gamma, inverted
        Exponent of the grey values, and whether they are shown as a negative.
    patches
        Rows and columns that are covered in black.
    """

    low: float
    high: float
    gamma: float
    inverted: bool
    patches: tuple[tuple[slice, slice], ...] = ()


class Modality(ABC):
    """What images of one modality have of their own.

    Attributes
    ----------
    name
        As the shard names it.
    plans
        Which plans it shows, and how often.
    settings
        The model of ``acquisition.NAME``.
    gamma_share
        Share of the images whose display has a gamma.
    negatives
        Whether some are shown as negatives.
    cines
        Whether some of its volumes run through time.
    projects
        Whether its images are projections, of which there are no volumes.
    """

    name: ClassVar[str]
    plans: ClassVar[dict[str, float]]
    settings: ClassVar[type[Config]]
    gamma_share: ClassVar[float] = 0.6
    negatives: ClassVar[bool] = True
    cines: ClassVar[bool] = False
    projects: ClassVar[bool] = False

    def draw_field(
        self, rng: np.random.Generator, size: int, plan: Plan, settings: Any
    ) -> FieldOfView | None:
        """Draw the field of view; None for the whole frame."""
        return None

    @abstractmethod
    def draw_palette(self, rng: np.random.Generator, physical: bool) -> Palette:
        """Draw the grey values of all tissues; `physical` keeps them in the order that physics gives them."""

    @abstractmethod
    def draw_scan(
        self, rng: np.random.Generator, size: int, field: Any, resolution: ResolutionConfig, settings: Any
    ) -> Scan:
        """Draw the scanner's settings for a frame of `size` pixels."""

    def draw_display(
        self, rng: np.random.Generator, size: int, appearance: AppearanceConfig, settings: Any
    ) -> Display:
        """Draw how the image is shown."""
        low = rng.uniform(0.0, 0.01)
        high = 1 - np.exp(rng.uniform(np.log(0.001), np.log(0.02)))
        bent = rng.random() < self.gamma_share
        gamma = float(np.exp(rng.uniform(*np.log(appearance.gamma)))) if bent else 1.0
        inverted = bool(rng.random() < appearance.inversion_share * self.negatives)
        return Display(low, high, gamma, inverted)


MODALITIES: dict[str, Modality] = {}
"""All modalities by name."""

_Kind = TypeVar("_Kind", bound=type[Modality])


def modality(kind: _Kind) -> _Kind:
    """Register a modality."""
    MODALITIES[kind.name] = kind()
    return kind


def log_uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """A number whose logarithm is uniform over the span."""
    return float(np.exp(rng.uniform(*np.log(span))))
