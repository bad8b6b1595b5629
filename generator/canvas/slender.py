"""Shapes that are no blobs: vessel trees, nets, folded sheets, butterflies, jaws, and outlines made ragged.

Each function draws one from a random generator, in unit coordinates as all shapes, and knows no anatomy but
its form.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi

from synthfm.generator.canvas.outlines import Branch, Shape, angles, from_parts, polar, ribbons, smooth

Path = NDArray[np.float64]


def tubes(branches: list[Branch], family: str = "vessels", least_piece: float = 0.02) -> Shape:
    """The union of tubes (paths with radii), to be put at (0, 0) with size 1; pieces of it may be apart."""
    parts = [part for path, radius in branches for part in ribbons(path, radius)]
    shape = from_parts(family, parts, connected=False)
    return replace(shape, branches=tuple(branches), least_piece=least_piece)


def wander(rng: np.random.Generator, start: Path, heading: float, length: float, winding: float) -> Path:
    """A path (n, 2) of a length that begins at a point with a heading and winds smoothly."""
    count = int(np.clip(length / 0.02, 9, 60))
    turns = rng.normal(0, 1, (3, 1)) / [[1.0], [1.6], [2.4]]
    t = np.linspace(0, 1, count)
    waves = np.array([[1.2], [3.1], [7.3]]) * t * max(length, 0.2) + rng.uniform(0, 6.3, (3, 1))
    steps = heading + winding * (turns * (np.sin(waves) - np.sin(waves[:, :1]))).sum(0)
    along = np.stack([np.cos(steps), np.sin(steps)], 1) * (length / count)
    return start + np.cumsum(np.concatenate([np.zeros((1, 2)), along]), axis=0)


def arch(start: Path, middle: Path, end: Path, count: int = 9) -> Path:
    """A bow (count, 2) from `start` to `end` that bends towards `middle`: a quadratic Bézier curve."""
    t = np.linspace(0, 1, count)[:, None]
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end, np.float64)


def vessel_tree(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    reach: float,
    radius: float,
    thinnest: float,
) -> list[Branch]:
    """A tree that grows from a point: trunks that taper and wind, and twigs that leave them at any place.

    Parameters
    ----------
    reach
        Length of the trunk.
    radius, thinnest
        Of the trunk at its start; no vessel is thinner than the latter, where it ends.

    A vessel loses area to its twigs as Murray's law has it (:func:`synthfm.generator.canvas.shapes.tree`).
    """
    winding, dense = rng.uniform(0.15, 0.9), rng.uniform(2.0, 7.0)
    spread, most = rng.uniform(0.4, 1.1), 70
    queue = [(np.array(start), heading, reach, radius, 0)]
    grown: list[Branch] = []
    while queue and len(grown) < most:
        begin, way, length, wide, level = queue.pop(0)
        path = wander(rng, begin, way, length, winding)
        last = max(thinnest, wide * rng.uniform(0.35, 0.75))
        profile = np.linspace(wide, last, len(path))
        grown.append((path, profile))
        if level == 5 or wide < 1.15 * thinnest:
            continue
        count = int(rng.poisson(dense * length)) + (level == 0)
        side = int(rng.choice([-1, 1]))
        for at in np.sort(rng.integers(2, len(path) - 1, min(count, 9))):
            side = side if rng.random() < 0.25 else -side
            step = path[at + 1] - path[at - 1]
            twig = profile[at] * rng.uniform(0.35, 0.85)
            turn = np.arctan2(step[1], step[0]) + side * spread * rng.uniform(0.6, 1.5)
            queue.append((path[at], turn, length * rng.uniform(0.25, 0.75), max(twig, thinnest), level + 1))
    return grown


def net(rng: np.random.Generator, count: int, radius: float, thinnest: float) -> list[Branch]:
    """A net of vessels over the square [-1, 1]²: the edges of about `count` cells, bent, some missing."""
    side = 1.25
    seeds = rng.uniform(-side, side, (count, 2))
    if rng.random() < 0.6:  # cells of about one size
        grid = np.stack(np.meshgrid(*[np.linspace(-side, side, int(np.sqrt(count)) + 1)] * 2), -1).reshape(
            -1, 2
        )
        seeds = grid + rng.normal(0, 0.3 * side / np.sqrt(count), grid.shape)
    found = Voronoi(seeds)
    missing, uneven = rng.uniform(0, 0.3), rng.uniform(0, 0.5)
    branches = []
    for a, b in found.ridge_vertices:
        ends = found.vertices[[a, b]]
        if a < 0 or b < 0 or np.abs(ends).max() > 1.6 or rng.random() < missing:
            continue
        across = np.array([ends[0, 1] - ends[1, 1], ends[1, 0] - ends[0, 0]])
        middle = ends.mean(0) + across * rng.normal(0, 0.3)
        wide = max(radius * np.exp(rng.normal(0, uneven)), thinnest)
        branches.append((arch(ends[0], middle, ends[1]), np.full(9, wide)))
    return branches


def butterfly(rng: np.random.Generator) -> Shape:
    """Two wings with a thick horn in front and a thin one behind, and the bridge between them; 2 wide.

    Grey matter of the spinal cord.
    """
    spread, tall = rng.uniform(0.35, 0.75), rng.uniform(0.6, 1.0)
    waist, thick, thin = rng.uniform(0.12, 0.4), rng.uniform(0.16, 0.34), rng.uniform(0.06, 0.16)
    parts = []
    for side in (-1, 1):
        nodes = np.array([[0.75 * spread + 0.1, tall], [waist, 0.1], [spread, -0.75 * tall]]) + rng.normal(
            0, 0.03, (3, 2)
        )
        parts += ribbons(
            smooth(nodes * [side, 1], 25),
            np.interp(np.linspace(0, 1, 25), [0, 0.5, 1], [thin, 1.1 * thin + 0.03, thick]),
        )
    bridge = np.array([[-waist, 0.08], [0, rng.normal(0.08, 0.04)], [waist, 0.08]])
    parts += ribbons(smooth(bridge, 9), np.full(9, rng.uniform(0.05, 0.14)))
    return from_parts("butterfly", parts)


def jaw(rng: np.random.Generator, upright: bool) -> tuple[Shape, Path]:
    """A long U, and the path along its inner side on which teeth stand, from one end to the other.

    `upright` is it as a panoramic radiograph shows a lower jaw, its branches rising at both ends; else an
    arch as a section shows it.
    """
    t = np.linspace(-1, 1, 61)
    if upright:
        wide, deep, flat = rng.uniform(0.85, 1.0), rng.uniform(0.7, 1.0), rng.uniform(2.2, 4.0)
        path = np.stack(
            [wide * np.sin(t * np.pi / 2), deep * (0.5 - np.abs(np.sin(t * np.pi / 2)) ** flat)], 1
        )
        radius = rng.uniform(0.12, 0.2) * (1 + rng.uniform(-0.3, 0.5) * t**2) * (1 - 0.3 * np.abs(t) ** 8)
        inner = path[14:-14] - np.array([0, 1]) * radius[14:-14, None]
    else:
        turn = t * rng.uniform(1.3, 1.8)
        path = np.stack([rng.uniform(0.6, 0.95) * np.sin(turn), -rng.uniform(0.8, 1.1) * np.cos(turn)], 1)
        radius = rng.uniform(0.08, 0.16) * (1 + rng.uniform(-0.4, 0.3) * t**2)
        inner = path[6:-6]
    path = path + 0.012 * np.stack(
        [np.sin(5 * t + rng.uniform(0, 6.3)), np.sin(7 * t + rng.uniform(0, 6.3))], 1
    )
    parts = ribbons(path, radius)
    for end in (0, -1):  # the joint's head and the process before it
        if upright and rng.random() < 0.8:
            tip = path[end] + np.array(
                [[0, 0.05], [-0.25 * np.sign(path[end, 0]) * rng.uniform(0.4, 1), -0.22]]
            )
            parts += ribbons(tip, np.array([0.08, 0.04]))
    return from_parts("jaw", parts), inner


def arbor(
    rng: np.random.Generator, half: tuple[float, float], stalk: float, apart: float, side: int
) -> list[Branch]:
    """Stalks that grow from a core to a hull, some forked: the folded white matter of a hemisphere.

    The hull is a half ellipse, `half` its half extents, its straight edge on the left (`side` 1) or right
    (-1). `stalk` is the stalks' radius, and their ends are about `apart` from one another. The core is a row
    of thick tubes, so that all of it can be widened evenly.
    """
    wide, tall = half
    deep = rng.uniform(0.3, 0.65) * wide  # how far the folds reach in
    turn = np.linspace(-np.pi / 2, np.pi / 2, 200)
    arc = np.stack([2 * wide * np.cos(turn) ** 0.8 - wide, tall * np.sin(turn)], 1)
    hull = np.concatenate([arc, np.stack([np.full(100, -wide), np.linspace(0.9, -0.9, 100) * tall], 1)])
    y = np.linspace(-1, 1, 17) * max(tall - deep, 0.3 * tall)
    across = 2 * wide * np.sqrt(np.maximum(1 - (y / tall) ** 2, 0.05))
    core = np.stack([across / 2 - wide, y], 1)
    branches = [(core, np.maximum(across / 2 - deep, 1.2 * stalk))]
    length = np.cumsum(np.hypot(*np.diff(hull, axis=0, append=hull[:1]).T))
    count = int(np.clip(length[-1] / apart, 8, 60))
    at = (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / count % 1 * length[-1]
    for edge in hull[np.minimum(np.searchsorted(length, at), len(hull) - 1)]:
        start = core[int(np.argmin(np.hypot(*(core - edge).T)))]
        step = (edge - start) * (1 - rng.uniform(0, 0.15))
        bend = np.array([-step[1], step[0]]) * rng.normal(0, 0.12)
        path = arch(start, start + step / 2 + 2 * bend, start + step, 13)
        branches.append((path, np.linspace(1.1, 0.8, 13) * stalk * rng.uniform(0.8, 1.25)))
        if rng.random() < 0.3:  # a fork
            end = (
                start
                + step
                + np.array([-step[1], step[0]])
                / max(np.hypot(*step), 1e-6)
                * (rng.choice([-0.5, 0.5]) * apart)
            )
            branches.append((arch(path[6], path[10], end), np.full(9, 0.75 * stalk)))
    return [(path * [side, 1], radius) for path, radius in branches]


def widened_branches(branches: list[Branch], by: float) -> list[Branch]:
    """The same tubes, thicker by a length on all sides."""
    return [(path, radius + by) for path, radius in branches]


def sheet(rng: np.random.Generator, folds: int, depth: float) -> Path:
    """The middle line of a folded sheet from (-1, 0) to (1, 0), (n, 2); folds may lean over one another."""
    t = np.linspace(0, 1, 40 + 24 * folds)
    phase = 2 * np.pi * folds * t + 0.6 * np.sin(2 * np.pi * t * rng.uniform(1, 3) + rng.uniform(0, 6.3))
    lean = rng.uniform(-0.7, 0.7) / max(folds, 1)
    tall = depth * (0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(1, 3) * t + rng.uniform(0, 6.3)))
    x = 2 * t - 1 + lean * np.sin(2 * phase)
    return np.stack([x, tall * np.sin(phase)], 1)


def ragged(shape: Shape, rng: np.random.Generator, strength: float) -> Shape:
    """The shape with a ragged outline: each contour displaced along its normal by fractal noise.

    `strength` is the noise's standard deviation over the contour's mean radius; the shape stays in one piece.
    A shape of several parts, or a field, is left as it is.
    """
    if shape.points is None or shape.starts is None or len(shape.starts) != 2:
        return shape
    closed = np.concatenate([shape.points, shape.points[:1]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    if length[-1] <= 0:
        return shape
    count = 320
    at = np.linspace(0, length[-1], count, endpoint=False)
    x, y = (np.interp(at, length, closed[:, k]) for k in (0, 1))
    orders = np.arange(72)
    spectrum = rng.normal(size=(2, 72)) * np.maximum(orders, 4.0) ** -rng.uniform(0.8, 1.8) * (orders >= 4)
    noise = np.fft.irfft(spectrum[0] + 1j * spectrum[1], count)
    noise *= strength / max(float(noise.std()), 1e-9)
    tangent = np.stack([np.roll(x, -2) - np.roll(x, 2), np.roll(y, -2) - np.roll(y, 2)], 1)
    tangent /= np.maximum(np.hypot(*tangent.T), 1e-9)[:, None]
    radius = length[-1] / (2 * np.pi)
    points = np.stack([x, y], 1) + np.stack([tangent[:, 1], -tangent[:, 0]], 1) * (noise * radius)[:, None]
    return replace(shape, points=points, starts=np.array([0, count]), parameters=None)


def tooth(rng: np.random.Generator) -> Shape:
    """A tooth, crown at the top (y = -1), of one root or two."""
    parts = []
    half, taper = rng.uniform(0.4, 0.55), rng.uniform(0.35, 0.7)
    crown = polar(1.0, angles(40)) * [half, 0.45]
    parts.append([np.sign(crown) * np.abs(crown) ** 0.8 - [0, 0.5]])
    roots = int(rng.integers(1, 3))
    for k in range(roots):
        x = (k - (roots - 1) / 2) * half
        path = np.array([[0.6 * x, -0.4], [x, 0.3], [x + rng.normal(0, 0.08), 0.95]])
        parts += ribbons(smooth(path, 17), np.linspace(half / roots * 0.95, half / roots * taper * 0.5, 17))
    return from_parts("tooth", parts)
