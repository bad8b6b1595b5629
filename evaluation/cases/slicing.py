"""Volumes to slices: the plane and how it is shown, which slices and objects count, grey levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthfm.data.shards import Modality
from synthfm.evaluation.cases.schema import Intensity, Slices
from synthfm.evaluation.formats.volume import Unreadable, Volume, radiological

PLANES = ("axial", "coronal", "sagittal")
"""The planes across the axes (S, P, L) of a volume in radiological orientation."""


CT_WINDOW = (-160.0, 240.0)
"""Hounsfield units that become black and white where the descriptor does not say: abdominal soft tissue."""


@dataclass(frozen=True)
class View:
    """How a volume is cut and shown.

    Attributes
    ----------
    volume
        The volume.
    turn
        Whether it is turned to radiological orientation.
    axis
        The axis to cut across, of the (turned) array.
    plane
        The number among :data:`PLANES` of the slices.
    spacing
        mm per pixel (row, column) of a slice, None where unknown.
    """

    volume: Volume
    turn: bool
    axis: int
    plane: int
    spacing: tuple[float, float] | None

    @property
    def spacing_3d(self) -> tuple[float, float, float] | None:
        """mm from slice to slice, row to row and column to column; None where one of them is unknown."""
        if self.spacing is None or self.volume.spacing is None:
            return None
        order = radiological(self.volume, self.volume.array)[1] if self.turn else (0, 1, 2)
        between = float(self.volume.spacing[order[self.axis]])
        return None if np.isnan(between) else (between, *self.spacing)

    @property
    def letter(self) -> str:
        """The axis as it stands in the names of cases: z across axial slices, y coronal, x sagittal."""
        return "zyx"[self.plane]

    def slices(self, array: NDArray) -> NDArray:
        """A view (slices, H, W) of an array of the volume's shape."""
        turned = radiological(self.volume, array)[0] if self.turn else array
        sliced = np.moveaxis(turned, self.axis, 0)
        upright = self.turn and self.volume.direction is not None and self.axis > 0
        return sliced[:, ::-1] if upright else sliced  # coronal and sagittal: superior on top


def acquisition_axis(spacing: tuple[float, float, float]) -> int:
    """The axis (of z, y, x) across which a volume was acquired, from its spacing.

    Pixels are square nearly always, so it is the axis whose spacing differs from the two others'; where all
    three differ, that of the largest; where none does by more than 5 %, the file's own slice axis, 0.

    >>> acquisition_axis((0.7, 0.98, 0.98)), acquisition_axis((1.0, 4.0, 1.0))
    (0, 1)
    """
    if np.isnan(spacing[0]) or max(spacing) <= 1.05 * min(spacing):
        return 0
    for axis in range(3):
        first, second = (spacing[k] for k in range(3) if k != axis)
        if max(first, second) <= 1.01 * min(first, second):
            return axis
    return int(np.argmax(spacing))


def view_of(volume: Volume, orientation: str, plane: str) -> View:
    """The view of a volume, `orientation` and `plane` as descriptors name them.

    Raises
    ------
    Unreadable
        If its slices are lines, or a pixel's size in the plane is half known: the spacing says nothing of the
        distance between slices.
    """
    anatomical = radiological(volume, volume.array)[1]  # the file's axes in the order of PLANES
    thin = [axis for axis, count in enumerate(volume.array.shape) if count == 1]
    if not volume.flat and plane != "auto":
        across = anatomical[PLANES.index(plane)]
    elif not volume.flat and len(thin) == 1:
        across = thin[0]  # one slice, of whichever plane
    elif not volume.flat and volume.spacing is not None:
        across = acquisition_axis(volume.spacing)
    else:
        across = 0
    turn = orientation == "radiological"  # a picture has no direction, and stays as it is
    order = anatomical if turn else (0, 1, 2)
    axis = order.index(across)
    pixels = [volume.array.shape[order[k]] for k in range(3) if k != axis]
    if min(pixels) < 2:
        raise Unreadable(
            f"its {PLANES[anatomical.index(across)]} slices have {pixels[0]} x {pixels[1]} pixels; give "
            "another slices.plane"
        )
    if volume.spacing is None:
        return View(volume, turn, axis, anatomical.index(across), None)
    row, column = (float(volume.spacing[order[k]]) for k in range(3) if k != axis)
    if np.isnan(row) or np.isnan(column):
        raise Unreadable(
            f"spacing [row, column] does not say how far slices are apart, which a {plane} plane needs; give "
            "[slice, row, column]"
        )
    return View(volume, turn, axis, anatomical.index(across), (row, column))


