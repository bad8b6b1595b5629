"""One sample from one seed: the generator's one public function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.shards import Objects, Sample
from synthfm.generator.canvas import traits
from synthfm.generator.canvas.annotation import move_outlines
from synthfm.generator.canvas.layout import ORGANS, Canvas
from synthfm.generator.canvas.section import Scene, Section
from synthfm.generator.canvas.view import View, draw_displacement
from synthfm.generator.config import GeneratorConfig
from synthfm.generator.look.appearance import draw_look, render
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.modalities.base import Display, FieldOfView, Modality
from synthfm.generator.objects import tabulate
from synthfm.generator.plans.tools import PLANS, Plan
from synthfm.generator.raster.filters import Image
from synthfm.generator.settings import ShapesConfig

ATTEMPTS = 1000
"""Scenes drawn for one sample before its config is told to show nothing."""


def make_sample(
    config: GeneratorConfig, root_seed: int, index: int, between: Callable[[], None] | None = None
) -> Sample:
    """Make sample `index` of the dataset with the given root seed, a single image.

    The sample depends on the config, the root seed and its index alone. It has at least one object, every
    object can be told from what lies around it, and the sample passes
    :func:`synthfm.data.folder.check_sample`.

    Parameters
    ----------
    between
        Called before a scene is drawn again: an exception of its own ends the search.

    Raises
    ------
    InputError
        If none of :data:`ATTEMPTS` scenes shows an object.
    """
    for attempt in range(ATTEMPTS):  # a scene in which nothing can be seen is drawn again
        if attempt and between is not None:
            between()
        seed, (layout_rng, *others) = streams_of(root_seed, index, attempt)
        modality, plan = draw_kind(config, layout_rng)
        _, section, field = draw_scene(config, modality, plan, layout_rng)
        if not section.objects:
            continue
        grey, label, objects = photograph(section, field, modality, config, *others)
        if len(objects):
            return Sample(grey, label, index, seed, modality.name, objects)
    raise InputError(
        f"sample {index}: none of {ATTEMPTS} scenes of size {config.size} shows an object; set a smaller "
        f"shapes.min_area ({config.shapes.min_area} pixels), or less noise"
    )


def streams_of(root_seed: int, index: int, attempt: int = 0) -> tuple[int, list[np.random.Generator]]:
    """A sample's own seed, and what its layout, look, scan and prompts are drawn from in one attempt."""
    seed = int(np.random.SeedSequence(root_seed, spawn_key=(index,)).generate_state(1, np.uint64)[0])
    streams = np.random.SeedSequence(seed, spawn_key=(attempt,)).spawn(4)
    return seed, [np.random.default_rng(stream) for stream in streams]


def photograph(
    section: Section,
    field: FieldOfView | None,
    modality: Modality,
    config: GeneratorConfig,
    look_rng: np.random.Generator,
    scan_rng: np.random.Generator,
    prompt_rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Objects]:
    """The image of a section through look, scanner and display, its label map and its table of objects.

    The section's outlines may be moved; of its objects those are left out that nobody could see.
    """
    settings, size, boundary = config.settings(modality.name), config.size, config.boundary
    physical = bool(look_rng.random() < config.appearance.physical_share)
    look = draw_look(section, modality.draw_palette(look_rng, physical), config, look_rng)
    clean = render(section, look)
    scan = modality.draw_scan(scan_rng, size, field, config.acquisition, settings)
    image, ideal = scan.acquire(clean, section, look)
    grey = display(image, modality.draw_display(scan_rng, size, config.appearance, settings))
    if boundary.enabled and look_rng.random() < boundary.margin_share:
        move_outlines(section, look_rng.uniform(*boundary.margin) * size / 1000)
    return (grey, *tabulate(section, grey, ideal, config.prompts, prompt_rng))


def draw_kind(config: GeneratorConfig, rng: np.random.Generator) -> tuple[Modality, Plan]:
    """The modality and the plan of a scene."""
    name = _draw_name(config.modality_weights(), rng)
    plan = PLANS[_draw_name(config.plan_weights(name), rng)]
    if not config.shapes.anatomical:
        plan = PLANS["ellipses"]
    return MODALITIES[plan.modality or name], plan


def _draw_name(weights: tuple[list[str], list[float]], rng: np.random.Generator) -> str:
    names, shares = weights
    return names[int(rng.choice(len(names), p=shares))]


