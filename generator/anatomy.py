"""Plans of scenes: which structures lie where, in anatomical coordinates (a body is about 2 wide).

A plan places regions on a canvas. It draws sizes, positions and presence widely around what textbooks of
cross-sectional anatomy show in general; no image was measured for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from generator import shapes
from generator.layout import Canvas

Plan = Callable[[Canvas, np.random.Generator], None]

ORGANS = ("star", "superellipse", "bent", "lobed", "crescent", "blob", "ellipse")
LESIONS = ("ellipse", "star", "blob", "spiculated", "microlobulated", "lobed")


def near(rng: np.random.Generator, x: float, y: float, by: float = 0.06) -> tuple[float, float]:
    """A point drawn around (x, y)."""
    return x + rng.normal(0, by), y + rng.normal(0, by)


def pick(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    """One of the names."""
    return names[int(rng.integers(len(names)))]


def lesions(canvas: Canvas, rng: np.random.Generator, parent: int, mean: float, tissues=("lesion",)) -> None:
    """A Poisson number of lesions in a region, up to half its size, some with a core of their own."""
    for _ in range(min(int(rng.poisson(mean)), 5)):
        at = canvas.somewhere(rng, parent)
        if at is None:
            return
        size = canvas.radius(parent) * rng.uniform(0.06, 0.5)
        number = canvas.put(
            pick(rng, LESIONS),
            at,
            size,
            rng.uniform(0, 6.3),
            rng=rng,
            parent=parent,
            tissue=pick(rng, tissues),
        )
        if number and rng.random() < 0.2:
            canvas.put(
                "star",
                at,
                size * rng.uniform(0.3, 0.6),
                rng=rng,
                parent=number,
                tissue="fluid",
                is_object=bool(rng.random() < 0.5),
            )


def ellipses(canvas: Canvas, rng: np.random.Generator) -> None:
    """Ellipses in an ellipse: the plan without the shape-aware module."""
    body = canvas.put(
        "ellipse",
        near(rng, 0, 0),
        (rng.uniform(0.8, 1.1), rng.uniform(0.8, 1.1)),
        rng.uniform(0, 3),
        rng=rng,
        tissue="fat",
    )
    for _ in range(int(rng.integers(3, 11))):
        at = canvas.somewhere(rng, body)
        if at is None:
            break
        size = 0.45 * np.exp(rng.uniform(-2.5, 0))
        organ = canvas.put("ellipse", at, size, rng.uniform(0, 3), rng=rng, parent=body, tissue="soft")
        spot = canvas.somewhere(rng, organ) if organ and rng.random() < 0.4 else None
        if spot is not None:
            canvas.put(
                "ellipse",
                spot,
                canvas.radius(organ) * rng.uniform(0.15, 0.5),
                rng.uniform(0, 3),
                rng=rng,
                parent=organ,
                tissue="lesion",
            )


def free(canvas: Canvas, rng: np.random.Generator) -> None:
    """Shapes of all families anywhere, packed, nested and touching: no anatomy at all."""
    ground = 0
    if rng.random() < 0.5:
        ground = canvas.put(
            pick(rng, ("star", "superellipse", "ellipse")),
            near(rng, 0, 0),
            rng.uniform(0.8, 1.3),
            rng.uniform(0, 6.3),
            rng=rng,
            tissue="fat",
            is_object=bool(rng.random() < 0.5),
        )
    if rng.random() < 0.35:
        canvas.partition(ground, int(rng.integers(3, 14)), rng, ["soft", "fat", "fluid", "muscle"], 0.5)
    families = tuple(shapes.FAMILIES)
    for _ in range(int(rng.integers(3, 16))):
        parent = ground
        if canvas.regions and rng.random() < 0.45:
            parent = canvas.regions[int(rng.integers(len(canvas.regions)))].number
        at = canvas.somewhere(rng, parent)
        if at is None:
            continue
        size = min(0.7 * np.exp(rng.uniform(-2.6, 0)), canvas.radius(parent) * 0.9)
        canvas.put(
            pick(rng, families),
            at,
            size,
            rng.uniform(0, 6.3),
            rng=rng,
            parent=parent,
            tissue=pick(rng, ("soft", "fat", "fluid", "muscle", "lesion", "blood", "bone")),
            gap=int(rng.integers(0, 4)) * int(rng.random() < 0.3),
        )


def abdomen(canvas: Canvas, rng: np.random.Generator) -> None:
    """An axial section through the trunk: wall, spine, vessels, solid organs, bowel."""
    depth = rng.uniform(0.62, 0.9)
    wall = rng.uniform(0.03, 0.22)
    body = canvas.put(
        "superellipse", (0, 0), (1.0, depth / 0.75), rng=rng, tissue="fat", is_object=bool(rng.random() < 0.3)
    )
    muscle = canvas.put(
        shapes.make("superellipse", {"exponent": 2.3, "aspect": 1.0, "taper": 0.0, "dent": 0.0}),
        (0, 0),
        (1 - wall, depth - wall),
        parent=body,
        tissue="muscle",
        is_object=False,
    )
    inner = 1 - wall - rng.uniform(0.04, 0.1)
    cavity = canvas.put(
        "ellipse",
        (0, -0.05),
        (inner, (depth - 1 + inner) / 0.75),
        rng=rng,
        parent=muscle,
        tissue="fat",
        is_object=False,
    )
    ground = cavity or muscle or body
    back = depth * 0.45
    spine = canvas.put(
        "superellipse",
        near(rng, 0, back, 0.03),
        rng.uniform(0.12, 0.2),
        rng.uniform(-0.2, 0.2),
        rng=rng,
        parent=ground,
        tissue="bone",
    )
    if spine:
        canvas.put("ellipse", (0, back + 0.03), 0.08, rng=rng, parent=spine, tissue="marrow", is_object=False)
    for x, tissue in ((0.08, "blood"), (-0.1, "vein")):
        canvas.put(
            "ellipse",
            near(rng, x, back - 0.24, 0.03),
            rng.uniform(0.05, 0.09),
            rng=rng,
            parent=ground,
            tissue=tissue,
        )
    if rng.random() < 0.8:
        liver = canvas.put(
            pick(rng, ("lobed", "star", "bent")),
            near(rng, -0.45, -0.08),
            rng.uniform(0.35, 0.6),
            rng.uniform(-0.6, 0.6),
            rng=rng,
            parent=ground,
            tissue="organ",
        )
        if liver:
            lesions(canvas, rng, liver, 0.7)
            canvas.put(
                "tree",
                near(rng, -0.4, -0.05),
                0.3,
                rng.uniform(0, 6),
                rng=rng,
                parent=liver,
                tissue="vein",
                is_object=bool(rng.random() < 0.3),
            )
    for side in (-1, 1):
        if rng.random() < 0.7:
            kidney = canvas.put(
                "bent",
                near(rng, side * 0.42, back - 0.12),
                rng.uniform(0.16, 0.25),
                side * 1.3 + rng.normal(0, 0.3),
                rng=rng,
                parent=ground,
                tissue="organ",
            )
            if kidney:
                canvas.put(
                    "star",
                    near(rng, side * 0.40, back - 0.12, 0.02),
                    0.09,
                    rng=rng,
                    parent=kidney,
                    tissue="fat",
                    is_object=False,
                )
                lesions(canvas, rng, kidney, 0.3)
    if rng.random() < 0.7:
        canvas.put(
            pick(rng, ("bent", "crescent", "star")),
            near(rng, 0.68, 0.0),
            rng.uniform(0.2, 0.32),
            1.4,
            rng=rng,
            parent=ground,
            tissue="organ",
        )
    for _ in range(int(rng.integers(1, 8))):
        at = canvas.somewhere(rng, ground)
        if at is not None:
            bowel = canvas.put(
                pick(rng, ("tube", "star", "bent")),
                at,
                rng.uniform(0.1, 0.3),
                rng.uniform(0, 6),
                rng=rng,
                parent=ground,
                tissue=pick(rng, ("bowel", "fluid", "soft")),
            )
            if bowel and rng.random() < 0.4:
                canvas.put("ellipse", at, 0.07, rng=rng, parent=bowel, tissue="air", is_object=False)


PLANS: dict[str, Plan] = {"ellipses": ellipses, "free": free, "abdomen": abdomen}
