"""Plans of sections through the body, for CT and MR (and now and then for generic images)."""

from __future__ import annotations

import numpy as np

from synthfm.generator.canvas import outlines, shapes
from synthfm.generator.canvas.layout import Canvas
from synthfm.generator.canvas.outlines import Shape
from synthfm.generator.plans.tools import plan


def vertebra(canvas: Canvas, at: tuple[float, float], size: float, parent: int | None) -> int | None:
    """An axial vertebra: canal first, then body, pedicles, laminae and processes as one bone around it."""
    rng = canvas.rng
    x, y = at
    place = (x, y + 1.15 * size)
    canvas.put(shapes.oval(), place, (0.42 * size, 0.36 * size), parent=parent, tissue="liquor", labelled=0.5)
    body = shapes.superellipse(rng.uniform(2.2, 3.2), rng.uniform(0.65, 0.8), 0.0, rng.uniform(0, 0.12))[0][0]
    arch = [[body]]
    if canvas.chance(0.75):
        for side in (-1, 1):
            path = np.array([[0.45 * side, 0.5], [0.62 * side, 1.1], [0.4 * side, 1.6], [0, 1.85]])
            arch.append([outlines.ribbon(path, rng.uniform(0.12, 0.2, 4))])
            wing = np.array([[0.55 * side, 1.05], [rng.uniform(1.0, 1.7) * side, rng.uniform(0.9, 1.4)]])
            arch.append([outlines.ribbon(wing, [0.2, 0.12])])
        process = np.array([[0.0, 1.75], [rng.normal(0, 0.08), rng.uniform(2.1, 2.9)]])
        arch.append([outlines.ribbon(process, [0.2, 0.12])])
    bone = canvas.put(outlines.from_parts("vertebra", arch), at, size, parent=parent, tissue="bone")
    if bone:
        shape = outlines.from_parts("star", [[body * rng.uniform(0.8, 0.92)]])
        marrow = canvas.put(shape, at, size, parent=bone, tissue="marrow", labelled=0.0)
        canvas.lesions(marrow, 0.1)
    return bone


def trunk(canvas: Canvas, flat: tuple[float, float]) -> tuple[int | None, float, float]:
    """Skin, fat and muscle wall: the number of the cavity, its half-depth and half-width."""
    rng = canvas.rng
    depth = rng.uniform(*flat)
    wall, muscle = rng.uniform(0.02, 0.2) * rng.uniform(0.3, 1), rng.uniform(0.03, 0.09)
    square = rng.uniform(2.0, 2.9)
    body = canvas.put(shapes.oval(square), (0, 0), (1.0, depth), tissue="skin", labelled=0.35)
    shape = shapes.oval(square)
    fat = canvas.put(shape, (0, 0), (0.985, depth - 0.015), parent=body, tissue="fat", labelled=0.0)
    shape, size = shapes.oval(square), (0.985 - wall, depth - 0.015 - wall * rng.uniform(0.6, 1.4))
    flesh = canvas.put(shape, (0, 0.01), size, parent=fat or body, tissue="muscle", labelled=0.0)
    inner = 0.985 - wall - muscle
    deep = max(0.3, depth - 0.015 - wall - muscle)
    shape, at, tissue = shapes.oval(square), (0, 0), "fat" if canvas.chance(0.65) else "soft"
    cavity = canvas.put(shape, at, (inner, deep), parent=flesh or fat or body, tissue=tissue, labelled=0.0)
    return cavity or flesh or fat or body, deep, inner


