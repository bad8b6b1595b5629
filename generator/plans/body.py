"""Plans of sections through the body, for CT and MR (and now and then for generic images)."""

from __future__ import annotations

import numpy as np

from generator.canvas import outlines, shapes
from generator.canvas.layout import Canvas
from generator.canvas.outlines import Shape
from generator.plans.tools import chance, fill, lesions, near, oval, pick, tube_along, turn

# Line breaks between a structure's place and its tissue would hide the anatomy.
# fmt: off


def vertebra(canvas: Canvas, at: tuple[float, float], size: float, parent: int | None) -> int | None:
    """An axial vertebra: canal first, then body, pedicles, laminae and processes as one bone around it."""
    rng = canvas.rng
    x, y = at
    canvas.put(oval(), (x, y + 1.15 * size), (0.42 * size, 0.36 * size), parent=parent, tissue="liquor",
               labelled=0.5)
    body = shapes.superellipse(rng.uniform(2.2, 3.2), rng.uniform(0.65, 0.8), 0.0, rng.uniform(0, 0.12))[0][0]
    arch = [[body]]
    if chance(canvas, 0.75):
        for side in (-1, 1):
            path = np.array([[0.45 * side, 0.5], [0.62 * side, 1.1], [0.4 * side, 1.6], [0, 1.85]])
            arch.append([outlines.ribbon(path, rng.uniform(0.12, 0.2, 4))])
            wing = np.array([[0.55 * side, 1.05], [rng.uniform(1.0, 1.7) * side, rng.uniform(0.9, 1.4)]])
            arch.append([outlines.ribbon(wing, [0.2, 0.12])])
        arch.append([outlines.ribbon(np.array([[0.0, 1.75], [rng.normal(0, 0.08), rng.uniform(2.1, 2.9)]]),
                                   [0.2, 0.12])])
    bone = canvas.put(outlines.from_parts("vertebra", arch), at, size, parent=parent, tissue="bone")
    if bone:
        marrow = canvas.put(outlines.from_parts("star", [[body * rng.uniform(0.8, 0.92)]]), at, size,
                            parent=bone,
                            tissue="marrow", labelled=0.0)
        lesions(canvas, marrow, 0.1)
    return bone


def trunk(canvas: Canvas, flat: tuple[float, float]) -> tuple[int | None, float, float]:
    """Skin, fat and muscle wall: the number of the cavity, its half-depth and half-width."""
    rng = canvas.rng
    depth = rng.uniform(*flat)
    wall, muscle = rng.uniform(0.02, 0.2) * rng.uniform(0.3, 1), rng.uniform(0.03, 0.09)
    square = rng.uniform(2.0, 2.9)
    body = canvas.put(oval(square), (0, 0), (1.0, depth), tissue="skin", labelled=0.35)
    fat = canvas.put(oval(square), (0, 0), (0.985, depth - 0.015), parent=body, tissue="fat", labelled=0.0)
    flesh = canvas.put(oval(square), (0, 0.01), (0.985 - wall, depth - 0.015 - wall * rng.uniform(0.6, 1.4)),
                       parent=fat or body, tissue="muscle", labelled=0.0)
    inner = 0.985 - wall - muscle
    deep = max(0.3, depth - 0.015 - wall - muscle)
    cavity = canvas.put(oval(square), (0, 0), (inner, deep), parent=flesh or fat or body,
                        tissue="fat" if chance(canvas, 0.65) else "soft", labelled=0.0)
    return cavity or flesh or fat or body, deep, inner


def ribs(canvas: Canvas, parent: int | None, inner: float, deep: float, count: int) -> None:
    """Cut ribs around a cavity: short arcs of bone with marrow."""
    rng = canvas.rng
    at = np.arange(count) / count * 2 * np.pi + rng.normal(0, 0.1, count)
    for angle in at[np.abs(np.sin(at) + 1) > 0.25]:
        sweep = angle + np.linspace(0, rng.uniform(0.12, 0.45), 7)
        path = np.stack([inner * 0.99 * np.cos(sweep), deep * 0.99 * np.sin(sweep)], 1)
        canvas.put(tube_along(path, rng.uniform(0.018, 0.035)), (0, 0), 1, parent=parent, tissue="bone",
                   labelled=0.15)


