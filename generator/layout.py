"""Where shapes go: the canvas on which a scene is laid out, region by region.

A *region* is a connected patch of one tissue. Some regions are *objects*, which a user may want segmented; the
others are there because anatomy has them: they belong to the object that they lie in. Regions nest. A region
only ever takes pixels that its parent still shows, so what is placed later lies behind or against what was
placed before: neighbours touch along the outline of the earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from generator import shapes
from generator.filters import bilinear, upsample
from generator.kernels import keep_largest, nearest_seed, restrict
from generator.shapes import Shape

OUTSIDE = 255
"""Region number beyond the field of view."""


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
        """The inverse of :meth:`to_pixels`."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        middle = (self.size - 1) / 2
        dx, dy = px - middle, py - middle
        x, y = c * dx + s * dy, -s * dx + c * dy
        return float(self.mirror * x / self.scale + self.focus[0]), float(y / self.scale + self.focus[1])

    def deform(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixel positions (n, 2) after the scene's deformation."""
        grid = (points / self.size * 32).astype(np.float32)[None]
        x, y = np.ascontiguousarray(grid[..., 0]), np.ascontiguousarray(grid[..., 1])
        shift = [bilinear(self.displacement[axis], x, y)[0] for axis in (0, 1)]
        return points + np.stack(shift, axis=1)


def draw_displacement(rng: np.random.Generator, size: int, amplitude: float) -> NDArray[np.float32]:
    """A smooth displacement over the frame, (2, 33, 33); `amplitude` is its standard deviation over `size`."""
    coarse = rng.normal(0, amplitude * size, (2, 5, 5)).astype(np.float32)
    return np.stack([upsample(axis, (33, 33), sharp=False) for axis in coarse])


@dataclass
class Canvas:
    """A scene being laid out.

    Attributes
    ----------
    view
        Anatomy to pixels.
    min_area
        Smallest area of an object, in pixels.
    max_objects
        Regions placed beyond that many objects are no objects any more.
    spacing
        Pixels kept free between siblings (0 lets them touch).
    region
        uint8 (H, W), innermost region, 0 background, :data:`OUTSIDE` beyond the field of view.
    regions
        What was placed; region n is ``regions[n - 1]``.
    """

    view: View
    min_area: int = 16
    max_objects: int = 40
    spacing: int = 0
    region: NDArray[np.uint8] = field(init=False)
    regions: list[Region] = field(default_factory=list)
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
        rng: np.random.Generator | None = None,
        parent: int = 0,
        tissue: str = "soft",
        is_object: bool = True,
        gap: int = 0,
        least: float = 0.2,
    ) -> int:
        """Place a shape in anatomical coordinates; returns its region's number, or 0 if it was not placed.

        Parameters
        ----------
        shape
            A shape in unit coordinates, or a family's name, whose parameters are then drawn from `rng`.
        at, size, angle
            Centre, half extents and turn.
        parent
            The region whose pixels it may take.
        gap
            Pixels kept free to siblings, at least the canvas's own spacing.
        least
            Share of the shape's own pixels in the frame that must remain; else it is not placed.
        """
        if isinstance(shape, str):
            assert rng is not None
            shape = shapes.make(shape, shapes.FAMILIES[shape].draw(rng))
        view = self.view
        extent = np.broadcast_to(np.asarray(size, float), 2) * view.scale
        turn = view.angle + view.mirror * angle
        placed = shapes.place(
            shape, view.to_pixels(*at), (extent[0] * view.mirror, extent[1]), turn, view.deform
        )
        mask, top, left = shapes.rasterise(placed, view.size)
        return self.paint(
            mask, top, left, placed.family, placed.connected, parent, tissue, is_object, gap, least
        )

    def paint(
        self,
        mask: NDArray[np.uint8],
        top: int,
        left: int,
        family: str,
        connected: bool,
        parent: int,
        tissue: str,
        is_object: bool,
        gap: int = 0,
        least: float = 0.2,
    ) -> int:
        """As :meth:`put`, from a mask in its box; `mask` is changed."""
        number = len(self.regions) + 1
        full = int(np.count_nonzero(mask))
        if full < 4 or number >= OUTSIDE:
            return 0
        window = self.region[top : top + mask.shape[0], left : left + mask.shape[1]]
        spacing = max(gap, self.spacing if is_object else 0)
        left_over = restrict(mask, window, parent, spacing)
        is_object = is_object and self.objects < self.max_objects
        if left_over and (connected or spacing):
            left_over = keep_largest(mask) if connected else left_over
        if left_over < (self.min_area if is_object else 4) or left_over < least * full:
            return 0
        window[mask != 0] = number
        self.regions.append(Region(number, parent, family, tissue, is_object, top, left, mask))
        self.objects += is_object
        return number

    def partition(
        self,
        parent: int,
        count: int,
        rng: np.random.Generator,
        tissues: list[str],
        object_share: float,
        warp: float = 0.1,
    ) -> list[int]:
        """Tile what a region still shows with `count` cells whose walls a noise field bends.

        Cells are Voronoi cells of drawn seeds after the plane was warped; `warp` is the warp's size over that
        of the region's box. Returns the regions placed.
        """
        seeds = np.array(
            [spot for spot in (self.spot(rng, parent) for _ in range(count)) if spot is not None]
        )
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
            window = cells[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            tissue = tissues[int(rng.integers(len(tissues)))]
            is_object = rng.random() < object_share
            mask = (window == k).astype(np.uint8)
            number = self.paint(
                mask,
                top + int(rows[0]),
                left + int(columns[0]),
                "cell",
                True,
                parent,
                tissue,
                bool(is_object),
            )
            if number:
                placed.append(number)
        return placed

    def _box(self, number: int) -> tuple[int, int, int, int]:
        if number == 0:
            return 0, 0, self.view.size, self.view.size
        region = self.regions[number - 1]
        return (
            region.top,
            region.left,
            region.top + region.mask.shape[0],
            region.left + region.mask.shape[1],
        )

    def spot(self, rng: np.random.Generator, parent: int) -> tuple[int, int] | None:
        """A pixel (x, y) that the region itself still shows, or None if 40 draws found none."""
        top, left, bottom, right = self._box(parent)
        xs, ys = rng.integers(left, right, 40), rng.integers(top, bottom, 40)
        hits = np.flatnonzero(self.region[ys, xs] == parent)
        return (int(xs[hits[0]]), int(ys[hits[0]])) if len(hits) else None

    def somewhere(self, rng: np.random.Generator, parent: int) -> tuple[float, float] | None:
        """As :meth:`spot`, in anatomical coordinates."""
        spot = self.spot(rng, parent)
        return None if spot is None else self.view.to_anatomy(*spot)

    def radius(self, number: int) -> float:
        """Radius of the circle of a region's area, in anatomical units."""
        if number == 0:
            return self.view.size / 2 / self.view.scale
        return float(np.sqrt(np.count_nonzero(self.regions[number - 1].mask) / np.pi) / self.view.scale)