def ribs(canvas: Canvas, parent: int | None, inner: float, deep: float, count: int) -> None:
    """Cut ribs around a cavity: short arcs of bone with marrow."""
    rng = canvas.rng
    at = np.arange(count) / count * 2 * np.pi + rng.normal(0, 0.1, count)
    for angle in at[np.abs(np.sin(at) + 1) > 0.25]:
        sweep = angle + np.linspace(0, rng.uniform(0.12, 0.45), 7)
        path = np.stack([inner * 0.99 * np.cos(sweep), deep * 0.99 * np.sin(sweep)], 1)
        shape = shapes.tube_along(path, rng.uniform(0.018, 0.035))
        canvas.note("ribs", canvas.put(shape, (0, 0), 1, parent=parent, tissue="bone", labelled=0.15))


def vessel(canvas: Canvas, at: tuple[float, float], size: float, parent: int | None, tissue: str) -> None:
    """A great vessel cut across, now and then with a calcified or thickened wall."""
    number = canvas.put("ellipse", at, size, canvas.turn(), parent=parent, tissue=tissue)
    if number and canvas.chance(0.15):
        angle, deposit = canvas.turn(), canvas.pick(("bone", "lesion"))
        canvas.put("arc", at, size * 0.85, angle, parent=number, tissue=deposit, labelled=0.0)


def kidney(canvas: Canvas, at: tuple[float, float], side: int, parent: int | None) -> None:
    """A kidney: cortex, pyramids or sinus of another tissue, cysts and tumours."""
    rng = canvas.rng
    size = rng.uniform(0.15, 0.26)
    aspect, bend, taper = rng.uniform(0.5, 0.7), side * rng.uniform(0.3, 0.8), rng.uniform(-0.1, 0.1)
    bean = shapes.make("bent", {"aspect": aspect, "bend": bend, "taper": taper, "hilum": 0.0})
    organ = canvas.put(bean, at, size, side * 1.4 + rng.normal(0, 0.35), parent=parent, tissue="organ")
    canvas.note("kidneys", organ)
    if not organ:
        return
    if canvas.chance(0.7):
        place, extent = (at[0] - side * 0.05, at[1]), size * rng.uniform(0.4, 0.65)
        angle, tissue = canvas.turn(), canvas.pick(("fat", "vein", "fluid"))
        canvas.put("lobed", place, extent, angle, parent=organ, tissue=tissue, labelled=0.0)
    canvas.lesions(organ, 0.35, ("fluid", "lesion"), largest=0.8)


def bowel(canvas: Canvas, parent: int | None, count: int) -> None:
    """Loops of bowel: wall and content of soft tissue, fluid, gas or contrast."""
    families = ("tube", "star", "bent", "ellipse")
    for loop in canvas.fill(parent, count, families, ("bowel", "soft"), (0.07, 0.3)):
        canvas.note("bowel", loop)
        content = canvas.pick(("fluid", "air", "bowel", "blood", "none"))
        if content != "none":
            size = canvas.radius(loop) * canvas.rng.uniform(0.4, 0.9)
            contents = ("star", "ellipse", "blob")
            canvas.fill(loop, 2, contents, (content,), (0.7 * size, size), object_share=0.1)


