"""Noise fields for tissue: zero mean, unit variance, float32 (H, W).

A texture is drawn as a :class:`Texture` (its kind and parameters) and made by :func:`make`. Fields are
square, and made on a grid of half the frame's resolution: the finest grain of an image is its scanner's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import noise
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synthfm.data.compiled import compiled
from synthfm.generator.raster.filters import upsample

Field = NDArray[np.float32]

REFERENCE = 128
"""Side of the field of a frame of 256 pixels."""


def standardise(field: Field) -> Field:
    """Zero mean and unit variance."""
    centred = field - field.mean(dtype=np.float64).astype(np.float32)
    spread = float(np.sqrt(np.mean(np.square(centred), dtype=np.float64)))
    return centred * np.float32(1 / max(spread, 1e-6))


def frequencies(shape: tuple[int, int]) -> tuple[Field, Field]:
    """Frequencies in cycles per pixel along y, (H, 1), and x, (1, W // 2 + 1), as `rfft2` orders them."""
    fy = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    return fy, np.fft.rfftfreq(shape[1]).astype(np.float32)[None]


def even_power(spectrum: NDArray[np.complex64], width: int) -> None:
    """Scale a spectrum of independent noise (H, W // 2 + 1), so that `irfft2` gives each frequency its power.

    A real image of `width` has column 0 (and `width` / 2, where that is whole) twice in its spectrum, as
    (f, 0) and (-f, 0); of the two draws there the transform keeps the half that makes the image real, and
    with it half of the power along y. The spectrum is changed.
    """
    spectrum[:, 0] *= np.float32(np.sqrt(2))
    if width % 2 == 0:
        spectrum[:, width // 2] *= np.float32(np.sqrt(2))


def filtered(rng: np.random.Generator, shape: tuple[int, int], amplitude: Field) -> Field:
    """Gaussian noise with the given spectral amplitude, float32 (H, W // 2 + 1), standardised."""
    white = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32)
    spectrum = white.view(np.complex64)[..., 0] * amplitude
    even_power(spectrum, shape[1])
    return standardise(fft.irfft2(spectrum, s=shape, overwrite_x=True))


def spectral(rng: np.random.Generator, size: int, slope: float) -> Field:
    """Noise of power spectrum ``|f|^-slope``: 0 white, 2 cloudy, 4 very smooth; negative slopes are blue."""
    fy, fx = frequencies((size, size))
    squared = fy**2 + fx**2
    squared[0, 0] = 1
    amplitude = squared ** np.float32(-slope / 4)
    amplitude[0, 0] = 0
    return filtered(rng, (size, size), amplitude)


def bandpass(rng: np.random.Generator, size: int, period: float, width: float) -> Field:
    """Noise around one spatial period (pixels) within a relative bandwidth: mottled, lobular tissue."""
    fy, fx = frequencies((size, size))
    radius = np.sqrt(fy**2 + fx**2)
    return filtered(
        rng, (size, size), np.exp(-0.5 * ((radius * np.float32(period) - 1) / np.float32(width)) ** 2)
    )


def fibres(rng: np.random.Generator, size: int, angle: float, period: float, elongation: float) -> Field:
    """Oriented streaks: noise whose grain is `period` pixels across, `elongation` times longer (muscle)."""
    fy, fx = frequencies((size, size))
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = c * fx + s * fy, -s * fx + c * fy
    band = np.exp(-0.5 * ((np.abs(across) * np.float32(period) - 1) / np.float32(0.6)) ** 2)
    return filtered(rng, (size, size), band * np.exp(-0.5 * (along * np.float32(period * elongation)) ** 2))


def perlin(rng: np.random.Generator, size: int, cells: float, octaves: int) -> Field:
    """Perlin noise of `cells` lattice cells across the frame, on a grid of 40², interpolated."""
    return _lattice(noise.pnoise2, rng, size, cells, octaves)


def simplex(rng: np.random.Generator, size: int, cells: float, octaves: int) -> Field:
    """Simplex noise, as :func:`perlin`."""
    return _lattice(noise.snoise2, rng, size, cells, octaves)


def _lattice(
    function: Callable[..., float],
    rng: np.random.Generator,
    size: int,
    cells: float,
    octaves: int,
    grid: int = 40,
) -> Field:
    x, y = (rng.uniform(0, 200) + np.arange(grid) * (cells / grid) for _ in "xy")
    values = [function(v, u, octaves=octaves) for v in y.tolist() for u in x.tolist()]
    return standardise(upsample(np.array(values, np.float32).reshape(grid, grid), (size, size)))


@compiled
def _worley(size: int, offsets: NDArray, ridge: bool) -> NDArray:
    """Distance to the nearest of one jittered point a cell (or second less first), on a toroidal lattice."""
    cells = offsets.shape[0]
    out = np.empty((size, size), np.float32)
    scale = cells / size
    for row in range(size):
        for column in range(size):
            v, u = row * scale, column * scale
            first, second = 1e9, 1e9
            for i in range(int(v) - 1, int(v) + 2):
                for j in range(int(u) - 1, int(u) + 2):
                    dy = i + offsets[i % cells, j % cells, 0] - v
                    dx = j + offsets[i % cells, j % cells, 1] - u
                    away = dx * dx + dy * dy
                    if away < first:
                        first, second = away, first
                    elif away < second:
                        second = away
            out[row, column] = np.sqrt(second) - np.sqrt(first) if ridge else np.sqrt(first)
    return out


def cellular(rng: np.random.Generator, size: int, cells: int, ridge: bool) -> Field:
    """Worley noise of about `cells`² cells: lobules, or with `ridge` the septa between them."""
    coarse = min(size, 128)
    return standardise(upsample(_worley(coarse, rng.random((cells, cells, 2)), ridge), (size, size)))


@compiled
def _splat(field: NDArray, x: NDArray, y: NDArray, radius: NDArray, value: NDArray) -> None:
    height, width = field.shape
    for k in range(len(x)):
        reach = int(np.ceil(2.5 * radius[k]))
        for i in range(max(0, int(y[k]) - reach), min(height, int(y[k]) + reach + 1)):
            for j in range(max(0, int(x[k]) - reach), min(width, int(x[k]) + reach + 1)):
                away = ((i - y[k]) ** 2 + (j - x[k]) ** 2) / radius[k] ** 2
                field[i, j] += value[k] * np.exp(-0.5 * away)


def vessels(rng: np.random.Generator, size: int, density: float, radius: float, walls: float) -> Field:
    """Vessels seen end-on: round spots of drawn size on cloudy ground.

    There are `density` of them per 1000 pixels of a field of :data:`REFERENCE`², as many in a field of
    another size, so that a texture looks the same at every size. `walls` of the spots have the other sign.
    """
    field = 0.35 * upsample(rng.standard_normal((12, 12), np.float32), (size, size))
    count = max(1, int(density * REFERENCE**2 / 1000))
    x, y = rng.uniform(0, size, (2, count))
    radii = radius * np.exp(rng.normal(0, 0.5, count))
    _splat(field, x, y, np.minimum(radii, size / 8), np.where(rng.random(count) < walls, -1.0, 1.0))
    return standardise(field)


# --- the same kinds through a stack of slices, `step` pixels of the field apart ---


def _filtered_through(rng: np.random.Generator, shape: tuple[int, int, int], amplitude: Field) -> Field:
    """As :func:`filtered`, three-dimensional: amplitude (D, H, W // 2 + 1)."""
    white = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32)
    spectrum = white.view(np.complex64)[..., 0]
    spectrum *= amplitude
    for plane in spectrum:
        even_power(plane, shape[2])
    return standardise(fft.irfftn(spectrum, s=shape, overwrite_x=True))


