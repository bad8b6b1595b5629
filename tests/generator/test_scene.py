"""Samples: what holds for every seed, what the presets promise, and that a seed gives one sample for ever."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label as pieces

from synthfm.data.config import preset_names
from synthfm.data.console import InputError
from synthfm.data.folder import check_sample
from synthfm.data.shards import Modality, object_masks
from synthfm.generator import scene
from synthfm.generator.canvas.section import OUTSIDE
from synthfm.generator.canvas.shapes import FAMILIES
from synthfm.generator.config import MIX, PRESETS, GeneratorConfig, load_config
from synthfm.generator.look.appearance import touching
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.objects import DETECTABLE, LEAST_CONTRAST
from synthfm.generator.plans.tools import PLANS
from synthfm.generator.scene import make_sample
from tests.support.shards import assert_same_sample

GOLDEN = Path(__file__).with_name("golden.json")
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


@pytest.fixture(scope="module")
def with_and_without():
    """Samples of the preset `objects`, with two strokes and without any."""
    some, none = (load_config("objects", [f"prompts.strokes={n}"], size=96) for n in (2, 0))
    return [(make_sample(some, 4, k), make_sample(none, 4, k)) for k in range(30)]


def test_every_object_gets_its_strokes_and_so_does_every_set(with_and_without):
    sets = 0
    for sample, _ in with_and_without:
        assert check_sample(sample) is None
        sets += sample.objects.is_set.sum()
        for strokes in sample.objects.strokes:
            assert [stroke.inside for stroke in strokes] in ([True] * 2 + [False] * 2, [True] * 2)
            assert all(stroke.pixels.dtype == np.int16 for stroke in strokes)
    assert sets > 10


def test_strokes_leave_all_else_as_it_was(with_and_without):
    for sample, plain in with_and_without:
        assert_same_sample(replace(sample, objects=replace(sample.objects, strokes=None)), plain)


def test_nobody_is_asked_for_what_cannot_be_seen(many):
    rows = np.concatenate([s.objects.contrast for s in many])
    area = np.concatenate([s.objects.area for s in many])
    seen = rows >= np.maximum(LEAST_CONTRAST, DETECTABLE / np.sqrt(area)) - 1e-4
    assert seen.mean() > 0.8  # the others differ by their texture
    assert (rows < 0.6).mean() > 0.05, "no object of low contrast is left"


def test_descriptors_of_real_datasets_may_name_every_modality():
    assert set(MODALITIES) == set(get_args(Modality))


def test_the_mix_is_wide(many):
    modalities = [s.modality for s in many]
    families = np.concatenate([s.objects.family for s in many])
    shares = [s.objects.area.max() / s.label.size for s in many]
    assert all(modalities.count(m) > 40 for m in MIX)
    assert modalities.count("XR") > 10
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
        "import hashlib; from synthfm.generator.scene import make_sample\n"
        "from synthfm.generator.config import load_config\n"
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

    When it is: ``python tests/generator/test_scene.py`` writes the file anew.
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
    if preset in ("ct", "mr", "us", "xr", "oct"):
        assert {s.modality for s in samples} == {preset.upper()}


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
        np.concatenate(
            [s.objects.blur for s in table("mr", f"boundary.weak_edge_share={share}", *quiet, count=200)]
        )
        for share in (0.0, 1.0)
    )
    assert all_.mean() > few.mean() + 0.2


def test_objects_beside_what_lies_beyond_a_cts_window_are_not_drawn_beyond_it_too(section_of, look_of):
    """Air is black in most windows: a step from its number instead of from black would not be seen."""
    config = load_config("neither", size=96)
    checked = 0
    for seed in range(30):
        section = section_of(config, "CT", "ellipses", np.random.default_rng(seed))
        mean = np.clip(look_of(section, "CT", config, np.random.default_rng(seed)).mean, 0, 1)
        for region in section.regions.values():
            if region.is_object:
                checked += 1
                step = abs(mean[region.number] - mean[region.parent])
                assert step >= config.boundary.least_contrast - 1e-6, (seed, region.number)
    assert checked > 50


@pytest.mark.parametrize("index", [335, 397])
def test_no_object_has_an_outline_of_one_grey_level(index):
    """A body that is black in black, of which the organs are bright."""
    sample = make_sample(load_config("ct"), 0, index)
    assert len(sample.objects) > 2
    for mask in object_masks(sample.label, sample.objects):
        inner = ndimage.binary_erosion(mask, iterations=3, border_value=1)
        rim = ndimage.binary_dilation(mask, iterations=3) & ~inner
        assert sample.image[rim].std() > 0.5


@pytest.mark.parametrize("plan", ["free", "abdomen", "head"])
def test_objects_stand_out_from_all_around_where_the_boundary_module_is_off(plan, section_of, look_of):
    config = load_config("shape_only", size=96)
    checked = 0
    for seed in range(12):
        section = section_of(config, "MR", plan, np.random.default_rng(seed))
        look, contacts = (
            look_of(section, "MR", config, np.random.default_rng(seed)),
            touching(section.region),
        )
        parent = {region.number: region.parent for region in section.regions.values()} | {0: 0}
        for region in section.regions.values():
            for other in np.flatnonzero(contacts[region.number]) if region.is_object else ():
                inner = other
                while inner not in (0, OUTSIDE, region.number):
                    inner = parent[inner]
                if other != OUTSIDE and inner != region.number:
                    checked += 1
                    step = abs(look.mean[region.number] - look.mean[other])
                    assert step >= config.boundary.least_contrast - 1e-6, (seed, region.number, other)
    assert checked > 50


def test_texture_only_objects_have_their_parents_mean(section_of, look_of):
    config = load_config("mr", ["texture.texture_only_share=1", "boundary.low_contrast_share=0"], size=96)
    rng = np.random.default_rng(1)
    section = section_of(config, "MR", "free", rng)
    look = look_of(section, "MR", config, rng)
    objects = [r for r in section.regions.values() if r.is_object]
    assert objects
    for region in objects:
        assert look.mean[region.number] == look.mean[region.parent]
        assert look.amplitude[region.number] >= 0.05


def test_leaks_carry_an_objects_look_into_its_neighbour(section_of, look_of):
    quiet = [f"boundary.{key}=0" for key in ("weak_edge_share", "varying_edge_share", "capsule_share")]
    config = load_config("boundary_only", ["boundary.leak_share=1", *quiet], size=128)
    leaks = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        section = section_of(config, "MR", "ellipses", rng)
        look, before = look_of(section, "MR", config, rng), section.region.copy()
        without = scene.render(section, replace(look, leaks=()))
        changed = np.abs(scene.render(section, look) - without) > 0.01
        assert np.array_equal(section.region, before)
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
    assert not look_of(section, "MR", none, rng).leaks


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_places_objects(plan, section_of):
    config = load_config(size=128)
    modality = PLANS[plan].modality or ("US" if PLANS[plan].probes else "CT")
    drawn = [section_of(config, modality, plan, np.random.default_rng(i)) for i in range(12)]
    assert np.mean([section.objects for section in drawn]) >= 1.5


@pytest.mark.parametrize("plan", ["abdomen", "thorax", "cardiac", "pelvis", "head", "spine"])
def test_nothing_of_a_body_lies_in_the_air(plan, section_of):
    """What lies in an organ that found no room is not there either; small bodies try it most."""
    config = load_config("full", ["shapes.distant_share=1", "boundary.touching_share=0"], size=64)
    for seed in range(120):
        section = section_of(config, "MR", plan, np.random.default_rng(seed))
        assert [region.number for region in section.regions.values() if region.parent == 0] in ([], [1]), seed


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("boundary.low_contrast_share=1.5", ["boundary.low_contrast_share", "1.5"]),
        ("boundary.low_contrst_share=0.5", ["low_contrst_share", "low_contrast_share"]),
        ("modality.PET=1", ["modality.PET", "allowed", "CT"]),
        ("modality={generic: 0, CT: 0, MR: 0, US: 0}", ["modality", "above 0"]),
        ("acquisition.CT.noise=[0.2, 0.1]", ["acquisition.CT.noise", "low to high"]),
        ("size=16", ["size", "32"]),
        ("texture.strength=[0, 0.05]", ["texture.strength", "greater than 0"]),
        ("acquisition.US.looks=[5, 2]", ["acquisition.US.looks", "low to high"]),
        ("acquisition.US.looks=[100, 8]", ["acquisition.US.looks", "8"]),
        ("acquisition.US.looks=[1, -5]", ["acquisition.US.looks", "1"]),
        ("acquisition.US.dynamic_range=[40, 5000]", ["acquisition.US.dynamic_range", "200"]),
        ("acquisition.MR.bias=[0, 100]", ["acquisition.MR.bias", "3"]),
        ("acquisition.generic.bias=[0, 100]", ["acquisition.generic.bias", "3"]),
        ("acquisition.coarseness=[0.01, 2]", ["acquisition.coarseness", "1"]),
        ("modality.CT=.inf", ["modality.CT", "finite"]),
        ("modality={CT: 1.0e+308, MR: 1.0e+308}", ["modality", "finite"]),
        ("shapes.plans.CT.free=.inf", ["shapes.plans.CT.free", "finite"]),
        ("boundary.margin=[.nan, 1]", ["boundary.margin", "finite"]),
        ("boundary.edge_width=[1, .inf]", ["boundary.edge_width", "finite"]),
        ("shapes.min_area=60000", ["shapes.min_area", "58982", "256"]),
    ],
)
def test_a_wrong_key_or_value_is_named(override, words):
    with pytest.raises(InputError) as caught:
        load_config("full", [override])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_config_that_shows_nothing_is_told(monkeypatch):
    monkeypatch.setattr(scene, "ATTEMPTS", 5)
    config = load_config("full", ["shapes.min_area=3600"], size=64)
    asked = []
    with pytest.raises(InputError, match=r"none of 5 scenes.*shapes\.min_area \(3600 pixels\)"):
        make_sample(config, 0, 0, lambda: asked.append(1))
    assert len(asked) == 4


def test_the_config_survives_its_json_and_the_way_to_a_worker():
    config = load_config("boundary_only")
    assert GeneratorConfig.model_validate_json(config.model_dump_json()) == config
    assert pickle.loads(pickle.dumps(config)) == config


if __name__ == "__main__":
    lines = [fingerprint(make_sample(load_config(size=64), 2025, index)) for index in range(10)]
    GOLDEN.write_text("[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n")
