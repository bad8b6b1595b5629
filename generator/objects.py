"""The object table: label map, measures and prompts of a scene's objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthfm.data import prompts
from synthfm.data.compiled import compiled
from synthfm.data.distance import bounds, extents, look_up, squared_distance
from synthfm.data.shards import OBJECT_COLUMNS, Objects, StoredStroke, column_of, joined, members_of
from synthfm.data.strokes import draw_both
from synthfm.generator.canvas.section import LARGEST_SHARE, OUTSIDE, Group, Region, Section
from synthfm.generator.raster.kernels import edge_width
from synthfm.generator.settings import PromptsConfig

RING = 5
"""Width in pixels of the ring against which contrast is measured."""

RIM = 3
"""Width in pixels of an object's rim."""

REACH = 6 / 256
"""Edge widths are measured within that part of the image's side from the outline, and 6 pixels at least."""

DETECTABLE = 5.0
"""Least contrast-to-noise ratio times the root of the area: what can be seen in white noise (Rose's criterion
[1]_). Structured noise hides more, so that the ratio itself is at least :data:`LEAST_CONTRAST`.

.. [1] A. Rose, "The sensitivity performance of the human eye on an absolute scale", J. Opt. Soc. Am. 38
   (1948), 196-208.
"""

SLENDER = ("vessels", "net", "sheet", "wall", "shell", "rim", "gyri", "cortex")
"""Families of which each stretch has to be seen."""

STRETCH = 12.0
"""How many times as long as wide such a stretch is."""

UNIFORM = 0.25
"""Below that variance pixels are of one grey level."""

LEAST_CONTRAST = 0.3
"""Least contrast-to-noise ratio, or difference of the logarithms of the standard deviations, of an object."""


def reach(size: int) -> int:
    """How far from the outline edge widths are measured, in pixels; none is wider than twice that."""
    return max(6, round(REACH * size))


@compiled
def _ring_statistics(
    image: NDArray, mask: NDArray, away: NDArray, region: NDArray, ring: int, outside: int
) -> tuple[float, float, float, float]:
    """Mean and variance inside a mask and in the ring around it, within the field of view."""
    inside, around = np.zeros(3), np.zeros(3)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            value = float(image[row, column])
            if mask[row, column]:
                inside[0] += 1
                inside[1] += value
                inside[2] += value * value
            elif away[row, column] <= ring * ring and region[row, column] != outside:
                around[0] += 1
                around[1] += value
                around[2] += value * value
    if around[0] == 0:
        around = inside
    a, b = inside[1] / inside[0], around[1] / around[0]
    return a, max(inside[2] / inside[0] - a * a, 0.0), b, max(around[2] / around[0] - b * b, 0.0)


def contrast(statistics: tuple[float, float, float, float]) -> float:
    """Contrast-to-noise ratio: difference of the means over the pooled standard deviation.

    Quantisation to whole grey levels adds a variance of 1/12 to either side.
    """
    a, var_a, b, var_b = statistics
    return float(abs(a - b) / np.sqrt((var_a + var_b) / 2 + 1 / 12))


def _detectable(statistics: tuple[float, float, float, float], area: float) -> bool:
    """Whether an object can be told from what lies around it, by its mean or by its texture."""
    texture = abs(np.log((statistics[1] + 1 / 12) / (statistics[3] + 1 / 12))) / 2
    return max(contrast(statistics), texture) >= max(LEAST_CONTRAST, DETECTABLE / np.sqrt(area))


def _rim_statistics(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], away: NDArray[np.int32], region: NDArray[np.uint8]
) -> tuple[tuple[float, float, float, float], NDArray[np.bool_]]:
    """As :func:`_ring_statistics` of the outermost pixels of a mask, and those pixels."""
    rim = mask & (squared_distance(mask, False, RIM) <= RIM**2)
    beyond = np.where(mask, np.int32(2**30), away)
    return _ring_statistics(image, rim, beyond, region, RING, OUTSIDE), rim


