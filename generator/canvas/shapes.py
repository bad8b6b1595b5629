"""Shape families: outlines of anatomical character as pure functions of drawn parameters.

Every family is a pair: ``draw_NAME(rng)`` returns the parameters as a dictionary, ``NAME(**parameters)`` the
outline in unit coordinates (see :mod:`synthfm.generator.canvas.outlines`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthfm.generator.canvas.outlines import (
    Branch,
    Contour,
    Parts,
    Shape,
    angles,
    from_parts,
    polar,
    ribbon,
    ribbons,
    rotation,
    smooth,
)
from synthfm.generator.raster.filters import upsample

Parameters = dict[str, Any]


def draw_ellipse(rng: np.random.Generator) -> Parameters:
    return {"aspect": rng.uniform(0.5, 1.0)}


def ellipse(aspect: float = 1.0, count: int = 64) -> Parts:
    """An ellipse with semi-axes 1 and `aspect`."""
    theta = angles(count)
    return [[np.stack([np.cos(theta), aspect * np.sin(theta)], axis=1)]]


def draw_star(rng: np.random.Generator) -> Parameters:
    orders = np.arange(2, 11)
    roughness = rng.uniform(0.04, 0.22)
    slope = rng.uniform(1.0, 2.2)
    return {
        "amplitudes": roughness * rng.normal(size=9) / (orders / 2.0) ** slope,
        "phases": rng.uniform(0, 2 * np.pi, 9),
        "aspect": rng.uniform(0.5, 1.0),
    }


def star(amplitudes: ArrayLike, phases: ArrayLike, aspect: float = 1.0, count: int = 96) -> Parts:
    """A star-shaped outline ``log r(t) = sum_n a_n cos(n t + p_n)``, n from 2: smooth, organ-like."""
    theta = angles(count)
    orders = np.arange(2, 2 + len(np.asarray(amplitudes)))[:, None]
    log_radius = (np.asarray(amplitudes)[:, None] * np.cos(orders * theta + np.asarray(phases)[:, None])).sum(
        0
    )
    return [[polar(np.exp(np.clip(log_radius, -1.2, 0.6)), theta) * [1.0, aspect]]]


def draw_superellipse(rng: np.random.Generator) -> Parameters:
    return {
        "exponent": rng.uniform(2.0, 5.0),
        "aspect": rng.uniform(0.45, 1.0),
        "taper": rng.uniform(-0.35, 0.35),
        "dent": max(0.0, rng.uniform(-0.1, 0.25)),
    }


def superellipse(exponent: float, aspect: float, taper: float, dent: float, count: int = 72) -> Parts:
    """``|x|^e + |y/aspect|^e = 1``, tapered along x and dented on one long side (vertebral bodies, prostate).

    `taper` in (-1, 1) narrows one end; `dent` in [0, 0.5) pushes the lower side inwards.
    """
    theta = angles(count)
    c, s = np.cos(theta), np.sin(theta)
    x = np.sign(c) * np.abs(c) ** (2 / exponent)
    y = aspect * np.sign(s) * np.abs(s) ** (2 / exponent)
    y = y * (1 + taper * x) - dent * aspect * (y > 0) * np.exp(-((x / 0.45) ** 2))
    return [[np.stack([x, y], axis=1)]]


def draw_bent(rng: np.random.Generator) -> Parameters:
    return {
        "aspect": rng.uniform(0.3, 0.62),
        "bend": rng.uniform(0.15, 0.95) * rng.choice([-1, 1]),
        "taper": rng.uniform(-0.3, 0.3),
        "hilum": max(0.0, rng.uniform(-0.3, 0.6)),
    }


def bent(aspect: float, bend: float, taper: float, hilum: float, count: int = 72) -> Parts:
    """An ellipse bent along a circle's arc, with a notch on the inner side (kidney, stomach, spleen).

    `bend` is the arc's half-angle in radians (negative bends the other way), `hilum` the notch's depth
    relative to the half-thickness.
    """
    theta = angles(count)
    x, y = np.cos(theta), aspect * np.sin(theta) * (1 + taper * np.cos(theta))
    y = np.where(y > 0, y * (1 - hilum * np.exp(-((x / 0.3) ** 2))), y)
    return [[_bend(np.stack([x, y], axis=1), bend)]]


def _bend(points: Contour, half_angle: float) -> Contour:
    """Bend the x axis from -1 to 1 into an arc of the half-angle; inner side is y > 0 for positive angles."""
    if abs(half_angle) < 1e-3:
        return points
    radius = 1.0 / half_angle
    turn = points[:, 0] * half_angle
    away = radius - points[:, 1]
    return np.stack([away * np.sin(turn), radius * np.cos(half_angle / 2) - away * np.cos(turn)], axis=1)


def draw_lobed(rng: np.random.Generator) -> Parameters:
    count = int(rng.integers(2, 6))
    turn = (
        rng.uniform(0, 2 * np.pi) + 2 * np.pi * (np.arange(count) + rng.uniform(-0.25, 0.25, count)) / count
    )
    return {
        "directions": turn,
        "lengths": rng.uniform(0.35, 1.0, count),
        "widths": rng.uniform(0.3, 0.8, count),
        "core": rng.uniform(0.3, 0.6),
    }


def lobed(
    directions: ArrayLike, lengths: ArrayLike, widths: ArrayLike, core: float, count: int = 120
) -> Parts:
    """Lobes around a core, ``r(t) = core + (sum of cubed bumps)^(1/3)``, concave between them (liver)."""
    theta = angles(count)
    away = np.angle(np.exp(1j * (theta - np.asarray(directions)[:, None])))
    bumps = np.asarray(lengths)[:, None] * np.exp(-0.5 * (away / np.asarray(widths)[:, None]) ** 2)
    radius = core + (bumps**3).sum(0) ** (1 / 3) * (1 - core * 0.5)
    return [[polar(radius / max(radius.max(), 1e-6), theta)]]


def draw_crescent(rng: np.random.Generator) -> Parameters:
    return {
        "half_angle": rng.uniform(0.6, 1.9),
        "thickness": rng.uniform(0.18, 0.6),
        "blunt": rng.uniform(0.3, 1.0),
        "lean": rng.uniform(-0.5, 0.5),
    }


def crescent(half_angle: float, thickness: float, blunt: float, lean: float, count: int = 40) -> Parts:
    """A crescent along the unit circle: thickest at mid-arc, its horns `blunt` (0 needle, 1 rounded).

    Right ventricle, subdural collection, lung base.
    """
    t = np.linspace(-1, 1, count)
    profile = thickness * (1 - np.abs(t) ** 2.2) ** (0.35 + 0.65 * (1 - blunt)) * (1 + lean * t)
    turn = t * half_angle
    outer, inner = polar(1.0, turn), polar(1.0 - profile, turn)
    contour = np.concatenate([outer, inner[::-1]])
    return [[contour - [contour[:, 0].mean(), 0.0]]]


def draw_tube(rng: np.random.Generator) -> Parameters:
    heading = np.cumsum(rng.normal(0, 0.75, 4))
    nodes = np.concatenate([[[0, 0]], np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), axis=0)])
    nodes -= (nodes.min(0) + nodes.max(0)) / 2
    return {
        "nodes": nodes / np.abs(nodes).max(),
        "radius": rng.uniform(0.05, 0.3),
        "swelling": rng.uniform(-0.45, 0.45, 3),
    }


def tube(nodes: NDArray, radius: float, swelling: ArrayLike, count: int = 49) -> Parts:
    """A tube of varying radius along a spline through `nodes` (bowel, vessel, bile duct)."""
    return ribbons(*_tube_branch(nodes, radius, swelling, count))


def _tube_branch(nodes: NDArray, radius: float, swelling: ArrayLike, count: int = 49) -> Branch:
    t = np.linspace(0, 1, count)
    waves = np.stack([np.sin(np.pi * (k + 1) * t + k) for k in range(len(np.asarray(swelling)))])
    return smooth(nodes, count), radius * np.exp(np.asarray(swelling) @ waves)


def draw_tree(rng: np.random.Generator) -> Parameters:
    return {
        "depth": int(rng.integers(2, 5)),
        "radius": rng.uniform(0.06, 0.16),
        "turns": rng.normal(0, 0.25, 64),
        "angles": rng.uniform(0.3, 0.9, 64),
        "lengths": rng.uniform(0.7, 1.1, 64),
    }


def tree(depth: int, radius: float, turns: NDArray, angles: NDArray, lengths: NDArray) -> Parts:
    """A branching tree of tapering tubes (vessels, airways).

    Radii follow Murray's law, ``r^3 = r1^3 + r2^3`` [1]_. `turns`, `angles` and `lengths` give each branch's
    bend, angle of bifurcation and length; 64 of each are enough for depth 5.

    References
    ----------
    .. [1] C. D. Murray, "The physiological principle of minimum work", PNAS 12 (1926), 207-214.
    """
    grown = _tree_branches(depth, radius, turns, angles, lengths)
    contours = np.array([ribbon(*branch) for branch in grown])
    middle, half = _box(contours)
    return [[contour] for contour in (contours - middle) / half]


def _box(contours: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Middle of the box around all contours, (k, n, 2), and half its longer side."""
    points = contours.reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    return (low + high) / 2, (high - low).max() / 2


