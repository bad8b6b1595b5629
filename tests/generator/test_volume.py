"""Volumes: one scene at many heights, tracks that hold together, and what the switches turn off."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from synthfm.data.console import InputError
from synthfm.data.folder import check_sample, check_volumes, shard_paths, verify
from synthfm.data.shards import Shard, object_masks
from synthfm.generator.canvas import shapes
from synthfm.generator.canvas.paths import Opening, ShellPath, cut
from synthfm.generator.canvas.section import Group, Partition, Placement, Shell, Structure, paint
from synthfm.generator.canvas.solid import draw_solid
from synthfm.generator.config import load_config
from synthfm.generator.folder.factory import generate
from synthfm.generator.folder.preview import contact_sheet
from synthfm.generator.folder.stats import measure, text_page
from synthfm.generator.look.textures import KINDS, draw, make, make_through
from synthfm.generator.modalities import MODALITIES
from synthfm.generator.modalities.base import Place
from synthfm.generator.modalities.ultrasound import form_image
from synthfm.generator.objects import Measured, table_of
from synthfm.generator.objects import measure as measure_objects
from synthfm.generator.plans.tools import PLANS
from synthfm.generator.scene import draw_canvas
from synthfm.generator.sets import Table, with_tracked_sets
from synthfm.generator.settings import PromptsConfig
from synthfm.generator.volume import find_tracks, make_volume, volume_depth
from tests.support.shards import assert_same_sample

SMALL = ["volume.depth=8..14", "volume.spacing=[1.0, 3.0]"]


def config_of(*overrides: str, preset: str = "volumes", size: int = 64):
    return load_config(preset, [*SMALL, *overrides], size=size)


@pytest.fixture(scope="module")
def some():
    """A dozen volumes of all modalities."""
    return [make_volume(config_of(), 11, k) for k in range(12)]


def masks_by_track(sample):
    masks = object_masks(sample.label, sample.objects)
    return dict(zip(sample.objects.track.tolist(), masks, strict=True))


def dice_of_neighbours(volume) -> list[float]:
    """Of each object with itself in the next slice; 0 where it is not there."""
    found = []
    for a, b in itertools.pairwise(volume):
        here, there = masks_by_track(a), masks_by_track(b)
        for track, mask in here.items():
            other = there.get(track)
            found.append(0.0 if other is None else 2 * (mask & other).sum() / (mask.sum() + other.sum()))
    return found


def test_every_slice_is_a_sound_sample_and_says_where_it_lies(some):
    for volume in some:
        assert 8 <= len(volume) <= 14
        for k, sample in enumerate(volume):
            assert check_sample(sample) is None
            assert sample.slice.number == k
            assert sample.slice == replace(volume[0].slice, number=k)
            assert (sample.objects.track >= 0).all()
        assert len({sample.seed for sample in volume}) == 1


def test_slices_get_strokes_and_stay_as_they_were():
    plain, drawn = (make_volume(config_of(f"prompts.strokes={n}"), 3, 5) for n in (0, 1))
    for a, b in zip(plain, drawn, strict=True):
        assert check_sample(b) is None
        assert all(strokes[0].inside for strokes in b.objects.strokes)
        assert_same_sample(a, replace(b, objects=replace(b.objects, strokes=None)))


def test_a_volume_depends_on_config_seed_and_number_alone():
    first, again = (make_volume(config_of(), 3, 5) for _ in range(2))
    other = make_volume(config_of(), 3, 6)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert [len(a.objects) for a in first] == [len(b.objects) for b in again]
    assert first[0].seed != other[0].seed
    assert len(first) == volume_depth(config_of(), 3, 5)


def test_tracks_are_in_every_slice_between_their_ends_and_keep_their_family(some):
    for volume in some:
        seen: dict[int, list[int]] = {}
        families: dict[int, set[str]] = {}
        for k, sample in enumerate(volume):
            for track, family in zip(sample.objects.track.tolist(), sample.objects.family, strict=True):
                seen.setdefault(track, []).append(k)
                families.setdefault(track, set()).add(str(family))
        assert all(slices == list(range(slices[0], slices[-1] + 1)) for slices in seen.values())
        assert all(len(kinds) == 1 for kinds in families.values())


def test_an_object_that_is_away_between_is_two_tracks_and_one_ends_where_nobody_sees_it():
    window = (slice(0, 1), slice(0, 1))
    seen, unseen = (
        Measured(window, np.ones((1, 1), bool), np.zeros((1, 1), np.int32), 1.0, s) for s in (True, False)
    )
    shown = [
        {1: seen, 2: unseen, 3: unseen},
        {1: seen, 2: seen, 3: unseen},
        {2: unseen, 3: seen},
        {1: seen, 2: seen},
    ]
    tracks = find_tracks([], shown)
    assert tracks[1, 0] == tracks[1, 1] != tracks[1, 3]
    assert [k for number, k in tracks if number == 2] == [1, 2, 3]
    assert not any(number == 3 for number, _ in tracks)
    assert sorted(set(tracks.values())) == [0, 1, 2]


def test_objects_overlap_with_themselves_and_yet_begin_and_end(some):
    assert np.mean([value for volume in some for value in dice_of_neighbours(volume) if value]) > 0.7
    ends = 0
    for volume in some:
        first, last = ({*volume[k].objects.track.tolist()} for k in (0, -1))
        every = {track for sample in volume for track in sample.objects.track.tolist()}
        ends += len(every - first) + len(every - last)
    assert ends > 12


def test_without_through_plane_slices_have_nothing_in_common(some):
    config = config_of("volume.through_plane=false")
    volumes = [make_volume(config, 11, k) for k in range(4)]
    assert np.mean([value for volume in volumes for value in dice_of_neighbours(volume)]) < 0.05
    together = np.mean([_likeness(volume) for volume in some])
    apart = np.mean([_likeness(volume) for volume in volumes])
    assert together > 0.6
    assert apart < 0.5


def _likeness(volume) -> float:
    pairs = itertools.pairwise(volume)
    return float(np.mean([np.corrcoef(a.image.ravel(), b.image.ravel())[0, 1] for a, b in pairs]))


@pytest.mark.parametrize("preset", ["neither", "shape_only", "boundary_only", "full"])
def test_the_ablation_presets_make_volumes(preset):
    volumes = [make_volume(config_of(preset=preset), 2, k) for k in range(2)]
    assert all(check_sample(sample) is None for volume in volumes for sample in volume)
    families = {str(f) for volume in volumes for sample in volume for f in sample.objects.family}
    if preset in ("neither", "boundary_only"):
        assert families == {"ellipse"}


def test_without_the_boundary_module_objects_keep_apart_in_every_slice():
    config = config_of(preset="neither")
    for k in range(3):
        for sample in make_volume(config, 4, k):
            parents = dict(zip(sample.objects.label, sample.objects.parent, strict=True))
            for across, along in ((0, 1), (1, 0)):
                a = sample.label[: sample.label.shape[0] - across, : sample.label.shape[1] - along]
                b = sample.label[across:, along:]
                for x, y in {*zip(a[a != b].tolist(), b[a != b].tolist(), strict=True)}:
                    assert parents.get(x, 0) == y or parents.get(y, 0) == x


def solid_of(plan: str = "abdomen", modality: str = "CT", seed: int = 0, size: int = 96, cine: bool = False):
    config = load_config("volumes", size=size)
    rng = np.random.default_rng(seed)
    canvas, _ = draw_canvas(config, MODALITIES[modality], PLANS[plan], rng)
    whole = canvas.section
    solid = draw_solid(canvas, config.volume, span=(-60.0, 60.0), cine=cine, warped=True)
    return whole, solid


@pytest.mark.parametrize("plan", ["abdomen", "crop", "head"])
def test_at_its_own_height_a_scene_shows_what_was_drawn(plan):
    """But for tubes, which leave the plane, and what covers less at other heights."""
    whole, solid = solid_of(plan)
    section = paint(cut(solid, [0.0])[0])
    tubes = {p.structure.number for p in solid.scene.placements
             if isinstance(p, Placement) and p.shape.family in ("tube", "tree")}  # fmt: skip
    same = section.region == whole.region
    assert same[~np.isin(whole.region, [*tubes])].mean() > 0.85


def test_what_is_near_looks_alike_and_what_is_far_does_not():
    _, solid = solid_of()
    near, far = (paint(scene).region for scene in cut(solid, [1.0, 50.0]))
    here = paint(cut(solid, [0.0])[0]).region
    assert (near == here).mean() > 0.93
    assert (far == here).mean() < (near == here).mean() - 0.1


def test_cutting_is_a_pure_function_of_the_height():
    _, solid = solid_of()
    alone = paint(cut(solid, [7.0])[0])
    among = paint(cut(solid, [-20.0, 7.0, 30.0])[1])
    assert np.array_equal(alone.region, among.region)


def test_ends_are_rounded():
    _, solid = solid_of("free")
    sizes = 0
    for path in solid.paths:
        half = getattr(path, "half", np.inf)
        if np.ndim(half) == 0 and np.isfinite(half):
            rise = path.ends(path.middle + half * np.array([-1.0, -0.99, -0.9, 0.0, 0.9, 0.99, 1.0]))
            assert max(rise[0], rise[-1]) < 0.01
            assert rise[3] > 0.99
            assert 0 < rise[1] < rise[2] < 1
            sizes += 1
    assert sizes > 3


def test_a_wall_is_as_drawn_at_its_origin_and_closes_over_the_ends():
    path = ShellPath(origin=5.0, anchor=1, middle=0.0, half=30.0, blunt=2.5, radius=20.0)
    heights = np.array([5.0, 0.0, 24.0, 26.9, 27.1, 29.0])
    seen = path.thickness(3.0, heights)
    outer = 20 * (1 - (heights / 30) ** 2.5) ** (1 / 2.5)
    assert seen[1] <= seen[0] < 1.1 * seen[1]
    assert seen[0] < seen[2] < seen[3] < outer[3]
    assert (seen[4:] > outer[4:]).all()


def test_a_wall_is_round_the_hole_where_it_is_open():
    hole = Opening(middle=4.0, half=10.0, towards=1.0, wide=0.8, shut=1.0)
    angles = hole.angles(np.array([-6.0, 4.0, 10.0, 14.0]), np.zeros(4))
    assert angles == pytest.approx([0.0, 0.8, 0.64, 0.0])
    assert hole.angles(np.array([4.0, 4.0]), np.array([0.5, 1.0])) == pytest.approx([0.4, 0.0])


def walled(open_share: float, seed: int, cine: bool = False):
    """A solid whose objects have walls."""
    shares = ["shapes.wall_share=1", f"volume.open_share={open_share}"]
    config = load_config("volumes", shares, size=96)
    canvas, _ = draw_canvas(config, MODALITIES["CT"], PLANS["abdomen"], np.random.default_rng(seed))
    return draw_solid(canvas, config.volume, span=(-60.0, 60.0), cine=cine, warped=True)


def test_walls_open_and_close():
    heights = np.linspace(-50, 50, 26).tolist()
    shown: dict[float, list[bool]] = {0.0: [], 1.0: []}
    for share, seed in itertools.product(shown, range(4)):
        solid = walled(share, seed)
        walls = [p.structure for p in solid.scene.placements if isinstance(p, Shell)]
        for section in map(paint, cut(solid, heights)):
            there = [wall for wall in walls if wall.number in section.regions]
            shown[share] += [open_to_outside(section, wall.number, wall.parent) for wall in there]
    assert min(map(len, shown.values())) > 50
    assert np.mean(shown[0.0]) < 0.05
    assert 0.05 < np.mean(shown[1.0]) < 0.95


def test_what_contracts_with_a_beat_thickens_its_wall():
    solid = walled(0.0, 1, cine=True)
    still, squeezed = cut(solid, [0.0, 0.0], [0.0, np.pi])
    each = zip(solid.scene.placements, solid.paths, strict=True)
    beats = {p.structure.number: path.beat for p, path in each if isinstance(p, Placement)}
    walls = [
        (a, b) for a, b in zip(still.placements, squeezed.placements, strict=True) if isinstance(a, Shell)
    ]
    assert walls
    for before, after in walls:
        assert after.thickness > 0.999 * before.thickness / (1 - beats[before.structure.parent])


def open_to_outside(section, wall: int, whole: int) -> bool:
    """Whether what a wall bounds shows more than two pixels that touch what lies around it."""
    inside, region = section.region == whole, section.regions[whole]
    mask = np.zeros_like(inside)
    mask[region.top : region.box[2], region.left : region.box[3]] = region.mask
    around = np.pad(mask, 1, mode="edge")
    bare = ~(around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:])
    return bool(np.count_nonzero(inside & bare) > 2)


@pytest.fixture(scope="module")
def of_kinds():
    """Volumes with all that objects can be."""
    shares = [
        "shapes.group_share=1",
        "shapes.hollow_share=1",
        "shapes.wall_share=0.3",
        "shapes.zones_share=0.3",
    ]
    return [make_volume(config_of(*shares), 7, k) for k in range(10)]


def test_sets_run_through_volumes_as_all_objects_do(of_kinds):
    sets, partial = 0, 0
    for volume in of_kinds:
        of_track: dict[int, list[tuple[int, bytes]]] = {}
        slices: dict[int, list[int]] = {}
        several: dict[int, list[bool]] = {}
        for k, sample in enumerate(volume):
            assert check_sample(sample) is None
            table, objects = object_masks(sample.label, sample.objects), sample.objects
            for track, mask in zip(objects.track.tolist(), table, strict=True):
                of_track.setdefault(track, []).append((k, mask.tobytes()))
            for row in np.flatnonzero(objects.is_set):
                track = int(objects.track[row])
                slices.setdefault(track, []).append(k)
                alike = [np.array_equal(table[row], other) for other in table[~objects.is_set]]
                several.setdefault(track, []).append(not any(alike))
        assert all(there == list(range(there[0], there[-1] + 1)) for there in slices.values())
        assert len({tuple(run) for run in of_track.values()}) == len(of_track)  # no two are the same
        assert all(any(own) for own in several.values())  # somewhere each is what no other object is
        sets += len(slices)
        partial += sum(not all(own) for own in several.values())  # and goes on where one of it is left
    assert sets > 10
    assert partial > 2


def test_a_set_is_all_of_its_kind_also_of_those_that_begin_elsewhere():
    config = load_config("volumes", ["shapes.group_share=1"], size=96)
    more = 0
    for seed in range(12):
        canvas, _ = draw_canvas(config, MODALITIES["CT"], PLANS["abdomen"], np.random.default_rng(seed))
        drawn = {group.name: set(group.numbers) for group in canvas.groups}
        solid = draw_solid(canvas, config.volume, span=(-90.0, 90.0), cine=False, warped=True)
        tissue = {p.structure.number: p.structure.tissue for p in solid.scene.placements
                  if isinstance(p, Placement)}  # fmt: skip
        for group in solid.scene.groups:
            new = set(group.numbers) - drawn[group.name]
            assert not (new & set().union(*drawn.values()))
            assert {tissue[n] for n in new} <= {tissue.get(n) for n in drawn[group.name]}
            more += len(new)
    assert more > 3


@pytest.mark.parametrize("third", ["object", "no object", "absent"])
def test_a_set_is_what_is_there_of_its_kind_unless_one_is_no_object(canvas_of, third):
    """Two of a kind in a slice, and the first of them in the next, there beside a third or alone."""
    tables = []
    for k, numbers in enumerate([(1, 2), (1,) if third == "absent" else (1, 3)]):
        section = canvas_of(64).section
        section.groups = (Group("pair", (1, 2, 3)),)
        for number in numbers:
            structure = Structure(number, 0, "ellipse", "organ", number < 3 or third == "object")
            at, size = (number / 2 - 1, 0.0), (0.15, 0.2)
            section.add(structure, section.patch(shapes.make("ellipse", {"aspect": 1.0}), at, size, 0.0))
        image = np.where(section.region > 0, 200, 40).astype(np.uint8)
        image += np.random.default_rng(k).integers(0, 20, image.shape).astype(np.uint8)
        kept, widths = measure_objects(section, image), {1: 1.0, 2: 1.0, 3: 1.0}
        label, table = table_of(section, kept, widths, PromptsConfig(), np.random.default_rng(0))
        table = replace(table, track=np.array([number - 1 for number in kept], np.int32))
        tables.append(Table(section, image, label, table, list(kept), widths))
    found = with_tracked_sets(tables, PromptsConfig(), np.random.default_rng(0))
    members = [np.unpackbits(objects.members[objects.is_set], axis=1) for objects in found]
    made_of = [[np.flatnonzero(row).tolist() for row in rows] for rows in members]
    assert (
        made_of == {"object": [[[1, 2]], [[1, 2]]], "no object": [[], []], "absent": [[[1, 2]], [[1]]]}[third]
    )
    if third != "no object":
        assert found[0].track.tolist() == [0, 1, found[1].track[-1]]


@pytest.mark.parametrize("rim", ["seen", "unseen", "absent"])
def test_what_a_set_goes_without_is_never_in_it(canvas_of, rim):
    """Where the rim shows and cannot be seen, its pixels are those of the whole in the label map."""
    tables = []
    for k, state in enumerate(("seen", rim)):
        section, image = canvas_of(64).section, np.full((64, 64), 40, np.uint8)
        section.groups = (Group("core", (1,), (2,)),)
        disc = section.patch(shapes.make("ellipse", {"aspect": 1.0}), (0.0, 0.0), (0.6, 0.6), 0.0)
        section.add(Structure(1, 0, "ellipse", "organ", True), disc)
        if state != "absent":
            section.add(Structure(2, 1, "rim", "organ", True, connected=False), section.shell(1, 4.0))
        image[section.region == 1] = 200
        image[section.region == 2] = 120
        image += np.random.default_rng(k).integers(0, 20, image.shape).astype(np.uint8)
        kept = {n: found for n, found in measure_objects(section, image).items() if n == 1 or state == "seen"}
        label, table = table_of(section, kept, {1: 1.0, 2: 1.0}, PromptsConfig(), np.random.default_rng(0))
        table = replace(table, track=np.array([number - 1 for number in kept], np.int32))
        tables.append(Table(section, image, label, table, list(kept), {1: 1.0, 2: 1.0}))
    found = with_tracked_sets(tables, PromptsConfig(), np.random.default_rng(0))
    assert [int(objects.is_set.sum()) for objects in found] == [1, int(rim != "unseen")]
    for table, objects in zip(tables, found, strict=True):
        for row in np.flatnonzero(objects.is_set):
            mask = object_masks(table.label, objects)[row]
            assert not (mask & (table.section.region == 2)).any()


def test_the_wall_of_a_cell_stays_as_thick_as_it_is():
    """Cells give way to their neighbours, and have no ends at which a wall would close."""
    config = load_config("volumes", ["volume.open_share=0"], size=96)
    canvas, _ = draw_canvas(config, MODALITIES["generic"], PLANS["tiles"], np.random.default_rng(2))
    cells = [cell.number for p in canvas.placements if isinstance(p, Partition) for cell in p.cells if cell]
    walls = {wall for n in cells if n in canvas.regions and (wall := canvas.wall(n, 0.04, "fat"))}
    assert len(walls) > 2
    solid = draw_solid(canvas, config.volume, span=(-300.0, 300.0), cine=False, warped=True)
    scenes = cut(solid, np.linspace(-300, 300, 13).tolist())
    shells = [[p for p in scene.placements if isinstance(p, Shell)] for scene in scenes]
    thick = np.array([[p.thickness for p in some if p.structure.number in walls] for some in shells])
    assert (thick.max(0) < 3 * thick.min(0)).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_texture_is_as_coarse_over_the_depth_as_over_the_plane(kind):
    texture = draw(np.random.default_rng(1), 64, kind)
    stack, single = make_through(texture, 64, 48, 1.0), make(texture, 64)
    assert stack.shape == (48, 64, 64)
    assert abs(float(stack.mean())) < 0.01
    assert abs(float(stack.std()) - 1) < 0.01

    def likeness(a, b):
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    alone = likeness(single[1:], single[:-1]) + likeness(single[:, 1:], single[:, :-1])
    plane = likeness(stack[:, 1:], stack[:, :-1]) + likeness(stack[:, :, 1:], stack[:, :, :-1])
    assert abs(plane - alone) < 0.6
    if kind not in ("fibres", "vessels"):  # they run in the plane, and through it
        assert abs(likeness(stack[1:], stack[:-1]) - plane / 2) < 0.2
        assert abs(likeness(stack[12:], stack[:-12]) - likeness(stack[:, 12:], stack[:, :-12])) < 0.3


def test_thick_slices_average_over_their_thickness():
    """An edge that moves from slice to slice is a ramp in thick ones, in the noise-free image."""
    widths = []
    for thickness in (0.0, 1.0):
        config = load_config(
            "neither",
            ["volume.depth=8", "volume.spacing=[6, 6]", f"volume.thickness=[{thickness}, {thickness}]",
             "volume.slope=[0.9, 0.9]", "volume.cine_share=0", "acquisition.low_resolution_share=0"],
            size=64,
        )  # fmt: skip
        volumes = [make_volume(config, 9, k) for k in range(4)]
        widths.append(np.mean([s.objects.blur.mean() for v in volumes for s in v if len(s.objects)]))
    assert widths[1] > widths[0] + 0.3


def test_each_slice_has_its_own_noise_and_the_bias_of_mr_is_three_dimensional():
    config = load_config("mr", size=64)
    scan = MODALITIES["MR"].draw_scan(
        np.random.default_rng(0), 64, None, config.acquisition, config.settings("MR")
    )
    first, second, far = (scan.of_slice(Place(k, height)) for k, height in ((0, 0.0), (1, 0.02), (9, 0.4)))
    assert len({scan.seed, first.seed, second.seed}) == 3
    assert np.array_equal(first.coarse, scan.coarse)
    assert np.corrcoef(first.coarse.ravel(), second.coarse.ravel())[0, 1] > 0.9
    assert np.corrcoef(first.coarse.ravel(), far.coarse.ravel())[0, 1] < 0.9
    assert first.parameters["slice"] == 0


def test_the_speckle_of_a_cine_moves_with_the_tissue():
    """Under uniform tissue that moves by 4 pixels the second frame is the first one, moved."""
    config = load_config("us", size=128)
    modality = MODALITIES["US"]
    rng = np.random.default_rng(2)
    probe = replace(modality.draw_field(rng, 128, PLANS["layers"], config.settings("US")))
    scan = modality.draw_scan(rng, 128, probe, config.acquisition, config.settings("US"))
    clean, lost = np.full((128, 128), 0.6, np.float32), np.zeros((128, 128), np.float32)
    frames = []
    for way in (0.0, 4.0):
        motion = np.zeros((2, 33, 33), np.float32)
        motion[0] = way
        moved = scan.of_slice(Place(3, 0.0, motion))
        frames.append(form_image(clean, lost, moved, np.random.default_rng(moved.seed))[0])
    inner = slice(30, 98)
    still = np.corrcoef(frames[0][inner, inner].ravel(), frames[1][inner, inner].ravel())[0, 1]
    along = np.corrcoef(frames[0][inner, 26:94].ravel(), frames[1][inner, inner].ravel())[0, 1]
    assert along > 0.6
    assert along > still + 0.3


def test_cines_run_through_time():
    volume = make_volume(config_of(preset="volumes_cine"), 1, 0)
    assert {sample.slice.axis for sample in volume} == {"t"}
    assert volume[0].slice.spacing == (1.0, 1.0, 1.0)


# --- folders ---


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def fill(folder: Path, **changes) -> Path:
    generate(
        folder,
        **{"config": config_of(size=48), "num": 5, "root_seed": 5, "shard_size": 28, "jobs": 1} | changes,
    )
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Five volumes in three shards. Not to be changed."""
    return fill(tmp_path_factory.mktemp("whole") / "data")


