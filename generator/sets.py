"""Sets through the slices of a volume: objects that are the union of others, followed as all objects are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from synthfm.data.distance import extents
from synthfm.data.shards import Objects, members_of
from synthfm.generator.canvas.section import OUTSIDE, Group, Region, Section
from synthfm.generator.objects import Measured, SetOf, edge_widths, measure_region, set_of, set_row, with_rows
from synthfm.generator.settings import PromptsConfig


@dataclass(frozen=True, eq=False)
class Table:
    """A slice: what it shows, its image, its label map and table of objects, before sets come to it.

    Attributes
    ----------
    kept
        The objects' region numbers, in the table's order.
    widths
        Edge widths by region number, those of groups by :func:`edge_widths_of`.
    """

    section: Section
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    objects: Objects
    kept: list[int]
    widths: Mapping[int, float]


def runs(seen: Mapping[int, bool]) -> list[list[int]]:
    """The slices of each track of an object, given in which it is there, and whether it can be seen.

    Slices that follow one another are one track, if it can be seen in half of them, from the first to the
    last in which it can.

    >>> runs({0: True, 1: True, 3: False, 4: True, 5: True, 6: False, 8: False})
    [[0, 1], [4, 5]]
    """
    found = []
    for _, run in groupby(enumerate(sorted(seen)), lambda pair: pair[1] - pair[0]):
        there = [k for _, k in run]
        clear = [k for k in there if seen[k]]
        if 2 * len(clear) >= len(there):
            found.append([k for k in there if clear[0] <= k <= clear[-1]])
    return found


def edge_widths_of(section: Section, ideal: NDArray[np.float32]) -> dict[int, float]:
    """The edge widths of a section's groups in pixels: of group g by the number ``OUTSIDE + 1 + g``."""
    there = (
        region
        for g, group in enumerate(section.groups)
        if (region := _union(section, group, OUTSIDE + 1 + g)) is not None
    )
    return edge_widths(there, ideal)


def _union(section: Section, group: Group, number: int) -> Region | None:
    """What a section shows of the regions of a group, whether or not they are objects; None if nothing."""
    regions = [section.regions[n] for n in group.numbers if n in section.regions]
    if not regions:
        return None
    boxes = np.array([region.box for region in regions])
    (top, left), (bottom, right) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
    mask = np.zeros((bottom - top, right - left), np.uint8)
    for value, numbers in ((1, group.numbers), (0, group.without)):
        for region in (section.regions[n] for n in numbers if n in section.regions):
            y0, x0, y1, x1 = region.box
            y0, x0, y1, x1 = max(y0, top), max(x0, left), min(y1, bottom), min(x1, right)
            if y0 < y1 and x0 < x1:
                part = region.mask[y0 - region.top : y1 - region.top, x0 - region.left : x1 - region.left]
                mask[y0 - top : y1 - top, x0 - left : x1 - left][part != 0] = value
    return Region(number, 0, group.name, "", True, top, left, mask) if mask.any() else None


def with_tracked_sets(
    tables: Sequence[Table], config: PromptsConfig, rng: np.random.Generator, light: bool = False
) -> list[Objects]:
    """The tables of a volume's slices with the sets that its groups are, each on tracks of its own.

    A set is what is there of its regions: both kidneys are one kidney where the other has ended. A track on
    which it nowhere is several objects, or one without others, or that is what another object is in every
    slice, is left out. `light` makes masks and distances twice, to save memory.
    """
    if not tables[0].section.groups:
        return [table.objects for table in tables]
    rows: list[list[tuple[SetOf, dict]]] = [[] for _ in tables]
    tracks: list[list[int]] = [[] for _ in tables]
    last = max(int(table.objects.track.max(initial=-1)) for table in tables)
    known = [{bits.tobytes() for bits in _shown(table)} for table in tables]
    for g, group in enumerate(tables[0].section.groups):
        found = _found(tables, group, light)
        for run in runs({k: measured.seen for k, (_, measured) in found.items()}):
            ones = {k: found[k][0] for k in run}
            if not any(one.proper for one in ones.values()):
                continue
            if all(one.bits.tobytes() in known[k] for k, one in ones.items()):
                continue
            if any(len(tables[k].objects) + len(rows[k]) >= OUTSIDE - 1 for k in run):
                continue
            last += 1
            for k, one in ones.items():
                known[k].add(one.bits.tobytes())
                table, width = tables[k], tables[k].widths.get(OUTSIDE + 1 + g, 0.0)
                row = set_row(one, found[k][1], width, table.section, table.label, config, rng)
                rows[k].append((one, row))
                tracks[k].append(last)
    whole = []
    for table, sets, numbers in zip(tables, rows, tracks, strict=True):
        objects = with_rows(table.objects, sets, config)
        track = np.concatenate([table.objects.track, np.array(numbers, np.int32)])
        whole.append(replace(objects, track=track))
    return whole


def _shown(table: Table) -> NDArray[np.bool_]:
    """Which labels that a slice shows each of its objects is made of, bool (K, 256)."""
    return members_of(table.objects) & (extents(table.label)[1] > 0)


def _found(tables: Sequence[Table], group: Group, light: bool) -> dict[int, tuple[SetOf, Measured]]:
    """The slices that show a group, and as what; none if one of its regions is no object in any.

    Neither those where what it goes without shows, but cannot be seen: it would lie in the mask there.
    """
    regions = [region for table in tables for n in group.numbers if (region := table.section.regions.get(n))]
    if not all(region.is_object for region in regions):
        return {}
    found = {}
    for k, table in enumerate(tables):
        if any(n in table.section.regions and n not in table.kept for n in group.without):
            continue
        one = set_of(group, table.section, table.label, table.objects, table.kept)
        if one is not None:
            measured = measure_region(one.region, table.section.region, table.image)
            found[k] = one, measured.light() if light else measured
    return found
