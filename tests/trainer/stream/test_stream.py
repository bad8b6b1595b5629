"""Shards to batches: order, split, augmentation, prompts after it, bad shards."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfm.data.console import InputError
from synthfm.data.shards import StoredStroke, column_of, members_of, membership, object_masks, pack_labels
from synthfm.data.strokes import STROKE_POINTS
from synthfm.trainer.config import Augment, Prompting, Stream, TrainConfig
from synthfm.trainer.stream import augment, stream
from synthfm.trainer.stream.batch import IGNORED, collate
from synthfm.trainer.stream.samples import clear_parts, frame_boxes, moved_strokes, prepare, thin_and_spread
from synthfm.trainer.stream.stream import Batches, Source, epoch_order, loader, validation_batches
from tests.support.ellipses import ellipse_sample, write_dataset
from tests.support.shards import objects_in, strokes_of

CONFIG = TrainConfig(
    batch=4, stream=Stream(objects_per_image=3, window=2), augment=Augment(affine=0.5, crop=0.5)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("shards") / "a", num=24, per_shard=5)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=9), st.integers(1, 4), st.integers(0, 3))
def test_every_sample_comes_once_an_epoch(counts, window, epoch):
    rows = [np.arange(count) for count in counts]
    shards, positions = epoch_order(rows, 0, epoch, window)
    got = sorted(zip(shards.tolist(), positions.tolist(), strict=True))
    assert got == [(k, i) for k, count in enumerate(counts) for i in range(count)]


def test_order_differs_between_epochs_and_follows_the_seed():
    rows = [np.arange(20)] * 3
    first, again, other = (epoch_order(rows, 0, epoch, 2)[1].tolist() for epoch in (0, 0, 1))
    assert first == again != other


def test_ranks_and_parts_share_a_step_without_overlap_or_loss(folder):
    source = Source([folder])
    whole = [Batches(source, CONFIG)[step].index.tolist() for step in range(6)]
    assert sorted(itertools.chain(*whole)) == list(range(24))
    split = CONFIG.model_copy(update={"accumulate": 2})
    for step, indices in enumerate(whole):
        parts = [
            Batches(source, split, rank, 2)[2 * step + part].index.tolist()
            for part in (0, 1)
            for rank in (0, 1)
        ]
        assert list(itertools.chain(*parts)) == indices


def test_batches_do_not_depend_on_workers_or_start(folder):
    source = Source([folder])
    config = CONFIG.model_copy(update={"stream": CONFIG.stream.model_copy(update={"workers": 1})})
    alone = list(loader(Batches(source, CONFIG), 0, 5))
    helped = list(loader(Batches(source, config), 2, 5))
    for a, b in zip(alone[2:], helped, strict=True):
        for name in ("images", "labels", "members", "points", "boxes_loose", "index"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_held_out_samples_are_not_trained_on(folder):
    source = Source([folder], val_share=0.25, val_most=100)
    assert sum(map(len, source.held_out)) == 6
    assert len(source) == 18
    for train, validation in zip(source.training, source.held_out, strict=True):
        assert not set(train) & set(validation)


def test_a_shard_that_goes_bad_moves_no_held_out_sample(tmp_path):
    folder = write_dataset(tmp_path / "a", num=24, size=32, per_shard=8)
    before = Source([folder], val_share=0.25, val_most=100)
    path = before.paths[0]
    path.write_bytes(path.read_bytes()[:2000])
    after = Source([folder], val_share=0.25, val_most=100)
    assert len(after) == 18
    for name in ("held_out", "training"):
        for ours, theirs in zip(getattr(after, name), getattr(before, name), strict=True):
            assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("other", [{"num": 4, "size": 64}, {"num": 8, "size": 32}])
def test_a_shard_that_is_not_the_manifests_is_reported(tmp_path, other):
    folder = write_dataset(tmp_path / "a", num=16, size=64, per_shard=8)
    (strange,) = write_dataset(tmp_path / "b", **other).glob("*.h5")
    strange.replace(folder / "shard-00001.h5")
    source = Source([folder], val_share=0.2, val_most=100)
    assert len(source.held_out[1])
    batches = [Batches(source, CONFIG)[step] for step in range(3)]
    found = "shard-00001.h5: holds {num} images of {size}x{size} where the dataset has 8 of 64x64".format(
        **other
    )
    problems = [problem for batch in batches for problem in batch.problems]
    assert problems
    assert all(found in problem for problem in problems)
    with pytest.raises(InputError, match=r"shard-00001.*--strict"):
        list(validation_batches(source, CONFIG, strict=True))


@given(st.integers(0, 10_000), st.sampled_from([(128, 64), (48, 80), (64, 64)]))
def test_a_crop_keeps_one_side_and_half_of_the_other_at_least(seed, shape):
    kept = np.array(augment.draw(Augment(crop=1.0), shape, np.random.default_rng(seed)).size)
    assert (kept <= shape).all()
    assert (kept == shape).any()
    assert (kept >= np.array(shape) / 2).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_prompts_fit_the_masks_after_augmentation(seed):
    rng = np.random.default_rng(seed)
    sample = ellipse_sample(seed % 50, 48)
    item = prepare(sample, Stream(objects_per_image=4, min_area=4), Augment(affine=0.5, crop=0.3), rng)
    if item is None:
        return
    height, width = item["sizes"]
    assert not item["images"][0, height:].any()
    assert not item["images"][0, :, width:].any()
    for k in range(4):
        mask = item["members"][k][item["labels"]]
        x0, y0, x1, y1 = item["boxes"][k].astype(int)
        assert mask.sum() == mask[y0:y1, x0:x1].sum() > 0
        assert mask[y0:y1, x0:x1].any(0)[[0, -1]].all()
        assert mask[y0:y1, x0:x1].any(1)[[0, -1]].all()
        kinds = item["point_labels"][k]
        assert kinds[0] == 1
        used = kinds >= 0
        x, y = np.round(item["points"][k][used]).astype(int).T
        assert (mask[y, x] == (kinds[used] == 1)).all()
        loose = item["boxes_loose"][k]
        assert (loose >= 0).all()
        assert (loose <= [width, height, width, height]).all()


@pytest.mark.parametrize("least", [0.0, 0.15, 1.0])
def test_clicks_keep_clear_of_small_objects(least):
    """A click that means an object falls on none in it of less than that share of its area."""
    stream = Stream(objects_per_image=6, min_area=4, clear_clicks=least)
    on_others = 0
    for seed in range(30):
        sample = ellipse_sample(seed, 48)
        item = prepare(sample, stream, Augment(affine=0.5), np.random.default_rng(seed))
        if item is None:
            continue
        table = membership(sample.objects.label, sample.objects.parent)
        area = table @ np.bincount(item["labels"].ravel(), minlength=256)
        for k, members in enumerate(item["members"]):
            of_its_own = area[(table == members).all(1)][0]
            inside = item["point_labels"][k] == 1
            x, y = np.round(item["points"][k][inside]).astype(int).T
            assert members[item["labels"][y, x]].all()
            hit = area[np.searchsorted(sample.objects.label, item["labels"][y, x])]
            assert (hit >= least * of_its_own).all()
            on_others += (hit < of_its_own).sum()
    assert (on_others > 0) == (least < 1)


def test_an_object_that_shows_only_small_ones_may_be_clicked_there():
    label = np.repeat(np.array([[2, 2, 3, 3]], np.uint8), 4, axis=0)
    labels, parents = np.array([1, 2, 3], np.uint8), np.array([0, 1, 1], np.uint8)
    none = {"members": np.zeros((3, 32), np.uint8), "is_set": np.zeros(3, bool)}
    table = SimpleNamespace(label=labels, parent=parents, **none)
    clear = clear_parts(
        table, members_of(table), np.bincount(label.ravel(), minlength=256), np.array([0, 1]), 0.9
    )
    assert clear[0][[2, 3]].all()
    assert np.flatnonzero(clear[1]).tolist() == [2]


@given(st.integers(0, 500))
@settings(max_examples=30, deadline=None)
def test_flips_and_turns_move_points_with_the_image(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 200, (12, 12)).astype(np.uint8)
    drawn = augment.draw(Augment(flip=0.5, rotate90=1.0), label.shape, rng)
    moved = augment.apply_label(label, drawn)
    assert sorted(moved.ravel()) == sorted(label.ravel())
    points = rng.integers(0, 12, (7, 2))
    x, y = np.round(augment.apply_points(points, drawn)).astype(int).T
    assert (moved[y, x] == label[points[:, 1], points[:, 0]]).all()


def test_balance_says_whether_small_or_large_objects_come_more_often():
    area = {}
    for balance in (-1.0, 0.0, 1.0):
        stream, rng = Stream(objects_per_image=1, balance=balance, min_area=1), np.random.default_rng(0)
        items = [prepare(ellipse_sample(i % 20, 48), stream, Augment(), rng) for i in range(300)]
        area[balance] = np.mean([collate([item]).masks().sum() for item in items])
    assert area[-1.0] > 1.15 * area[0.0] > 1.15**2 * area[1.0]


def test_objects_come_by_area_where_that_is_asked_for():
    stream, rng = Stream(objects_per_image=5, largest_first=0.5, min_area=1), np.random.default_rng(0)
    items = [prepare(ellipse_sample(i, 48), stream, Augment(), rng) for i in range(20)]
    areas = collate([item for item in items if item]).masks().sum((-2, -1))
    assert (areas.diff(dim=1) <= 0).all()
    assert (areas.diff(dim=1) < 0).any()


def test_masks_of_a_batch_are_the_objects_own(folder):
    sample = ellipse_sample(3, 64)
    plain = Augment(flip=0, rotate90=0)
    item = prepare(sample, Stream(objects_per_image=9, min_area=1), plain, np.random.default_rng(0))
    masks = collate([item]).masks()[0].bool().numpy()
    expected = object_masks(sample.label, sample.objects)
    assert {mask.tobytes() for mask in masks} == {mask.tobytes() for mask in expected}


def test_intensity_changes_leave_the_label_map(folder):
    sample = ellipse_sample(1, 64)
    change = Augment(
        flip=0, rotate90=0, gamma=1, noise=1, blur=1, low_resolution=1, invert=1, shade=1, fade=1
    )
    item = prepare(sample, Stream(), change, np.random.default_rng(0))
    assert np.array_equal(item["labels"], sample.label)
    assert not np.array_equal(item["images"][0], sample.image)


@pytest.mark.parametrize("kind", ["low_resolution", "shade", "fade"])
def test_each_intensity_change_does_what_its_name_says(kind):
    none = dict.fromkeys(Augment.model_fields.keys() - {"angle", "zoom", "coarseness"}, 0)
    sharp = (
        np.kron(np.indices((16, 16)).sum(0) % 2, np.ones((4, 4))).astype(np.uint8) * 100 + 50
    )  # checks of 4 pixels
    config = Augment(**none | {kind: 1}, coarseness=(6, 7))
    changed = np.stack(
        [
            augment.apply_image(sharp, augment.draw(config, sharp.shape, rng), rng)
            for rng in map(np.random.default_rng, range(20))
        ]
    ).astype(float)
    contrast = changed[:, sharp == 150].mean(1) - changed[:, sharp == 50].mean(1)
    local = changed.reshape(20, 2, 32, 2, 32).mean((2, 4))  # the four quarters of each image
    if kind == "low_resolution":
        assert (contrast < 50).all()
        assert (np.ptp(local, axis=(1, 2)) < 5).all()
    elif kind == "fade":
        assert ((contrast < 95) & (contrast > 20)).all()
        assert (np.ptp(local, axis=(1, 2)) < 8).all()
    else:
        assert (np.ptp(local, axis=(1, 2)) > 5).mean() > 0.8
    assert np.array_equal(
        augment.apply_image(
            sharp, augment.draw(Augment(**none), sharp.shape, rng := np.random.default_rng(0)), rng
        ),
        sharp,
    )


@given(st.integers(0, 2**32 - 1), st.integers(24, 60), st.integers(24, 60), st.booleans())
@settings(max_examples=30)
def test_outside_of_the_circle_all_is_black_and_no_object(seed, height, width, inverted):
    config = Augment(flip=0, rotate90=0, circle=1, invert=int(inverted))
    rng = np.random.default_rng(seed)
    drawn = augment.draw(config, (height, width), rng)
    full = np.full((height, width), 7, np.uint8)
    image, label = augment.apply_image(full, drawn, rng), augment.apply_label(full, drawn)
    inside = label == 7
    assert np.array_equal(image, np.where(inside, 248 if inverted else 7, 0))
    assert 0.3 < inside.mean() <= 1
    row, column, radius = drawn.circle
    rows, columns = np.indices(inside.shape)
    assert np.array_equal(inside, np.hypot(rows - row, columns - column) < radius)
    same = augment.draw(Augment(flip=0, rotate90=0), (height, width), np.random.default_rng(seed))
    assert same.circle is None
    assert np.array_equal(augment.apply_label(full, same), full)


def test_an_image_smaller_than_the_factor_is_sampled_down_to_a_pixel():
    change = Augment(flip=0, rotate90=0, low_resolution=1, coarseness=(200, 300))
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (24, 40)).astype(np.uint8)
    assert np.ptp(augment.apply_image(values, augment.draw(change, values.shape, rng), rng)[:, 10:14]) < 3


def test_bad_shard_is_replaced_and_reported(tmp_path):
    folder = write_dataset(tmp_path / "a", num=16, per_shard=8)
    source = Source([folder])
    path = source.paths[1]
    path.write_bytes(path.read_bytes()[:2000])
    batches = [Batches(Source([folder]), CONFIG)[step] for step in range(3)]
    problems = [problem for batch in batches for problem in batch.problems]
    assert problems
    assert all(path.name in problem for problem in problems)
    assert all((batch.index < 8).all() for batch in batches)


def test_a_replaced_sample_is_of_the_same_epoch(tmp_path, monkeypatch):
    """Else the order of another epoch is drawn for it, and the current one's again after it."""
    folder = write_dataset(tmp_path / "a", num=16, size=32, per_shard=8)
    path = Source([folder]).paths[1]
    path.write_bytes(path.read_bytes()[:2000])
    drawn = []
    monkeypatch.setattr(stream, "epoch_order", lambda *args: drawn.append(args[2]) or epoch_order(*args))
    batches = Batches(Source([folder]), CONFIG)
    read = [batches[step] for step in range(8)]
    assert sum(len(batch.problems) for batch in read) > 10
    assert drawn == [0, 1]
    assert [batches[step].index.tolist() for step in range(8)] == [batch.index.tolist() for batch in read]


