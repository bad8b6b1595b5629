"""A scene as it was drawn, and what the frame shows of it: painting is a pure function of the placements.

A *region* is a patch of one tissue, most often in one piece. Some regions are *objects*, which a user may
want segmented; the others are there because anatomy has them: they belong to the object that they lie in.
Regions nest. A region only ever takes pixels that its parent still shows, so what is placed later lies
behind or against what was placed before: neighbours touch along the outline of the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthfm.data.distance import extents, squared_distance
from synthfm.generator.canvas import outlines
from synthfm.generator.canvas.outlines import Shape
from synthfm.generator.canvas.view import View
from synthfm.generator.raster.filters import upsample
from synthfm.generator.raster.kernels import keep_largest, keep_pieces, nearest_seed, restrict, stamp

OUTSIDE = 255
"""Region number beyond the field of view."""

LARGEST_SHARE = 0.9
"""The largest part of the field of view that an object fills: what fills the frame has no outline to find."""


@dataclass(frozen=True)
class Structure:
    """What a region is, wherever it shows.

    Attributes
    ----------
    number, parent
        Its value in the region map and that of the region that it lies in; 0 is the background.
    family, tissue
        Shape family and tissue class.
    is_object
        Whether it is an object of the sample.
    gap
        Pixels kept free between it and what lay there before, its parent apart.
    least
        Share of the shape's own pixels in the frame that must remain; else it does not show.
    connected
        Whether it is one connected piece, of which the largest is kept.
    least_piece
        Where it is not: pieces smaller than that share of the largest do not show.
    """

    number: int
    parent: int
    family: str
    tissue: str
    is_object: bool
    gap: int = 0
    least: float = 0.2
    connected: bool = True
    least_piece: float = 0.0


@dataclass(frozen=True, eq=False)
class Placement:
    """A structure's shape and its place, in anatomical coordinates.

    Attributes
    ----------
    shape
        In unit coordinates; a family's shape knows the parameters that it was made from.
    at, size, angle
        Centre, half extents and turn.
    further
        Whether it is a further piece of a structure that was placed before.
    """

    structure: Structure
    shape: Shape
    at: tuple[float, float]
    size: tuple[float, float]
    angle: float = 0.0
    further: bool = False


@dataclass(frozen=True, eq=False)
class Partition:
    """Cells that tile what a structure still shows: Voronoi cells of seeds after the plane was warped.

    Attributes
    ----------
    parent
        The structure that is tiled.
    shape
        Height and width in pixels of its box when it was drawn; the cells scale with the box.
    seeds, weights
        Positions (x, y) in that box, float64 (n, 2), and weights of their squared distances, (n,).
    warp
        Nodes of the warp in pixels, float32 (2, 7, 7).
    cells
        What each seed's cell is; None where it is left to the parent.
    corner
        Top and left of the structure's box when it was drawn.
    box
        Top, left, bottom and right of the box that is tiled, also beyond the frame; None for the structure's.
    """

    parent: int
    shape: tuple[float, float]
    seeds: NDArray[np.float64]
    weights: NDArray[np.float64]
    warp: NDArray[np.float32]
    cells: tuple[Structure | None, ...] = ()
    corner: tuple[int, int] = (0, 0)
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Shell:
    """A wall of even thickness along the inside of a structure's outline, wherever that still shows.

    Attributes
    ----------
    structure
        What the wall is; its parent is the structure that it bounds.
    thickness
        In pixels.
    opening
        Where it is open, as seen from the middle of what it bounds: a direction, turned as a placement is,
        and half an angle, in radians; an angle of 0 for a wall that is whole.
    """

    structure: Structure
    thickness: float
    opening: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Group:
    """Regions that people call by one name: both kidneys, all vessels; or one without what lies in it.

    Attributes
    ----------
    name
        What it is called, in the place of a shape family.
    numbers
        The regions, with all that lies in them.
    without
        Regions that do not belong to it though they lie in those.
    alike
        Whether the regions look like the first of them.
    """

    name: str
    numbers: tuple[int, ...]
    without: tuple[int, ...] = ()
    alike: bool = True


@dataclass(frozen=True, eq=False)
class Overlay:
    """Something whose density adds to what lies before and behind it (a rib in a radiograph); no object."""

    shape: Shape
    at: tuple[float, float]
    size: tuple[float, float]
    density: float


@dataclass(frozen=True, eq=False)
class Scene:
    """What was drawn: all that painting needs.

    Attributes
    ----------
    view
        Anatomy to pixels.
    seen
        The pixels of the field of view, bool (H, W); None for all.
    min_area
        Smallest area of an object, in pixels.
    placements, overlays
        In the order of painting.
    groups
        Which of the regions are more objects together.
    """

    view: View
    seen: NDArray[np.bool_] | None
    min_area: int
    placements: tuple[Placement | Partition | Shell, ...]
    overlays: tuple[Overlay, ...]
    groups: tuple[Group, ...] = ()


class Patch(NamedTuple):
    """A mask, uint8 (h, w), where its box lies in the frame, and its number of pixels."""

    mask: NDArray[np.uint8]
    top: int
    left: int
    area: int


@dataclass(frozen=True, eq=False)
class Region:
    """A structure as a section shows it: its mask, descendants included, uint8 (h, w), at (top, left)."""

    number: int
    parent: int
    family: str
    tissue: str
    is_object: bool
    top: int
    left: int
    mask: NDArray[np.uint8]

    @cached_property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of the mask, half-open."""
        height, width = self.mask.shape
        return self.top, self.left, self.top + height, self.left + width