def vessel(canvas: Canvas, at: tuple[float, float], size: float, parent: int | None, tissue: str) -> None:
    """A great vessel cut across, now and then with a calcified or thickened wall."""
    number = canvas.put("ellipse", at, size, turn(canvas), parent=parent, tissue=tissue)
    if number and chance(canvas, 0.15):
        canvas.put("arc", at, size * 0.85, turn(canvas), parent=number,
                   tissue=pick(canvas, ("bone", "lesion")),
                   labelled=0.0)


def kidney(canvas: Canvas, at: tuple[float, float], side: int, parent: int | None) -> None:
    """A kidney: cortex, pyramids or sinus of another tissue, cysts and tumours."""
    rng = canvas.rng
    size = rng.uniform(0.15, 0.26)
    organ = canvas.put(shapes.make("bent", {"aspect": rng.uniform(0.5, 0.7),
                                            "bend": side * rng.uniform(0.3, 0.8),
                       "taper": rng.uniform(-0.1,
                                            0.1), "hilum": 0.0}), at, size, side * 1.4 + rng.normal(0,
                                                                                                    0.35),
                       parent=parent, tissue="organ")
    if not organ:
        return
    if chance(canvas, 0.7):
        canvas.put("lobed", (at[0] - side * 0.05, at[1]), size * rng.uniform(0.4, 0.65), turn(canvas),
                   parent=organ,
                   tissue=pick(canvas, ("fat", "vein", "fluid")), labelled=0.0)
    lesions(canvas, organ, 0.35, ("fluid", "lesion"), largest=0.8)


def bowel(canvas: Canvas, parent: int | None, count: int) -> None:
    """Loops of bowel: wall and content of soft tissue, fluid, gas or contrast."""
    for loop in fill(canvas, parent, count, ("tube", "star", "bent", "ellipse"), ("bowel", "soft"),
                     (0.07, 0.3)):
        content = pick(canvas, ("fluid", "air", "bowel", "blood", "none"))
        if content != "none":
            size = canvas.radius(loop) * canvas.rng.uniform(0.4, 0.9)
            fill(canvas, loop, 2, ("star", "ellipse", "blob"), (content,), (0.7 * size, size),
                 object_share=0.1)


def abdomen(canvas: Canvas) -> None:
    """An axial section through the abdomen: wall, spine, vessels, solid organs that touch, bowel in fat."""
    rng = canvas.rng
    cavity, deep, inner = trunk(canvas, (0.6, 0.9))
    back = deep * rng.uniform(0.5, 0.62)
    vertebra(canvas, near(canvas, 0, back, 0.02), rng.uniform(0.13, 0.18), cavity)
    for side in (-1, 1):
        canvas.put("ellipse", near(canvas, side * 0.22, back + 0.25, 0.03), rng.uniform(0.14, 0.22),
                   0.2 * side,
                   parent=cavity, tissue="muscle", labelled=0.4)
        if chance(canvas, 0.6):
            canvas.put("ellipse", near(canvas, side * 0.21, back, 0.02), rng.uniform(0.07, 0.12),
                       parent=cavity,
                       tissue="muscle", labelled=0.5)
    if chance(canvas, 0.5):
        ribs(canvas, cavity, inner, deep, int(rng.integers(8, 16)))
    vessel(canvas, near(canvas, 0.06, back - 0.22, 0.02), rng.uniform(0.05, 0.085), cavity, "blood")
    vessel(canvas, near(canvas, -0.12, back - 0.2, 0.02), rng.uniform(0.05, 0.1), cavity, "vein")
    if chance(canvas, 0.75):
        canvas.put("ellipse", near(canvas, -0.2, -0.12), rng.uniform(0.06, 0.12), turn(canvas), parent=cavity,
                   tissue="fluid")
        liver = canvas.put(pick(canvas, ("lobed", "star", "bent", "superellipse")),
                           near(canvas, -0.45 * inner, -0.08, 0.07),
                           rng.uniform(0.35, 0.65) * inner, rng.normal(0, 0.5), parent=cavity, tissue="organ")
        if liver:
            lesions(canvas, liver, 0.6)
            if chance(canvas, 0.6):
                canvas.put("tree", canvas.somewhere(liver), canvas.radius(liver) * 0.7, turn(canvas),
                           parent=liver,
                           tissue="vein", labelled=0.3)
    if chance(canvas, 0.65):
        spleen = canvas.put(pick(canvas, ("bent", "crescent", "star")), near(canvas, 0.66 * inner, 0.05),
                            rng.uniform(0.18, 0.34), 1.5 + rng.normal(0, 0.3), parent=cavity, tissue="organ")
        lesions(canvas, spleen, 0.15)
    for side in (-1, 1):
        if chance(canvas, 0.75):
            kidney(canvas, near(canvas, side * 0.42 * inner, back - 0.05, 0.05), side, cavity)
    if chance(canvas, 0.6):
        stomach = canvas.put(pick(canvas, ("bent", "star", "tube")), near(canvas, 0.3, -0.25),
                             rng.uniform(0.2, 0.4),
                             rng.normal(0.6, 0.4), parent=cavity, tissue="bowel")
        if stomach:  # a level: gas rises to the front
            x, y = canvas.somewhere(stomach)
            canvas.put(oval(), (x, y - 0.1), (0.3, 0.12), parent=stomach, tissue="air", labelled=0.0)
    if chance(canvas, 0.5):
        canvas.put(pick(canvas, ("tube", "lobed", "bent")), near(canvas, 0.08, -0.02),
                   rng.uniform(0.2, 0.36), rng.normal(0, 0.3),
                   parent=cavity, tissue="organ")
    bowel(canvas, cavity, int(rng.integers(1, 14)))