@plan()
def abdomen(canvas: Canvas) -> None:
    """An axial section through the abdomen: wall, spine, vessels, solid organs that touch, bowel in fat."""
    rng = canvas.rng
    cavity, deep, inner = trunk(canvas, (0.6, 0.9))
    back = deep * rng.uniform(0.5, 0.62)
    vertebra(canvas, canvas.near(0, back, 0.02), rng.uniform(0.13, 0.18), cavity)
    for side in (-1, 1):
        at, size = canvas.near(side * 0.22, back + 0.25, 0.03), rng.uniform(0.14, 0.22)
        muscle = canvas.put("ellipse", at, size, 0.2 * side, parent=cavity, tissue="muscle", labelled=0.4)
        canvas.note("muscles", muscle)
        if canvas.chance(0.6):
            at = canvas.near(side * 0.21, back, 0.02)
            canvas.put("ellipse", at, rng.uniform(0.07, 0.12), parent=cavity, tissue="muscle", labelled=0.5)
    if canvas.chance(0.5):
        ribs(canvas, cavity, inner, deep, int(rng.integers(8, 16)))
    vessel(canvas, canvas.near(0.06, back - 0.22, 0.02), rng.uniform(0.05, 0.085), cavity, "blood")
    vessel(canvas, canvas.near(-0.12, back - 0.2, 0.02), rng.uniform(0.05, 0.1), cavity, "vein")
    if canvas.chance(0.75):
        at = canvas.near(-0.2, -0.12)
        canvas.put("ellipse", at, rng.uniform(0.06, 0.12), canvas.turn(), parent=cavity, tissue="fluid")
        family = canvas.pick(("lobed", "star", "bent", "superellipse"))
        place, extent = canvas.near(-0.45 * inner, -0.08, 0.07), rng.uniform(0.35, 0.65) * inner
        liver = canvas.put(family, place, extent, rng.normal(0, 0.5), parent=cavity, tissue="organ")
        if liver:
            canvas.lesions(liver, 0.6)
            if canvas.chance(0.6):
                at, size = canvas.somewhere(liver), canvas.radius(liver) * 0.7
                canvas.put("tree", at, size, canvas.turn(), parent=liver, tissue="vein", labelled=0.3)
    if canvas.chance(0.65):
        family = canvas.pick(("bent", "crescent", "star"))
        place, extent = canvas.near(0.66 * inner, 0.05), rng.uniform(0.18, 0.34)
        spleen = canvas.put(family, place, extent, 1.5 + rng.normal(0, 0.3), parent=cavity, tissue="organ")
        canvas.lesions(spleen, 0.15)
    for side in (-1, 1):
        if canvas.chance(0.75):
            kidney(canvas, canvas.near(side * 0.42 * inner, back - 0.05, 0.05), side, cavity)
    if canvas.chance(0.6):
        family = canvas.pick(("bent", "star", "tube"))
        place, extent = canvas.near(0.3, -0.25), rng.uniform(0.2, 0.4)
        stomach = canvas.put(family, place, extent, rng.normal(0.6, 0.4), parent=cavity, tissue="bowel")
        if stomach:  # a level: gas rises to the front
            x, y = canvas.somewhere(stomach)
            canvas.put(shapes.oval(), (x, y - 0.1), (0.3, 0.12), parent=stomach, tissue="air", labelled=0.0)
    if canvas.chance(0.5):
        family, at = canvas.pick(("tube", "lobed", "bent")), canvas.near(0.08, -0.02)
        canvas.put(family, at, rng.uniform(0.2, 0.36), rng.normal(0, 0.3), parent=cavity, tissue="organ")
    bowel(canvas, cavity, int(rng.integers(1, 14)))


@plan()
def thorax(canvas: Canvas) -> None:
    """An axial section through the chest: ribs, spine, mediastinum, heart, lungs with vessels and nodules."""
    rng = canvas.rng
    cavity, deep, inner = trunk(canvas, (0.62, 0.85))
    back = deep * rng.uniform(0.6, 0.75)
    vertebra(canvas, canvas.near(0, back, 0.02), rng.uniform(0.11, 0.16), cavity)
    ribs(canvas, cavity, inner, deep, int(rng.integers(9, 18)))
    canvas.put("superellipse", canvas.near(0, -0.92 * deep, 0.02), (0.14, 0.06), parent=cavity, tissue="bone")
    vessel(canvas, canvas.near(0.13, back - 0.16, 0.02), rng.uniform(0.05, 0.09), cavity, "blood")
    if canvas.chance(0.55):
        heart(canvas, cavity, canvas.near(0.12, -0.05), rng.uniform(0.3, 0.44))
    else:
        place = canvas.near(0, -0.05, 0.03)
        middle = canvas.put("star", place, (0.22, 0.4), parent=cavity, tissue="fat", labelled=0.0)
        count = int(rng.integers(2, 6))
        canvas.fill(middle, count, ("ellipse", "bent", "star"), ("blood", "vein", "soft"), (0.05, 0.14))
        canvas.fill(middle, 1, ("ellipse",), ("air",), (0.05, 0.08))
    for side in (-1, 1):
        shape, place = shapes.oval(rng.uniform(2, 2.8)), canvas.near(side * 0.5 * inner, 0, 0.03)
        extent = (0.49 * inner, deep * rng.uniform(0.78, 0.95))
        lung = canvas.put(shape, place, extent, side * rng.normal(0.05, 0.08), parent=cavity, tissue="lung")
        canvas.note("lungs", lung)
        if not lung:
            continue
        for _ in range(int(rng.integers(1, 4))):
            at, size = canvas.somewhere(lung), canvas.radius(lung) * rng.uniform(0.3, 0.8)
            canvas.put("tree", at, size, canvas.turn(), parent=lung, tissue="vein", labelled=0.15)
        canvas.lesions(lung, 0.5, ("lesion", "organ"), largest=0.4)
        if canvas.chance(0.15):
            canvas.put("crescent", (side * 0.55 * inner, deep * 0.5), 0.4, 1.5, parent=lung, tissue="fluid")


