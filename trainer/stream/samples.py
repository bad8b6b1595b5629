"""One sample as a batch holds it: augmented, its objects chosen, its prompts moved with it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from synthfm.data.distance import around, extents, look_up
from synthfm.data.prompts import Prompt, centre_point, frame_box, loose_box, person_point, random_point
from synthfm.data.shards import Objects, Sample, StoredStroke, members_of
from synthfm.data.strokes import STROKE_POINTS, draw_prompt, many_clicks, prompt_of
from synthfm.trainer.config import Prompting, Stream
from synthfm.trainer.model.thin import THIN, slenderness
from synthfm.trainer.stream import augment
from synthfm.trainer.stream.batch import IGNORED
from synthfm.trainer.stream.following import SlicesAfter

FROM_MASKS = ("point_person", "point_random", "scribble", "points_many")
"""Kinds of prompts that are drawn from the masks; strokes only where the shard has none."""

WIDE = 0.8
"""How far a side of a wide box may lie beyond the object, over its extent."""

LOOKED_AT = 12
"""How many of an image's objects are looked at for thin ones."""

SPREAD = 0.4
"""Least share of the image's area that the tight box of an object covers which is spread over the image."""

SPARSE = 0.35
"""Most of its tight box that a thin object fills which is spread over the image."""


def prepare(
    sample: Sample,
    stream: Stream,
    change: augment.Augment,
    rng: np.random.Generator,
    *,
    repeat: bool = True,
    run: SlicesAfter | None = None,
    prompting: Prompting | None = None,
) -> dict | None:
    """Augment a sample and choose its objects; None where it has none to ask for.

    Where it has too few they come again, so that samples make a batch, but not without `repeat`. The slices
    of a `run` that follow it are augmented as it is, and its objects are found in them by their tracks.
    What is drawn from the masks, single clicks, strokes that the shard lacks and many clicks, is drawn where
    `prompting` asks for any of it; without `prompting` single clicks alone are.

    Returns
    -------
    dict
        The fields of :class:`synthfm.trainer.stream.batch.Batch` for one image, as arrays.
    """
    drawn = augment.draw(change, sample.image.shape, rng)
    same = None if run is None else copy.deepcopy(rng)  # noise and fields as the sample's own
    image = augment.apply_image(sample.image, drawn, rng)
    label = augment.apply_label(sample.label, drawn)
    table, (extent, pixels) = members_of(sample.objects), extents(label)
    area = table @ pixels
    if stream.thin and rng.random() < stream.thin:
        area = _of_thin(label, table, area, stream, rng)
    rows = choose_objects(area, label.size, stream, rng, repeat=repeat)
    if rows is None:
        return None
    members, clear = table[rows], clear_parts(sample.objects, table, pixels, rows, stream.clear_clicks)
    points, point_labels, boxes, loose = prompts_after(
        label, extent, sample.objects, rows, members, clear, drawn, rng, wide=stream.wide_boxes
    )
    strokes = sample.objects.strokes[rows]
    from_masks = _from_masks(
        label[: drawn.size[0], : drawn.size[1]], extent, members, clear, strokes, drawn, prompting, rng
    )
    following = None if run is None or same is None else _following(sample, run, rows, drawn, same)
    return {
        "images": image[None],
        "sizes": np.array(drawn.size),
        "labels": label,
        "members": members,
        "sets": sample.objects.is_set[rows],
        "boxes": boxes,
        "boxes_loose": loose,
        "boxes_frame": frame_boxes(boxes, loose, members @ pixels, drawn.size),
        "points": points,
        "point_labels": point_labels,
        "index": sample.index,
        "modality": sample.modality,
        **from_masks,
        "following": following,
    }


def _following(
    sample: Sample, run: SlicesAfter, rows: NDArray[np.int64], drawn: augment.Draw, rng: np.random.Generator
) -> dict:
    """The fields of :class:`synthfm.trainer.stream.batch.Following` for one image, as arrays."""
    members = np.zeros((len(run.samples), len(rows), 256), bool)
    for number, other in enumerate(run.samples):
        table = members_of(other.objects)
        if other.index == sample.index:
            members[number] = table[rows]
            continue
        places = {track: place for place, track in enumerate(other.objects.track.tolist())}
        for k, track in enumerate(sample.objects.track[rows].tolist()):
            if track in places:
                members[number, k] = table[places[track]]
    magnified = abs(np.linalg.det(drawn.matrix)) ** -0.5
    return {
        "images": np.stack(
            [augment.apply_image(other.image, drawn, copy.deepcopy(rng)) for other in run.samples]
        ),
        "labels": np.stack([augment.apply_label(other.label, drawn) for other in run.samples]),
        "members": members,
        "apart": np.array(run.apart, np.float32) * np.float32(magnified),
    }


