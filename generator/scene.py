"""One sample from one seed: the generator's one public function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.console import InputError
from data.shards import Sample
from generator.canvas.annotation import move_outlines
from generator.canvas.layout import OUTSIDE, Canvas, View, draw_displacement
from generator.config import LARGEST_SHARE, GeneratorConfig
from generator.look.appearance import Image, Look, draw_look, render
from generator.modalities import acquisition, ultrasound
from generator.modalities.ultrasound import Probe
from generator.objects import tabulate
from generator.plans import body, projection, tools
from generator.plans import ultrasound as ultrasound_plans

PLANS: dict[str, Callable[[Canvas], None]] = {
    "ellipses": tools.ellipses,
    "free": tools.free,
    "tiles": tools.tiles,
    "crop": tools.crop,
    "radiograph": projection.radiograph,
    "chest": projection.chest,
    "abdomen": body.abdomen,
    "thorax": body.thorax,
    "cardiac": body.cardiac,
    "pelvis": body.pelvis,
    "head": body.head,
    "spine": body.spine,
    "layers": ultrasound_plans.layers,
    "fetal": ultrasound_plans.fetal,
    "chambers": ultrasound_plans.chambers,
    "upper_abdomen": ultrasound_plans.upper_abdomen,
}

_PROBES = {
    "layers": ("linear",),
    "fetal": ("curved", "curved", "sector", "linear"),
    "chambers": ("sector",),
    "upper_abdomen": ("curved", "curved", "sector"),
}


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
        canvas, probe = lay_out(config, modality, plan, layout_rng)
        if not canvas.objects:
            continue
        look = draw_look(canvas, modality, config, look_rng)
        image, ideal = acquire(render(canvas, look), canvas, look, modality, probe, config, scan_rng)
        grey = display(image, draw_display(config, modality, scan_rng))
        if probe is not None and scan_rng.random() < config.acquisition.US.covered_share:
            cover(grey, scan_rng)
        if config.boundary.enabled and look_rng.random() < config.boundary.margin_share:
            move_outlines(canvas, look_rng.uniform(*config.boundary.margin) * config.size / 1000)
        label, objects = tabulate(canvas, grey, ideal, config.prompts, prompt_rng)
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
    fixed = modality == "US" and plan in _PROBES
    if plan in ("crop", "tiles"):
        scale = rng.uniform(0.9, 1.2)
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


def lay_out(
    config: GeneratorConfig, modality: str, plan: str, rng: np.random.Generator
) -> tuple[Canvas, Probe | None]:
    """Lay out a scene: its canvas, and the probe whose field of view cuts it (ultrasound)."""
    size, boundary = config.size, config.boundary
    canvas = Canvas(
        view=draw_view(config, modality, plan, rng),
        rng=rng,
        min_area=config.shapes.min_area,
        max_objects=config.shapes.max_objects,
        spacing=0 if boundary.enabled else max(2, round(size / 80)),
        gap_share=boundary.gap_share if boundary.enabled else 0.0,
    )
    probe = None
    if modality == "US":
        probe = ultrasound.draw_probe(rng, size, _PROBES.get(plan, ("linear", "curved", "sector")))
        canvas.region[~ultrasound.field_of_view(probe, size)] = OUTSIDE
    elif modality == "CT" and rng.random() < config.acquisition.CT.circle_share:
        y, x = np.ogrid[0:size, 0:size]
        middle = (size - 1) / 2
        canvas.region[(x - middle) ** 2 + (y - middle) ** 2 > (size / 2) ** 2] = OUTSIDE
    visible = np.count_nonzero(canvas.region != OUTSIDE)
    PLANS[plan](canvas)
    families = tools.ORGANS if config.shapes.anatomical else ("ellipse",)
    if boundary.enabled:
        tools.crowd(canvas, boundary.touching_share, families)
    if config.shapes.pieces_share:
        tools.divide(canvas, config.shapes.pieces_share, families)
    if config.shapes.anatomical:
        tools.variegate(canvas, config.shapes.two_tissue_share)
    for k, region in enumerate(canvas.regions):  # what fills the frame has no outline to find
        if region.is_object and np.count_nonzero(region.mask) > LARGEST_SHARE * visible:
            canvas.regions[k] = replace(region, is_object=False)
            canvas.objects -= 1
    return canvas, probe


def acquire(
    clean: Image,
    canvas: Canvas,
    look: Look,
    modality: str,
    probe: Probe | None,
    config: GeneratorConfig,
    rng: np.random.Generator,
) -> tuple[Image, Image]:
    """The scanner's image of a clean one, and the same without noise, float32 (H, W)."""
    if probe is not None:
        settings = ultrasound.draw_scan(rng, probe, config.acquisition.US)
        return ultrasound.acquire(clean, look.absorption[canvas.region], settings)
    scan = acquisition.draw_scan(rng, modality, config.size, config.acquisition)
    image, ideal = acquisition.acquire(clean, scan, look.palette.window)
    if modality == "CT":
        image[canvas.region == OUTSIDE] = 0
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