def heart(canvas: Canvas, parent: int | None, at: tuple[float, float], size: float) -> None:
    """A heart cut along its axis: muscle around four chambers."""
    rng = canvas.rng
    axis = rng.uniform(0.2, 1.2)
    muscle = canvas.put("star", at, size, axis, parent=parent, tissue="muscle", labelled=0.7)
    chamber = "blood" if canvas.chance(0.7) else "vein"
    for along, across in ((0.35, 0.3), (0.35, -0.35), (-0.45, 0.3), (-0.45, -0.35)):
        x = at[0] + size * (along * np.cos(axis) - across * np.sin(axis))
        y = at[1] + size * (along * np.sin(axis) + across * np.cos(axis))
        family, place = canvas.pick(("star", "bent", "ellipse")), canvas.near(x, y, 0.02)
        size_of = size * rng.uniform(0.25, 0.42)
        canvas.note("chambers", canvas.put(family, place, size_of, axis, parent=muscle, tissue=chamber))


@plan()
def cardiac(canvas: Canvas) -> None:
    """A short-axis section of the heart: a ring of muscle around the left ventricle, the right one on it."""
    rng = canvas.rng
    if canvas.chance(0.2):
        return thorax(canvas)
    shape = shapes.oval(2.4)
    chest = canvas.put(shape, canvas.near(0, 0), (1.6, rng.uniform(1.0, 1.4)), tissue="muscle", labelled=0.0)
    size = rng.uniform(0.28, 0.5)
    at = canvas.near(0.1, 0.0, 0.1)
    pool = canvas.put("star", at, size * rng.uniform(0.5, 0.78), canvas.turn(), parent=chest, tissue="blood")
    if pool and canvas.chance(0.6):
        for _ in range(int(rng.integers(1, 4))):  # papillary muscles
            place, extent = canvas.edge(pool), size * rng.uniform(0.08, 0.2)
            canvas.put("star", place, extent, parent=pool, tissue="muscle", labelled=0.0)
    wall = shapes.draw_star(rng)
    wall.update(aspect=rng.uniform(0.85, 1.0), amplitudes=wall["amplitudes"] * 0.4)
    ring = canvas.put(shapes.make("star", wall), at, size, canvas.turn(), parent=chest, tissue="organ")
    canvas.lesions(ring, 0.2, largest=0.3)
    side = rng.uniform(2.5, 3.8)
    right = (at[0] + 0.75 * size * np.cos(side), at[1] + 0.75 * size * np.sin(side))
    family = canvas.pick(("crescent", "star", "bent"))
    canvas.put(family, right, size * rng.uniform(0.8, 1.2), side, parent=chest, tissue="blood")
    for x in (-1, 1):
        family, place = canvas.pick(("star", "bent")), canvas.near(x * 0.95, -0.1, 0.1)
        canvas.put(family, place, (0.45, 0.7), parent=chest, tissue="lung", labelled=0.4)
    canvas.put("star", canvas.near(-0.4, 0.85), (0.8, 0.4), parent=chest, tissue="organ", labelled=0.4)
    families = ("bent", "star", "tube", "ellipse")
    canvas.fill(chest, int(rng.integers(2, 7)), families, ("fat", "vein", "soft", "blood"), (0.05, 0.3), 0.3)


