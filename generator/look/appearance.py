"""Boundary and appearance: from regions to a clean image, the one that a perfect scanner would show.

:func:`draw_look` draws what every region looks like; :func:`render` applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthfm.data.compiled import compiled
from synthfm.data.distance import squared_distance
from synthfm.generator.canvas.layout import outline_pixel
from synthfm.generator.canvas.section import OUTSIDE, Region, Section
from synthfm.generator.look import textures
from synthfm.generator.look.textures import Texture
from synthfm.generator.look.tissues import Palette, absorption
from synthfm.generator.raster.filters import Image, gaussian_blur, upsample
from synthfm.generator.settings import SceneConfig


@dataclass(frozen=True)
class Leak:
    """A bridge across a border: region `number` shows in region `into` along a segment of pixels.

    `start` and `end` are (x, y), `half` is half the bridge's width in pixels, `section` which of the sections
    it was drawn in.
    """

    number: int
    into: int
    start: tuple[float, float]
    end: tuple[float, float]
    half: float
    section: int = 0


@dataclass(frozen=True)
class Look:
    """What was drawn for the regions of one scene; arrays of 256 are indexed by region number.

    Attributes
    ----------
    palette
        Grey values of the tissues.
    mean, amplitude, shade
        float32 (256,): mean grey value, standard deviation of the texture and of the nodes of the slow
        shading, whose own is 0.57 of that.
    kind
        uint8 (256,): which of `textures`.
    absorption
        float32 (256,): loss of echo level per tenth of the frame's depth (ultrasound).
    textures
        The textures in use.
    shading
        Coarse noise from which the shading is interpolated, float32 (5, 5).
    capsules
        Region number, grey step and width in pixels of thin rims.
    spots, spots_on
        float64 (n, 3): x, y and radius of the places where an outline vanishes; int64 (n, 2): on the outline
        of which region, in which of the sections they were drawn.
    leaks
        Narrow bridges of a region's appearance into a neighbour.
    edge, wide
        Standard deviation in pixels of the blur of all edges, and of vanishing ones.
    softness
        Coarse field of how soft edges are over the frame, (6, 6) in 0 to 1.
    """

    palette: Palette
    mean: Image
    amplitude: Image
    shade: Image
    kind: NDArray[np.uint8]
    absorption: Image
    textures: tuple[Texture, ...]
    shading: Image
    capsules: tuple[tuple[int, float, float], ...]
    spots: NDArray[np.float64]
    spots_on: NDArray[np.int64]
    leaks: tuple[Leak, ...]
    edge: float
    wide: float
    softness: Image


@compiled
def touching(region: NDArray) -> NDArray:
    """How many pixel edges each pair of region numbers shares: int32 (256, 256), symmetric."""
    height, width = region.shape
    count = np.zeros((256, 256), np.int32)
    for row in range(height):
        for column in range(width):
            here = region[row, column]
            if column + 1 < width and region[row, column + 1] != here:
                count[here, region[row, column + 1]] += 1
                count[region[row, column + 1], here] += 1
            if row + 1 < height and region[row + 1, column] != here:
                count[here, region[row + 1, column]] += 1
                count[region[row + 1, column], here] += 1
    return count


def _reference(contacts: NDArray, region: Region, rng: np.random.Generator) -> int:
    """The region that a region is compared with: an earlier sibling that it touches, or its parent."""
    earlier = np.flatnonzero(contacts[region.number, 1 : region.number] > 2) + 1
    siblings = [int(n) for n in earlier if n != region.parent]
    if siblings and rng.random() < 0.6:
        return siblings[int(rng.integers(len(siblings)))]
    return region.parent


@dataclass(frozen=True)
class Seen:
    """What some sections of one scene show together; most often there is one.

    Attributes
    ----------
    regions
        By number in their order, each as the section shows it that shows most of it.
    within
        Which section that is.
    contacts
        As :func:`touching`, over all sections.
    like
        Of regions that look like an earlier one, which that is.
    """

    regions: dict[int, Region]
    within: dict[int, int]
    contacts: NDArray[np.int32]
    like: dict[int, int]


def seen_together(sections: Sequence[Section]) -> Seen:
    """What the sections show together."""
    found: dict[int, tuple[Region, int]] = {}
    for k, section in enumerate(sections):
        for number, region in section.regions.items():
            if number not in found or region.area > found[number][0].area:
                found[number] = region, k
    order = sorted(found)
    contacts = sum((touching(section.region) for section in sections[1:]), touching(sections[0].region))
    like: dict[int, int] = {}
    for group in sections[0].groups:
        alike = sorted(n for n in group.numbers if n in found and n not in like) if group.alike else []
        like.update(dict.fromkeys(alike[1:], alike[0] if alike else 0))
    return Seen({n: found[n][0] for n in order}, {n: found[n][1] for n in order}, contacts, like)


def _means(
    seen: Seen, palette: Palette, config: SceneConfig, rng: np.random.Generator
) -> tuple[Image, set[int]]:
    """Mean grey values, and the objects that differ from their parent by texture only."""
    boundary, contacts = config.boundary, seen.contacts
    mean = np.zeros(256, np.float32)
    mean[0] = palette.values[palette.ground] if rng.random() < 0.8 else rng.uniform(0, 1)
    mean[OUTSIDE] = palette.outside
    texture_only: set[int] = set()
    for region in seen.regions.values():
        value = palette.values[region.tissue] + rng.normal(0, palette.spread)
        if region.is_object:
            against = np.clip(mean[_reference(contacts, region, rng)], *palette.shown)
            sign = 1 if rng.random() < 0.5 else -1
            if rng.random() < config.appearance.relative_share:
                step = sign * np.exp(rng.uniform(*np.log(config.appearance.contrast)))
                value = against + (step if -0.05 < against + step < 1.05 else -step)
            if boundary.enabled and rng.random() < boundary.low_contrast_share:
                value = against + sign * rng.uniform(*boundary.low_contrast)
            elif config.texture.enabled and rng.random() < config.texture.texture_only_share:
                value = np.clip(mean[region.parent], *palette.shown)
                texture_only.add(region.number)
        if region.number in seen.like:
            value = mean[seen.like[region.number]] + rng.normal(0, 0.2 * palette.spread)
        if not boundary.enabled:
            rivals = np.clip(mean[_rivals(seen, region)], *palette.shown)
            value = _stand_out(value, rivals, boundary.least_contrast)
        mean[region.number] = value
    return mean, texture_only


def _rivals(seen: Seen, region: Region) -> list[int]:
    """The earlier regions from which a region must stand out.

    An object: its parent and all that it touches. What is no object: the objects that it touches and does not
    lie in.
    """
    touched = np.flatnonzero(seen.contacts[region.number, : region.number] > 0).tolist()
    if region.is_object:
        return [region.parent, *touched]
    around = {0}
    while region.parent:
        around.add(region.parent)
        region = seen.regions[region.parent]
    return [n for n in touched if n not in around and seen.regions[n].is_object]


def _stand_out(value: float, taken: NDArray[np.float32], least: float) -> float:
    """The value nearest to `value` that differs by `least` from all that are taken."""
    if not len(taken):
        return value
    choices = np.concatenate([[value], taken - 1.02 * least, taken + 1.02 * least])
    free = np.abs(choices[:, None] - taken).min(1) >= least
    inside = free & (choices >= 0) & (choices <= 1)
    usable = choices[inside] if inside.any() else choices[free]
    return float(usable[np.argmin(np.abs(usable - value))])


def _vanishing(
    seen: Seen, config: SceneConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where outlines vanish: (n, 3) of x, y and radius; (n, 2) of the region and the section showing it."""
    spots, places = [], []
    for region in seen.regions.values():
        if config.boundary.enabled and region.is_object and rng.random() < config.boundary.weak_edge_share:
            radius = np.sqrt(region.area / np.pi)
            for _ in range(int(rng.integers(1, 5))):
                spots.append((*outline_pixel(region, rng), max(2.0, radius * rng.uniform(0.15, 0.6))))
                places.append((region.number, seen.within[region.number]))
    return np.array(spots, float).reshape(-1, 3), np.array(places, np.int64).reshape(-1, 2)


