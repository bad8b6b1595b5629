"""Outlines as people draw them: a little outside or inside of where the image changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthfm.data.distance import squared_distance
from synthfm.generator.canvas.section import OUTSIDE, Region, Section
from synthfm.generator.raster.kernels import keep_largest

LARGEST = 0.2
"""An outline moves by at most that share of the object's largest inner radius."""


def move_outlines(section: Section, by: float) -> None:
    """Move the outlines of all objects by `by` pixels, outward (> 0) or inward, by less where one is thin.

    An object grows only over what belongs to the same object as itself (or to none), so objects that
    touch keep their border; it gives back only what shows itself, so what lies in it keeps its place. An
    object in one piece stays in one: nothing of it jumps over a thin neighbour, and what is cut off at a
    neck is given back too, or, where something lies in that or too little would remain, the outline is
    left. The image is made before: its edges stay where they are. The section is changed.
    """
    owners = _owners(section.regions)
    for number, region in section.regions.items():
        if region.is_object:
            section.regions[number] = _moved(section.region, region, by, owners, section.min_area)


def _owners(regions: dict[int, Region]) -> NDArray[np.uint8]:
    """By region number (256,), the number of the object that it is or lies in; 0 where in none."""
    owners = np.zeros(256, np.uint8)
    owners[OUTSIDE] = OUTSIDE
    for region in regions.values():
        owners[region.number] = region.number if region.is_object else owners[region.parent]
    return owners


def _moved(
    numbers: NDArray[np.uint8], region: Region, by: float, owners: NDArray[np.uint8], min_area: int
) -> Region:
    """The region with its outline moved, and the map of region numbers (H, W) with it."""
    margin = 1 + max(0, int(np.ceil(by)))
    above, before, bottom, right = region.box
    top, left = max(0, above - margin), max(0, before - margin)
    shown = numbers[top : bottom + margin, left : right + margin]
    mask = np.zeros(shown.shape, bool)
    mask[above - top : bottom - top, before - left : right - left] = region.mask != 0
    inner = squared_distance(mask, False)
    squared = min(by * by, LARGEST**2 * float(inner.max()))
    own = owners[shown] == region.number
    if by > 0:
        away = squared_distance(~mask, False, margin)
        moved = mask | ((away <= squared) & (owners[shown] == owners[region.parent]))
    else:
        moved = mask & ~((inner <= squared) & own)
    after = moved.astype(np.uint8)
    if keep_largest(mask.astype(np.uint8)) == np.count_nonzero(mask):
        keep_largest(after)
    gained, lost = (after > 0) & ~mask, mask & (after == 0)
    if (lost & ~own).any() or np.count_nonzero(after) < min_area:
        return region
    shown[gained], shown[lost] = region.number, region.parent
    return replace(region, top=top, left=left, mask=after)
