"""Plans of ultrasound scenes: the probe looks down from the top of the frame."""

from __future__ import annotations

import numpy as np

from synthfm.generator.canvas import shapes
from synthfm.generator.canvas.layout import LESIONS, Canvas
from synthfm.generator.plans.tools import plan


@plan(probes=("linear",))
def layers(canvas: Canvas) -> None:
    """A linear probe on the skin: fat, gland, muscle, ribs; a lesion, or a thyroid beside a carotid."""
    rng = canvas.rng
    y = -1.05
    skin = y + rng.uniform(0.04, 0.12)
    canvas.layer(y - 1, skin, 0.01, 0, "skin", 0.0)
    if canvas.chance(0.35):
        _thyroid(canvas, skin)
    else:
        _breast(canvas, skin)
    canvas.partition(0, int(rng.integers(2, 9)), ("soft", "fat", "gland", "muscle"), 0.2, warp=0.12)


def _breast(canvas: Canvas, skin: float) -> None:
    rng = canvas.rng
    for _ in range(1 + int(rng.random() < 0.25)):
        size = 0.55 * np.exp(rng.uniform(-1.6, 0))
        at = canvas.near(0, rng.uniform(-0.5, 0.35), 0.25)
        if canvas.chance(0.3):
            _infiltrating(canvas, at, size)
            continue
        kind = canvas.pick((*LESIONS, "ellipse", "star", "microlobulated"))
        extent, angle = (size, size * rng.uniform(0.5, 1.1)), rng.normal(0, 0.4)
        lesion = canvas.put(kind, at, extent, angle, tissue=canvas.pick(("lesion", "lesion", "fluid")))
        if lesion and canvas.chance(0.2):
            size = canvas.radius(lesion)
            count, families = int(rng.integers(1, 6)), ("ellipse", "star")
            canvas.fill(lesion, count, families, ("bone", "soft", "fluid"), (0.03 * size, 0.3 * size), 0.1)
    fat = canvas.layer(skin - 0.2, skin + rng.uniform(0.15, 0.6), 0.06, 0, "fat", 0.0)
    if fat:
        canvas.partition(fat, int(rng.integers(2, 8)), ("fat", "soft", "fat"), 0.0)
    deep = rng.uniform(0.3, 1.2)
    muscle = canvas.layer(deep, deep + rng.uniform(0.15, 0.4), 0.05, 0, "muscle", 0.3)
    if muscle and canvas.chance(0.4):
        for x in np.arange(-1.2, 1.3, rng.uniform(0.6, 0.9)):
            place = canvas.near(float(x), deep + 0.5, 0.05)
            canvas.put("ellipse", place, (0.17, 0.09), tissue="cortex", labelled=0.2)
    for _ in range(int(rng.integers(0, 4))):
        x = np.linspace(-1.4, 1.4, 40)
        waves = rng.normal(0, 0.12, 3) @ np.sin(np.arange(1, 4)[:, None] * x + canvas.turn())
        path = np.stack([x, rng.uniform(-0.6, 0.8) + waves], 1)
        shape = shapes.tube_along(path, rng.uniform(0.005, 0.02))
        canvas.put(shape, (0, 0), 1, tissue="septum", labelled=0.0, least=0.02)


def _infiltrating(canvas: Canvas, at: tuple[float, float], size: float) -> None:
    """A lesion that grows into what surrounds it: a dark core, which fades towards a paler, ragged margin."""
    rng = canvas.rng
    kind = canvas.pick(("spiculated", "blob", "microlobulated", "star", "lobed"))
    outline = shapes.draw(kind, rng)
    axis, tall = rng.normal(0, 0.4), rng.uniform(0.6, 1.2)
    margin = canvas.pick(("lesion", "muscle", "soft"))
    parent = canvas.put(outline, at, (size, size * tall), axis, tissue=margin)
    share = 1.0
    for _ in range(int(rng.integers(1, 4)) if parent else 0):
        share *= rng.uniform(0.5, 0.85)
        middle = canvas.near(*at, 0.15 * size * (1 - share))
        inner = outline if canvas.chance(0.5) else canvas.pick(("star", "ellipse", "blob"))
        extent, tissue = (size * share, size * share * tall), canvas.pick(("fluid", "lesion", "vein"))
        parent = canvas.put(inner, middle, extent, axis, parent=parent, tissue=tissue, labelled=0.0) or parent


