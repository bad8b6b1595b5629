"""One volume from one seed: one drawn scene, painted at many heights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.shards import Sample, Slice
from synthfm.generator import sets
from synthfm.generator.canvas.annotation import move_outlines
from synthfm.generator.canvas.paths import cut
from synthfm.generator.canvas.section import Placement, Scene, Section, Shell, paint
from synthfm.generator.canvas.solid import draw_solid
from synthfm.generator.config import GeneratorConfig
from synthfm.generator.look import textures
from synthfm.generator.look.appearance import Look, draw_look, paint_levels, with_edges
from synthfm.generator.modalities.base import Place, Scan, log_uniform
from synthfm.generator.objects import Measured, edge_widths, measure, table_of
from synthfm.generator.raster.filters import Image, bilinear, upsample
from synthfm.generator.scene import ATTEMPTS, draw_canvas, draw_kind, grey_range, make_sample, shown_between

THIN = 3.0
"""Slices that average over less than so many pixels are painted at one height."""

LARGE = 1 << 22
"""Pixels of a volume from which on masks and distances of its objects are made twice, to save memory."""

FINEST = 256
"""Side of the largest grid of a volume's textures."""


def volume_depth(config: GeneratorConfig, root_seed: int, number: int) -> int:
    """How many slices a volume of a dataset has."""
    low, high = config.volume.depth
    rng = np.random.default_rng(np.random.SeedSequence(root_seed, spawn_key=(number, 1)))
    return int(rng.integers(low, high + 1))


def make_volume(
    config: GeneratorConfig,
    root_seed: int,
    number: int,
    first_index: int = 0,
    between: Callable[[], None] = lambda: None,
) -> list[Sample]:
    """Make the slices of volume `number` of the dataset with the given root seed.

    They depend on the config, the root seed and the number alone. Half of them show an object at least. A
    track of objects is in each slice from its first to its last; an object that is out of sight between is
    two. An object that can be told from what lies around it in half of its slices is kept in them all, but at
    its ends where it cannot.

    Parameters
    ----------
    first_index
        Number of the first slice among the dataset's samples.
    between
        Called now and then: an exception of its own ends the work.

    Raises
    ------
    InputError
        If none of :data:`synthfm.generator.scene.ATTEMPTS` scenes shows enough.
    """
    seed = int(np.random.SeedSequence(root_seed, spawn_key=(number,)).generate_state(1, np.uint64)[0])
    depth = volume_depth(config, root_seed, number)
    if not config.volume.through_plane:
        return _independent(config, seed, depth, first_index, between)
    for attempt in range(ATTEMPTS):
        between()
        samples = _attempt(config, seed, attempt, depth, first_index, between)
        if _enough(sum(len(sample.objects) > 0 for sample in samples), depth):
            return samples
    raise InputError(
        f"volume {number}: none of {ATTEMPTS} scenes of size {config.size} shows objects in half of its "
        f"slices; set a smaller shapes.min_area ({config.shapes.min_area} pixels), or less noise"
    )


def _enough(shown: int, depth: int) -> bool:
    """Whether enough of a volume's slices show an object."""
    return 2 * shown >= depth


