"""Objects that are no blobs: sets in the table, walls, and the traits and plans that make them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label as pieces

from synthfm.data.console import InputError
from synthfm.data.folder import check_sample
from synthfm.data.shards import object_masks
from synthfm.generator.canvas import outlines, shapes, slender
from synthfm.generator.config import load_config
from synthfm.generator.look.appearance import draw_look
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.objects import RING, _ring_statistics, _seen, tabulate
from synthfm.generator.scene import make_sample
from synthfm.generator.volume import make_volume

OFF = ("scatter_share", "ragged_share", "wall_share", "zones_share", "hollow_share", "group_share")


@pytest.fixture(scope="module")
def samples():
    config = load_config("objects", size=96)
    return [make_sample(config, 3, k) for k in range(60)]


def test_samples_are_sound_and_hold_sets(samples):
    assert [check_sample(sample) for sample in samples] == [None] * len(samples)
    assert np.mean([sample.objects.is_set.any() for sample in samples]) > 0.4


def test_a_set_is_made_of_other_objects_and_no_other_object_is_the_same(samples):
    for sample in samples:
        objects, masks = sample.objects, object_masks(sample.label, sample.objects)
        assert len({mask.tobytes() for mask in masks[objects.is_set]}) == objects.is_set.sum()
        plain = {mask.tobytes() for mask in masks[~objects.is_set]}
        for row in np.flatnonzero(objects.is_set):
            assert masks[row].tobytes() not in plain
            assert objects.label[row] not in sample.label
            if objects.parent[row]:
                above = masks[np.flatnonzero(objects.label == objects.parent[row])[0]]
                assert not (masks[row] & ~above).any()


@pytest.mark.parametrize("preset", ["full", "mild"])
def test_presets_that_were_there_have_none_of_it(preset):
    config = load_config(preset)
    assert not any(getattr(config.shapes, name) for name in OFF)
    new = {"angiogram", "capillaries", "cells", "teeth", "rows", "gyri", "cord", "walls"}
    for name in ("generic", "CT", "MR", "US", "XR"):
        assert not any(share for plan, share in zip(*config.plans(name).items(), strict=True) if plan in new)


def scene_of(canvas_of, **keys):
    canvas = canvas_of(128, seed=4, **keys)
    first = canvas.put("ellipse", (-0.5, 0), 0.3, tissue="organ")
    second = canvas.put("ellipse", (0.5, 0), 0.3, tissue="organ")
    inner = canvas.put("ellipse", (-0.5, 0), 0.1, parent=first, tissue="fluid")
    return canvas, first, second, inner


def table_of_scene(canvas):
    """The table of a canvas's objects in an image in which each number is a grey value."""
    config, rng = load_config(size=128), np.random.default_rng(0)
    canvas.section.groups = tuple(canvas.groups)
    image = (canvas.section.region * 60).astype(np.uint8)
    return tabulate(canvas.section, image, image.astype(np.float32) / 255, config.prompts, rng)


def test_a_group_is_the_union_of_its_regions_with_all_that_lies_in_them(canvas_of):
    canvas, first, second, _ = scene_of(canvas_of)
    canvas.group("pair", [first, second])
    label, objects = table_of_scene(canvas)
    masks = object_masks(label, objects)
    assert objects.family.tolist() == ["ellipse", "ellipse", "ellipse", "pair"]
    assert np.array_equal(masks[3], masks[0] | masks[1])
    assert objects.parent[3] == 0
    assert objects.area[3] == masks[3].sum()


def test_an_object_without_what_lies_in_it_is_a_part_of_it(canvas_of):
    canvas, first, _, inner = scene_of(canvas_of)
    canvas.group("hollow", [first], [inner])
    label, objects = table_of_scene(canvas)
    masks = object_masks(label, objects)
    assert np.array_equal(masks[3], masks[0] & ~masks[2])
    assert objects.parent[3] == objects.label[0]


def test_what_is_one_object_already_or_misses_some_of_its_kind_is_no_set(canvas_of):
    canvas, first, second, inner = scene_of(canvas_of)
    plain = canvas.put("ellipse", (0, 0.7), 0.2, tissue="organ", labelled=0.0)
    canvas.group("alone", [first])
    canvas.group("same", [first, inner])  # what the first is
    canvas.group("some", [first, second, plain])
    canvas.group("nothing", [None, None])
    _, objects = table_of_scene(canvas)
    assert not objects.is_set.any()


