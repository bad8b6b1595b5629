"""Samples: what holds for every seed, what the presets promise, and that a seed gives one sample for ever."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from skimage.measure import label as pieces

from data.config import preset_names
from data.console import InputError
from data.folder import check_sample
from data.shards import MODALITIES, object_masks
from generator import plans, plans_ultrasound, scene
from generator.annotation import LARGEST, move_outlines
from generator.config import PRESETS, GeneratorConfig, load_config
from generator.layout import Canvas, View, draw_displacement
from generator.objects import DETECTABLE, LEAST_CONTRAST, contrast
from generator.scene import make_sample
from generator.shapes import FAMILIES

GOLDEN = Path(__file__).with_name("generator_golden.json")
ONE_PIECE = {*FAMILIES, "cell", "layer", "vertebra"} - {"pair"}


def fingerprint(sample):
    """Hash of label map and table, and the image's means in 4 by 4 blocks.

    The label map is exact: outlines are computed in float64, and a rounding error moves no pixel unless its
    centre lies on an outline to fifteen digits. The image passes through float32 transcendental functions,
    whose last digit differs between processors, so its block means are compared within a grey level.
    """
    digest = hashlib.sha256(sample.label.tobytes())
    for column in ("label", "parent", "area", "box"):
        digest.update(getattr(sample.objects, column).tobytes())
    digest.update(" ".join(sample.objects.family).encode())
    side = sample.image.shape[0] // 4
    blocks = sample.image.reshape(4, side, 4, side).mean((1, 3))
    return {"modality": sample.modality, "hash": digest.hexdigest(), "blocks": np.round(blocks, 2).tolist()}


@pytest.fixture(scope="module")
def many():
    """Samples of the default preset from some two thousand seeds: nine in ten at 64 pixels, the rest at 96.

    SYNTHFM_SEEDS sets how many.
    """
    count = int(os.environ.get("SYNTHFM_SEEDS", "2000"))
    small, large = load_config(size=64), load_config(size=96)
    samples = [make_sample(small, 1, i) for i in range(count)]
    return samples + [make_sample(large, 2, i) for i in range(count // 9)]


def test_every_sample_is_sound(many):
    for sample in many:
        assert check_sample(sample) is None, (sample.seed, check_sample(sample))
        assert 1 <= len(sample.objects) <= 40
        assert sample.image.dtype == sample.label.dtype == np.uint8


def test_images_use_their_range(many):
    spread = [int(s.image.max()) - int(s.image.min()) for s in many]
    assert min(spread) > 150
    assert np.mean([len(np.unique(s.image)) for s in many]) > 120


def test_measures_are_finite(many):
    for sample in many:
        for column in (sample.objects.contrast, sample.objects.blur, sample.objects.box_loose):
            assert np.isfinite(column).all()
        assert (sample.objects.blur >= 0.9).all()
        assert (sample.objects.blur <= 12).all()


def test_objects_keep_the_families_promises(many):
    for sample in many:
        assert (sample.objects.area >= 16).all()
        masks = object_masks(sample.label, sample.objects)
        for family, mask in zip(sample.objects.family, masks, strict=True):
            if family in ONE_PIECE:
                assert pieces(mask, connectivity=1).max() == 1, (sample.seed, family)


def test_children_lie_in_their_parents_at_most_three_deep(many):
    deepest = 0
    for sample in many:
        masks = dict(zip(sample.objects.label, object_masks(sample.label, sample.objects), strict=True))
        parents = dict(zip(sample.objects.label, sample.objects.parent, strict=True))
        for own, parent in parents.items():
            if parent:
                assert not (masks[own] & ~masks[parent]).any()
                assert masks[own].sum() < masks[parent].sum()
            depth = 0
            while parents[own]:
                own, depth = parents[own], depth + 1
            deepest = max(deepest, depth)
    assert 2 <= deepest <= 3


def test_clicks_come_centre_first_then_positives_then_negatives(many):
    for sample in many[:100]:
        kinds = sample.objects.point_labels
        assert (kinds[:, :5] == 1).all()
        assert (kinds[:, 5:] <= 0).all()
        assert (kinds[:, 5] == 0).mean() > 0.98


def test_nobody_is_asked_for_what_cannot_be_seen(many):
    rows = np.concatenate([s.objects.contrast for s in many])
    area = np.concatenate([s.objects.area for s in many])
    seen = rows >= np.maximum(LEAST_CONTRAST, DETECTABLE / np.sqrt(area)) - 1e-4
    assert seen.mean() > 0.8  # the others differ by their texture
    assert (rows < 0.6).mean() > 0.05, "no object of low contrast is left"


def test_the_mix_is_wide(many):
    modalities = [s.modality for s in many]
    families = np.concatenate([s.objects.family for s in many])
    shares = [s.objects.area.max() / s.label.size for s in many]
    assert all(modalities.count(m) > 40 for m in MODALITIES)
    assert set(families) >= set(FAMILIES) | {"cell"}
    assert max(np.mean(families == f) for f in set(families)) < 0.4
    assert np.quantile(shares, 0.05) < 0.05
    assert np.quantile(shares, 0.95) > 0.5
    assert any((s.objects.box[:, 0] == 0).any() for s in many), "no shape is cut by the frame"


def test_a_sample_depends_on_config_seed_and_index_alone():
    config = load_config(size=64)
    first, again = make_sample(config, 7, 3), make_sample(config, 7, 3)
    assert np.array_equal(first.image, again.image)
    assert fingerprint(first) == fingerprint(again)
    others = [make_sample(config, 7, 4), make_sample(config, 8, 3)]
    assert len({first.seed, *(s.seed for s in others)}) == 3
    assert not any(np.array_equal(first.image, s.image) for s in others)


def test_another_process_with_other_threads_makes_the_same_bytes():
    code = (
        "import hashlib; from generator.scene import make_sample; from generator.config import load_config\n"
        "d = hashlib.sha256()\n"
        "for i in range(12):\n"
        "    s = make_sample(load_config(size=64), 7, i)\n"
        "    for a in (s.image, s.label, s.objects.points, s.objects.contrast, s.objects.box_loose):\n"
        "        d.update(a.tobytes())\n"
        "print(d.hexdigest())"
    )
    seen = set()
    for threads in ("1", "2"):
        environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), threads)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        seen.add(done.stdout or done.stderr)
    assert len(seen) == 1
    assert len(seen.pop().strip()) == 64


@pytest.mark.parametrize("index", range(10))
def test_golden_samples(index):
    """Ten samples are what they were: a change of the generator's output must be meant.

    When it is: ``python tests/test_generator_scene.py`` writes the file anew.
    """
    known = json.loads(GOLDEN.read_text())[index]
    made = fingerprint(make_sample(load_config(size=64), 2025, index))
    assert made["modality"] == known["modality"]
    assert made["hash"] == known["hash"]
    assert np.allclose(made["blocks"], known["blocks"], atol=1.0)


@pytest.mark.parametrize("preset", preset_names(PRESETS))
def test_presets_make_sound_samples(preset):
    config = load_config(preset, size=64)
    samples = [make_sample(config, 3, i) for i in range(12)]
    assert all(check_sample(s) is None for s in samples)
    if preset in ("ct", "mr", "us"):
        assert {s.modality for s in samples} == {preset.upper()}


def test_the_eight_presets_are_there():
    wanted = {"full", "shape_only", "boundary_only", "neither", "ct", "mr", "us", "demo"}
    assert set(preset_names(PRESETS)) >= wanted


def table(preset, *overrides, count=70, size=96):
    config = load_config(preset, overrides, size=size)
    return [make_sample(config, 5, i) for i in range(count)]


def touching_siblings(samples):
    """Pairs of sibling objects that share a border, over all samples."""
    total = 0
    for sample in samples:
        parent = dict(zip(sample.objects.label, sample.objects.parent, strict=True))
        for a, b in ((sample.label[1:], sample.label[:-1]), (sample.label[:, 1:], sample.label[:, :-1])):
            pairs = np.unique(np.stack([a[a != b], b[a != b]]), axis=1).T
            total += sum(bool(x and y and parent[x] == parent[y]) for x, y in pairs)
    return total


def test_the_ablation_presets_mean_what_the_paper_means():
    both, shape, boundary, neither = map(table, ("full", "shape_only", "boundary_only", "neither"))
    for samples in (boundary, neither):
        assert {f for s in samples for f in s.objects.family} == {"ellipse"}
    for samples in (both, shape):
        assert len({f for s in samples for f in s.objects.family}) > 10
    assert touching_siblings(shape) == touching_siblings(neither) == 0
    assert touching_siblings(both) > 60
    assert touching_siblings(boundary) > 60

    def median(samples, column):
        return np.median(np.concatenate([getattr(s.objects, column) for s in samples]))

    assert median(neither, "contrast") > 1.2 * median(boundary, "contrast")
    assert median(shape, "contrast") > median(both, "contrast")
    assert median(boundary, "blur") > median(neither, "blur")
    assert median(both, "blur") > median(shape, "blur")


def test_the_low_contrast_share_shows_in_the_table():
    few, all_ = (
        np.concatenate([s.objects.contrast for s in table("mr", f"boundary.low_contrast_share={share}")])
        for share in (0.0, 1.0)
    )
    assert (all_ < 1).mean() > (few < 1).mean() + 0.06
    assert np.median(all_) < 0.9 * np.median(few)


def test_the_weak_edge_share_shows_in_the_table():
    quiet = (
        "boundary.varying_edge_share=0",
        "boundary.low_contrast_share=0",
        "acquisition.low_resolution_share=0",
    )
    few, all_ = (
        np.concatenate([s.objects.blur for s in table("mr", f"boundary.weak_edge_share={share}", *quiet)])
        for share in (0.0, 1.0)
    )
    assert all_.mean() > few.mean() + 0.2


def test_texture_only_objects_have_their_parents_mean():
    config = load_config("mr", ["texture.texture_only_share=1", "boundary.low_contrast_share=0"], size=96)
    rng = np.random.default_rng(1)
    canvas, _ = scene.lay_out(config, "MR", "free", rng)
    look = scene.draw_look(canvas, "MR", config, rng)
    objects = [r for r in canvas.regions if r.is_object]
    assert objects
    for region in objects:
        assert look.mean[region.number] == look.mean[region.parent]
        assert look.amplitude[region.number] >= 0.05


def test_leaks_carry_an_objects_look_into_its_neighbour():
    quiet = [f"boundary.{key}=0" for key in ("weak_edge_share", "varying_edge_share", "capsule_share")]
    config = load_config("boundary_only", ["boundary.leak_share=1", *quiet], size=128)
    leaks = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        canvas, _ = scene.lay_out(config, "MR", "ellipses", rng)
        look, before = scene.draw_look(canvas, "MR", config, rng), canvas.region.copy()
        without = scene.render(canvas, replace(look, leaks=()))
        changed = np.abs(scene.render(canvas, look) - without) > 0.01
        assert np.array_equal(canvas.region, before)
        assert changed.mean() < 0.15
        for leak in look.leaks:
            x, y = (round((2 * a + b) / 3) for a, b in zip(leak.start, leak.end, strict=True))
            inside = 0 <= x < 128 and 0 <= y < 128
            if (
                inside
                and before[y, x] == leak.into
                and abs(np.diff(look.mean[[leak.number, leak.into]])) > 0.1
            ):
                leaks += 1
                assert changed[y, x]
    assert leaks >= 5
    none = load_config("boundary_only", ["boundary.leak_share=0"], size=128)
    assert not scene.draw_look(canvas, "MR", none, rng).leaks


def test_contrast_is_the_difference_over_the_pooled_noise():
    assert contrast((120.0, 16.0, 100.0, 16.0)) == pytest.approx(5, rel=0.01)
    assert contrast((100.0, 9.0, 100.0, 25.0)) == 0


def canvas_of(size=128, seed=0, **keys):
    rng = np.random.default_rng(seed)
    view = View(size / 2, (0.0, 0.0), 0.0, 1, size, draw_displacement(rng, size, 0.0))
    return Canvas(view=view, rng=rng, **keys)


def test_neighbours_share_a_border_or_keep_the_gap():
    for spacing in (0, 3):
        canvas = canvas_of(spacing=spacing)
        first = canvas.put(plans.oval(), (-0.3, 0.0), 0.4)
        second = canvas.put(plans.oval(), (0.2, 0.0), 0.4)
        y1, x1 = np.nonzero(canvas.region == first)
        y2, x2 = np.nonzero(canvas.region == second)
        nearest = np.sqrt(((y1[:, None] - y2) ** 2 + (x1[:, None] - x2) ** 2).min())
        assert nearest == 1 if spacing == 0 else spacing < nearest < spacing + 1.5


def test_a_region_never_leaves_its_parent():
    canvas = canvas_of()
    organ = canvas.put(plans.oval(), (0, 0), 0.5)
    lesion = canvas.put("star", (0.45, 0), 0.3, parent=organ)
    inside = canvas.regions[organ - 1]
    y, x = np.nonzero(canvas.region == lesion)
    assert lesion
    assert inside.mask[y - inside.top, x - inside.left].all()


def test_a_lesion_that_infiltrates_is_one_object_around_darker_parts():
    for seed in range(20):
        canvas = canvas_of()
        canvas.rng = np.random.default_rng(seed)
        plans_ultrasound._infiltrating(canvas, (0.0, 0.0), 0.5)
        lesion, *parts = canvas.regions
        assert lesion.is_object
        assert parts
        assert not any(part.is_object for part in parts)
        shown = np.isin(canvas.region, [region.number for region in canvas.regions])
        assert np.count_nonzero(shown) == np.count_nonzero(lesion.mask)
        assert np.count_nonzero(canvas.region == lesion.number) > 0.1 * np.count_nonzero(shown)


def test_objects_in_two_pieces():
    """With `pieces_share` some objects have a second piece; without it next to none has."""
    size, found = 128, {0.0: 0, 0.5: 0}
    for share in found:
        config = load_config("mild", [f"shapes.pieces_share={share}"], size=size)
        for seed in range(16):
            sample = make_sample(config, 3, seed)
            check_sample(sample)
            for mask in object_masks(sample.label, sample.objects):
                areas = np.sort(np.bincount(pieces(mask, connectivity=1).ravel())[1:])
                found[share] += len(areas) > 1 and areas[-2] > 0.03 * areas[-1]
    assert found[0.5] > 2 * found[0.0] + 5, found


def test_a_second_piece_lies_apart_and_belongs_to_the_region():
    view = View(60, (0.0, 0.0), 0.0, 1, 128, draw_displacement(np.random.default_rng(0), 128, 0.0))
    canvas = Canvas(view, np.random.default_rng(0))
    ground = canvas.put("ellipse", (0, 0), 0.95, tissue="fat", labelled=0)
    number = canvas.put("ellipse", (-0.4, 0), 0.2, parent=ground)
    before = np.count_nonzero(canvas.region == number)
    assert not canvas.extend(number, "ellipse", (3.0, 0), 0.2)  # beyond the frame
    assert canvas.extend(number, "ellipse", (0.4, 0), 0.2)
    region, shown = canvas.regions[number - 1], canvas.region == number
    assert pieces(shown, connectivity=2).max() == 2
    assert np.count_nonzero(shown) > 1.3 * before
    height, width = region.mask.shape
    window = shown[region.top : region.top + height, region.left : region.left + width]
    assert np.array_equal(window, region.mask != 0)
    assert np.count_nonzero(window) == np.count_nonzero(shown)


def _two_that_touch():
    """A canvas with two objects that touch, and a lesion in one of them."""
    canvas = canvas_of()
    ground = canvas.put("ellipse", (0, 0), 0.9, tissue="fat", labelled=0)
    canvas.put("ellipse", (0.55, 0), 0.15, parent=ground, tissue="soft", labelled=0)  # no object
    left = canvas.put("ellipse", (-0.2, 0), 0.4, parent=ground)
    right = canvas.put("ellipse", (0.2, 0), 0.4, parent=ground)
    lesion = canvas.put("ellipse", (-0.45, 0), 0.12, parent=left)
    assert all((left, right, lesion))
    return canvas, left, right, lesion


@pytest.mark.parametrize("by", [3.0, -3.0])
def test_outlines_move_outward_or_inward(by):
    canvas, left, right, lesion = _two_that_touch()
    numbers = (left, right, lesion)
    before = {n: _shown_with_parts(canvas, n) for n in numbers}
    soft = next(r.number for r in canvas.regions if r.tissue == "soft")
    loose = canvas.region == soft
    move_outlines(canvas, by)
    assert (canvas.region[loose] == right).any() == (by > 0)  # grown over what is no object
    after = {n: _shown_with_parts(canvas, n) for n in numbers}
    for n in numbers:
        region = canvas.regions[n - 1]
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


def _shown_with_parts(canvas, number):
    """What a region shows, and what lies in it."""
    inside = {number} | {r.number for r in canvas.regions if r.parent == number}
    return np.isin(canvas.region, list(inside))


def test_outlines_beside_the_edges_leave_the_image():
    plain = load_config("us", size=128)
    moved = load_config("us", ["boundary.margin_share=1", "boundary.margin=[10, 14]"], size=128)
    changed = 0
    for seed in range(6):
        one, other = make_sample(plain, 4, seed), make_sample(moved, 4, seed)
        check_sample(other)
        assert np.array_equal(one.image, other.image)
        changed += (one.label != other.label).any()
    assert changed >= 5


def test_black_patches_cover_parts_of_an_image():
    plain, covered = (
        load_config("us", [f"acquisition.US.covered_share={share}"], size=128) for share in (0, 1)
    )
    for seed in range(6):
        one, other = make_sample(plain, 4, seed), make_sample(covered, 4, seed)
        check_sample(other)
        hidden = one.image != other.image
        assert hidden.any()
        assert not other.image[hidden].any()


def test_partitions_tile_their_region():
    canvas = canvas_of()
    ground = canvas.put(plans.oval(), (0, 0), 0.9, labelled=0.0)
    cells = canvas.partition(ground, 12, ("soft", "fat"), 1.0)
    whole = np.count_nonzero(canvas.regions[ground - 1].mask)
    assert len(cells) >= 8
    assert np.isin(canvas.region, cells).sum() > 0.85 * whole


def test_views_are_inverse_to_themselves():
    view = View(40.0, (0.2, -0.1), 0.7, -1, 128, np.zeros((2, 33, 33), np.float32))
    assert view.to_anatomy(*view.to_pixels(0.3, -0.6)) == pytest.approx((0.3, -0.6))


@pytest.mark.parametrize("plan", scene.PLANS)
def test_every_plan_places_objects(plan):
    config = load_config(size=128)
    modality = "US" if plan in scene._PROBES else "CT"
    counts = [scene.lay_out(config, modality, plan, np.random.default_rng(i))[0].objects for i in range(12)]
    assert np.mean(counts) >= 1.5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("boundary.low_contrast_share=1.5", ["boundary.low_contrast_share", "1.5"]),
        ("boundary.low_contrst_share=0.5", ["low_contrst_share", "low_contrast_share"]),
        ("modality.XR=1", ["modality.XR", "allowed", "CT"]),
        ("modality={generic: 0, CT: 0, MR: 0, US: 0}", ["modality", "above 0"]),
        ("acquisition.CT.noise=[0.2, 0.1]", ["acquisition.CT.noise", "low to high"]),
        ("size=16", ["size", "32"]),
    ],
)
def test_a_wrong_key_or_value_is_named(override, words):
    with pytest.raises(InputError) as caught:
        load_config("full", [override])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_config_survives_its_json():
    config = load_config("boundary_only")
    assert GeneratorConfig.model_validate_json(config.model_dump_json()) == config


if __name__ == "__main__":
    lines = [fingerprint(make_sample(load_config(size=64), 2025, index)) for index in range(10)]
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n")