def test_corrupted_image_inside_a_shard_is_reported(tmp_path):
    folder = write_dataset(tmp_path / "a", num=16, per_shard=8)
    path = Source([folder]).paths[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    problems = [p for step in range(4) for p in Batches(Source([folder]), CONFIG)[step].problems]
    assert any(path.name in problem for problem in problems)


def damage_image(path, row):
    """Change bytes of one stored image, so that its checksum no longer fits."""
    with h5py.File(path) as file:
        start = file["image"].id.get_chunk_info(row).byte_offset
    with open(path, "r+b") as handle:
        handle.seek(start + 20)
        handle.write(b"damaged")


@pytest.mark.parametrize("lost", ["a sample", "a shard"])
def test_bad_samples_of_the_validation_are_reported(tmp_path, caplog, lost):
    folder = write_dataset(tmp_path / "a", num=16, per_shard=8)
    source = Source([folder], val_share=1.0, val_most=100)
    whole = [int(batch.index) for batch in validation_batches(source, CONFIG, strict=False)]
    assert len(whole) > 12
    assert not caplog.messages
    path = source.paths[1]
    if lost == "a sample":
        damage_image(path, whole[-3] - 8)
        left = [index for index in whole if index != whole[-3]]
    else:
        path.write_bytes(path.read_bytes()[:2000])
        left = [index for index in whole if index < 8]
    assert [int(batch.index) for batch in validation_batches(source, CONFIG, strict=False)] == left
    assert len(caplog.messages) == 1
    assert path.name in caplog.text
    with pytest.raises(InputError, match=rf"{path.name}.*--strict"):
        list(validation_batches(source, CONFIG, strict=True))


def test_images_without_objects_are_passed_over(tmp_path):
    folder = write_dataset(tmp_path / "full", num=8, size=64)
    empty = write_dataset(tmp_path / "empty", num=8, size=64, seed=1, most=0)
    batch = Batches(Source([folder, empty]), CONFIG)[0]
    assert (batch.masks().sum((2, 3)) > 0).all()
    assert not batch.problems
    with pytest.raises(
        InputError, match=r"no sample holds an object of 12 .*stream.min_area.* 0.9 .*stream.max_share"
    ):
        Batches(Source([empty]), CONFIG)[0]


def test_images_of_one_object_fill_a_batch(tmp_path):
    folder = write_dataset(tmp_path / "one", num=8, size=64, most=1)
    batch = Batches(Source([folder]), CONFIG)[0]
    masks = batch.masks().flatten(2)
    assert masks.shape[1] == CONFIG.stream.objects_per_image > 1
    assert torch.equal(masks, masks[:, :1].expand_as(masks))
    assert not batch.problems


def test_no_more_files_are_open_than_the_window_holds(tmp_path):
    folder = write_dataset(tmp_path / "many", num=100, size=32, per_shard=1)
    stream = CONFIG.stream.model_copy(update={"window": 3})
    batches = Batches(Source([folder]), CONFIG.model_copy(update={"stream": stream}))
    opened = set()
    for number in range(100 // batches.size):
        batches[number]
        opened |= set(batches._open)
        assert len(batches._open) <= 3
    assert len(opened) > 70  # what each batch of four leaves open


def test_shards_of_two_sizes_are_refused(tmp_path, folder):
    other = write_dataset(tmp_path / "b", num=2, size=32)
    with pytest.raises(InputError, match=r"different image sizes.*32x32.*64x64"):
        Source([folder, other])


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_the_loose_boxes_is_wide(share):
    stream = Stream(objects_per_image=3, min_area=4, wide_boxes=share)
    far = []
    for k in range(120):
        item = prepare(ellipse_sample(k % 20, 64), stream, Augment(), np.random.default_rng(k))
        tight, loose = item["boxes"], item["boxes_loose"]
        extent = np.tile(tight[:, 2:] - tight[:, :2], 2)
        away = (loose - tight) * [-1, -1, 1, 1]
        far += ((away - 4) / extent > 0.2).any(1).tolist()  # 4: pixels of tremor
        assert (away <= 0.8 * extent + 4).all()
    assert np.mean(far) == 0 if share == 0 else 0.2 * share < np.mean(far) < share


def test_a_validation_asks_for_each_object_once_whatever_training_is_asked(tmp_path):
    folder = write_dataset(tmp_path / "a", num=24, size=64)
    plain = CONFIG.model_copy(update={"stream": CONFIG.stream.model_copy(update={"objects_per_image": 6})})
    wild = plain.stream.model_copy(update={"wide_boxes": 1.0, "clear_clicks": 0.9})
    batches = [
        list(validation_batches(Source([folder], 1.0, 24), plain.model_copy(update={"stream": stream}), True))
        for stream in (plain.stream, wild)
    ]
    for ours, theirs in zip(*batches, strict=True):
        objects = ours.members[0].tolist()
        assert len(objects) == len(set(map(tuple, objects)))
        assert torch.equal(ours.boxes_loose, theirs.boxes_loose)
        assert torch.equal(ours.points, theirs.points)
    counts = {len(batch.members[0]) for batch in batches[0]}
    assert min(counts) < max(counts) <= 4


def test_a_set_is_clicked_on_what_it_is_made_of_however_small():
    label = np.repeat(np.array([[2, 2, 2, 3, 0, 1]], np.uint8), 4, axis=0)
    members = np.stack([pack_labels(labels) for labels in ([], [], [], [2, 3])])
    members[:3] = 0
    table = SimpleNamespace(
        label=np.arange(1, 5, dtype=np.uint8),
        parent=np.array([0, 1, 1, 1], np.uint8),
        members=members,
        is_set=np.array([False, False, False, True]),
    )
    clear = clear_parts(
        table, members_of(table), np.bincount(label.ravel(), minlength=256), np.array([3]), 0.5
    )
    assert np.flatnonzero(clear[0]).tolist() == [2, 3]


MANY = Prompting(mix={"scribble": 1, "points_many": 1}, strokes_max=2, many_max=12)


def test_strokes_and_many_clicks_lie_on_their_side_after_augmentation():
    stream, change = Stream(objects_per_image=3, min_area=4), Augment(affine=0.5, crop=0.5)
    counts = {"strokes": set(), "many": set()}
    for seed in range(20):
        item = prepare(ellipse_sample(seed, 48), stream, change, np.random.default_rng(seed), prompting=MANY)
        if item is None:
            continue
        height, width = item["sizes"]
        for name, found in counts.items():
            for row, members in enumerate(item["members"]):
                labels = item[f"{name}_labels"][row]
                used = labels != IGNORED
                x, y = item[name][row][used].astype(int).T
                assert (members[item["labels"][y, x]] == (labels[used] == 1)).all()
                assert ((x < width) & (y < height)).all()
                assert (labels[used] == 1).any()
                assert used[: used.sum()].all()
                found.add(int(used.sum()))
    assert max(counts["many"]) <= 12
    assert max(counts["strokes"]) <= 40
    assert all(len(found) > 5 for found in counts.values())


def test_what_is_thin_and_spread_is_told_by_its_box_and_area():
    boxes = np.array([[0, 0, 100, 40], [0, 0, 99, 40], [0, 0, 100, 40], [20, 10, 100, 90]], np.float32)
    area = np.array([0.35 * 4000, 1000, 0.35 * 4000 + 1, 500])
    assert thin_and_spread(boxes, area, (100, 100)).tolist() == [True, False, False, True]
    assert not thin_and_spread(boxes, area, (100, 200)).any()
    loose = boxes + np.float32(0.5)
    found = frame_boxes(boxes, loose, area, (100, 100))
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 0, 100, 100], loose[1].tolist(), loose[2].tolist(), [0, 0, 100, 100]]
    assert frame_boxes(boxes[:1] * 2, loose[:1], area[:1], (80, 200)).tolist() == [[0, 0, 200, 80]]


