"""Filters and resampling: where things lie and how wide they get."""

from __future__ import annotations

import importlib.util

import numba
import numpy as np
import pytest

from synthfm.generator.raster.filters import gaussian_blur, shrink, upsample


def ramp(shape):
    """x plus twice y of each cell's centre, over the sides: 0 to 3 whatever the grid."""
    y, x = (np.arange(n, dtype=np.float32) + 0.5 for n in shape)
    return (2 * y[:, None] / shape[0] + x / shape[1]).astype(np.float32)


@pytest.mark.parametrize("sharp", [True, False])
@pytest.mark.parametrize(("small", "large"), [((12, 20), (48, 50)), ((17, 16), (33, 64))])
def test_upsample_leaves_everything_in_its_place(small, large, sharp):
    made, expected = upsample(ramp(small), large, sharp), ramp(large)
    inner = np.s_[large[0] // 5 : -(large[0] // 5), large[1] // 5 : -(large[1] // 5)]  # the frame is clamped
    assert np.allclose(made[inner], expected[inner], atol=1e-5)


@pytest.mark.parametrize("sharp", [True, False])
def test_the_step_response_of_upsample_is_centred_and_overshoots_only_where_sharp(sharp):
    step = np.zeros((8, 16), np.float32)
    step[:, 8:] = 1
    row = upsample(step, (32, 64), sharp)[16]
    assert np.allclose(row + row[::-1], 1, atol=1e-6)
    assert row[31] < 0.5 < row[32]
    assert (row.max() > 1.01) == sharp
    assert not row[:24].any()


@pytest.mark.parametrize(
    ("large", "small"), [((48, 50), (12, 20)), ((33, 64), (17, 16)), ((30, 31), (30, 10))]
)
def test_shrink_averages_each_cell_in_its_place(large, small):
    image = np.random.default_rng(0).random(large, np.float32)
    pixel = 2 / large[0] + 1 / large[1]  # a pixel is even, so that a cut through it moves its part a little
    assert np.allclose(shrink(ramp(large), small), ramp(small), atol=0.2 * pixel)
    assert shrink(image, small).mean() == pytest.approx(image.mean(), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0, 5.0, 9.0])
@pytest.mark.parametrize("size", [128, 127])
def test_a_blur_is_as_wide_as_asked_and_moves_nothing(size, sigma):
    spot = np.zeros((size, size), np.float32)
    spot[60:64, 64:68] = 1  # whole cells, also of a grid of a quarter of the resolution
    after = gaussian_blur(spot, sigma).astype(np.float64)
    assert after.sum() == pytest.approx(16, rel=0.01)
    for axis, middle in ((0, 65.5), (1, 61.5)):
        line = after.sum(axis) / after.sum()
        place = np.arange(size) @ line
        assert place == pytest.approx(middle, abs=0.05)
        assert ((np.arange(size) - place) ** 2 @ line - 1.25) == pytest.approx(sigma**2, rel=0.08, abs=0.1)


@pytest.mark.parametrize("writable", [True, False])
def test_a_kernel_is_kept_on_the_disk_where_it_can_be_and_runs_all_the_same_where_not(
    tmp_path, monkeypatch, writable
):
    home = tmp_path / "home"
    home.mkdir() if writable else home.touch()  # a file, within which not even root makes a folder
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home))
    (tmp_path / "__pycache__").touch()
    source = tmp_path / "kernels_of_a_test.py"
    source.write_text(
        "from synthfm.data.compiled import compiled\n\n\n@compiled\ndef twice(x):\n    return 2 * x\n"
    )
    spec = importlib.util.spec_from_file_location(source.stem, source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.twice(21) == 42
    assert bool(list(home.rglob("*.nbi"))) == writable
