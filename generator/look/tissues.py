"""Grey values of tissues before noise: in the order that the physics of a modality gives them, or any.

Values are relative to the displayed range, 0 black and 1 white; a CT value may lie beyond it until the window
clips the image. The ranges are textbook knowledge of CT numbers, relaxation times and echogenicity, widened;
none was measured on an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Hounsfield units.
_CT = {
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

# Relative signal under T1, T2 and proton-density weighting.
_MR = {
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

# Log-compressed echo level.
_US = {
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

# Brightness of a projection: what absorbs X-rays is bright.
_XR = {
    "air": (0.0, 0.08),
    "lung": (0.08, 0.35),
    "fat": (0.3, 0.45),
    "soft": (0.4, 0.6),
    "organ": (0.55, 0.85),
    "lesion": (0.3, 0.8),
    "marrow": (0.6, 0.8),
    "bone": (0.7, 1.0),
}

NAMES = tuple(_CT)
_STIFF = ("bone", "cortex", "air", "lung")
"""Tissues behind which ultrasound finds nothing."""


@dataclass(frozen=True)
class Palette:
    """Drawn grey values: of each tissue its value and how far two regions of it differ (standard deviation).

    `window` is the CT window's lower end and width in Hounsfield units; for other modalities it only says
    what the values would be, so that every image can be taken by every scanner.
    """

    values: dict[str, float]
    spread: float
    window: tuple[float, float]


def draw_palette(rng: np.random.Generator, modality: str, physical: bool) -> Palette:
    """Draw the grey value of every tissue under a modality, or under ``XR``, a projection."""
    if modality == "CT":
        weights = np.array([window[2] for window in _WINDOWS])
        level, width, _ = _WINDOWS[int(rng.choice(len(_WINDOWS), p=weights / weights.sum()))]
        wide = rng.uniform(*width)
        low = rng.uniform(*level) - wide / 2
        if physical:
            units = {name: rng.uniform(*_CT[name]) for name in NAMES}
            return Palette({name: (hu - low) / wide for name, hu in units.items()}, 10 / wide, (low, wide))
        return Palette(_anything(rng), 0.04, (low, wide))
    window = (-160.0, 400.0)
    if modality == "XR" and physical:
        return Palette(
            _anything(rng) | {name: rng.uniform(*span) for name, span in _XR.items()}, 0.03, window
        )
    if modality == "MR" and rng.random() < 0.75:
        # Between two weightings lies every sequence; the mixture is drawn, not the sequence.
        first, second = rng.integers(3, size=2)
        mix = rng.uniform(0, 1) if rng.random() < 0.4 else 1.0
        values = {
            name: mix * rng.uniform(*_MR[name][first]) + (1 - mix) * rng.uniform(*_MR[name][second])
            for name in NAMES
        }
        return Palette(values, 0.03, window)
    if modality == "US" and physical:
        gain = rng.normal(0, 0.06)
        return Palette({name: rng.uniform(*_US[name]) + gain for name in NAMES}, 0.05, window)
    return Palette(_anything(rng), float(rng.choice([0.03, 0.15])), window)


def _anything(rng: np.random.Generator) -> dict[str, float]:
    return {name: float(rng.uniform(0, 1)) for name in NAMES}


def absorption(rng: np.random.Generator, tissue: str) -> float:
    """Loss of echo level behind a tenth of the frame's depth of a tissue; negative is enhancement."""
    if tissue in _STIFF:
        return rng.uniform(0.1, 0.9)
    if tissue in ("fluid", "blood", "vein", "liquor"):
        return -rng.uniform(0.0, 0.12)
    if tissue == "lesion":
        return rng.uniform(-0.12, 0.25)
    return rng.normal(0, 0.015)
