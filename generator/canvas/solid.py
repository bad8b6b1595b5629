"""Drawing a solid: a path for each placement of a drawn scene, its warp, and what only other heights show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from synthfm.generator.canvas import shapes
from synthfm.generator.canvas.layout import Canvas
from synthfm.generator.canvas.outlines import Shape, place
from synthfm.generator.canvas.paths import (
    Array,
    CellPaths,
    Opening,
    Path,
    ShellPath,
    Solid,
    Tube,
    Warp,
    Wave,
    cut,
)
from synthfm.generator.canvas.section import Group, Partition, Placement, Shell, paint
from synthfm.generator.settings import VolumeConfig

STEP = 0.2
"""Heights at which something new may begin are that share of the frame's side apart."""

CONCENTRIC = 0.35
"""What lies around a common middle, within that share of the larger radius, moves together."""

LIMB = 6
"""Radius in pixels from which an object may fork."""

_VESSELS = ("blood", "vein")
_BEATING = {"blood": (0.04, 0.25), "vein": (0.0, 0.12), "muscle": (0.0, 0.06)}


@dataclass(eq=False)
class _Known:
    """A structure that has a path: where it lies at its origin, its radius in pixels, its path."""

    number: int
    parent: int
    path: Path
    radius: float
    angle: float
    ends: bool = True
    """Whether it ends as its path says; a cell of a partition gives way to its neighbours instead."""


def draw_solid(
    canvas: Canvas,
    config: VolumeConfig,
    *,
    span: tuple[float, float],
    cine: bool,
    warped: bool,
    between: Callable[[], None] = lambda: None,
) -> Solid:
    """Draw how the scene on a canvas runs through the heights of a span, and what else begins there.

    Parameters
    ----------
    canvas
        Holds a scene that was drawn at height 0; what begins elsewhere is placed on it too.
    span
        The lowest and the highest height, in pixels; 0 lies between them.
    cine
        Whether structures beat.
    warped
        Whether the whole scene is deformed with the height.
    between
        Called between the heights at which something new is placed.
    """
    draw = _Drawing(canvas, config, cine)
    scene = canvas.scene()
    holders = {
        p.parent if isinstance(p, Partition) else p.structure.parent
        for p in scene.placements
        if not isinstance(p, Shell)
    }
    placements: list[Placement | Partition | Shell] = []
    paths: list[Path | CellPaths | ShellPath] = []
    for placement in scene.placements:
        for drawn, path in draw.of(placement, 0.0, holders):
            placements.append(drawn)
            paths.append(path)
    warp = draw_warp(canvas.rng, scene.view.size, config, warped)
    if cine and warped:
        warp = replace(warp, beat=draw.beat())
    solid = Solid(replace(scene, placements=tuple(placements)), tuple(paths), warp)
    if not cine:
        for level in _levels(span, STEP * scene.view.size):
            between()
            solid = draw.grow(solid, level)
    return solid


def _levels(span: tuple[float, float], step: float) -> list[float]:
    """Heights of a span from its middle outward, 0 left out."""
    up, down = np.arange(step, span[1], step), -np.arange(step, -span[0], step)
    return sorted([*up.tolist(), *down.tolist()], key=abs)


def draw_warp(rng: np.random.Generator, size: int, config: VolumeConfig, warped: bool) -> Warp:
    """Draw a displacement that varies with the height over 0.4 to 1.6 times the frame's side."""
    amplitude = rng.uniform(*config.deformation) * size * warped
    nodes = rng.normal(0, amplitude / np.sqrt(3), (3, 2, 5, 5))
    wavelength = size * np.exp(rng.uniform(np.log(0.4), np.log(1.6), 3))
    return Warp(nodes, rng.uniform(0, 2 * np.pi, 3), 2 * np.pi / wavelength, np.zeros((2, 5, 5)))


