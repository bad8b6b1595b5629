"""Plans of like things: cells in a field, teeth in a jaw, rows of bones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthfm.generator.canvas import outlines, shapes, slender
from synthfm.generator.canvas.layout import ORGANS, TISSUES, Canvas
from synthfm.generator.canvas.outlines import Shape
from synthfm.generator.plans.tools import plan
from synthfm.generator.plans.vessels import ground


@plan(zoom=(0.9, 1.3))
def cells(canvas: Canvas) -> None:
    """Cells of one to three kinds in a field: plain, with a nucleus, with one of several lobes, or in a wall.

    All of a kind, all nuclei, and all cells without them are objects too. Of a kind of many cells one object
    holds them all.
    """
    rng = canvas.rng
    for kind in range(int(rng.integers(1, 4))):
        size = 0.3 * np.exp(rng.uniform(-2.0, 0))
        count = int(min(rng.integers(3, 60), 2.2 / size**2))
        if kind:
            count = min(count, int(rng.integers(1, 12)))
        _cells_of_a_kind(canvas, kind, count, size)
    if canvas.chance(0.5):
        canvas.partition(0, int(rng.integers(2, 6)), TISSUES, 0.0, warp=0.15)


def _cells_of_a_kind(canvas: Canvas, kind: int, count: int, size: float) -> None:
    rng = canvas.rng
    inside = canvas.pick(("none", "nucleus", "nucleus", "lobes", "wall"))
    family = canvas.pick(("ellipse", "star", "star", "superellipse", "bent"))
    body, core = canvas.pick(TISSUES), canvas.pick(TISSUES)
    share, spread = rng.uniform(0.3, 0.75), rng.uniform(0.05, 0.3)
    thin = size * rng.uniform(0.12, 0.4)
    room = (canvas.max_objects - canvas.section.objects) // (1 if inside == "none" else 2)
    together = count > room or canvas.chance(0.1)
    first: int | None = None
    found, cores = [], []
    for _ in range(count):
        at, radius = canvas.somewhere(0), size * np.exp(rng.normal(0, spread))
        if first and together:
            canvas.extend(first, family, at, radius, canvas.turn(), least=0.7)
            continue
        number = canvas.put(family, at, radius, canvas.turn(), tissue=body, least=0.6)
        if not number:
            continue
        first = first or number
        found.append(canvas.note(f"cells {kind}", number))
        if together:
            continue
        if inside == "wall":
            part = canvas.wall(number, thin, core)
        elif inside != "none":
            place, half = canvas.near(*canvas.middle(number), 0.15 * radius), share * radius
            half = half * (0.6 if inside == "lobes" else 1.0)
            part = canvas.put(canvas.pick(("star", "ellipse")), place, half, parent=number, tissue=core)
            for _ in range(int(rng.integers(1, 4)) if part and inside == "lobes" else 0):
                canvas.extend(part or 0, "ellipse", canvas.somewhere(number), half, canvas.turn(), least=0.3)
        else:
            part = None
        if part:
            cores.append(canvas.note(f"nuclei {kind}", part))
            if canvas.chance(0.3):
                canvas.group("hollow", [number], [part])
    if len(cores) > 1 and canvas.chance(0.7):
        canvas.group("bodies", found, [n for n in cores if n])


def _standing(path: NDArray[np.float64], count: int) -> tuple[NDArray, NDArray, float]:
    """Places along a path (n, 2), the directions of the path there, and how far apart they are."""
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = (np.arange(count) + 0.5) * length[-1] / count
    places = np.stack([np.interp(at, length, path[:, k]) for k in (0, 1)], 1)
    steps = np.gradient(path, axis=0)
    along = np.arctan2(np.interp(at, length, steps[:, 1]), np.interp(at, length, steps[:, 0]))
    return places, along, float(length[-1] / count)


@plan(zoom=(0.85, 1.3))
def teeth(canvas: Canvas) -> None:
    """A jaw with its teeth: as a panorama shows it, with those of the upper one, or a section of its arch."""
    rng = canvas.rng
    upright = canvas.chance(0.6)
    u, path = slender.jaw(rng, upright)
    count = int(rng.integers(6, 17))
    lower = _row_of_teeth(canvas, path, count, "lower teeth", flat=not upright)
    if upright and canvas.chance(0.8):
        raised = path * [1, rng.uniform(0.3, 0.7)] - [0, rng.uniform(0.28, 0.42)]
        upper = _row_of_teeth(canvas, raised[::-1], count, "upper teeth", flat=False)
        for number in (*lower, *upper):
            canvas.note("teeth", number)
        if canvas.chance(0.5):
            shape = shapes.tube_along(raised - [0, 0.3], rng.uniform(0.12, 0.2))
            canvas.put(shape, (0, 0), 1, tissue="bone", labelled=0.4)
    bone = canvas.put(u, (0, 0), 1, tissue=canvas.pick(("bone", "cortex", "organ")))
    if bone and canvas.chance(0.4):
        canvas.wall(bone, rng.uniform(0.02, 0.05), "cortex", labelled=0.4)
    canvas.lesions(bone, 0.3, largest=0.2)
    canvas.fill(0, int(rng.integers(0, 5)), (*ORGANS, "tube"), ("soft", "air", "muscle"), (0.1, 0.7), 0.3)
    canvas.partition(0, int(rng.integers(1, 5)), ("soft", "fat", "muscle", "air"), 0.0)


def _row_of_teeth(canvas: Canvas, path: NDArray, count: int, name: str, flat: bool) -> list[int | None]:
    """Teeth along a path; `flat` shows them cut across. Some are missing."""
    rng = canvas.rng
    places, along, apart = _standing(path, count)
    long, missing = apart * rng.uniform(0.8, 1.3), rng.uniform(0, 0.25)
    tissue, pulp = canvas.pick(("bone", "cortex")), canvas.chance(0.4)
    numbers: list[int | None] = []
    for (x, y), way in zip(places, along, strict=True):
        if canvas.chance(missing):
            continue
        shape: Shape | str = canvas.pick(("superellipse", "star", "ellipse")) if flat else slender.tooth(rng)
        half = apart * rng.uniform(0.38, 0.52)
        size = (half, half * rng.uniform(0.8, 1.3)) if flat else (half / 0.5, long)
        turn = way + rng.normal(0, 0.08)
        number = canvas.put(shape, canvas.near(x, y, 0.02), size, turn, tissue=tissue, least=0.4)
        if number and pulp:
            canvas.put("ellipse", (x, y), (0.25 * half, 0.4 * size[1]), turn, parent=number, labelled=0.0)
        numbers.append(canvas.note(name, number))
    return numbers


@plan()
def rows(canvas: Canvas) -> None:
    """Up to three rows of like things along bent lines: bones of a hand, vertebrae with discs, ribs.

    What lies between the things of a row may be another row.
    """
    rng = canvas.rng
    base = canvas.turn()
    for k in range(int(rng.integers(1, 4))):
        t = np.linspace(-1, 1, 40)
        offset = (k - 0.5) * rng.uniform(0.4, 0.7)
        path = np.stack([t * rng.uniform(0.8, 1.3), offset + rng.uniform(-0.5, 0.5) * t**2], 1)
        path = path @ outlines.rotation(base + rng.normal(0, 0.15))
        count = int(rng.integers(3, 13))
        places, along, apart = _standing(path, count)
        family = canvas.pick(("superellipse", "bent", "ellipse", "tube", "star", "crescent"))
        model = shapes.draw(family, rng)
        half = apart * rng.uniform(0.3, 0.5)
        tall = half * np.exp(rng.uniform(-0.4, 1.3))
        tissue, grow = canvas.pick(TISSUES), rng.uniform(-0.4, 0.4)
        for number, ((x, y), way) in enumerate(zip(places, along, strict=True)):
            factor = 1 + grow * (number / count - 0.5) + rng.normal(0, 0.06)
            size = (half * factor, tall * factor)
            one = model if canvas.chance(0.7) else shapes.draw(family, rng)
            placed = canvas.put(one, canvas.near(x, y, 0.01), size, way + rng.normal(0, 0.06), tissue=tissue)
            canvas.note(f"row {k}", placed)
        if canvas.chance(0.4):
            between = (places[1:] + places[:-1]) / 2
            tissue, flat = canvas.pick(("disc", "fluid", "fat")), rng.uniform(0.1, 0.25) * apart
            for (x, y), way in zip(between, along[1:], strict=True):
                size = (flat, tall * rng.uniform(0.7, 1.0))
                canvas.note(f"between {k}", canvas.put("superellipse", (x, y), size, way, tissue=tissue))
    ground(canvas)
