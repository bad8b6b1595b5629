"""One sample from one seed: the generator's one public function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data import prompts
from data.shards import Objects, Sample
from generator import anatomy
from generator.acquisition import acquire
from generator.appearance import render
from generator.config import GeneratorConfig
from generator.kernels import edge_width
from generator.layout import OUTSIDE, Canvas, Region, View, draw_displacement


def make_sample(config: GeneratorConfig, root_seed: int, index: int) -> Sample:
    """Make sample `index` of the dataset with the given root seed.

    The sample depends on its arguments alone. It always has at least one object, and passes
    :func:`data.folder.check_sample`.
    """
    seed = int(np.random.SeedSequence(root_seed, spawn_key=(index,)).generate_state(1, np.uint64)[0])
    layout_rng, look_rng, scan_rng, prompt_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)
    )
    mix = config.modality.model_dump()
    weights = np.array(list(mix.values()))
    modality = list(mix)[int(layout_rng.choice(len(mix), p=weights / weights.sum()))]
    canvas = _layout(config, layout_rng)
    clean = render(canvas, look_rng)
    image = acquire(clean, modality, scan_rng)
    low, high = np.quantile(image[::3, ::3], [0.004, 0.996])
    shown = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255
    grey = (shown + 0.5).astype(np.uint8)
    label, objects = tabulate(canvas, grey, clean, config, prompt_rng)
    return Sample(image=grey, label=label, index=index, seed=seed, modality=modality, objects=objects)


def _layout(config: GeneratorConfig, rng: np.random.Generator) -> Canvas:
    while True:
        size = config.size
        view = View(
            scale=size / 2 * rng.uniform(0.6, 1.3),
            focus=(rng.normal(0, 0.15), rng.normal(0, 0.15)),
            angle=rng.normal(0, 0.2),
            mirror=int(rng.choice([-1, 1])),
            size=size,
            displacement=draw_displacement(rng, size, rng.uniform(*config.shapes.deformation)),
        )
        canvas = Canvas(
            view=view,
            min_area=config.shapes.min_area,
            max_objects=config.shapes.max_objects,
            spacing=0 if config.boundary.enabled else 3,
        )
        plan = "ellipses"
        if config.shapes.anatomical:
            plan = ("free", "abdomen")[int(rng.integers(2))]
        anatomy.PLANS[plan](canvas, rng)
        if canvas.objects:
            return canvas


def tabulate(
    canvas: Canvas,
    image: NDArray[np.uint8],
    clean: NDArray[np.float32],
    config: GeneratorConfig,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Objects]:
    """The label map and the object table of a laid-out scene."""
    table = np.zeros(256, np.uint8)
    kept = [region for region in canvas.regions if region.is_object]
    for region in canvas.regions:
        table[region.number] = table[region.parent]
        if region.is_object:
            table[region.number] = kept.index(region) + 1
    table[OUTSIDE] = 0
    label = table[canvas.region]
    rows = [_row(region, image, clean, label, config, rng) for region in kept]
    parents = [table[region.parent] for region in kept]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    objects = Objects(
        label=np.arange(1, len(kept) + 1, dtype=np.uint8),
        parent=np.array(parents, np.uint8),
        family=np.array([region.family for region in kept]),
        **columns,
    )
    return label, objects


def _row(
    region: Region,
    image: NDArray[np.uint8],
    clean: NDArray[np.float32],
    label: NDArray[np.uint8],
    config: GeneratorConfig,
    rng: np.random.Generator,
) -> dict[str, NDArray]:
    mask = np.zeros(image.shape, bool)
    height, width = region.mask.shape
    mask[region.top : region.top + height, region.left : region.left + width] = region.mask != 0
    box = prompts.tight_box(mask)
    count = config.prompts.positives
    total = count + config.prompts.negatives
    points, kinds = np.zeros((total, 2), np.int16), np.full(total, -1, np.int8)
    points[:count], kinds[:count] = prompts.positive_points(mask, count, rng), 1
    away = prompts.negative_points(mask, config.prompts.negatives, rng, label)
    points[count : count + len(away)], kinds[count : count + len(away)] = away, 0
    return {
        "area": np.int32(np.count_nonzero(mask)),
        "box": box,
        "contrast": np.float32(contrast(image, mask, box)),
        "blur": np.float32(edge_width(region.mask, clean, region.top, region.left, 6, 0.01)),
        "points": points,
        "point_labels": kinds,
        "box_loose": prompts.loose_box(box, rng, image.shape),
    }


def contrast(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], box: NDArray[np.int32], ring: int = 5
) -> float:
    """Contrast-to-noise ratio of an object against the ring of `ring` pixels around it."""
    from scipy import ndimage

    x0, y0 = np.maximum(box[:2] - ring, 0)
    x1, y1 = box[2:] + ring
    inside, grey = mask[y0:y1, x0:x1], image[y0:y1, x0:x1].astype(np.float32)
    around = ndimage.binary_dilation(inside, iterations=ring) & ~inside
    if not around.any():
        return 0.0
    a, b = grey[inside], grey[around]
    return float(abs(a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2 + 0.25))