def _frequencies_through(count: int, size: int, step: float) -> tuple[Field, Field, Field]:
    fz = (np.fft.fftfreq(count) / step).astype(np.float32)[:, None, None]
    fy, fx = frequencies((size, size))
    return fz, fy, fx


def _spectral_through(rng: np.random.Generator, size: int, count: int, step: float, slope: float) -> Field:
    fz, fy, fx = _frequencies_through(count, size, step)
    squared = fz**2 + (fy**2 + fx**2)
    squared[0, 0, 0] = 1
    amplitude = squared ** np.float32(-(slope + 1) / 4)  # a section of it falls by one power less
    amplitude[0, 0, 0] = 0
    return _filtered_through(rng, (count, size, size), amplitude)


def _bandpass_through(
    rng: np.random.Generator, size: int, count: int, step: float, period: float, width: float
) -> Field:
    fz, fy, fx = _frequencies_through(count, size, step)
    radius = np.sqrt(fz**2 + (fy**2 + fx**2))
    band = np.exp(-0.5 * ((radius * np.float32(period) - 1) / np.float32(width)) ** 2)
    return _filtered_through(rng, (count, size, size), band)


def _fibres_through(
    rng: np.random.Generator,
    size: int,
    count: int,
    step: float,
    angle: float,
    period: float,
    elongation: float,
) -> Field:
    fz, fy, fx = _frequencies_through(count, size, step)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = c * fx + s * fy, np.sqrt(fz**2 + (-s * fx + c * fy) ** 2)
    band = np.exp(-0.5 * ((across * np.float32(period) - 1) / np.float32(0.6)) ** 2)
    band *= np.exp(-0.5 * (along * np.float32(period * elongation)) ** 2)
    return _filtered_through(rng, (count, size, size), band)