def test_regions_of_a_group_look_alike(canvas_of):
    canvas, first, second, _ = scene_of(canvas_of)
    config = load_config("mr", ["boundary.low_contrast_share=0"], size=128)
    apart = {False: [], True: []}
    for alike in apart:
        canvas.groups.clear()
        canvas.group("pair", [first, second], alike=alike)
        canvas.section.groups = tuple(canvas.groups)
        for seed in range(30):
            rng = np.random.default_rng(seed)
            look = draw_look(canvas.section, MODALITIES["MR"].draw_palette(rng, False), config, rng)
            apart[alike].append(abs(look.mean[first] - look.mean[second]))
            if alike:
                assert look.kind[first] == look.kind[second]
    assert np.mean(apart[True]) < 0.3 * np.mean(apart[False])


@pytest.mark.parametrize("thickness", [0.05, 0.1])
def test_a_wall_is_all_within_its_thickness_of_the_outline_and_the_frame_is_none(canvas_of, thickness):
    canvas = canvas_of(128)
    number = canvas.put("star", (-0.9, 0.1), 0.6, tissue="organ")  # the frame cuts it
    wall = canvas.wall(number, thickness, "fluid")
    whole, ring = (
        canvas.section.region == wall,
        np.isin(canvas.section.region, [number, wall]),
    )[::-1]
    padded = np.pad(whole, 1, mode="edge")
    away = ndimage.distance_transform_edt(padded)[1:-1, 1:-1]
    assert np.array_equal(ring, whole & (away <= thickness * 64))
    assert canvas.regions[wall].parent == number


def test_an_opening_is_the_part_of_a_wall_in_its_direction(canvas_of):
    canvas = canvas_of(96)
    number = canvas.put("ellipse", (0.1, 0), 0.5)
    whole, opened = (canvas.section.shell(number, 4.0, at).mask for at in ((0.0, 0.0), (0.6, 0.5)))
    middle = np.argwhere(canvas.regions[number].mask).mean(0)
    rows, columns = np.nonzero(whole)
    away = np.arctan2(rows - middle[0], columns - middle[1]) - 0.6
    assert 0.05 < np.mean(np.abs(away) < 0.5) < 0.4
    assert np.array_equal(opened[rows, columns] == 0, np.abs(away) < 0.5)


def count(samples, *families):
    return sum(int(np.isin(sample.objects.family, families).sum()) for sample in samples)


@pytest.mark.parametrize(
    ("key", "plan", "families"),
    [
        ("wall_share", "abdomen", ("shell", "inside")),
        ("zones_share", "abdomen", ("rim", "core")),
        ("hollow_share", "head", ("hollow",)),
        ("group_share", "abdomen", ("kidneys", "muscles", "lesions", "bowel", "ribs")),
    ],
)
def test_a_share_of_one_makes_objects_that_none_does_not(key, plan, families):
    none, every = (
        [make_sample(load_config("ct", [*_plan("CT", plan), f"shapes.{key}={share}"], size=96), 5, k)
         for k in range(8)]
        for share in (0, 1)
    )  # fmt: skip
    assert count(none, *families) == 0
    assert count(every, *families) >= 6


def _plan(modality, plan):
    names, _ = load_config().plans(modality).items()
    return [f"shapes.plans.{modality}.{name}={int(name == plan)}" for name in names]


def test_scattered_objects_are_of_more_pieces(section_of):
    pieces_of = {}
    for share in (0, 1):
        config = load_config("mr", [f"shapes.scatter_share={share}"], size=128)
        sections = [section_of(config, "MR", "free", np.random.default_rng(k)) for k in range(8)]
        found = [pieces(r.mask).max() for s in sections for r in s.regions.values() if r.is_object]
        pieces_of[share] = np.mean(found)
    assert pieces_of[1] > 1.3 * pieces_of[0]


def test_ragged_outlines_are_longer_around_about_the_same_area():
    rng = np.random.default_rng(2)
    for family in ("ellipse", "star", "bent"):
        longer = []
        for _ in range(6):
            shape = shapes.draw(family, rng)
            both = (shape, slender.ragged(shape, rng, 0.06))
            steps = [np.diff(one.points, axis=0, append=one.points[:1]) for one in both]
            longer.append(np.divide(*(np.hypot(*step.T).sum() for step in steps[::-1])))
            masks = [outlines.rasterise(outlines.place(one, (100, 100), 60), 200)[0] for one in both]
            assert int(masks[1].sum()) == pytest.approx(int(masks[0].sum()), rel=0.3)
        assert np.mean(longer) > 1.15


