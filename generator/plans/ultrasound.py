"""Plans of ultrasound scenes: the probe looks down from the top of the frame."""

from __future__ import annotations

import numpy as np

from generator.canvas import shapes
from generator.canvas.layout import Canvas
from generator.plans.tools import LESIONS, chance, fill, layer, lesions, near, oval, pick, tube_along, turn

# fmt: off


def layers(canvas: Canvas) -> None:
    """A linear probe on the skin: fat, gland, muscle, ribs; a lesion, or a thyroid beside a carotid."""
    rng = canvas.rng
    y = -1.05
    skin = y + rng.uniform(0.04, 0.12)
    layer(canvas, y - 1, skin, 0.01, 0, "skin", 0.0)
    if chance(canvas, 0.35):
        _thyroid(canvas, skin)
    else:
        _breast(canvas, skin)
    canvas.partition(0, int(rng.integers(2, 9)), ("soft", "fat", "gland", "muscle"), 0.2, warp=0.12)


def _breast(canvas: Canvas, skin: float) -> None:
    rng = canvas.rng
    for _ in range(1 + int(rng.random() < 0.25)):
        size = 0.55 * np.exp(rng.uniform(-1.6, 0))
        at = near(canvas, 0, rng.uniform(-0.5, 0.35), 0.25)
        if chance(canvas, 0.3):
            _infiltrating(canvas, at, size)
            continue
        kind = pick(canvas, (*LESIONS, "ellipse", "star", "microlobulated"))
        lesion = canvas.put(kind, at, (size, size * rng.uniform(0.5, 1.1)),
                            rng.normal(0, 0.4), tissue=pick(canvas, ("lesion", "lesion", "fluid")))
        if lesion and chance(canvas, 0.2):
            size = canvas.radius(lesion)
            fill(canvas, lesion, int(rng.integers(1, 6)), ("ellipse", "star"), ("bone", "soft", "fluid"),
                 (0.03 * size, 0.3 * size), 0.1)
    fat = layer(canvas, skin - 0.2, skin + rng.uniform(0.15, 0.6), 0.06, 0, "fat", 0.0)
    if fat:
        canvas.partition(fat, int(rng.integers(2, 8)), ("fat", "soft", "fat"), 0.0)
    deep = rng.uniform(0.3, 1.2)
    muscle = layer(canvas, deep, deep + rng.uniform(0.15, 0.4), 0.05, 0, "muscle", 0.3)
    if muscle and chance(canvas, 0.4):
        for x in np.arange(-1.2, 1.3, rng.uniform(0.6, 0.9)):
            canvas.put("ellipse", near(canvas, float(x), deep + 0.5, 0.05), (0.17, 0.09), tissue="cortex",
                       labelled=0.2)
    for _ in range(int(rng.integers(0, 4))):
        x = np.linspace(-1.4, 1.4, 40)
        waves = rng.normal(0, 0.12, 3) @ np.sin(np.arange(1, 4)[:, None] * x + turn(canvas))
        path = np.stack([x, rng.uniform(-0.6, 0.8) + waves], 1)
        canvas.put(tube_along(path, rng.uniform(0.005, 0.02)), (0, 0), 1, tissue="septum", labelled=0.0,
                   least=0.02)


def _infiltrating(canvas: Canvas, at: tuple[float, float], size: float) -> None:
    """A lesion that grows into what surrounds it: a dark core, which fades towards a paler, ragged margin."""
    rng = canvas.rng
    kind = pick(canvas, ("spiculated", "blob", "microlobulated", "star", "lobed"))
    outline = shapes.make(kind, shapes.FAMILIES[kind].draw(rng))
    axis, tall = rng.normal(0, 0.4), rng.uniform(0.6, 1.2)
    margin = pick(canvas, ("lesion", "muscle", "soft"))
    parent = canvas.put(outline, at, (size, size * tall), axis, tissue=margin)
    share = 1.0
    for _ in range(int(rng.integers(1, 4)) if parent else 0):
        share *= rng.uniform(0.5, 0.85)
        middle = near(canvas, *at, 0.15 * size * (1 - share))
        inner = outline if chance(canvas, 0.5) else pick(canvas, ("star", "ellipse", "blob"))
        parent = canvas.put(inner, middle, (size * share, size * share * tall), axis, parent=parent,
                            tissue=pick(canvas, ("fluid", "lesion", "vein")), labelled=0.0) or parent


