"""A picture of what was found in a scan: slices with the outlines of the objects and the prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthfm.data.distance import bounds
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.case import spread
from synthfm.evaluation.interactive.finding import Found
from synthfm.evaluation.interactive.placing import Asked
from synthfm.evaluation.scans.scan import Scan
from synthfm.evaluation.scans.writers import COLOURS
from synthfm.evaluation.scoring.overlays import draw_outline, draw_prompt

PANELS = 12
"""At most so many slices."""
SIDE, SIDE_ALONE = 240, 560
"""Longest side of a slice in the picture, and of one that is alone in it, pixels."""
LINE = 16
AROUND = 1.5
"""Side of what is shown over the longest side of what was found."""


def sheet(scan: Scan, asked: Sequence[Asked], found: Sequence[Found]) -> Image.Image:
    """The slices that were prompted and others spread over the objects, with one beyond their ends."""
    union: NDArray[np.bool_] = reduce(np.logical_or, (item.mask for item in found))
    numbers = _chosen(union, sorted({k for item in asked for k in item.prompts}))
    window = _window(np.asarray(union.any(0)))
    width, height = _size(window, scan, SIDE if len(numbers) > 1 else SIDE_ALONE)
    panels = [(number, True) for number in numbers]
    if len(numbers) == 1:
        panels.insert(0, (numbers[0], False))  # as it is, beside
    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    picture = Image.new("RGB", (columns * (width + 4) - 4, LINE + rows * (height + LINE)), "white")
    draw = ImageDraw.Draw(picture)
    _legend(draw, found)
    for place, (number, drawn) in enumerate(panels):
        left, top = place % columns * (width + 4), LINE + place // columns * (height + LINE)
        draw.text((left + 2, top + 2), f"slice {number}" if len(scan.values) > 1 else "", fill="black")
        part = Image.fromarray(scan.shown[number]).crop(window)
        panel = part.resize((width, height), Image.Resampling.BILINEAR).convert("RGB")
        for k, item in reversed(list(enumerate(found if drawn else []))):
            draw_outline(panel, item.mask[number], window, COLOURS[k % len(COLOURS)])
        for given in asked if drawn else []:
            draw_prompt(panel, given.prompts.get(number, Prompt()), window)
        picture.paste(panel, (left, top + LINE))
    return picture


def _chosen(union: NDArray[np.bool_], prompted: list[int]) -> list[int]:
    slices = len(union)
    there = np.flatnonzero(union.any((1, 2))).tolist()
    if slices == 1 or (not there and not prompted):
        return [slices // 2]
    first, last = (max(there[0] - 1, 0), min(there[-1] + 1, slices - 1)) if there else (0, -1)
    kept = {prompted[k] for k in spread(len(prompted), PANELS // 2)}
    others = [k for k in range(first, last + 1) if k not in kept]
    inner = spread(max(len(others) - 2, 0), max(PANELS - len(kept) - 2, 0))
    return sorted({*kept, *others[:1], *others[-1:], *(others[1 + k] for k in inner)})


def _window(flat: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """What is shown of each slice, XYXY: the whole of it where objects fill half of it, or there are none."""
    height, width = flat.shape
    if not flat.any():
        return 0, 0, width, height
    x0, y0, x1, y1 = bounds(flat).tolist()
    side = max(AROUND * max(x1 - x0, y1 - y0), 48)
    if side > 0.75 * max(height, width):
        return 0, 0, width, height
    left, right = (round((x0 + x1 + sign * side) / 2) for sign in (-1, 1))
    top, bottom = (round((y0 + y1 + sign * side) / 2) for sign in (-1, 1))
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _size(window: tuple[int, int, int, int], scan: Scan, side: int) -> tuple[int, int]:
    """Width and height of a panel: pixels are drawn as large as they are in mm."""
    _, row, column = scan.spacing
    width, height = (window[2] - window[0]) * column, (window[3] - window[1]) * row
    scale = side / max(width, height)
    return max(round(width * scale), 8), max(round(height * scale), 8)


def _legend(draw: ImageDraw.ImageDraw, found: Sequence[Found]) -> None:
    left = 2
    for k, item in enumerate(found):
        draw.rectangle([left, 3, left + 9, 12], fill=COLOURS[k % len(COLOURS)])
        draw.text((left + 13, 2), item.name, fill="black")
        left += 24 + int(draw.textlength(item.name))