def _tree_branches(
    depth: int, radius: float, turns: NDArray, angles: NDArray, lengths: NDArray
) -> list[Branch]:
    """The branches of a tree before it is scaled to its unit box, level by level."""
    branches: list[Branch] = []
    bend = np.linspace(0, 1.5, 8)
    start, heading, length = np.array([[0.0, 1.0]]), np.array([-np.pi / 2]), 0.75
    for _ in range(depth + 1):
        k = np.arange(len(branches), len(branches) + len(start)) % len(turns)
        steps = heading[:, None] + turns[k, None] * bend
        paths = np.zeros((len(k), 9, 2))
        np.cumsum(np.cos(steps), axis=1, out=paths[:, 1:, 0])
        np.cumsum(np.sin(steps), axis=1, out=paths[:, 1:, 1])
        paths *= (length * lengths[k] / 8)[:, None, None]
        paths += start[:, None]
        child = radius * 2 ** (-1 / 3)
        tapering = np.linspace(radius, child, 9)
        branches += [(path, tapering) for path in paths]
        start = paths[:, -1].repeat(2, axis=0)
        heading = (steps[:, -1, None] + angles[k, None] * [-1, 1]).ravel()
        radius, length = child, length * 0.72
    return branches


def draw_ring(rng: np.random.Generator) -> Parameters:
    outer = draw_star(rng)
    outer["aspect"] = rng.uniform(0.7, 1.0)
    return {
        "outer": outer,
        "thickness": rng.uniform(0.08, 0.45),
        "amplitudes": rng.uniform(0.0, 0.5, 3) / [1, 2, 3],
        "phases": rng.uniform(0, 2 * np.pi, 3),
    }


