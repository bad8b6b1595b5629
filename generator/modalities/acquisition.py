"""What a CT, MR or any other scanner does to a clean image; ultrasound has a file of its own.

Images are float32 (H, W), grey values relative to the displayed range. Every function that makes noise draws
it from the `numpy.random.Generator` given; the parameters are drawn before, by :func:`draw_scan`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from data.compiled import compiled
from generator.config import AcquisitionConfig
from generator.look.textures import even_power, filtered, frequencies, spectral, standardise
from generator.raster.filters import bilinear, gaussian_blur, shrink, upsample

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Scan:
    """A drawn acquisition.

    Attributes
    ----------
    modality, parameters
        The scanner, and what its model takes.
    grid
        Rows and columns of its voxels.
    smooth
        Interpolated to the frame by B-splines, else by Catmull-Rom.
    coarse
        Nodes of a slow field (bias, shading), (4, 4), standard normal.
    seed
        Of its noise.
    """

    modality: str
    grid: tuple[int, int]
    smooth: bool
    parameters: dict[str, float]
    coarse: Image
    seed: int


def draw_scan(rng: np.random.Generator, modality: str, size: int, config: AcquisitionConfig) -> Scan:
    """Draw the settings of a CT, MR or generic scanner for a frame of `size` pixels."""
    grid = (size, size)
    if rng.random() < config.low_resolution_share:
        coarse = min(np.exp(rng.uniform(*np.log(config.coarseness))), size / 24)
        other = max(1.0, coarse / rng.uniform(*config.anisotropy))
        grid = (max(16, round(size / coarse)), max(16, round(size / other)))
        grid = grid if rng.random() < 0.5 else grid[::-1]
    draw = {"CT": _draw_ct, "MR": _draw_mr, "generic": _draw_generic}[modality]
    return Scan(
        modality=modality,
        grid=grid,
        smooth=bool(rng.random() < 0.6),
        parameters=draw(rng, config),
        coarse=rng.standard_normal((4, 4), np.float32),
        seed=int(rng.integers(2**63)),
    )


def acquire(clean: Image, scan: Scan, window: tuple[float, float]) -> tuple[Image, Image]:
    """The image that a scanner makes of a clean one, and the same without noise and artefacts.

    The scanner averages tissue over its own voxels (partial volume); the image is interpolated back.
    `window` gives the Hounsfield units of grey value 0 and the width of the range to 1 (CT only).
    """
    rng = np.random.default_rng(scan.seed)
    size = clean.shape
    ideal = shrink(clean, scan.grid) if scan.grid != size else clean
    if scan.modality == "CT":
        image, ideal = _acquire_ct(ideal, scan.parameters, window, rng)
    elif scan.modality == "MR":
        image, ideal = _acquire_mr(ideal, scan.parameters, scan.coarse, rng)
    else:
        image, ideal = _acquire_generic(ideal, scan.parameters, scan.coarse, rng)
    if scan.grid != size:
        image = upsample(image, size, sharp=not scan.smooth)
        ideal = upsample(ideal, size, sharp=not scan.smooth)
    return image, ideal


def _log_uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(span))))


# --- CT ---------------------------------------------------------------------------------------------------


def _draw_ct(rng: np.random.Generator, config: AcquisitionConfig) -> dict[str, float]:
    ct = config.CT
    streaks, cupping = rng.random() < ct.streak_share, rng.random() < ct.cupping_share
    return {
        "noise": _log_uniform(rng, ct.noise),
        "cutoff": rng.uniform(0.15, 0.45),
        "psf": rng.uniform(0.3, 0.9),
        "hardening": rng.uniform(0.01, 0.06) * streaks,
        "starvation": rng.uniform(0.0, 0.04) * streaks,
        "cupping": rng.uniform(0.002, 0.012) * cupping,
    }


def ct_noise(rng: np.random.Generator, shape: tuple[int, int], cutoff: float) -> Image:
    """Quantum noise of filtered backprojection, unit variance.

    Its power spectrum rises with the frequency like the ramp filter that made it, and falls with the
    apodisation window: ``P(f) ~ f exp(-(f / cutoff)^2)`` [1]_.

    References
    ----------
    .. [1] S. J. Riederer, N. J. Pelc, D. A. Chesler, "The noise power spectrum in computed X-ray tomography",
       Phys. Med. Biol. 23 (1978), 446-454.
    """
    fy, fx = frequencies(shape)
    radius = np.sqrt(fy**2 + fx**2)
    return filtered(rng, shape, np.sqrt(radius) * np.exp(np.float32(-0.5 / cutoff**2) * radius**2))


@compiled
def project(image: NDArray, views: int) -> NDArray:
    """Parallel-beam line integrals of a square image over half a turn, float32 (views, 2 n).

    Along each ray one sample a row, or a column where the ray is nearer to those, interpolated linearly [1]_.
    Spreading pixels over the detector instead leaves ripples in the oblique views, and a hatch in the image.

    References
    ----------
    .. [1] P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Trans. Med.
       Imaging 1 (1982), 192-196.
    """
    n = image.shape[0]
    middle = (n - 1) / 2
    sinogram = np.zeros((views, 2 * n), np.float32)
    for view in range(views):
        c, s = np.cos(np.pi * view / views), np.sin(np.pi * view / views)
        by_rows = abs(c) > abs(s)
        along, across = (s, c) if by_rows else (c, s)
        weight = np.float32(1 / abs(across))
        for line in range(n):
            values = image[line] if by_rows else image[:, line]
            start = n + (line - middle) * along  # the detector where this line's middle is seen
            ends = start + (-1 - middle) * across, start + (n - middle) * across
            for k in range(max(0, int(np.ceil(min(ends)))), min(2 * n, int(np.floor(max(ends))) + 1)):
                at = (k - start) / across + middle
                j = int(np.floor(at))
                a = np.float32(at - j)
                if 0 <= j < n:
                    sinogram[view, k] += weight * (np.float32(1) - a) * values[j]
                if -1 <= j < n - 1:
                    sinogram[view, k] += weight * a * values[j + 1]
    return sinogram


@compiled
def _backproject(sinogram: NDArray, n: int) -> NDArray:
    views = sinogram.shape[0]
    image = np.zeros((n, n), np.float32)
    for view in range(views):
        c, s = np.cos(np.pi * view / views), np.sin(np.pi * view / views)
        for row in range(n):
            for column in range(n):
                at = (column - n / 2 + 0.5) * c + (row - n / 2 + 0.5) * s + n
                k = int(at)
                a = np.float32(at - k)
                image[row, column] += sinogram[view, k] + a * (sinogram[view, k + 1] - sinogram[view, k])
    return image


def reconstruct(sinogram: Image) -> Image:
    """Filtered backprojection of line integrals (views, 2 n) to an image (n, n)."""
    views, bins = sinogram.shape
    ramp = np.abs(np.fft.rfftfreq(2 * bins)).astype(np.float32)
    filtered_rows = fft.irfft(fft.rfft(sinogram, 2 * bins, axis=1) * ramp, axis=1)[:, :bins]
    image = _backproject(np.ascontiguousarray(filtered_rows, np.float32), bins // 2)
    return image * np.float32(np.pi / views)


def beam_artefacts(
    attenuation: Image, hardening: float, starvation: float, cupping: float, rng: np.random.Generator
) -> Image:
    """Error image of a polychromatic beam and few photons, in units of water's attenuation.

    `attenuation` is (n, n), water 1, n the number of pixels over about 40 cm. A beam hardens on its way, so
    that line integrals p are measured too small, by a term in their square: ``dp = -cupping p^2`` for all
    tissue darkens the middle, and ``-hardening p p_bone`` leaves dark bands between dense objects [1]_. Few
    photons pass where p is large; their noise, proportional to ``sqrt(exp(p))``, becomes streaks of standard
    deviation `starvation` [2]_.

    References
    ----------
    .. [1] P. M. Joseph, R. D. Spital, "A method for correcting bone induced artifacts in computed tomography
       scanners", J. Comput. Assist. Tomogr. 2 (1978), 100-108.
    .. [2] J. Hsieh, "Adaptive streak artifact reduction in computed tomography resulting from excessive x-ray
       photon noise", Med. Phys. 25 (1998), 2139-2147.
    """
    n = attenuation.shape[0]
    length = np.float32(8.0 / n)  # water's attenuation is about 0.2 per cm: 8 over 40 cm
    views = 64
    path = project(attenuation, views) * length
    dense = project(np.maximum(attenuation - np.float32(1.25), 0), views) * length
    error = -np.float32(cupping) * path**2 - np.float32(hardening) * path * dense
    image = reconstruct(error) / length
    if starvation > 0:
        noise = rng.standard_normal(path.shape, np.float32)
        noise *= np.exp(np.minimum(path, 10) * np.float32(0.5))
        image += np.float32(starvation) * standardise(reconstruct(noise))
    return image


def _acquire_ct(
    ideal: Image, p: dict[str, float], window: tuple[float, float], rng: np.random.Generator
) -> tuple[Image, Image]:
    ideal = gaussian_blur(ideal, p["psf"])
    low, width = window
    image = ideal
    attenuation = np.clip((ideal * np.float32(width) + np.float32(low)) / 1000 + 1, 0, 4)
    if p["hardening"] or p["cupping"]:
        n = min(64, *ideal.shape)
        error = beam_artefacts(
            shrink(attenuation, (n, n)), p["hardening"], p["starvation"], p["cupping"], rng
        )
        image = image + upsample(error - np.float32(np.median(error)), ideal.shape) * np.float32(1000 / width)
    # More noise where beams pass more tissue.
    thick = gaussian_blur(shrink(attenuation, (16, 16)), 2.5)
    local = upsample(0.4 + 0.6 * thick / max(float(thick.mean()), 0.1), ideal.shape, sharp=False)
    image = image + np.float32(p["noise"]) * local * ct_noise(rng, ideal.shape, p["cutoff"])
    return np.clip(image, 0, 1), np.clip(ideal, 0, 1)


# --- MR ---------------------------------------------------------------------------------------------------


def _draw_mr(rng: np.random.Generator, config: AcquisitionConfig) -> dict[str, float]:
    mr = config.MR
    return {
        "noise": _log_uniform(rng, mr.noise),
        "bias": rng.uniform(*mr.bias),
        "kept_x": rng.uniform(0.35, 0.9),
        "kept_y": rng.uniform(0.35, 0.9),
        "truncated": float(rng.random() < mr.truncation_share),
        "ghost": rng.uniform(0.05, 0.25) * (rng.random() < mr.ghost_share),
        "ghosts": float(rng.integers(2, 6)),
        "slice": rng.uniform(0.01, 0.05) * (rng.random() < mr.thick_slice_share),
        "psf": rng.uniform(0.0, 0.8),
    }


def rician(signal: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Magnitude of a signal with complex Gaussian noise of standard deviation `sigma` per channel [1]_.

    References
    ----------
    .. [1] H. Gudbjartsson, S. Patz, "The Rician distribution of noisy MRI data", Magn. Reson. Med. 34 (1995),
       910-914.
    """
    noise = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(sigma)
    return np.hypot(signal + noise[0], noise[1])


