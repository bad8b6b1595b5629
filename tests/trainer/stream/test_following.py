"""The slices that follow a sample in its volume: which, what is seen in them, and what is refused."""

from __future__ import annotations

from functools import partial

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfm.data.console import InputError
from synthfm.data.shards import Shard, object_masks
from synthfm.trainer.config import Augment, Prompting, Stream, TrainConfig
from synthfm.trainer.model import look, models
from synthfm.trainer.objective.prompting import slices_following
from synthfm.trainer.stream import augment
from synthfm.trainer.stream.embeddings import Cache, embed, encoder_hash, fit_to_input
from synthfm.trainer.stream.following import slices_after
from synthfm.trainer.stream.samples import prepare
from synthfm.trainer.stream.stream import Batches, Source, validation_batches
from tests.support.ellipses import write_dataset, write_volumes

PLAIN = Augment(flip=0, rotate90=0)
DEPTH = 8


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return write_volumes(tmp_path_factory.mktemp("volumes") / "a", num=3, depth=DEPTH)


@pytest.fixture(scope="module")
def shard(volumes):
    with Shard(volumes / "shard-00001.h5") as opened:
        yield opened


@given(st.integers(0, DEPTH - 1), st.integers(1, 9), st.integers(1, 6), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_slices_lead_away_from_the_first_at_one_distance(shard, row, count, least, more, seed):
    after = slices_after(shard, row, count, (least, least + more), np.random.default_rng(seed))
    way = np.diff([row, *after.rows])
    assert len(after.rows) == count
    assert [sample.index - shard.first_index for sample in after.samples] == list(after.rows)
    assert np.abs(np.sign(way)).max() == 1
    assert len(set(np.sign(way)) - {0}) == 1  # one direction
    steps = np.abs(way)
    assert steps.max() <= least + more
    assert (np.diff(steps) <= 0).all()  # alike, and standing still where the volume has ended
    assert after.apart == pytest.approx(2.0 * steps)
    room = row if way[0] < 0 else DEPTH - 1 - row
    assert steps[0] >= min(least, room // count)


def test_a_single_image_is_followed_by_itself(tmp_path):
    folder = write_dataset(tmp_path / "single", num=2, size=32)
    with Shard(folder / "shard-00000.h5") as opened:
        after = slices_after(opened, 1, 2, (1, 6), np.random.default_rng(0))
    assert (after.rows, after.apart) == ((1, 1), (0.0, 0.0))


@pytest.mark.parametrize(
    "change", [PLAIN, Augment(affine=1, crop=1, zoom=(1.5, 1.6)), Augment(gamma=1, shade=1)]
)
def test_an_object_is_found_again_by_its_track_and_moved_as_the_first_slice_is(shard, change):
    rng = np.random.default_rng(3)
    after = slices_after(shard, 1, 6, (1, 1), np.random.default_rng(0))
    item = prepare(shard[1], Stream(objects_per_image=2, min_area=1), change, rng, run=after)
    same = np.random.default_rng(3)
    drawn = augment.draw(change, (64, 64), same)
    following = item["following"]
    of_first = {tuple(np.flatnonzero(members)): k for k, members in enumerate(item["members"])}
    for number, sample in enumerate(after.samples):
        wanted = dict(
            zip(sample.objects.track.tolist(), object_masks(sample.label, sample.objects), strict=True)
        )
        for track in (0, 1):
            k = of_first[(track + 1,)]
            mask = following["members"][number, k][following["labels"][number]]
            true = wanted.get(track, np.zeros((64, 64), bool))
            assert np.array_equal(mask, augment.apply_label(true.astype(np.uint8), drawn) > 0)
    ended = ~following["members"][:, of_first[(2,)]].any(1)
    assert ended.tolist() == [sample.slice.number > DEPTH // 2 for sample in after.samples]
    magnified = 1 / np.sqrt(abs(np.linalg.det(drawn.matrix)))
    assert following["apart"] == pytest.approx(2 * magnified, rel=1e-5)
    assert np.array_equal(following["images"][2], augment.apply_image(after.samples[2].image, drawn, same))


def config_of(carry: float, **keys) -> TrainConfig:
    stream = Stream(objects_per_image=2, window=2, min_area=4)
    return TrainConfig(batch=2, stream=stream, prompts=Prompting(carry=carry, **keys))


def batches_of(folders, config):
    return Batches(Source(folders), config, following=partial(slices_following, config.prompts, config.seed))


def test_what_a_step_reads_is_the_same_with_and_without_following_slices(volumes):
    mix = {"point_person": 1}
    without, carried = config_of(0.0, mix=mix), config_of(0.5, mix=mix)
    lengths = []
    for step in range(6):
        plain, batch = batches_of([volumes], without)[step], batches_of([volumes], carried)[step]
        assert plain.following is None
        for name in ("images", "labels", "members", "boxes_loose", "points", "clicks", "index"):
            assert torch.equal(getattr(plain, name), getattr(batch, name)), name
        count = slices_following(carried.prompts, carried.seed, step)
        lengths.append(count)
        assert (batch.following is None) == (count == 0)
        if batch.following is not None:
            assert batch.following.images.shape == (2, count, 64, 64)
            one = batch.only(1).following
            assert torch.equal(one.masks(0, 1)[0], batch.following.masks(0, 1)[1])
    assert 0 in lengths
    assert max(lengths) > 1


def test_from_a_cache_the_following_slices_come_with_their_embeddings(volumes, tmp_path):
    sam = models.build("tiny", image_size=32).eval()
    embed(sam, [volumes], tmp_path / "cache", progress=False)
    cache = Cache(tmp_path / "cache", encoder_hash(sam), [volumes])
    config = config_of(1.0).model_copy(update={"augment": PLAIN})
    batches = Batches(Source([volumes]), config, cache=cache, following=lambda _: 2)
    batch = batches[0]
    seen = batch.following.images.flatten(0, 1)[:, None]
    with torch.no_grad():
        wanted = look.encode(sam, fit_to_input(seen, 32)).half().unflatten(0, (2, 2))
    assert torch.allclose(batch.following.features.float(), wanted.float(), atol=2e-2)
    assert not torch.allclose(batch.following.features[:, 0].float(), batch.features.float(), atol=2e-2)


def test_no_mask_can_be_carried_through_single_images(tmp_path, volumes):
    single = write_dataset(tmp_path / "single", num=4, size=64)
    with pytest.raises(InputError, match=r"prompts\.carry: .*none of the folders holds volumes"):
        batches_of([single], config_of(1.0))
    assert batches_of([single, volumes], config_of(1.0))[0].following is not None


@pytest.mark.parametrize("damage", ["track", "slice"])
def test_a_shard_of_broken_volumes_is_replaced_and_named(tmp_path, damage):
    folder = write_volumes(tmp_path / "broken", num=2)
    path = folder / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        if damage == "track":
            file["object/track"][2] = 7
        else:
            file["sample/slice"][3] = 9
    problems = [p for step in range(8) for p in batches_of([folder], config_of(1.0))[step].problems]
    assert problems
    assert all(str(path) in problem and "volume 0" in problem for problem in problems)
    assert all("\n" not in problem for problem in problems)


def test_runs_of_held_out_volumes_lie_one_behind_the_other(volumes):
    source = Source([volumes], 1.0, 99)
    found = {int(b.index[0]): b.following for b in validation_batches(source, config_of(0.5), True)}
    assert [index for index, following in found.items() if following is not None] == list(range(0, 24, 4))
    again = {int(b.index[0]): b.following for b in validation_batches(source, config_of(0.5), True)}
    assert all(torch.equal(found[k].images, again[k].images) for k in range(0, 24, 4))
    plain = validation_batches(source, config_of(0.0), True)
    assert all(batch.following is None for batch in plain)