@dataclass
class Section:
    """What the frame shows of a scene, painted placement by placement.

    Attributes
    ----------
    view, seen, min_area
        The scene's.
    region
        uint8 (H, W), innermost region, 0 background, :data:`OUTSIDE` beyond the field of view.
    regions
        The regions that show, by number, in the order of painting.
    objects
        How many of them are objects.
    density
        What overlays add, float32 (H, W); None where there are none.
    groups
        The scene's.
    """

    view: View
    seen: NDArray[np.bool_] | None = None
    min_area: int = 16
    region: NDArray[np.uint8] = field(init=False)
    regions: dict[int, Region] = field(default_factory=dict)
    objects: int = 0
    density: NDArray[np.float32] | None = None
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        self.region = np.zeros((self.view.size, self.view.size), np.uint8)
        if self.seen is not None:
            self.region[~self.seen] = OUTSIDE

    def box(self, number: int) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of a region; the whole frame's of the background."""
        return self.regions[number].box if number else (0, 0, *self.region.shape)

    def patch(self, shape: Shape, at: tuple[float, float], size: tuple[float, float], angle: float) -> Patch:
        """What the frame shows of a shape in anatomical coordinates, whatever lies there."""
        view = self.view
        extent = (float(size[0] * view.scale * view.mirror), float(size[1] * view.scale))
        placed = outlines.place(
            shape, view.to_pixels(*at), extent, view.angle + view.mirror * angle, view.deform
        )
        mask, top, left = outlines.rasterise(placed, view.size)
        return Patch(mask, top, left, int(np.count_nonzero(mask)))

    def patch_of(self, placement: Placement) -> Patch:
        """As :meth:`patch`, of a placement's shape."""
        return self.patch(placement.shape, placement.at, placement.size, placement.angle)

    def shell(self, number: int, thickness: float, opening: tuple[float, float] = (0.0, 0.0)) -> Patch:
        """The pixels of a region within so many pixels of its outline, which the frame's edge is none of.

        Those in the direction of an `opening` (:class:`Shell`) are left out.
        """
        region = self.regions[number]
        height, width = region.mask.shape
        last = len(self.region)
        around = ((region.top > 0, region.top + height < last), (region.left > 0, region.left + width < last))
        inner = squared_distance(np.pad(region.mask, np.array(around, int)), False, int(np.ceil(thickness)))
        inner = inner[int(around[0][0]) :, int(around[1][0]) :][:height, :width]
        mask = ((inner > 0) & (inner <= thickness**2)).astype(np.uint8)
        if opening[1] > 0:
            rows, columns = np.nonzero(region.mask)
            y, x = np.ogrid[:height, :width]
            towards = self.view.angle + self.view.mirror * opening[0]
            away = np.arctan2(y - rows.mean(), x - columns.mean()) - towards
            mask[np.cos(away) > np.cos(min(opening[1], np.pi))] = 0
        return Patch(mask, region.top, region.left, int(np.count_nonzero(mask)))

    def cells(self, partition: Partition) -> Iterator[tuple[int, Patch]]:
        """The cells of a partition that hold pixels, and the seeds they belong to."""
        top, left, bottom, right = partition.box or self.box(partition.parent)
        shape = (bottom - top, right - left)
        scale = np.divide(shape, partition.shape)
        warp = partition.warp * np.float32(max(shape) / max(partition.shape))
        field = np.stack([upsample(axis, shape, sharp=False) for axis in warp])
        above, before = max(0, -top), max(0, -left)  # of the box, what lies beyond the frame
        top, left = top + above, left + before
        shown = self.region[top : max(top, bottom), left : max(left, right)]
        field = np.ascontiguousarray(field[:, above:, before:][:, : shown.shape[0], : shown.shape[1]])
        seeds = partition.seeds * scale[::-1] - [before, above]
        owner = nearest_seed(shown, partition.parent, seeds, field, partition.weights)
        boxes, pixels = extents(owner)
        for k in range(len(partition.seeds)):
            if pixels[k]:
                x0, y0, x1, y1 = boxes[k].tolist()
                mask = (owner[y0:y1, x0:x1] == k).astype(np.uint8)
                yield k, Patch(mask, top + y0, left + x0, int(pixels[k]))

    def add(self, structure: Structure, patch: Patch) -> bool:
        """Paint a structure where its parent still shows; whether enough of it does. The mask is changed."""
        mask, top, left, full = patch
        area = restrict(mask, self.region, top, left, structure.parent, structure.gap) if full else 0
        if area and structure.connected:
            area = keep_largest(mask)
        elif 0 < area < full and structure.least_piece:  # something lies before it
            area = keep_pieces(mask, structure.least_piece)
        if area < (self.min_area if structure.is_object else 4) or area < structure.least * full:
            return False
        number = structure.number
        stamp(mask, self.region, top, left, number)
        self.regions[number] = Region(
            number, structure.parent, structure.family, structure.tissue, structure.is_object, top, left, mask
        )
        self.objects += structure.is_object
        return True

    def add_piece(self, structure: Structure, patch: Patch) -> bool:
        """Paint a further piece of a region, apart from the first by its gap; whether there is room.

        It is the first where the other does not show.
        """
        mask, top, left, full = patch
        region = self.regions.get(structure.number)
        if region is None:
            return self.add(structure, patch)
        if not full or not restrict(mask, self.region, top, left, structure.parent, structure.gap):
            return False
        area = keep_largest(mask) if structure.connected else keep_pieces(mask, structure.least_piece)
        if area < max(self.min_area if structure.connected else 1, structure.least * full):
            return False
        stamp(mask, self.region, top, left, structure.number)
        height, width = mask.shape
        before = region.box
        first, start = min(before[0], top), min(before[1], left)
        union = np.zeros(
            (max(before[2], top + height) - first, max(before[3], left + width) - start), np.uint8
        )
        stamp(region.mask, union, region.top - first, region.left - start, 1)
        stamp(mask, union, top - first, left - start, 1)
        self.regions[structure.number] = replace(region, top=first, left=start, mask=union)
        return True

    def add_overlay(self, overlay: Overlay) -> None:
        """Add a shape's density to all that lies in its projection."""
        mask, top, left, _ = self.patch(overlay.shape, overlay.at, overlay.size, 0.0)
        if mask.size:
            if self.density is None:
                self.density = np.zeros(self.region.shape, np.float32)
            height, width = mask.shape
            self.density[top : top + height, left : left + width] += mask * np.float32(overlay.density)

    def finish(self) -> None:
        """No object is left that fills the frame."""
        visible = np.count_nonzero(self.region != OUTSIDE)
        for number, region in self.regions.items():
            if region.is_object and region.area > LARGEST_SHARE * visible:
                self.regions[number] = replace(region, is_object=False)
                self.objects -= 1


def paint(scene: Scene) -> Section:
    """What the frame shows of a scene: a pure function of what was drawn."""
    section = Section(scene.view, scene.seen, scene.min_area, groups=scene.groups)
    for placement in scene.placements:
        if isinstance(placement, Partition):
            for k, patch in section.cells(placement):
                cell = placement.cells[k]
                if cell is not None:
                    section.add(cell, patch)
        elif isinstance(placement, Shell):
            if placement.structure.parent in section.regions:
                parent, thickness = placement.structure.parent, placement.thickness
                section.add(placement.structure, section.shell(parent, thickness, placement.opening))
        else:
            add = section.add_piece if placement.further else section.add
            add(placement.structure, section.patch_of(placement))
    for overlay in scene.overlays:
        section.add_overlay(overlay)
    section.finish()
    return section