def _seen(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    away: NDArray[np.int32],
    region: NDArray[np.uint8],
    statistics: tuple[float, float, float, float],
    slender: bool,
) -> bool:
    """Whether an object can be told from what lies around it: as a whole, or by its rim (a skull, a capsule).

    Not so if all along its outline there is one grey level (black in black), whatever lies further inside.
    Something slender has to be seen by what a stretch of it shows, :data:`STRETCH` times as long as wide.
    """
    area = float(np.count_nonzero(mask))
    if slender:
        outline = float(np.count_nonzero(squared_distance(mask, False, 1) == 1))
        area = min(area, STRETCH * (2 * area / max(outline, 1.0)) ** 2)
    if _detectable(statistics, area):
        if statistics[3] >= UNIFORM:
            return True
        (a, var_a, b, _), _ = _rim_statistics(image, mask, away, region)
        return var_a >= UNIFORM or abs(a - b) >= 0.5
    rim, shown = _rim_statistics(image, mask, away, region)
    return not slender and _detectable(rim, float(np.count_nonzero(shown)))


@dataclass(frozen=True, eq=False)
class Measured:
    """What an object shows of itself in its window of the image.

    Attributes
    ----------
    window
        Rows and columns that contrast and prompts look at.
    mask, away
        The mask in the window, and the squared distance to it of what lies outside; None where they are not
        kept (:meth:`light`).
    contrast
        Contrast-to-noise ratio.
    seen
        Whether it can be told from what lies around it.
    """

    window: tuple[slice, slice]
    mask: NDArray[np.bool_] | None
    away: NDArray[np.int32] | None
    contrast: float
    seen: bool

    def light(self) -> Measured:
        """Without the arrays, which are then made anew for the table."""
        return replace(self, mask=None, away=None)

    def arrays(self, region: Region) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """The mask and the distance, kept or made anew."""
        if self.mask is None or self.away is None:
            return _mask(region, self.window)
        return self.mask, self.away


def measure(section: Section, image: NDArray[np.uint8]) -> dict[int, Measured]:
    """What the objects of a section show of themselves in its final image, by region number."""
    objects = (region for region in section.regions.values() if region.is_object)
    return {region.number: measure_region(region, section.region, image) for region in objects}


def measure_region(region: Region, numbers: NDArray[np.uint8], image: NDArray[np.uint8]) -> Measured:
    """As :func:`measure`, of one region; `numbers` is the region map."""
    window = _window(region, image.shape)
    mask, away = _mask(region, window)
    shown, numbers = image[window], numbers[window]
    statistics = _ring_statistics(shown, mask, away, numbers, RING, OUTSIDE)
    seen = _seen(shown, mask, away, numbers, statistics, region.family in SLENDER)
    return Measured(window, mask, away, contrast(statistics), seen)


def edge_widths(regions: Iterable[Region], ideal: NDArray[np.float32]) -> dict[int, float]:
    """The edge widths of regions in pixels, by their numbers; `ideal` is the image without noise."""
    rise, far = float(ideal.max() - ideal.min()), reach(len(ideal))
    return {
        region.number: float(edge_width(region.mask, ideal, region.top, region.left, far, 0.01 * rise))
        for region in regions
    }


def tabulate(
    section: Section,
    image: NDArray[np.uint8],
    ideal: NDArray[np.float32],
    config: PromptsConfig,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Objects]:
    """The label map and the object table of a scene; objects that nobody could see are left out.

    Parameters
    ----------
    image
        The final image, in which contrast is measured.
    ideal
        The image without noise, in which edge widths are measured.
    """
    kept = {number: found for number, found in measure(section, image).items() if found.seen}
    widths = edge_widths((section.regions[number] for number in kept), ideal)
    label, table = table_of(section, kept, widths, config, rng)
    return label, with_sets(section, label, table, list(kept), image, ideal, config, rng)


def table_of(
    section: Section,
    measured: Mapping[int, Measured],
    widths: Mapping[int, float],
    config: PromptsConfig,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Objects]:
    """The label map and the object table of the objects that were measured, in their order."""
    labels = {number: k for k, number in enumerate(measured, start=1)}
    table = np.zeros(256, np.uint8)
    for region in section.regions.values():
        table[region.number] = table[region.parent]
        if region.number in measured:
            table[region.number] = labels[region.number]
    label = np.empty_like(section.region)
    look_up(section.region, table, label)
    rows = [
        {
            "contrast": found.contrast,
            "blur": widths[number],
            **_prompts(
                *found.arrays(section.regions[number]), found.window, label, section.region, config, rng
            ),
        }
        for number, found in measured.items()
    ]
    kept = [section.regions[number] for number in measured]
    return label, _table(kept, [table[region.parent] for region in kept], rows, config)


