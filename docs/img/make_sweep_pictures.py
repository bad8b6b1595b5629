"""Makes the sweeps of docs/generator.md, one setting a row: ``python docs/img/make_sweep_pictures.py``."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from synthfm.generator.canvas import outlines, shapes
from synthfm.generator.config import load_config
from synthfm.generator.folder.drawing import BAR, INK, PAPER, font
from synthfm.generator.scene import make_sample

HERE = Path(__file__).parent
SIDE, TEXT = 160, 18

QUIET = (
    *(
        "acquisition.MR.noise=[0.012, 0.012]",
        "acquisition.MR.bias=[0, 0]",
        "acquisition.low_resolution_share=0",
    ),
    *(f"acquisition.MR.{name}_share=0" for name in ("truncation", "ghost", "thick_slice")),
    *("appearance.gamma=[1, 1]", "appearance.inversion_share=0", "boundary.varying_edge_share=0"),
)
"""An MR scanner that hides nothing."""


class Sweep(NamedTuple):
    """One row: the values that a setting takes, all else as it is; a span is given as its one value."""

    preset: str
    index: int
    key: str
    values: tuple[float, ...]
    fixed: tuple[str, ...] = ()


BOUNDARIES = [
    Sweep("mr", 4, "boundary.edge_width", (0.5, 3, 7, 15, 30), QUIET),
    Sweep(
        "mr",
        4,
        "boundary.low_contrast",
        (0.3, 0.15, 0.07, 0.03, 0.01),
        (*QUIET, "boundary.low_contrast_share=1"),
    ),
    Sweep("mr", 4, "texture.strength", (0.003, 0.02, 0.05, 0.1, 0.2), QUIET),
    Sweep("mr", 4, "texture.shading", (0.0, 0.03, 0.06, 0.12, 0.24), QUIET),
]
SCANNERS = [
    Sweep("ct", 2, "acquisition.CT.noise", (0.008, 0.03, 0.06, 0.13, 0.25)),
    Sweep("mr", 4, "acquisition.MR.noise", (0.005, 0.03, 0.06, 0.09, 0.2), QUIET),
    Sweep("mr", 4, "acquisition.MR.bias", (0.0, 0.15, 0.35, 0.7, 1.4), QUIET),
    Sweep("us", 1, "acquisition.US.speckle", (0.6, 0.9, 1.6, 2.6, 5)),
    Sweep("us", 1, "acquisition.US.dynamic_range", (90, 75, 55, 40, 25)),
    Sweep("us", 1, "acquisition.US.shadow", (0.0, 0.5, 1, 2, 4)),
    Sweep("oct", 3, "acquisition.OCT.attenuation", (0.2, 0.5, 0.85, 1.2, 2.4)),
]


SHAPES: dict[str, tuple[str, tuple[float, ...]]] = {
    "ellipse": ("aspect", (0.3, 0.5, 0.65, 0.8, 1.0)),
    "star": ("amplitudes", (0.0, 0.5, 1, 2, 4)),
    "superellipse": ("exponent", (1.5, 2, 3, 5, 12)),
    "bent": ("bend", (0.0, 0.3, 0.6, 0.95, 1.5)),
    "lobed": ("lengths", (0.3, 0.6, 1, 1.5, 2)),
    "crescent": ("half_angle", (0.6, 0.9, 1.3, 1.8, 2.4)),
    "tube": ("radius", (0.03, 0.06, 0.12, 0.2, 0.3)),
    "tree": ("depth", (1, 2, 3, 4, 5)),
    "ring": ("thickness", (0.05, 0.15, 0.25, 0.4, 0.6)),
    "arc": ("sweep", (1, 2, 3.5, 5, 6)),
    "blob": ("roughness", (0.0, 0.1, 0.3, 0.6, 1.2)),
    "spiculated": ("lengths", (0.0, 0.5, 1, 1.5, 2)),
    "microlobulated": ("height", (0.0, 0.1, 0.2, 0.35, 0.5)),
    "pair": ("distance", (1.0, 1.2, 1.5, 1.8, 2.2)),
}
"""Each family's main parameter; of several numbers (lobes, amplitudes) a factor of what was drawn."""


def shape_picture() -> Image.Image:
    """A row a family, two families a line."""
    cell, columns, head = 64, 5, 18
    names = list(SHAPES)
    assert set(names) == set(shapes.FAMILIES)
    wide, tall = columns * cell + 12, cell + head
    sheet = Image.new("RGB", (2 * wide, (len(names) + 1) // 2 * tall), PAPER)
    pen = ImageDraw.Draw(sheet)
    for k, name in enumerate(names):
        key, values = SHAPES[name]
        drawn = shapes.FAMILIES[name].draw(np.random.default_rng(5))
        x, y = k % 2 * wide, k // 2 * tall
        times = "" if isinstance(drawn[key], (int, float)) else " times"
        pen.text(
            (x + 2, y + 2),
            f"{name}: {key}{times} {', '.join(f'{v:g}' for v in values)}",
            fill=INK,
            font=font(11),
        )
        for column, value in enumerate(values):
            one = value if not times else drawn[key] * np.float64(value)
            shape = shapes.make(name, {**drawn, key: one})
            placed = outlines.place(shape, (cell / 2, cell / 2), cell * 0.36, 0.0)
            mask, top, left = outlines.rasterise(placed, cell)
            sheet.paste(BAR, (x + column * cell + left, y + head + top), Image.fromarray(mask * 255))
    return sheet


def picture(sweeps: list[Sweep]) -> Image.Image:
    """A row a sweep, its values above the images."""
    columns = len(sweeps[0].values)
    sheet = Image.new("RGB", (columns * (SIDE + 4), len(sweeps) * (SIDE + 2 * TEXT + 6)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, sweep in enumerate(sweeps):
        top = row * (SIDE + 2 * TEXT + 6)
        pen.text((2, top + 3), sweep.key, fill=INK, font=font(13))
        for column, value in enumerate(sweep.values):
            config = load_config(sweep.preset, [*sweep.fixed, f"{sweep.key}=[{value}, {value}]"], size=SIDE)
            sample = make_sample(config, 21, sweep.index)
            left = column * (SIDE + 4)
            pen.text((left + 2, top + TEXT + 3), f"{value:g}", fill=INK, font=font(12))
            sheet.paste(Image.fromarray(sample.image), (left, top + 2 * TEXT))
    return sheet


if __name__ == "__main__":
    shape_picture().quantize(16).save(HERE / "generator_sweep_shapes.png", optimize=True)
    for name, sweeps in (("boundaries", BOUNDARIES), ("scanners", SCANNERS)):
        picture(sweeps).quantize(96).save(HERE / f"generator_sweep_{name}.png", optimize=True)
