"""Strokes as people scribble them, drawn from a mask; how strokes become clicks; many clicks at once.

A *stroke* is the pixels that it covers, int (n, 2) of x and y, in any order. Models take points, so a stroke
enters one as a few of its pixels, spread over it: :func:`stroke_points` alone decides which. It serves the
trainer, the evaluation and whoever asks a model.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy
import skimage
from numpy.typing import ArrayLike, NDArray

from synthfm.data.distance import farthest, squared_distance, walk
from synthfm.data.prompts import Mask, Prompt, SomePrompt, tight_box

STROKE_POINTS = 10
"""The most points that a stroke becomes."""

MOST = 100
"""The most clicks on an object, and on the background, that a model is asked with."""

APART = 3.0
"""Points of a stroke lie so many pixels apart at least."""

CUT = 300
"""A piece of a drawing of so many pixels is more than one stroke."""

KINDS = ("centre", "contour", "line")
"""What a stroke follows: the middle line of what it marks, its outline at some distance, or nothing."""

Stroke = NDArray[np.int64]


def stroke_points(stroke: ArrayLike, most: int = STROKE_POINTS) -> Stroke:
    """The pixels of a stroke that stand for it, int64 (m, 2): its first, then each the farthest from those.

    They lie :data:`APART` pixels apart at least; m is `most` at most and 1 at least.

    >>> stroke_points([[x, 5] for x in range(9)], 3).tolist()
    [[0, 5], [8, 5], [4, 5]]
    """
    pixels = np.asarray(stroke, np.int64)
    low = pixels.min(0)
    wide = int(np.ptp(pixels[:, 0])) + 1
    flat = (pixels[:, 1] - low[1]) * wide + pixels[:, 0] - low[0]
    chosen = farthest(flat, wide, np.zeros((0, 2), np.int64), min(most, len(pixels)))
    away = ((chosen[:, None] - chosen[None]) ** 2).sum(-1)
    near = [k for k in range(1, len(chosen)) if away[k, :k].min() < APART**2]
    return chosen[: near[0] if near else None] + low


def prompt_of(
    inside: Sequence[ArrayLike],
    outside: Sequence[ArrayLike],
    shape: tuple[int, ...],
    most: int = STROKE_POINTS,
) -> Prompt:
    """The clicks that strokes on an object and on the background are, in an image (H, W) of that shape.

    What lies beyond the image, and pixels that strokes of both kinds cover, say nothing.

    Raises
    ------
    ValueError
        If there is no stroke, or one is empty, is not of pixels, or says nothing.
    """
    height, width = shape[:2]
    strokes = [(name, k, stroke) for name, given in (("inside", inside), ("outside", outside))
               for k, stroke in enumerate(given, 1)]  # fmt: skip
    if not strokes:
        raise ValueError("no stroke: give one inside or outside at least")
    covered, kept = np.zeros((2, height, width), bool), []
    for name, k, stroke in strokes:
        pixels = pixels_of(stroke, f"stroke {k} {name}", (height, width))
        covered[int(name == "inside"), pixels[:, 1], pixels[:, 0]] = True
        kept.append(pixels)
    both = covered[0] & covered[1]
    points: list[Stroke] = []
    for (name, k, _), pixels in zip(strokes, kept, strict=True):
        pixels = pixels[~both[pixels[:, 1], pixels[:, 0]]]
        if not len(pixels):
            raise ValueError(f"stroke {k} {name} lies on strokes that say the contrary")
        points.append(stroke_points(pixels, most))
    labels = np.repeat([name == "inside" for name, _, _ in strokes], [len(part) for part in points])
    return Prompt(np.concatenate(points), labels.astype(np.int64))


def pixels_of(stroke: ArrayLike, name: str, shape: tuple[int, ...]) -> Stroke:
    """The pixels of a stroke that lie in an image (H, W) of that shape; messages call it `name`.

    Raises
    ------
    ValueError
        If it is empty, is not of pixels, or lies outside.
    """
    height, width = shape[:2]
    try:
        pixels = np.asarray(stroke, float)
    except (TypeError, ValueError):
        pixels = np.zeros((1, 0))
    if not len(pixels):
        raise ValueError(f"{name} is empty")
    if pixels.ndim != 2 or pixels.shape[1] != 2 or not np.isfinite(pixels).all():
        raise ValueError(f"{name}: expected pixels (n, 2)")
    pixels = np.round(pixels)
    pixels = pixels[((pixels >= 0) & (pixels < [width, height])).all(1)].astype(np.int64)
    if not len(pixels):
        raise ValueError(f"{name} lies outside of the image, {width} x {height}")
    return pixels


def thinned(prompt: SomePrompt, most: int = MOST) -> SomePrompt:
    """The same with `most` of its clicks of either kind where it has more, spread over where they lie.

    The first stays, then come those farthest from the ones before, in their order. Beyond some hundred, more
    clicks only take memory, which grows with their square.
    """
    if max(len(prompt.positives), len(prompt.negatives)) <= most:
        return prompt
    kinds = [np.flatnonzero(prompt.labels == label) for label in (1, 0)]
    kept = np.sort(np.concatenate([rows[spread(prompt.points[rows], most)] for rows in kinds]))
    return replace(prompt, points=prompt.points[kept], labels=prompt.labels[kept])


def spread(points: NDArray, count: int, beside: NDArray | None = None) -> NDArray[np.int64]:
    """Rows of `count` of some points (N, 2), of fewer all: each is the farthest from those before it.

    Before the first come those that it lies `beside`, (M, 2); where there are none the first is the first.

    >>> spread(np.array([[0, 0], [1, 0], [9, 0], [4, 0]]), 3).tolist()
    [0, 2, 3]
    """
    chosen: list[int] = []
    away = np.full(len(points), np.inf)
    for place in () if beside is None else beside:
        away = np.minimum(away, ((points - place) ** 2).sum(1))
    for _ in range(min(count, len(points))):
        chosen.append(int(np.argmax(away)))
        away = np.minimum(away, ((points - points[chosen[-1]]) ** 2).sum(1))
        away[chosen[-1]] = -1
    return np.array(chosen, np.int64)


def strokes_in(drawn: Mask) -> list[Stroke]:
    """The strokes of a drawing, bool (H, W): its connected pieces, large ones cut.

    Strokes that cross, as along a tree of vessels, are one piece: it counts as one for every :data:`CUT`
    pixels, ten at most.
    """
    numbered, count = scipy.ndimage.label(drawn, structure=np.ones((3, 3)))
    boxes = scipy.ndimage.find_objects(numbered)
    found = []
    for k in range(count):
        rows, columns = boxes[k]
        ys, xs = np.nonzero(numbered[rows, columns] == k + 1)
        piece = np.stack([xs + columns.start, ys + rows.start], 1).astype(np.int64)
        middles = stroke_points(piece, int(np.clip(len(piece) // CUT, 1, 10)))
        nearest = ((piece[:, None] - middles[None]) ** 2).sum(-1).argmin(1)
        found += [piece[nearest == part] for part in range(len(middles))]
    return found


def polyline(points: ArrayLike) -> Stroke:
    """The pixels of straight lines from point to point (n, 2), in order."""
    corners = np.round(np.asarray(points, float)).astype(np.int64)
    lines = [corners[:1]]
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        ys, xs = skimage.draw.line(int(y0), int(x0), int(y1), int(x1))
        lines.append(np.stack([xs, ys], 1)[1:].astype(np.int64))
    return np.concatenate(lines)


def draw_strokes(
    region: Mask, count: int, rng: np.random.Generator, kinds: Sequence[str] = KINDS
) -> list[Stroke]:
    """Strokes inside a region, bool (H, W), as people draw them; none where it is empty.

    Each is of one of the `kinds`, as long as it happens to be, wobbles, is up to five pixels wide, and keeps
    to the region.
    """
    if not count or not region.any():
        return []
    x0, y0, x1, y1 = tight_box(region)
    part = region[y0:y1, x0:x1]
    squared = squared_distance(np.pad(part, 1), False)[1:-1, 1:-1]
    followed: dict[str, NDArray[np.bool_]] = {}
    strokes = []
    for _ in range(count):
        kind = kinds[int(rng.integers(len(kinds)))]
        longest = int(max(4, max(part.shape) * rng.uniform(0.25, 1.5)))
        if kind == "line":
            path = _line(part, longest, rng)
        else:
            if kind == "centre" and kind not in followed:
                # a copy: scikit-image 0.22 cannot take a view
                followed[kind] = skimage.morphology.skeletonize(np.ascontiguousarray(part))
            path = _followed(followed["centre"] if kind == "centre" else _contour(squared, rng), longest, rng)
        strokes.append(_wobbled(path, part, rng) + np.array([x0, y0]))
    return strokes


def draw_prompt(
    mask: Mask, inside: int, outside: int, rng: np.random.Generator, usable: Mask | None = None
) -> Prompt:
    """The prompt of so many strokes inside a mask and outside of it (fewer where it fills the image).

    `usable`, bool (H, W), is False where nobody draws. Drawn from the same generator, more strokes are the
    fewer ones and others.
    """
    return prompt_of(*draw_both(mask, inside, outside, rng, usable), mask.shape)


def draw_both(
    mask: Mask, inside: int, outside: int, rng: np.random.Generator, usable: Mask | None = None
) -> tuple[list[Stroke], list[Stroke]]:
    """The strokes inside and outside of :func:`draw_prompt`; they are drawn from children of `rng`."""
    inner, outer = rng.spawn(2)
    around = background(mask, outer, usable) if outside else np.zeros_like(mask)
    return draw_strokes(mask, inside, inner), draw_strokes(around, outside, outer, KINDS[1:])


def background(mask: Mask, rng: np.random.Generator, usable: Mask | None = None) -> Mask:
    """Where people mark what an object is not, bool (H, W): around it, seldom anywhere."""
    outside = ~mask if usable is None else ~mask & usable
    if rng.random() < 0.75:
        x0, y0, x1, y1 = tight_box(mask)
        far = int(max(6.0, rng.uniform(0.1, 0.6) * max(x1 - x0, y1 - y0)))
        window = np.s_[max(y0 - far, 0) : y1 + far, max(x0 - far, 0) : x1 + far]
        around = np.zeros_like(outside)
        around[window] = outside[window] & (squared_distance(~mask[window], False, far) <= far**2)
        if around.any():
            return around
    return outside


def many_clicks(
    mask: Mask, count: int, share: float, rng: np.random.Generator, usable: Mask | None = None
) -> Prompt:
    """So many clicks at once: the first inside a mask, of the others about `share`, the rest around it.

    They lie anywhere, in any order; pixels may come twice. Where nothing lies around, all are inside.
    Drawn from the same generator, more clicks are the fewer ones and others.
    """
    inner, outer, kinds = rng.spawn(3)
    inside = kinds.random(count) < share
    inside[:1] = True
    pixels = np.flatnonzero(mask)
    chosen = pixels[inner.integers(len(pixels), size=count)]
    if not inside.all():
        around = np.flatnonzero(background(mask, outer, usable))
        if len(around):
            chosen = np.where(inside, chosen, around[outer.integers(len(around), size=count)])
        else:
            inside[:] = True
    ys, xs = np.divmod(chosen, mask.shape[1])
    return Prompt(np.stack([xs, ys], 1), inside.astype(np.int64))


def _contour(squared: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The pixels of a region at a drawn depth, from their squared distances to its outside."""
    deepest = float(np.sqrt(squared.max()))
    at = deepest * rng.uniform(0.0, 0.8)
    return (squared > at**2) & (squared <= (at + 1.5) ** 2)