def test_a_tree_gets_the_valid_part_of_the_image_as_its_box_and_a_disc_a_loose_one():
    sample = ellipse_sample(1, 64, most=1)
    disc, label = sample.label == 1, sample.label.copy()
    tree = np.zeros((64, 64), bool)
    tree[2::9], tree[:, 2::9] = True, True
    label[tree & ~disc] = 2
    objects = objects_in(label, {1: 0, 2: 0}, np.random.default_rng(0), 5, 3)
    sample, sizes = replace(sample, label=label, objects=objects), set()
    for seed in range(12):
        change = Augment(crop=0.5)
        item = prepare(sample, Stream(min_area=4), change, np.random.default_rng(seed))
        height, width = item["sizes"].tolist()
        sizes.add((height, width))
        for row, members in enumerate(item["members"]):
            box = item["boxes_frame"][row].tolist()
            if members[2]:
                assert box == [0, 0, width, height]
            elif members[1]:
                assert box == item["boxes_loose"][row].tolist()
    assert len(sizes) > 2


def with_strokes(sample, strokes):
    return replace(sample, objects=replace(sample.objects, strokes=column_of(strokes)))


def scribbled(sample):
    masks = object_masks(sample.label, sample.objects)
    rng = np.random.default_rng(sample.index)
    return with_strokes(sample, [strokes_of(mask, 3, rng) for mask in masks])


