"""One sample from one seed: the generator's one public function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.console import InputError
from data.shards import Sample
from generator.canvas.annotation import move_outlines
from generator.canvas.layout import ORGANS, Canvas
from generator.canvas.section import OUTSIDE, Scene, Section
from generator.canvas.view import View, draw_displacement
from generator.config import GeneratorConfig
from generator.look.appearance import Image, Look, draw_look, render
from generator.modalities import acquisition, ultrasound
from generator.modalities.ultrasound import Probe
from generator.objects import tabulate
from generator.plans.tools import PLANS


@dataclass(frozen=True)
class Display:
    """How grey values become an 8-bit image: quantiles that become black and white, gamma, inversion."""

    low: float
    high: float
    gamma: float
    inverted: bool


ATTEMPTS = 1000
"""Scenes drawn for one sample before its config is told to show nothing."""


def make_sample(
    config: GeneratorConfig, root_seed: int, index: int, between: Callable[[], None] | None = None
) -> Sample:
    """Make sample `index` of the dataset with the given root seed.

    The sample depends on the config, the root seed and its index alone. It has at least one object, every
    object can be told from what lies around it, and the sample passes :func:`data.folder.check_sample`.

    Parameters
    ----------
    between
        Called before a scene is drawn again: an exception of its own ends the search.

    Raises
    ------
    InputError
        If none of :data:`ATTEMPTS` scenes shows an object.
    """
    seed = int(np.random.SeedSequence(root_seed, spawn_key=(index,)).generate_state(1, np.uint64)[0])
    for attempt in range(ATTEMPTS):  # a scene in which nothing can be seen is drawn again
        if attempt and between is not None:
            between()
        streams = np.random.SeedSequence(seed, spawn_key=(attempt,)).spawn(4)
        layout_rng, look_rng, scan_rng, prompt_rng = map(np.random.default_rng, streams)
        modality, plan = _draw_kind(config, layout_rng)
        _, section, probe = draw_scene(config, modality, plan, layout_rng)
        if not section.objects:
            continue
        look = draw_look(section, modality, config, look_rng)
        image, ideal = acquire(render(section, look), section, look, modality, probe, config, scan_rng)
        grey = display(image, draw_display(config, modality, scan_rng))
        if probe is not None and scan_rng.random() < config.acquisition.US.covered_share:
            cover(grey, scan_rng)
        if config.boundary.enabled and look_rng.random() < config.boundary.margin_share:
            move_outlines(section, look_rng.uniform(*config.boundary.margin) * config.size / 1000)
        label, objects = tabulate(section, grey, ideal, config.prompts, prompt_rng)
        if len(objects):
            return Sample(image=grey, label=label, index=index, seed=seed, modality=modality, objects=objects)
    raise InputError(
        f"sample {index}: none of {ATTEMPTS} scenes of size {config.size} shows an object; set a smaller "
        f"shapes.min_area ({config.shapes.min_area} pixels), or less noise"
    )


def _draw_kind(config: GeneratorConfig, rng: np.random.Generator) -> tuple[str, str]:
    """The modality and the plan of a scene."""
    names, shares = config.modality.items()
    modality = names[int(rng.choice(len(names), p=shares))]
    plan_names, plan_shares = getattr(config.shapes.plans, modality).items()
    plan = plan_names[int(rng.choice(len(plan_names), p=plan_shares))]
    return modality, plan if config.shapes.anatomical else "ellipses"


def draw_view(config: GeneratorConfig, modality: str, plan: str, rng: np.random.Generator) -> View:
    """Draw what part of the anatomy the frame shows, how large and how turned."""
    size, kind = config.size, rng.random()
    scale, focus = rng.uniform(0.82, 1.02), rng.normal(0, 0.08, 2)
    fixed, zoom = PLANS[plan].upright, PLANS[plan].zoom
    if zoom is not None:
        scale = rng.uniform(*zoom)
    elif kind < config.shapes.crop_share:
        scale = np.exp(rng.uniform(np.log(1.2), np.log(1.5 if fixed else 3.2)))
        focus = rng.uniform(-0.5, 0.5, 2) * (0.3 if fixed else 1.0)
    elif kind > 1 - config.shapes.distant_share and not fixed:
        scale = rng.uniform(0.4, 0.75)
    angle = rng.normal(0, 0.03 if fixed else 0.1)
    if not fixed and rng.random() < config.shapes.turned_share:
        angle = rng.uniform(0, 2 * np.pi)
    return View(
        scale=float(size / 2 * scale),
        focus=(float(focus[0]), float(focus[1])),
        angle=float(angle),
        mirror=int(rng.choice([-1, 1])),
        size=size,
        displacement=draw_displacement(rng, size, rng.uniform(*config.shapes.deformation)),
    )


def draw_scene(
    config: GeneratorConfig, modality: str, plan: str, rng: np.random.Generator
) -> tuple[Scene, Section, Probe | None]:
    """Draw a scene, what the frame shows of it (:func:`paint` would paint it again), and the probe."""
    size, boundary, shapes = config.size, config.boundary, config.shapes
    view = draw_view(config, modality, plan, rng)
    probe, seen = None, None
    if modality == "US":
        probe = ultrasound.draw_probe(rng, size, PLANS[plan].probes or ("linear", "curved", "sector"))
        seen = ultrasound.field_of_view(probe, size)
    elif modality == "CT" and rng.random() < config.acquisition.CT.circle_share:
        y, x = np.ogrid[0:size, 0:size]
        middle = (size - 1) / 2
        seen = (x - middle) ** 2 + (y - middle) ** 2 <= (size / 2) ** 2
    canvas = Canvas(
        section=Section(view, seen, shapes.min_area),
        rng=rng,
        max_objects=shapes.max_objects,
        spacing=0 if boundary.enabled else max(2, round(size / 80)),
        gap_share=boundary.gap_share if boundary.enabled else 0.0,
    )
    PLANS[plan].draw(canvas)
    families = ORGANS if shapes.anatomical else ("ellipse",)
    if boundary.enabled:
        canvas.add_neighbours(boundary.touching_share, families)
    if shapes.pieces_share:
        canvas.add_pieces(shapes.pieces_share, families)
    if shapes.anatomical:
        canvas.add_tissues(shapes.two_tissue_share)
    canvas.section.finish()
    return canvas.scene(), canvas.section, probe


def acquire(
    clean: Image,
    section: Section,
    look: Look,
    modality: str,
    probe: Probe | None,
    config: GeneratorConfig,
    rng: np.random.Generator,
) -> tuple[Image, Image]:
    """The scanner's image of a clean one, and the same without noise, float32 (H, W)."""
    if probe is not None:
        settings = ultrasound.draw_scan(rng, probe, config.acquisition.US)
        return ultrasound.acquire(clean, look.absorption[section.region], settings)
    scan = acquisition.draw_scan(rng, modality, config.size, config.acquisition)
    image, ideal = acquisition.acquire(clean, scan, look.palette.window)
    if modality == "CT":
        image[section.region == OUTSIDE] = 0
    return image, ideal