def thorax(canvas: Canvas) -> None:
    """An axial section through the chest: ribs, spine, mediastinum, heart, lungs with vessels and nodules."""
    rng = canvas.rng
    cavity, deep, inner = trunk(canvas, (0.62, 0.85))
    back = deep * rng.uniform(0.6, 0.75)
    vertebra(canvas, near(canvas, 0, back, 0.02), rng.uniform(0.11, 0.16), cavity)
    ribs(canvas, cavity, inner, deep, int(rng.integers(9, 18)))
    canvas.put("superellipse", near(canvas, 0, -0.92 * deep, 0.02), (0.14, 0.06), parent=cavity,
               tissue="bone")
    vessel(canvas, near(canvas, 0.13, back - 0.16, 0.02), rng.uniform(0.05, 0.09), cavity, "blood")
    if chance(canvas, 0.55):
        heart(canvas, cavity, near(canvas, 0.12, -0.05), rng.uniform(0.3, 0.44))
    else:
        middle = canvas.put("star", near(canvas, 0, -0.05, 0.03), (0.22, 0.4), parent=cavity, tissue="fat",
                            labelled=0.0)
        fill(canvas, middle, int(rng.integers(2, 6)), ("ellipse", "bent", "star"),
             ("blood", "vein", "soft"), (0.05, 0.14))
        fill(canvas, middle, 1, ("ellipse",), ("air",), (0.05, 0.08))
    for side in (-1, 1):
        lung = canvas.put(oval(rng.uniform(2, 2.8)), near(canvas, side * 0.5 * inner, 0, 0.03),
                          (0.49 * inner, deep * rng.uniform(0.78, 0.95)), side * rng.normal(0.05, 0.08),
                          parent=cavity, tissue="lung")
        if not lung:
            continue
        for _ in range(int(rng.integers(1, 4))):
            canvas.put("tree", canvas.somewhere(lung), canvas.radius(lung) * rng.uniform(0.3, 0.8),
                       turn(canvas),
                       parent=lung, tissue="vein", labelled=0.15)
        lesions(canvas, lung, 0.5, ("lesion", "organ"), largest=0.4)
        if chance(canvas, 0.15):
            canvas.put("crescent", (side * 0.55 * inner, deep * 0.5), 0.4, 1.5, parent=lung, tissue="fluid")


