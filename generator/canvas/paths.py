"""How the structures of a drawn scene run through heights, and the scene at any of them.

A *solid* is a scene and a path for each of its placements: position, size, turn and shape as smooth
functions of the height, and where the structure begins and ends. Cutting it is a pure function. Heights are
in pixels of the frame; a placement is as it was drawn at its path's `origin`, 0 for what a plan draws.

A cine is cut in the same way: each frame at its own height and phase of the beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthfm.generator.canvas import outlines
from synthfm.generator.canvas.outlines import Shape
from synthfm.generator.canvas.section import Partition, Placement, Scene, Shell, Structure
from synthfm.generator.canvas.view import View
from synthfm.generator.raster.filters import upsample

LEAST_PIECE = 0.1
"""Pieces of a structure smaller than that share of the largest do not show."""

PADDED = 9 / 7
"""How much larger than its box when it was drawn a partition is tiled: a node of its warp at each side."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Wave:
    """Smooth functions of the height, sums of sinusoids: amplitude, phase (n, k); radians per pixel (k,)."""

    amplitude: Array
    phase: Array
    frequency: Array

    def at(self, heights: Array) -> Array:
        """The functions at some heights, (heights, n)."""
        angles = heights[:, None, None] * self.frequency + self.phase
        return np.asarray((self.amplitude * np.sin(angles)).sum(-1))


@dataclass(frozen=True, eq=False)
class Tube:
    """The branches of a tube or tree that leave the plane, all vertices one after the other.

    Attributes
    ----------
    path, radius
        In unit coordinates, (n, 2) and (n,).
    height, half
        Height of each vertex over the path's origin, and half the tube's extent along it, in pixels, (n,).
    last
        Whether a vertex is the last one of its branch, bool (n,).
    """

    path: Array
    radius: Array
    height: Array
    half: Array
    last: NDArray[np.bool_]

    def at(self, height: float) -> Shape | None:
        """The section at a height over the origin; None where there is none."""
        share = 1 - ((height - self.height) / self.half) ** 2
        shown = share > 0
        if not shown.any():
            return None
        width = self.radius * np.sqrt(np.where(shown, share, 0.0))
        parts = []
        begins = np.flatnonzero(shown & ~np.concatenate([[False], (shown & ~self.last)[:-1]]))
        ends = np.flatnonzero(shown & ~np.concatenate([(shown & ~self.last)[:-1] & shown[1:], [False]]))
        for first, end in zip(begins.tolist(), ends.tolist(), strict=True):
            for start in range(first, end, 7):  # short pieces: a path may bend sharply
                stop = min(start + 7, end) + 1
                parts.append([outlines.ribbon(self.path[start:stop], width[start:stop])])
        return outlines.from_parts("tube", parts, connected=False) if parts else None


def superellipsoid(heights: Array, middle: float, half: float, blunt: float) -> Array:
    """The size at some heights of what reaches half as far from its middle, relative to that there.

    ``(1 - abs(h)^blunt)^(1/blunt)``, h the height over the middle as a share of `half`; 0 beyond that, and
    1 for an infinite half.
    """
    if not np.isfinite(half):
        return np.ones_like(heights)
    away = np.minimum(np.abs(heights - middle) / half, 1.0) if half > 0 else np.ones_like(heights)
    return np.asarray((1 - away**blunt) ** (1 / blunt))


