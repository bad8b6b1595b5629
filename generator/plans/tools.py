"""Plans of scenes: which structures lie where, in anatomical coordinates (a body is about 2 wide).

A plan places regions on a canvas. The anatomical ones draw sizes, positions and presence widely around what
textbooks of cross-sectional anatomy show in general; no image was measured for them. This module holds the
plans without anatomy, and what all plans share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from generator.canvas import outlines, shapes
from generator.canvas.layout import Canvas
from generator.canvas.outlines import Shape

ORGANS = ("star", "superellipse", "bent", "lobed", "crescent", "blob", "ellipse")
LESIONS = ("ellipse", "star", "blob", "spiculated", "microlobulated", "lobed")
TISSUES = ("soft", "fat", "fluid", "muscle", "lesion", "blood", "bone", "organ", "gland")


def pick(canvas: Canvas, names: Sequence[str]) -> str:
    """One of the names."""
    return names[int(canvas.rng.integers(len(names)))]


def chance(canvas: Canvas, share: float) -> bool:
    """True with the given probability."""
    return bool(canvas.rng.random() < share)


def near(canvas: Canvas, x: float, y: float, by: float = 0.05) -> tuple[float, float]:
    """A point drawn around (x, y)."""
    return x + canvas.rng.normal(0, by), y + canvas.rng.normal(0, by)


def turn(canvas: Canvas) -> float:
    """Any angle."""
    return canvas.rng.uniform(0, 2 * np.pi)


def oval(exponent: float = 2.0) -> Shape:
    """A circle, or with a larger exponent a rounder square, to be scaled."""
    return shapes.make("superellipse", {"exponent": exponent, "aspect": 1.0, "taper": 0.0, "dent": 0.0})


def tube_along(path: np.ndarray, radius: np.ndarray | float) -> Shape:
    """A tube along a path (n, 2) in anatomical coordinates: to be put at (0, 0) with size 1."""
    wide = np.broadcast_to(np.asarray(radius, float), len(path))
    return outlines.from_parts("tube", [[outlines.ribbon(path, wide)]])


def layer(
    canvas: Canvas, top: float, bottom: float, bend: float, parent: int, tissue: str, labelled: float
) -> int | None:
    """A layer across the whole field, with wavy faces at about y = top and y = bottom."""
    x = np.linspace(-4, 4, 60)
    waves = canvas.rng.normal(0, bend, (2, 4)) / [1, 1.5, 2, 3]
    phases = turn(canvas) + np.arange(4)[:, None] * 1.7
    faces = waves @ np.sin(np.arange(1, 5)[:, None] * 1.3 * x + phases)
    upper = np.stack([x, top + faces[0]], axis=1)
    lower = np.stack([x, np.maximum(bottom + faces[0] * 0.5 + faces[1], upper[:, 1] + 0.01)], axis=1)
    shape = outlines.from_parts("layer", [[np.concatenate([upper, lower[::-1]])]])
    return canvas.put(shape, (0, 0), 1, parent=parent, tissue=tissue, labelled=labelled, least=0.02)


def lesions(
    canvas: Canvas,
    parent: int | None,
    mean: float,
    tissues: Sequence[str] = ("lesion",),
    largest: float = 0.5,
) -> None:
    """A Poisson number of lesions in a region, up to half its radius, some with a core of their own."""
    if parent is None:
        return
    rng = canvas.rng
    for _ in range(min(int(rng.poisson(mean)), 5)):
        at = canvas.somewhere(parent)
        size = canvas.radius(parent) * largest * np.exp(rng.uniform(-2, 0))
        lesion = canvas.put(
            pick(canvas, LESIONS), at, size, turn(canvas), parent=parent, tissue=pick(canvas, tissues)
        )
        if lesion and chance(canvas, 0.25):
            canvas.put("star", at, size * rng.uniform(0.3, 0.6), turn(canvas), parent=lesion,
                       tissue=pick(canvas, ("fluid", "lesion", "bone")), labelled=0.5)  # fmt: skip


def fill(
    canvas: Canvas, parent: int | None, count: int, families: Sequence[str], tissues: Sequence[str],
    sizes: tuple[float, float], object_share: float = 1.0,
) -> list[int]:  # fmt: skip
    """Up to `count` shapes anywhere in what a region still shows; sizes log-uniform. Returns those placed."""
    if parent is None:
        return []
    placed = []
    for _ in range(count):
        size = np.exp(canvas.rng.uniform(*np.log(sizes)))
        placed.append(
            canvas.put(pick(canvas, families), canvas.somewhere(parent), size, turn(canvas), parent=parent,
                       tissue=pick(canvas, tissues), labelled=object_share)
        )  # fmt: skip
    return [number for number in placed if number]


def crowd(canvas: Canvas, share: float, families: Sequence[str]) -> None:
    """Give a share of the objects a neighbour that starts at their outline: a long common border."""
    for region in list(canvas.regions):
        if region.is_object and chance(canvas, share):
            size = canvas.radius(region.number) * canvas.rng.uniform(0.4, 1.3)
            canvas.put(pick(canvas, families), canvas.edge(region.number), size, turn(canvas),
                       parent=region.parent, tissue=pick(canvas, (region.tissue, "soft", "organ")),
                       least=0.25)  # fmt: skip


def divide(canvas: Canvas, share: float, families: Sequence[str]) -> None:
    """Give a share of the objects a second piece near the first: a section meets many an organ twice.

    Where six draws find no room, the object stays in one.
    """
    rng = canvas.rng
    for region in list(canvas.regions):
        if not (region.is_object and chance(canvas, share)):
            continue
        radius = canvas.radius(region.number)
        x, y = canvas.view.to_anatomy(*canvas.middle(region.number))
        for _ in range(6):
            way, far = turn(canvas), radius * rng.uniform(1.1, 3.2)
            at = x + far * np.cos(way), y + far * np.sin(way)
            size = radius * rng.uniform(0.15, 1.0)
            if canvas.extend(region.number, pick(canvas, families), at, size, turn(canvas)):
                break


def variegate(canvas: Canvas, share: float) -> None:
    """Make a share of the objects of two tissues: regions inside them that are no objects."""
    for region in list(canvas.regions):
        if not (region.is_object and chance(canvas, share)) or np.count_nonzero(region.mask) < 60:
            continue
        tissues = (region.tissue, *TISSUES)
        if chance(canvas, 0.4):
            canvas.partition(region.number, int(canvas.rng.integers(2, 6)), tissues, 0.0, warp=0.15)
        else:
            size = canvas.radius(region.number)
            fill(canvas, region.number, int(canvas.rng.integers(1, 4)), (*ORGANS, "ring", "arc"), tissues,
                 (0.3 * size, 0.9 * size), object_share=0.0)  # fmt: skip


def ellipses(canvas: Canvas) -> None:
    """Ellipses in an ellipse: the plan without the shape-aware module."""
    rng = canvas.rng
    body = canvas.put("ellipse", near(canvas, 0, 0), rng.uniform(0.8, 1.15), turn(canvas), tissue="fat",
                      labelled=0.4)  # fmt: skip
    organs = fill(
        canvas, body, int(rng.integers(3, 13)), ("ellipse",), ("soft", "organ", "muscle"), (0.04, 0.5)
    )
    for organ in organs:
        if chance(canvas, 0.35):
            size = canvas.radius(organ)
            fill(canvas, organ, 1, ("ellipse",), ("lesion", "fluid"), (0.15 * size, 0.5 * size))


def free(canvas: Canvas) -> None:
    """Shapes of all families anywhere, packed, nested and touching: no anatomy at all."""
    rng = canvas.rng
    ground = 0
    if chance(canvas, 0.6):
        ground = canvas.put(pick(canvas, ("star", "superellipse", "ellipse")), near(canvas, 0, 0),
                            rng.uniform(0.8, 1.5), turn(canvas), tissue="fat", labelled=0.4) or 0  # fmt: skip
    if chance(canvas, 0.3):
        canvas.partition(ground, int(rng.integers(3, 12)), TISSUES, 0.5)
    families = tuple(shapes.FAMILIES)
    for _ in range(int(rng.integers(4, 18))):
        parent = ground
        if canvas.regions and chance(canvas, 0.45):
            parent = canvas.regions[int(rng.integers(len(canvas.regions)))].number
        size = min(0.75 * np.exp(rng.uniform(-2.6, 0)), canvas.radius(parent) * 0.9)
        canvas.put(pick(canvas, families), canvas.somewhere(parent), size, turn(canvas), parent=parent,
                   tissue=pick(canvas, TISSUES))  # fmt: skip


def tiles(canvas: Canvas) -> None:
    """The whole field tiled by a noise partition, tiles tiled again or filled."""
    rng = canvas.rng
    ground = 0
    if chance(canvas, 0.5):
        ground = (
            canvas.put("star", near(canvas, 0, 0), rng.uniform(0.8, 1.1), turn(canvas), tissue="fat") or 0
        )
    for tile in canvas.partition(
        ground, int(rng.integers(4, 18)), TISSUES, 0.7, warp=rng.uniform(0.02, 0.15)
    ):
        if chance(canvas, 0.2):
            canvas.partition(tile, int(rng.integers(2, 5)), TISSUES, 0.6)
        elif chance(canvas, 0.4):
            size = canvas.radius(tile)
            fill(canvas, tile, int(rng.integers(1, 3)), ORGANS, TISSUES, (0.15 * size, 0.6 * size))


def crop(canvas: Canvas) -> None:
    """One structure of one or two touching parts, in the middle of a small, smooth surrounding."""
    rng = canvas.rng
    size = rng.uniform(0.3, 0.85)
    at = near(canvas, 0, 0, 0.12)
    axis = turn(canvas)
    families = ("bent", "star", "lobed", "superellipse", "tube", "ellipse", "blob")
    first = canvas.put(pick(canvas, families), at, size, axis, tissue="grey")  # fmt: skip
    if first and chance(canvas, 0.5):  # head and body of one structure
        end = at[0] + size * 0.7 * np.cos(axis), at[1] + size * 0.7 * np.sin(axis)
        canvas.put(pick(canvas, ("star", "bent", "ellipse")), end, size * rng.uniform(0.3, 0.7), axis,
                   tissue=pick(canvas, ("grey", "brain")))  # fmt: skip
    fill(
        canvas,
        0,
        int(rng.integers(1, 5)),
        (*ORGANS, "tube"),
        ("liquor", "brain", "grey", "vein"),
        (0.1, 0.6),
        0.4,
    )
    canvas.partition(0, int(rng.integers(2, 7)), ("brain", "grey", "soft", "liquor", "fat"), 0.1)