def _leaks(
    sections: Sequence[Section], seen: Seen, config: SceneConfig, rng: np.random.Generator
) -> tuple[Leak, ...]:
    """Where the appearance of objects leaks into their neighbours: outward along the normal, a short way."""
    leaks, size = [], sections[0].view.size
    for region in seen.regions.values():
        if not (config.boundary.enabled and region.is_object and rng.random() < config.boundary.leak_share):
            continue
        x, y = outline_pixel(region, rng)
        radius = np.sqrt(region.area / np.pi)
        length = min(rng.uniform(0.03, 0.09) * size, radius) + 2
        half = max(1.0, min(rng.uniform(0.005, 0.014) * size, 0.25 * radius))
        rows, columns = np.nonzero(region.mask)
        down, right = rows + (region.top - y), columns + (region.left - x)
        near = down**2 + right**2 <= 16
        normal: NDArray[np.float64] = -np.array([right[near].sum(), down[near].sum()], np.float64)
        if not normal.any():
            continue
        normal = normal / np.hypot(*normal)
        beyond_x, beyond_y = round(x + 2 * normal[0]), round(y + 2 * normal[1])
        if not (0 <= beyond_x < size and 0 <= beyond_y < size):
            continue
        within = seen.within[region.number]
        numbers = sections[within].region
        number, into = int(numbers[int(y), int(x)]), int(numbers[beyond_y, beyond_x])
        if OUTSIDE not in (number, into) and number != into:
            end = (float(x + length * normal[0]), float(y + length * normal[1]))
            leaks.append(Leak(number, into, (x, y), end, float(half), within))
    return tuple(leaks)