def with_sets(
    section: Section,
    label: NDArray[np.uint8],
    objects: Objects,
    kept: list[int],
    image: NDArray[np.uint8],
    ideal: NDArray[np.float32],
    config: PromptsConfig,
    rng: np.random.Generator,
) -> Objects:
    """The table with the section's groups, sets of the objects in it; `kept` are their region numbers.

    A group is left out where one of its regions is no object, fewer than two of them are kept, or of those
    that it goes without none; and where it is what another object is already, cannot be seen, or is too small
    or too large for an object.
    """
    shown = extents(label)[1] > 0
    known = {(bits & shown).tobytes() for bits in members_of(objects)}
    added: list[tuple[SetOf, dict]] = []
    for group in section.groups:
        if len(objects) + len(added) >= OUTSIDE - 1:
            break
        one = set_of(group, section, label, objects, kept)
        if one is None or not one.proper or one.bits.tobytes() in known:
            continue
        found = measure_region(one.region, section.region, image)
        if found.seen:
            known.add(one.bits.tobytes())
            width = edge_widths([one.region], ideal)[one.region.number]
            added.append((one, set_row(one, found, width, section, label, config, rng)))
    return with_rows(objects, added, config)


@dataclass(frozen=True, eq=False)
class SetOf:
    """A group as a section shows it: a set of the objects in its table.

    Attributes
    ----------
    region
        Its mask, named after the group; its parent is a label, its own number 256.
    bits
        Which labels make it up, bool (256,).
    proper
        Whether it is several objects, or of one that goes without others some do not belong to it.
    """

    region: Region
    bits: NDArray[np.bool_]
    proper: bool


def set_of(
    group: Group, section: Section, label: NDArray[np.uint8], objects: Objects, kept: Sequence[int]
) -> SetOf | None:
    """What a section shows of a group; None where that is nothing, or too small or large for an object.

    Neither is it where one of its regions is no object: of some of a kind there is no telling why not of the
    others. `kept` are the region numbers of the `objects`.
    """
    if not all(section.regions[n].is_object for n in group.numbers if n in section.regions):
        return None
    rows = [k for k, n in enumerate(kept) if n in group.numbers]
    without = [k for k, n in enumerate(kept) if n in group.without]
    if not rows:
        return None
    of_each, pixels = members_of(objects), extents(label)[1]
    bits = of_each[rows].any(0) & ~of_each[without].any(0) & (pixels > 0)
    visible = np.count_nonzero(section.region != OUTSIDE)
    if not section.min_area <= bits @ pixels <= LARGEST_SHARE * visible:
        return None
    mask = np.empty(label.shape, bool)
    look_up(label, bits, mask)
    x0, y0, x1, y1 = bounds(mask)
    parent, inside = _common(objects, rows, itself=bool(without)), mask[y0:y1, x0:x1].astype(np.uint8)
    region = Region(256, parent, group.name, "", True, int(y0), int(x0), inside)
    return SetOf(region, bits, bool(without) if group.without else len(rows) > 1)


def set_row(
    one: SetOf,
    found: Measured,
    width: float,
    section: Section,
    label: NDArray[np.uint8],
    config: PromptsConfig,
    rng: np.random.Generator,
) -> dict:
    """The measures and prompts of a set that was measured, `width` its edge's."""
    clicks = _prompts(*found.arrays(one.region), found.window, label, section.region, config, rng)
    return {"contrast": found.contrast, "blur": width, **clicks}


def with_rows(objects: Objects, sets: Sequence[tuple[SetOf, dict]], config: PromptsConfig) -> Objects:
    """The table with sets and their rows (:func:`set_row`), numbered on."""
    if not sets:
        return objects
    regions = [one.region for one, _ in sets]
    table = _table(regions, [region.parent for region in regions], [row for _, row in sets], config)
    labels = np.arange(len(objects) + 1, len(objects) + len(sets) + 1, dtype=np.uint8)
    members = np.packbits(np.stack([one.bits for one, _ in sets]), axis=1)
    table = replace(table, label=labels, members=members)
    return joined(objects, table)