def heart(canvas: Canvas, parent: int | None, at: tuple[float, float], size: float) -> None:
    """A heart cut along its axis: muscle around four chambers."""
    rng = canvas.rng
    axis = rng.uniform(0.2, 1.2)
    muscle = canvas.put("star", at, size, axis, parent=parent, tissue="muscle", labelled=0.7)
    chamber = "blood" if chance(canvas, 0.7) else "vein"
    for along, across in ((0.35, 0.3), (0.35, -0.35), (-0.45, 0.3), (-0.45, -0.35)):
        x = at[0] + size * (along * np.cos(axis) - across * np.sin(axis))
        y = at[1] + size * (along * np.sin(axis) + across * np.cos(axis))
        canvas.put(pick(canvas, ("star", "bent", "ellipse")), near(canvas, x, y, 0.02),
                   size * rng.uniform(0.25, 0.42),
                   axis, parent=muscle, tissue=chamber)


def cardiac(canvas: Canvas) -> None:
    """A short-axis section of the heart: a ring of muscle around the left ventricle, the right one on it."""
    rng = canvas.rng
    if chance(canvas, 0.2):
        return thorax(canvas)
    chest = canvas.put(oval(2.4), near(canvas, 0, 0), (1.6, rng.uniform(1.0, 1.4)), tissue="muscle",
                       labelled=0.0)
    size = rng.uniform(0.28, 0.5)
    at = near(canvas, 0.1, 0.0, 0.1)
    pool = canvas.put("star", at, size * rng.uniform(0.5, 0.78), turn(canvas), parent=chest, tissue="blood")
    if pool and chance(canvas, 0.6):
        for _ in range(int(rng.integers(1, 4))):  # papillary muscles
            canvas.put("star", canvas.edge(pool), size * rng.uniform(0.08, 0.2), parent=pool,
                       tissue="muscle", labelled=0.0)
    wall = shapes.draw_star(rng)
    wall.update(aspect=rng.uniform(0.85, 1.0), amplitudes=wall["amplitudes"] * 0.4)
    ring = canvas.put(shapes.make("star", wall), at, size, turn(canvas), parent=chest, tissue="organ")
    lesions(canvas, ring, 0.2, largest=0.3)
    side = rng.uniform(2.5, 3.8)
    right = (at[0] + 0.75 * size * np.cos(side), at[1] + 0.75 * size * np.sin(side))
    canvas.put(pick(canvas, ("crescent", "star", "bent")), right, size * rng.uniform(0.8, 1.2), side,
               parent=chest, tissue="blood")
    for x in (-1, 1):
        canvas.put(pick(canvas, ("star", "bent")), near(canvas, x * 0.95, -0.1, 0.1), (0.45, 0.7),
                   parent=chest,
                   tissue="lung", labelled=0.4)
    canvas.put("star", near(canvas, -0.4, 0.85), (0.8, 0.4), parent=chest, tissue="organ",
               labelled=0.4)
    fill(canvas, chest, int(rng.integers(2, 7)), ("bent", "star", "tube", "ellipse"),
         ("fat", "vein", "soft", "blood"), (0.05, 0.3), 0.3)


