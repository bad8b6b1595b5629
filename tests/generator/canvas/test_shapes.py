"""Shape families, outlines and their raster."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.draw import polygon2mask
from skimage.measure import label as pieces

from synthfm.data.distance import bounds, squared_distance
from synthfm.generator.canvas import outlines, shapes
from synthfm.generator.look.appearance import _draw_rim
from synthfm.generator.raster import kernels

SEEDS = st.integers(0, 2**32)


def raster(shape, size):
    mask, top, left = outlines.rasterise(shape, size)
    full = np.zeros((size, size), np.uint8)
    full[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return full


def draw(family, seed, size=96, radius=30.0):
    rng = np.random.default_rng(seed)
    shape = shapes.make(family, shapes.FAMILIES[family].draw(rng))
    return raster(outlines.place(shape, (size / 2, size / 2), radius, rng.uniform(0, 6)), size)


@pytest.mark.parametrize("family", shapes.FAMILIES)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_every_family_draws_a_shape_of_its_size(family, seed):
    mask = draw(family, seed)
    assert mask.sum() > 30
    x0, y0, x1, y1 = bounds(mask)
    assert max(x1 - x0, y1 - y0) > 18
    assert mask[0].sum() + mask[-1].sum() < 96, "far larger than its radius"


# A blob's and a tree's raster may fall into pieces where it is thin: the layout keeps the largest.
@pytest.mark.parametrize("family", sorted(set(shapes.FAMILIES) - {"pair", "blob", "tree"}))
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_families_are_one_piece_where_they_promise_it(family, seed):
    mask = draw(family, seed, size=272, radius=70.0)  # an outline reaches to 1.8 radii: no frame may cut it
    sizes = np.bincount(pieces(mask, connectivity=2).ravel())[1:]
    assert sizes.max() > 0.98 * sizes.sum()


def test_a_pair_is_two_mirrored_halves():
    shape = shapes.make("pair", {"half": {"aspect": 0.5, "bend": 0.4, "taper": 0.0, "hilum": 0.0},
                                 "distance": 1.6, "tilt": 0.2, "unequal": 1.0})  # fmt: skip
    mask = raster(outlines.place(shape, (63.5, 63.5), 50), 128)
    assert pieces(mask).max() == 2
    assert np.mean(mask != mask[:, ::-1]) < 0.01


def test_a_ring_has_a_hole_and_an_arc_has_none():
    ring = draw("ring", 1)
    assert ndimage.binary_fill_holes(ring).sum() > ring.sum()
    arc = draw("arc", 1)
    assert ndimage.binary_fill_holes(arc).sum() == arc.sum()


@pytest.mark.parametrize("family", shapes.FAMILIES)
def test_shapes_are_pure_functions_of_their_parameters(family):
    parameters = shapes.FAMILIES[family].draw(np.random.default_rng(2))
    first, second = shapes.make(family, parameters), shapes.make(family, parameters)
    placed = [raster(outlines.place(s, (40, 40), 25, 0.3), 80) for s in (first, second)]
    assert np.array_equal(*placed)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_filled_polygons_agree_with_an_independent_raster(seed):
    rng = np.random.default_rng(seed)
    contour = shapes.star(**shapes.draw_star(rng))[0][0] * rng.uniform(4, 40) + rng.uniform(5, 55, 2)
    ours = raster(outlines.Shape("star", points=contour, starts=np.array([0, len(contour)])), 64)
    reference = polygon2mask((64, 64), contour[:, ::-1])
    assert np.count_nonzero(ours != reference) <= 2  # centres that lie on the outline


def test_overlapping_parts_unite_whatever_their_orientation():
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]])
    shape = outlines.from_parts("x", [[square], [(square + 0.5)[::-1]]])
    mask = raster(outlines.place(shape, (30, 30), 10), 64)
    assert mask[33, 33] == 1
    assert pieces(mask).max() == 1


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS)
def test_keep_largest_keeps_the_largest_piece(seed):
    rng = np.random.default_rng(seed)
    mask = (rng.random(rng.integers(1, 40, 2)) < rng.uniform(0.2, 0.9)).astype(np.uint8)
    numbered = pieces(mask, connectivity=1)
    sizes = np.bincount(numbered.ravel(), minlength=2)[1:]
    area = kernels.keep_largest(mask)
    assert area == sizes.max() == mask.sum()
    assert (numbered[mask > 0] == numbered[mask > 0].max(initial=0)).all() if area else True


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, gap=st.integers(0, 4))
def test_restrict_keeps_what_is_free_and_far_from_any_other_region(seed, gap):
    rng = np.random.default_rng(seed)
    region = np.where(rng.random((20, 24)) < rng.choice([0.6, 0.97, 1]), 3, rng.choice([0, 7])).astype(
        np.uint8
    )
    top, left = rng.integers(0, 10, 2)
    mask = (rng.random(rng.integers(1, 10, 2)) < 0.8).astype(np.uint8)
    away = np.full(region.shape, 99.0)
    if (region != 3).any():
        away = ndimage.distance_transform_edt(region == 3)
    window = away[top : top + mask.shape[0], left : left + mask.shape[1]]
    expected = (mask > 0) & (window > gap)
    assert kernels.restrict(mask, region, top, left, 3, gap) == expected.sum()
    assert np.array_equal(mask > 0, expected)


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS)
def test_a_rim_lies_within_its_width_of_the_outline(seed):
    rng = np.random.default_rng(seed)
    mask = (rng.random(rng.integers(1, 16, 2)) < 0.9).astype(np.uint8)
    top, left = rng.integers(0, 21 - np.array(mask.shape))
    width = rng.uniform(1, 4)
    whole = np.zeros((20, 20), bool)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask > 0
    level = np.zeros((20, 20), np.float32)
    _draw_rim(level, mask, top, left, 1.0, width, np.ones((20, 20), np.float32))
    assert np.array_equal(level > 0, whole & (ndimage.distance_transform_edt(whole) <= width))


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS, frame=st.booleans())
def test_distances_are_exact(seed, frame):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 90, 2)) < rng.choice([0.3, 0.8, 0.97, 0.9995])
    if frame:
        reference = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    elif mask.all():
        return
    else:
        reference = ndimage.distance_transform_edt(mask)
    squared = np.rint(reference**2)
    assert np.array_equal(squared_distance(mask, frame), squared)
    for reach in (1, 3, 8, 40):
        found, near = squared_distance(mask, frame, reach), squared <= reach**2
        assert np.array_equal(found[near], squared[near])
        assert (found[~near] > reach**2).all()


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 3.5])
def test_edge_width_measures_the_blur_of_a_step(sigma):
    """A blurred step of height 1 has slope 1 / (sigma sqrt(2 pi)) in its middle."""
    y, x = np.mgrid[:96, :96]
    mask = (np.hypot(x - 48, y - 48) < 28).astype(np.uint8)
    image = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    width = kernels.edge_width(mask, image, 0, 0, 8, 0.01)
    # Slopes are differences over one pixel, and a disc's profile is not quite a step's.
    assert width == pytest.approx(max(1.0, sigma * np.sqrt(2 * np.pi)), rel=0.2)


def test_an_edge_that_is_not_there_has_the_full_width():
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 1
    assert kernels.edge_width(mask, np.full((64, 64), 0.5, np.float32), 0, 0, 6, 0.01) == 12