def _common(objects: Objects, rows: list[int], itself: bool) -> int:
    """The label of the innermost object that all of some objects lie in, or are with `itself`; 0 for none."""
    chains = []
    for row in rows:
        chain, label = [], int(objects.label[row] if itself else objects.parent[row])
        while label:
            chain.append(label)
            label = int(objects.parent[label - 1])
        chains.append(chain)
    return next((label for label in chains[0] if all(label in chain for chain in chains)), 0)


def _far(region: Region) -> int:
    """How far from a region, in pixels, contrast and prompts look."""
    return max(RING, prompts.reach(region.area))


def _window(region: Region, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of the frame that contrast and prompts of a region look at."""
    height, width = region.mask.shape
    margin = 1 + _far(region)
    return (
        slice(max(0, region.top - margin), min(shape[0], region.top + height + margin)),
        slice(max(0, region.left - margin), min(shape[1], region.left + width + margin)),
    )


def _mask(region: Region, window: tuple[slice, slice]) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """The mask in its window, and the squared distance to it of what lies around, as far as one looks."""
    rows, columns = window
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    top, left = region.top - rows.start, region.left - columns.start
    mask[top : top + region.mask.shape[0], left : left + region.mask.shape[1]] = region.mask != 0
    return mask, squared_distance(~mask, False, _far(region))


def _prompts(
    mask: NDArray[np.bool_],
    away: NDArray[np.int32],
    window: tuple[slice, slice],
    label: NDArray[np.uint8],
    numbers: NDArray[np.uint8],
    config: PromptsConfig,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Area, boxes, clicks and strokes of one object; `numbers` is the region map."""
    corner = np.array([window[1].start, window[0].start])
    box = prompts.tight_box(mask) + np.concatenate([corner, corner]).astype(np.int32)
    positives = prompts.positive_points(mask, config.positives, rng)
    seen = numbers[window] != OUTSIDE
    negatives = prompts.negative_points(mask, config.negatives, rng, label[window], away, seen)
    points = np.zeros((config.positives + config.negatives, 2), np.int16)
    kinds = np.full(len(points), -1, np.int8)
    points[: len(positives)], kinds[: len(positives)] = positives + corner, 1
    rest = slice(config.positives, config.positives + len(negatives))
    points[rest], kinds[rest] = negatives + corner, 0
    return {
        "area": int(np.count_nonzero(mask)),
        "box": box,
        "points": points,
        "point_labels": kinds,
        "box_loose": prompts.loose_box(box, rng, label.shape),
        "strokes": _strokes(mask, window, numbers, config.strokes, rng) if config.strokes else (),
    }


def _strokes(
    mask: NDArray[np.bool_],
    window: tuple[slice, slice],
    numbers: NDArray[np.uint8],
    count: int,
    rng: np.random.Generator,
) -> tuple[StoredStroke, ...]:
    """So many strokes inside and outside of one object, from a child of `rng`: all else stays as it was."""
    whole = np.zeros(numbers.shape, bool)
    whole[window] = mask
    both = draw_both(whole, count, count, rng, numbers != OUTSIDE)
    return tuple(
        StoredStroke(inside, stroke.astype(np.int16))
        for inside, strokes in zip((True, False), both, strict=True)
        for stroke in strokes
    )


def _table(kept: list[Region], parents: list, rows: list[dict], config: PromptsConfig) -> Objects:
    """The table of objects that were measured, which are numbered from 1; `parents` are labels."""
    clicks, count = config.positives + config.negatives, len(kept)
    own: dict[str, NDArray] = {
        "track": np.full(count, -1, np.int32),
        "label": np.arange(1, count + 1, dtype=np.uint8),
        "parent": np.array(parents, np.uint8),
        "family": np.array([region.family for region in kept], dtype=str),
        "members": np.zeros((count, 32), np.uint8),
        "strokes": column_of(row["strokes"] for row in rows),
    }
    measured = {
        name: np.array([row[name] for row in rows], kind).reshape(
            count, *(clicks if n < 0 else n for n in shape)
        )
        for name, (kind, shape) in OBJECT_COLUMNS.items()
        if name not in own
    }
    return Objects(**own, **measured)
