"""Plans of radiographs: projections, in which densities add up, in anatomical coordinates.

What absorbs X-rays is bright. Regions carry what an organ adds over its whole outline, overlays what lies
before or behind it: ribs, vessels, breasts, wires.
"""

from __future__ import annotations

import numpy as np

from synthfm.generator.canvas import outlines, shapes
from synthfm.generator.canvas.layout import Canvas
from synthfm.generator.canvas.outlines import Shape
from synthfm.generator.plans.tools import plan


@plan(modality="XR")
def radiograph(canvas: Canvas) -> None:
    """A projection: shapes of added density over each other; a chest, or the bones of a limb."""
    if canvas.chance(0.35):
        return _limb(canvas)
    rng = canvas.rng
    chest = canvas.put("superellipse", (0, 0.3), (1.05, 1.7), tissue="soft", labelled=0.0)
    family = canvas.pick(("star", "bent", "ellipse"))
    place, size = canvas.near(0.14, 0.42), rng.uniform(0.25, 0.42)
    heart = canvas.put(family, place, size, rng.uniform(0.2, 0.9), parent=chest, tissue="organ")
    at = canvas.near(0, -0.3, 0.03)
    canvas.put(shapes.oval(2.6), at, (rng.uniform(0.1, 0.2), 1.0), parent=chest, tissue="organ", labelled=0.3)
    dome, wide = rng.uniform(0.6, 0.8), rng.uniform(0.34, 0.44)
    for side in (-1, 1):
        at = canvas.near(side * 0.47, dome + 0.5, 0.03)
        canvas.put(shapes.oval(), at, (0.56, 0.6), parent=chest, tissue="organ", labelled=0.2)
        lung = {"exponent": rng.uniform(2, 2.6), "aspect": 1.0, "taper": rng.uniform(0.15, 0.4), "dent": 0.0}
        shape = shapes.make("superellipse", lung)
        place, half = canvas.near(side * 0.45, 0.0, 0.03), (rng.uniform(0.75, 0.9), wide)
        turn = np.pi / 2 + side * rng.uniform(0, 0.12)
        canvas.note("lungs", canvas.put(shape, place, half, turn, parent=chest, tissue="lung"))
    for region in list(canvas.regions.values()):
        if region.tissue == "lung":
            canvas.lesions(region.number, 0.35, ("soft", "organ"))
    if heart and canvas.chance(0.1):
        wire = np.array([[0.1, -0.2], [0.2, 0.1], [0.15, 0.5]])
        canvas.put(shapes.tube_along(wire, 0.015), (0, 0), 1, parent=heart, tissue="bone", labelled=0.0)
    _ribs(canvas)


def _ribs(canvas: Canvas) -> None:
    """Ribs, clavicles and the spine as densities over the chest."""
    rng = canvas.rng
    density, thick = rng.uniform(0.02, 0.1), rng.uniform(0.025, 0.045)
    t = np.linspace(0, 1, 24)
    steep = rng.uniform(0.15, 0.4)
    for k in range(int(rng.integers(6, 10))):
        y = -0.75 + 0.21 * k + rng.normal(0, 0.01)
        wide = min(0.9, 0.5 + 0.12 * k)
        for side in (-1, 1):
            back = np.stack(
                [side * (0.1 + (wide - 0.1) * np.sin(t * np.pi / 2)), y + steep * t**2 - 0.08 * t], 1
            )
            front = np.stack([side * (wide - (wide - 0.3) * t**1.5), y + steep + 0.12 * t], 1)
            canvas.overlay(shapes.tube_along(back, thick), density)
            canvas.overlay(shapes.tube_along(front, thick * 1.2), density * 0.5)
    canvas.overlay(shapes.tube_along(np.array([[0, -1.2], [0.01, 0], [0, 1.4]]), 0.09), density)
    for side in (-1, 1):
        clavicle = np.array([[side * 0.1, -0.66], [side * 0.4, -0.75], [side * 0.8, -0.8]])
        canvas.overlay(shapes.tube_along(clavicle, 0.03), density)


def _limb(canvas: Canvas) -> None:
    """Long bones that meet at a joint, in soft tissue."""
    rng = canvas.rng
    axis = rng.normal(0, 0.25)
    canvas.overlay(
        shapes.tube_along(np.array([[0.0, -2.0], [0.0, 2.0]]), rng.uniform(0.2, 0.4)), rng.uniform(0, 0.1)
    )
    at = canvas.near(0, 0)
    flesh = canvas.put(shapes.oval(3), at, (rng.uniform(0.4, 0.9), 1.8), axis, tissue="soft", labelled=0.0)
    bones = int(rng.integers(1, 4))
    joint = rng.uniform(-0.5, 0.5)
    for k in range(bones):
        for half in (-1, 1):
            x = (k - (bones - 1) / 2) * rng.uniform(0.25, 0.35)
            y = joint + half * np.linspace(0.06, 1.9, 24)
            swell = 1 + 0.9 * np.exp(-((np.abs(y - joint) / 0.28) ** 2))
            path = np.stack([x + 0.06 * np.sin(2 * y), y], 1) @ outlines.rotation(-axis)
            radius = rng.uniform(0.06, 0.1) * swell
            bone = canvas.put(shapes.tube_along(path, radius), (0, 0), 1, parent=flesh, tissue="bone")
            canvas.note("bones", bone)
            if bone:
                shape = shapes.tube_along(path, radius * 0.5)
                canvas.put(shape, (0, 0), 1, parent=bone, tissue="marrow", labelled=0.0)
                canvas.lesions(bone, 0.15)


