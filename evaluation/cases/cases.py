"""Datasets to cases: one image, or one volume, with the objects to be segmented in it."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from synthfm.data.console import InputError, printable
from synthfm.evaluation.cases.case import Case, Failure, Object, limit_objects, spread
from synthfm.evaluation.cases.descriptor import NothingFound
from synthfm.evaluation.cases.layout import Entry, entries, shards_of
from synthfm.evaluation.cases.masks import Structures, no_file, read_structures
from synthfm.evaluation.cases.schema import Descriptor
from synthfm.evaluation.cases.slicing import (
    CT_WINDOW,
    View,
    bad_slice,
    bit_mask,
    blank,
    choose,
    grey_levels,
    not_hounsfield,
    slice_areas,
    to_grey,
    view_of,
)
from synthfm.evaluation.cases.synthetic import shard_cases
from synthfm.evaluation.formats.readers import count_frames, read_volume
from synthfm.evaluation.formats.volume import Unreadable, Volume, check_finite, check_pixels, with_spacing

logger = logging.getLogger(__name__)


def iter_cases(
    descriptor: Descriptor, root: str | Path, *, limit: int | None = None, dims: int = 2
) -> Iterator[Case | Failure]:
    """All cases of a dataset, in a fixed order; no more than one volume is in memory.

    Parameters
    ----------
    descriptor
        The dataset.
    root
        The data root under which it lies (not used for a folder of shards that is given itself).
    limit
        At most so many cases, spread evenly over the volumes and over the slices of each.
    dims
        2 cuts volumes into slices; 3 makes a case of each object in a volume, whole, and single images are
        failures.

    Yields
    ------
    Case or Failure
        A failure costs what its file holds; the rest goes on.

    Raises
    ------
    NothingFound
        If nothing of the dataset is under the root.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give a number above 0")
    folder = shards_of(descriptor, root)
    if folder is not None:
        if dims == 3:
            raise InputError(
                f"{descriptor.name}: shards are scored image by image, slices of volumes too; with dims 3 "
                "give a dataset of volumes in files of their own"
            )
        yield from shard_cases(descriptor, folder, limit)
        return
    found = list(entries(descriptor, Path(root)))
    if not found:
        raise NothingFound(descriptor, root)
    found, shares = split_limit(found, limit)
    spare = 0
    for entry, share in zip(found, shares, strict=True):
        count = 0
        try:
            for case in _entry_cases(descriptor, entry, None if share is None else share + spare, dims):
                count += isinstance(case, Case)
                yield case
        except InputError:
            raise
        except Exception as error:  # what no reader foresaw costs its volume, not the run
            logger.debug("%s: %s", entry.image, error, exc_info=True)
            yield _failure(descriptor, entry, entry.image, f"{type(error).__name__}: {one_line(error)}")
        spare = 0 if share is None else max(0, share + spare - count)  # the next volume makes up for it


def split_limit(found: list, limit: int | None) -> tuple[list, list[int | None]]:
    """Which of the entries to open and how many cases to take of each, None for all."""
    if limit is None:
        return found, [None] * len(found)
    if len(found) > limit:
        return [found[k] for k in spread(len(found), limit)], [1] * limit
    base, extra = divmod(limit, len(found))
    more = set(spread(len(found), extra))
    return found, [base + (k in more) for k in range(len(found))]


def _entry_cases(
    descriptor: Descriptor, entry: Entry, share: int | None, dims: int
) -> Iterator[Case | Failure]:
    """Cases of one image, volume or 4-D file."""
    if entry.frame != "each":
        yield from _volume_cases(descriptor, entry, share, dims)
        return
    try:
        frames = count_frames(
            entry.image, key=descriptor.image.key, axes=descriptor.image.axes, root=entry.root
        )
    except Unreadable as error:
        yield _failure(descriptor, entry, entry.image, str(error))
        return
    chosen, shares = split_limit(list(range(frames)), share)
    for frame, part in zip(chosen, shares, strict=True):
        of_frame = dataclasses.replace(
            entry, id=f"{entry.id}/frame{frame + descriptor.image.first_frame:02d}", frame=frame
        )
        yield from _volume_cases(descriptor, of_frame, part, dims)


def one_line(error: Exception) -> str:
    """An exception's message without line breaks, at most 200 characters."""
    return " ".join(str(error).split())[:200]


def _failure(descriptor: Descriptor, entry: Entry, file: Path, reason: str) -> Failure:
    return Failure(descriptor.name, entry.id, "", printable(str(file)), printable(reason))


