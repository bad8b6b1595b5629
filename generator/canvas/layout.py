"""The canvas on which a plan draws a scene, placement by placement.

What is drawn next often depends on what lies there already: a lesion lies in what its organ still shows, and
not at all where the organ found no room. So each placement, once drawn, is painted at once, by the same
functions that paint a finished scene (:mod:`synthfm.generator.canvas.section`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from synthfm.generator.canvas import outlines, shapes, slender
from synthfm.generator.canvas.outlines import Shape
from synthfm.generator.canvas.section import (
    OUTSIDE,
    Group,
    Overlay,
    Partition,
    Patch,
    Placement,
    Region,
    Scene,
    Section,
    Shell,
    Structure,
)

MAX_DEPTH = 4
"""An object lies in at most three others."""

ORGANS = ("star", "superellipse", "bent", "lobed", "crescent", "blob", "ellipse")
LESIONS = ("ellipse", "star", "blob", "spiculated", "microlobulated", "lobed")
TISSUES = ("soft", "fat", "fluid", "muscle", "lesion", "blood", "bone", "organ", "gland")

Point = tuple[float, float]
Size = tuple[float, float] | float


@dataclass
class Canvas:
    """A scene being drawn.

    Attributes
    ----------
    section
        What the frame shows of it so far.
    rng
        What everything is drawn from.
    max_objects
        Regions placed beyond that many objects are no objects any more.
    spacing
        Pixels kept free between an object and what lay there before, its parent apart (0 lets them touch).
        What is no object keeps none.
    gap_share
        Share of the objects that keep a gap of 1 to 3 pixels, in the same way.
    placements, overlays
        What was drawn.
    count
        How many structures that is.
    groups
        Regions that are more objects together.
    sets
        Like structures under what people call them, as a plan notes them (:meth:`note`).
    ragged_share
        Share of the objects whose outline is ragged.
    """

    section: Section
    rng: np.random.Generator
    max_objects: int = 40
    spacing: int = 0
    gap_share: float = 0.0
    placements: list[Placement | Partition | Shell] = field(default_factory=list)
    overlays: list[Overlay] = field(default_factory=list)
    count: int = 0
    groups: list[Group] = field(default_factory=list)
    sets: dict[str, list[int]] = field(default_factory=dict)
    ragged_share: float = 0.0

    def scene(self) -> Scene:
        """All that was drawn."""
        section, groups = self.section, tuple(self.groups)
        placements, overlays = tuple(self.placements), tuple(self.overlays)
        return Scene(section.view, section.seen, section.min_area, placements, overlays, groups)

    # --- what is drawn of numbers, names and points ---

    def pick(self, names: Sequence[str]) -> str:
        """One of the names."""
        return names[int(self.rng.integers(len(names)))]

    def chance(self, share: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < share)

    def turn(self) -> float:
        """Any angle."""
        return self.rng.uniform(0, 2 * np.pi)

    def near(self, x: float, y: float, by: float = 0.05) -> Point:
        """A point drawn around (x, y)."""
        return x + self.rng.normal(0, by), y + self.rng.normal(0, by)

    def spot(self, parent: int) -> tuple[int, int] | None:
        """A pixel (x, y) that the region itself still shows, or None if 40 draws found none."""
        top, left, bottom, right = self.section.box(parent)
        xs, ys = self.rng.integers(left, right, 40), self.rng.integers(top, bottom, 40)
        hits = self.section.region[ys, xs] == parent
        first = hits.argmax()
        return (int(xs[first]), int(ys[first])) if hits[first] else None

    def somewhere(self, parent: int) -> Point:
        """As :meth:`spot`, in anatomical coordinates; far outside the frame if there is none."""
        spot = self.spot(parent)
        return (99.0, 99.0) if spot is None else self.section.view.to_anatomy(*spot)

    def edge(self, number: int) -> Point:
        """A point on a region's outline, in anatomical coordinates."""
        return self.section.view.to_anatomy(*outline_pixel(self.regions[number], self.rng))

    # --- what is asked of the section so far ---

    @property
    def regions(self) -> dict[int, Region]:
        """The regions that show so far, by number."""
        return self.section.regions

    def middle(self, number: int) -> Point:
        """The centroid of a region, in anatomical coordinates."""
        region = self.regions[number]
        rows, columns = np.nonzero(region.mask)
        x, y = float(region.left + columns.mean()), float(region.top + rows.mean())
        return self.section.view.to_anatomy(x, y)

    def radius(self, number: int) -> float:
        """Radius of the circle of a region's area, in anatomical units."""
        view = self.section.view
        if number == 0:
            return view.size / 2 / view.scale
        return float(np.sqrt(self.regions[number].area / np.pi) / view.scale)

    def parents(self) -> set[int]:
        """The regions that hold others."""
        return {region.parent for region in self.regions.values()}

    def depth(self, number: int) -> int:
        """How many objects a region is or lies in."""
        count = 0
        while number:
            region = self.regions[number]
            count, number = count + region.is_object, region.parent
        return count

    # --- what is placed ---

    def put(
        self,
        shape: Shape | str,
        at: Point,
        size: Size,
        angle: float = 0.0,
        *,
        parent: int | None = 0,
        tissue: str = "soft",
        labelled: float = 1.0,
        least: float = 0.2,
    ) -> int | None:
        """Place a shape in anatomical coordinates; returns its region's number, or None if it was not placed.

        Parameters
        ----------
        shape
            A shape in unit coordinates, or a family's name, whose parameters are then drawn.
        at, size, angle
            Centre, half extents and turn.
        parent
            The region whose pixels it may take, 0 for the background. In None, a region that was not placed,
            nothing is.
        labelled
            Probability that the region is an object.
        least
            Share of the shape's own pixels in the frame that must remain; else it is not placed.
        """
        if parent is None:
            return None
        shape = self._drawn(shape)
        is_object = self.chance(labelled)
        if is_object and self.ragged_share and self.chance(self.ragged_share):
            shape = slender.ragged(shape, self.rng, 0.08 * np.exp(self.rng.uniform(-2, 0)))
        patch = self.section.patch(shape, at, _pair(size), angle)
        placed = self._add(
            patch, parent, shape.family, tissue, is_object, least, shape.connected, shape.least_piece
        )
        if placed is None:
            return None
        self.placements.append(Placement(placed, shape, at, _pair(size), angle))
        return placed.number

    def _drawn(self, shape: Shape | str) -> Shape:
        return shapes.draw(shape, self.rng) if isinstance(shape, str) else shape

    def _add(
        self,
        patch: Patch,
        parent: int,
        family: str,
        tissue: str,
        is_object: bool,
        least: float = 0.2,
        connected: bool = True,
        least_piece: float = 0.0,
    ) -> Structure | None:
        """Number a structure, draw the gap that it keeps, and paint it; None if there is no room for it."""
        section, number = self.section, self.count + 1
        if patch.area < 4 or number >= OUTSIDE:
            return None
        is_object = is_object and section.objects < self.max_objects and self.depth(parent) < MAX_DEPTH
        gap = self.spacing if is_object else 0
        if is_object and self.chance(self.gap_share):
            gap = max(gap, int(self.rng.integers(1, 4)))
        structure = Structure(number, parent, family, tissue, is_object, gap, least, connected, least_piece)
        if not section.add(structure, patch):
            return None
        self.count = number
        return structure

    def extend(
        self,
        number: int,
        shape: Shape | str,
        at: Point,
        size: Size,
        angle: float = 0.0,
        *,
        least: float = 0.3,
    ) -> bool:
        """Give a region another piece, 2 to 5 pixels apart from the first, of what its parent still shows.

        Returns whether there was room; parameters as for :meth:`put`.
        """
        shape = self._drawn(shape)
        region = self.regions[number]
        structure = Structure(
            number,
            region.parent,
            region.family,
            region.tissue,
            region.is_object,
            int(self.rng.integers(2, 6)),
            least,
        )
        placement = Placement(structure, shape, at, _pair(size), angle, further=True)
        if not self.section.add_piece(structure, self.section.patch_of(placement)):
            return False
        self.placements.append(placement)
        return True

    def wall(
        self, number: int | None, thickness: float, tissue: str, *, labelled: float = 1.0, name: str = "shell"
    ) -> int | None:
        """Give a region a wall of even thickness, in anatomical units, along the inside of its outline.

        Returns the wall's number; None where there is no room for it.
        """
        if number is None:
            return None
        is_object = self.chance(labelled)
        pixels = max(thickness * self.section.view.scale, 1.5)
        placed = self._add(
            self.section.shell(number, pixels), number, name, tissue, is_object, 0.1, connected=False
        )
        if placed is None:
            return None
        self.placements.append(Shell(placed, pixels))
        return placed.number

    def note(self, name: str, number: int | None) -> int | None:
        """Note that people call a structure by this name with others; returns its number.

        What the name ends with in digits tells sets of one name apart.
        """
        if number:
            self.sets.setdefault(name, []).append(number)
        return number

    def group(
        self, name: str, numbers: Sequence[int | None], without: Sequence[int] = (), alike: bool = True
    ) -> None:
        """Make one more object of regions that are objects; those that were not placed are left out."""
        there = tuple(n for n in numbers if n and n in self.regions)
        if there:
            self.groups.append(Group(name, there, tuple(without), alike))

    def overlay(self, shape: Shape, density: float, at: Point = (0.0, 0.0), size: Size = 1.0) -> None:
        """Add a shape's density to all that lies in its projection; `at` and `size` as in :meth:`put`."""
        overlay = Overlay(shape, at, _pair(size), density)
        self.section.add_overlay(overlay)
        self.overlays.append(overlay)

    def partition(
        self, parent: int, count: int, tissues: Sequence[str], object_share: float, warp: float = 0.1
    ) -> list[int]:
        """Tile what a region still shows with `count` cells whose walls a noise field bends.

        Cells are Voronoi cells of drawn seeds after the plane was warped; `warp` is the standard deviation of
        the warp's nodes over the longer side of the region's box, its own is 0.54 of that. Returns the
        regions placed.
        """
        seeds = np.array([spot for spot in (self.spot(parent) for _ in range(count)) if spot is not None])
        if not len(seeds):
            return []
        top, left, bottom, right = self.section.box(parent)
        shape = (bottom - top, right - left)
        partition = Partition(
            parent=parent,
            shape=shape,
            seeds=(seeds - [left, top]).astype(float),
            warp=self.rng.normal(0, warp * max(shape), (2, 7, 7)).astype(np.float32),
            weights=self.rng.uniform(0.6, 1.6, len(seeds)),
            corner=(top, left),
        )
        cells: list[Structure | None] = [None] * len(seeds)
        for k, patch in self.section.cells(partition):
            tissue = self.pick(tissues)
            cells[k] = self._add(patch, parent, "cell", tissue, self.chance(object_share))
        self.placements.append(replace(partition, cells=tuple(cells)))
        return [cell.number for cell in cells if cell is not None]

    # --- motifs ---

    def layer(
        self, top: float, bottom: float, bend: float, parent: int, tissue: str, labelled: float
    ) -> int | None:
        """A layer across the whole field, with wavy faces at about y = top and y = bottom."""
        x = np.linspace(-4, 4, 60)
        waves = self.rng.normal(0, bend, (2, 4)) / [1, 1.5, 2, 3]
        phases = self.turn() + np.arange(4)[:, None] * 1.7
        faces = waves @ np.sin(np.arange(1, 5)[:, None] * 1.3 * x + phases)
        upper = np.stack([x, top + faces[0]], axis=1)
        lower = np.stack([x, np.maximum(bottom + faces[0] * 0.5 + faces[1], upper[:, 1] + 0.01)], axis=1)
        shape = outlines.from_parts("layer", [[np.concatenate([upper, lower[::-1]])]])
        return self.put(shape, (0, 0), 1, parent=parent, tissue=tissue, labelled=labelled, least=0.02)

    def lesions(
        self, parent: int | None, mean: float, tissues: Sequence[str] = ("lesion",), largest: float = 0.5
    ) -> None:
        """A Poisson number of lesions in a region, up to half its radius, some with a core of their own."""
        if parent is None:
            return
        for _ in range(min(int(self.rng.poisson(mean)), 5)):
            at = self.somewhere(parent)
            size = self.radius(parent) * largest * np.exp(self.rng.uniform(-2, 0))
            family = self.pick(LESIONS)
            lesion = self.put(family, at, size, self.turn(), parent=parent, tissue=self.pick(tissues))
            self.note(f"lesions {parent}", lesion)
            if lesion and self.chance(0.25):
                size, angle = size * self.rng.uniform(0.3, 0.6), self.turn()
                tissue = self.pick(("fluid", "lesion", "bone"))
                self.put("star", at, size, angle, parent=lesion, tissue=tissue, labelled=0.5)

    def fill(
        self,
        parent: int | None,
        count: int,
        families: Sequence[str],
        tissues: Sequence[str],
        sizes: tuple[float, float],
        object_share: float = 1.0,
    ) -> list[int]:
        """Up to `count` shapes anywhere in what a region still shows; sizes log-uniform. Those placed."""
        placed = []
        for _ in range(count if parent is not None else 0):
            size = np.exp(self.rng.uniform(*np.log(sizes)))
            family, at, angle = self.pick(families), self.somewhere(parent or 0), self.turn()
            tissue = self.pick(tissues)
            placed.append(
                self.put(family, at, size, angle, parent=parent, tissue=tissue, labelled=object_share)
            )
        return [number for number in placed if number]

    def add_neighbours(self, share: float, families: Sequence[str]) -> None:
        """Give a share of the objects a neighbour that starts at their outline: a long common border."""
        for region in list(self.regions.values()):
            if region.is_object and self.chance(share):
                size = self.radius(region.number) * self.rng.uniform(0.4, 1.3)
                family, at, angle = self.pick(families), self.edge(region.number), self.turn()
                tissue = self.pick((region.tissue, "soft", "organ"))
                self.put(family, at, size, angle, parent=region.parent, tissue=tissue, least=0.25)

    def add_pieces(self, share: float, families: Sequence[str]) -> None:
        """Give a share of the objects a second piece near the first: a section meets many an organ twice.

        Where six draws find no room, the object stays in one.
        """
        for region in list(self.regions.values()):
            if not (region.is_object and self.chance(share)):
                continue
            radius = self.radius(region.number)
            x, y = self.middle(region.number)
            for _ in range(6):
                way, far = self.turn(), radius * self.rng.uniform(1.1, 3.2)
                at = x + far * np.cos(way), y + far * np.sin(way)
                size = radius * self.rng.uniform(0.15, 1.0)
                if self.extend(region.number, self.pick(families), at, size, self.turn()):
                    break

    def add_tissues(self, share: float) -> None:
        """Make a share of the objects of two tissues: regions inside them that are no objects."""
        for region in list(self.regions.values()):
            if not (region.is_object and self.chance(share)) or region.area < 60:
                continue
            tissues = (region.tissue, *TISSUES)
            if self.chance(0.4):
                self.partition(region.number, int(self.rng.integers(2, 6)), tissues, 0.0, warp=0.15)
            else:
                size = self.radius(region.number)
                count, families = int(self.rng.integers(1, 4)), (*ORGANS, "ring", "arc")
                self.fill(region.number, count, families, tissues, (0.3 * size, 0.9 * size), 0.0)


def _pair(size: Size) -> tuple[float, float]:
    return size if isinstance(size, tuple) else (size, size)


def outline_pixel(region: Region, rng: np.random.Generator) -> tuple[float, float]:
    """A pixel (x, y) of a region's outline: the first or last of a drawn row or column of its mask."""
    across = bool(rng.random() < 0.5)
    mask = region.mask if across else region.mask.T
    rows = np.flatnonzero(mask.any(1))
    row = int(rows[int(rng.integers(len(rows)))])
    columns = np.flatnonzero(mask[row])
    column = int(columns[0 if rng.random() < 0.5 else -1])
    y, x = (row, column) if across else (column, row)
    return float(region.left + x), float(region.top + y)