def ring(outer: Parameters, thickness: float, amplitudes: ArrayLike, phases: ArrayLike) -> Parts:
    """A closed wall of varying thickness (myocardium, skull, bladder wall).

    The inner contour is the outer one shrunk by ``thickness * (1 + sum_n a_n cos(n t + p_n))``, relative to
    the radius, kept between 3 % and 80 %.
    """
    contour = star(**outer)[0][0]
    theta = angles(len(contour))
    orders = np.arange(1, 1 + len(np.asarray(amplitudes)))[:, None]
    waves = (np.asarray(amplitudes)[:, None] * np.cos(orders * theta + np.asarray(phases)[:, None])).sum(0)
    shrink = np.clip(thickness * (1 + waves), 0.03, 0.8)
    return [[contour, contour * (1 - shrink[:, None])]]


def draw_arc(rng: np.random.Generator) -> Parameters:
    gap = rng.uniform(0.4, 2.8)
    return {
        "start": rng.uniform(0, 2 * np.pi),
        "sweep": 2 * np.pi - gap,
        "thickness": rng.uniform(0.06, 0.3),
        "aspect": rng.uniform(0.65, 1.0),
    }


def arc(start: float, sweep: float, thickness: float, aspect: float, count: int = 48) -> Parts:
    """An open wall along an ellipse (partial skull, rib, cartilage)."""
    theta = start + sweep * np.linspace(0, 1, count)
    path = polar(1.0, theta) * [1, aspect]
    return [[ribbon(path, thickness / 2 * np.sin(np.linspace(0.35, np.pi - 0.35, count)))]]