def test_stored_strokes_move_with_the_image_and_keep_to_their_side():
    stream, change = Stream(objects_per_image=3, min_area=4), Augment(affine=0.7, crop=0.7)
    few = set()
    for index in range(20):
        sample = scribbled(ellipse_sample(index, 48))
        for seed in range(4):
            item = prepare(sample, stream, change, np.random.default_rng(seed), prompting=MANY)
            if item is None:
                continue
            for row, members in enumerate(item["members"]):
                labels = item["strokes_labels"][row]
                used = labels != IGNORED
                x, y = item["strokes"][row][used].astype(int).T
                assert ((x < item["sizes"][1]) & (y < item["sizes"][0])).all()
                assert (members[item["labels"][y, x]] == (labels[used] == 1)).all()
                assert (labels[used] == 1).any()
                few.add((labels[used] == 0).any())
    assert few == {True, False}


@given(st.integers(0, 500))
@settings(max_examples=30, deadline=None)
def test_flips_and_turns_keep_all_of_a_stroke_and_move_it_with_what_it_covers(seed):
    rng = np.random.default_rng(seed)
    label = rng.permutation(144).reshape(12, 12).astype(np.uint8)  # each pixel is known by its number
    mask = label < 60
    stored = [StoredStroke(on, np.argwhere(mask == on)[:, ::-1].astype(np.int16)) for on in (True, False)]
    drawn = augment.draw(Augment(flip=0.5, rotate90=1.0), label.shape, rng)
    moved = augment.apply_label(label, drawn)
    inside, outside = moved_strokes(stored, moved < 60, drawn)
    for before, (after,) in zip(stored, (inside, outside), strict=True):
        (x, y), (u, v) = before.pixels.T, after.T
        assert moved[v, u].tolist() == label[y, x].tolist()