@dataclass(frozen=True, eq=False)
class Path:
    """How one placement runs through the heights.

    Attributes
    ----------
    origin
        The height at which it is as drawn.
    anchor
        Number of the structure that it moves with; 0 for none.
    pivot, unit_pivot
        The point about which it turns and grows, in anatomical coordinates at the origin, and in those of the
        shape.
    middle, half, blunt
        It reaches from ``middle - half`` to ``middle + half``, its size between them that of a superellipsoid
        with this exponent; an infinite half for what does not end.
    waves
        Shift in anatomical units (2), turn, logarithms of size and aspect; as they differ from the origin's.
    tied
        Whether its aspect is the anchor's too.
    other, turnover
        The shape that it becomes over this many pixels, and is again after as many; None for no other.
    tube
        The branches of a tube or tree.
    beat
        Share of its size that it loses at the height of a beat.
    fork
        Shift per pixel (2) of a limb that leaves the structure above a height, that height, and the width of
        the bend there; None for what is no limb.
    """

    origin: float
    anchor: int
    pivot: Array
    unit_pivot: Array
    middle: float
    half: float
    blunt: float
    waves: Wave
    tied: bool = False
    other: Shape | None = None
    turnover: float = 1.0
    tube: Tube | None = None
    beat: float = 0.0
    fork: tuple[Array, float, float] | None = None

    def ends(self, heights: Array) -> Array:
        """Its size at some heights, relative to that in its middle; 0 where it is not."""
        return superellipsoid(heights, self.middle, self.half, self.blunt)

    def shift(self, heights: Array, waves: Array, scale: float) -> Array:
        """Its own shift at some heights, in anatomical units, (heights, 2)."""
        if self.fork is None:
            return waves[:, :2]
        slope, start, bend = self.fork
        over = (np.hypot(heights - start, bend) + heights - start) / 2
        return np.asarray(waves[:, :2] + over[:, None] * slope / scale)


@dataclass(frozen=True, eq=False)
class CellPaths:
    """How the cells of a partition run: they move with the tiled structure, shift, grow and end.

    Attributes
    ----------
    origin, anchor
        As :class:`Path`'s.
    middle, half
        Of each seed, (n,).
    waves
        Shifts of the seeds in pixels, x of all and then y, 2 n functions.
    """

    origin: float
    anchor: int
    middle: Array
    half: Array
    waves: Wave


@dataclass(frozen=True, eq=False)
class ShellPath:
    """How a wall runs: along what it bounds, closed over the ends of that, and open in places.

    A cut meets a wall of even thickness obliquely near the ends, where it looks thicker, and closes it where
    what lies within has ended.

    Attributes
    ----------
    origin, anchor
        As :class:`Path`'s; the anchor is what the wall bounds.
    middle, half, blunt
        The ends of that.
    radius
        Of that in its middle, in pixels.
    opening
        Where it is open; None for a wall that is whole.
    """

    origin: float
    anchor: int
    middle: float
    half: float
    blunt: float
    radius: float
    opening: Opening | None = None

    def thickness(self, thickness: float, heights: Array) -> Array:
        """Its thickness at some heights in pixels, given that at the origin."""
        room = self.half - abs(self.origin - self.middle)  # it is not closed where it was drawn
        steep = min(thickness, 0.6 * room, 0.8 * self.radius)
        outer = self.radius * superellipsoid(heights, self.middle, self.half, self.blunt)
        inner = superellipsoid(heights, self.middle, self.half - steep, self.blunt)
        seen = np.maximum(outer - (self.radius - steep) * inner, steep)
        return np.asarray(np.where(inner > 0, seen, outer + 1))


@dataclass(frozen=True, eq=False)
class Opening:
    """A round hole in a wall.

    Attributes
    ----------
    middle, half
        Of the heights that it takes, in pixels.
    towards, wide
        Its direction from the middle of what the wall bounds, and half its angle at its middle, in radians.
    shut
        Share of the angle that is closed at the height of a beat.
    """

    middle: float
    half: float
    towards: float
    wide: float
    shut: float = 0.0

    def angles(self, heights: Array, beats: Array) -> Array:
        """Half its angle at some heights, and at so much of a beat."""
        return self.wide * superellipsoid(heights, self.middle, self.half, 2.0) * (1 - self.shut * beats)


@dataclass(frozen=True, eq=False)
class Warp:
    """A smooth displacement of the whole scene that varies with the height and with the beat.

    Attributes
    ----------
    nodes, phase, frequency
        Of each of k waves: pixels (k, 2, 5, 5), radians (k,), radians per pixel (k,).
    beat
        Nodes of the displacement at the height of a beat, (2, 5, 5).
    """

    nodes: Array
    phase: Array
    frequency: Array
    beat: Array

    def at(self, height: float, squeeze: float) -> NDArray[np.float32]:
        """What it adds to the scene's own displacement, float32 (2, 33, 33)."""
        weights = np.sin(self.frequency * height + self.phase) - np.sin(self.phase)
        nodes = np.einsum("k,kaij->aij", weights, self.nodes) + squeeze * self.beat
        return np.stack([upsample(axis.astype(np.float32), (33, 33), sharp=False) for axis in nodes])