def _thyroid(canvas: Canvas, skin: float) -> None:
    rng = canvas.rng
    strap = skin + rng.uniform(0.1, 0.3)
    layer(canvas, skin - 0.1, strap, 0.03, 0, "muscle", 0.0)
    side = 0.0 if chance(canvas, 0.5) else rng.choice([-1, 1]) * rng.uniform(0.6, 1.0)
    trachea = (-side, strap + 0.45)
    ring = canvas.put("ellipse", trachea, (0.3, 0.26), tissue="air", labelled=0.3)
    if ring:
        canvas.put("ellipse", (trachea[0], trachea[1] + 0.06), (0.26, 0.2), parent=ring, tissue="lung",
                   labelled=0.0)
    for x in (-1, 1):
        at = near(canvas, trachea[0] + x * rng.uniform(0.5, 0.65), strap + 0.4, 0.03)
        canvas.put("ellipse", (at[0] + x * 0.55, at[1] + 0.15), rng.uniform(0.12, 0.2), tissue="blood")
        canvas.put("ellipse", (at[0] + x * 0.75, at[1] - 0.1), (0.2, 0.1), tissue="vein",
                   labelled=0.6)
        lobe = canvas.put(pick(canvas, ("star", "superellipse", "bent")), at,
                          (rng.uniform(0.3, 0.45), rng.uniform(0.25, 0.4)), rng.normal(0, 0.3),
                          tissue="gland")
        if lobe:
            lesions(canvas, lobe, 0.9, ("lesion", "fluid", "gland"), largest=0.8)
    layer(canvas, strap - 0.1, strap + 0.25, 0.05, 0, "muscle", 0.0)


def fetal(canvas: Canvas) -> None:
    """A fetal head: a bright, broken skull around dark brain with its midline; fluid and placenta around.

    The object is the filled outline, skull included. The side walls of some heads send nothing back: the beam
    runs along them.
    """
    rng = canvas.rng
    sac = 0
    if chance(canvas, 0.8):
        sac = canvas.put("star", near(canvas, 0, 0.1, 0.1), rng.uniform(0.9, 1.4), turn(canvas),
                         tissue=pick(canvas, ("fluid", "soft", "fluid", "brain")),
                         labelled=0.0) or 0
    axis = rng.normal(0, 0.5) if chance(canvas, 0.8) else turn(canvas)
    a = rng.uniform(0.4, 0.85)
    b = a * rng.uniform(0.68, 0.9)
    at = near(canvas, 0, 0, 0.12)
    if chance(canvas, 0.15):
        canvas.put("blob", near(canvas, at[0] + a * 0.9, at[1] + 0.3, 0.2), 0.4, parent=sac, tissue="soft")
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
    if chance(canvas, 0.4):  # walls along the beam send nothing back: bone above and below, none at the sides
        pieces, bright = 2, rng.uniform(0.35, 0.75)
        start = np.argmax((contour * [a, b] @ turned)[:, 1]) - 24 * bright
    for k in range(pieces):  # bone between sutures and where the beam meets it
        span = int(96 / pieces * bright)
        index = (int(start + k * 96 / pieces) + np.arange(span)) % 96
        arc = contour[index] * (1 - 0.5 * thick / a) * [a, b]
        width = thick / 2 * rng.uniform(0.6, 1.2) * np.sin(np.linspace(0.3, np.pi - 0.3, span)) ** 0.5
        canvas.put(tube_along(arc @ turned + at, width), (0, 0), 1, parent=head, tissue="cortex",
                   labelled=0.0, least=0.05)
    falx = rng.normal(0, 0.01) + 0.01 * np.sin(np.linspace(0, 9, 20))
    line = np.stack([np.linspace(-0.85, 0.85, 20) * a, falx], 1)
    line = line @ turned + at
    for side in (-1, 1):
        if chance(canvas, 0.6):
            spot = (at[0] - side * 0.4 * b * np.sin(axis), at[1] + side * 0.4 * b * np.cos(axis))
            canvas.put(pick(canvas, ("bent", "star", "ellipse")), near(canvas, *spot, 0.05),
                       (a * rng.uniform(0.2, 0.45), b * 0.15), axis, parent=head,
                       tissue=pick(canvas, ("liquor", "gland", "septum")), labelled=0.3)
    if chance(canvas, 0.4):
        canvas.put(oval(4), (at[0] + 0.45 * a * np.cos(axis), at[1] + 0.45 * a * np.sin(axis)),
                   (0.1 * a, 0.07 * a), axis, parent=head,
                   tissue="liquor", labelled=0.3)
    if chance(canvas, 0.8):
        canvas.put(tube_along(line, rng.uniform(0.006, 0.018)), (0, 0), 1, parent=head, tissue="septum",
                   labelled=0.0, least=0.05)
    fill(canvas, sac, int(rng.integers(0, 4)), ("star", "bent", "tube", "blob", "crescent"),
         ("soft", "muscle", "bone"), (0.1, 0.5), 0.4)
    if sac:
        canvas.put("crescent", canvas.edge(sac), rng.uniform(0.5, 1.0), turn(canvas), parent=sac,
                   tissue="gland", labelled=0.6)
    canvas.partition(0, int(rng.integers(2, 8)), ("soft", "muscle", "fat", "gland"), 0.0, warp=0.15)


