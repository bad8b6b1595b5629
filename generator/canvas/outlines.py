"""Outlines: closed contours, their place in the frame and their raster.

Outlines live in unit coordinates, x right and y down, centred on the origin with a radius of about one;
:func:`place` takes them to pixels, :func:`rasterise` to a mask.

An outline is a list of *parts*; the shape is the union of its parts, and a part is a list of closed contours,
float64 (n, 2), of which the first is filled and the others cut holes. Blobs are instead a scalar field over
the square [-1, 1]², positive inside.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from synthfm.generator.raster.kernels import (
    extent,
    fill_contours,
    fill_field,
    signed_area,
    transformed,
    widened,
)

Contour = NDArray[np.float64]
Parts = list[list[Contour]]
Branch = tuple[Contour, NDArray[np.float64]]
"""A path (n, 2) and the radius (n,) of the tube along it."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape: the union of contours, or where a field is positive.

    Attributes
    ----------
    family
        Name of the shape family.
    points, starts
        Vertices of all contours, float64 (n, 2); contour i is ``points[starts[i]:starts[i + 1]]``. Those of
        one orientation unite, the others cut holes (non-zero winding).
    field, matrix, centre
        A scalar field over [-1, 1]², the (2, 2) matrix that takes it to pixels, and its centre.
    connected
        Whether the family promises one connected piece.
    least_piece
        Where it does not: pieces smaller than that share of the largest are left out.
    parameters
        What the family made it from; None where it is an outline alone.
    branches
        Of a tube along a given path: the path, float64 (n, 2), and its radius, (n,).
    """

    family: str
    points: Contour | None = None
    starts: NDArray[np.int64] | None = None
    field: NDArray[np.float32] | None = None
    matrix: NDArray[np.float64] | None = None
    centre: tuple[float, float] = (0.0, 0.0)
    connected: bool = True
    parameters: dict[str, Any] | None = None
    branches: tuple[Branch, ...] = ()
    least_piece: float = 0.0

    def with_points(self, points: Contour) -> Shape:
        """The shape with its vertices moved; as :func:`dataclasses.replace`, in a fifth of the time."""
        return Shape(
            self.family,
            points,
            self.starts,
            connected=self.connected,
            parameters=self.parameters,
            branches=self.branches,
            least_piece=self.least_piece,
        )

    def bounds(self) -> tuple[float, float, float, float]:
        """The outline's x0, y0, x1, y1 in pixels, before the frame cuts it."""
        if self.points is not None:
            return extent(self.points)
        assert self.matrix is not None
        x, y = np.abs(self.matrix).sum(1)
        return self.centre[0] - x, self.centre[1] - y, self.centre[0] + x, self.centre[1] + y


@lru_cache(maxsize=64)
def angles(count: int) -> NDArray[np.float64]:
    """`count` angles around the circle, from 0; not to be written to."""
    theta = np.arange(count, dtype=np.float64) * np.float64(2 * np.pi / count)
    theta.flags.writeable = False
    return theta


def polar(radius: ArrayLike, theta: NDArray[np.float64]) -> Contour:
    """The contour with the given radius at each angle."""
    contour: Contour = np.empty((len(theta), 2))
    contour[:, 0], contour[:, 1] = np.cos(theta), np.sin(theta)
    contour *= np.asarray(radius).reshape(-1, 1)
    return contour


def ribbon(path: Contour, radius: ArrayLike) -> Contour:
    """The outline of a tube: `path` (n, 2) widened by `radius` (n,) to both sides, with rounded ends."""
    widths = np.asarray(radius, float)
    if not widths.ndim:
        widths = np.full(len(path), widths)
    return widened(np.asarray(path, float), widths, _CAP_COS, _CAP_SIN)


def ribbons(path: Contour, radius: NDArray) -> Parts:
    """As :func:`ribbon`, in overlapping pieces: a path may bend sharply or cross itself."""
    cuts = np.linspace(0, len(path) - 1, len(path) // 8 + 1).astype(int)
    return [[ribbon(path[a : b + 1], radius[a : b + 1])] for a, b in itertools.pairwise(cuts)]


_CAP_COS, _CAP_SIN = np.cos(np.linspace(1.2, -1.2, 5)), np.sin(np.linspace(1.2, -1.2, 5))


def smooth(nodes: ArrayLike, count: int, closed: bool = False) -> Contour:
    """A smooth curve (count, 2) through control nodes (n, 2), by cubic interpolation; `closed` or open."""
    through = np.asarray(nodes, float)
    return np.einsum("ij,jk->ik", _spline(len(through), count, closed), through)


@lru_cache(maxsize=64)
def _spline(nodes: int, count: int, closed: bool) -> NDArray[np.float64]:
    """How much each point of :func:`smooth` has of each node, (count, nodes)."""
    each = np.eye(nodes)
    if closed:
        each = np.concatenate([each, each[:1]])
    ends = "periodic" if closed else "not-a-knot"
    spline = CubicSpline(np.linspace(0, 1, len(each)), each, axis=0, bc_type=ends)
    return spline(np.linspace(0, 1, count, endpoint=not closed))  # type: ignore[no-any-return]


def rotation(angle: float) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def from_parts(
    family: str, parts: Parts, connected: bool = True, parameters: dict[str, Any] | None = None
) -> Shape:
    """A shape in unit coordinates from explicit parts; contours are oriented so that parts unite."""
    contours = []
    for part in parts:
        for k, contour in enumerate(part):
            alone = len(parts) == len(part) == 1
            contours.append(contour if alone or (signed_area(contour) > 0) == (k == 0) else contour[::-1])
    starts = np.array([0, *itertools.accumulate(map(len, contours))])
    return Shape(family, np.concatenate(contours), starts, connected=connected, parameters=parameters)


def place(
    shape: Shape,
    centre: tuple[float, float],
    size: tuple[float, float] | float,
    angle: float = 0.0,
    deform: Callable[[NDArray], NDArray] | None = None,
) -> Shape:
    """Scale a shape by `size` (x and y, pixels), turn it by `angle` (radians, clockwise as seen) and move it.

    `deform` then maps contour points (n, 2) to where the scene's smooth deformation takes them; a field is
    moved as a whole.
    """
    wide, tall = size if isinstance(size, tuple) else (size, size)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c * wide, -s * tall], [s * wide, c * tall]])
    if shape.points is None:
        if deform is not None:
            x, y = deform(np.array([centre]))[0]
            centre = (float(x), float(y))
        return replace(shape, matrix=matrix, centre=centre)
    points = transformed(shape.points, matrix, *centre)
    return shape.with_points(points if deform is None else deform(points))


def rasterise(shape: Shape, size: int) -> tuple[NDArray[np.uint8], int, int]:
    """A placed shape's mask in its own box within a frame of `size`²: uint8 (h, w), top, left.

    Empty, (0, 0), where the shape lies outside the frame.
    """
    x0, y0, x1, y1 = shape.bounds()
    left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
    right, bottom = min(size, int(np.ceil(x1)) + 1), min(size, int(np.ceil(y1)) + 1)
    if right <= left or bottom <= top:
        return np.zeros((0, 0), np.uint8), 0, 0
    mask = np.zeros((bottom - top, right - left), np.uint8)
    if shape.points is not None and shape.starts is not None:
        fill_contours(mask, shape.points, shape.starts, left, top)
    elif shape.field is not None and shape.matrix is not None:
        fill_field(mask, shape.field, _inverse(shape.matrix), shape.centre[0] - left, shape.centre[1] - top)
    return mask, top, left


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    (a, b), (c, d) = matrix
    return np.array([[d, -b], [-c, a]]) / (a * d - b * c)