def draw_blob(rng: np.random.Generator) -> Parameters:
    return {
        "noise": rng.normal(size=(9, 9)).astype(np.float32),
        "fine": rng.normal(size=(18, 18)).astype(np.float32),
        "roughness": rng.uniform(0.0, 0.5),
        "level": rng.uniform(0.35, 0.75),
    }


def blob(noise: NDArray, fine: NDArray, roughness: float, level: float) -> NDArray[np.float32]:
    """A thresholded smooth noise field under a dome: irregular, sometimes with holes. Returns (48, 48)."""
    field = upsample(noise, (48, 48), sharp=False) + np.float32(roughness) * upsample(
        fine, (48, 48), sharp=False
    )
    axis = np.linspace(-1, 1, 48, dtype=np.float32)
    dome = 1.0 - (axis[:, None] ** 2 + axis**2)
    return (field * 0.8 + 2.2 * (dome - np.float32(level))).astype(np.float32)


def draw_spiculated(rng: np.random.Generator) -> Parameters:
    count = int(rng.integers(6, 17))
    return {
        "directions": np.sort(rng.uniform(0, 2 * np.pi, count)),
        "lengths": rng.uniform(0.15, 0.9, count),
        "widths": rng.uniform(0.05, 0.14, count),
        "core": draw_star(rng),
    }


def spiculated(directions: ArrayLike, lengths: ArrayLike, widths: ArrayLike, core: Parameters) -> Parts:
    """A core with pointed spicules (malignant breast lesions, lung tumours)."""
    contour = star(**core, count=192)[0][0]
    theta = angles(192)
    away = np.abs(np.angle(np.exp(1j * (theta - np.asarray(directions)[:, None]))))
    spikes = np.asarray(lengths)[:, None] * np.clip(1 - away / np.asarray(widths)[:, None], 0, 1) ** 1.5
    return [[contour * (1 + spikes.max(0))[:, None] * 0.7]]


def draw_microlobulated(rng: np.random.Generator) -> Parameters:
    return {
        "lobes": int(rng.integers(7, 16)),
        "height": rng.uniform(0.04, 0.15),
        "phase": rng.uniform(0, 2 * np.pi),
        "jitter": rng.uniform(0, 1, 4),
        "core": draw_star(rng),
    }


def microlobulated(lobes: int, height: float, phase: float, jitter: ArrayLike, core: Parameters) -> Parts:
    """A core scalloped by small rounded lobes: cusps point inwards (lobulated masses, cauliflower shapes)."""
    contour = star(**core, count=192)[0][0]
    theta = angles(192)
    orders = np.arange(1, 5)[:, None]
    uneven = theta + 2.0 / lobes * (np.asarray(jitter)[:, None] * np.sin(orders * theta + 5 * phase)).sum(0)
    scallop = np.sqrt(np.abs(np.sin(lobes / 2 * uneven + phase)))
    return [[contour * (1 - height + height * scallop)[:, None]]]