def _lattice_through(
    function: Callable[..., float],
    rng: np.random.Generator,
    size: int,
    count: int,
    step: float,
    cells: float,
    octaves: int,
    grid: int = 32,
) -> Field:
    x, y = (rng.uniform(0, 200) + np.arange(grid) * (cells / grid) for _ in "xy")
    high = (count - 1) * step / size * cells  # in cells of the lattice
    planes = min(count, 2 + int(high * 4 * 2 ** (octaves - 1)))
    z = rng.uniform(0, 200) + np.linspace(0, high, planes)
    columns, lines = x.tolist(), y.tolist()
    values = np.array(
        [function(u, v, w, octaves=octaves) for w in z.tolist() for v in lines for u in columns], np.float32
    ).reshape(planes, grid, grid)
    at = np.linspace(0, planes - 1, count)
    low = np.minimum(at.astype(int), max(planes - 2, 0))
    share = (at - low).astype(np.float32)[:, None, None]
    between = values[low] * (1 - share) + values[np.minimum(low + 1, planes - 1)] * share
    return standardise(np.stack([upsample(plane, (size, size)) for plane in between]))


@compiled
def _worley_through(size: int, heights: NDArray, offsets: NDArray, ridge: bool) -> NDArray:
    """As :func:`_worley` at some heights in cells: float32 (D, size, size)."""
    cells = offsets.shape[1]
    levels = offsets.shape[0]
    out = np.empty((len(heights), size, size), np.float32)
    scale = cells / size
    for k in range(len(heights)):
        w = heights[k]
        for row in range(size):
            for column in range(size):
                v, u = row * scale, column * scale
                first, second = 1e9, 1e9
                for h in range(int(w) - 1, int(w) + 2):
                    for i in range(int(v) - 1, int(v) + 2):
                        for j in range(int(u) - 1, int(u) + 2):
                            point = offsets[h % levels, i % cells, j % cells]
                            dz = h + point[2] - w
                            dy = i + point[0] - v
                            dx = j + point[1] - u
                            away = dx * dx + dy * dy + dz * dz
                            if away < first:
                                first, second = away, first
                            elif away < second:
                                second = away
                out[k, row, column] = np.sqrt(second) - np.sqrt(first) if ridge else np.sqrt(first)
    return out


def _cellular_through(
    rng: np.random.Generator, size: int, count: int, step: float, cells: int, ridge: bool
) -> Field:
    coarse = min(size, max(48, 3 * cells))
    heights = np.arange(count) * (step / size * cells)
    levels = int(heights[-1]) + 3
    planes = _worley_through(coarse, heights, rng.random((levels, cells, cells, 3)), ridge)
    return standardise(np.stack([upsample(plane, (size, size)) for plane in planes]))


