"""Prompts in the pixels of a scan's slices, from what people have given, see :mod:`.prompt_files`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthfm.data.console import InputError
from synthfm.data.prompts import Prompt
from synthfm.data.strokes import polyline, prompt_of
from synthfm.evaluation.formats.foreground import threshold_of
from synthfm.evaluation.formats.readers import read_volume
from synthfm.evaluation.formats.segmentation import is_segmentation, read_segments
from synthfm.evaluation.formats.slicer import is_slicer, read_slicer
from synthfm.evaluation.formats.volume import Unreadable, Volume, same_grid
from synthfm.evaluation.interactive.prompt_files import Mark
from synthfm.evaluation.scans.scan import Scan

Mask = NDArray[np.bool_]
MOST_LABELS = 255
"""Numbers of a label map; what holds more of them is one object in shades."""
log = logging.getLogger(__name__)


@dataclass
class Asked:
    """What is asked of one object in a scan.

    Attributes
    ----------
    name
        The object's.
    prompts
        Slice to prompt.
    mask
        To begin with, bool (slices, H, W); None without.
    span
        First and last slice of the boxes in the patient that reach over several: it ends there; None without.
    """

    name: str
    prompts: dict[int, Prompt] = field(default_factory=dict)
    mask: Mask | None = None
    span: tuple[int, int] | None = None


def place(marks: Sequence[Mark], scan: Scan) -> list[Asked]:
    """Put marks in a scan, object by object in the order in which they are first named.

    A box in the patient that reaches over several slices is the prompt of the one in its middle. The strokes
    of an object in a slice count together, see :func:`synthfm.data.strokes.prompt_of`.

    Raises
    ------
    InputError
        If one lies outside of the scan, has swapped corners or no slice, there are two boxes of one object in
        one slice, or a stroke lies on strokes that say the contrary; or a mask cannot be read or lies on
        another grid.
    """
    found: dict[str, Asked] = {}
    strokes: dict[tuple[str, int], list[Mark]] = {}
    for mark in marks:
        if mark.kind == "mask":
            for name, mask in read_masks(mark, scan).items():
                asked = found.setdefault(name, Asked(name))
                asked.mask = mask if asked.mask is None else asked.mask | mask
            continue
        asked = found.setdefault(mark.object, Asked(mark.object))
        if mark.kind == "stroke":
            number = _slice(mark, scan)
            if not 0 <= number < len(scan.values):
                raise _outside(mark, scan, f"slice {number}")
            strokes.setdefault((mark.object, number), []).append(mark)
            continue
        if mark.kind == "point":
            x, y, number = _point(mark, scan)
            before = asked.prompts.get(number)
            prompt = (
                Prompt([[x, y]], [mark.label]) if before is None else before.with_click([x, y], mark.label)
            )
        else:
            box, first, last = _box(mark, scan)
            number = (first + last) // 2
            before = asked.prompts.get(number, Prompt())
            if before.box is not None:
                raise InputError(f"{mark.where} {mark.object} has two boxes in slice {number}; give one")
            prompt = Prompt(before.points, before.labels, box)
            if first < last:
                low, high = asked.span or (first, last)
                asked.span = (min(first, low), max(last, high))
        asked.prompts[number] = prompt
    for (name, number), drawn in strokes.items():
        before = found[name].prompts.get(number, Prompt())
        clicks = _strokes(drawn, scan)
        points, labels = (
            np.concatenate(pair) for pair in ((before.points, clicks.points), (before.labels, clicks.labels))
        )
        found[name].prompts[number] = Prompt(points, labels, before.box)
    return list(found.values())


def _strokes(marks: Sequence[Mark], scan: Scan) -> Prompt:
    """The clicks that an object's strokes in one slice are."""
    inside, outside = (
        [polyline(np.reshape(mark.numbers, (-1, 2))) for mark in marks if mark.label == label]
        for label in (1, 0)
    )
    try:
        return prompt_of(inside, outside, scan.values.shape[1:])
    except ValueError as error:
        raise InputError(f"{marks[0].where} {error}") from error