@plan()
def pelvis(canvas: Canvas) -> None:
    """An axial section through the pelvis: hips, bladder, prostate or uterus, rectum, muscles."""
    rng = canvas.rng
    cavity, deep, _ = trunk(canvas, (0.55, 0.75))
    for side in (-1, 1):
        family = canvas.pick(("ellipse", "bent", "superellipse"))
        where, half = canvas.near(side * 0.62, 0.05, 0.03), (rng.uniform(0.1, 0.2), rng.uniform(0.15, 0.28))
        hip = canvas.put(family, where, half, side * rng.normal(0.3, 0.3), parent=cavity, tissue="cortex")
        canvas.note("hips", hip)
        if hip:
            place, extent = (side * 0.62, 0.05), canvas.radius(hip) * 0.85
            canvas.put("ellipse", place, extent, canvas.turn(), parent=hip, tissue="marrow", labelled=0.0)
        place = canvas.near(side * 0.4, 0.05, 0.02)
        canvas.put("bent", place, 0.26, 1.5, parent=cavity, tissue="muscle", labelled=0.4)
        place = canvas.near(side * 0.5, 0.42, 0.03)
        canvas.put("star", place, (0.36, 0.18), -side * 0.5, parent=cavity, tissue="muscle", labelled=0.3)
    size = rng.uniform(0.14, 0.26)
    kind = {"exponent": rng.uniform(2, 2.8), "aspect": rng.uniform(0.7, 1.0)}
    kind |= {"taper": rng.uniform(-0.15, 0.15), "dent": rng.uniform(0, 0.15)}
    at = canvas.near(0, 0.08, 0.03)
    gland = canvas.put(shapes.make("superellipse", kind), at, size, parent=cavity, tissue="gland")
    if gland:
        if canvas.chance(0.75):  # the transition zone in front, patchy; the capsule-side zone around it
            family = canvas.pick(("star", "lobed", "ellipse"))
            where, reach = (at[0], at[1] - 0.25 * size), size * rng.uniform(0.5, 0.8)
            zone = canvas.put(family, where, reach, parent=gland, tissue="organ", labelled=0.8)
            if zone:
                canvas.partition(zone, int(rng.integers(2, 7)), ("gland", "organ", "soft", "septum"), 0.05)
        canvas.lesions(gland, 0.3, largest=0.3)
    place = (at[0] + rng.normal(0, 0.02), at[1] + size * 0.95 + 0.07)
    back = canvas.put("star", place, (0.12, 0.1), parent=cavity, tissue="bowel")
    if back and canvas.chance(0.6):
        place = (at[0], at[1] + size + 0.05)
        canvas.put("star", place, 0.07, parent=back, tissue=canvas.pick(("air", "fluid")), labelled=0.0)
    if canvas.chance(0.7):
        family = canvas.pick(("star", "superellipse"))
        reach, tissue = rng.uniform(0.14, 0.3), "muscle" if canvas.chance(0.5) else "fluid"
        bladder = canvas.put(family, (at[0], at[1] - size - 0.15), reach, parent=cavity, tissue=tissue)
        if bladder:
            place, extent = (at[0], at[1] - size - 0.15), canvas.radius(bladder) * 0.88
            canvas.put("ellipse", place, extent, parent=bladder, tissue="fluid", labelled=0.0)
    canvas.put("bent", canvas.near(0, deep * 0.75, 0.03), 0.18, 0.0, parent=cavity, tissue="bone")
    for side in (-1, 1):
        vessel(canvas, canvas.near(side * 0.4, -0.3, 0.03), rng.uniform(0.03, 0.05), cavity, "blood")
    bowel(canvas, cavity, int(rng.integers(0, 4)))


