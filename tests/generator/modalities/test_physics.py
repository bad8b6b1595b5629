"""The scanners' noise has the statistics that physics gives it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage, stats

from synthfm.generator.look import textures
from synthfm.generator.modalities import ct, mr, ultrasound


def radial_spectrum(field, low, high):
    """Slope of the log power spectrum against log frequency between two frequencies."""
    power = np.abs(np.fft.fft2(field - field.mean())) ** 2
    axis = np.fft.fftfreq(field.shape[0])
    radius = np.hypot(axis[:, None], axis)
    use = (radius > low) & (radius < high)
    return np.polyfit(np.log(radius[use]), np.log(power[use]), 1)[0]


@pytest.mark.parametrize("slope", [-1.0, 0.0, 1.0, 2.0, 3.0])
def test_spectral_noise_has_the_slope_asked(slope):
    rng = np.random.default_rng(3)
    measured = np.mean([radial_spectrum(textures.spectral(rng, 128, slope), 0.02, 0.4) for _ in range(8)])
    assert measured == pytest.approx(-slope, abs=0.1)


def test_ct_noise_power_rises_like_the_ramp_and_is_apodised():
    rng = np.random.default_rng(4)
    fields = [ct.ct_noise(rng, (128, 128), 0.4) for _ in range(12)]
    assert np.mean([radial_spectrum(f, 0.02, 0.12) for f in fields]) == pytest.approx(1.0, abs=0.2)
    assert np.mean([radial_spectrum(f, 0.42, 0.5) for f in fields]) < -0.5
    assert np.std(fields[0]) == pytest.approx(1, abs=1e-3)


def _k_space_noise(rng):
    level = np.full((64, 64), 5, np.float32)  # far above the noise, where the magnitude is its real part
    return mr.k_space(level, (1.0, 1.0), 0.1, 0.0, 1, rng) - 5


@pytest.mark.parametrize(
    "noise",
    [
        lambda rng: textures.spectral(rng, 64, 2.0),
        lambda rng: textures.spectral(rng, 63, 0.0),
        lambda rng: textures.bandpass(rng, 64, 8.0, 0.5),
        lambda rng: ct.ct_noise(rng, (64, 64), 0.3),
        _k_space_noise,
    ],
    ids=["spectral", "spectral of odd size", "bandpass", "CT", "k-space"],
)
def test_noise_without_a_direction_is_as_strong_along_y_as_along_x(noise):
    rng = np.random.default_rng(20)
    power = np.mean([np.abs(fft.fft2(noise(rng))) ** 2 for _ in range(300)], axis=0)
    half = power.shape[0] // 2  # up to the highest frequency, which is a column of its own in even sizes
    for low, high in ((1, half // 2), (half // 2, half + 1)):
        assert power[0, low:high].sum() == pytest.approx(power[low:high, 0].sum(), rel=0.15)
    edge = power[1:half, half], power[half, 1:half]
    assert edge[0].sum() == pytest.approx(edge[1].sum(), rel=0.15, abs=1e-6 * float(power.sum()))


@pytest.mark.parametrize("signal", [0.0, 0.05, 0.3, 1.0])
def test_rician_magnitude_has_mean_and_variance_of_the_rice_distribution(signal):
    sigma = 0.1
    image = mr.rician(np.full((400, 400), signal, np.float32), sigma, np.random.default_rng(5))
    rice = stats.rice(signal / sigma, scale=sigma)
    assert image.mean() == pytest.approx(rice.mean(), rel=0.01)
    assert image.var() == pytest.approx(rice.var(), rel=0.02)


def test_speckle_is_fully_developed():
    """Envelope SNR sqrt(pi / (4 - pi)) = 1.91, mean power 2 amplitude², and Rayleigh quantiles."""
    rng = np.random.default_rng(6)
    amplitude = np.full((256, 200), 0.7, np.float32)
    lateral = np.full(256, 1.5, np.float32)
    looks = np.stack([ultrasound.envelope(amplitude, lateral, 1.0, rng)[10:-10, 10:-10] for _ in range(6)])
    assert looks.mean() / looks.std() == pytest.approx(1.91, abs=0.04)
    assert (looks**2).mean() == pytest.approx(2 * 0.7**2, rel=0.04)
    assert np.median(looks) / 0.7 == pytest.approx(np.sqrt(2 * np.log(2)), rel=0.03)


def test_speckle_is_as_strong_at_the_ends_of_beams_and_scan_as_between():
    rng = np.random.default_rng(6)
    lateral = np.linspace(1, 4, 96).astype(np.float32)
    power = np.mean(
        [ultrasound.envelope(np.ones((96, 80), np.float32), lateral, 1.5, rng) ** 2 for _ in range(300)], 0
    )
    assert np.allclose(
        [power[0].mean(), power[-1].mean(), power[:, 0].mean(), power[:, -1].mean()], 2, rtol=0.06
    )


def test_the_point_spread_function_widens_away_from_the_focus():
    rng = np.random.default_rng(7)
    lateral = np.linspace(1, 4, 256).astype(np.float32)
    echo = ultrasound.envelope(np.ones((256, 400), np.float32), lateral, 0.8, rng)

    def correlation(rows):
        a, b = echo[rows, :-3], echo[rows, 3:]
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    assert correlation(slice(200, 256)) > correlation(slice(0, 50)) + 0.2


def test_shadow_behind_bone_and_enhancement_behind_fluid():
    absorption = np.zeros((100, 3), np.float32)
    absorption[40:60, 1], absorption[40:60, 2] = 0.5, -0.05
    loss = ultrasound.shadow(absorption, 1.0)
    assert np.all(loss[:40] == 0)
    assert loss[90] == pytest.approx([0.0, 1.0, -0.1], abs=0.02)


@pytest.mark.parametrize("kind", ["linear", "curved", "sector"])
def test_beams_and_pixels_are_inverse(kind):
    rng = np.random.default_rng(8)
    for _ in range(20):
        probe = ultrasound.draw_probe(rng, 128, (kind,))
        beam, depth = rng.random((2, 50)).astype(np.float32)
        x, y = probe.pixels(beam, depth)
        again = probe.beams(x.astype(np.float32), y.astype(np.float32))
        assert np.allclose(again, [beam, depth], atol=2e-3)
        seen = probe.seen(128)
        assert seen.mean() > 0.3


def test_gibbs_ringing_overshoots_a_step_by_nine_per_cent():
    step = np.zeros((128, 128), np.float32)
    step[32:96, :] = 1
    image = mr.k_space(step, (0.4, 1.0), 0.0, 0.0, 1, np.random.default_rng(9))
    assert image.max() - 1 == pytest.approx(0.09, abs=0.03)
    whole = mr.k_space(step, (1.0, 1.0), 0.0, 0.0, 1, np.random.default_rng(9))
    assert np.abs(whole - step).max() < 1e-4


def test_noise_of_a_truncated_k_space_has_the_standard_deviation_asked():
    level = np.full((128, 128), 5, np.float32)  # far above the noise, where Rician is Gaussian
    for kept in ((1.0, 1.0), (0.5, 0.7)):
        image = mr.k_space(level, kept, 0.1, 0.0, 1, np.random.default_rng(10))
        assert image.std() == pytest.approx(0.1, rel=0.06)


def test_ghosts_are_displaced_copies():
    disc = np.zeros((128, 128), np.float32)
    disc[54:74, 54:74] = 1
    image = mr.k_space(disc, (1.0, 1.0), 0.0, 0.2, 2, np.random.default_rng(11))
    assert image[5, 64] == pytest.approx(0.1, abs=0.03)  # half the deviation, half the field away
    assert image[35, 64] < 0.02


@pytest.mark.parametrize("height", [96, 101, 128])
@pytest.mark.parametrize("ghosts", [2, 3, 4, 5])
def test_ghosts_are_those_of_a_full_complex_transform(height, ghosts):
    image = np.random.default_rng(19).random((height, 90)).astype(np.float32)
    spectrum = fft.fft2(image.astype(complex))
    for row in range(height):
        line = row if row <= height // 2 else row - height
        if line % ghosts == 0:
            spectrum[row] *= 1.2
    made = mr.k_space(image, (1.0, 1.0), 0.0, 0.2, ghosts, np.random.default_rng(11))
    assert np.allclose(made, np.abs(fft.ifft2(spectrum)), atol=1e-5)


def test_beam_hardening_darkens_between_dense_objects_and_cupping_the_middle():
    n = 64
    y, x = np.mgrid[:n, :n] - 31.5
    water = (np.hypot(x, y) < 26).astype(np.float32)
    bones = water.copy()
    bones[(np.hypot(np.abs(x) - 15, y) < 5)] = 2.2
    rng = np.random.default_rng(12)
    streaks = ct.beam_artefacts(bones, 0.05, 0.0, 0.0, rng)
    between, above = streaks[30:34, 30:34].mean(), streaks[12:16, 30:34].mean()
    assert between < above - 0.01
    cup = ct.beam_artefacts(water, 0.0, 0.0, 0.01, rng)
    assert cup[30:34, 30:34].mean() < cup[31, 9:12].mean() - 0.01


def test_line_integrals_of_a_disc_are_its_chords_in_every_view():
    """Ripples of some views, which the ramp filter and the square of beam hardening raise, are a hatch."""
    fine = (np.arange(64 * 8) + 0.5) / 8 - 32
    disc = (fine**2 + fine[:, None] ** 2 < 20.3**2).reshape(64, 8, 64, 8).mean((1, 3)).astype(np.float32)
    sinogram = ct.project(disc, 64)
    at = np.arange(-18, 19)
    assert np.abs(sinogram[:, 64 + at] - 2 * np.sqrt(20.3**2 - at**2)).max() < 0.01 * 2 * 20.3
    assert sinogram.sum(1).std() < 1e-3 * sinogram.sum(1).mean()


def test_filtered_backprojection_returns_the_image():
    y, x = np.mgrid[:64, :64] - 31.5
    disc = (np.hypot(x, y) < 20).astype(np.float32)
    image = ct.reconstruct(ct.project(disc, 90))
    assert image[28:36, 28:36].mean() == pytest.approx(1, abs=0.05)
    assert abs(image[:6].mean()) < 0.05


def test_fields_are_standardised():
    rng = np.random.default_rng(13)
    for kind in textures.KINDS:
        for _ in range(4):
            field = textures.make(textures.draw(rng, 64, kind), 64)
            assert field.shape == (64, 64)
            assert field.dtype == np.float32
            assert abs(field.mean()) < 1e-3
            assert field.std() == pytest.approx(1, abs=1e-3)


def test_a_texture_is_a_pure_function_of_what_was_drawn():
    texture = textures.draw(np.random.default_rng(14), 64, "perlin")
    assert np.array_equal(textures.make(texture, 64), textures.make(texture, 64))


def test_vessels_are_as_many_at_every_size():
    for size in (64, 128, 512):
        field = textures.vessels(np.random.default_rng(21), size, 1.0, size * 0.015, 0.0)
        assert 8 <= ndimage.label(field > 1.5)[1] <= 30  # 16 spots and some of the ground


def test_fibres_run_along_their_angle():
    field = textures.fibres(np.random.default_rng(15), 128, 0.0, 6.0, 5.0)
    power = np.abs(fft.fft2(field)) ** 2
    fy, fx = np.abs(np.fft.fftfreq(128))[:, None], np.abs(np.fft.fftfreq(128))[None]
    assert (
        power[np.broadcast_to(fy > fx, power.shape)].sum()
        > 5 * power[np.broadcast_to(fx > fy, power.shape)].sum()
    )