@plan(modality="XR")
def chest(canvas: Canvas) -> None:
    """A frontal radiograph of the chest that fills the frame: two lungs between heart, diaphragm and ribs."""
    rng = canvas.rng
    wide = rng.uniform(0.74, 0.92)
    dome = rng.uniform(0.42, 0.8)
    shape, place = shapes.oval(rng.uniform(2.5, 4)), canvas.near(0, 0.35)
    body = canvas.put(shape, place, (rng.uniform(1.05, 1.6), 1.65), tissue="soft", labelled=0.0)
    # Heart, great vessels and abdomen are one brightness: only where they meet the lungs are they seen.
    heart = shapes.draw("star", rng) if canvas.chance(0.4) else shapes.oval(2.2)
    place, size = canvas.near(0.14, dome - 0.25), (rng.uniform(0.34, 0.5), rng.uniform(0.28, 0.4))
    canvas.put(heart, place, size, rng.uniform(0.2, 0.9), parent=body, tissue="organ", labelled=0.6)
    middle = np.stack([rng.normal(0, 0.025, 6), np.linspace(-1.3, 1.3, 6)], 1)
    between = shapes.tube_along(outlines.smooth(middle, 48), rng.uniform(0.1, 0.2))
    canvas.put(between, (0, 0), 1, parent=body, tissue="organ", labelled=0.1)
    place = canvas.near(0.12, dome - 0.62, 0.03)
    canvas.put(shapes.oval(), place, rng.uniform(0.08, 0.16), parent=body, tissue="organ", labelled=0.0)
    if canvas.chance(0.4):
        shape, place = shapes.oval(), canvas.near(0.45, dome + 0.16)
        canvas.put(shape, place, (rng.uniform(0.1, 0.22), 0.08), parent=body, tissue="air", labelled=0.3)
    for side in (-1, 1):
        deep = rng.uniform(1.0, 1.4)
        at = canvas.near(side * 0.48, dome - 0.08 + 0.03 * side + deep, 0.03)
        shape = shapes.oval(2.3)
        canvas.put(shape, at, (rng.uniform(0.52, 0.64), deep), parent=body, tissue="organ", labelled=0.05)
    canvas.put(shapes.oval(3), (0.0, dome + 1.25), (0.5, 1.1), parent=body, tissue="organ", labelled=0.0)
    sides = [_lung(canvas, side, wide, dome) for side in (-1, 1)]
    left = canvas.put(sides[0], (0, 0), 1, parent=body, tissue="lung")
    if not (left and canvas.chance(0.12) and canvas.extend(left, sides[1], (0, 0), 1)):  # both as one object
        canvas.note("lungs", left)
        canvas.note("lungs", canvas.put(sides[1], (0, 0), 1, parent=body, tissue="lung"))
    for region in list(canvas.regions.values()):
        if region.tissue == "lung":
            canvas.lesions(region.number, 0.3, ("soft", "organ"), largest=0.35)
    _cage(canvas, wide)
    _lung_markings(canvas, dome)
    _before_and_behind(canvas, wide, dome)


def _lung(canvas: Canvas, side: int, wide: float, dome: float) -> Shape:
    """A lung as the rib cage bounds it, from the apex to below the diaphragm, which is in front of it."""
    rng = canvas.rng
    top, low = rng.uniform(-0.92, -0.7), dome + rng.uniform(0.1, 0.3)
    across = np.array([0.32, 0.6, 0.82, 0.96, 1.0, 0.97, 0.6, 0.05, 0.02, 0.12, 0.16])
    down = np.array([0.0, 0.06, 0.22, 0.5, 0.78, 0.97, 1.02, 0.9, 0.55, 0.25, 0.07])
    nodes = np.stack([side * wide * across, top + (low - top) * down], 1) + rng.normal(0, 0.012, (11, 2))
    return outlines.from_parts("lung", [[outlines.smooth(nodes, 96, closed=True)]])


