"""Where shapes go: the canvas on which a scene is laid out, region by region.

A *region* is a patch of one tissue, most often in one piece. Some regions are *objects*, which a user may
want segmented; the others are there because anatomy has them: they belong to the object that they lie in.
Regions nest. A region only ever takes pixels that its parent still shows, so what is placed later lies
behind or against what was placed before: neighbours touch along the outline of the earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from generator.canvas import outlines, shapes
from generator.canvas.outlines import Shape
from generator.raster.filters import upsample
from generator.raster.kernels import displaced, keep_largest, nearest_seed, restrict, stamp, undisplaced

OUTSIDE = 255
"""Region number beyond the field of view."""

MAX_DEPTH = 4
"""An object lies in at most three others."""


@dataclass(frozen=True)
class Region:
    """One patch of one tissue.

    Attributes
    ----------
    number, parent
        Its value in the region map and that of the region that it lies in; 0 is the background.
    family, tissue
        Shape family and tissue class.
    is_object
        Whether it is an object of the sample.
    top, left, mask
        Its mask, descendants included, uint8 (h, w) and where its box lies in the image.
    """

    number: int
    parent: int
    family: str
    tissue: str
    is_object: bool
    top: int
    left: int
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Overlay:
    """Something whose density adds to what lies before and behind it (a rib in a radiograph); no object."""

    mask: NDArray[np.uint8]
    top: int
    left: int
    density: float


@dataclass(frozen=True)
class View:
    """How anatomical coordinates (x right, y down, a body about 2 wide) map to pixels.

    Attributes
    ----------
    scale
        Pixels per unit.
    focus
        The anatomical point in the middle of the frame.
    angle, mirror
        Turn in radians, and -1 to mirror left and right.
    size
        Side of the frame in pixels.
    displacement
        Smooth deformation of the whole scene: float32 (2, 33, 33), shifts in pixels over the frame.
    """

    scale: float
    focus: tuple[float, float]
    angle: float
    mirror: int
    size: int
    displacement: NDArray[np.float32]

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """Pixel of an anatomical point, before the deformation."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        dx, dy = self.mirror * (x - self.focus[0]) * self.scale, (y - self.focus[1]) * self.scale
        middle = (self.size - 1) / 2
        return float(middle + c * dx - s * dy), float(middle + s * dx + c * dy)

    def to_anatomy(self, px: float, py: float) -> tuple[float, float]:
        """The anatomical point that a pixel shows: what is placed there lies, deformed, at the pixel."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        middle = (self.size - 1) / 2
        dx, dy = undisplaced(np.array([[px, py]], float), self.displacement, 32 / self.size)[0] - middle
        x, y = c * dx + s * dy, -s * dx + c * dy
        return float(self.mirror * x / self.scale + self.focus[0]), float(y / self.scale + self.focus[1])

    def deform(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixel positions (n, 2) after the scene's deformation."""
        return displaced(points, self.displacement, 32 / self.size)


def draw_displacement(rng: np.random.Generator, size: int, amplitude: float) -> NDArray[np.float32]:
    """A smooth displacement over the frame in pixels, float32 (2, 33, 33).

    `amplitude` is the standard deviation relative to `size` of its 5 by 5 nodes; its own is 0.57 of that.
    """
    coarse = rng.normal(0, amplitude * size, (2, 5, 5)).astype(np.float32)
    return np.stack([upsample(axis, (33, 33), sharp=False) for axis in coarse])


