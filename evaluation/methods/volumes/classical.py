"""What the classical methods share on volumes: a window of the volume around the prompts.

In the plane the window is that of the methods of single images: a box and half its extent around it, or with
clicks alone the whole slice; a box in its slice bounds the mask there, and those of all slices together bound
it in the others, grown by a quarter: an organ may be wider than where it was prompted. Along the slices the
window is the whole volume, or what the prompts say. It is reduced to :data:`VOXELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import DrawnVolumePrompt, Setting
from synthfm.evaluation.cases.volume_prompts import Spacing
from synthfm.evaluation.methods.classical import in_box, window
from synthfm.evaluation.methods.ellipse import inscribed
from synthfm.evaluation.methods.method import Predicted

Mask = NDArray[np.bool_]

VOXELS = 400_000
"""Of a window; a larger one is reduced in the plane."""
BEYOND = 0.25
"""How much wider than the boxes a mask may be in other slices, in parts of their extent, on each side."""
CORE = 0.6
"""The part of the ellipse in a box that is the object for sure."""
OBJECT, BACKGROUND = 1, 2


@dataclass(frozen=True)
class Window:
    """A reduced window of a volume, with the prompts in it.

    Attributes
    ----------
    image
        uint8 (s, h, w).
    spacing
        mm along its axes, or relative where unknown.
    marks
        int32 (s, h, w): :data:`OBJECT` or :data:`BACKGROUND` where the prompts say so for sure, else 0.
    allowed
        bool (s, h, w), where the mask may be.
    """

    image: NDArray[np.uint8]
    spacing: tuple[float, float, float]
    marks: NDArray[np.int32]
    allowed: Mask


class ClassicalVolume:
    """A function of a :class:`Window` behind the method protocol."""

    def __init__(self, name: str, segment: Callable[[Window], Mask], *, negatives: bool = True) -> None:
        self.name = name
        self._segment, self._negatives = segment, negatives

    def accepts(self, setting: Setting) -> bool:
        return self._negatives or not setting.negatives

    def encode(self, volume: NDArray[np.uint8], spacing: Spacing) -> tuple[NDArray[np.uint8], Spacing]:
        return volume, spacing

    def predict(
        self,
        encoded: tuple[NDArray[np.uint8], Spacing],
        prompt: DrawnVolumePrompt,
        previous: Predicted | None = None,
    ) -> Predicted:
        volume, spacing = encoded
        shape = (volume.shape[1], volume.shape[2])
        boxes = [asked.box for asked in prompt.prompts.values() if asked.box is not None]
        around = None
        if boxes:
            low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
            around = np.concatenate([low - BEYOND * (high - low), high + BEYOND * (high - low)])
        x0, y0, x1, y1 = (
            window(Prompt(box=around), shape) if around is not None else (0, 0, shape[1], shape[0])
        )
        first, last = prompt.span or (0, len(volume) - 1)
        count, height, width = last - first + 1, y1 - y0, x1 - x0
        factor = min(1.0, float(np.sqrt(VOXELS / (count * height * width))))
        size = (count, max(2, round(height * factor)), max(2, round(width * factor)))
        part = volume[first : last + 1, y0:y1, x0:x1]
        zoom = [1.0, size[1] / height, size[2] / width]
        allowed = np.broadcast_to(True if around is None else in_box(around, shape), volume.shape).copy()
        marks = np.zeros(part.shape, np.int32)
        for k, asked in prompt.prompts.items():
            if first <= k <= last:
                self._mark(marks[k - first], allowed[k], asked, (x0, y0, x1, y1))
        local = Window(
            _resized(part, zoom, 1),
            tuple(np.array(spacing or (1.0, 1.0, 1.0)) / zoom),
            _marked(marks, size),
            _resized(allowed[first : last + 1, y0:y1, x0:x1], zoom, 0),
        )
        found = self._segment(local) & local.allowed
        mask = np.zeros(volume.shape, bool)
        back = ndimage.zoom(found.astype(np.float32), np.array(part.shape) / size, order=1, grid_mode=True,
                            mode="nearest")  # fmt: skip
        mask[first : last + 1, y0:y1, x0:x1] = back > 0.5
        return Predicted(mask & allowed)

    @staticmethod
    def _mark(
        marks: NDArray[np.int32], allowed: Mask, asked: Prompt, part: tuple[int, int, int, int]
    ) -> None:
        """Mark what a prompt says for sure of its slice, and where the mask may be there."""
        x0, y0, x1, y1 = part
        shape = (allowed.shape[0], allowed.shape[1])
        if asked.box is not None:
            allowed &= in_box(asked.box, shape)
            marks[~allowed[y0:y1, x0:x1]] = BACKGROUND
            centre, half = (asked.box[:2] + asked.box[2:]) / 2, (asked.box[2:] - asked.box[:2]) / 2 * CORE
            core = inscribed(np.concatenate([centre - half, centre + half]), shape)
            marks[core[y0:y1, x0:x1]] = OBJECT
        ys, xs = np.ogrid[y0:y1, x0:x1]
        for (x, y), label in zip(asked.points, asked.labels, strict=True):
            marks[(xs - x) ** 2 + (ys - y) ** 2 <= 9] = OBJECT if label else BACKGROUND


def _resized(array: NDArray, zoom: list[float], order: int) -> NDArray:
    """An array with its size changed by factors; bool stays bool."""
    if zoom == [1.0, 1.0, 1.0]:
        return array
    values = array.astype(np.float32) if array.dtype == bool else array
    found = ndimage.zoom(values, zoom, order=order, grid_mode=True, mode="nearest")
    return found > 0.5 if array.dtype == bool else found


def _marked(marks: NDArray[np.int32], size: tuple[int, int, int]) -> NDArray[np.int32]:
    """Marks in a smaller window: a small one is not lost, the object's wins."""
    if marks.shape == size:
        return marks
    found = np.zeros(size, np.int32)
    for kind in (BACKGROUND, OBJECT):
        places = np.argwhere(marks == kind)
        found[tuple((places * size // marks.shape).T)] = kind
    return found