def _thyroid(canvas: Canvas, skin: float) -> None:
    rng = canvas.rng
    strap = skin + rng.uniform(0.1, 0.3)
    canvas.layer(skin - 0.1, strap, 0.03, 0, "muscle", 0.0)
    side = 0.0 if canvas.chance(0.5) else rng.choice([-1, 1]) * rng.uniform(0.6, 1.0)
    trachea = (-side, strap + 0.45)
    ring = canvas.put("ellipse", trachea, (0.3, 0.26), tissue="air", labelled=0.3)
    if ring:
        place = (trachea[0], trachea[1] + 0.06)
        canvas.put("ellipse", place, (0.26, 0.2), parent=ring, tissue="lung", labelled=0.0)
    for x in (-1, 1):
        at = canvas.near(trachea[0] + x * rng.uniform(0.5, 0.65), strap + 0.4, 0.03)
        canvas.put("ellipse", (at[0] + x * 0.55, at[1] + 0.15), rng.uniform(0.12, 0.2), tissue="blood")
        canvas.put("ellipse", (at[0] + x * 0.75, at[1] - 0.1), (0.2, 0.1), tissue="vein", labelled=0.6)
        family = canvas.pick(("star", "superellipse", "bent"))
        size = (rng.uniform(0.3, 0.45), rng.uniform(0.25, 0.4))
        lobe = canvas.put(family, at, size, rng.normal(0, 0.3), tissue="gland")
        canvas.note("lobes", lobe)
        if lobe:
            canvas.lesions(lobe, 0.9, ("lesion", "fluid", "gland"), largest=0.8)
    canvas.layer(strap - 0.1, strap + 0.25, 0.05, 0, "muscle", 0.0)