def draw_view(size: int, shapes: ShapesConfig, plan: Plan, rng: np.random.Generator) -> View:
    """Draw what part of the anatomy the frame shows, how large and how turned."""
    kind = rng.random()
    scale, focus = rng.uniform(0.82, 1.02), rng.normal(0, 0.08, 2)
    if plan.zoom is not None:
        scale = rng.uniform(*plan.zoom)
    elif kind < shapes.crop_share:
        scale = np.exp(rng.uniform(np.log(1.2), np.log(1.5 if plan.upright else 3.2)))
        focus = rng.uniform(-0.5, 0.5, 2) * (0.3 if plan.upright else 1.0)
    elif kind > 1 - shapes.distant_share and not plan.upright:
        scale = rng.uniform(0.4, 0.75)
    angle = rng.normal(0, 0.03 if plan.upright else 0.1)
    if not plan.upright and rng.random() < shapes.turned_share:
        angle = rng.uniform(0, 2 * np.pi)
    return View(
        scale=float(size / 2 * scale),
        focus=(float(focus[0]), float(focus[1])),
        angle=float(angle),
        mirror=int(rng.choice([-1, 1])),
        size=size,
        displacement=draw_displacement(rng, size, rng.uniform(*shapes.deformation)),
    )


def draw_scene(
    config: GeneratorConfig, modality: Modality, plan: Plan, rng: np.random.Generator
) -> tuple[Scene, Section, FieldOfView | None]:
    """Draw a scene, and what the modality's field of view shows of it.

    The section is painted while the scene is drawn; :func:`synthfm.generator.canvas.section.paint` paints it
    anew.
    """
    canvas, field = draw_canvas(config, modality, plan, rng)
    return canvas.scene(), canvas.section, field


def draw_canvas(
    config: GeneratorConfig, modality: Modality, plan: Plan, rng: np.random.Generator
) -> tuple[Canvas, FieldOfView | None]:
    """As :func:`draw_scene`: the canvas with the scene on it, and the field of view."""
    size, boundary, shapes = config.size, config.boundary, config.shapes
    view = draw_view(size, shapes, plan, rng)
    field = modality.draw_field(rng, size, plan, config.settings(modality.name))
    canvas = Canvas(
        section=Section(view, None if field is None else field.seen(size), shapes.min_area),
        rng=rng,
        max_objects=shapes.max_objects,
        spacing=0 if boundary.enabled else max(2, round(size / 80)),
        gap_share=boundary.gap_share if boundary.enabled else 0.0,
        ragged_share=shapes.ragged_share,
    )
    plan.draw(canvas)
    families = ORGANS if shapes.anatomical else ("ellipse",)
    if boundary.enabled:
        canvas.add_neighbours(boundary.touching_share, families)
    if shapes.pieces_share:
        canvas.add_pieces(shapes.pieces_share, families)
    if shapes.anatomical:
        canvas.add_tissues(shapes.two_tissue_share)
    traits.add(canvas, shapes)
    canvas.section.groups = tuple(canvas.groups)
    canvas.section.finish()
    return canvas, field


def display(image: Image, how: Display) -> NDArray[np.uint8]:
    """An 8-bit image that uses its range: between two quantiles, then gamma, inversion and patches."""
    return shown_between(image, *grey_range(image[::3, ::3], image, how), how)


def grey_range(sample: Image, image: Image, how: Display) -> tuple[float, float]:
    """The values that become black and white: quantiles of a sample of an image's values."""
    sample = np.sort(sample, axis=None)
    low, high = (float(sample[int(q * (len(sample) - 1))]) for q in (how.low, how.high))
    if high - low < 1e-4:  # next to everything has one value
        low, high = float(image.min()), float(image.max())
    return low, high


def shown_between(image: Image, low: float, high: float, how: Display) -> NDArray[np.uint8]:
    """An 8-bit image, black at `low` and white at `high`."""
    unit = np.clip((image - np.float32(low)) * np.float32(1 / max(high - low, 1e-6)), 0, 1)
    if how.gamma != 1:
        unit = unit ** np.float32(how.gamma)
    if how.inverted:
        unit = 1 - unit
    grey = (unit * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    for rows, columns in how.patches:
        grey[rows, columns] = 0
    return grey
