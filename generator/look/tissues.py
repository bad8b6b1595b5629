"""Tissues, their grey values before noise, and what they do to what lies behind them.

Values are relative to the displayed range, 0 black and 1 white; a CT value may lie beyond it until the window
clips the image. The ranges that the modalities draw from are textbook knowledge of CT numbers, relaxation
times, echogenicity and reflectivity, widened; none was measured on an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NAMES = (
    "air",
    "lung",
    "fat",
    "fluid",
    "bowel",
    "soft",
    "muscle",
    "organ",
    "lesion",
    "vein",
    "blood",
    "marrow",
    "bone",
    "cortex",
    "brain",
    "grey",
    "liquor",
    "skin",
    "disc",
    "gland",
    "septum",
)
"""The tissues that every modality knows."""

_STIFF = ("bone", "cortex", "air", "lung")
"""Tissues behind which ultrasound finds nothing."""


@dataclass(frozen=True)
class Palette:
    """Drawn grey values.

    Attributes
    ----------
    values, spread
        Of each tissue its value, and how far two regions of it differ (standard deviation).
    ground
        The tissue behind all that was placed.
    shown
        Values beyond these are shown as they are: a step is seen from there.
    outside
        What lies beyond the field of view.
    window
        Of a CT, the window's lower end and width in Hounsfield units.
    """

    values: dict[str, float]
    spread: float
    ground: str = "air"
    shown: tuple[float, float] = (-np.inf, np.inf)
    outside: float = 0.0
    window: tuple[float, float] = (0.0, 1.0)


def any_values(rng: np.random.Generator) -> dict[str, float]:
    """Any grey value for every tissue."""
    return {name: float(rng.uniform(0, 1)) for name in NAMES}


def any_spread(rng: np.random.Generator) -> float:
    """How far regions of a tissue differ where it may have any grey value."""
    return float(rng.choice([0.03, 0.15]))


def absorption(rng: np.random.Generator, tissue: str) -> float:
    """Loss of echo level behind a tenth of the frame's depth of a tissue; negative is enhancement."""
    if tissue in _STIFF:
        return rng.uniform(0.1, 0.9)
    if tissue in ("fluid", "blood", "vein", "liquor"):
        return -rng.uniform(0.0, 0.12)
    if tissue == "lesion":
        return rng.uniform(-0.12, 0.25)
    return rng.normal(0, 0.015)