def _cage(canvas: Canvas, wide: float) -> None:
    """Ribs in front and behind, clavicles, shoulder blades and the spine."""
    rng = canvas.rng
    density, half = np.exp(rng.uniform(np.log(0.03), np.log(0.16))), rng.uniform(0.025, 0.045)
    front, steep, step = rng.uniform(0.4, 0.9), rng.uniform(0.1, 0.4), rng.uniform(0.16, 0.23)
    t = np.linspace(0, 1, 24)
    for k in range(int(rng.integers(7, 11))):
        y = -0.95 + step * k + rng.normal(0, 0.01)
        reach = wide * min(1.03, 0.5 + 0.15 * k)
        for side in (-1, 1):
            x = side * (0.08 + (reach - 0.08) * np.sin(t * np.pi / 2))
            behind = np.stack([x, y + steep * t**2 - 0.1 * np.sin(t * np.pi)], 1)
            canvas.overlay(shapes.tube_along(behind, half), density)
            margin = np.add(behind, [0, 0.85 * half])  # the lower one is denser
            canvas.overlay(shapes.tube_along(margin, 0.25 * half), 0.5 * density)
            x = side * (reach - (reach - 0.28) * t**1.4)
            canvas.overlay(
                shapes.tube_along(np.stack([x, y + steep + (0.1 + steep) * t], 1), 1.2 * half),
                front * 0.6 * density,
            )
    for side in (-1, 1):
        y, tilt = rng.uniform(-0.85, -0.6), rng.normal(0.12, 0.08)
        clavicle = np.array([[side * 0.1, y], [side * 0.4, y - 0.4 * tilt], [side * (wide + 0.1), y - tilt]])
        canvas.overlay(
            shapes.tube_along(outlines.smooth(clavicle, 48), rng.uniform(0.025, 0.045)), 1.4 * density
        )
        if canvas.chance(0.6):
            blade = np.array([[0.72, -0.7], [1.1, -0.5], [0.95, 0.05], [0.82, 0.12], [0.7, -0.25]])
            outline = outlines.smooth(blade * [side * wide / 0.85, 1], 48, closed=True)
            canvas.overlay(outlines.from_parts("blade", [[outline]]), rng.uniform(0.2, 0.9) * density)
    spine, bodies = rng.uniform(0.3, 1.5) * density, rng.uniform(0.1, 0.16)
    canvas.overlay(shapes.tube_along(np.array([[0, -1.4], [0, 0], [0, 1.4]]), 0.09), spine)
    for y in np.arange(-1.3, 1.3, bodies):
        canvas.overlay(shapes.tube_along(np.array([[-0.07, y], [0.07, y]]), 0.02), 0.5 * spine)


def _lung_markings(canvas: Canvas, dome: float) -> None:
    """Vessels that radiate from the hila and thin out, and the hila."""
    rng = canvas.rng
    density = np.exp(rng.uniform(np.log(0.02), np.log(0.1)))
    for side in (-1, 1):
        hilum = canvas.near(side * 0.2, dome - 0.5, 0.03)
        canvas.overlay(shapes.make("ellipse", {"aspect": 1.0}), 1.5 * density, hilum, 0.08)
        for _ in range(int(rng.integers(5, 14))):
            way, length = rng.uniform(-1.3, 1.3), rng.uniform(0.2, 0.6)
            t = np.linspace(0, 1, 16)
            bend = rng.normal(0, 0.12) * t**2
            along, aside = length * t, bend
            x = hilum[0] + side * (np.cos(way) * along - np.sin(way) * aside)
            y = hilum[1] + np.sin(way) * along + np.cos(way) * aside
            canvas.overlay(
                shapes.tube_along(np.stack([x, y], 1), rng.uniform(0.008, 0.025) * (1 - 0.7 * t)), density
            )


def _before_and_behind(canvas: Canvas, wide: float, dome: float) -> None:
    """What need not be there: breasts, hazy lungs, wires and plates."""
    rng = canvas.rng
    breast = rng.uniform(0.02, 0.1) if canvas.chance(0.35) else 0.0
    for side in (-1, 1):
        if breast:
            at = canvas.near(side * 0.5, dome - 0.1)
            canvas.overlay(shapes.oval(), breast, at, rng.uniform(0.25, 0.4))
        if canvas.chance(0.15):
            at = canvas.near(side * 0.5 * wide, rng.uniform(-0.5, dome), 0.08)
            blob = shapes.draw("star", rng)
            size, density = rng.uniform(0.1, 0.35), rng.uniform(0.04, 0.25)
            canvas.overlay(blob, density, at, size)
    for _ in range(int(rng.poisson(0.5))):
        wire = np.cumsum(rng.normal(0, 0.3, (5, 2)), axis=0) + rng.uniform(-0.6, 0.6, 2)
        canvas.overlay(
            shapes.tube_along(outlines.smooth(wire, 48), rng.uniform(0.006, 0.015)), rng.uniform(0.1, 0.5)
        )
    if canvas.chance(0.1):
        at = canvas.near(0.5 * wide, -0.45)
        canvas.overlay(shapes.oval(3), rng.uniform(0.2, 0.6), at, (0.12, 0.09))
