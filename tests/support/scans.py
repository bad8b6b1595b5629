"""A scan of two balls, for the tests of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.files import write_itk

SHAPE = (8, 56, 64)
SPACING = (1.0, 1.0, 4.0)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """A ball in a volume of which the slices lie four pixels apart, bool (Z, Y, X)."""
    z, y, x = np.indices(SHAPE)
    return ((z - centre[0]) * 4) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2


BALL, SMALL = ball((3.5, 26, 22), 13), ball((3.5, 36, 48), 8)


def write_balls(path: Path, direction: str = "LPS") -> Path:
    """A scan of two bright balls, :data:`BALL` and the smaller, brighter :data:`SMALL`."""
    noise = np.random.default_rng(0).normal(0, 4, SHAPE)
    values = (40 + 100 * BALL + 160 * SMALL + noise).astype(np.int16)
    return write_itk(path, values, SPACING, direction, (10.0, -20.0, 30.0))
