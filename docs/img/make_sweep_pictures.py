"""Makes the sweeps of docs/generator.md: ``python docs/img/make_sweep_pictures.py [NAME ...]``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

from synthfm.data.shards import Sample
from synthfm.generator import scene
from synthfm.generator.canvas import outlines, shapes, slender
from synthfm.generator.canvas.layout import Canvas
from synthfm.generator.canvas.outlines import Shape
from synthfm.generator.canvas.section import Section
from synthfm.generator.canvas.view import View, draw_displacement
from synthfm.generator.config import load_config
from synthfm.generator.folder.drawing import BAR, INK, PAPER, font
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.modalities.ultrasound import draw_probe
from synthfm.generator.plans.body import vertebra

HERE = Path(__file__).parent
SIDE, TEXT = 128, 18
OUTLINE = (230, 60, 40)

QUIET = (
    *("acquisition.MR.noise=[0.003, 0.003]", "acquisition.MR.bias=[0, 0]"),
    "acquisition.low_resolution_share=0",
    *(f"acquisition.MR.{name}_share=0" for name in ("truncation", "ghost", "thick_slice")),
    *("appearance.gamma=[1, 1]", "appearance.inversion_share=0", "appearance.relative_share=0"),
    *("texture.strength=[0.012, 0.012]", "texture.shading=[0, 0]", "texture.texture_only_share=0"),
    *(
        f"boundary.{name}_share=0"
        for name in ("varying_edge", "low_contrast", "weak_edge", "capsule", "leak")
    ),
    *("boundary.touching_share=0", "boundary.gap_share=0", "boundary.edge_width=[3, 3]"),
)
"""An MR scanner that hides nothing, and boundaries that do not either."""
SHARP = "acquisition.low_resolution_share=0"


class Sweep(NamedTuple):
    """One row: what one thing does, all else as it was drawn.

    Attributes
    ----------
    title
        What is swept, its unit, and the key that it is drawn from.
    preset, index
        Which sample.
    values
        From low to high.
    key
        A setting that takes the values; a span is given as its one value.
    look, scan
        What becomes of the drawn look or scan with a value.
    spacing
        Whether the values are pixels that all objects keep between them.
    probe
        Whether the values are kinds of ultrasound probe.
    fixed
        Settings that are the same in all of the row.
    outlined
        Whether the label map's outlines are drawn.
    """

    title: str
    preset: str
    index: int
    values: Sequence[Any]
    key: str = ""
    look: Callable[[Any, Any], Any] | None = None
    scan: Callable[[Any, Any], Any] | None = None
    spacing: bool = False
    probe: bool = False
    fixed: tuple[str, ...] = ()
    outlined: bool = False


def parameter(*names: str, **others: float) -> Callable[[Any, Any], Any]:
    """Of a scan on a grid one of its model's drawn numbers."""
    return lambda scan, value: replace(
        scan, parameters=scan.parameters | dict.fromkeys(names, value) | others
    )


def drawn(name: str) -> Callable[[Any, Any], Any]:
    """One of the drawn fields of a look or a scan."""
    return lambda what, value: replace(what, **{name: value})


def wider_leaks(look: Any, value: float) -> Any:
    return replace(look, leaks=tuple(replace(leak, half=leak.half * value) for leak in look.leaks))


def larger_spots(look: Any, value: float) -> Any:
    return replace(look, spots=look.spots * [1, 1, max(value, 1e-3)])


def rims(look: Any, value: float) -> Any:
    return replace(look, capsules=tuple((number, value, wide) for number, _, wide in look.capsules))


def softer(look: Any, value: float) -> Any:
    return replace(look, softness=look.softness * np.float32(value))


def gain(scan: Any, value: float) -> Any:
    return replace(scan, gain=(0.0, value / 3, 2 * value / 3, value))


