"""Augmentation of one sample: what is drawn (:class:`Draw`), and what it does to image, labels and clicks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthfm.trainer.config import Augment

Image = NDArray[np.uint8]

FADE_FACTOR = 16.0
"""Where an image fades, structures under about this many pixels are lost."""


@dataclass(frozen=True)
class Draw:
    """Drawn parameters.

    Attributes
    ----------
    matrix, offset
        Output pixel (y, x) shows input pixel ``matrix @ (y, x) + offset``; (2, 2) and (2,).
    exact
        The map only permutes pixels (flips, quarter turns), so nothing is interpolated.
    size
        Height and width that are kept; the rest, right and below, is padding.
    gamma, gain, shift, invert
        Grey value v in 0..1 becomes ``gain * v**gamma + shift``, then ``1 - v`` if `invert`.
    noise
        Standard deviation of added noise, of 255.
    blur
        Standard deviation of the Gaussian, pixels.
    reduce
        Factor by which the image is sampled down and up again.
    shade
        Natural logarithm of the largest factor of a smooth gain field.
    fade
        Largest weight with which a strongly blurred copy replaces the image, in smooth patches.
    circle
        Row and column of the middle and radius in pixels: outside of it all is black. None for no circle.
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    exact: bool
    size: tuple[int, int]
    gamma: float = 1.0
    gain: float = 1.0
    shift: float = 0.0
    invert: bool = False
    noise: float = 0.0
    blur: float = 0.0
    reduce: float = 1.0
    shade: float = 0.0
    fade: float = 0.0
    circle: tuple[float, float, float] | None = None