@dataclass(frozen=True, eq=False)
class Solid:
    """A drawn scene, the path of each of its placements, in their order, and its warp."""

    scene: Scene
    paths: tuple[Path | CellPaths | ShellPath, ...]
    warp: Warp


@dataclass(frozen=True, eq=False)
class Motion:
    """Where a structure's middle is at each height, (n, 2), its turn, size and aspect, (n,)."""

    centre: Array
    turn: Array
    scale: Array
    aspect: Array

    def carry(self, point: Array, origin: int) -> Array:
        """Where a point that moves along lies at each height, given where it lies at one, (n, 2)."""
        turn = self.turn - self.turn[origin]
        x, y = point - self.centre[origin]
        turned = np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], 1)
        return np.asarray(self.centre + turned * (self.scale / self.scale[origin])[:, None])


def squeeze(phases: Array) -> Array:
    """How far a beat has gone at some phases in radians: 0 at 0, 1 at pi."""
    return np.asarray((1 - np.cos(phases)) / 2)


def cut(solid: Solid, heights: Sequence[float], phases: Sequence[float] | None = None) -> list[Scene]:
    """The scene at each height, and at each phase of a beat where there is one: its placements moved."""
    scene, count = solid.scene, len(heights)
    origins = sorted({path.origin for path in solid.paths})
    z = np.concatenate([np.asarray(heights, float), origins])
    beats = np.zeros(len(z))
    beats[:count] = 0 if phases is None else squeeze(np.asarray(phases, float))
    shown = [
        replace(scene.view, displacement=scene.view.displacement + solid.warp.at(*pair))
        for pair in zip(z, beats, strict=True)
    ]
    still = Motion(np.zeros((len(z), 2)), np.zeros(len(z)), np.ones(len(z)), np.zeros(len(z)))
    motions: dict[int, Motion] = {}
    moved: list[list[Placement | Partition | Shell]] = [[] for _ in range(count)]
    for placement, path in zip(scene.placements, solid.paths, strict=True):
        origin = count + origins.index(path.origin)
        anchor = motions.get(path.anchor, still)
        if isinstance(placement, Partition):
            assert isinstance(path, CellPaths)
            cells = _moved_cells(placement, path, anchor, motions, z, shown, origin)
            for k in range(count):
                moved[k].append(cells[k])
        elif isinstance(placement, Shell):
            assert isinstance(path, ShellPath)
            motions.setdefault(placement.structure.number, anchor)
            walls = _moved_shell(placement, path, anchor, z, beats, origin)
            for k in range(count):
                moved[k].append(walls[k])
        else:
            assert isinstance(path, Path)
            assert isinstance(placement, Placement)
            places, motion = _moved(placement, path, anchor, z, beats, origin, scene.view.scale)
            motions.setdefault(placement.structure.number, motion)
            for k in range(count):
                place = places[k]
                if place is not None:
                    moved[k].append(place)
    return [replace(scene, view=shown[k], placements=tuple(moved[k]), overlays=()) for k in range(count)]


def _free(structure: Structure) -> Structure:
    """A structure that may show as little, and in as many pieces, as the height has it."""
    return replace(structure, least=0.0, connected=False, least_piece=LEAST_PIECE)


def _moved(
    placement: Placement, path: Path, anchor: Motion, z: Array, beats: Array, origin: int, scale: float
) -> tuple[list[Placement | None], Motion]:
    """A placement at each height, None where it is not, and how its structure moves."""
    waves = path.waves.at(z)
    waves = waves - waves[origin]
    carried = anchor.carry(path.pivot, origin)
    rel = anchor.scale / anchor.scale[origin]
    centre = carried + rel[:, None] * path.shift(z, waves, scale)
    turn = anchor.turn - anchor.turn[origin] + waves[:, 2]
    aspect = waves[:, 4] + (anchor.aspect - anchor.aspect[origin] if path.tied else 0.0)
    size = rel * np.exp(waves[:, 3]) * (1 - path.beat * beats)
    ends = path.ends(z)
    widths = np.stack([np.exp(aspect), np.exp(-aspect)], 1) * (size * ends / ends[origin])[:, None]
    widths = widths * placement.size
    angles = placement.angle + turn
    c, s = np.cos(angles), np.sin(angles)
    x, y = (widths * path.unit_pivot).T
    corner = centre - np.stack([c * x - s * y, s * x + c * y], 1)
    structure = _free(placement.structure)
    places: list[Placement | None] = []
    for k in range(len(z)):
        shape = _shape_at(placement.shape, path, float(z[k])) if ends[k] > 0 else None
        if shape is None:
            places.append(None)
            continue
        at, wide = (float(corner[k, 0]), float(corner[k, 1])), (float(widths[k, 0]), float(widths[k, 1]))
        places.append(Placement(structure, shape, at, wide, float(angles[k]), placement.further))
    return places, Motion(centre, turn, size, aspect)


