"""What the classical methods share: a window around the prompt, and prompts in its coordinates.

With a box a method looks at the box and half its extent around it; with clicks alone, at the whole image.
A window larger than 256 pixels is reduced to that, as `tiny`'s input is, and the mask brought back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import Setting
from synthfm.evaluation.methods.ellipse import inscribed
from synthfm.evaluation.methods.method import Predicted

SIDE = 256
"""Longest side of a window in pixels, where a method does not say otherwise."""
MARGIN = 0.5
"""Context around a box, in parts of its extent."""

OBJECT, BACKGROUND = 1, 2
"""What :meth:`Local.marks` marks."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Local:
    """What a classical method works on: a window of the image, with the prompt in its pixels.

    Attributes
    ----------
    image
        uint8 (h, w).
    positives, negatives
        int (N, 2) clicks (x, y).
    box
        float (4,) XYXY, half-open, or None.
    """

    image: NDArray[np.uint8]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    box: NDArray[np.float64] | None

    def inside_box(self, scale: float = 1.0) -> Mask:
        """The ellipse in the box, scaled about its centre; all False without a box."""
        if self.box is None:
            return np.zeros(self.image.shape, bool)
        centre, half = (self.box[:2] + self.box[2:]) / 2, (self.box[2:] - self.box[:2]) / 2 * scale
        return inscribed(np.concatenate([centre - half, centre + half]), self.image.shape)

    def box_area(self) -> Mask:
        """Pixels in the box; everything without a box."""
        return np.ones(self.image.shape, bool) if self.box is None else in_box(self.box, self.image.shape)

    def discs(self, points: NDArray[np.int64], radius: float) -> Mask:
        """Discs around points; a point without radius is its pixel."""
        seeds = np.ones(self.image.shape, bool)
        seeds[points[:, 1], points[:, 0]] = False
        return np.asarray(ndimage.distance_transform_edt(seeds) <= radius) if len(points) else ~seeds

    def marks(self, radius: float) -> NDArray[np.int32]:
        """Discs around the clicks, int32 (h, w): :data:`OBJECT`, :data:`BACKGROUND`, 0 elsewhere.

        The seeds are always the object's, a negative click the background's, whatever disc lies over them.
        """
        found = np.zeros(self.image.shape, np.int32)
        for points, kind in ((self.positives, OBJECT), (self.negatives, BACKGROUND)):
            found[self.discs(points, radius)] = kind
        for points, kind in ((self.seeds(), OBJECT), (self.negatives, BACKGROUND)):
            found[points[:, 1], points[:, 0]] = kind
        return found

    def seeds(self) -> NDArray[np.int64]:
        """Where the object is for sure: the positive clicks, else the middle of the box."""
        if len(self.positives) or self.box is None:
            return self.positives
        x, y = ((self.box[:2] + self.box[2:] - 1) / 2).round()
        height, width = self.image.shape
        return np.array([[np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)]], np.int64)


class Classical:
    """A function of a :class:`Local` behind the method protocol."""

    def __init__(
        self,
        name: str,
        segment: Callable[[Local], Mask],
        *,
        negatives: bool = True,
        side: int = SIDE,
        enlarge: bool = False,
    ) -> None:
        self.name = name
        self._side = side
        self._enlarge = enlarge
        self._segment = segment
        self._negatives = negatives

    def accepts(self, setting: Setting) -> bool:
        return self._negatives or not setting.negatives

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return image

    def predict(
        self, encoded: NDArray[np.uint8], prompts: Sequence[Prompt], previous: Sequence[Predicted] = ()
    ) -> list[Predicted]:
        return [
            Predicted(in_window(encoded, prompt, self._segment, self._side, self._enlarge))
            for prompt in prompts
        ]


def in_window(
    image: NDArray[np.uint8],
    prompt: Prompt,
    segment: Callable[[Local], Mask],
    side: int = SIDE,
    enlarge: bool = False,
) -> Mask:
    """Segment in the window of a prompt and bring the mask back to the image, bool (H, W).

    A window whose longest side is more than `side` pixels is reduced to that; with `enlarge` a smaller one is
    brought up to it. Clicks on the background alone show no object.
    """
    if prompt.box is None and not len(prompt.positives):
        return np.zeros(image.shape, bool)
    x0, y0, x1, y1 = window(prompt, image.shape)
    height, width = y1 - y0, x1 - x0
    factor = side / max(height, width)
    factor = factor if enlarge else min(1.0, factor)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scale = np.array([size[0] / width, size[1] / height])
    crop = Image.fromarray(image[y0:y1, x0:x1]).resize(size, Image.Resampling.BILINEAR)

    def moved(points: NDArray) -> NDArray[np.int64]:  # the centre of pixel 0 is 0: scale about its corner
        found = ((points.reshape(-1, 2) - [x0, y0] + 0.5) * scale - 0.5).round().astype(np.int64)
        return np.clip(found, 0, [size[0] - 1, size[1] - 1])

    box = None if prompt.box is None else (prompt.box - [x0, y0, x0, y0]) * np.tile(scale, 2)
    local = Local(np.asarray(crop), moved(prompt.positives), moved(prompt.negatives), box)
    found = segment(local) & local.box_area()
    back = Image.fromarray(found.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    mask = np.zeros(image.shape, bool)
    mask[y0:y1, x0:x1] = np.asarray(back) > 127
    return mask if prompt.box is None else mask & in_box(prompt.box, image.shape)


def in_box(box: NDArray, shape: tuple[int, ...]) -> Mask:
    """Pixels (H, W) whose centres lie in a box."""
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    x0, y0, x1, y1 = box
    return np.asarray((xs > x0 - 0.5) & (xs < x1 - 0.5) & (ys > y0 - 0.5) & (ys < y1 - 0.5))


def window(prompt: Prompt, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """XYXY of the window: the box with context, or the whole image."""
    height, width = shape[:2]
    if prompt.box is None:
        return 0, 0, width, height
    x0, y0, x1, y1 = prompt.box
    across, down = max(8.0, MARGIN * (x1 - x0)), max(8.0, MARGIN * (y1 - y0))
    left, top = int(np.floor(max(0, x0 - across))), int(np.floor(max(0, y0 - down)))
    right, bottom = int(np.ceil(min(width, x1 + across))), int(np.ceil(min(height, y1 + down)))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def touched(mask: Mask, points: NDArray[np.int64]) -> Mask:
    """The connected parts of a mask that hold one of the points, with their holes filled.

    >>> touched(np.array([[1, 0, 1]], bool), np.array([[2, 0]])).tolist()
    [[False, False, True]]
    """
    numbered, _ = ndimage.label(mask)
    kept = np.unique(numbered[points[:, 1], points[:, 0]])
    return np.asarray(ndimage.binary_fill_holes(np.isin(numbered, kept[kept > 0])))


def frame(shape: tuple[int, ...]) -> Mask:
    """The image's outermost pixels."""
    edge = np.ones(shape, bool)
    edge[1:-1, 1:-1] = False
    return edge
