"""Objects on the canvas: borders, gaps, pieces, outlines beside the edges, patches, views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from skimage.measure import label as pieces

from synthfm.data.folder import check_sample
from synthfm.data.shards import object_masks
from synthfm.generator import scene
from synthfm.generator.canvas import shapes
from synthfm.generator.canvas.annotation import LARGEST, move_outlines
from synthfm.generator.canvas.layout import Canvas
from synthfm.generator.canvas.section import OUTSIDE, Patch, Section, Structure, paint
from synthfm.generator.canvas.view import View, draw_displacement
from synthfm.generator.config import GeneratorConfig, load_config
from synthfm.generator.look.appearance import render
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.objects import contrast, tabulate
from synthfm.generator.plans import projection, ultrasound
from synthfm.generator.plans.tools import PLANS
from synthfm.generator.scene import make_sample


def test_contrast_is_the_difference_over_the_pooled_noise():
    assert contrast((120.0, 16.0, 100.0, 16.0)) == pytest.approx(5, rel=0.01)
    assert contrast((100.0, 9.0, 100.0, 25.0)) == 0


def test_neighbours_share_a_border_or_keep_the_gap(canvas_of):
    for spacing in (0, 3):
        canvas = canvas_of(spacing=spacing)
        first = canvas.put(shapes.oval(), (-0.3, 0.0), 0.4)
        second = canvas.put(shapes.oval(), (0.2, 0.0), 0.4)
        y1, x1 = np.nonzero(canvas.section.region == first)
        y2, x2 = np.nonzero(canvas.section.region == second)
        nearest = np.sqrt(((y1[:, None] - y2) ** 2 + (x1[:, None] - x2) ** 2).min())
        assert nearest == 1 if spacing == 0 else spacing < nearest < spacing + 1.5


def test_a_region_never_leaves_its_parent(canvas_of):
    canvas = canvas_of()
    organ = canvas.put(shapes.oval(), (0, 0), 0.5)
    lesion = canvas.put("star", (0.45, 0), 0.3, parent=organ)
    inside = canvas.regions[organ]
    y, x = np.nonzero(canvas.section.region == lesion)
    assert lesion
    assert inside.mask[y - inside.top, x - inside.left].all()


def test_nothing_is_placed_in_what_was_not(canvas_of):
    canvas = canvas_of()
    organ = canvas.put(shapes.oval(), (9, 9), 0.5)  # beyond the frame
    assert organ is None
    assert canvas.put(shapes.oval(), (0, 0), 0.3, parent=organ) is None
    canvas.lesions(organ, 5.0)
    assert canvas.fill(organ, 3, ("ellipse",), ("soft",), (0.1, 0.3)) == []
    assert canvas.regions == {}
    assert not canvas.section.region.any()


def test_a_lesion_that_infiltrates_is_one_object_around_darker_parts(canvas_of):
    for seed in range(20):
        canvas = canvas_of()
        canvas.rng = np.random.default_rng(seed)
        ultrasound._infiltrating(canvas, (0.0, 0.0), 0.5)
        lesion, *parts = canvas.regions.values()
        assert lesion.is_object
        assert parts
        assert not any(part.is_object for part in parts)
        shown = np.isin(canvas.section.region, [region.number for region in canvas.regions.values()])
        assert np.count_nonzero(shown) == np.count_nonzero(lesion.mask)
        assert np.count_nonzero(canvas.section.region == lesion.number) > 0.1 * np.count_nonzero(shown)


def test_objects_in_two_pieces():
    """With `pieces_share` some objects have a second piece; without it next to none has."""
    size, found = 128, {0.0: 0, 0.5: 0}
    for share in found:
        config = load_config("mild", [f"shapes.pieces_share={share}"], size=size)
        for seed in range(16):
            sample = make_sample(config, 3, seed)
            assert check_sample(sample) is None
            for mask in object_masks(sample.label, sample.objects):
                areas = np.sort(np.bincount(pieces(mask, connectivity=1).ravel())[1:])
                found[share] += len(areas) > 1 and areas[-2] > 0.03 * areas[-1]
    assert found[0.5] > 2 * found[0.0] + 5, found


def test_a_second_piece_lies_apart_and_belongs_to_the_region():
    view = View(60, (0.0, 0.0), 0.0, 1, 128, draw_displacement(np.random.default_rng(0), 128, 0.0))
    canvas = Canvas(Section(view), np.random.default_rng(0))
    ground = canvas.put("ellipse", (0, 0), 0.95, tissue="fat", labelled=0)
    number = canvas.put("ellipse", (-0.4, 0), 0.2, parent=ground)
    before = np.count_nonzero(canvas.section.region == number)
    assert not canvas.extend(number, "ellipse", (3.0, 0), 0.2)  # beyond the frame
    assert canvas.extend(number, "ellipse", (0.4, 0), 0.2)
    region, shown = canvas.regions[number], canvas.section.region == number
    assert pieces(shown, connectivity=2).max() == 2
    assert np.count_nonzero(shown) > 1.3 * before
    height, width = region.mask.shape
    window = shown[region.top : region.top + height, region.left : region.left + width]
    assert np.array_equal(window, region.mask != 0)
    assert np.count_nonzero(window) == np.count_nonzero(shown)


@pytest.fixture
def two_that_touch(canvas_of):
    """A canvas with two objects that touch, and a lesion in one of them."""
    canvas = canvas_of()
    ground = canvas.put("ellipse", (0, 0), 0.9, tissue="fat", labelled=0)
    canvas.put("ellipse", (0.55, 0), 0.15, parent=ground, tissue="soft", labelled=0)  # no object
    left = canvas.put("ellipse", (-0.2, 0), 0.4, parent=ground)
    right = canvas.put("ellipse", (0.2, 0), 0.4, parent=ground)
    lesion = canvas.put("ellipse", (-0.45, 0), 0.12, parent=left)
    assert all((left, right, lesion))
    return canvas, left, right, lesion


def test_no_outline_moves_in_until_too_little_is_left(two_that_touch):
    canvas, left, _, lesion = two_that_touch
    before = np.count_nonzero(canvas.regions[lesion].mask)
    canvas.section.min_area = before
    move_outlines(canvas.section, -1.0)
    assert np.count_nonzero(canvas.regions[lesion].mask) == before
    assert np.count_nonzero(canvas.regions[left].mask) > before


@pytest.mark.parametrize("by", [3.0, -3.0])
def test_outlines_move_outward_or_inward(by, two_that_touch):
    canvas, left, right, lesion = two_that_touch
    numbers = (left, right, lesion)
    before = {n: _shown_with_parts(canvas, n) for n in numbers}
    soft = next(r.number for r in canvas.regions.values() if r.tissue == "soft")
    loose = canvas.section.region == soft
    move_outlines(canvas.section, by)
    assert (canvas.section.region[loose] == right).any() == (by > 0)  # grown over what is no object
    after = {n: _shown_with_parts(canvas, n) for n in numbers}
    for n in numbers:
        region = canvas.regions[n]
        height, width = region.mask.shape
        window = after[n][region.top : region.top + height, region.left : region.left + width]
        assert np.array_equal(window, region.mask != 0)
        assert window.sum() == after[n].sum()
        larger, smaller = (after[n], before[n]) if by > 0 else (before[n], after[n])
        assert np.all(larger | ~smaller)
        assert larger.sum() > smaller.sum()
        moved = larger & ~smaller
        reach = min(3, LARGEST * distance_transform_edt(before[n]).max())
        away = distance_transform_edt(~before[n] if by > 0 else before[n])
        assert away[moved].max() <= reach
    assert not (after[left] & after[right]).any()  # neighbours keep their border
    assert np.all(after[left] | ~after[lesion])


def _drawn(canvas_of, parts):
    """A canvas of 64 pixels with regions of the given (mask, parent, is_object)."""
    canvas = canvas_of(64)
    for mask, parent, is_object in parts:
        structure = Structure(len(canvas.regions) + 1, parent, "x", "soft", is_object, least=0.0)
        assert canvas.section.add(structure, Patch(mask.astype(np.uint8), 0, 0, np.count_nonzero(mask)))
    return canvas


@pytest.mark.parametrize("case", ["over a wall", "at a neck", "at a neck before a lesion"])
def test_outlines_that_move_tear_no_object(case, canvas_of):
    y, x = np.mgrid[:64, :64]
    left, right = (np.hypot(y - 32, x - 18) < 12), (np.hypot(y - 32, x - 46) < 9)
    if case == "over a wall":  # a thin object between the grown one and free ground
        parts = [(left, 0, True), ((x >= 30) & (x < 32), 0, True)]
    else:
        parts = [(left | right | ((abs(y - 32) < 2) & (x > 18) & (x < 46)), 0, True)]
        parts += [(np.hypot(y - 32, x - 46) < 4, 1, True)] * (case == "at a neck before a lesion")
    canvas = _drawn(canvas_of, parts)
    before = canvas.regions[1].mask.copy(), canvas.section.region.copy()
    move_outlines(canvas.section, 2.2 if case == "over a wall" else -2.2)
    region = canvas.regions[1]
    assert pieces(region.mask, connectivity=1).max() == 1
    whole = np.zeros((64, 64), bool)
    height, width = region.mask.shape
    whole[region.top : region.top + height, region.left : region.left + width] = region.mask > 0
    numbers = [r.number for r in canvas.regions.values() if r.number == 1 or r.parent == 1]
    assert np.array_equal(np.isin(canvas.section.region, numbers), whole)
    if case == "at a neck before a lesion":
        assert np.array_equal(whole, before[0])
    else:
        assert not np.array_equal(whole, before[1] == 1)


def _shown_with_parts(canvas, number):
    """What a region shows, and what lies in it."""
    inside = {number} | {r.number for r in canvas.regions.values() if r.parent == number}
    return np.isin(canvas.section.region, list(inside))


def test_outlines_beside_the_edges_leave_the_image():
    plain = load_config("us", size=128)
    moved = load_config("us", ["boundary.margin_share=1", "boundary.margin=[10, 14]"], size=128)
    changed = 0
    for seed in range(6):
        one, other = make_sample(plain, 4, seed), make_sample(moved, 4, seed)
        assert check_sample(other) is None
        assert np.array_equal(one.image, other.image)
        changed += (one.label != other.label).any()
    assert changed >= 5


def test_black_patches_cover_parts_of_an_image():
    plain, covered = (
        load_config("us", [f"acquisition.US.covered_share={share}"], size=128) for share in (0, 1)
    )
    for seed in range(6):
        one, other = make_sample(plain, 4, seed), make_sample(covered, 4, seed)
        assert check_sample(other) is None
        hidden = one.image != other.image
        assert hidden.any()
        assert not other.image[hidden].any()


@pytest.mark.parametrize(
    ("preset", "settings"), [("us", []), ("ct", ["acquisition.CT.circle_share=1"])], ids=["US", "CT"]
)
def test_nobody_clicks_beyond_the_field_of_view(preset, settings, monkeypatch):
    seen = []

    def record(section, *arguments):
        seen.append(section.region != OUTSIDE)
        return tabulate(section, *arguments)

    monkeypatch.setattr(scene, "tabulate", record)
    config = load_config(preset, settings, size=96)
    for seed in range(25):
        objects = make_sample(config, 3, seed).objects
        x, y = objects.points[objects.point_labels == 0].T
        assert seen[-1][y, x].all()
    assert not all(field.all() for field in seen)


@pytest.mark.parametrize("plan", PLANS)
def test_a_scene_painted_anew_is_what_was_painted_while_it_was_drawn(plan):
    traits = ["shapes.pieces_share=0.5", "shapes.two_tissue_share=0.5", "acquisition.CT.circle_share=0.5"]
    config = load_config("full", traits, size=96)
    modality = "US" if PLANS[plan].probes else "CT"
    for seed in range(12):
        rng = np.random.default_rng(seed)
        drawn, section, _ = scene.draw_scene(config, MODALITIES[modality], PLANS[plan], rng)
        again = paint(drawn)
        assert np.array_equal(again.region, section.region)
        assert again.regions.keys() == section.regions.keys()
        for number, region in section.regions.items():
            other = again.regions[number]
            assert (other.family, other.tissue, other.parent) == (region.family, region.tissue, region.parent)
            assert (other.box, other.is_object) == (region.box, region.is_object)
            assert np.array_equal(other.mask, region.mask)
        assert (again.density is None) == (section.density is None)
        assert section.density is None or np.array_equal(again.density, section.density)


def test_a_family_shape_knows_its_parameters(canvas_of):
    canvas = canvas_of()
    canvas.put("bent", (0, 0), 0.5)
    shape = canvas.scene().placements[0].shape
    assert np.array_equal(shapes.make("bent", shape.parameters).points, shape.points)


def test_partitions_tile_their_region(canvas_of):
    canvas = canvas_of()
    ground = canvas.put(shapes.oval(), (0, 0), 0.9, labelled=0.0)
    cells = canvas.partition(ground, 12, ("soft", "fat"), 1.0)
    whole = np.count_nonzero(canvas.regions[ground].mask)
    assert len(cells) >= 8
    assert np.isin(canvas.section.region, cells).sum() > 0.85 * whole


def test_views_are_inverse_to_themselves():
    view = View(40.0, (0.2, -0.1), 0.7, -1, 128, np.zeros((2, 33, 33), np.float32))
    assert view.to_anatomy(*view.to_pixels(0.3, -0.6)) == pytest.approx((0.3, -0.6))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), at=st.tuples(*[st.floats(0, 255)] * 2))
def test_what_is_placed_at_a_pixel_lies_at_it_after_the_deformation(seed, at):
    rng = np.random.default_rng(seed)
    size, most = 256, GeneratorConfig().shapes.deformation[1]
    view = View(
        scale=rng.uniform(50, 400), focus=(rng.normal(), rng.normal()), angle=rng.uniform(0, 6), size=size,
        mirror=int(rng.choice([-1, 1])), displacement=draw_displacement(rng, size, most),
    )  # fmt: skip
    x, y = view.to_anatomy(*at)
    found = view.deform(np.array([view.to_pixels(x, y)]))[0]
    assert np.hypot(*(found - at)) < 0.01  # pixels
    x, y = view.to_anatomy(int(at[0]), int(at[1]))  # a pixel's own numbers are whole
    found = view.deform(np.array([view.to_pixels(x, y)]))[0]
    assert np.hypot(*(found - np.floor(at))) < 0.01


@pytest.mark.parametrize("seed", range(8))
def test_a_chest_has_two_lungs_with_the_heart_between(seed, canvas_of):
    canvas = canvas_of(192, seed)
    projection.chest(canvas)
    lungs = [region for region in canvas.regions.values() if region.family == "lung"]
    spots = np.zeros((192, 192), bool)
    for region in lungs:
        height, width = region.mask.shape
        spots[region.top : region.top + height, region.left : region.left + width] |= region.mask > 0
    found = pieces(spots)
    assert found.max() == 2  # one object of two pieces, or two objects
    middles = [np.argwhere(found == k)[:, 1].mean() for k in (1, 2)]
    heart = canvas.regions[2].left + np.nonzero(canvas.regions[2].mask)[1].mean()
    assert min(middles) < heart < max(middles)
    assert abs(np.log((found == 1).sum() / (found == 2).sum())) < np.log(3)


def test_densities_of_a_projection_add_to_what_they_cross(canvas_of, look_of):
    canvas = canvas_of(192, 3)
    projection.chest(canvas)
    section = canvas.section
    look = look_of(section, "XR", load_config("xr"), np.random.default_rng(3))
    without = replace(section, density=None)
    without.region = section.region
    added = render(section, look) - render(without, look)
    assert added.min() > -1e-4
    lungs = [region.number for region in canvas.regions.values() if region.family == "lung"]
    inside = np.isin(section.region, lungs)
    assert (added[inside] > 0.01).mean() > 0.2