BOUNDARIES = [
    Sweep("blur of all edges, thousandths of the side: boundary.edge_width", "mr", 2,
          (0.5, 3, 7, 15, 30), "boundary.edge_width", fixed=QUIET),
    Sweep("edges softer in places, times what was drawn: boundary.varying_edge_share", "mr", 2,
          (0, 0.5, 1, 2, 4), look=softer, fixed=(*QUIET, "boundary.varying_edge_share=1")),
    Sweep("difference from a neighbour, of the grey range: boundary.low_contrast", "mr", 2,
          (0.3, 0.15, 0.07, 0.03, 0.01), "boundary.low_contrast",
          fixed=(*QUIET, "boundary.low_contrast_share=1")),
    Sweep("neighbours that touch, share of the objects that get one: boundary.touching_share", "mr", 2,
          (0, 0.25, 0.5, 0.75, 1), "boundary.touching_share", fixed=QUIET, outlined=True),
    Sweep("gaps between objects, pixels (1 to 3 are drawn): boundary.gap_share", "mr", 2,
          (0, 1, 2, 3, 6), spacing=True, fixed=QUIET),
    Sweep("outlines that vanish, radius times what was drawn: boundary.weak_edge_share", "mr", 2,
          (0, 0.5, 1, 1.5, 2.5), look=larger_spots, fixed=(*QUIET, "boundary.weak_edge_share=1")),
    Sweep("leaks, width times what was drawn, label map outlined: boundary.leak_share", "mr", 2,
          (0, 0.5, 1, 2, 3), look=wider_leaks, fixed=(*QUIET, "boundary.leak_share=1"), outlined=True),
    Sweep("rims, step of the grey range: boundary.capsule_share", "mr", 2,
          (-0.5, -0.2, 0, 0.2, 0.5), look=rims, fixed=(*QUIET, "boundary.capsule_share=1")),
    Sweep("outlines beside the edges, thousandths of the side: boundary.margin", "mr", 9,
          (-20, -8, 0, 14, 28), "boundary.margin", fixed=(*QUIET, "boundary.margin_share=1"), outlined=True),
    Sweep("slow shading, of the grey range: texture.shading", "mr", 2,
          (0, 0.1, 0.2, 0.4, 0.8), "texture.shading", fixed=QUIET),
]  # fmt: skip
KINDS = ("spectral", "bandpass", "perlin", "simplex", "cellular", "fibres", "vessels")
TEXTURES = [
    Sweep(f"{kind}, standard deviation of the grey range: texture.strength", "mr", 18,
          (0.01, 0.03, 0.06, 0.1, 0.2), "texture.strength",
          fixed=(*QUIET, *(f"texture.kinds.{other}={int(other == kind)}" for other in KINDS)))
    for kind in KINDS
] + [
    Sweep("objects that differ by texture alone, others' strength: texture.texture_only_share", "mr", 16,
          (0.003, 0.01, 0.03, 0.06, 0.1), "texture.strength", fixed=(*QUIET, "texture.texture_only_share=1")),
]  # fmt: skip
CT = [
    Sweep("noise, of the window's width: acquisition.CT.noise", "ct", 2, (0.008, 0.03, 0.06, 0.13, 0.25),
          "acquisition.CT.noise"),
    Sweep("noise's highest frequency, cycles a pixel", "ct", 2, (0.08, 0.15, 0.25, 0.35, 0.5),
          scan=parameter("cutoff", noise=0.08)),
    Sweep("beam hardening by bone (0.01 to 0.06 drawn): acquisition.CT.streak_share", "ct", 11,
          (0, 0.06, 0.12, 0.25, 0.5), scan=parameter("hardening", starvation=0, cupping=0)),
    Sweep("beam hardening by all tissue (cupping): acquisition.CT.cupping_share", "ct", 2,
          (0, 0.002, 0.006, 0.012, 0.02), scan=parameter("cupping", starvation=0, hardening=0)),
    Sweep("photon starvation: acquisition.CT.streak_share", "ct", 2, (0, 0.02, 0.04, 0.08, 0.16),
          scan=parameter("starvation", hardening=1e-6, cupping=0)),
    Sweep("pixels of the frame a voxel: acquisition.coarseness", "ct", 2, (1, 1.5, 2.5, 4.5, 8),
          "acquisition.coarseness",
          fixed=("acquisition.low_resolution_share=1", "acquisition.anisotropy=[1, 1]")),
]  # fmt: skip
MR = [
    Sweep("noise of a channel, of white: acquisition.MR.noise", "mr", 7, (0.005, 0.03, 0.06, 0.09, 0.2),
          "acquisition.MR.noise", fixed=QUIET),
    Sweep("bias field, logarithm: acquisition.MR.bias", "mr", 7, (0.0, 0.15, 0.35, 0.7, 1.4),
          "acquisition.MR.bias", fixed=QUIET),
    Sweep("share of k-space's rows and columns measured: acquisition.MR.truncation_share", "mr", 7,
          (0.9, 0.6, 0.35, 0.2, 0.12), scan=parameter("kept_x", "kept_y"),
          fixed=(*QUIET, "acquisition.MR.truncation_share=1")),
    Sweep("ghosts, share of the signal: acquisition.MR.ghost_share", "mr", 7, (0, 0.1, 0.25, 0.5, 1),
          scan=parameter("ghost"), fixed=(*QUIET, "acquisition.MR.ghost_share=1")),
    Sweep("drift of outlines through a thick slice, of the side: acquisition.MR.thick_slice_share", "mr", 7,
          (0, 0.005, 0.01, 0.02, 0.04), scan=parameter("slice"),
          fixed=(*QUIET, "acquisition.MR.thick_slice_share=1")),
]  # fmt: skip
US = [
    Sweep("point-spread function across the beams, pixels of 256: acquisition.US.speckle", "us", 3,
          (0.6, 0.9, 1.6, 2.6, 5), "acquisition.US.speckle"),
    Sweep("dynamic range, dB: acquisition.US.dynamic_range", "us", 3, (90, 75, 55, 40, 25),
          "acquisition.US.dynamic_range"),
    Sweep("looks in the mean: acquisition.US.looks", "us", 3, (1, 2, 3, 5, 8), scan=drawn("looks")),
    Sweep("what tissue absorbs, times: acquisition.US.shadow", "us", 3, (0, 1, 3, 6, 12),
          scan=drawn("shadow")),
    Sweep("gain at the bottom, of the grey range", "us", 3, (-0.4, -0.15, 0, 0.15, 0.4), scan=gain),
    Sweep("interfaces across the beam that reflect", "us", 3, (0, 1, 2.5, 5, 10), scan=drawn("interface")),
    Sweep("field of view", "us", 3, ("linear", "curved", "sector"), probe=True),
]  # fmt: skip
OCT = [
    Sweep("attenuation, times what tissue has: acquisition.OCT.attenuation", "oct", 9,
          (0.2, 0.5, 0.85, 1.2, 2.4), "acquisition.OCT.attenuation"),
    Sweep("speckle across the A-scans, pixels of 256: acquisition.OCT.lateral", "oct", 9,
          (0.4, 0.8, 1.6, 3, 6), scan=drawn("lateral")),
    Sweep("frames in the mean: acquisition.OCT.looks", "oct", 9, (1, 2, 4, 6, 16), scan=drawn("looks")),
    Sweep("dynamic range, dB: acquisition.OCT.dynamic_range", "oct", 9, (60, 45, 35, 28, 20),
          scan=drawn("dynamic_range")),
    Sweep("roll-off at the bottom, of the range: acquisition.OCT.roll_off", "oct", 9, (0, 0.2, 0.4, 0.8, 1.6),
          scan=drawn("roll_off")),
]  # fmt: skip
ANY = [
    Sweep("noise, of the grey range: acquisition.XR.noise", "xr", 15, (0.004, 0.03, 0.07, 0.15, 0.3),
          "acquisition.XR.noise", fixed=(SHARP,)),
    Sweep("coloured noise, exponent of its spectrum (0 white)", "xr", 15, (-1, 0, 1, 2, 3),
          scan=parameter("slope", coloured=1, noise=0.1), fixed=(SHARP,)),
    Sweep("multiplicative noise", "xr", 15, (0, 0.05, 0.15, 0.35, 0.7), scan=parameter("speckle"),
          fixed=(SHARP,)),
    Sweep("shading, logarithm: acquisition.XR.bias", "xr", 15, (0, 0.15, 0.3, 0.6, 1.2),
          scan=parameter("bias"), fixed=(SHARP,)),
    Sweep("bend of the grey-level curve: acquisition.XR.curve_share", "xr", 15, (-2, -1, 0, 1, 2),
          scan=parameter("bend", curve=1, wave=0), fixed=(SHARP,)),
]  # fmt: skip
SWEEPS = {"boundaries": BOUNDARIES, "textures": TEXTURES, "ct": CT, "mr": MR, "us": US, "oct": OCT, "xr": ANY}