@given(st.integers(0, 500))
@settings(max_examples=30, deadline=None)
def test_pixels_of_strokes_that_leave_their_side_or_the_image_are_dropped(seed):
    sample, rng = ellipse_sample(2, 48), np.random.default_rng(seed)
    mask = sample.label > 0
    stored = [StoredStroke(on, np.argwhere(mask == on)[:, ::-1].astype(np.int16)) for on in (True, False)]
    drawn = augment.draw(Augment(affine=1.0, crop=0.5), mask.shape, rng)
    moved = augment.apply_label(sample.label, drawn)[: drawn.size[0], : drawn.size[1]] > 0
    for before, kept in zip(stored, moved_strokes(stored, moved, drawn), strict=True):
        places = {(x, y) for x, y in augment.apply_points(before.pixels, drawn).round().astype(int).tolist()}
        expected = {
            (x, y) for x, y in places if 0 <= x < moved.shape[1] and 0 <= y < moved.shape[0]
            and moved[y, x] == before.inside
        }  # fmt: skip
        assert {(x, y) for pixels in kept for x, y in pixels.tolist()} == expected
        assert all(len(pixels) for pixels in kept)


def test_the_strokes_of_a_batch_are_the_stored_ones():
    """Without augmentation their points are among the stored pixels, of as many strokes as are drawn."""
    plain, counts = Augment(flip=0, rotate90=0), set()
    for index in range(20):
        sample = scribbled(ellipse_sample(index, 48))
        known = {own.tobytes(): k for k, own in enumerate(members_of(sample.objects))}
        item = prepare(sample, Stream(), plain, np.random.default_rng(index), prompting=MANY)
        for row, members in enumerate(item["members"]):
            stored = sample.objects.strokes[known[members.tobytes()]]
            of_sign = {
                on: [{(x, y) for x, y in s.pixels.tolist()} for s in stored if s.inside == on]
                for on in (True, False)
            }
            for on in (True, False):
                points = item["strokes"][row][item["strokes_labels"][row] == on].astype(int).tolist()
                covered = set().union(*of_sign[on])
                assert all((x, y) in covered for x, y in points)
                counts.add((on, len(points) > STROKE_POINTS))
    assert counts == {(on, several) for on in (True, False) for several in (True, False)}