def k_space(
    signal: Image,
    kept: tuple[float, float],
    sigma: float,
    ghost: float,
    ghosts: int,
    rng: np.random.Generator,
) -> Image:
    """Magnitude image of a k-space of which the central part is measured, the rest zero (Gibbs ringing [1]_).

    Parameters
    ----------
    kept
        Measured share of the rows (y) and columns (x) of k-space.
    sigma
        Standard deviation of the noise per channel in the image.
    ghost, ghosts
        Every `ghosts`-th phase-encoding line (y), counted from the middle of k-space, deviates by `ghost` of
        its value, which makes ``ghosts - 1`` displaced copies of the image [2]_.

    References
    ----------
    .. [1] J. P. Czervionke et al., "Characteristic features of MR truncation artifacts", AJR 151 (1988),
       1219-1228.
    .. [2] M. L. Wood, R. M. Henkelman, "MR image artifacts from periodic motion", Med. Phys. 12 (1985),
       143-151.
    """
    height, width = signal.shape
    half = fft.rfft2(signal)
    rows = np.abs(np.fft.fftfreq(height)) <= 0.5 * kept[0]
    columns = np.arange(half.shape[1]) <= 0.5 * kept[1] * width
    half *= (rows[:, None] & columns).astype(np.float32)
    if ghost:
        lines = np.rint(np.fft.fftfreq(height, 1 / height)).astype(int)
        half[lines % ghosts == 0] *= np.float32(1 + ghost)
    share = float(rows.mean() * min(1.0, (2 * columns.sum() - 1) / width))
    clean = fft.irfft2(half, s=signal.shape, overwrite_x=True)
    noise = np.zeros((2, height, half.shape[1]), np.complex64)
    scale = np.float32(sigma * np.sqrt(height * width / 2 / max(share, 1e-3)))
    measured = int(rows.sum()), int(columns.sum())
    for channel in noise:
        white = rng.standard_normal((*measured, 2), np.float32).view(np.complex64)[..., 0]
        channel[np.ix_(rows, columns)] = white * scale
        even_power(channel, width)
    real, imaginary = (fft.irfft2(channel, s=signal.shape) for channel in noise)
    return np.hypot(clean + real, imaginary)