def test_what_is_no_single_outline_stays_as_it_is_where_it_would_be_ragged():
    rng = np.random.default_rng(0)
    for family in ("blob", "ring"):
        shape = shapes.draw(family, rng)
        assert slender.ragged(shape, rng, 0.1) is shape


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_vessel_tree_tapers_and_is_nowhere_thinner_than_asked(seed):
    rng = np.random.default_rng(seed)
    branches = slender.vessel_tree(rng, (0.0, 0.0), 0.0, 1.0, 0.08, 0.01)
    assert 1 <= len(branches) <= 70
    assert np.allclose(branches[0][0][0], 0)
    for path, radius in branches:
        assert len(path) == len(radius)
        assert radius.min() >= 0.01 - 1e-12
        assert radius[0] >= radius[-1] - 1e-12
        assert radius.max() <= 0.08


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_butterflies_jaws_and_teeth_are_one_piece(seed):
    rng = np.random.default_rng(seed)
    for shape in (
        slender.butterfly(rng),
        slender.jaw(rng, True)[0],
        slender.jaw(rng, False)[0],
        slender.tooth(rng),
    ):
        mask, _, _ = outlines.rasterise(outlines.place(shape, (150, 150), 100), 300)
        sizes = np.bincount(pieces(mask, connectivity=2).ravel())[1:]
        assert sizes.max() > 0.98 * sizes.sum()


def test_thin_lines_in_noise_must_be_seen_by_a_stretch_of_them():
    rng = np.random.default_rng(0)
    line = np.zeros((96, 96), bool)
    line[20:80:12] = True
    away = (ndimage.distance_transform_edt(~line) ** 2).astype(np.int32)
    numbers = np.zeros((96, 96), np.uint8)
    for step, thin, wide in ((12, False, True), (60, True, True)):
        image = np.clip(100 + 20 * rng.standard_normal((96, 96)) + step * line, 0, 255).astype(np.uint8)
        statistics = _ring_statistics(image, line, away, numbers, RING, 255)
        assert _seen(image, line, away, numbers, statistics, True) is thin
        assert _seen(image, line, away, numbers, statistics, False) is wide


@pytest.mark.parametrize(
    "plan", ["angiogram", "capillaries", "cells", "teeth", "rows", "gyri", "cord", "walls"]
)
def test_a_plan_shows_the_kind_that_it_is_for(plan):
    wanted = {
        "angiogram": ("vessels",), "capillaries": ("net",), "cells": ("cells", "nuclei", "bodies", "hollow"),
        "teeth": ("teeth", "upper teeth", "lower teeth"), "rows": ("row",), "gyri": ("cortex",),
        "cord": ("butterfly",), "walls": ("walls", "lumen", "sheet"),
    }[plan]  # fmt: skip
    config = load_config("objects", [*_plan("generic", plan), *_only("generic")], size=128)
    made = [make_sample(config, 1, k) for k in range(8)]
    assert count(made, *wanted) >= 3
    if plan in ("angiogram", "teeth", "rows"):
        assert any((sample.objects.is_set & np.isin(sample.objects.family, wanted)).any() for sample in made)


def _only(modality):
    return [f"modality.{name}={int(name == modality)}" for name in load_config().modality.items()[0]]


def test_volumes_of_the_preset_are_no_projections():
    config = load_config("objects", ["volume.depth=4"], size=64)
    shares = dict(zip(*config.modality_weights(), strict=True))
    assert shares["XR"] == 0
    assert shares["MR"] > 0
    with pytest.raises(InputError, match=r"projections \(XR\)"):
        load_config("objects", ["volume.depth=4", *_only("XR")])


def test_volumes_of_the_preset_are_sound_and_have_sets_and_walls():
    config = load_config("objects", ["volume.depth=6", *_only("MR")], size=64)
    volumes = [make_volume(config, 2, number) for number in range(6)]
    every = [sample for volume in volumes for sample in volume]
    assert [check_sample(sample) for sample in every] == [None] * len(every)
    assert sum(int(sample.objects.is_set.sum()) for sample in every) > 10
    assert count(every, "shell", "wall", "rim") > 10