def _vessels_through(
    rng: np.random.Generator, size: int, count: int, step: float, density: float, radius: float, walls: float
) -> Field:
    """Vessels that run through the slices, most of them steeply."""
    clouds = rng.standard_normal((2, 12, 12), np.float32)
    number = max(1, int(density * REFERENCE**2 / 1000))
    x, y = rng.uniform(0, size, (2, number))
    slope = rng.normal(0, 0.4, (2, number))
    radii = np.minimum(radius * np.exp(rng.normal(0, 0.5, number)), size / 8)
    signs = np.where(rng.random(number) < walls, -1.0, 1.0)
    planes = np.empty((count, size, size), np.float32)
    for k in range(count):
        turn = 2 * np.pi * k * step / (2 * size)
        cloud = np.float32(np.cos(turn)) * clouds[0] + np.float32(np.sin(turn)) * clouds[1]
        planes[k] = np.float32(0.35) * upsample(cloud, (size, size))
        shift = slope * (k * step)
        _splat(planes[k], (x + shift[0]) % size, (y + shift[1]) % size, radii, signs)
    return standardise(planes)


@dataclass(frozen=True)
class Texture:
    """A kind of texture with drawn parameters and the seed of its noise."""

    kind: str
    parameters: dict[str, float]
    seed: int


KINDS: dict[str, Callable[..., Field]] = {
    "spectral": spectral,
    "bandpass": bandpass,
    "perlin": perlin,
    "simplex": simplex,
    "cellular": cellular,
    "fibres": fibres,
    "vessels": vessels,
}


def draw(rng: np.random.Generator, size: int, kind: str) -> Texture:
    """Draw the parameters of a kind of texture for a field of `size`."""
    fine = size * np.exp(rng.uniform(np.log(0.012), np.log(0.12)))  # grain from 1.2 % to 12 % of the frame
    parameters: dict[str, float] = {
        "spectral": lambda: {"slope": rng.uniform(0.3, 3.5)},
        "bandpass": lambda: {"period": max(fine, 2.2), "width": rng.uniform(0.2, 0.6)},
        "perlin": lambda: {"cells": rng.uniform(2.5, 12), "octaves": int(rng.integers(1, 4))},
        "simplex": lambda: {"cells": rng.uniform(2.5, 10), "octaves": int(rng.integers(1, 4))},
        "cellular": lambda: {"cells": int(rng.integers(6, 32)), "ridge": bool(rng.random() < 0.5)},
        "fibres": lambda: {
            "angle": rng.uniform(0, np.pi) if rng.random() < 0.6 else rng.normal(0, 0.25),
            "period": max(fine * 0.6, 2.2),
            "elongation": rng.uniform(2, 7),
        },
        "vessels": lambda: {
            "density": rng.uniform(1, 12),
            "radius": max(0.7, size * rng.uniform(0.004, 0.014)),
            "walls": rng.choice([0.0, 1.0, 0.3]),
        },
    }[kind]()
    return Texture(kind, parameters, int(rng.integers(2**63)))


def make(texture: Texture, size: int) -> Field:
    """The field of a drawn texture: a pure function."""
    return KINDS[texture.kind](np.random.default_rng(texture.seed), size, **texture.parameters)


THROUGH: dict[str, Callable[..., Field]] = {
    "spectral": _spectral_through,
    "bandpass": _bandpass_through,
    "perlin": functools.partial(_lattice_through, noise.pnoise3),
    "simplex": functools.partial(_lattice_through, noise.snoise3),
    "cellular": _cellular_through,
    "fibres": _fibres_through,
    "vessels": _vessels_through,
}


def make_through(texture: Texture, size: int, count: int, step: float) -> Field:
    """A drawn texture through `count` slices that are `step` pixels of its field apart: (count, size, size).

    In each slice it looks as that of a single image; over the depth it changes as it does over the plane.
    """
    rng = np.random.default_rng(texture.seed)
    return THROUGH[texture.kind](rng, size, count, step, **texture.parameters)
