"""The three planes of a scan: slices and masks in each are those of the radiological view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfm.evaluation.cases.slicing import PLANES, view_of
from synthfm.evaluation.interactive.page.pictures import read_upright
from synthfm.evaluation.interactive.page.planes import Planes
from synthfm.evaluation.scans.scan import Scan
from synthfm.trainer.model.bits import Bits
from tests.support.files import write_itk

SHAPE = (4, 6, 9)
ORIENTATIONS = ("LPS", "RAS", "PIR", "SLA", "AIL")
RNG = np.random.default_rng(0)


def opened(folder: Path, direction: str | None, spacing: tuple[float, float, float]) -> Scan:
    """A small scan of noise that lies so in the patient, None for an array, of which nobody knows."""
    values = RNG.integers(-900, 900, SHAPE).astype(np.int16)
    if direction is None:
        np.save(folder / "a.npy", values)
        return read_upright(folder / "a.npy", "a.npy")
    return read_upright(write_itk(folder / "a.nii.gz", values, spacing, direction), "a.nii.gz")


@pytest.mark.parametrize("direction", [*ORIENTATIONS, None])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 4.0), (1.0, 4.0, 1.0), (4.0, 1.0, 1.0)])
def test_each_plane_shows_the_slices_of_the_radiological_view(tmp_path, direction, spacing):
    scan = opened(tmp_path, direction, spacing)
    planes = Planes(scan)
    coding = low, step = planes.coding()
    assert step == 1
    mask = RNG.random(SHAPE) < 0.4
    by_slice = scan.by_slice(mask)
    bits = {k: Bits.of(np.ascontiguousarray(one)) for k, one in enumerate(by_slice)}
    for plane, name in enumerate(PLANES):
        view = view_of(scan.volume, "radiological", name)
        values, masks = view.slices(scan.volume.array), view.slices(mask)
        assert len(values) == planes.shape[plane]
        for at in range(len(values)):
            np.testing.assert_array_equal(low + planes.image(plane, at, coding), values[at])
            np.testing.assert_array_equal(planes.cut(bits, plane, at), masks[at])
            without = {k: one for k, one in bits.items() if k % 2}
            odd = np.zeros(SHAPE, bool)
            scan.by_slice(odd)[1::2] = by_slice[1::2]
            np.testing.assert_array_equal(planes.cut(without, plane, at), view.slices(odd)[at])
        if view.spacing is not None:
            others = [planes.spacing[k] for k in range(3) if k != plane]
            assert sorted(view.spacing) == sorted(others)


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_a_place_is_told_as_the_files_voxel(tmp_path, direction):
    scan = opened(tmp_path, direction, (1.0, 1.0, 4.0))
    planes = Planes(scan)
    for place in (
        (0, 0, 0),
        tuple(size - 1 for size in planes.shape),
        tuple(size // 2 for size in planes.shape),
    ):
        i, j, k = (
            planes.shape[axis] - 1 - place[axis] if flipped else place[axis]
            for axis, flipped in planes.voxels()
        )
        assert scan.volume.array[k, j, i] == planes.values[place]


def test_values_that_are_no_integers_come_close(tmp_path):
    values = RNG.normal(0, 1e-3, SHAPE).astype(np.float32)
    scan = read_upright(write_itk(tmp_path / "a.mha", values, (1.0, 1.0, 4.0)), "a.mha")
    planes = Planes(scan)
    low, step = planes.coding()
    shown = low + step * planes.image(0, 1, (low, step))
    np.testing.assert_allclose(shown, planes.values[1], atol=np.ptp(values) / 2**16)


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_packed_masks_tell_their_rows_columns_and_size(height, width, random):
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    other = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    bits = Bits.of(mask)
    assert bits.count == mask.sum()
    for y in range(height):
        np.testing.assert_array_equal(bits.line("row", y), mask[y])
    for x in range(width):
        np.testing.assert_array_equal(bits.line("column", x), mask[:, x])
    np.testing.assert_array_equal(bits.without(Bits.of(other)).mask, mask & ~other)
