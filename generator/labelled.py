"""Samples of label maps that are given: an image is painted for one, or its own image is taken.

A label map is a scene that is drawn already: each of its labels is a region that is an object. From there on
nothing is special: look, scanner, display and the table of objects are those of every sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
import skimage
from numpy.typing import NDArray

from synthfm.data.config import Config
from synthfm.data.console import InputError
from synthfm.data.distance import bounds
from synthfm.data.prompts import Mask
from synthfm.data.shards import Sample
from synthfm.generator.canvas.layout import TISSUES, Canvas
from synthfm.generator.canvas.section import Region, Section
from synthfm.generator.canvas.view import View
from synthfm.generator.config import GeneratorConfig
from synthfm.generator.look.tissues import NAMES
from synthfm.generator.objects import edge_widths, measure, table_of
from synthfm.generator.scene import ATTEMPTS, draw_kind, photograph, streams_of

MOST = 200
"""Objects of one label map: the rest of a region map's 254 numbers is for what lies between them."""


class LabelsConfig(Config):
    """What was given, beside the label maps and images themselves.

    Attributes
    ----------
    sha256
        Of all files' own, in their order.
    images
        Whether each label map has an image of its own; else images are painted.
    modality
        Of those images.
    window
        Their values of black and white; None for those of 8 bits, and for the percentiles 0.5 and 99.5.
    instances
        What an object is: all pixels of a ``labels`` number, or each of its connected ``components``.
    parents
        Pairs of numbers: the first is part of the second, as a lesion of its organ.
    tissues
        Numbers and what they are painted as; the others are any tissue.
    """

    sha256: str
    images: bool = False
    modality: str = "generic"
    window: tuple[float, float] | None = None
    instances: Literal["labels", "components"] = "labels"
    parents: tuple[tuple[int, int], ...] = ()
    tissues: tuple[tuple[int, str], ...] = ()


