"""What is made of a drawn scene so that its objects are as people define them; each trait has its share.

Objects in several pieces, with a wall of their own, of zones of several tissues, without what lies in them,
and all of a kind as one.
"""

from __future__ import annotations

from synthfm.generator.canvas.layout import LESIONS, TISSUES, Canvas
from synthfm.generator.canvas.section import Region
from synthfm.generator.settings import ShapesConfig

LEAST = 90
"""Pixels of an object that has room for a wall or zones."""


def add(canvas: Canvas, shapes: ShapesConfig) -> None:
    """Draw the traits that a config asks for, on a scene that a plan has drawn."""
    if shapes.scatter_share:
        add_scattered(canvas, shapes.scatter_share)
    if shapes.wall_share or shapes.zones_share:
        for region in list(canvas.regions.values()):
            if region.is_object and region.area >= LEAST and region.number not in canvas.parents():
                if shapes.zones_share and canvas.chance(shapes.zones_share):
                    add_zones(canvas, region)
                elif shapes.wall_share and canvas.chance(shapes.wall_share):
                    add_wall(canvas, region)
    if shapes.hollow_share:
        add_hollow(canvas, shapes.hollow_share)
    if shapes.group_share:
        for name, numbers in canvas.sets.items():
            if canvas.chance(shapes.group_share):
                canvas.group(name.rstrip(" 0123456789"), numbers)


def add_scattered(canvas: Canvas, share: float) -> None:
    """Give a share of the small objects up to eight further pieces anywhere in what they lie in."""
    for region in list(canvas.regions.values()):
        limit = 0.02 * canvas.section.view.size**2
        if not (region.is_object and region.area < limit and canvas.chance(share)):
            continue
        radius = canvas.radius(region.number)
        for _ in range(int(canvas.rng.integers(2, 9))):
            at, size = canvas.somewhere(region.parent), radius * canvas.rng.uniform(0.3, 1.3)
            canvas.extend(region.number, canvas.pick(LESIONS), at, size, canvas.turn(), least=0.6)


def add_wall(canvas: Canvas, region: Region) -> None:
    """Give an object a wall of even thickness: the wall, and the object without it, are objects too."""
    thin = canvas.radius(region.number) * canvas.rng.uniform(0.06, 0.4)
    wall = canvas.wall(region.number, thin, canvas.pick(TISSUES))
    if wall:
        canvas.note("walls", wall)
        canvas.group("inside", [region.number], [wall])


def add_zones(canvas: Canvas, region: Region) -> None:
    """Make an object of two or three tissues, each an object: rims around a core, or patches of any outline.

    The whole, the whole without its outer rim, and its rim without the rest are objects as well.
    """
    rng, number = canvas.rng, region.number
    radius, zones = canvas.radius(number), []
    if canvas.chance(0.5):
        thin = radius * rng.uniform(0.12, 0.4)
        for _ in range(int(rng.integers(1, 3))):
            zones.append(canvas.wall(number, thin, canvas.pick(TISSUES), name="rim"))
            thin *= rng.uniform(1.6, 2.4)
        canvas.group("core", [number], [n for n in zones if n])
        if all(zones) and len(zones) == 2:
            canvas.group("core", [number], [n for n in zones[:1] if n])
        return
    parent: int | None = number
    for _ in range(int(rng.integers(1, 3))):
        radius *= rng.uniform(0.4, 0.85)
        family, tissue = canvas.pick(LESIONS), canvas.pick(TISSUES)
        at = canvas.near(*canvas.middle(number), 0.2 * radius)
        inner = canvas.put(family, at, radius, canvas.turn(), parent=parent, tissue=tissue, least=0.4)
        if inner and parent:
            canvas.group("rim", [parent], [inner])
            parent = inner


def add_hollow(canvas: Canvas, share: float) -> None:
    """Of a share of the objects that hold others, the object without those is an object too."""
    inside: dict[int, list[int]] = {}
    for region in canvas.regions.values():
        if region.is_object:
            holder = region.parent
            while holder and not canvas.regions[holder].is_object:
                holder = canvas.regions[holder].parent
            inside.setdefault(holder, []).append(region.number)
    for number, numbers in inside.items():
        if number and canvas.chance(share):
            canvas.group("hollow", [number], numbers)