def _volume_cases(
    descriptor: Descriptor, entry: Entry, share: int | None, dims: int
) -> Iterator[Case | Failure]:
    options = descriptor.image
    if not entry.masks:
        for kind in entry.wanted:
            reason = no_file(kind, entry)
            if reason is not None:
                yield _failure(descriptor, entry, entry.image, reason)
        return
    try:
        frame = entry.frame if isinstance(entry.frame, int) else None
        volume = read_volume(entry.image, key=options.key, axes=options.axes, frame=frame, root=entry.root)
        _check_image(volume, dims if dims == 3 else options.dimensions)
        if dims == 3:  # of slices those that hold some are left out
            check_finite(volume)
    except Unreadable as error:
        yield _failure(descriptor, entry, entry.image, str(error))
        return
    structures = read_structures(entry, volume, strict=descriptor.geometry == "strict")
    for file, reason in structures.problems:
        yield _failure(descriptor, entry, file, reason)
    if not structures.bits():
        return
    if entry.spacing is not None and np.isnan(entry.spacing).any():
        yield _failure(descriptor, entry, entry.image, "its row in the table of spacings holds no mm above 0")
        return
    volume = with_spacing(volume, descriptor.spacing or entry.spacing)
    try:
        view = view_of(volume, descriptor.orientation, descriptor.slices.plane)
    except Unreadable as error:
        yield _failure(descriptor, entry, entry.image, str(error))
        return
    levels = grey_levels(volume, descriptor.modality, descriptor.intensity)
    if levels == CT_WINDOW and not_hounsfield(volume):
        _warn_of_window(descriptor.name)
    if dims == 3:
        yield from _whole_cases(descriptor, entry, view, structures, levels, share)
    else:
        yield from _slice_cases(descriptor, entry, view, structures, levels, share)


def _whole_cases(
    descriptor: Descriptor,
    entry: Entry,
    view: View,
    structures: Structures,
    levels: tuple[float, float],
    share: int | None,
) -> Iterator[Case | Failure]:
    """A case of each object in a volume that is large enough in one slice at least, one at a time."""
    image = view.slices(view.volume.array)
    layers = [view.slices(layer) for layer in structures.layers()]
    shown = np.empty(image.shape, np.uint8)
    for k in range(len(image)):  # not at once: the values in between take four bytes a voxel
        shown[k] = to_grey(image[k], levels)
    problem = blank(shown, view.volume.array, levels)
    if problem is not None:
        yield _failure(descriptor, entry, entry.image, problem)
        return
    areas = slice_areas(layers, [bit for bit, _, _ in structures.bits()])
    objects = [
        (bit, structure, instance, int(areas[:, row].sum()))
        for row, (bit, structure, instance) in enumerate(structures.bits())
        if areas[:, row].max() >= descriptor.slices.min_area
    ]
    if share is not None:
        objects = [objects[k] for k in spread(len(objects), share)]
    for bit, structure, instance, voxels in objects:
        item = Object(structure, bit_mask(layers, bit), instance, voxels)
        yield Case(
            dataset=descriptor.name,
            modality=descriptor.modality,
            case=f"{entry.id}/{item.key}",
            volume=entry.id,
            patient=entry.patient,
            slice=0,
            image=shown,
            spacing=view.spacing_3d,
            objects=(item,),
        )


def _slice_cases(
    descriptor: Descriptor,
    entry: Entry,
    view: View,
    structures: Structures,
    levels: tuple[float, float],
    share: int | None,
) -> Iterator[Case | Failure]:
    """Cut a volume into slices and keep those, and the objects in them, that the descriptor asks for."""
    volume = view.volume
    image = view.slices(volume.array)
    layers = [view.slices(layer) for layer in structures.layers()]
    kept = structures.bits()
    areas = slice_areas(layers, [bit for bit, _, _ in kept])
    chosen = choose(areas, descriptor.slices, whole=volume.flat)
    positions = np.flatnonzero(chosen.any(1))
    if share is not None and len(positions):
        positions = positions[spread(len(positions), share)]
    for k in map(int, positions):
        name = entry.id if volume.flat else f"{entry.id}/{view.letter}{k:03d}"
        problem = bad_slice(image[k])
        if problem is None:
            shown = to_grey(image[k], levels)
            problem = blank(shown, image[k], levels)
        if problem is not None:
            yield dataclasses.replace(_failure(descriptor, entry, entry.image, problem), case=name)
            continue
        objects = [
            Object(
                structure,
                bit_mask([layer[k] for layer in layers], bit),
                instance,
                None if volume.flat else int(areas[:, row].sum()),
                tuple(
                    np.stack([view.slices(part[None])[k] for part in drawn])
                    for drawn in structures.strokes.get(structure, ())
                ),
            )
            for row, (bit, structure, instance) in enumerate(kept)
            if chosen[k, row]
        ]
        yield Case(
            dataset=descriptor.name,
            modality=descriptor.modality,
            case=name,
            volume=entry.id,
            patient=entry.patient,
            slice=k,
            image=shown,
            spacing=view.spacing,
            objects=limit_objects(objects, descriptor.slices.max_objects, name),
        )


@functools.cache  # once a dataset
def _warn_of_window(dataset: str) -> None:
    low, high = CT_WINDOW
    logger.warning(
        "%s: little of a volume shows between %g and %g; are its values Hounsfield units? If not, set "
        "intensity in the descriptor",
        dataset,
        low,
        high,
    )


def _check_image(volume: Volume, dimensions: int | None) -> None:
    size = " x ".join(map(str, volume.array.shape))
    if dimensions == 2 and not volume.flat:
        raise Unreadable(f"a 3-D volume ({size}) where a 2-D image is expected")
    if dimensions == 3 and volume.flat:
        raise Unreadable("a 2-D image where a 3-D volume is expected")
    check_pixels(volume)
    finite = np.isfinite(volume.array) if volume.array.dtype.kind == "f" else None
    values = volume.array if finite is None or finite.all() else volume.array[finite]
    if values.min() == values.max():
        raise Unreadable(f"the image is constant (every value is {values.flat[0]:g})")