def _moved_shell(
    shell: Shell, path: ShellPath, anchor: Motion, z: Array, beats: Array, origin: int
) -> list[Shell]:
    """A wall at each height; what contracts with a beat thickens its wall."""
    thick, grown = path.thickness(shell.thickness, z), anchor.scale / anchor.scale[origin]
    thick = shell.thickness * thick / thick[origin] * (1 / grown if beats.any() else grown)
    wide, towards = np.zeros(len(z)), anchor.turn - anchor.turn[origin]
    if path.opening is not None:
        wide, towards = path.opening.angles(z, beats), towards + path.opening.towards
    structure = replace(_free(shell.structure), least_piece=0.0)
    return [Shell(structure, float(thick[k]), (float(towards[k]), float(wide[k]))) for k in range(len(z))]


def _shape_at(shape: Shape, path: Path, height: float) -> Shape | None:
    """A path's shape at a height: between the drawn and the other one, or what a tube shows there."""
    if path.tube is not None:
        return path.tube.at(height - path.origin)
    if path.other is None:
        return shape
    share = np.sin(np.pi / 2 * (height - path.origin) / path.turnover) ** 2
    if shape.points is not None and path.other.points is not None:
        return shape.with_points(shape.points + share * (path.other.points - shape.points))
    assert shape.field is not None
    assert path.other.field is not None
    return replace(shape, field=shape.field + np.float32(share) * (path.other.field - shape.field))


def _moved_cells(
    partition: Partition,
    path: CellPaths,
    anchor: Motion,
    motions: dict[int, Motion],
    z: Array,
    shown: list[View],
    origin: int,
) -> list[Partition]:
    """A partition at each height; how its cells move goes into `motions`."""
    count, (high, wide) = len(partition.seeds), partition.shape
    above, before = partition.corner
    shifts = path.waves.at(z)
    shifts = (shifts - shifts[origin]).reshape(len(z), 2, count).transpose(0, 2, 1)
    middle = np.array([before + wide / 2, above + high / 2])
    centre = anchor.carry(np.array(shown[origin].to_anatomy(*middle)), origin)
    scale = anchor.scale / anchor.scale[origin]
    away = np.minimum(np.abs(z[:, None] - path.middle) / path.half, 0.97)
    size = np.sqrt(1 - away**2)
    size = size / size[origin]
    warp = np.stack([np.pad(axis, 1, mode="edge") for axis in partition.warp])
    cells = tuple(None if cell is None else _free(cell) for cell in partition.cells)
    view = shown[origin]
    for k, cell in enumerate(cells):
        if cell is not None:
            at = anchor.carry(np.array(view.to_anatomy(*(partition.seeds[k] + [before, above]))), origin)
            moved = at + shifts[:, k] * [view.mirror, 1] / view.scale
            motions[cell.number] = Motion(moved, anchor.turn, anchor.scale, np.zeros(len(z)))
    found = []
    for k in range(len(z)):
        x, y = shown[k].deform(np.array([shown[k].to_pixels(*centre[k])]))[0]
        half = np.array([high, wide]) / 2 * PADDED * scale[k]
        top, left, bottom, right = (
            round(float(edge)) for edge in (y - half[0], x - half[1], y + half[0], x + half[1])
        )
        found.append(
            replace(
                partition,
                shape=(high * PADDED, wide * PADDED),
                seeds=partition.seeds + shifts[k] + np.array([wide, high]) * (PADDED - 1) / 2,
                weights=partition.weights / size[k] ** 2,
                warp=warp,
                cells=cells,
                box=(top, left, bottom, right),
            )
        )
    return found