class _Drawing:
    """What paths are drawn from, and the structures that have one."""

    def __init__(self, canvas: Canvas, config: VolumeConfig, cine: bool) -> None:
        self.canvas, self.config, self.cine, self.rng = canvas, config, cine, canvas.rng
        self.view = canvas.section.view
        self.known: dict[int, _Known] = {}
        self.slope = self.rng.uniform(*config.slope)
        self.templates: list[Placement] = []

    def of(
        self, placement: Placement | Partition | Shell, origin: float, holders: set[int]
    ) -> Iterator[tuple[Placement | Partition | Shell, Path | CellPaths | ShellPath]]:
        """The placement with its path, and its limb where it forks."""
        if isinstance(placement, Partition):
            yield placement, self.cells(placement, origin)
            return
        if isinstance(placement, Shell):
            yield placement, self.shell(placement, origin)
            return
        number = placement.structure.number
        if placement.further:
            whole = self.known[number].path
            path = self.path(placement, origin, holders)
            yield placement, replace(path, middle=whole.middle, half=whole.half)
            return
        path = self.path(placement, origin, holders)
        yield placement, path
        known = self.known[number]
        if not np.isinf(path.half) and path.tube is None and not path.tied:
            self.templates.append(placement)
            limb = placement.structure.is_object and known.radius > LIMB
            if limb and self.rng.random() < self.config.fork_share and not self.cine:
                way, steep = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0.35, 0.8)
                slope = steep * np.array([np.cos(way), np.sin(way)])
                start = origin + self.rng.uniform(-0.5, 0.5) * path.half
                share = self.rng.uniform(0.5, 0.9)
                size = (placement.size[0] * share, placement.size[1] * share)
                gapless = replace(placement.structure, gap=0)
                limb_of = replace(placement, structure=gapless, size=size, further=True)
                yield limb_of, replace(path, fork=(slope, start, known.radius))

    def path(self, placement: Placement, origin: float, holders: set[int]) -> Path:
        """Draw the path of a placement that is as drawn at a height."""
        rng, size, scale = self.rng, self.view.size, self.view.scale
        structure, shape = placement.structure, placement.shape
        x0, y0, x1, y1 = place(shape, (0.0, 0.0), 1.0).bounds()
        unit_pivot = np.array([x0 + x1, y0 + y1]) / 2
        half = np.array([x1 - x0, y1 - y0]) / 2 * placement.size * scale
        radius = float(np.sqrt(half.prod()))
        c, s = np.cos(placement.angle), np.sin(placement.angle)
        x, y = unit_pivot * placement.size
        pivot = np.array([placement.at[0] + c * x - s * y, placement.at[1] + s * x + c * y])
        anchor, away = self._anchor(structure.number, structure.parent, pivot, radius, origin)
        tied = anchor is not None and self._concentric(anchor.radius, radius, away)
        branches = shapes.branches(shape)
        tube = self._tube(branches, placement, anchor if tied else None) if branches else None
        middle, long, blunt = self._ends(placement, half, radius, anchor if tied else None, origin, holders)
        if branches:
            long = np.inf
        amplitude = self._amplitudes(radius, anchor, away, tied)
        reference = max(2 * min(long, size), 32.0)
        frequency = 2 * np.pi / (reference * np.array([rng.uniform(1.5, 4), rng.uniform(0.7, 1.5)]))
        # An amplitude of so much slope, in anatomical units; the slower of the two waves has most of it.
        shift = self.slope * rng.standard_normal(2)[:, None] * [0.8, 0.4] / frequency
        shift = np.clip(shift, -amplitude, amplitude) / scale
        turn = rng.normal(0, 0.2) * min(1.0, 30 / radius) * (not tied) * np.array([[0.8, 0.3]])
        grow = rng.normal(0, 0.12, 2)[:, None] * [0.8, 0.3] * (not tied)
        waves = Wave(np.concatenate([shift, turn, grow]), rng.uniform(0, 2 * np.pi, (5, 2)), frequency)
        other, turnover = (None, 1.0) if tied or branches else self._other(shape, long)
        beat = self.rng.uniform(*_BEATING.get(structure.tissue, (0.0, 0.03))) if self.cine else 0.0
        path = Path(
            origin, anchor.number if anchor else 0, pivot, unit_pivot, middle, long, blunt, waves,
            tied and anchor is not None and abs(anchor.angle - placement.angle) < 0.2,
            other, turnover, tube, beat,
        )  # fmt: skip
        self.known.setdefault(
            structure.number, _Known(structure.number, structure.parent, path, radius, placement.angle)
        )
        return path

    def beat(self) -> Array:
        """Draw what a beat does to the tissue: it contracts about the largest chamber; nodes (2, 5, 5)."""
        size, rng = self.view.size, self.rng
        chambers = [known for known in self.known.values() if known.path.beat > 0.04]
        middle = np.full(2, size / 2)
        if chambers:
            largest = max(chambers, key=lambda known: known.radius)
            middle = np.array(self.view.to_pixels(*largest.path.pivot))
        nodes = (np.arange(5) + 0.5) * size / 5
        away = np.stack(np.meshgrid(nodes, nodes)) - middle[:, None, None]
        near = np.exp(-0.5 * (away**2).sum(0) / (rng.uniform(0.2, 0.35) * size) ** 2)
        moved = -rng.uniform(0.05, 0.25) * away * near
        return np.asarray(moved + rng.normal(0, 0.004 * size, (2, 5, 5)))

    def _anchor(
        self, number: int, parent: int, pivot: Array, radius: float, origin: float
    ) -> tuple[_Known | None, float]:
        """What a structure moves with, and how far apart their middles are in pixels.

        An earlier neighbour around the same middle, else its parent.
        """
        best, away = self.known.get(parent), np.inf
        if best is not None:
            away = float(np.hypot(*(pivot - best.path.pivot))) * self.view.scale
            if self._concentric(best.radius, radius, away):
                return best, away
        if origin == 0:
            for known in self.known.values():
                if known.parent != parent or known.number == number:
                    continue
                apart = float(np.hypot(*(pivot - known.path.pivot))) * self.view.scale
                if self._concentric(known.radius, radius, apart) and apart < away:
                    best, away = known, apart
        return best, away

    def _concentric(self, one: float, other: float, away: float) -> bool:
        return away < CONCENTRIC * max(one, other) and min(one, other) > CONCENTRIC * max(one, other)

    def _ends(
        self,
        placement: Placement,
        half: Array,
        radius: float,
        tied_to: _Known | None,
        origin: float,
        holders: set[int],
    ) -> tuple[float, float, float]:
        """Middle, half length and bluntness of a structure: as its shell's, or its own."""
        rng, size, structure = self.rng, self.view.size, placement.structure
        long = radius * np.exp(rng.uniform(*np.log(self.config.length)))
        middle, blunt = rng.uniform(-0.65, 0.65), rng.uniform(2.0, 3.5)
        if tied_to is not None:
            of = tied_to.path
            long = of.half * np.sqrt(radius / tied_to.radius)
            return of.middle, max(long, abs(of.middle - origin) / 0.9), of.blunt
        if 2 * half.max() > size:
            return 0.0, np.inf, 2.0
        if structure.parent == 0 and structure.number in holders:
            long *= rng.uniform(1.5, 4.0)
        elif structure.tissue in _VESSELS and radius < 0.1 * size:
            long *= np.exp(rng.uniform(0.5, 1.6))
        return origin + middle * long, float(long), float(blunt)

    def _amplitudes(self, radius: float, anchor: _Known | None, away: float, tied: bool) -> float:
        """The largest shift of a structure, in pixels: walls stay walls, and parts stay near their whole."""
        if anchor is None:
            return 0.15 * self.view.size
        room = abs(anchor.radius - radius)
        return 0.4 * max(room - away, 0.0) if tied else 0.5 * room + 0.3 * radius

    def _other(self, shape: Shape, long: float) -> tuple[Shape | None, float]:
        """Another shape of the family that has the same vertices, and over what height it becomes that."""
        turnover = min(long, self.view.size) * self.rng.uniform(0.9, 1.8)
        if shape.parameters is None or shape.family not in shapes.FAMILIES:
            return None, 1.0
        drawn = shapes.FAMILIES[shape.family].draw(self.rng)
        mixed = _alike(shape.parameters, drawn)
        other = shapes.make(shape.family, mixed)
        if shape.points is not None and (other.points is None or len(other.points) != len(shape.points)):
            return None, 1.0
        return other, float(turnover)

    def _tube(self, branches: tuple, placement: Placement, tied_to: _Known | None) -> Tube:
        """Draw how the branches of a tube or tree leave the plane: on a tilted, bent sheet."""
        rng, scale = self.rng, self.view.scale
        steep, way, tall = rng.uniform(0.05, 0.9), rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 2.2)
        bend = rng.normal(0, 0.35)
        path = np.concatenate([branch[0] for branch in branches])
        radius = np.concatenate([branch[1] for branch in branches])
        pixels = (path - (path.min(0) + path.max(0)) / 2) * placement.size * scale
        unit = float(np.sqrt(np.prod(placement.size))) * scale
        reach = max(float(np.abs(pixels).max()), 1.0)
        along = pixels @ [np.cos(way), np.sin(way)]
        across = pixels @ [-np.sin(way), np.cos(way)]
        height = steep * along + bend * across**2 / reach
        half = np.maximum(radius * unit * tall, 1.0)
        if tied_to is not None and tied_to.path.tube is not None:  # one tube within another
            outer = tied_to.path.tube
            if len(outer.height) == len(height):
                height, half = outer.height, outer.half * radius / outer.radius
        last = np.zeros(len(path), bool)
        last[np.cumsum([len(branch[0]) for branch in branches]) - 1] = True
        return Tube(path, radius, height, half, last)

    def cells(self, partition: Partition, origin: float) -> CellPaths:
        """Draw how the cells of a partition run."""
        rng, count = self.rng, len(partition.seeds)
        cell = max(partition.shape) / np.sqrt(count + 1)  # about as wide as that
        low, high = np.log(self.config.length)
        long = 1.5 * cell * np.exp(rng.uniform(low, high, count))
        middle = origin + rng.uniform(-0.65, 0.65, count) * long
        frequency = 2 * np.pi / (4 * cell * np.array([rng.uniform(1.0, 3), rng.uniform(0.5, 1.0)]))
        slope = self.slope * rng.standard_normal((2 * count, 1)) * [0.8, 0.4] / frequency
        waves = Wave(np.clip(slope, -cell / 2, cell / 2), rng.uniform(0, 6.28, (2 * count, 2)), frequency)
        whole = self.known.get(partition.parent)
        for k, structure in enumerate(partition.cells):
            if structure is not None:
                seed = partition.seeds[k] + [partition.corner[1], partition.corner[0]]
                pivot = np.array(self.canvas.section.view.to_anatomy(*seed))
                still = Wave(np.zeros((5, 2)), np.zeros((5, 2)), frequency)
                stand_in = Path(origin, structure.number, pivot, np.zeros(2), middle[k], long[k], 2.0, still)
                self.known[structure.number] = _Known(
                    structure.number, partition.parent, stand_in, cell / 2, 0.0, ends=False
                )
        return CellPaths(origin, whole.number if whole else 0, middle, long, waves)

    def shell(self, placement: Shell, origin: float) -> ShellPath:
        """Draw how a wall runs: with what it bounds; some are open in one place."""
        rng, structure = self.rng, placement.structure
        known = self.known[structure.parent]
        self.known[structure.number] = replace(known, number=structure.number, parent=structure.parent)
        whole = known.path if known.ends else replace(known.path, half=np.inf)
        opening = None
        if rng.random() < self.config.open_share:
            half = min(whole.half, self.view.size / 2)
            centre = whole.middle if np.isfinite(whole.half) else origin
            opening = Opening(
                middle=centre + rng.uniform(-0.8, 0.8) * half * (not self.cine),
                half=half * rng.uniform(0.15, 0.6),
                towards=rng.uniform(0, 2 * np.pi),
                wide=rng.uniform(0.15, 0.9),
                shut=float(self.cine and rng.random() < 0.5),
            )
        at_origin = float(whole.ends(np.array([origin]))[0])
        radius = known.radius / max(at_origin, 0.05)
        return ShellPath(origin, structure.parent, whole.middle, whole.half, whole.blunt, radius, opening)

    def grow(self, solid: Solid, level: float) -> Solid:
        """Place what begins about a height, most often in the stead of what has ended before it."""
        rng, canvas = self.rng, self.canvas
        scene = cut(solid, [level])[0]
        solid_parts = tuple(p for p in scene.placements if not isinstance(p, Partition))
        canvas.section = paint(replace(scene, placements=solid_parts))
        first = next(
            (k for k, p in enumerate(solid.scene.placements) if isinstance(p, Partition)),
            len(solid.scene.placements),
        )
        placements, paths = list(solid.scene.placements), list(solid.paths)
        groups = list(solid.scene.groups)
        there = {p.structure.number for p in solid_parts}
        side = np.sign(level)
        ended = [
            t
            for t in self.templates
            if t.structure.number not in there
            and side * (self.known[t.structure.number].path.middle - level) < 0
        ]
        for template in ended:
            self.templates.remove(template)
            parent = template.structure.parent
            if rng.random() > 0.85 or (parent and parent not in canvas.regions):
                continue
            placed = self._again(template, parent)
            if placed is None:
                continue
            for drawn, path in self.of(placed, level, set()):
                placements.insert(first, drawn)
                paths.insert(first, path)
                first += 1
            groups = [_joined(group, template, placed) for group in groups]
        scene = replace(solid.scene, placements=tuple(placements), groups=tuple(groups))
        return Solid(scene, tuple(paths), solid.warp)

    def _again(self, template: Placement, parent: int) -> Placement | None:
        """Place another structure of a kind at the canvas's height: where the first was, or elsewhere."""
        canvas, structure = self.canvas, template.structure
        drawn = structure.family in shapes.FAMILIES and template.shape.parameters is not None
        shape = structure.family if drawn else template.shape
        at = template.at if not drawn or canvas.chance(0.4) else canvas.somewhere(parent)
        factor = np.exp(canvas.rng.normal(0, 0.3))
        size = (template.size[0] * factor, template.size[1] * factor)
        angle = template.angle + canvas.rng.normal(0, 0.5)
        labelled = float(structure.is_object)
        before = len(canvas.placements)
        canvas.put(shape, at, size, angle, parent=parent, tissue=structure.tissue, labelled=labelled)
        if len(canvas.placements) == before:
            return None
        placed = canvas.placements[-1]
        assert isinstance(placed, Placement)
        return placed


def _joined(group: Group, template: Placement, placed: Placement) -> Group:
    """The group with a further structure of a kind, where it is all of that kind."""
    if group.without or template.structure.number not in group.numbers:
        return group
    return replace(group, numbers=(*group.numbers, placed.structure.number))


def _alike(first: shapes.Parameters, second: shapes.Parameters) -> shapes.Parameters:
    """The second parameters where they have the first's form, else the first's: vertices are as many."""
    mixed: shapes.Parameters = {}
    for name, value in first.items():
        new = second.get(name)
        if isinstance(value, dict) and isinstance(new, dict):
            mixed[name] = _alike(value, new)
        elif isinstance(value, int) or new is None or np.shape(value) != np.shape(new):
            mixed[name] = value
        else:
            mixed[name] = new
    return mixed