def pelvis(canvas: Canvas) -> None:
    """An axial section through the pelvis: hips, bladder, prostate or uterus, rectum, muscles."""
    rng = canvas.rng
    cavity, deep, _ = trunk(canvas, (0.55, 0.75))
    for side in (-1, 1):
        hip = canvas.put(pick(canvas, ("ellipse", "bent", "superellipse")),
                         near(canvas, side * 0.62, 0.05, 0.03),
                         (rng.uniform(0.1, 0.2), rng.uniform(0.15, 0.28)), side * rng.normal(0.3, 0.3),
                         parent=cavity, tissue="cortex")
        if hip:
            canvas.put("ellipse", (side * 0.62, 0.05), canvas.radius(hip) * 0.85, turn(canvas), parent=hip,
                       tissue="marrow",
                       labelled=0.0)
        canvas.put("bent", near(canvas, side * 0.4, 0.05, 0.02), 0.26, 1.5, parent=cavity, tissue="muscle",
                   labelled=0.4)
        canvas.put("star", near(canvas, side * 0.5, 0.42, 0.03), (0.36, 0.18), -side * 0.5, parent=cavity,
                   tissue="muscle", labelled=0.3)
    size = rng.uniform(0.14, 0.26)
    kind = shapes.make("superellipse", {"exponent": rng.uniform(2, 2.8), "aspect": rng.uniform(0.7, 1.0),
                                        "taper": rng.uniform(-0.15, 0.15), "dent": rng.uniform(0, 0.15)})
    at = near(canvas, 0, 0.08, 0.03)
    gland = canvas.put(kind, at, size, parent=cavity, tissue="gland")
    if gland:
        if chance(canvas, 0.75):  # the transition zone in front, patchy; the capsule-side zone around it
            zone = canvas.put(pick(canvas, ("star", "lobed", "ellipse")), (at[0], at[1] - 0.25 * size),
                              size * rng.uniform(0.5, 0.8),
                              parent=gland, tissue="organ", labelled=0.8)
            if zone:
                canvas.partition(zone, int(rng.integers(2, 7)), ("gland", "organ", "soft", "septum"), 0.05)
        lesions(canvas, gland, 0.3, largest=0.3)
    back = canvas.put("star", (at[0] + rng.normal(0, 0.02), at[1] + size * 0.95 + 0.07), (0.12, 0.1),
                      parent=cavity, tissue="bowel")
    if back and chance(canvas, 0.6):
        canvas.put("star", (at[0], at[1] + size + 0.05), 0.07, parent=back,
                   tissue=pick(canvas, ("air", "fluid")), labelled=0.0)
    if chance(canvas, 0.7):
        bladder = canvas.put(pick(canvas, ("star", "superellipse")), (at[0], at[1] - size - 0.15),
                             rng.uniform(0.14, 0.3),
                             parent=cavity, tissue="muscle" if chance(canvas, 0.5) else "fluid")
        if bladder:
            canvas.put("ellipse", (at[0], at[1] - size - 0.15), canvas.radius(bladder) * 0.88, parent=bladder,
                       tissue="fluid", labelled=0.0)
    canvas.put("bent", near(canvas, 0, deep * 0.75, 0.03), 0.18, 0.0, parent=cavity, tissue="bone")
    for side in (-1, 1):
        vessel(canvas, near(canvas, side * 0.4, -0.3, 0.03), rng.uniform(0.03, 0.05), cavity, "blood")
    bowel(canvas, cavity, int(rng.integers(0, 4)))


def head(canvas: Canvas) -> None:
    """A section through the head: skull, brain with a folded cortex, ventricles, tumours."""
    rng = canvas.rng
    long = rng.uniform(0.95, 1.25)
    scalp = canvas.put(oval(rng.uniform(2, 2.3)), (0, 0), (0.85, 0.85 * long), tissue="fat",
                       labelled=0.3)
    thin = rng.uniform(0.02, 0.07)
    skull = canvas.put(oval(2.1), (0, 0), (0.85 - thin, 0.85 * long - thin), parent=scalp, tissue="cortex",
                       labelled=0.0)
    bone = rng.uniform(0.03, 0.08)
    wide, tall = 0.85 - thin - bone, 0.85 * long - thin - bone
    liquor = canvas.put(oval(2.1), (0, 0), (wide, tall), parent=skull or scalp, tissue="liquor",
                        labelled=0.0)
    room = liquor or skull or scalp
    brain = canvas.put(_folded(rng, 0.02), (0, 0), (wide * 0.97, tall * 0.97), parent=room, tissue="grey")
    if not brain:
        return
    spread = rng.uniform(0.4, 1.1)
    for side in (-1, 1):
        t = np.linspace(0, 1, 12)
        horn = np.stack([side * (0.04 + 0.3 * spread * np.abs(t - 0.45) ** 1.3),
                         spread * (-0.32 + 0.64 * t)], 1)
        canvas.put(tube_along(horn, rng.uniform(0.03, 0.09) * np.sin(np.pi * (0.1 + 0.8 * t))),
                   (0, rng.normal(0, 0.03)), 1,
                   parent=brain, tissue="liquor", labelled=0.7)
        canvas.put(pick(canvas, ("bent", "star", "ellipse")), near(canvas, side * 0.2, 0.0, 0.02),
                   rng.uniform(0.08, 0.15), side * 0.9,
                   parent=brain, tissue="grey", labelled=0.7)
    if chance(canvas, 0.5):
        size = rng.uniform(0.08, 0.3)
        at = canvas.somewhere(brain)
        oedema = canvas.put(pick(canvas, ("blob", "lobed", "star")), at, size * rng.uniform(1.2, 1.8),
                            turn(canvas), parent=brain, tissue="lesion") if chance(canvas, 0.6) else 0
        tumour = canvas.put(pick(canvas, ("star", "microlobulated", "blob")), at, size * 0.8,
                            parent=oedema or brain, tissue="organ")
        if tumour and chance(canvas, 0.6):
            canvas.put("star", at, size * 0.45, parent=tumour, tissue="fluid", labelled=0.7)
    if chance(canvas, 0.8):
        rough = rng.uniform(0.03, 0.09)
        for side in (-1, 1):
            canvas.put(_folded(rng, rough), (side * wide * 0.44, 0),
                       (wide * 0.4, tall * rng.uniform(0.78, 0.87)), parent=brain,
                       tissue="brain", labelled=0.25)
    if chance(canvas, 0.1):
        canvas.put("crescent", (wide * 0.75, 0), wide * 0.9, 0.0, parent=room, tissue="blood")
    lesions(canvas, brain, 0.2, ("lesion", "blood"), largest=0.3)


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


