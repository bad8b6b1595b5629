"""Plans of thin and hollow things: folded cortex, walls, membranes, and the grey matter of the cord."""

from __future__ import annotations

import numpy as np

from synthfm.generator.canvas import outlines, shapes, slender
from synthfm.generator.canvas.layout import LESIONS, ORGANS, TISSUES, Canvas
from synthfm.generator.plans.body import vertebra
from synthfm.generator.plans.tools import plan
from synthfm.generator.plans.vessels import ground


@plan(zoom=(0.8, 1.5))
def gyri(canvas: Canvas) -> None:
    """A brain of two halves: a folded cortex of even thickness on branching white matter, paired nuclei.

    Now and then small strokes in several places, or a tumour of several tissues with a rim of oedema.
    """
    rng = canvas.rng
    long = rng.uniform(0.85, 1.1)
    skull = None
    if canvas.chance(0.7):
        scalp = canvas.put(shapes.oval(2.1), (0, 0), (0.97, 1.12 * long), tissue="fat", labelled=0.3)
        skull = canvas.wall(scalp, rng.uniform(0.03, 0.1), canvas.pick(("cortex", "fat")), labelled=0.6)
        canvas.wall(scalp, rng.uniform(0.12, 0.2), "cortex", labelled=0.6, name="skull")
    room = canvas.put(
        shapes.oval(2.1),
        (0, 0),
        (0.8, 0.93 * long),
        parent=scalp if skull else 0,
        tissue="liquor",
        labelled=0.3,
    )
    if room is None:
        return
    stalk, thick, gap = rng.uniform(0.02, 0.045), rng.uniform(0.03, 0.07), rng.uniform(-0.02, 0.05)
    half_extents = 0.37 - thick, 0.84 * long - thick
    for side in (-1, 1):
        branches = slender.arbor(rng, half_extents, stalk, 2 * (stalk + thick) + gap, side)
        place, tilt = (side * (half_extents[0] + thick + rng.uniform(0.0, 0.04)), 0.0), rng.normal(0, 0.03)
        grey = slender.tubes(slender.widened_branches(branches, thick), "gyri")
        half = canvas.put(grey, place, 1, tilt, parent=room, tissue="grey")
        white = canvas.put(
            slender.tubes(branches, "white"), place, 1, tilt, parent=half, tissue="brain", labelled=0.9
        )
        canvas.note("hemispheres", half)
        if half and white:
            canvas.note("white matter", white)
            canvas.group("cortex", [half], [white])
        _nuclei(canvas, side, white or half)
    halves = canvas.sets.get("hemispheres", [])
    if len(halves) == 2 and canvas.chance(0.7):
        canvas.group("cortex", halves, canvas.sets.get("white matter", []))
    _disease(canvas, halves)


def _nuclei(canvas: Canvas, side: int, parent: int | None) -> None:
    """Ventricle, caudate, putamen and thalamus of one side, each noted with its other half."""
    rng = canvas.rng

    t = np.linspace(0, 1, 12)
    horn = np.stack([side * (0.07 + 0.2 * np.abs(t - 0.45) ** 1.3), -0.3 + 0.6 * t], 1)
    radius = rng.uniform(0.02, 0.06) * np.sin(np.pi * (0.1 + 0.8 * t))
    ventricle = canvas.put(shapes.tube_along(horn, radius), (0, 0), 1, parent=parent, tissue="liquor")
    canvas.note("ventricles", ventricle)
    for name, x, y, size, family in (
        ("caudate", 0.16, -0.24, (0.05, 0.1), "bent"),
        ("putamen", 0.3, -0.06, (0.06, 0.16), "bent"),
        ("thalamus", 0.14, 0.08, (0.1, 0.14), "star"),
    ):
        if canvas.chance(0.8):
            factor = rng.uniform(0.75, 1.2)
            at, half = canvas.near(side * x, y, 0.015), (size[0] * factor, size[1] * factor)
            number = canvas.put(family, at, half, side * rng.normal(-0.2, 0.15), parent=parent, tissue="grey")
            canvas.note(name, number)


def _disease(canvas: Canvas, halves: list[int]) -> None:
    rng = canvas.rng
    if not halves or canvas.chance(0.4):
        return
    half = halves[int(rng.integers(len(halves)))]
    white = [r.number for r in canvas.regions.values() if r.parent == half]
    parent = white[0] if white and canvas.chance(0.7) else half
    if canvas.chance(0.5):
        for _ in range(int(rng.integers(2, 8))):
            size = 0.12 * np.exp(rng.uniform(-1.8, 0))
            number = canvas.put(
                canvas.pick(LESIONS), canvas.somewhere(parent), size, parent=parent, tissue="lesion"
            )
            canvas.note("strokes", number)
        return
    tumour(canvas, parent, canvas.somewhere(parent), rng.uniform(0.12, 0.4))