@plan()
def head(canvas: Canvas) -> None:
    """A section through the head: skull, brain with a folded cortex, ventricles, tumours."""
    rng = canvas.rng
    long = rng.uniform(0.95, 1.25)
    shape = shapes.oval(rng.uniform(2, 2.3))
    scalp = canvas.put(shape, (0, 0), (0.85, 0.85 * long), tissue="fat", labelled=0.3)
    thin = rng.uniform(0.02, 0.07)
    inner = (0.85 - thin, 0.85 * long - thin)
    skull = canvas.put(shapes.oval(2.1), (0, 0), inner, parent=scalp, tissue="cortex", labelled=0.0)
    bone = rng.uniform(0.03, 0.08)
    wide, tall = 0.85 - thin - bone, 0.85 * long - thin - bone
    shape = shapes.oval(2.1)
    liquor = canvas.put(shape, (0, 0), (wide, tall), parent=skull or scalp, tissue="liquor", labelled=0.0)
    room = liquor or skull or scalp
    brain = canvas.put(_folded(rng, 0.02), (0, 0), (wide * 0.97, tall * 0.97), parent=room, tissue="grey")
    if not brain:
        return
    spread = rng.uniform(0.4, 1.1)
    for side in (-1, 1):
        t = np.linspace(0, 1, 12)
        horn = np.stack(
            [side * (0.04 + 0.3 * spread * np.abs(t - 0.45) ** 1.3), spread * (-0.32 + 0.64 * t)], 1
        )
        shape = shapes.tube_along(horn, rng.uniform(0.03, 0.09) * np.sin(np.pi * (0.1 + 0.8 * t)))
        horn_of = canvas.put(shape, (0, rng.normal(0, 0.03)), 1, parent=brain, tissue="liquor", labelled=0.7)
        canvas.note("ventricles", horn_of)
        family = canvas.pick(("bent", "star", "ellipse"))
        place, size = canvas.near(side * 0.2, 0.0, 0.02), rng.uniform(0.08, 0.15)
        canvas.note(
            "nuclei", canvas.put(family, place, size, side * 0.9, parent=brain, tissue="grey", labelled=0.7)
        )
    if canvas.chance(0.5):
        size = rng.uniform(0.08, 0.3)
        at = canvas.somewhere(brain)
        oedema = None
        if canvas.chance(0.6):
            family, extent = canvas.pick(("blob", "lobed", "star")), size * rng.uniform(1.2, 1.8)
            oedema = canvas.put(family, at, extent, canvas.turn(), parent=brain, tissue="lesion")
        family = canvas.pick(("star", "microlobulated", "blob"))
        tumour = canvas.put(family, at, size * 0.8, parent=oedema or brain, tissue="organ")
        if tumour and canvas.chance(0.6):
            canvas.put("star", at, size * 0.45, parent=tumour, tissue="fluid", labelled=0.7)
    if canvas.chance(0.8):
        rough = rng.uniform(0.03, 0.09)
        for side in (-1, 1):
            shape, half = _folded(rng, rough), (wide * 0.4, tall * rng.uniform(0.78, 0.87))
            place = (side * wide * 0.44, 0)
            white = canvas.put(shape, place, half, parent=brain, tissue="brain", labelled=0.25)
            canvas.note("white matter", white)
    if canvas.chance(0.1):
        canvas.put("crescent", (wide * 0.75, 0), wide * 0.9, 0.0, parent=room, tissue="blood")
    canvas.lesions(brain, 0.2, ("lesion", "blood"), largest=0.3)


