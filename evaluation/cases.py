"""Datasets to 2-D cases: one image with the objects to be segmented in it."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.console import InputError
from evaluation.descriptor import Descriptor, Slices
from evaluation.layout import Entry, entries
from evaluation.masks import Structures, read_structures
from evaluation.readers import Unreadable, Volume, count_frames, radiological, read_volume, with_spacing

PLANES = ("axial", "coronal", "sagittal")
"""The planes across the axes (S, P, L) of a volume in radiological orientation."""


@dataclass(frozen=True)
class Object:
    """One mask to be segmented in a case.

    Attributes
    ----------
    structure
        Its name, e.g. ``liver``.
    mask
        bool (H, W), not empty.
    instance
        Number among the objects of the same structure in the case, 0 where there is one.
    volume_voxels
        Reference voxels of the structure in the whole volume, None for a 2-D image. The Dice of the stacked
        slices is taken over the slices that became cases; the sum of the masks' areas over this number says
        how much of the reference they cover.
    """

    structure: str
    mask: NDArray[np.bool_]
    instance: int = 0
    volume_voxels: int | None = None


@dataclass(frozen=True)
class Case:
    """One image with the objects to score.

    Attributes
    ----------
    dataset, modality
        Name of the descriptor; CT, MR, US, XR or generic.
    case
        Readable and unique in the dataset: the volume, ``/``, a letter for the plane's normal (z axial,
        y coronal, x sagittal) and the slice; for a 2-D image its own name.
    volume
        The volume (or image) it was cut from.
    slice
        Position along the slice axis of the volume as shown, from 0.
    image
        uint8 (H, W), after windowing.
    spacing
        mm per pixel (row, column), None where unknown.
    objects
        At least one.
    """

    dataset: str
    modality: str
    case: str
    volume: str
    slice: int
    image: NDArray[np.uint8]
    spacing: tuple[float, float] | None
    objects: tuple[Object, ...]


@dataclass(frozen=True)
class CaseFailure:
    """A file that could not become a case, and why."""

    dataset: str
    case: str
    file: str
    reason: str


def iter_cases(
    descriptor: Descriptor, root: str | Path, *, limit: int | None = None
) -> Iterator[Case | CaseFailure]:
    """All cases of a dataset, in a fixed order; no more than one volume is in memory.

    Parameters
    ----------
    descriptor
        The dataset.
    root
        The data root under which it lies (not used for shards).
    limit
        At most so many cases, spread evenly over the volumes and over the slices of each.

    Yields
    ------
    Case or CaseFailure
        A failure costs what its file holds; the rest goes on.

    Raises
    ------
    InputError
        If nothing of the dataset is under the root.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give a number above 0")
    if descriptor.shards is not None:
        from evaluation.synthetic import shard_cases

        yield from shard_cases(descriptor, limit)
        return
    found = list(entries(descriptor, Path(root)))
    if not found:
        raise InputError(f"dataset {descriptor.name}: nothing found under {root}; {_expected(descriptor)}")
    found, shares = share_out(found, limit)
    spare = 0
    for entry, share in zip(found, shares, strict=True):
        count = 0
        for case in _entry_cases(descriptor, entry, None if share is None else share + spare):
            count += isinstance(case, Case)
            yield case
        spare = 0 if share is None else max(0, share + spare - count)  # the next volume makes up for it


def _expected(descriptor: Descriptor) -> str:
    folder = descriptor.sources[0].folder
    place = folder if isinstance(folder, str) else folder[0]
    return f"expected images {descriptor.sources[0].image!r} in the folder {place!r}"