def draw_display(config: GeneratorConfig, modality: str, rng: np.random.Generator) -> Display:
    """Draw how the image is shown."""
    appearance = config.appearance
    return Display(
        low=rng.uniform(0.0, 0.01),
        high=1 - np.exp(rng.uniform(np.log(0.001), np.log(0.02))),
        gamma=float(np.exp(rng.uniform(*np.log(appearance.gamma))))
        if rng.random() < (0.25 if modality == "CT" else 0.6)
        else 1.0,
        inverted=bool(rng.random() < appearance.inversion_share * (modality != "US")),
    )


def display(image: Image, how: Display) -> NDArray[np.uint8]:
    """An 8-bit image that uses its range: between two quantiles, then gamma, then inversion."""
    sample = np.sort(image[::3, ::3], axis=None)
    low, high = (float(sample[int(q * (len(sample) - 1))]) for q in (how.low, how.high))
    if high - low < 1e-4:  # next to everything has one value
        low, high = float(image.min()), float(image.max())
    unit = np.clip((image - np.float32(low)) * np.float32(1 / max(high - low, 1e-6)), 0, 1)
    if how.gamma != 1:
        unit = unit ** np.float32(how.gamma)
    if how.inverted:
        unit = 1 - unit
    return (unit * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def cover(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Lay one or two black rectangles over an image (H, W) from its corners; it is changed."""
    for _ in range(int(rng.integers(1, 3))):
        high, wide = (round(side * rng.uniform(0.1, 0.42)) for side in image.shape)
        rows = slice(0, high) if rng.random() < 0.5 else slice(image.shape[0] - high, None)
        columns = slice(0, wide) if rng.random() < 0.5 else slice(image.shape[1] - wide, None)
        image[rows, columns] = 0