def settings_of(sweep: Sweep, value: Any) -> list[str]:
    """The settings of one image of a row."""
    if not sweep.key:
        return list(sweep.fixed)
    given = value if sweep.key.endswith("_share") else f"[{value}, {value}]"
    return [*sweep.fixed, f"{sweep.key}={given}"]


def shown(sweep: Sweep, value: Any) -> Sample:
    """The sample with one thing changed, by the generator's own way from drawing to image."""
    config = load_config(sweep.preset, settings_of(sweep, value), size=SIDE)
    with ExitStack() as stack:
        if sweep.look is not None:
            look, draw_look = sweep.look, scene.draw_look
            stack.enter_context(
                patch.object(scene, "draw_look", lambda *given: look(draw_look(*given), value))
            )
        if sweep.spacing:
            canvas = scene.Canvas
            stack.enter_context(
                patch.object(scene, "Canvas", lambda **given: canvas(**given | {"spacing": value}))
            )
        for modality in MODALITIES.values():
            if sweep.scan is not None:
                scan, draw_scan = sweep.scan, modality.draw_scan
                changed = lambda *given, scan=scan, draw_scan=draw_scan: scan(draw_scan(*given), value)  # noqa: E731
                stack.enter_context(patch.object(modality, "draw_scan", changed))
            if sweep.probe:
                field = lambda rng, size, *_: draw_probe(np.random.default_rng(3), size, (value,))  # noqa: E731
                stack.enter_context(patch.object(modality, "draw_field", field))
        return scene.make_sample(config, 21, sweep.index)