@dataclass
class Canvas:
    """A scene being laid out.

    Attributes
    ----------
    view
        Anatomy to pixels.
    rng
        What shapes and gaps are drawn from.
    min_area
        Smallest area of an object, in pixels.
    max_objects
        Regions placed beyond that many objects are no objects any more.
    spacing
        Pixels kept free between an object and what lay there before, its parent apart (0 lets them touch).
        What is no object keeps none.
    gap_share
        Share of the objects that keep a gap of 1 to 3 pixels, in the same way.
    region
        uint8 (H, W), innermost region, 0 background, :data:`OUTSIDE` beyond the field of view.
    regions
        What was placed; region n is ``regions[n - 1]``.
    overlays
        Densities that add to the image and belong to no region.
    """

    view: View
    rng: np.random.Generator
    min_area: int = 16
    max_objects: int = 40
    spacing: int = 0
    gap_share: float = 0.0
    region: NDArray[np.uint8] = field(init=False)
    regions: list[Region] = field(default_factory=list)
    overlays: list[Overlay] = field(default_factory=list)
    objects: int = 0

    def __post_init__(self) -> None:
        self.region = np.zeros((self.view.size, self.view.size), np.uint8)

    def put(
        self,
        shape: Shape | str,
        at: tuple[float, float],
        size: tuple[float, float] | float,
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
            A shape in unit coordinates, or a family's name, whose parameters are then drawn from `rng`.
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
        placed = self._place(shape, at, size, angle)
        mask, top, left = outlines.rasterise(placed, self.view.size)
        is_object = bool(self.rng.random() < labelled)
        return self.paint(
            mask, (top, left), placed.family, parent, tissue, is_object, least, placed.connected
        )

    def _place(
        self, shape: Shape | str, at: tuple[float, float], size: tuple[float, float] | float, angle: float
    ) -> Shape:
        if isinstance(shape, str):
            shape = shapes.make(shape, shapes.FAMILIES[shape].draw(self.rng))
        view = self.view
        wide, tall = size if isinstance(size, tuple) else (size, size)
        extent = (float(wide * view.scale * view.mirror), float(tall * view.scale))
        turn = view.angle + view.mirror * angle
        return outlines.place(shape, view.to_pixels(*at), extent, turn, view.deform)

    def overlay(
        self,
        shape: Shape,
        density: float,
        at: tuple[float, float] = (0.0, 0.0),
        size: tuple[float, float] | float = 1.0,
    ) -> None:
        """Add a shape's density to all that lies in its projection; `at` and `size` as in :meth:`put`."""
        mask, top, left = outlines.rasterise(self._place(shape, at, size, 0.0), self.view.size)
        if mask.size:
            self.overlays.append(Overlay(mask, top, left, density))

    def paint(
        self,
        mask: NDArray[np.uint8],
        corner: tuple[int, int],
        family: str,
        parent: int,
        tissue: str,
        is_object: bool,
        least: float = 0.2,
        connected: bool = True,
    ) -> int | None:
        """As :meth:`put`, from a mask whose top left `corner` is at (row, column); the mask is changed."""
        number = len(self.regions) + 1
        full = int(np.count_nonzero(mask))
        if full < 4 or number >= OUTSIDE:
            return None
        top, left = corner
        is_object = is_object and self.objects < self.max_objects and self.depth(parent) < MAX_DEPTH
        gap = self.spacing if is_object else 0
        if is_object and self.rng.random() < self.gap_share:
            gap = max(gap, int(self.rng.integers(1, 4)))
        area = restrict(mask, self.region, top, left, parent, gap)
        if area and connected:
            area = keep_largest(mask)
        if area < (self.min_area if is_object else 4) or area < least * full:
            return None
        stamp(mask, self.region, top, left, number)
        self.regions.append(Region(number, parent, family, tissue, is_object, top, left, mask))
        self.objects += is_object
        return number

    def extend(
        self,
        number: int,
        shape: Shape | str,
        at: tuple[float, float],
        size: tuple[float, float] | float,
        angle: float = 0.0,
        *,
        least: float = 0.3,
    ) -> bool:
        """Give a region another piece, apart from the first, of what its parent still shows.

        Parameters
        ----------
        number
            The region.
        shape, at, size, angle, least
            As in :meth:`put`.

        Returns
        -------
        bool
            Whether there was room.
        """
        region = self.regions[number - 1]
        mask, top, left = outlines.rasterise(self._place(shape, at, size, angle), self.view.size)
        full = int(np.count_nonzero(mask))
        if not restrict(mask, self.region, top, left, region.parent, int(self.rng.integers(2, 6))):
            return False
        if keep_largest(mask) < max(self.min_area, least * full):
            return False
        stamp(mask, self.region, top, left, number)
        pieces = [(region.top, region.left, region.mask), (top, left, mask)]
        first, start = min(piece[0] for piece in pieces), min(piece[1] for piece in pieces)
        stop = [max(piece[axis] + piece[2].shape[axis] for piece in pieces) for axis in (0, 1)]
        union = np.zeros((stop[0] - first, stop[1] - start), np.uint8)
        for y, x, piece in pieces:
            stamp(piece, union, y - first, x - start, 1)
        self.regions[number - 1] = replace(region, top=first, left=start, mask=union)
        return True

    def depth(self, number: int) -> int:
        """How many objects a region is or lies in."""
        count = 0
        while number:
            region = self.regions[number - 1]
            count, number = count + region.is_object, region.parent
        return count

    def partition(
        self, parent: int, count: int, tissues: Sequence[str], object_share: float, warp: float = 0.1
    ) -> list[int]:
        """Tile what a region still shows with `count` cells whose walls a noise field bends.

        Cells are Voronoi cells of drawn seeds after the plane was warped; `warp` is the standard deviation of
        the warp's nodes over the longer side of the region's box, its own is 0.54 of that. Returns the
        regions placed.
        """
        rng = self.rng
        seeds = np.array([spot for spot in (self.spot(parent) for _ in range(count)) if spot is not None])
        if not len(seeds):
            return []
        top, left, bottom, right = self._box(parent)
        shape = (bottom - top, right - left)
        coarse = rng.normal(0, warp * max(shape), (2, 7, 7)).astype(np.float32)
        field = np.stack([upsample(axis, shape, sharp=False) for axis in coarse])
        weights = rng.uniform(0.6, 1.6, len(seeds))
        cells = nearest_seed(self.region[top:bottom, left:right], parent, seeds - [left, top], field, weights)
        placed = []
        for k in range(len(seeds)):
            rows, columns = np.flatnonzero((cells == k).any(1)), np.flatnonzero((cells == k).any(0))
            if not len(rows):
                continue
            mask = (cells[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == k).astype(np.uint8)
            corner = (top + int(rows[0]), left + int(columns[0]))
            tissue = tissues[int(rng.integers(len(tissues)))]
            placed.append(self.paint(mask, corner, "cell", parent, tissue, bool(rng.random() < object_share)))
        return [number for number in placed if number]

    def _box(self, number: int) -> tuple[int, int, int, int]:
        if number == 0:
            return 0, 0, self.view.size, self.view.size
        region = self.regions[number - 1]
        height, width = region.mask.shape
        return region.top, region.left, region.top + height, region.left + width

    def spot(self, parent: int) -> tuple[int, int] | None:
        """A pixel (x, y) that the region itself still shows, or None if 40 draws found none."""
        top, left, bottom, right = self._box(parent)
        xs, ys = self.rng.integers(left, right, 40), self.rng.integers(top, bottom, 40)
        hits = np.flatnonzero(self.region[ys, xs] == parent)
        return (int(xs[hits[0]]), int(ys[hits[0]])) if len(hits) else None

    def somewhere(self, parent: int) -> tuple[float, float]:
        """As :meth:`spot`, in anatomical coordinates; far outside the frame if there is none."""
        spot = self.spot(parent)
        return (99.0, 99.0) if spot is None else self.view.to_anatomy(*spot)

    def edge(self, number: int) -> tuple[float, float]:
        """A point on a region's outline, in anatomical coordinates."""
        return self.view.to_anatomy(*outline_pixel(self.regions[number - 1], self.rng))

    def middle(self, number: int) -> tuple[float, float]:
        """The centroid (x, y) of a region in pixels."""
        region = self.regions[number - 1]
        rows, columns = np.nonzero(region.mask)
        return float(region.left + columns.mean()), float(region.top + rows.mean())

    def radius(self, number: int) -> float:
        """Radius of the circle of a region's area, in anatomical units."""
        if number == 0:
            return self.view.size / 2 / self.view.scale
        return float(np.sqrt(np.count_nonzero(self.regions[number - 1].mask) / np.pi) / self.view.scale)


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
