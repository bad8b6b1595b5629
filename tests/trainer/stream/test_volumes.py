"""A folder of volumes is read as single images by a trainer that knows nothing of them."""

from __future__ import annotations

import itertools

import numpy as np

from synthfm.data.shards import Shard
from synthfm.generator.config import load_config
from synthfm.generator.folder.factory import generate
from synthfm.trainer.config import Augment, Stream, TrainConfig
from synthfm.trainer.stream.stream import Batches, Source


def test_slices_of_volumes_are_batched_as_images(tmp_path):
    config = load_config("volumes", ["volume.depth=4..6"], size=64)
    manifest = generate(tmp_path / "data", config, num=3, root_seed=1, shard_size=12, jobs=1)
    source = Source([tmp_path / "data"])
    assert len(source) == manifest.num
    train = TrainConfig(
        batch=2, stream=Stream(objects_per_image=2, window=2), augment=Augment(flip=0, rotate90=0)
    )
    batches = [Batches(source, train)[step] for step in range(4)]
    images = {int(sample.index): sample.image for path in source.paths for sample in Shard(path)}
    for batch in batches:
        for index, image in zip(batch.index.tolist(), batch.images, strict=True):
            assert np.array_equal(image[0].numpy(), images[index])
    assert len(set(itertools.chain(*(batch.index.tolist() for batch in batches)))) >= 7


def test_no_volume_is_both_trained_on_and_held_out(tmp_path):
    config = load_config("volumes", ["volume.depth=4..6"], size=64)
    generate(tmp_path / "data", config, num=8, root_seed=1, shard_size=12, jobs=1)
    source = Source([tmp_path / "data"], val_share=0.3, val_most=20)
    held = [len(rows) for rows in source.held_out]
    assert all(part in (0, count) for part, count in zip(held, source.counts, strict=True))
    assert 0 < sum(held) < sum(source.counts)
    assert len(source) + sum(held) == sum(source.counts)