def _acquire_mr(
    ideal: Image, p: dict[str, float], coarse: Image, rng: np.random.Generator
) -> tuple[Image, Image]:
    if p["slice"]:
        ideal = thick_slice(ideal, p["slice"], rng)
    ideal = gaussian_blur(ideal, p["psf"]) if p["psf"] > 0.3 else ideal
    # A smooth field in the logarithm, as in N3 (Sled, Zijdenbos & Evans, IEEE TMI 17(1), 1998).
    bias = np.exp(np.float32(p["bias"]) * upsample(coarse, ideal.shape, sharp=False))
    signal = np.maximum(ideal, 0) * bias
    if p["truncated"] or p["ghost"]:
        kept = (p["kept_y"], p["kept_x"]) if p["truncated"] else (1.0, 1.0)
        return k_space(signal, kept, p["noise"], p["ghost"], int(p["ghosts"]), rng), ideal
    return rician(signal, p["noise"], rng), ideal


def thick_slice(image: Image, taper: float, rng: np.random.Generator) -> Image:
    """Average over a thick slice through which outlines drift by about 0.6 `taper` of the frame's side.

    `taper` is the standard deviation of the nodes of the drift, which is smooth between them.

    What a voxel shows is the mean over its extent: the partial volume model of Van Leemput et al. (IEEE TMI
    22(1), 2003) with three sheets.
    """
    height, width = image.shape
    drift = rng.standard_normal((2, 4, 4), np.float32) * np.float32(taper * max(height, width))
    dx, dy = (upsample(axis, image.shape, sharp=False) for axis in drift)
    y, x = np.ogrid[0:height, 0:width]
    x, y = x.astype(np.float32), y.astype(np.float32)
    return (image + bilinear(image, x + dx, y + dy) + bilinear(image, x - dx, y - dy)) / np.float32(3)


