"""Compiled float32 image filters: separable blur, resampling between grids, bilinear look-up."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from synthfm.data.compiled import compiled

Image = NDArray[np.float32]


@lru_cache(maxsize=256)
def _gaussian_taps(sigma: float) -> Image:
    radius = max(1, math.ceil(3.0 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def gaussian_blur(image: Image, sigma_x: float, sigma_y: float | None = None) -> Image:
    """Gaussian blur with reflected borders, float32 (H, W); standard deviations in pixels.

    Sigmas are rounded to 0.05 pixels; 0 leaves the axis alone. Wide blurs run on a grid of half the
    resolution, where a Gaussian of two pixels and more loses nothing.
    """
    sigma_y = sigma_x if sigma_y is None else sigma_y
    if min(sigma_x, sigma_y) > 4.0 and min(image.shape) >= 32:
        height, width = image.shape
        small = shrink(image, (height // 2, width // 2))
        return upsample(gaussian_blur(small, sigma_x / 2, sigma_y / 2), (height, width))
    sigma_x, sigma_y = round(sigma_x * 20) / 20, round(sigma_y * 20) / 20
    one = np.ones(1, np.float32)
    taps_x = _gaussian_taps(sigma_x) if sigma_x > 0 else one
    taps_y = _gaussian_taps(sigma_y) if sigma_y > 0 else one
    return convolve(image, taps_x, taps_y)


@compiled
def _reflect(i: int, n: int) -> int:
    if n == 1:
        return 0
    i = abs(i) % (2 * n - 2)
    return i if i < n else 2 * n - 2 - i


@compiled
def convolve(image: NDArray, taps_x: NDArray, taps_y: NDArray) -> NDArray:
    """Separable convolution with odd, symmetric taps and reflected borders; float32 in and out."""
    height, width = image.shape
    rx, ry = len(taps_x) // 2, len(taps_y) // 2
    between = np.empty((height, width), np.float32)
    padded = np.empty(width + 2 * rx, np.float32)
    for row in range(height):
        for j in range(rx):
            padded[j] = image[row, _reflect(j - rx, width)]
            padded[rx + width + j] = image[row, _reflect(width + j, width)]
        for j in range(width):
            padded[rx + j] = image[row, j]
        line, middle = between[row], padded[rx : rx + width]
        tap = taps_x[rx]
        for j in range(width):
            line[j] = tap * middle[j]
        for k in range(1, rx + 1):
            tap = taps_x[rx + k]  # views that start at 0 let the compiler vectorise
            before, after = padded[rx - k : rx - k + width], padded[rx + k : rx + k + width]
            for j in range(width):
                line[j] += tap * (before[j] + after[j])
    out = np.empty((height, width), np.float32)
    for row in range(height):
        line, tap = out[row], taps_y[ry]
        middle = between[row]
        for j in range(width):
            line[j] = tap * middle[j]
        for k in range(1, ry + 1):
            tap = taps_y[ry + k]
            above, below = between[_reflect(row - k, height)], between[_reflect(row + k, height)]
            for j in range(width):
                line[j] += tap * (above[j] + below[j])
    return out


@lru_cache(maxsize=512)
def _cubic_axis(small: int, large: int, sharp: bool) -> tuple[NDArray[np.uint32], Image]:
    """Indices (large, 4) and weights of cubic interpolation from `small` to `large` samples, cell-centred.

    Indices are unsigned, as Numba then looks for none below 0.
    """
    position = (np.arange(large) + 0.5) * small / large - 0.5
    base = np.floor(position).astype(int)
    t = position - base
    if sharp:  # Catmull-Rom: through the samples
        weights = [
            ((-t + 2) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((-3 * t + 4) * t + 1) * t / 2,
            ((t - 1) * t * t) / 2,
        ]
    else:  # cubic B-spline: smooth, no overshoot
        weights = [
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        ]
    index = np.clip(base[:, None] + np.arange(-1, 3), 0, small - 1)
    return index.astype(np.uint32), np.stack(weights, axis=1).astype(np.float32)


def upsample(coarse: Image, shape: tuple[int, int], sharp: bool = True) -> Image:
    """Cubic interpolation of a coarse float32 grid to `shape`: Catmull-Rom, or a smooth B-spline."""
    rows, columns = (
        _cubic_axis(coarse.shape[0], shape[0], sharp),
        _cubic_axis(coarse.shape[1], shape[1], sharp),
    )
    return _interpolate(np.ascontiguousarray(coarse, np.float32), *rows, *columns)


@compiled
def _interpolate(
    coarse: NDArray, rows: NDArray, row_weights: NDArray, columns: NDArray, column_weights: NDArray
) -> NDArray:
    small, width, height = coarse.shape[0], len(columns), len(rows)
    between = np.empty((small, width), np.float32)
    for i in range(small):
        for j in range(width):
            a, b, c, d = column_weights[j]
            first, second = coarse[i, columns[j, 0]], coarse[i, columns[j, 1]]
            third, fourth = coarse[i, columns[j, 2]], coarse[i, columns[j, 3]]
            between[i, j] = a * first + b * second + c * third + d * fourth
    out = np.empty((height, width), np.float32)
    for i in range(height):
        a, b, c, d = row_weights[i]
        first, second = between[rows[i, 0]], between[rows[i, 1]]
        third, fourth = between[rows[i, 2]], between[rows[i, 3]]
        for j in range(width):
            out[i, j] = a * first[j] + b * second[j] + c * third[j] + d * fourth[j]
    return out


@compiled
def _area_axis(large: int, small: int) -> tuple[NDArray, NDArray]:
    ratio = large / small
    first = np.empty(small, np.int32)
    weights = np.zeros((small, int(np.ceil(ratio)) + 1), np.float32)
    for i in range(small):
        start, stop = i * ratio, (i + 1) * ratio
        first[i] = int(start)
        for k in range(weights.shape[1]):
            overlap = min(stop, first[i] + k + 1.0) - max(start, float(first[i] + k))
            if overlap > 0 and first[i] + k < large:
                weights[i, k] = overlap / ratio
    return first, weights


@compiled
def shrink(image: NDArray, shape: tuple[int, int]) -> NDArray:
    """Area average onto a smaller grid: what a larger voxel sees of its tissues (partial volume)."""
    height, width = image.shape
    columns, column_weights = _area_axis(width, shape[1])
    rows, row_weights = _area_axis(height, shape[0])
    between = np.zeros((shape[0], width), np.float32)
    for i in range(shape[0]):
        for k in range(row_weights.shape[1]):
            weight = row_weights[i, k]
            if weight > 0:
                source, line = image[rows[i] + k], between[i]
                for j in range(width):
                    line[j] += weight * source[j]
    out = np.zeros(shape, np.float32)
    for i in range(shape[0]):
        for j in range(shape[1]):
            total = np.float32(0)
            for k in range(column_weights.shape[1]):
                if column_weights[j, k] > 0:
                    total += column_weights[j, k] * between[i, columns[j] + k]
            out[i, j] = total
    return out


@compiled
def bilinear(image: NDArray, x: NDArray, y: NDArray) -> NDArray:
    """Values of `image` at float32 positions (x, y), clamped to its frame; float32 of their shape (h, w)."""
    height, width = image.shape
    out = np.empty(x.shape, np.float32)
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            u = min(max(x[row, column], np.float32(0)), np.float32(width - 1))
            v = min(max(y[row, column], np.float32(0)), np.float32(height - 1))
            i, j = min(int(v), height - 2), min(int(u), width - 2)
            a, b = v - np.float32(i), u - np.float32(j)
            top = image[i, j] + b * (image[i, j + 1] - image[i, j])
            low = image[i + 1, j] + b * (image[i + 1, j + 1] - image[i + 1, j])
            out[row, column] = top + a * (low - top)
    return out