def read_masks(mark: Mark, scan: Scan) -> dict[str, Mask]:
    """The masks of a file on a scan's grid, by slice, with its names or the mark's and their labels."""
    path = Path(mark.file or "")
    try:
        if path.is_file() and is_segmentation(path):
            segments = read_segments(path, scan.volume)
            masks = {str(name): mask for name, mask in segments.items() if isinstance(name, str)}
        elif path.is_file() and is_slicer(path):
            masks = read_slicer(path, scan.volume)
        else:
            volume = read_volume(path, mask=True)
            differs = same_grid(scan.volume, volume, strict=True)
            if differs is not None:
                raise Unreadable(f"{differs}; expected a mask on the grid of {scan.path.name}")
            masks = _objects_in(mark, path, volume)
    except Unreadable as error:
        raise InputError(f"{path}: {error}") from error
    if not any(mask.any() for mask in masks.values()):
        raise InputError(f"{path}: the mask is empty; expected voxels above 0")
    return {name: scan.by_slice(mask) for name, mask in masks.items()}


def _objects_in(mark: Mark, path: Path, shown: Volume) -> dict[str, Mask]:
    """The objects of a mask that is read as it is shown: those of a label map's numbers, or one."""
    labels = (
        [] if shown.array.dtype.kind == "f" else [label for label in np.unique(shown.array).tolist() if label]
    )
    if shown.lossy or len(labels) < 2 or len(labels) > MOST_LABELS:
        found = threshold_of(shown.array)
        if found.doubt is not None:
            log.warning("%s %s", path, found.doubt)
        return {mark.object: shown.array > found.value}
    stored = read_volume(path, mask=True, colours="stored").array  # of a palette its numbers, and no colours
    labels = [label for label in np.unique(stored).tolist() if label]
    return {f"{mark.object} {label}": stored == label for label in labels}


def _point(mark: Mark, scan: Scan) -> tuple[float, float, int]:
    if mark.place == "pixels":
        x, y = mark.numbers
        number = _slice(mark, scan)
    else:
        _check_placed(mark, scan)
        x, y, depth = scan.to_pixels(scan.grid.to_voxels([mark.numbers]))[0].tolist()
        number = round(depth)
    slices, height, width = scan.values.shape
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5 and 0 <= number < slices):
        raise _outside(mark, scan, f"x {x:.4g}, y {y:.4g}, slice {number}")
    return min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0), number


def _box(mark: Mark, scan: Scan) -> tuple[list[float], int, int]:
    """XYXY, and the first and last slice."""
    slices, height, width = scan.values.shape
    if mark.place == "pixels":
        x0, y0, x1, y1 = mark.numbers
        first = last = _slice(mark, scan)
        if x0 >= x1 or y0 >= y1:
            right = [*sorted((x0, x1)), *sorted((y0, y1))]
            shown = ",".join(f"{right[k]:g}" for k in (0, 2, 1, 3))
            empty = " (it is empty)" if x0 == x1 or y0 == y1 else ""
            raise InputError(
                f"{mark.where} x0,y0 must be left of and above x1,y1{empty}; did you mean {shown}?"
            )
    else:
        _check_placed(mark, scan)
        corners = scan.to_pixels(scan.grid.to_voxels(np.reshape(mark.numbers, (-1, 3))))
        (x0, y0, low), (x1, y1, high) = corners.min(0).tolist(), corners.max(0).tolist()
        x0, y0, x1, y1 = x0 + 0.5, y0 + 0.5, x1 + 0.5, y1 + 0.5  # between pixels, as half-open boxes count
        first, last = max(round(low), 0), min(round(high), slices - 1)
        if low > slices - 0.5 or high < -0.5:
            raise _outside(mark, scan, f"slices {low:.4g} to {high:.4g}")
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0 or not 0 <= first <= last < slices:
        raise _outside(mark, scan, f"x {x0:.4g} to {x1:.4g}, y {y0:.4g} to {y1:.4g}, slice {first}")
    return [max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))], first, last


def _slice(mark: Mark, scan: Scan) -> int:
    slices = len(scan.values)
    if mark.slice is None and slices > 1:
        raise InputError(
            f"{mark.where} which of the {slices} slices (0 to {slices - 1})? Add it as the last number"
        )
    return mark.slice or 0


def _check_placed(mark: Mark, scan: Scan) -> None:
    if not scan.grid.placed:
        raise InputError(
            f"{mark.where} {scan.path.name} has no place in a patient; give pixels, without --world"
        )


def _outside(mark: Mark, scan: Scan, what: str) -> InputError:
    slices, height, width = scan.values.shape
    return InputError(
        f"{mark.where} {what}: outside of {scan.path.name}, which has {width} x {height} pixels (x 0 to "
        f"{width - 1}, y 0 to {height - 1}) and {slices} slice{'s' * (slices > 1)} (0 to {slices - 1})"
    )