def _followed(pixels: NDArray[np.bool_], longest: int, rng: np.random.Generator) -> Stroke:
    """A way along connected pixels from a drawn one, of up to so many of them."""
    flat = np.flatnonzero(pixels)
    return walk(pixels, int(flat[rng.integers(len(flat))]), longest)


def _line(part: NDArray[np.bool_], longest: int, rng: np.random.Generator) -> Stroke:
    """A bent line from a drawn pixel, until it leaves the region."""
    flat = np.flatnonzero(part)
    y, x = divmod(int(flat[rng.integers(len(flat))]), part.shape[1])
    t = np.arange(longest)
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 1.0) * t / longest
    xs = np.round(x + np.concatenate([[0], np.cumsum(np.cos(heading))])).astype(np.int64)
    ys = np.round(y + np.concatenate([[0], np.cumsum(np.sin(heading))])).astype(np.int64)
    inside = (xs >= 0) & (ys >= 0) & (xs < part.shape[1]) & (ys < part.shape[0])
    inside[inside] = part[ys[inside], xs[inside]]
    stop = len(inside) if inside.all() else int(np.argmin(inside))
    return np.stack([xs[:stop], ys[:stop]], 1)


def _wobbled(path: Stroke, part: NDArray[np.bool_], rng: np.random.Generator) -> Stroke:
    """The pixels of a stroke along a path: it strays smoothly from it and has a width, within the region."""
    count, stray = len(path), rng.uniform(0, 2.0)
    nodes = rng.normal(0, stray, (2, max(2, count // 12 + 2)))
    at = np.linspace(0, nodes.shape[1] - 1, count)
    moved = path + np.stack([np.interp(at, np.arange(nodes.shape[1]), one) for one in nodes], 1)
    half = rng.uniform(0, 2.5)
    moved = moved + rng.uniform(-half, half, (count, 2))
    pixels = np.round(moved).astype(np.int64)
    height, width = part.shape
    kept = (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
    kept[kept] = part[pixels[kept, 1], pixels[kept, 0]]
    return np.where(kept[:, None], pixels, path)