def _from_masks(
    label: NDArray[np.uint8],
    extent: NDArray[np.int32],
    members: NDArray[np.bool_],
    clear: NDArray[np.bool_],
    strokes: NDArray[np.object_],
    drawn: augment.Draw,
    prompting: Prompting | None,
    rng: np.random.Generator,
) -> dict[str, NDArray]:
    """Single clicks, strokes of each object as clicks, and many clicks at once, if any of them is asked for.

    `strokes` are the stored ones, as the shard has them.

    Of the latter, float32 (K, M, 2) and int64 (K, M), filled up with points to be ignored (:data:`IGNORED`).
    """
    found: dict[str, NDArray] = {}
    if prompting is not None and not any(getattr(prompting.mix, kind) for kind in FROM_MASKS):
        return found
    found["clicks"] = drawn_clicks([mask_within(label, extent, numbers) for numbers in clear], rng)
    if prompting is None or not (prompting.mix.scribble or prompting.mix.points_many):
        return found
    masks = [mask_of(label, row) for row in members]
    if prompting.mix.scribble:
        most = prompting.strokes_max
        scribbles = [
            _scribble(mask, stored, drawn, most, rng) for mask, stored in zip(masks, strokes, strict=True)
        ]
        found |= _filled("strokes", scribbles, 2 * most * STROKE_POINTS)
    if prompting.mix.points_many:
        clicks = [_clicks(mask, prompting.many_max, rng) for mask in masks]
        found |= _filled("many", clicks, prompting.many_max)
    return found


def _scribble(
    mask: NDArray[np.bool_],
    stored: Sequence[StoredStroke],
    drawn: augment.Draw,
    most: int,
    rng: np.random.Generator,
) -> Prompt:
    """Up to so many strokes inside, and three times in four as many outside.

    They are some of the stored ones, fewer where there are fewer; drawn from the mask, where of those inside
    nothing is left.
    """
    inside = int(rng.integers(1, most + 1))
    outside = int(rng.integers(1, most + 1)) if rng.random() < 0.75 else 0
    kept_inside, kept_outside = moved_strokes(stored, mask, drawn)
    if not kept_inside:
        return draw_prompt(mask, inside, outside, rng)
    on, off = (
        [kept[k] for k in rng.permutation(len(kept))[:count]]
        for kept, count in ((kept_inside, inside), (kept_outside, outside))
    )
    return prompt_of(on, off, mask.shape)