def test_an_object_without_a_stroke_inside_has_them_drawn():
    sample = ellipse_sample(1, 48)
    masks = object_masks(sample.label, sample.objects)
    plain = Augment(flip=0, rotate90=0)

    def item(sample):
        return prepare(sample, Stream(), plain, np.random.default_rng(1), prompting=MANY)

    rng = np.random.default_rng(0)
    outside = with_strokes(sample, [strokes_of(mask, 2, rng)[2:] for mask in masks])
    expected, found = item(sample), item(outside)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert not np.array_equal(expected["strokes"], item(scribbled(sample))["strokes"])


def test_strokes_are_drawn_where_they_are_asked_for_and_change_nothing_else():
    def item(prompting):
        return prepare(
            ellipse_sample(1, 48), Stream(), Augment(), np.random.default_rng(1), prompting=prompting
        )

    plain, many = item(None), item(MANY)
    assert set(many) - set(plain) == {"strokes", "strokes_labels", "many", "many_labels"}
    assert all(np.array_equal(plain[name], many[name]) for name in plain)
    batch = collate([many, many])
    assert batch.strokes.shape[2] == (batch.strokes_labels != IGNORED).sum(-1).max()
    assert collate([plain]).strokes is None


@pytest.mark.parametrize("kind", ["point_person", "point_random"])
def test_clicks_are_drawn_from_the_masks_where_they_are_asked_for(kind):
    def item(prompting):
        return prepare(
            ellipse_sample(1, 48), Stream(), Augment(), np.random.default_rng(1), prompting=prompting
        )

    plain, without, asked = item(None), item(Prompting()), item(Prompting(mix={kind: 0.1}))
    assert set(asked) - set(without) == {"clicks"}
    assert all(np.array_equal(plain[name], asked[name]) for name in asked)
    assert all(np.array_equal(asked[name], without[name]) for name in without)
    assert collate([without]).clicks is None