def share_out(found: list, limit: int | None) -> tuple[list, list[int | None]]:
    """Which of the entries to open and how many cases to take of each, None for all."""
    if limit is None:
        return found, [None] * len(found)
    if len(found) > limit:
        return [found[k] for k in spread(len(found), limit)], [1] * limit
    base, extra = divmod(limit, len(found))
    more = set(spread(len(found), extra))
    return found, [base + (k in more) for k in range(len(found))]


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` indices spread evenly over range(count), all of them if there are fewer.

    >>> spread(10, 2)
    [2, 7]
    """
    wanted = min(count, wanted)
    return [(2 * k + 1) * count // (2 * wanted) for k in range(wanted)]


def _entry_cases(descriptor: Descriptor, entry: Entry, share: int | None) -> Iterator[Case | CaseFailure]:
    """Cases of one image, volume or 4-D file."""
    if entry.frame != "each":
        yield from _volume_cases(descriptor, entry, share)
        return
    try:
        frames = count_frames(entry.image)
    except Unreadable as error:
        yield _failure(descriptor, entry, entry.image, str(error))
        return
    chosen, shares = share_out(list(range(frames)), share)
    for frame, part in zip(chosen, shares, strict=True):
        of_frame = dataclasses.replace(
            entry, id=f"{entry.id}/frame{frame + descriptor.image.first_frame:02d}", frame=frame
        )
        yield from _volume_cases(descriptor, of_frame, part)


def _failure(descriptor: Descriptor, entry: Entry, file: Path, reason: str) -> CaseFailure:
    return CaseFailure(descriptor.name, entry.id, str(file), reason)


def _volume_cases(descriptor: Descriptor, entry: Entry, share: int | None) -> Iterator[Case | CaseFailure]:
    options = descriptor.image
    try:
        frame = entry.frame if isinstance(entry.frame, int) else None
        volume = read_volume(entry.image, key=options.key, axes=options.axes, frame=frame)
        _check_image(volume, options.dimensions)
    except Unreadable as error:
        yield _failure(descriptor, entry, entry.image, str(error))
        return
    structures = read_structures(entry, volume, strict=descriptor.geometry == "strict")
    for file, reason in structures.problems:
        yield _failure(descriptor, entry, file, reason)
    if not structures.bits():
        return
    spacing = descriptor.spacing if isinstance(descriptor.spacing, list) else entry.spacing
    yield from _slices(descriptor, entry, with_spacing(volume, spacing), structures, share)


def _check_image(volume: Volume, dimensions: int | None) -> None:
    size = " x ".join(map(str, volume.array.shape))
    if dimensions == 2 and not volume.flat:
        raise Unreadable(f"a 3-D volume ({size}) where a 2-D image is expected")
    if dimensions == 3 and volume.flat:
        raise Unreadable("a 2-D image where a 3-D volume is expected")
    if min(volume.array.shape[1:]) < 2:
        raise Unreadable(f"size {size} is no image")
    finite = np.isfinite(volume.array) if volume.array.dtype.kind == "f" else None
    if finite is not None and not finite.any():
        raise Unreadable("holds nothing but NaN or infinite values")
    values = volume.array if finite is None or finite.all() else volume.array[finite]
    if values.min() == values.max():
        raise Unreadable(f"the image is constant (every value is {values.flat[0]:g})")


def grey_levels(volume: Volume, descriptor: Descriptor) -> tuple[float, float]:
    """The values that become black (0) and white (255)."""
    intensity = descriptor.intensity
    given = intensity.window or intensity.percentiles or intensity.as_is
    if intensity.as_is or (
        not given and volume.array.dtype == np.uint8 and descriptor.modality in ("US", "XR", "generic")
    ):
        return 0.0, 255.0
    if intensity.window or (not given and descriptor.modality == "CT"):
        return intensity.window or (-160.0, 240.0)
    values = volume.array.ravel()
    values = values[:: max(1, values.size // 4_000_000)]  # a percentile needs no more
    values = values[np.isfinite(values) & (values != 0)]
    low, high = np.percentile(values, intensity.percentiles or (0.5, 99.5)) if values.size else (0.0, 0.0)
    if high <= low:
        low, high = float(np.nanmin(volume.array)), float(np.nanmax(volume.array))
    return float(low), float(high)


def _slices(
    descriptor: Descriptor, entry: Entry, volume: Volume, structures: Structures, share: int | None
) -> Iterator[Case | CaseFailure]:
    """Cut a volume: choose the plane, the slices and the objects."""
    turn = descriptor.orientation == "radiological" and not volume.flat
    axis, order = _slice_axis(volume, descriptor.slices.plane, turn)
    flip = turn and volume.direction is not None and axis > 0  # coronal and sagittal: superior on top

    def cut(array: NDArray) -> NDArray:
        turned = radiological(volume, array)[0] if turn else array
        sliced = np.moveaxis(turned, axis, 0)
        return sliced[:, ::-1] if flip else sliced

    image, layers = cut(volume.array), [cut(layer) for layer in structures.layers()]
    spacing = None
    if volume.spacing is not None:
        kept = [k for k in range(3) if k != axis]
        spacing = (float(volume.spacing[order[kept[0]]]), float(volume.spacing[order[kept[1]]]))
    areas = np.array(
        [[np.count_nonzero(Structures.mask([part[k] for part in layers], bit)) for bit, _, _ in structures.bits()]
         for k in range(len(image))]
    )  # fmt: skip
    chosen = choose(areas, descriptor.slices, whole=volume.flat)
    levels = grey_levels(volume, descriptor)
    positions = np.flatnonzero(chosen.any(1))
    if share is not None:
        positions = positions[spread(len(positions), share)] if len(positions) else positions
    for k in map(int, positions):
        name = entry.id if volume.flat else f"{entry.id}/{'zyx'[axis]}{k:03d}"
        problem = _bad_slice(image[k])
        if problem:
            yield CaseFailure(descriptor.name, name, str(entry.image), problem)
            continue
        objects = [
            Object(structure, Structures.mask([part[k] for part in layers], bit), instance,
                   None if volume.flat else int(areas[:, column].sum()))
            for column, (bit, structure, instance) in enumerate(structures.bits()) if chosen[k, column]
        ]  # fmt: skip
        grey = to_grey(image[k], levels, inverted=volume.inverted)
        kept_objects = limit_objects(objects, descriptor.slices.max_objects, name)
        yield Case(
            descriptor.name,
            descriptor.modality,
            name,
            entry.id,
            0 if volume.flat else k,
            grey,
            spacing,
            kept_objects,
        )


def _slice_axis(volume: Volume, plane: str, turn: bool) -> tuple[int, tuple[int, int, int]]:
    """The axis to cut across, of the array as shown, and where its axes lie in the file."""
    order = radiological(volume, volume.array)[1] if turn else (0, 1, 2)
    if volume.flat:
        return 0, order
    if plane != "auto":
        return PLANES.index(plane), order
    if volume.spacing is None:
        return order.index(0), order
    spacing = np.array(volume.spacing)
    thickest = int(spacing.argmax()) if spacing.max() > 1.05 * spacing[0] else 0
    return order.index(thickest), order


def choose(areas: NDArray, policy: Slices, *, whole: bool = False) -> NDArray[np.bool_]:
    """Which objects in which slices become (part of) cases, bool (slices, objects), from their areas.

    `whole` marks a 2-D image, of which every object that is large enough counts.
    """
    enough = areas >= policy.min_area
    if whole or policy.policy == "every":
        return enough
    if policy.policy == "step":
        kept = np.zeros(len(areas), bool)
        kept[policy.step // 2 :: policy.step] = True
        return enough & kept[:, None]
    largest = np.zeros_like(enough)
    largest[areas.argmax(0), np.arange(areas.shape[1])] = True
    return enough & largest


def _bad_slice(values: NDArray) -> str | None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{np.count_nonzero(~np.isfinite(values))} voxels of the slice are NaN or infinite"
    if values.min() == values.max():
        return f"the slice is constant (every value is {values.flat[0]:g})"
    return None


def to_grey(values: NDArray, levels: tuple[float, float], *, inverted: bool = False) -> NDArray[np.uint8]:
    """Values to grey levels, uint8: `levels` become 0 and 255, what lies outside is cut off.

    >>> to_grey(np.array([-200.0, 40.0, 240.0]), (-160.0, 240.0)).tolist()
    [0, 128, 255]
    """
    low, high = levels
    if (low, high) == (0.0, 255.0) and values.dtype == np.uint8:
        grey = np.array(values, order="C")
    else:
        grey = np.rint(np.clip((values.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.uint8(255) - grey if inverted else grey


def limit_objects(objects: list[Object], most: int | None, name: str) -> tuple[Object, ...]:
    """At most `most` objects, drawn by a generator seeded with the case's name; their order is kept."""
    if most is None or len(objects) <= most:
        return tuple(objects)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return tuple(objects[k] for k in sorted(rng.choice(len(objects), most, replace=False)))
