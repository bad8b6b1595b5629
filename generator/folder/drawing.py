"""What the contact sheet and the page of histograms are drawn with: colours, type, bars, a safe save."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from synthfm.data.console import InputError
from synthfm.data.files import replacing

Colour = tuple[int, int, int]
PAPER: Colour = (250, 250, 248)
INK: Colour = (34, 40, 49)
GREY: Colour = (120, 126, 134)
BAR: Colour = (62, 117, 168)
POSITIVE: Colour = (57, 217, 96)
NEGATIVE: Colour = (255, 82, 82)
TIGHT: Colour = (255, 205, 40)
LOOSE: Colour = (64, 200, 255)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a size in pixels."""
    return ImageFont.load_default(size)


@cache
def palette() -> NDArray[np.uint8]:
    """Colours of the label numbers, uint8 (256, 3): black for 0, then hues as far apart as can be."""
    colours = [(0.0, 0.0, 0.0)]
    for number in range(1, 256):
        hue = (number * 0.61803398875 + 0.08) % 1.0  # the golden ratio never comes close to an earlier hue
        colours.append(colorsys.hsv_to_rgb(hue, (0.75, 0.5, 0.9)[number % 3], (0.95, 0.85, 0.7)[number % 3]))
    return (np.array(colours) * 255).astype(np.uint8)


def check_png(path: Path) -> None:
    """Refuse a name that cannot be written as PNG, before work is spent on it."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the picture is a PNG; give a name that ends in .png")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it first")


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as partial:
        image.save(partial, format="PNG")


def dashed(draw: ImageDraw.ImageDraw, box: Sequence[float], colour: Colour, width: int, dash: float) -> None:
    """The outline of an XYXY box in dashes."""
    x0, y0, x1, y1 = box
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    for (ax, ay), (bx, by) in itertools.pairwise(corners):
        length = max(abs(bx - ax), abs(by - ay))
        steps = np.arange(0, length, 2 * dash)
        for start in steps:
            a, b = start / length, min(start + dash, length) / length
            ends = [(ax + (bx - ax) * t, ay + (by - ay) * t) for t in (a, b)]
            draw.line(ends, fill=colour, width=width)


def bars(
    draw: ImageDraw.ImageDraw,
    frame: tuple[int, int, int, int],
    title: str,
    heights: Sequence[float],
    ticks: Sequence[tuple[float, str]],
    marks: Sequence[float] = (),
) -> None:
    """One histogram: upright bars over the frame's whole width.

    Parameters
    ----------
    frame
        XYXY, in pixels, of title, bars and ticks together.
    heights
        One number a bar, drawn relative to the largest.
    ticks
        Place along the axis from 0 to 1, and text.
    marks
        Places of thin upright lines, such as a median's.
    """
    x0, y0, x1, y1 = frame
    draw.text((x0, y0), title, fill=INK, font=font(16))
    top, base = y0 + 30, y1 - 22
    highest = max([*heights, 1e-12])
    wide = (x1 - x0) / max(len(heights), 1)
    for number, height in enumerate(heights):
        left, right = x0 + number * wide, x0 + (number + 1) * wide - 1
        if height > 0:
            draw.rectangle(
                (left, min(base - (base - top) * height / highest, base - 1), right, base), fill=BAR
            )
    draw.line((x0, base, x1, base), fill=GREY)
    for place, text in ticks:
        x = x0 + place * (x1 - x0)
        draw.line((x, base, x, base + 4), fill=GREY)
        draw.text((x, base + 6), text, fill=GREY, font=font(12), anchor="ma")
    for place in marks:
        x = x0 + place * (x1 - x0)
        draw.line((x, top - 4, x, base), fill=NEGATIVE, width=2)


def rows(
    draw: ImageDraw.ImageDraw,
    frame: tuple[int, int, int, int],
    title: str,
    shares: Sequence[tuple[str, float, float | None]],
) -> None:
    """Named shares as lying bars: name, share from 0 to 1, and the share that was wanted, or None."""
    x0, y0, x1, y1 = frame
    draw.text((x0, y0), title, fill=INK, font=font(16))
    top = y0 + 30
    step = min(22.0, (y1 - top) / max(len(shares), 1))
    left, right = x0 + 120, x1 - 60
    highest = max([share for _, share, _ in shares] + [wanted or 0 for _, _, wanted in shares] + [1e-12])
    size = max(8, min(13, int(step - 3)))
    for number, (name, share, wanted) in enumerate(shares):
        y = top + number * step
        draw.text((left - 8, y + step / 2), name, fill=INK, font=font(size), anchor="rm")
        end = left + (right - left) * share / highest
        draw.rectangle((left, y + 2, max(end, left + 1), y + step - 3), fill=BAR)
        mark = end if wanted is None else left + (right - left) * wanted / highest
        place = (max(end, mark) + 6, y + step / 2)
        draw.text(place, f"{share:.1%}", fill=GREY, font=font(size), anchor="lm")
        if wanted is not None:
            draw.line((mark, y, mark, y + step - 1), fill=NEGATIVE, width=2)
