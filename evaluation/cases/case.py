"""A case: one image or volume with the objects to score in it; and what could not become one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Object:
    """One mask to be segmented in a case.

    Attributes
    ----------
    structure
        Its name, e.g. ``liver``.
    mask
        bool (H, W), in a volume (slices, H, W); not empty.
    instance
        Number among the objects of the same structure in the case, 0 where there is one.
    volume_voxels
        Reference voxels of the structure in the whole volume, None for a 2-D image. The Dice of the stacked
        slices is taken over the slices that became cases; the sum of the masks' areas over this number says
        how much of the reference they cover.
    strokes
        What people drew to have it segmented, of each bool (2, H, W): inside and outside.
    """

    structure: str
    mask: NDArray[np.bool_]
    instance: int = 0
    volume_voxels: int | None = None
    strokes: tuple[NDArray[np.bool_], ...] = ()

    @property
    def key(self) -> str:
        """Its name in its case: the structure, with its number where there are several."""
        return f"{self.structure}#{self.instance}" if self.instance else self.structure


@dataclass(frozen=True)
class Case:
    """One image, or one volume, with the objects to score.

    Attributes
    ----------
    dataset, modality
        Name of the descriptor; CT, MR, US, XR or generic.
    case
        Readable and unique in the dataset: the volume, ``/``, a letter for the plane's normal (z axial,
        y coronal, x sagittal) and the slice; for a 2-D image its own name; for an object in a volume the
        volume, ``/`` and the object.
    volume
        The volume (or image) it was cut from.
    patient
        Whose it is; images of one patient are not independent. The volume, where the dataset does not say.
    slice
        Position along the slice axis of the volume as shown, from 0; 0 of a volume as a whole.
    image
        uint8 (H, W), in a volume (slices, H, W), after windowing.
    spacing
        mm per pixel (row, column), in a volume (slice, row, column); None where unknown.
    objects
        At least one.
    """

    dataset: str
    modality: str
    case: str
    volume: str
    patient: str
    slice: int
    image: NDArray[np.uint8]
    spacing: tuple[float, ...] | None
    objects: tuple[Object, ...]


@dataclass(frozen=True)
class Failure:
    """What could not be scored, and why; `method` is empty where the case itself could not be read."""

    dataset: str
    case: str
    method: str
    file: str
    reason: str


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` indices spread evenly over range(count), all of them if there are fewer.

    >>> spread(10, 2)
    [2, 7]
    """
    wanted = min(count, wanted)
    return [(2 * k + 1) * count // (2 * wanted) for k in range(wanted)]


def limit_objects(objects: list[Object], most: int | None, name: str) -> tuple[Object, ...]:
    """At most `most` objects, drawn by a generator seeded with the case's name; their order is kept."""
    if most is None or len(objects) <= most:
        return tuple(objects)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return tuple(objects[k] for k in sorted(rng.choice(len(objects), most, replace=False)))