def _independent(
    config: GeneratorConfig, seed: int, depth: int, first_index: int, between: Callable[[], None]
) -> list[Sample]:
    """A volume whose slices have nothing to do with one another: each is a single image."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    spacing = (log_uniform(rng, config.volume.spacing), 1.0, 1.0)
    samples, tracks = [], 0
    for k in range(depth):
        between()
        sample = make_sample(config, seed, k, between)
        track = tracks + np.arange(len(sample.objects), dtype=np.int32)
        tracks += len(track)
        objects = replace(sample.objects, track=track)
        samples.append(
            replace(sample, index=first_index + k, seed=seed, objects=objects, slice=Slice(k, spacing, "z"))
        )
    return samples


@dataclass(frozen=True)
class Course:
    """At which heights a volume's slices lie, in pixels, and at which phases of a beat.

    `thick` is the share of the distance of slices that each averages over, 0 where it is painted at one
    height; `shading` are the nodes that the look's slow shading becomes, (5, 5).
    """

    axis: str
    spacing: float
    heights: NDArray[np.float64]
    phases: NDArray[np.float64]
    thick: float
    shading: Image


def draw_course(config: GeneratorConfig, depth: int, cine: bool, rng: np.random.Generator) -> Course:
    """Draw the heights of slices, or of the frames of a cine, which moves a little through the plane."""
    shading = rng.standard_normal((5, 5), np.float32)
    if cine:
        phases = np.arange(depth, dtype=np.float64) * (2 * np.pi / rng.uniform(10, 32))
        drift = rng.uniform(0, 0.025) * config.size
        heights = drift * (np.sin(phases + rng.uniform(0, 2 * np.pi)))
        return Course("t", 1.0, heights, phases, 0.0, shading)
    spacing = log_uniform(rng, config.volume.spacing)
    thick = rng.uniform(*config.volume.thickness)
    heights = (np.arange(depth, dtype=np.float64) - (depth - 1) / 2) * spacing
    return Course("z", spacing, heights, np.zeros(depth), thick * (thick * spacing >= THIN), shading)


def _attempt(
    config: GeneratorConfig,
    seed: int,
    attempt: int,
    depth: int,
    first_index: int,
    between: Callable[[], None],
) -> list[Sample]:
    """One volume, which may show nothing."""
    streams = np.random.SeedSequence(seed, spawn_key=(attempt,)).spawn(5)
    layout_rng, look_rng, scan_rng, prompt_rng, course_rng = map(np.random.default_rng, streams)
    modality, plan = draw_kind(config, layout_rng)
    settings, size = config.settings(modality.name), config.size
    canvas, field = draw_canvas(config, modality, plan, layout_rng)
    if not canvas.section.objects:
        return []
    cine = modality.cines and course_rng.random() < config.volume.cine_share
    course = draw_course(config, depth, cine, course_rng)
    span = float(min(course.heights.min(), -1.0)), float(max(course.heights.max(), 1.0))
    warped = config.shapes.anatomical
    solid = draw_solid(canvas, config.volume, span=span, cine=cine, warped=warped, between=between)
    scenes = cut(solid, course.heights.tolist(), course.phases.tolist())
    sections = [paint(scene) for scene in scenes]
    if not _enough(sum(section.objects > 0 for section in sections), depth):
        return []
    physical = bool(look_rng.random() < config.appearance.physical_share)
    look = draw_look(sections, modality.draw_palette(look_rng, physical), config, look_rng)
    scan = modality.draw_scan(scan_rng, size, field, config.acquisition, settings)
    how = modality.draw_display(scan_rng, size, config.appearance, settings)
    halves: list[Scene] = []
    if course.thick:
        ends = course.heights[0] - course.spacing / 2 + np.arange(depth + 1) * course.spacing
        halves = cut(solid, ends.tolist())
    images, widths = np.empty((depth, size, size), np.float32), []
    for k, (clean, looked) in enumerate(_clean(course, scenes, sections, halves, look)):
        between()
        image, ideal = _scanned(scan, course, scenes, k).acquire(clean, sections[k], looked)
        images[k] = image
        objects = (region for region in sections[k].regions.values() if region.is_object)
        widths.append(edge_widths(objects, ideal) | sets.edge_widths_of(sections[k], ideal))
    low, high = grey_range(images[:, ::5, ::5], images, how)
    greys = [shown_between(image, low, high, how) for image in images]
    light = images.size > LARGE
    del images
    if config.boundary.enabled and look_rng.random() < config.boundary.margin_share:
        by = look_rng.uniform(*config.boundary.margin) * size / 1000
        for section in sections:
            move_outlines(section, by)
    measured = []
    for section, grey in zip(sections, greys, strict=True):
        found = measure(section, grey)
        measured.append({n: one.light() for n, one in found.items()} if light else found)
    tracks = find_tracks(sections, measured)
    tables: list[sets.Table] = []
    for k, section in enumerate(sections):
        kept = {n: found for n, found in measured[k].items() if (n, k) in tracks}
        label, table = table_of(section, kept, widths[k], config.prompts, prompt_rng)
        table = replace(table, track=np.array([tracks[n, k] for n in kept], np.int32))
        tables.append(sets.Table(section, greys[k], label, table, list(kept), widths[k]))
    samples = []
    for k, table in enumerate(sets.with_tracked_sets(tables, config.prompts, prompt_rng, light)):
        place = Slice(k, (course.spacing, 1.0, 1.0), course.axis)
        samples.append(Sample(greys[k], tables[k].label, first_index + k, seed, modality.name, table, place))
    return samples


def find_tracks(sections: list[Section], measured: list[dict[int, Measured]]) -> dict[tuple[int, int], int]:
    """The track of each object that is kept, by its region number and slice.

    What fills the frame in one slice is no object in any.
    """
    others = {region.number for s in sections for region in s.regions.values() if not region.is_object}
    kept: list[tuple[int, int, list[int]]] = []
    for number in sorted({n for found in measured for n in found} - others):
        seen = {k: found[number].seen for k, found in enumerate(measured) if number in found}
        kept += [(run[0], number, run) for run in sets.runs(seen)]
    return {(number, k): track for track, (_, number, run) in enumerate(sorted(kept)) for k in run}


def _motion(scenes: list[Scene], k: int) -> NDArray[np.float32]:
    """How far what the pixels of a frame show has moved since the first one, (2, 33, 33)."""
    return scenes[k].view.displacement - scenes[0].view.displacement


def _scanned(scan: Scan, course: Course, scenes: list[Scene], k: int) -> Scan:
    """The scan of one slice."""
    size = scenes[k].view.size
    if course.axis == "t":
        return scan.of_slice(Place(k, 0.0, _motion(scenes, k)))
    return scan.of_slice(Place(k, float(course.heights[k]) / size))


def _clean(
    course: Course, scenes: list[Scene], sections: list[Section], halves: list[Scene], look: Look
) -> Iterator[tuple[Image, Look]]:
    """The clean image of each slice, averaged over its thickness, and the look that it has there.

    The slice is painted in its middle and half-way to either neighbour.
    """
    before: tuple[Image, Image] | None = None
    shadings = _shadings(look, course, scenes[0].view.size)
    bearers = [_bearers(scene) for scene in scenes]
    for k, fields in enumerate(_fields(course, scenes, look)):
        looked = replace(_moved_look(look, scenes, bearers, course, k), shading=shadings[k])
        level, grain = paint_levels(sections[k], looked, fields)
        if halves:
            if before is None:
                before = paint_levels(paint(halves[k]), looked, fields)
            after = paint_levels(paint(halves[k + 1]), looked, fields)
            share = np.float32(course.thick / 4)
            level, grain = (
                (1 - 2 * share) * middle + share * (low + high)
                for middle, low, high in zip((level, grain), before, after, strict=True)
            )
            before = after
        yield with_edges(level, grain, looked), looked


def _shadings(look: Look, course: Course, size: int) -> list[Image]:
    """The nodes of the slow shading of each slice: three-dimensional over a frame's side or so."""
    turns = 2 * np.pi * course.heights / (2.5 * size)
    return [
        np.float32(np.cos(turn)) * look.shading + np.float32(np.sin(turn)) * course.shading for turn in turns
    ]