def moved_strokes(
    stored: Sequence[StoredStroke], mask: NDArray[np.bool_], drawn: augment.Draw
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Stored strokes inside and outside where they come to lie, of which pixels are left, int64 (n, 2).

    As of clicks, those that leave the image or their side of the moved `mask`'s edge are dropped.
    """
    height, width = mask.shape
    kept: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for stroke in stored:
        pixels = np.round(augment.apply_points(stroke.pixels, drawn)).astype(np.int64)
        pixels = pixels[((pixels >= 0) & (pixels < [width, height])).all(1)]
        pixels = pixels[mask[pixels[:, 1], pixels[:, 0]] == stroke.inside]
        if len(pixels):
            kept[not stroke.inside].append(pixels)
    return kept


def _clicks(mask: NDArray[np.bool_], most: int, rng: np.random.Generator) -> Prompt:
    """Two clicks up to so many, fewer more often; from all of them inside down to a fifth."""
    count = int(np.exp(rng.uniform(np.log(2), np.log(most + 1))))
    return many_clicks(mask, count, float(rng.uniform(0.2, 1.0)), rng)


def _filled(name: str, prompts: list[Prompt], most: int) -> dict[str, NDArray]:
    points = np.zeros((len(prompts), most, 2), np.float32)
    labels = np.full((len(prompts), most), IGNORED, np.int64)
    for row, prompt in enumerate(prompts):
        count = len(prompt.points)
        points[row, :count], labels[row, :count] = prompt.points, prompt.labels
    return {name: points, f"{name}_labels": labels}


def mask_of(label: NDArray[np.uint8], members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a label map, or a part of one, holds one of some numbers: ``members[label]``, bool (H, W)."""
    mask = np.empty(label.shape, bool)
    look_up(np.ascontiguousarray(label), members, mask)
    return mask


def mask_within(
    label: NDArray[np.uint8], extent: NDArray[np.int32], members: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The top left pixel (x, y) of a mask's tight box, and the mask in it; `extent` is the label map's."""
    x0, y0, x1, y1 = box = around(extent, members)
    return box[:2], mask_of(label[y0:y1, x0:x1], members)


def thin_and_spread(boxes: NDArray, area: NDArray, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which objects of an image of that height and width people would ask for by a box around all of it.

    Such as a tree of vessels: its tight box, of `boxes` (K, 4), covers :data:`SPREAD` of the image at least,
    and its `area`, (K,), is :data:`SPARSE` of that box at most. bool (K,).
    """
    of_boxes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return (of_boxes >= SPREAD * size[0] * size[1]) & (area <= SPARSE * of_boxes)


def frame_boxes(boxes: NDArray, loose: NDArray, area: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """The box of the whole image for objects that are :func:`thin_and_spread`, else the loose one, (K, 4)."""
    thin = thin_and_spread(boxes, area, size)
    return np.where(thin[:, None], frame_box(size), loose).astype(np.float32)


def choose_objects(
    area: NDArray[np.int64], size: int, stream: Stream, rng: np.random.Generator, *, repeat: bool = True
) -> NDArray[np.int64] | None:
    """Draw `objects_per_image` of the objects of these areas in an image of `size` pixels; None if none fits.

    With `largest_first` they come by area, else as drawn. One comes twice only where the image has too few,
    and with `repeat`.
    """
    fits = np.flatnonzero((area >= stream.min_area) & (area <= stream.max_share * size))
    if not len(fits):
        return None
    weights = area[fits] ** (-0.5 * stream.balance)
    # The largest keys log(u)/w are a draw without replacement by weight (Efraimidis & Spirakis, 2006).
    order = fits[np.argsort(np.log(rng.random(len(fits))) / weights)[::-1]]
    count = stream.objects_per_image
    rows = np.resize(order, count) if repeat else order[:count]
    if stream.largest_first:
        rows = rows[np.argsort(-area[rows], kind="stable")]
    return rows


def _of_thin(
    label: NDArray[np.uint8],
    table: NDArray[np.bool_],
    area: NDArray[np.int64],
    stream: Stream,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The areas, 0 but for thin objects; as they were, where :data:`LOOKED_AT` objects show no thin one."""
    some = rng.permutation(np.flatnonzero(area >= stream.min_area))[:LOOKED_AT]
    if not len(some):
        return area
    masks = torch.from_numpy(np.stack([mask_of(label, table[row]) for row in some]))
    thin = some[(slenderness(masks) <= THIN).numpy()]
    found = np.zeros_like(area)
    found[thin] = area[thin]
    return found if len(thin) else area


def clear_parts(
    objects: Objects,
    table: NDArray[np.bool_],
    pixels: NDArray[np.int64],
    rows: NDArray[np.int64],
    least: float,
) -> NDArray[np.bool_]:
    """What a click inside may fall on, (K, 256): of each object all but the small objects that lie in it.

    Small is less than `least` of its area. An object that shows nothing else keeps them, and so does a set,
    which is made of small ones. `table` is that of all objects' members, `pixels` how many each number has.
    """
    area, members = table @ pixels, table[rows]
    small = members[:, objects.label] & (area < least * area[rows, None]) & ~objects.is_set[rows, None]
    clear = members & ~(small @ table)
    return np.where((clear @ pixels > 0)[:, None], clear, members)


def drawn_clicks(
    clickable: list[tuple[NDArray[np.int32], NDArray[np.bool_]]], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Two single clicks on each mask (:func:`mask_within`): a person's, and on any pixel; (K, 2, 2)."""
    drawn = [
        [corner + person_point(mask, rng), corner + random_point(mask, rng)] for corner, mask in clickable
    ]
    return np.array(drawn, np.float32)


def prompts_after(
    label: NDArray[np.uint8],
    extent: NDArray[np.int32],
    objects: Objects,
    rows: NDArray[np.int64],
    members: NDArray[np.bool_],
    clear: NDArray[np.bool_],
    drawn: augment.Draw,
    rng: np.random.Generator,
    *,
    wide: float = 0.0,
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Clicks and boxes of the chosen objects after augmentation.

    Stored clicks move with the image; those that leave it, their side of the edge or, inside, what is `clear`
    (:func:`clear_parts`) are dropped. An object left without a first click gets the centre of what is clear.
    Boxes are taken from the new masks; a share `wide` of the loose ones reaches out by up to :data:`WIDE`.

    Returns
    -------
    points, point_labels, boxes, loose
        float32 (K, P, 2), int64 (K, P), float32 (K, 4) twice.
    """
    points = augment.apply_points(objects.points[rows], drawn)
    kinds = objects.point_labels[rows].astype(np.int64)
    cells = np.round(points).astype(int)
    height, width = drawn.size
    inside = ((cells >= 0) & (cells < [width, height])).all(-1)
    x, y = np.clip(cells, 0, [label.shape[1] - 1, label.shape[0] - 1]).transpose(2, 0, 1)
    each = np.arange(len(rows))[:, None]
    hit = np.where(kinds == 1, clear[each, label[y, x]], ~members[each, label[y, x]])
    kinds = np.where(inside & hit, kinds, -1)
    boxes = np.array([around(extent, numbers) for numbers in members], np.float32)
    loose = np.zeros((len(rows), 4), np.float32)
    for k in range(len(rows)):
        far = {"outward": WIDE} if wide and rng.random() < wide else {}
        loose[k] = loose_box(boxes[k], rng, drawn.size, **far)
        if kinds[k, 0] != 1:
            corner, mask = mask_within(label, extent, clear[k])
            points[k, 0], kinds[k, 0] = corner + centre_point(mask), 1
    return points, kinds, boxes, loose