def draw_pair(rng: np.random.Generator) -> Parameters:
    return {
        "half": draw_bent(rng) if rng.random() < 0.5 else draw_star(rng),
        "distance": rng.uniform(1.15, 1.8),
        "tilt": rng.uniform(-0.5, 0.5),
        "unequal": rng.uniform(0.85, 1.0),
    }


def pair(half: Parameters, distance: float, tilt: float, unequal: float) -> Parts:
    """One object of two mirrored halves (kidneys, lungs, hemispheres); `unequal` is the left one's size.

    `half` are the parameters of :func:`bent` or :func:`star`.
    """
    contour = (bent if "bend" in half else star)(**half)[0][0]
    contour = contour[:, ::-1] @ rotation(tilt).T
    contour = contour - (contour.min(0) + contour.max(0)) / 2
    wide = contour[:, 0].max()
    right = (contour + np.array([distance * wide, 0])) / (2.2 * wide + 0.3)
    return [[right], [right * [-1, 1] * unequal]]


@dataclass(frozen=True)
class Family:
    """How a family's parameters are drawn and become an outline, and whether it is one connected piece."""

    draw: Callable[[np.random.Generator], Parameters]
    outline: Callable[..., Parts | NDArray[np.float32]]
    connected: bool = True


FAMILIES: dict[str, Family] = {
    "ellipse": Family(draw_ellipse, ellipse),
    "star": Family(draw_star, star),
    "superellipse": Family(draw_superellipse, superellipse),
    "bent": Family(draw_bent, bent),
    "lobed": Family(draw_lobed, lobed),
    "crescent": Family(draw_crescent, crescent),
    "tube": Family(draw_tube, tube),
    "tree": Family(draw_tree, tree),
    "ring": Family(draw_ring, ring),
    "arc": Family(draw_arc, arc),
    "blob": Family(draw_blob, blob),
    "spiculated": Family(draw_spiculated, spiculated),
    "microlobulated": Family(draw_microlobulated, microlobulated),
    "pair": Family(draw_pair, pair, connected=False),
}
"""The free-standing families; ``cell`` (of a partition), ``layer`` and ``vertebra`` are the plans' own."""


def make(family: str, parameters: Parameters) -> Shape:
    """A family's shape in unit coordinates from its parameters."""
    kind = FAMILIES[family]
    outline = kind.outline(**parameters)
    if isinstance(outline, np.ndarray):
        return Shape(family, field=outline, matrix=np.eye(2), connected=kind.connected, parameters=parameters)
    return from_parts(family, outline, kind.connected, parameters)


def draw(family: str, rng: np.random.Generator) -> Shape:
    """A shape of a family whose parameters are drawn."""
    return make(family, FAMILIES[family].draw(rng))


@lru_cache(maxsize=64)
def oval(exponent: float = 2.0) -> Shape:
    """A circle, or with a larger exponent a rounder square, to be scaled."""
    return make("superellipse", {"exponent": exponent, "aspect": 1.0, "taper": 0.0, "dent": 0.0})


def tube_along(path: NDArray, radius: ArrayLike) -> Shape:
    """A tube along a path (n, 2) in anatomical coordinates: to be put at (0, 0) with size 1."""
    branch = np.asarray(path, float), np.broadcast_to(np.asarray(radius, float), len(path))
    return replace(from_parts("tube", [[ribbon(path, radius)]]), branches=(branch,))


def branches(shape: Shape) -> tuple[Branch, ...]:
    """The paths and radii of a tube or tree, in the shape's unit coordinates; none for other shapes."""
    if shape.branches or shape.parameters is None or shape.family not in ("tube", "tree"):
        return shape.branches
    if shape.family == "tube":
        return (_tube_branch(**shape.parameters),)
    grown = _tree_branches(**shape.parameters)
    middle, half = _box(np.array([ribbon(*branch) for branch in grown]))
    return tuple(((path - middle) / half, radius / half) for path, radius in grown)