def picture(sweeps: list[Sweep]) -> Image.Image:
    """A row a sweep, its values above the images."""
    columns = max(len(sweep.values) for sweep in sweeps)
    sheet = Image.new("RGB", (columns * (SIDE + 4) - 4, len(sweeps) * (SIDE + 2 * TEXT + 6)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, sweep in enumerate(sweeps):
        top = row * (SIDE + 2 * TEXT + 6)
        pen.text((2, top + 3), sweep.title, fill=INK, font=font(13))
        for column, value in enumerate(sweep.values):
            sample = shown(sweep, value)
            image = np.repeat(sample.image[..., None], 3, 2)
            if sweep.outlined:
                image[find_boundaries(sample.label, mode="inner")] = OUTLINE
            left = column * (SIDE + 4)
            pen.text(
                (left + 2, top + TEXT + 3), value if sweep.probe else f"{value:g}", fill=INK, font=font(12)
            )
            sheet.paste(Image.fromarray(image), (left, top + 2 * TEXT))
    return sheet


def of_few_greys(sheet: Image.Image, count: int = 61) -> Image.Image:
    """A sheet of as many greys, evenly spaced, and of the two colours: a smaller file."""
    greys = np.repeat(np.linspace(0, 255, count).astype(np.uint8)[:, None], 3, 1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, [PAPER, OUTLINE]]).astype(np.uint8).tobytes())
    return sheet.quantize(palette=palette, dither=Image.Dither.NONE)


# --- shapes ---

