"""Every share does what it says: 0 against 1 differs in the direction meant; images lie where labels do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from synthfm.data import prompts
from synthfm.data.shards import object_masks
from synthfm.generator.canvas.layout import OUTSIDE
from synthfm.generator.config import load_config
from synthfm.generator.look.appearance import touching
from synthfm.generator.modalities import ultrasound
from synthfm.generator.modalities.base import Scan
from synthfm.generator.raster.filters import gaussian_blur
from synthfm.generator.scene import make_sample


@pytest.fixture(scope="module")
def scenes(section_of, look_of):
    """Sections and looks of MR scenes of the preset full with other settings."""

    def make(settings, plan="free", count=16, size=96):
        config = load_config("full", settings, size=size)
        for seed in range(count):
            rng = np.random.default_rng(seed)
            section = section_of(config, "MR", plan, rng)
            yield section, look_of(section, "MR", config, rng)

    return make


def magnification(scenes, settings):
    return np.mean([section.view.scale for section, _ in scenes(settings, "abdomen", 30)])


def turns(scenes, settings):
    return np.mean([np.abs(np.sin(section.view.angle)) for section, _ in scenes(settings, "abdomen", 30)])


def siblings_that_touch(scenes, settings):
    """Pixel edges between objects of one parent, an object."""
    edges = objects = 0
    for section, _ in scenes(settings):
        contacts = touching(section.region)
        for a in section.regions.values():
            objects += a.is_object
            edges += sum(
                int(contacts[a.number, b.number])
                for b in section.regions.values()
                if a.is_object and b.is_object and a.parent == b.parent and a.number < b.number
            )
    return edges / objects


def tissues_in_an_object(scenes, settings):
    found = []
    for section, _ in scenes(settings, "cardiac"):
        regions = section.regions
        parts = sum(not r.is_object and r.parent and regions[r.parent].is_object for r in regions.values())
        found.append(parts / max(section.objects, 1))
    return np.mean(found)


def steps_of_the_contrast_asked(scenes, settings):
    """Share of the objects whose mean is a step of 0.3 away from the parent's or a neighbour's."""
    settings = [*settings, "appearance.contrast=[0.3, 0.301]", "boundary.low_contrast_share=0"]
    found = []
    for section, look in scenes([*settings, "texture.texture_only_share=0"]):
        contacts = touching(section.region)
        for region in section.regions.values():
            if region.is_object:
                near = [region.parent, *np.flatnonzero(contacts[region.number, : region.number])]
                steps = np.abs(look.mean[near] - look.mean[region.number])
                found.append((np.abs(steps - 0.3) < 0.002).any())
    return np.mean(found)


@pytest.mark.parametrize(
    ("key", "measure", "factor"),
    [
        ("shapes.crop_share", magnification, 1.4),
        ("shapes.distant_share", magnification, 0.8),
        ("shapes.turned_share", turns, 3),
        ("shapes.two_tissue_share", tissues_in_an_object, 1.5),
        ("boundary.gap_share", siblings_that_touch, 0.3),
        ("boundary.touching_share", siblings_that_touch, 1.3),
        ("appearance.relative_share", steps_of_the_contrast_asked, 3),
    ],
)
def test_a_share_of_one_differs_from_none_in_the_direction_meant(scenes, key, measure, factor):
    """`factor` is what the measure grows by at least (above 1), or at most (below)."""
    others = {"shapes.crop_share", "shapes.distant_share", "shapes.turned_share"} - {key}
    none, all_ = (
        measure(scenes, [*(f"{other}=0" for other in others), f"{key}={share}"]) for share in (0, 1)
    )
    assert all_ > factor * none if factor > 1 else all_ < factor * none, (none, all_)


def uniform_scan(**changes):
    """A scan of even tissue with a patch in the middle, behind which some of the echo is lost."""
    config = load_config("us").settings("US")
    probe = ultrasound.draw_probe(np.random.default_rng(0), 128, ("linear",))
    drawn = ultrasound.draw_scan(np.random.default_rng(0), probe, config)
    settings = replace(drawn, interface=0.0, floor=0.0, gain=(0.0,) * 4, **changes)
    absorption = np.zeros((128, 128), np.float32)
    absorption[30:50, 44:84] = 0.5
    level = np.full((128, 128), 0.7, np.float32)
    return ultrasound.form_image(level, absorption, settings, np.random.default_rng(0))[0]


def test_a_stronger_shadow_darkens_what_lies_behind_and_nothing_else():
    without, with_ = uniform_scan(shadow=0.0), uniform_scan(shadow=1.0)
    assert with_[70:120, 54:74].mean() < without[70:120, 54:74].mean() - 0.2
    assert with_[:25].mean() == pytest.approx(without[:25].mean(), abs=0.01)


@pytest.mark.parametrize("kind", ["linear", "curved", "sector"])
def test_an_echo_is_shown_where_it_comes_from(kind):
    rng = np.random.default_rng(1)
    probe = ultrasound.draw_probe(rng, 128, (kind,))
    scan = ultrasound.draw_scan(rng, probe, load_config("us").settings("US"))
    clean = np.full((128, 128), 0.3, np.float32)
    clean[60:80, 40:56] = 0.9
    image, _ = ultrasound.form_image(clean, np.zeros((128, 128), np.float32), scan, rng)
    patch, mirrored = image[62:78, 42:54], image[62:78, ::-1][:, 42:54]
    assert patch.mean() > mirrored.mean() + 0.3
    above, below = image[40:56, 42:54], image[84:100, 42:54]
    assert patch.mean() > max(above.mean(), below.mean()) + 0.3


def test_more_looks_leave_less_speckle():
    one, eight = (uniform_scan(shadow=0.0, looks=looks)[30:90, 30:90].std() for looks in (1, 8))
    assert eight == pytest.approx(one / np.sqrt(8), rel=0.2)


def test_what_lies_beyond_the_circle_of_a_ct_is_black():
    y, x = np.ogrid[:96, :96]
    beyond = np.hypot(x - 47.5, y - 47.5) > 48
    black = {}
    for share in (0, 1):
        config = load_config(
            "ct", [f"acquisition.CT.circle_share={share}", "appearance.inversion_share=0"], size=96
        )
        samples = [make_sample(config, 5, seed) for seed in range(8)]
        black[share] = np.mean([np.ptp(s.image[beyond]) == 0 and s.image[0, 0] < 16 for s in samples])
        assert share == 0 or not any(s.label[beyond].any() for s in samples)
    assert black[1] == 1
    assert black[0] < 0.5


def test_inversion_turns_black_to_white():
    plain, inverted = (
        [make_sample(load_config("mr", [f"appearance.inversion_share={share}"], size=64), 5, seed).image
         for seed in range(5)]
        for share in (0, 1)
    )  # fmt: skip
    for one, other in zip(plain, inverted, strict=True):
        assert np.abs(255 - one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("preset", ["ct", "mr", "us", "xr"])
def test_the_image_lies_where_its_labels_do(preset, monkeypatch):
    """No step from labels to image shifts it: a shift would show as a part of the picture's slope."""
    shifts = {"clean": [], "ideal": [], "image": []}
    real = Scan.acquire

    def regressed(a, b, use):
        before, after = (gaussian_blur(part.astype(np.float32), 3.0) for part in (a, b))
        dy, dx = np.gradient(before)
        terms = np.stack([dx[use], dy[use], before[use], np.ones(use.sum())], axis=1)
        solved = np.linalg.lstsq(terms, after[use], rcond=None)[0]
        return -solved[:2] / solved[2] if abs(solved[2]) > 0.2 else None

    def record(scan, clean, section, look):
        image, ideal = real(scan, clean, section, look)
        use = section.region != OUTSIDE
        use[:12] = use[-12:] = use[:, :12] = use[:, -12:] = False
        clean = np.clip(clean, 0, 1)  # what a CT window shows
        flat = np.zeros_like(clean)
        for number in np.unique(section.region):
            flat[section.region == number] = clean[section.region == number].mean()
        for name, a, b in (("clean", flat, clean), ("ideal", clean, ideal), ("image", clean, image)):
            found = regressed(a, b, use) if use.sum() > 500 else None
            if found is not None:
                shifts[name].append(found)
        return image, ideal

    monkeypatch.setattr(Scan, "acquire", record)
    quiet = ["boundary.weak_edge_share=0", "boundary.leak_share=0", "texture.enabled=false"]
    quiet.append("acquisition.XR.curve_share=0")  # a bent curve of grey levels makes another picture
    config = load_config(preset, quiet, size=128)
    for seed in range(25):
        make_sample(config, 2, seed)
    for name, found in shifts.items():
        assert len(found) >= 20, name  # of 25 scenes: elsewhere the picture does not follow at all
        speckled = preset == "us" and name == "image"  # of which few looks hide most
        assert np.abs(np.median(found, axis=0)).max() < (0.7 if speckled else 0.2), name