def _fields(course: Course, scenes: list[Scene], look: Look) -> Iterator[Image]:
    """The fields of the textures in each slice: three-dimensional, or moved with the tissue of a cine."""
    size, depth = scenes[0].view.size, len(scenes)
    grid = min(max(32, size // 2), FINEST)
    if not look.textures:
        yield from (np.zeros((1, size, size), np.float32) for _ in range(depth))
    elif course.axis == "t":
        fields = [textures.make(texture, grid) for texture in look.textures]
        x, y = np.meshgrid(*[np.arange(grid, dtype=np.float32)] * 2)
        for k in range(depth):
            moved = _motion(scenes, k) * np.float32(grid / size)
            dx, dy = (upsample(axis, (grid, grid), sharp=False) for axis in moved)
            shown = [bilinear(field, x - dx, y - dy) for field in fields]
            yield np.stack([upsample(field, (size, size)) for field in shown])
    else:
        step = course.spacing * grid / size
        stacks = [textures.make_through(texture, grid, depth, step) for texture in look.textures]
        for k in range(depth):
            yield np.stack([upsample(stack[k], (size, size)) for stack in stacks])


def _moved_look(
    look: Look, scenes: list[Scene], bearers: list[dict[int, Placement]], course: Course, k: int
) -> Look:
    """The look with its spots and leaks where their structures have moved, as large as they are there."""
    there = bearers[k]

    def moved(x: float, y: float, number: int, within: int) -> tuple[float, float] | None:
        drawn = bearers[within].get(number)
        if drawn is None:  # a cell: it is left where it was
            return x, y
        if number not in there:
            return None
        return _carried(x, y, scenes[within], drawn, scenes[k], there[number])

    spots, leaks = [], []
    for (x, y, radius), (number, within) in zip(look.spots, look.spots_on, strict=True):
        share = 1 - ((course.heights[k] - course.heights[within]) / (2.5 * radius)) ** 2
        at = moved(x, y, number, within) if share > 0 else None
        if at is not None:
            spots.append((*at, radius * np.sqrt(share)))
    for leak in look.leaks:
        share = 1 - ((course.heights[k] - course.heights[leak.section]) / (4 * leak.half)) ** 2
        if share > 0:
            start, end = (moved(*point, leak.number, leak.section) for point in (leak.start, leak.end))
            if start is not None and end is not None and start != end:
                leaks.append(replace(leak, start=start, end=end, half=leak.half * np.sqrt(share)))
    return replace(look, spots=np.array(spots, float).reshape(-1, 3), leaks=tuple(leaks))


def _bearers(scene: Scene) -> dict[int, Placement]:
    """What each structure of a scene moves with: its placement, or that of what it is the wall of."""
    found: dict[int, Placement] = {}
    for placement in scene.placements:
        if isinstance(placement, Placement):
            found.setdefault(placement.structure.number, placement)
        elif isinstance(placement, Shell) and placement.structure.parent in found:
            found[placement.structure.number] = found[placement.structure.parent]
    return found


def _carried(
    x: float, y: float, scene: Scene, drawn: Placement, other: Scene, there: Placement
) -> tuple[float, float]:
    """Where a pixel of a placement's outline lies when the placement has moved."""
    at = np.array(scene.view.to_anatomy(x, y)) - drawn.at
    c, s = np.cos(drawn.angle), np.sin(drawn.angle)
    unit = np.array([c * at[0] + s * at[1], -s * at[0] + c * at[1]]) / np.maximum(drawn.size, 1e-6)
    wide = unit * there.size
    c, s = np.cos(there.angle), np.sin(there.angle)
    point = there.at[0] + c * wide[0] - s * wide[1], there.at[1] + s * wide[0] + c * wide[1]
    px, py = other.view.deform(np.array([other.view.to_pixels(*point)]))[0]
    return float(px), float(py)