def _folded(rng: np.random.Generator, depth: float) -> Shape:
    """An ellipse whose outline folds into rounded gyri and narrow sulci of about the relative depth."""
    theta = outlines.angles(300)
    orders = np.arange(1, 6)[:, None]
    waves = np.cos(orders * theta + rng.uniform(0, 6.3, (5, 1)))
    wander = (rng.normal(size=(5, 1)) / (orders + 1) * waves).sum(0)
    gyri = np.sqrt(np.abs(np.sin(rng.integers(7, 14) * theta + 2 * wander)))
    strength = depth * (0.6 + 0.6 * np.sin(2 * theta + 3 * wander))
    radius = 1 + 0.25 * depth * wander + strength * (gyri - 1)
    return outlines.from_parts("star", [[outlines.polar(radius, theta)]])


@plan()
def spine(canvas: Canvas) -> None:
    """A sagittal section along the spine: vertebral bodies, discs, canal and cord, muscles behind."""
    rng = canvas.rng
    flesh = canvas.put(shapes.oval(4), (0, 0), (rng.uniform(0.9, 1.6), 1.9), tissue="fat", labelled=0.0)
    shape = shapes.oval(4)
    canvas.put(shape, (0.75, 0), (0.4, 1.8), rng.normal(0, 0.1), parent=flesh, tissue="muscle", labelled=0.0)
    t = np.linspace(-1.6, 1.6, 60)
    sway, phase = rng.uniform(0, 0.15), rng.uniform(0, 6.3)
    column = np.stack([-0.1 + sway * np.sin(1.6 * t + phase), t], 1)
    wide = rng.uniform(0.16, 0.26)
    canal = column + np.array([wide + rng.uniform(0.07, 0.12), 0])
    shape = shapes.tube_along(canal, rng.uniform(0.05, 0.08))
    tube = canvas.put(shape, (0, 0), 1, parent=flesh, tissue="liquor", labelled=0.7)
    if tube:
        shape = shapes.tube_along(canal, rng.uniform(0.02, 0.035))
        canvas.put(shape, (0, 0), 1, parent=tube, tissue="brain", labelled=0.8)
    pitch = wide * rng.uniform(1.3, 1.9)
    share = rng.uniform(0.74, 0.88)
    discs = canvas.chance(0.5)
    for y in np.arange(-1.5, 1.5, pitch) + rng.uniform(0, 0.2):
        k = int(np.argmin(np.abs(column[:, 1] - y)))
        step = column[min(k + 1, 59)] - column[k - 1]
        tilt = float(np.arctan2(step[0], step[1]))
        kind = {"exponent": rng.uniform(3, 5), "aspect": 1.0}
        kind |= {"taper": rng.normal(0, 0.05), "dent": max(0.0, rng.normal(0, 0.06))}
        shape, at = shapes.make("superellipse", kind), (float(column[k, 0]), float(y))
        bone = canvas.put(shape, at, (wide, share * pitch / 2), -tilt, parent=flesh, tissue="bone")
        canvas.note("vertebrae", bone)
        canvas.lesions(bone, 0.06)
        place = (float(np.interp(y + pitch / 2, column[:, 1], column[:, 0])), float(y + pitch / 2))
        size = (wide * rng.uniform(0.85, 1.05), pitch * (1.02 - share))
        disc = canvas.put(shapes.oval(2.4), place, size, -tilt, parent=flesh, tissue="disc", labelled=discs)
        canvas.note("discs", disc)
        behind = float(canal[k, 0]) + 0.16
        at = (behind + 0.15, float(y) + 0.1)
        canvas.put("bent", at, (rng.uniform(0.12, 0.2), 0.06), 0.5, parent=flesh, tissue="bone", labelled=0.3)
    count = int(rng.integers(0, 5))
    canvas.fill(flesh, count, ("tube", "star", "bent"), ("blood", "organ", "soft"), (0.1, 0.5), 0.5)