@pytest.fixture(scope="module")
def some():
    config = load_config("full", size=96)
    return [make_sample(config, 9, seed) for seed in range(50)]


def test_loose_boxes_lie_around_their_objects(some):
    outward = []
    for sample in some:
        box, loose = sample.objects.box, sample.objects.box_loose
        inside = (box[:, :2] > 18).all(1) & (box[:, 2:] < 78).all(1)  # the frame cuts none of these
        outward.append(((loose - box) * [-1, -1, 1, 1])[inside])
    sides = np.concatenate(outward).mean(0)
    assert len(np.concatenate(outward)) > 60
    assert np.ptp(sides) < 1.0
    assert 0.3 < sides.mean() < 4


def test_the_first_negative_click_lies_in_a_neighbour_where_there_is_one(some):
    checked = 0
    for sample in some:
        first = int((sample.objects.point_labels[0] == 1).sum())
        for k, mask in enumerate(object_masks(sample.label, sample.objects)):
            away = ndimage.distance_transform_edt(~mask)
            ring = (away**2 > 2.5) & (away <= prompts.reach(int(mask.sum())))
            if (sample.label[ring] > 0).any():
                x, y = sample.objects.points[k, first]
                assert sample.label[y, x] > 0
                checked += 1
    assert checked > 50