def draw(config: Augment, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
    """Draw what happens to one image of `shape`; always the same number of shares, in the same order."""
    flip, rotate, affine, crop, gamma, invert, noise, blur, low, shade, fade = rng.random(11) < [
        config.flip,
        config.rotate90,
        config.affine,
        config.crop,
        config.gamma,
        config.invert,
        config.noise,
        config.blur,
        config.low_resolution,
        config.shade,
        config.fade,
    ]
    matrix = np.eye(2)
    if flip:
        matrix = matrix @ np.diag([1.0, -1.0])
    if rotate and shape[0] == shape[1]:
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
        matrix = np.linalg.matrix_power(quarter, int(rng.integers(1, 4))) @ matrix
    centre = (np.array(shape) - 1) / 2
    move = np.zeros(2)
    if affine:
        angle = np.deg2rad(rng.uniform(-config.angle, config.angle))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        stretch = np.exp(rng.uniform(-0.1, 0.1))
        zoom = np.exp(rng.uniform(*np.log(config.zoom)))
        matrix = matrix @ turn @ np.diag([stretch, 1 / stretch]) / zoom
        # Zoomed in, any part of the image may be looked at; zoomed out, the image may lie anywhere.
        move = rng.uniform(-0.5, 0.5, 2) * abs(1 - 1 / zoom) * np.array(shape)
    size = shape
    if crop:
        share = rng.uniform(0.5, 1.0)
        rows, columns = (share, 1.0) if rng.random() < 0.5 else (1.0, share)
        size = round(rows * shape[0]), round(columns * shape[1])
    drawn = Draw(
        matrix=matrix,
        offset=centre - matrix @ centre + move,
        exact=not affine,
        size=size,
        gamma=float(np.exp(rng.uniform(-0.5, 0.5))) if gamma else 1.0,
        gain=float(rng.uniform(0.7, 1.2)) if gamma else 1.0,
        shift=float(rng.uniform(-0.1, 0.15)) if gamma else 0.0,
        invert=bool(invert),
        noise=float(rng.uniform(0.01, 0.08)) if noise else 0.0,
        blur=float(rng.uniform(0.5, 1.5)) if blur else 0.0,
        reduce=float(rng.uniform(*config.coarseness)) if low else 1.0,
        shade=float(rng.uniform(0.3, 1.2)) if shade else 0.0,
        fade=float(rng.uniform(0.6, 1.0)) if fade else 0.0,
    )
    if config.circle and rng.random() < config.circle:
        row, column = (rng.uniform(0.45, 0.55, 2) * shape).tolist()
        drawn = replace(drawn, circle=(row, column, float(rng.uniform(0.42, 0.6)) * max(shape)))
    return drawn


def apply_image(image: Image, drawn: Draw, rng: np.random.Generator) -> Image:
    """The image as drawn, uint8 (H, W); padding is 0 here and is masked after normalisation."""
    values = _move(image, drawn, order=1)
    d = drawn
    if (d.gamma, d.gain, d.shift, d.noise, d.blur, d.reduce, d.shade, d.fade) != (1, 1, 0, 0, 0, 1, 0, 0):
        values = _intensity(values.astype(np.float32) / np.float32(255), drawn, rng)
    if drawn.invert:
        values = 255 - values
    return _cut(_within(values, drawn), drawn.size)


def apply_label(label: Image, drawn: Draw) -> Image:
    """The label map as drawn, uint8 (H, W), 0 in the padding."""
    return _cut(_within(_move(label, drawn, order=0), drawn), drawn.size)


def apply_points(points: NDArray, drawn: Draw) -> NDArray[np.float32]:
    """Clicks (..., 2) as (x, y), where they come to lie in the output."""
    yx = np.asarray(points, float)[..., ::-1] - drawn.offset
    return (yx @ np.linalg.inv(drawn.matrix).T)[..., ::-1].astype(np.float32)


def _move(values: Image, drawn: Draw, order: int) -> Image:
    if drawn.exact:  # a signed permutation of the axes: views do it
        rows, columns = (int(sign) for sign in drawn.matrix.sum(1))
        if drawn.matrix[0, 0] == 0:
            return np.ascontiguousarray(values.T[::columns, ::rows])
        return np.ascontiguousarray(values[::rows, ::columns])
    return ndimage.affine_transform(values, drawn.matrix, drawn.offset, order=order, mode="constant")


def _intensity(values: NDArray[np.float32], drawn: Draw, rng: np.random.Generator) -> Image:
    if drawn.reduce > 1:
        values = _low_resolution(values, drawn.reduce)
    if drawn.blur:
        values = ndimage.gaussian_filter(values, drawn.blur)
    if drawn.fade:
        # Where the outline cannot be seen, prompt and shape have to say where it runs.
        weight = np.float32(drawn.fade) * np.clip(2 * _smooth_field(values.shape, rng), 0, 1)
        values = values + weight * (_low_resolution(values, FADE_FACTOR) - values)
    if drawn.shade:
        values = values * np.exp(np.float32(drawn.shade) * _smooth_field(values.shape, rng))
    values = drawn.gain * np.clip(values, 0, 1) ** drawn.gamma + drawn.shift
    if drawn.noise:
        values = values + drawn.noise * rng.standard_normal(values.shape, dtype=np.float32)
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)


def _smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Values in -1..1, interpolated from a few random ones on a coarse grid."""
    knots = rng.uniform(-1, 1, (4, 4)).astype(np.float32)
    return ndimage.zoom(knots, (shape[0] / 4, shape[1] / 4), order=1, grid_mode=True, mode="nearest")


def _low_resolution(values: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Sampled at every `factor`-th pixel after a blur of `factor` / 2.5, then linearly back to the grid."""
    height, width = values.shape
    factor = min(factor, height, width)  # one pixel is left at least
    small = ndimage.zoom(
        ndimage.gaussian_filter(values, factor / 2.5), 1 / factor, order=1, grid_mode=True, mode="nearest"
    )
    rows, columns = small.shape
    back = ndimage.zoom(small, (height / rows, width / columns), order=1, grid_mode=True, mode="nearest")
    return back[:height, :width]


def _within(values: Image, drawn: Draw) -> Image:
    """The values, 0 outside of the circle."""
    if drawn.circle is None:
        return values
    row, column, radius = drawn.circle
    rows, columns = np.ogrid[: values.shape[0], : values.shape[1]]
    return np.where((rows - row) ** 2 + (columns - column) ** 2 < radius**2, values, 0).astype(np.uint8)


def _cut(values: Image, size: tuple[int, int]) -> Image:
    if size == values.shape:
        return values
    kept = np.zeros_like(values)
    kept[: size[0], : size[1]] = values[: size[0], : size[1]]
    return kept