def draw_look(
    section: Section | Sequence[Section], palette: Palette, config: SceneConfig, rng: np.random.Generator
) -> Look:
    """Draw what every region of a scene looks like, of which one section is seen, or several."""
    sections = [section] if isinstance(section, Section) else section
    seen = seen_together(sections)
    size, boundary, texture = sections[0].view.size, config.boundary, config.texture
    mean, texture_only = _means(seen, palette, config, rng)
    names, weights = texture.kinds.items()
    fields = tuple(
        textures.draw(rng, max(32, size // 2), names[int(rng.choice(len(names), p=weights))])
        for _ in range(int(rng.choice([2, 3], p=[0.6, 0.4])) if texture.enabled else 0)
    )
    amplitude, shade, absorb = np.zeros((3, 256), np.float32)
    kind = np.zeros(256, np.uint8)
    strength: dict[str, float] = {}
    kinds: dict[str, int] = {}
    capsules = []
    for region in seen.regions.values():
        tissue, n = region.tissue, region.number
        if texture.enabled:
            low, high = np.log(texture.strength)
            amplitude[n] = strength.setdefault(tissue, float(np.exp(rng.uniform(low, high))))
            kind[n] = kinds.setdefault(tissue, int(rng.integers(len(fields))))
            if tissue in ("air", "fluid", "liquor"):
                amplitude[n] *= 0.3
            shade[n] = rng.uniform(*texture.shading)
            if n in texture_only:
                kind[n] = (kind[region.parent] + 1) % len(fields)
                amplitude[n] = max(amplitude[n], rng.uniform(0.05, 0.14), 1.5 * amplitude[region.parent])
        if n in seen.like:
            kind[n], amplitude[n] = kind[seen.like[n]], amplitude[seen.like[n]]
        absorb[n] = absorption(rng, tissue)
        if boundary.enabled and region.is_object and rng.random() < boundary.capsule_share:
            step = (1 if rng.random() < 0.5 else -1) * rng.uniform(0.1, 0.5)
            capsules.append((n, float(step), float(rng.uniform(1.0, 2.4) * max(1, size / 256))))
    varying = boundary.enabled and rng.random() < boundary.varying_edge_share
    shading = rng.standard_normal((5, 5), np.float32)
    spots, spots_on = _vanishing(seen, config, rng)
    return Look(
        palette=palette,
        mean=mean,
        amplitude=amplitude,
        shade=shade,
        kind=kind,
        absorption=absorb,
        textures=fields,
        shading=shading,
        capsules=tuple(capsules),
        spots=spots,
        spots_on=spots_on,
        edge=max(0.35, rng.uniform(*boundary.edge_width) * size / 1000),
        wide=rng.uniform(0.012, 0.035) * size,
        softness=np.clip(rng.uniform(-0.8, 0.9, (6, 6)), 0, 1).astype(np.float32) * np.float32(varying),
        leaks=_leaks(sections, seen, config, rng),
    )


@compiled
def _bridge(
    shown: NDArray, number: int, into: int, x0: float, y0: float, x1: float, y1: float, half: float
) -> None:
    """Show region `number` where `shown` is `into` within `half` of the segment from (x0, y0) to (x1, y1)."""
    height, width = shown.shape
    dx, dy = x1 - x0, y1 - y0
    squared = dx * dx + dy * dy
    for row in range(max(0, int(min(y0, y1) - half)), min(height, int(max(y0, y1) + half) + 2)):
        for column in range(max(0, int(min(x0, x1) - half)), min(width, int(max(x0, x1) + half) + 2)):
            along = min(max(((column - x0) * dx + (row - y0) * dy) / squared, 0.0), 1.0)
            away = (column - x0 - along * dx) ** 2 + (row - y0 - along * dy) ** 2
            if away <= half * half and shown[row, column] == into:
                shown[row, column] = number


@compiled
def _paint(
    region: NDArray,
    mean: NDArray,
    amplitude: NDArray,
    shade: NDArray,
    kind: NDArray,
    fields: NDArray,
    slow: NDArray,
) -> tuple[NDArray, NDArray]:
    height, width = region.shape
    level, grain = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for row in range(height):
        for column in range(width):
            n = region[row, column]
            level[row, column] = mean[n] + shade[n] * slow[row, column]
            grain[row, column] = amplitude[n] * fields[kind[n], row, column]
    return level, grain


@compiled
def _draw_rim(
    level: NDArray, mask: NDArray, top: int, left: int, step: float, width: float, slow: NDArray
) -> None:
    """Add `step` to the pixels of a mask within `width` of its outline, where the slow field lets it show."""
    h, w = mask.shape
    height, across = level.shape
    up, before = min(1, top), min(1, left)  # beside the mask lies what is outside of it, but not of the frame
    padded = np.zeros((h + up + min(1, height - top - h), w + before + min(1, across - left - w)), np.uint8)
    padded[up : up + h, before : before + w] = mask
    squared = squared_distance(padded, False, int(np.ceil(width)))
    for row in range(h):
        for column in range(w):
            if mask[row, column] and squared[row + up, column + before] <= width * width:
                show = min(max(slow[row + top, column + left] + 0.9, 0.0), 1.0)
                level[row + top, column + left] += np.float32(step * show)


@compiled
def _soften(level: NDArray, wide: NDArray, softness: NDArray, spots: NDArray) -> None:
    """Blend `level` towards its wide blur by a softness that is 1 in the middle of each spot."""
    height, width = level.shape
    for k in range(len(spots)):
        x, y, radius = spots[k]
        reach = int(np.ceil(1.6 * radius))
        for row in range(max(0, int(y) - reach), min(height, int(y) + reach + 1)):
            for column in range(max(0, int(x) - reach), min(width, int(x) + reach + 1)):
                away = ((row - y) ** 2 + (column - x) ** 2) / (radius * radius)
                softness[row, column] = max(softness[row, column], np.float32(np.exp(-(away**2))))
    for row in range(height):
        for column in range(width):
            soft = min(max(softness[row, column], np.float32(0)), np.float32(1))
            level[row, column] += soft * (wide[row, column] - level[row, column])


def make_fields(look: Look, size: int) -> Image:
    """The fields of a look's textures over a frame, float32 (n, H, W); one of zeros where there are none."""
    shape = (size, size)
    if not look.textures:
        return np.zeros((1, *shape), np.float32)
    grid = max(32, size // 2)
    return np.stack([upsample(textures.make(texture, grid), shape) for texture in look.textures])


def render(section: Section, look: Look) -> Image:
    """The clean image of a scene, float32 (H, W): tissue, texture, rims, and edges of varying width."""
    level, grain = paint_levels(section, look, make_fields(look, section.view.size))
    return with_edges(level, grain, look)


def paint_levels(section: Section, look: Look, fields: Image) -> tuple[Image, Image]:
    """Tissue and rims of a scene, and its texture, from the textures' fields; all edges are sharp."""
    size = section.view.size
    shape = (size, size)
    slow = upsample(look.shading, shape, sharp=False)
    shown = section.region.copy() if look.leaks else section.region  # the label map does not follow a leak
    for leak in look.leaks:
        _bridge(shown, leak.number, leak.into, *leak.start, *leak.end, leak.half)
    level, grain = _paint(shown, look.mean, look.amplitude, look.shade, look.kind, fields, slow)
    for number, step, width in look.capsules:
        region = section.regions.get(number)
        if region is not None:
            _draw_rim(level, region.mask, region.top, region.left, step, width, slow)
    if section.density is not None:
        level += gaussian_blur(section.density, look.edge + size / 200)
    return level, grain


def with_edges(level: Image, grain: Image, look: Look) -> Image:
    """The clean image of what :func:`paint_levels` gave, which is changed."""
    if len(look.spots) or look.softness.any():
        softness = upsample(look.softness, level.shape, sharp=False)
        _soften(level, gaussian_blur(level, look.wide), softness, look.spots)
    return gaussian_blur(level + grain, look.edge)