def bit_mask(layers: list[NDArray[np.uint8]], bit: int) -> NDArray[np.bool_]:
    """One structure's mask, bool of the layers' shape."""
    return (layers[bit // 8] & np.uint8(1 << (bit % 8))) > 0


def slice_areas(layers: list[NDArray[np.uint8]], bits: list[int]) -> NDArray[np.int64]:
    """Pixels of each structure in each slice, (slices, structures)."""
    areas = np.zeros((len(layers[0]), len(bits)), np.int64)
    for k in range(len(areas)):
        for number, layer in enumerate(layers):
            if layer[k].any():
                counts = np.bincount(layer[k].ravel(), minlength=256)
                for row, bit in enumerate(bits):
                    if bit // 8 == number:
                        areas[k, row] = counts[np.arange(256) >> (bit % 8) & 1 == 1].sum()
    return areas


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


def bad_slice(values: NDArray) -> str | None:
    """Why a slice is no image, or None."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"{np.count_nonzero(~np.isfinite(values))} voxels of the slice are NaN or infinite"
    if values.min() == values.max():
        return f"the slice is constant (every value is {values.flat[0]:g})"
    return None


def blank(grey: NDArray[np.uint8], values: NDArray, levels: tuple[float, float]) -> str | None:
    """Why a slice shows nothing once its values are grey levels, or None."""
    if grey.min() < grey.max():
        return None
    low, high = levels
    return (
        f"one grey level is left of the slice: its values run from {values.min():g} to {values.max():g}, "
        f"black and white are {low:g} and {high:g}; set intensity in the descriptor"
    )


def grey_levels(volume: Volume, modality: Modality, intensity: Intensity) -> tuple[float, float]:
    """The values that become black (0) and white (255)."""
    given = intensity.window or intensity.percentiles or intensity.as_is
    if intensity.as_is or (not given and volume.array.dtype == np.uint8 and modality != "MR"):
        return 0.0, 255.0  # a CT in 8 bits holds no Hounsfield units: somebody has windowed it
    if intensity.window or (not given and modality == "CT"):
        return intensity.window or CT_WINDOW
    values = _sampled(volume)
    values = values[values != 0]
    low, high = np.percentile(values, intensity.percentiles or (0.5, 99.5)) if values.size else (0.0, 0.0)
    if high <= low:
        finite = volume.array[np.isfinite(volume.array)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    return float(low), float(high)


def _sampled(volume: Volume) -> NDArray:
    """Finite values of a volume, some millions at most: a percentile needs no more."""
    values = volume.array.ravel()
    values = values[:: max(1, values.size // 4_000_000)]
    return values[np.isfinite(values)]


def not_hounsfield(volume: Volume) -> bool:
    """Whether a volume's values are hardly Hounsfield units: it has no air, and much is whiter than
    :data:`CT_WINDOW` (stored with an offset), or all lie close together in it (scaled to 0 to 1).
    """
    values, (low, high) = _sampled(volume), CT_WINDOW
    if not values.size:  # what was taken of a huge volume is all NaN
        return False
    shown = np.clip([values.min(), values.max()], low, high)
    return bool((values.min() > -200 and np.mean(values > high) > 0.2) or np.ptp(shown) < 0.05 * (high - low))


def to_grey(values: NDArray, levels: tuple[float, float]) -> NDArray[np.uint8]:
    """Values to grey levels, uint8: `levels` become 0 and 255, what lies outside is cut off.

    >>> to_grey(np.array([-200.0, 40.0, 240.0]), (-160.0, 240.0)).tolist()
    [0, 128, 255]
    """
    low, high = levels
    if (low, high) == (0.0, 255.0) and values.dtype == np.uint8:
        return np.array(values, order="C")
    grey = np.rint(np.clip((values.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return grey