FAMILIES: dict[str, tuple[str, tuple[float, ...]]] = {
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


def masked(shape: Shape, cell: int, scale: float = 0.36) -> NDArray[np.uint8]:
    """A shape in unit coordinates in the middle of a square, 0 or 1."""
    placed = outlines.place(shape, (cell / 2, cell / 2), cell * scale, 0.0)
    mask, top, left = outlines.rasterise(placed, cell)
    whole = np.zeros((cell, cell), np.uint8)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return whole


def blank(cell: int, seed: int = 5) -> Canvas:
    """A canvas with nothing on it."""
    rng = np.random.default_rng(seed)
    view = View(cell * 0.36, (0.0, 0.0), 0.0, 1, cell, draw_displacement(rng, cell, 0.0))
    return Canvas(section=Section(view, None, 4), rng=rng, max_objects=60)


def apart(mask: NDArray, margin: int = 3) -> NDArray[np.uint8]:
    """A mask that fills its square, clear of the next one."""
    cut = np.zeros(mask.shape, np.uint8)
    cut[margin:-margin, margin:-margin] = mask[margin:-margin, margin:-margin]
    return cut


def tiled(cell: int, warp: float) -> NDArray[np.uint8]:
    canvas = blank(cell)
    canvas.partition(0, 7, ("organ",), 1.0, warp=warp)
    return apart(1 - find_boundaries(canvas.section.region, mode="inner"))


def layered(cell: int, bend: float) -> NDArray[np.uint8]:
    canvas = blank(cell)
    canvas.layer(-0.2, 0.25, bend, 0, "organ", 1.0)
    return apart(canvas.section.region > 0)


def boned(cell: int, seed: int) -> NDArray[np.uint8]:
    canvas = blank(cell, seed)
    vertebra(canvas, (0.0, -0.45), 0.6, 0)
    return np.isin(canvas.section.region, [n for n, r in canvas.regions.items() if r.tissue != "liquor"])


def slim(draw: Callable[[np.random.Generator, float], Shape]) -> Callable[[int, float], NDArray[np.uint8]]:
    """The mask of a form of which a value is given and all else drawn from one seed."""
    return lambda cell, value: masked(draw(np.random.default_rng(7), value), cell)


def five(draw: Callable[[np.random.Generator], Shape]) -> Callable[[int, float], NDArray[np.uint8]]:
    return lambda cell, seed: masked(draw(np.random.default_rng(int(seed))), cell)


def folded(rng: np.random.Generator, depth: float) -> Shape:
    path = slender.sheet(rng, 5, depth)
    return slender.tubes([(path, np.full(len(path), 0.05))])


def vessels(rng: np.random.Generator, radius: float) -> Shape:
    return slender.tubes(slender.vessel_tree(rng, (-1.2, 0.6), -0.3, 1.6, radius, 0.02))


def netted(rng: np.random.Generator, count: float) -> Shape:
    return slender.tubes(slender.net(rng, int(count), 0.03, 0.02), "net")


def gyri(rng: np.random.Generator, apart: float) -> Shape:
    return slender.tubes(slender.arbor(rng, (0.55, 1.1), 0.045, apart, 1))


SLENDER: dict[str, tuple[str, Sequence[float], Callable[[int, Any], NDArray[np.uint8]]]] = {
    "cell: warp of the walls, of the box": ("", (0, 0.05, 0.1, 0.2, 0.4), tiled),
    "layer: bend of its faces": ("", (0, 0.02, 0.05, 0.1, 0.2), layered),
    "vertebra": ("draws", (1, 2, 4, 5, 6), boned),
    "vessels: trunk's radius": ("", (0.02, 0.04, 0.08, 0.12, 0.2), slim(vessels)),
    "net: cells": ("", (8, 16, 30, 60, 110), slim(netted)),
    "sheet: depth of the folds": ("", (0.0, 0.15, 0.3, 0.6, 0.9), slim(folded)),
    "arbor: between the stalks' ends": ("", (0.5, 0.4, 0.3, 0.2, 0.12), slim(gyri)),
    "ragged: over the radius": (
        "",
        (0.0, 0.02, 0.05, 0.1, 0.2),
        slim(lambda rng, value: slender.ragged(shapes.oval(), rng, value)),
    ),
    "butterfly": ("draws", (1, 2, 3, 4, 5), five(slender.butterfly)),
    "jaw": ("draws", (1, 2, 3, 4, 5), five(lambda rng: slender.jaw(rng, bool(rng.random() < 0.5))[0])),
    "tooth": ("draws", (1, 2, 3, 4, 5), five(slender.tooth)),
}
"""Forms of the plans' own: what is swept, or five draws."""


def shape_rows(cell: int) -> Iterable[tuple[str, list[NDArray[np.uint8]]]]:
    """A title and five masks for every form."""
    assert set(FAMILIES) == set(shapes.FAMILIES)
    for name, (key, values) in FAMILIES.items():
        parameters = shapes.FAMILIES[name].draw(np.random.default_rng(5))
        times = not isinstance(parameters[key], (int, float))
        masks = []
        for value in values:
            one = parameters[key] * np.float64(value) if times else value
            masks.append(masked(shapes.make(name, {**parameters, key: one}), cell))
        title = f"{name}: {key}{' times' * times} {', '.join(f'{value:g}' for value in values)}"
        yield title, masks
    for name, (what, numbers, draw) in SLENDER.items():
        listed = "five draws" if what else ", ".join(f"{value:g}" for value in numbers)
        yield f"{name}{',' * bool(what)} {listed}", [draw(cell, value) for value in numbers]


def shape_picture(cell: int = 64, head: int = 18) -> Image.Image:
    """A row a form, two forms a line."""
    rows = list(shape_rows(cell))
    wide, tall = 5 * cell + 12, cell + head
    sheet = Image.new("RGB", (2 * wide, (len(rows) + 1) // 2 * tall), PAPER)
    pen = ImageDraw.Draw(sheet)
    for k, (title, masks) in enumerate(rows):
        x, y = k % 2 * wide, k // 2 * tall
        pen.text((x + 2, y + 2), title, fill=INK, font=font(11))
        for column, mask in enumerate(masks):
            sheet.paste(BAR, (x + column * cell, y + head), Image.fromarray(mask.astype(np.uint8) * 255))
    return sheet


if __name__ == "__main__":
    for name in sys.argv[1:] or ["shapes", *SWEEPS]:
        made = shape_picture().quantize(16) if name == "shapes" else of_few_greys(picture(SWEEPS[name]))
        made.save(HERE / f"generator_sweep_{name}.png", optimize=True)
