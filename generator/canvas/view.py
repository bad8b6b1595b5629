"""Where the frame lies in the anatomy: zoom, turn, mirror, and the smooth deformation of a whole scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthfm.generator.raster.filters import upsample
from synthfm.generator.raster.kernels import displaced, undisplaced


@dataclass(frozen=True)
class View:
    """How anatomical coordinates (x right, y down, a body about 2 wide) map to pixels.

    Attributes
    ----------
    scale
        Pixels per unit.
    focus
        The anatomical point in the middle of the frame.
    angle, mirror
        Turn in radians, and -1 to mirror left and right.
    size
        Side of the frame in pixels.
    displacement
        Smooth deformation of the whole scene: float32 (2, 33, 33), shifts in pixels over the frame.
    """

    scale: float
    focus: tuple[float, float]
    angle: float
    mirror: int
    size: int
    displacement: NDArray[np.float32]

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """Pixel of an anatomical point, before the deformation."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        dx, dy = self.mirror * (x - self.focus[0]) * self.scale, (y - self.focus[1]) * self.scale
        middle = (self.size - 1) / 2
        return float(middle + c * dx - s * dy), float(middle + s * dx + c * dy)

    def to_anatomy(self, px: float, py: float) -> tuple[float, float]:
        """The anatomical point that a pixel shows: what is placed there lies, deformed, at the pixel."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        middle = (self.size - 1) / 2
        dx, dy = undisplaced(np.array([[px, py]], float), self.displacement, 32 / self.size)[0] - middle
        x, y = c * dx + s * dy, -s * dx + c * dy
        return float(self.mirror * x / self.scale + self.focus[0]), float(y / self.scale + self.focus[1])

    def deform(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixel positions (n, 2) after the scene's deformation."""
        return displaced(points, self.displacement, 32 / self.size)


def draw_displacement(rng: np.random.Generator, size: int, amplitude: float) -> NDArray[np.float32]:
    """A smooth displacement over the frame in pixels, float32 (2, 33, 33).

    `amplitude` is the standard deviation relative to `size` of its 5 by 5 nodes; its own is 0.57 of that.
    """
    coarse = rng.normal(0, amplitude * size, (2, 5, 5)).astype(np.float32)
    return np.stack([upsample(axis, (33, 33), sharp=False) for axis in coarse])
