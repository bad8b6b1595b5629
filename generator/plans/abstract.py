"""Plans without anatomy: shapes anywhere."""

from __future__ import annotations

import numpy as np

from synthfm.generator.canvas import shapes
from synthfm.generator.canvas.layout import ORGANS, TISSUES, Canvas
from synthfm.generator.plans.tools import plan


@plan()
def ellipses(canvas: Canvas) -> None:
    """Ellipses in an ellipse: the plan without the shape-aware module."""
    rng = canvas.rng
    at = canvas.near(0, 0)
    body = canvas.put("ellipse", at, rng.uniform(0.8, 1.15), canvas.turn(), tissue="fat", labelled=0.4)
    count = int(rng.integers(3, 13))
    organs = canvas.fill(body, count, ("ellipse",), ("soft", "organ", "muscle"), (0.04, 0.5))
    for organ in organs:
        if canvas.chance(0.35):
            size = canvas.radius(organ)
            canvas.fill(organ, 1, ("ellipse",), ("lesion", "fluid"), (0.15 * size, 0.5 * size))


@plan()
def free(canvas: Canvas) -> None:
    """Shapes of all families anywhere, packed, nested and touching: no anatomy at all."""
    rng = canvas.rng
    ground = 0
    if canvas.chance(0.6):
        family, at = canvas.pick(("star", "superellipse", "ellipse")), canvas.near(0, 0)
        size = rng.uniform(0.8, 1.5)
        ground = canvas.put(family, at, size, canvas.turn(), tissue="fat", labelled=0.4) or 0
    if canvas.chance(0.3):
        canvas.partition(ground, int(rng.integers(3, 12)), TISSUES, 0.5)
    families = tuple(shapes.FAMILIES)
    for _ in range(int(rng.integers(4, 18))):
        parent = ground
        if canvas.regions and canvas.chance(0.45):
            parent = 1 + int(rng.integers(len(canvas.regions)))
        size = min(0.75 * np.exp(rng.uniform(-2.6, 0)), canvas.radius(parent) * 0.9)
        family, at = canvas.pick(families), canvas.somewhere(parent)
        canvas.put(family, at, size, canvas.turn(), parent=parent, tissue=canvas.pick(TISSUES))


@plan(zoom=(0.9, 1.2))
def tiles(canvas: Canvas) -> None:
    """The whole field tiled by a noise partition, tiles tiled again or filled."""
    rng = canvas.rng
    ground = 0
    if canvas.chance(0.5):
        at, size = canvas.near(0, 0), rng.uniform(0.8, 1.1)
        ground = canvas.put("star", at, size, canvas.turn(), tissue="fat") or 0
    count = int(rng.integers(4, 18))
    for tile in canvas.partition(ground, count, TISSUES, 0.7, warp=rng.uniform(0.02, 0.15)):
        if canvas.chance(0.2):
            canvas.partition(tile, int(rng.integers(2, 5)), TISSUES, 0.6)
        elif canvas.chance(0.4):
            size = canvas.radius(tile)
            canvas.fill(tile, int(rng.integers(1, 3)), ORGANS, TISSUES, (0.15 * size, 0.6 * size))


@plan(zoom=(0.9, 1.2))
def crop(canvas: Canvas) -> None:
    """One structure of one or two touching parts, in the middle of a small, smooth surrounding."""
    rng = canvas.rng
    size = rng.uniform(0.3, 0.85)
    at = canvas.near(0, 0, 0.12)
    axis = canvas.turn()
    families = ("bent", "star", "lobed", "superellipse", "tube", "ellipse", "blob")
    first = canvas.put(canvas.pick(families), at, size, axis, tissue="grey")
    if first and canvas.chance(0.5):  # head and body of one structure
        end = at[0] + size * 0.7 * np.cos(axis), at[1] + size * 0.7 * np.sin(axis)
        family = canvas.pick(("star", "bent", "ellipse"))
        canvas.put(family, end, size * rng.uniform(0.3, 0.7), axis, tissue=canvas.pick(("grey", "brain")))
    count = int(rng.integers(1, 5))
    canvas.fill(0, count, (*ORGANS, "tube"), ("liquor", "brain", "grey", "vein"), (0.1, 0.6), 0.4)
    canvas.partition(0, int(rng.integers(2, 7)), ("brain", "grey", "soft", "liquor", "fat"), 0.1)