@plan(probes=("curved", "curved", "sector", "linear"))
def fetal(canvas: Canvas) -> None:
    """A fetal head: a bright, broken skull around dark brain with its midline; fluid and placenta around.

    The object is the filled outline, skull included. The side walls of some heads send nothing back: the beam
    runs along them.
    """
    rng = canvas.rng
    sac = 0
    if canvas.chance(0.8):
        place, size, angle = canvas.near(0, 0.1, 0.1), rng.uniform(0.9, 1.4), canvas.turn()
        tissue = canvas.pick(("fluid", "soft", "fluid", "brain"))
        sac = canvas.put("star", place, size, angle, tissue=tissue, labelled=0.0) or 0
    axis = rng.normal(0, 0.5) if canvas.chance(0.8) else canvas.turn()
    a = rng.uniform(0.4, 0.85)
    b = a * rng.uniform(0.68, 0.9)
    at = canvas.near(0, 0, 0.12)
    if canvas.chance(0.15):
        canvas.put("blob", canvas.near(at[0] + a * 0.9, at[1] + 0.3, 0.2), 0.4, parent=sac, tissue="soft")
    outline = shapes.draw_star(rng)
    outline.update(amplitudes=outline["amplitudes"] * 0.12, aspect=1.0)
    skull_outline = shapes.make("star", outline)
    head = canvas.put(skull_outline, at, (a, b), axis, parent=sac, tissue="brain")
    if not head:
        return
    thick = rng.uniform(0.015, 0.06)
    contour = shapes.star(**outline)[0][0]
    bright = rng.uniform(0.35, 0.95)
    turned = np.array([[np.cos(axis), np.sin(axis)], [-np.sin(axis), np.cos(axis)]])
    start, pieces = rng.uniform(0, 96), int(rng.integers(1, 4))
    if canvas.chance(0.4):  # walls along the beam send nothing back: bone above and below, none at the sides
        pieces, bright = 2, rng.uniform(0.35, 0.75)
        start = np.argmax((contour * [a, b] @ turned)[:, 1]) - 24 * bright
    for k in range(pieces):  # bone between sutures and where the beam meets it
        span = int(96 / pieces * bright)
        index = (int(start + k * 96 / pieces) + np.arange(span)) % 96
        arc = contour[index] * (1 - 0.5 * thick / a) * [a, b]
        width = thick / 2 * rng.uniform(0.6, 1.2) * np.sin(np.linspace(0.3, np.pi - 0.3, span)) ** 0.5
        shape = shapes.tube_along(arc @ turned + at, width)
        canvas.put(shape, (0, 0), 1, parent=head, tissue="cortex", labelled=0.0, least=0.05)
    falx = rng.normal(0, 0.01) + 0.01 * np.sin(np.linspace(0, 9, 20))
    line = np.stack([np.linspace(-0.85, 0.85, 20) * a, falx], 1)
    line = line @ turned + at
    for side in (-1, 1):
        if canvas.chance(0.6):
            spot = (at[0] - side * 0.4 * b * np.sin(axis), at[1] + side * 0.4 * b * np.cos(axis))
            family, place = canvas.pick(("bent", "star", "ellipse")), canvas.near(*spot, 0.05)
            extent, tissue = (
                (a * rng.uniform(0.2, 0.45), b * 0.15),
                canvas.pick(("liquor", "gland", "septum")),
            )
            canvas.put(family, place, extent, axis, parent=head, tissue=tissue, labelled=0.3)
    if canvas.chance(0.4):
        shape, place = shapes.oval(4), (at[0] + 0.45 * a * np.cos(axis), at[1] + 0.45 * a * np.sin(axis))
        canvas.put(shape, place, (0.1 * a, 0.07 * a), axis, parent=head, tissue="liquor", labelled=0.3)
    if canvas.chance(0.8):
        shape = shapes.tube_along(line, rng.uniform(0.006, 0.018))
        canvas.put(shape, (0, 0), 1, parent=head, tissue="septum", labelled=0.0, least=0.05)
    families = ("star", "bent", "tube", "blob", "crescent")
    canvas.fill(sac, int(rng.integers(0, 4)), families, ("soft", "muscle", "bone"), (0.1, 0.5), 0.4)
    if sac:
        place, size = canvas.edge(sac), rng.uniform(0.5, 1.0)
        canvas.put("crescent", place, size, canvas.turn(), parent=sac, tissue="gland", labelled=0.6)
    canvas.partition(0, int(rng.integers(2, 8)), ("soft", "muscle", "fat", "gland"), 0.0, warp=0.15)