def spine(canvas: Canvas) -> None:
    """A sagittal section along the spine: vertebral bodies, discs, canal and cord, muscles behind."""
    rng = canvas.rng
    flesh = canvas.put(oval(4), (0, 0), (rng.uniform(0.9, 1.6), 1.9), tissue="fat", labelled=0.0)
    canvas.put(oval(4), (0.75, 0), (0.4, 1.8), rng.normal(0, 0.1), parent=flesh, tissue="muscle",
               labelled=0.0)
    t = np.linspace(-1.6, 1.6, 60)
    sway, phase = rng.uniform(0, 0.15), rng.uniform(0, 6.3)
    column = np.stack([-0.1 + sway * np.sin(1.6 * t + phase), t], 1)
    wide = rng.uniform(0.16, 0.26)
    canal = column + np.array([wide + rng.uniform(0.07, 0.12), 0])
    tube = canvas.put(tube_along(canal, rng.uniform(0.05, 0.08)), (0, 0), 1, parent=flesh, tissue="liquor",
                      labelled=0.7)
    if tube:
        canvas.put(tube_along(canal, rng.uniform(0.02, 0.035)), (0, 0), 1, parent=tube, tissue="brain",
                   labelled=0.8)
    pitch = wide * rng.uniform(1.3, 1.9)
    share = rng.uniform(0.74, 0.88)
    discs = chance(canvas, 0.5)
    for y in np.arange(-1.5, 1.5, pitch) + rng.uniform(0, 0.2):
        k = int(np.argmin(np.abs(column[:, 1] - y)))
        tilt = float(np.arctan2(column[min(k + 1, 59), 0] - column[k - 1, 0], column[min(k + 1, 59),
                                                                                     1] - column[k - 1, 1]))
        kind = {"exponent": rng.uniform(3, 5), "aspect": 1.0, "taper": rng.normal(0, 0.05),
                "dent": max(0.0, rng.normal(0, 0.06))}
        bone = canvas.put(shapes.make("superellipse", kind), (float(column[k, 0]), float(y)),
                          (wide, share * pitch / 2), -tilt,
                          parent=flesh, tissue="bone")
        lesions(canvas, bone, 0.06)
        canvas.put(oval(2.4), (float(np.interp(y + pitch / 2, column[:, 1], column[:, 0])),
                               float(y + pitch / 2)),
                   (wide * rng.uniform(0.85, 1.05),
                    pitch * (1.02 - share)), -tilt, parent=flesh, tissue="disc", labelled=discs)
        behind = float(canal[k, 0]) + 0.16
        canvas.put("bent", (behind + 0.15, float(y) + 0.1), (rng.uniform(0.12, 0.2), 0.06), 0.5,
                   parent=flesh, tissue="bone",
                   labelled=0.3)
    fill(canvas, flesh, int(rng.integers(0, 5)), ("tube", "star", "bent"), ("blood", "organ", "soft"),
         (0.1, 0.5), 0.5)