# --- generic ----------------------------------------------------------------------------------------------


def _draw_generic(rng: np.random.Generator, config: AcquisitionConfig) -> dict[str, float]:
    generic = config.generic
    return {
        "noise": _log_uniform(rng, generic.noise),
        "slope": rng.uniform(-1.0, 1.5),
        "coloured": float(rng.random() < 0.5),
        "speckle": rng.uniform(0.05, 0.35) * (rng.random() < 0.25),
        "bias": rng.uniform(*generic.bias),
        "psf": rng.uniform(0.0, 1.4),
        "curve": float(rng.random() < generic.curve_share),
        "bend": rng.uniform(-1, 1),
        "wave": rng.uniform(-1, 1),
    }


def _acquire_generic(
    ideal: Image, p: dict[str, float], coarse: Image, rng: np.random.Generator
) -> tuple[Image, Image]:
    if p["curve"]:  # a smooth curve of grey levels that need not be monotonic
        t = np.clip(ideal, 0, 1)
        ideal = t + np.float32(p["bend"]) * t * (1 - t) + np.float32(0.2 * p["wave"]) * np.sin(6 * t)
    ideal = gaussian_blur(ideal, p["psf"]) if p["psf"] > 0.25 else ideal
    image = ideal * np.exp(np.float32(p["bias"]) * upsample(coarse, ideal.shape, sharp=False))
    if p["speckle"]:  # multiplicative noise with a grain
        grain = gaussian_blur(rng.standard_normal(ideal.shape, np.float32), 0.8)
        image = image * (1 + np.float32(2.5 * p["speckle"]) * grain)
    if p["coloured"]:
        side = max(ideal.shape)
        noise = spectral(rng, side, p["slope"])[: ideal.shape[0], : ideal.shape[1]]
    else:
        noise = rng.standard_normal(ideal.shape, np.float32)
    return image + np.float32(p["noise"]) * noise, ideal