def test_a_folder_of_volumes_is_whole_and_none_straddles_two_shards(whole):
    assert [problem for _, problem in verify(whole) if problem] == []
    shards = [Shard(path) for path in shard_paths([whole])]
    assert [len(shard.axis) for shard in shards] == [2, 2, 1]
    for shard in shards:
        assert check_volumes(shard) is None
        for k in range(len(shard.axis)):
            assert shard.slice[shard.volume == k].tolist() == list(range((shard.volume == k).sum()))
    assert [int(i) for shard in shards for i in shard.index] == list(range(sum(len(s) for s in shards)))


def test_two_workers_and_an_interruption_change_no_byte(whole, tmp_path):
    assert contents(fill(tmp_path / "two", jobs=2)) == contents(whole)
    (tmp_path / "two" / "shard-00001.h5").unlink()
    assert contents(fill(tmp_path / "two")) == contents(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda file: file["sample/slice"].__setitem__(3, 7),
            "volume 0: slice 3 is missing; 7 is in its place",
        ),
        (lambda file: file["sample/volume"].__setitem__(3, 1), "its slices are not one run"),
        (lambda file: file["volume/spacing"].__setitem__((0, 0), 0), "is not three numbers above 0"),
        (lambda file: file["volume/axis"].__setitem__(0, b"q"), "axis 'q' is none of z, t"),
        (lambda file: file["object/track"].__setitem__(0, -1), "has no track"),
        (lambda file: file["object/track"].__setitem__(0, file["object/track"][1]), "is twice in slice 0"),
        (lambda file: _move(file, 0), "but in none between"),
    ],
)
def test_what_is_wrong_with_the_tracks_is_one_line(whole, tmp_path, change, message):
    path = tmp_path / "shard.h5"
    path.write_bytes(shard_paths([whole])[0].read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    with Shard(path) as shard:
        assert message in str(check_volumes(shard))


def _move(file: h5py.File, track: int) -> None:
    """Take a track out of one slice of its middle: it goes by another number there."""
    tracks = file["object/track"][:]
    volume = np.repeat(file["sample/volume"][:], np.diff(file["object/start"][:]))
    rows = np.flatnonzero((tracks == track) & (volume == 0))
    assert len(rows) > 2
    file["object/track"][rows[1]] = 10_000


def test_a_shard_of_format_2_opens_as_single_images(tmp_path, whole):
    path = tmp_path / "old.h5"
    path.write_bytes(shard_paths([whole])[0].read_bytes())
    with h5py.File(path, "r+") as file:
        for name in ("sample/volume", "sample/slice", "volume", "object/track"):
            del file[name]
        file.attrs["version"] = 2
    with Shard(path) as shard:
        assert (shard.volume == -1).all()
        assert shard[0].slice is None
        assert (shard[0].objects.track == -1).all()


@pytest.mark.parametrize(
    ("overrides", "size", "message"),
    [
        (["volume.depth=16..600"], 64, "less than or equal to 512"),
        (["volume.depth=16..64"], 1024, "a worker's memory holds 12 slices of size 1024"),
        (["volume.depth=64..16"], 64, "rises from low to high"),
        (["volume.depth=many"], 64, "volume.depth"),
        (["volume.depth=1..4"], 64, "2 slices at least"),
        (["volume.depth=1", "volume.slope=[0.1, 0.2]"], 64, "volume.slope is set, but volume.depth is 1"),
        (["volume.depth=1"], 64, "makes volumes, and with volume.depth=1 single images"),
        (["modality={generic: 0, CT: 0, MR: 0, US: 0, XR: 1}"], 64, "of which there are no volumes"),
    ],
)
def test_settings_that_make_no_volume_are_one_line(overrides, size, message):
    with pytest.raises(InputError, match="volume") as caught:
        load_config("volumes", overrides, size=size)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shard_that_is_too_small_for_a_volume_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--shard-size 8: a volume of up to 14 slices"):
        fill(tmp_path / "data", shard_size=8)


def test_the_contact_sheet_shows_cuts_and_a_strip_of_each_volume(whole, tmp_path):
    assert contact_sheet(whole, tmp_path / "all.png") == 5
    assert contact_sheet(whole, tmp_path / "two.png", count=2) == 2
    tall = [Image.open(tmp_path / name).height for name in ("all.png", "two.png")]
    assert tall[0] > 2 * tall[1]
    with pytest.raises(InputError, match="none of its 5 volumes has family 'nix'"):
        contact_sheet(whole, tmp_path / "none.png", family="nix")


def test_statistics_tell_how_objects_run_through_volumes(whole):
    measured = measure(whole)
    volumes = [make_volume(config_of(size=48), 5, k) for k in range(5)]
    every = [track for volume in volumes for track in {t for s in volume for t in s.objects.track.tolist()}]
    assert measured.tracks.volumes == len(measured.modality) == 5
    assert len(measured.tracks.length) == len(every)
    assert measured.tracks.length.sum() == len(measured.area)
    found = [value for volume in volumes for value in dice_of_neighbours(volume) if value]
    assert measured.tracks.dice.mean() == pytest.approx(np.mean(found))
    assert f"5 volumes, {len(every)} tracks" in text_page(measured)


def test_the_statistics_of_broken_tracks_are_refused(whole, tmp_path):
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with h5py.File(tmp_path / "shard-00000.h5", "r+") as file:
        file["sample/slice"][3] = 7
    with pytest.raises(InputError, match=r"shard-00000\.h5: volume 0: slice 3 is missing"):
        measure(tmp_path)
    problems = [problem for _, problem in verify(tmp_path) if problem]
    assert len(problems) == 1
    assert "slice 3 is missing" in problems[0]