def tumour(canvas: Canvas, parent: int | None, at: tuple[float, float], size: float) -> None:
    """A ragged tumour: oedema around a solid part with a rim and a dead core; each, and their unions."""
    rng = canvas.rng
    strength = rng.uniform(0.02, 0.2)
    oedema = None
    if canvas.chance(0.75):
        outline = slender.ragged(shapes.draw(canvas.pick(("star", "lobed", "ellipse")), rng), rng, strength)
        oedema = canvas.put(
            outline, at, size * rng.uniform(1.2, 2.0), canvas.turn(), parent=parent, tissue="fluid"
        )
    outline = slender.ragged(shapes.draw(canvas.pick(("star", "ellipse", "lobed")), rng), rng, strength / 2)
    solid = canvas.put(outline, at, size, canvas.turn(), parent=oedema or parent, tissue="lesion", least=0.4)
    if solid is None:
        return
    core = canvas.put(
        slender.ragged(shapes.draw("star", rng), rng, strength), at, size * rng.uniform(0.4, 0.75),
        canvas.turn(), parent=solid, tissue=canvas.pick(("fluid", "blood", "soft")), least=0.4,
    )  # fmt: skip
    if oedema:
        canvas.group("rim", [oedema], [solid])
    if core:
        canvas.group("rim", [solid], [core])


@plan(zoom=(0.9, 1.6))
def cord(canvas: Canvas) -> None:
    """An axial section of the spinal cord: a butterfly of grey matter in white matter, in a ring of fluid."""
    rng = canvas.rng
    size = 0.75 * np.exp(rng.uniform(-1.6, 0))
    at, turn = canvas.near(0, 0, 0.15), rng.normal(0, 0.2)
    flat = rng.uniform(0.65, 1.0)
    inner = slender.butterfly(rng)
    share = rng.uniform(0.55, 0.85)
    wide = size * rng.uniform(1.15, 1.7)
    canal = canvas.put("ellipse", at, (wide, wide * rng.uniform(0.7, 1.0)), turn, tissue="liquor")
    outline = shapes.draw_star(rng)
    outline.update(amplitudes=outline["amplitudes"] * 0.3, aspect=1.0)
    whole = canvas.put(
        shapes.make("star", outline), at, (size, size * flat), turn, parent=canal, tissue="brain"
    )
    grey = canvas.put(inner, at, (size * share, size * share * flat), turn, parent=whole, tissue="grey")
    if whole and grey:
        canvas.group("white matter", [whole], [grey])
    if canal and whole:
        canvas.group("fluid", [canal], [whole])
    if canvas.chance(0.6):
        vertebra(canvas, (at[0], at[1] - 2.2 * wide), 1.6 * wide, 0)
    canvas.fill(0, int(rng.integers(0, 6)), ORGANS, ("muscle", "fat", "bone"), (0.2, 0.8), 0.3)
    canvas.partition(0, int(rng.integers(1, 5)), ("muscle", "fat", "soft", "bone"), 0.0)


@plan(zoom=(0.9, 1.3))
def walls(canvas: Canvas) -> None:
    """Hollow organs and membranes: rings, loops and sheets of even thickness, of one to three layers.

    Heart muscle around its chamber, bowel wall, bladder, joint lining, skull, layers of a vessel.
    """
    rng = canvas.rng
    for _ in range(int(rng.integers(0, 3))):
        folds = int(rng.integers(0, 6))
        depth = rng.uniform(0.05, 0.35) if folds else 0.0
        path = slender.sheet(rng, max(folds, 1), depth) * [rng.uniform(0.6, 1.5), 1.0]
        path = path @ outlines.rotation(canvas.turn()) + rng.normal(0, 0.35, 2)
        thin = 0.09 * np.exp(rng.uniform(-2.0, 0))
        layers = [(path, np.full(len(path), thin))]
        number = canvas.put(slender.tubes(layers, "sheet"), (0, 0), 1, tissue=canvas.pick(TISSUES))
        if number and canvas.chance(0.3):
            canvas.wall(number, 0.3 * thin, canvas.pick(TISSUES))
    same = canvas.pick(TISSUES)
    for _ in range(int(rng.integers(1, 7))):
        family = canvas.pick(("star", "ellipse", "bent", "tube", "superellipse", "lobed"))
        size, at = 0.65 * np.exp(rng.uniform(-1.7, 0)), canvas.somewhere(0)
        ring = canvas.put(family, at, size, canvas.turn(), tissue=canvas.pick(TISSUES), least=0.4)
        if not ring:
            continue
        radius = canvas.radius(ring)
        thin, inside = radius * rng.uniform(0.08, 0.5), [ring]
        for layer in range(int(rng.integers(1, 4))):
            wall = canvas.wall(ring, thin, same if layer == 0 else canvas.pick(TISSUES), name="wall")
            thin *= rng.uniform(1.4, 2.2)
            if wall:
                inside.append(wall)
                if layer == 0:
                    canvas.note("walls", wall)
        canvas.note("rings", ring)
        canvas.group("lumen", [ring], inside[1:])
        if canvas.chance(0.3):
            canvas.fill(ring, 2, ("star", "ellipse", "blob"), TISSUES, (0.2 * radius, 0.6 * radius), 0.5)
    if canvas.chance(0.4):
        tumour(canvas, 0, canvas.somewhere(0), rng.uniform(0.12, 0.4))
    ground(canvas)