@plan(probes=("sector",))
def chambers(canvas: Canvas) -> None:
    """A heart from the apex: dark chambers between walls and valves."""
    rng = canvas.rng
    chest = canvas.put(shapes.oval(3), (0, 0), (2.2, 2.2), tissue="soft", labelled=0.0)
    size = rng.uniform(0.6, 0.9)
    at = canvas.near(0, 0.05, 0.08)
    axis = rng.normal(0, 0.3)
    half = (size, size * rng.uniform(1.0, 1.25))
    muscle = canvas.put("star", at, half, axis, parent=chest, tissue="muscle", labelled=0.5)
    ground = muscle or chest
    lv_wall = canvas.chance(0.5)
    for x, y, w, h in (
        (0.3, -0.25, 0.24, 0.48),
        (-0.3, -0.2, 0.2, 0.42),
        (0.28, 0.52, 0.25, 0.24),
        (-0.3, 0.5, 0.24, 0.24),
    ):
        if not canvas.chance(0.85):
            continue
        x, y = canvas.near(x * size, y * size, 0.03)
        px, py = at[0] + x * np.cos(axis) - y * np.sin(axis), at[1] + x * np.sin(axis) + y * np.cos(axis)
        w, h = w * size * rng.uniform(0.8, 1.25), h * size * rng.uniform(0.8, 1.2)
        kind = shapes.make("star", {**shapes.draw_star(rng), "aspect": 1.0})
        if lv_wall and w < h and x > 0:
            wall = canvas.put(kind, (px, py), (w * 1.3, h * 1.15), axis, parent=ground, tissue="organ")
            number = canvas.put(kind, (px, py), (w, h), axis, parent=wall or ground, tissue="blood")
        else:
            number = canvas.put(kind, (px, py), (w, h), axis, parent=ground, tissue="blood")
        canvas.note("chambers", number)
    place, extent = canvas.near(at[0], at[1], 0.05), size * rng.uniform(0.9, 1.1)
    canvas.put("arc", place, extent, canvas.turn(), parent=chest, tissue="septum", labelled=0.0)
    count = int(rng.integers(2, 6))
    canvas.fill(chest, count, ("bent", "star", "blob"), ("lung", "soft", "fluid", "septum"), (0.2, 0.6), 0.15)


@plan(probes=("curved", "curved", "sector"))
def upper_abdomen(canvas: Canvas) -> None:
    """A curved probe on the liver: vessels end-on and along, gall bladder, kidney, diaphragm."""
    rng = canvas.rng
    y = -1.0
    canvas.layer(y - 1, y + rng.uniform(0.08, 0.2), 0.03, 0, "fat", 0.0)
    canvas.layer(y, y + rng.uniform(0.25, 0.4), 0.04, 0, "muscle", 0.0)
    if canvas.chance(0.6):
        at = canvas.near(rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.5), 0.05)
        size = rng.uniform(0.3, 0.5)
        axis = rng.normal(0, 0.5)
        kidney = canvas.put("bent", at, (size, size * 0.8), axis, tissue="organ")
        if kidney:
            extent = (size * 0.6, size * 0.2)
            canvas.put("lobed", at, extent, axis, parent=kidney, tissue="septum", labelled=0.3)
            canvas.lesions(kidney, 0.3, ("fluid", "lesion"))
    if canvas.chance(0.5):
        family, place = canvas.pick(("ellipse", "bent", "star")), canvas.near(rng.uniform(-0.6, 0.6), -0.1)
        bladder = canvas.put(family, place, (rng.uniform(0.15, 0.4), 0.14), canvas.turn(), tissue="fluid")
        if bladder and canvas.chance(0.4):
            size = canvas.radius(bladder)
            canvas.fill(bladder, 2, ("ellipse", "star"), ("cortex",), (0.15 * size, 0.4 * size), 0.7)
    sweep = np.linspace(0.3, 2.6, 40)
    dome = np.stack([1.5 * np.cos(sweep), 0.2 + rng.uniform(0.5, 0.8) * np.sin(sweep)], 1)
    if canvas.chance(0.5):
        shape = shapes.tube_along(dome, rng.uniform(0.01, 0.03))
        canvas.put(shape, canvas.near(0, 0), 1, tissue="cortex", labelled=0.0, least=0.05)
    family = canvas.pick(("lobed", "star", "superellipse"))
    liver = canvas.put(
        family, canvas.near(0, -0.1, 0.2), rng.uniform(0.8, 1.3), canvas.turn(), tissue="organ"
    )
    if liver:
        canvas.fill(liver, int(rng.integers(1, 7)), ("ellipse", "tube", "bent"), ("vein",), (0.05, 0.3), 0.6)
        canvas.lesions(liver, 0.8)
    count = int(rng.integers(0, 4))
    canvas.fill(0, count, ("tube", "star", "ellipse"), ("bowel", "blood", "lung"), (0.1, 0.35), 0.5)
    canvas.partition(0, int(rng.integers(2, 8)), ("soft", "fat", "muscle"), 0.0)