def chambers(canvas: Canvas) -> None:
    """A heart from the apex: dark chambers between walls and valves."""
    rng = canvas.rng
    chest = canvas.put(oval(3), (0, 0), (2.2, 2.2), tissue="soft", labelled=0.0)
    size = rng.uniform(0.6, 0.9)
    at = near(canvas, 0, 0.05, 0.08)
    axis = rng.normal(0, 0.3)
    muscle = canvas.put("star", at, (size, size * rng.uniform(1.0, 1.25)), axis, parent=chest,
                        tissue="muscle", labelled=0.5)
    ground = muscle or chest
    lv_wall = chance(canvas, 0.5)
    for x, y, w, h in ((0.3, -0.25, 0.24, 0.48), (-0.3, -0.2, 0.2, 0.42), (0.28, 0.52, 0.25, 0.24),
                       (-0.3, 0.5, 0.24, 0.24)):
        if not chance(canvas, 0.85):
            continue
        x, y = near(canvas, x * size, y * size, 0.03)
        px, py = at[0] + x * np.cos(axis) - y * np.sin(axis), at[1] + x * np.sin(axis) + y * np.cos(axis)
        w, h = w * size * rng.uniform(0.8, 1.25), h * size * rng.uniform(0.8, 1.2)
        kind = shapes.make("star", {**shapes.draw_star(rng), "aspect": 1.0})
        if lv_wall and w < h and x > 0:
            wall = canvas.put(kind, (px, py), (w * 1.3, h * 1.15), axis, parent=ground, tissue="organ")
            canvas.put(kind, (px, py), (w, h), axis, parent=wall or ground, tissue="blood")
        else:
            canvas.put(kind, (px, py), (w, h), axis, parent=ground, tissue="blood")
    canvas.put("arc", near(canvas, at[0], at[1], 0.05), size * rng.uniform(0.9, 1.1), turn(canvas),
               parent=chest, tissue="septum", labelled=0.0)
    fill(canvas, chest, int(rng.integers(2, 6)), ("bent", "star", "blob"),
         ("lung", "soft", "fluid", "septum"), (0.2, 0.6), 0.15)


def upper_abdomen(canvas: Canvas) -> None:
    """A curved probe on the liver: vessels end-on and along, gall bladder, kidney, diaphragm."""
    rng = canvas.rng
    y = -1.0
    layer(canvas, y - 1, y + rng.uniform(0.08, 0.2), 0.03, 0, "fat", 0.0)
    layer(canvas, y, y + rng.uniform(0.25, 0.4), 0.04, 0, "muscle", 0.0)
    if chance(canvas, 0.6):
        at = near(canvas, rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.5), 0.05)
        size = rng.uniform(0.3, 0.5)
        axis = rng.normal(0, 0.5)
        kidney = canvas.put("bent", at, (size, size * 0.8), axis, tissue="organ")
        if kidney:
            canvas.put("lobed", at, (size * 0.6, size * 0.2), axis, parent=kidney, tissue="septum",
                       labelled=0.3)
            lesions(canvas, kidney, 0.3, ("fluid", "lesion"))
    if chance(canvas, 0.5):
        bladder = canvas.put(pick(canvas, ("ellipse", "bent", "star")),
                             near(canvas, rng.uniform(-0.6, 0.6), -0.1), (rng.uniform(0.15, 0.4),
                                                                          0.14), turn(canvas),
                             tissue="fluid")
        if bladder and chance(canvas, 0.4):
            size = canvas.radius(bladder)
            fill(canvas, bladder, 2, ("ellipse", "star"), ("cortex",), (0.15 * size, 0.4 * size), 0.7)
    sweep = np.linspace(0.3, 2.6, 40)
    dome = np.stack([1.5 * np.cos(sweep), 0.2 + rng.uniform(0.5, 0.8) * np.sin(sweep)], 1)
    if chance(canvas, 0.5):
        canvas.put(tube_along(dome, rng.uniform(0.01, 0.03)), near(canvas, 0, 0), 1, tissue="cortex",
                   labelled=0.0, least=0.05)
    liver = canvas.put(pick(canvas, ("lobed", "star", "superellipse")), near(canvas, 0, -0.1, 0.2),
                       rng.uniform(0.8, 1.3), turn(canvas), tissue="organ")
    if liver:
        fill(canvas, liver, int(rng.integers(1, 7)), ("ellipse", "tube", "bent"), ("vein",), (0.05, 0.3), 0.6)
        lesions(canvas, liver, 0.8)
    fill(canvas, 0, int(rng.integers(0, 4)), ("tube", "star", "ellipse"), ("bowel", "blood", "lung"),
         (0.1, 0.35), 0.5)
    canvas.partition(0, int(rng.integers(2, 8)), ("soft", "fat", "muscle"), 0.0)