class LabelledConfig(GeneratorConfig):
    """The config of a dataset from label maps: that of any other, and what was given."""

    labels: LabelsConfig


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map as a frame shows it.

    Attributes
    ----------
    numbers
        uint8 (size, size): each object's number from 1, parents before their parts; 0 where there is none.
    values, parents
        Of each object the number that it had in its file, and the number of the object that it is part of, or
        0.
    seen
        bool (size, size), the pixels that the file has: its longer side fills the frame, the rest is right of
        it or below.
    """

    numbers: NDArray[np.uint8]
    values: tuple[int, ...]
    parents: tuple[int, ...]
    seen: Mask


def fitted(label: NDArray[np.integer], size: int, given: LabelsConfig) -> LabelMap:
    """A label map (H, W) brought to a frame, its longer side to `size`, as SAM brings images.

    A pixel is of the label that takes the largest share of it. What is negative is background.

    Raises
    ------
    InputError
        If it has more than :data:`MOST` objects.
    """
    split, values = _objects(np.maximum(label, 0), given.instances)
    if len(values) > MOST:
        raise InputError(f"{len(values)} objects in one image; at most {MOST}")
    order, parents = _order(values, dict(given.parents))
    place = np.zeros(len(values) + 1, np.uint8)
    place[1 + np.array(order, int)] = np.arange(1, len(order) + 1)
    numbered = place[split]
    height, width = _size_in(numbered.shape, size)
    numbers, seen = np.zeros((size, size), np.uint8), np.zeros((size, size), bool)
    numbers[:height, :width] = _resized(numbered, (height, width), len(values))
    seen[:height, :width] = True
    return LabelMap(numbers, tuple(values[k] for k in order), parents, seen)


def fitted_image(image: NDArray, size: int) -> NDArray[np.uint8]:
    """An image, uint8 (H, W), brought to a frame as :func:`fitted` brings a label map; black beyond it."""
    frame = np.zeros((size, size), np.uint8)
    height, width = _size_in(image.shape, size)
    if (height, width) == image.shape:
        frame[:height, :width] = image
    else:
        small = skimage.transform.resize(
            image.astype(np.float32), (height, width), order=1, mode="edge", anti_aliasing=height < len(image)
        )
        frame[:height, :width] = np.clip(np.rint(small), 0, 255)
    return frame


def _size_in(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    longest = max(shape)
    return max(1, round(shape[0] * size / longest)), max(1, round(shape[1] * size / longest))


def _objects(label: NDArray[np.integer], instances: str) -> tuple[NDArray[np.int64], list[int]]:
    """The objects of a label map numbered from 1, and the label of each, in rising order."""
    known = [int(value) for value in np.unique(label) if value]
    if instances == "labels":
        return np.searchsorted(np.array([0, *known]), label), known
    split, values = np.zeros(label.shape, np.int64), list[int]()
    for value in known:
        parts, count = scipy.ndimage.label(label == value, np.ones((3, 3)))
        split[parts > 0] = parts[parts > 0] + len(values)
        values += [value] * count
    return split, values


def _order(values: list[int], parents: Mapping[int, int]) -> tuple[list[int], tuple[int, ...]]:
    """Positions of the objects with parents before their parts, and each one's parent's place, from 1, or 0.

    Where a parent is not in the image, its own parent is.
    """
    shown = set(values)

    def above(value: int) -> list[int]:
        found: list[int] = []
        while value in parents:
            value = parents[value]
            found += [value] if value in shown else []
        return found

    order = sorted(range(len(values)), key=lambda k: (len(above(values[k])), k))
    place = {values[k]: number for number, k in enumerate(order, start=1)}
    return order, tuple(place[above(values[k])[0]] if above(values[k]) else 0 for k in order)


def _resized(numbers: NDArray[np.uint8], shape: tuple[int, int], count: int) -> NDArray[np.uint8]:
    """The number that takes the largest share of each pixel of the new size."""
    if shape == numbers.shape:
        return numbers
    most, best = np.full(shape, -1.0, np.float32), np.zeros(shape, np.uint8)
    for number in range(count + 1):
        share = skimage.transform.resize(
            (numbers == number).astype(np.float32),
            shape,
            order=1,
            mode="edge",
            anti_aliasing=shape[0] < len(numbers),
        )
        best[share > most] = number
        most = np.maximum(most, share)
    return best


def section_of(shown: LabelMap, seen: Mask, tissues: Iterable[str], min_area: int) -> Section:
    """A label map as what a frame shows of a scene: objects of `min_area` pixels, the others are regions."""
    size = len(seen)
    view = View(size / 2, (0.0, 0.0), 0.0, 1, size, np.zeros((2, 33, 33), np.float32))
    section = Section(view, None if seen.all() else seen, min_area)
    section.region[seen] = shown.numbers[seen]
    members = np.eye(len(shown.values) + 1, dtype=bool)
    for number in range(len(shown.values), 0, -1):  # parts come after what they are part of
        members[shown.parents[number - 1]] |= members[number]
    for number, tissue in enumerate(tissues, start=1):
        mask = members[number][shown.numbers] & seen
        left, top, right, bottom = bounds(mask).tolist()
        if not right:
            continue
        cut = mask[top:bottom, left:right].astype(np.uint8)
        parent = shown.parents[number - 1]
        while parent and parent not in section.regions:
            parent = shown.parents[parent - 1]
        is_object = int(np.count_nonzero(cut)) >= min_area
        family = f"label {shown.values[number - 1]}"
        section.regions[number] = Region(number, parent, family, tissue, is_object, top, left, cut)
        section.objects += is_object
    section.finish()
    return section


def shows_objects(shown: LabelMap, min_area: int) -> bool:
    """Whether a sample can be made of a label map: an object is large enough, and does not fill it."""
    return section_of(shown, shown.seen, ["soft"] * len(shown.values), min_area).objects > 0


def take_sample(
    config: LabelledConfig, root_seed: int, index: int, shown: LabelMap, image: NDArray[np.uint8]
) -> Sample:
    """Sample `index` from a label map and its own image, uint8 (size, size): the prompts alone are drawn.

    Contrast and edge width are measured in the image as it is, noise included.
    """
    seed, (_, _, _, prompt_rng) = streams_of(root_seed, index)
    section = section_of(shown, shown.seen, ["soft"] * len(shown.values), config.shapes.min_area)
    found = measure(section, image)
    widths = edge_widths((section.regions[number] for number in found), image.astype(np.float32))
    label, objects = table_of(section, found, widths, config.prompts, prompt_rng)
    return Sample(image, label, index, seed, config.labels.modality, objects)


def paint_sample(
    config: LabelledConfig,
    root_seed: int,
    index: int,
    shown: LabelMap,
    between: Callable[[], None] | None = None,
) -> Sample:
    """Sample `index`, an image painted for a label map.

    Modality, tissues, what lies between the objects, look, scanner and display are drawn from the config, the
    root seed and the index; the label map stays, but for what a field of view leaves out and objects that
    nobody could see.

    Parameters
    ----------
    between
        Called before another image is drawn: an exception of its own ends the search.

    Raises
    ------
    InputError
        If none of :data:`synthfm.generator.scene.ATTEMPTS` images shows an object.
    """
    tissues = dict(config.labels.tissues)
    for attempt in range(ATTEMPTS):
        if attempt and between is not None:
            between()
        seed, (layout_rng, *others) = streams_of(root_seed, index, attempt)
        modality, plan = draw_kind(config, layout_rng)
        field = modality.draw_field(layout_rng, config.size, plan, config.settings(modality.name))
        seen = shown.seen if field is None else shown.seen & field.seen(config.size)
        drawn = {value: str(layout_rng.choice(TISSUES)) for value in dict.fromkeys(shown.values)} | tissues
        section = section_of(shown, seen, (drawn[value] for value in shown.values), config.shapes.min_area)
        if not section.objects:
            continue
        canvas = Canvas(section, layout_rng, count=len(shown.values))
        if canvas.chance(0.8) and (section.region == 0).any():  # what lies between them is of several tissues
            canvas.partition(0, int(layout_rng.integers(2, 12)), TISSUES, 0.0, layout_rng.uniform(0.05, 0.15))
        canvas.add_tissues(config.shapes.two_tissue_share)
        grey, label, objects = photograph(section, field, modality, config, *others)
        if len(objects):
            grey[~shown.seen] = 0  # whatever the display makes of it
            return Sample(grey, label, index, seed, modality.name, objects)
    raise InputError(f"none of {ATTEMPTS} images painted for it shows an object")


def check_given(given: LabelsConfig) -> None:
    """Raise :class:`InputError` where parents form a ring, or a tissue is none."""
    parents = dict(given.parents)
    for child in parents:
        seen, value = {child}, child
        while value in parents:
            value = parents[value]
            if value in seen:
                raise InputError(f"--parent {child}={parents[child]}: label {child} would be part of itself")
            seen.add(value)
    for value, tissue in given.tissues:
        if tissue not in NAMES:
            raise InputError(f"--tissue {value}={tissue}: no such tissue; one of {', '.join(NAMES)}")
