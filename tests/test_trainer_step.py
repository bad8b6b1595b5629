"""One step's forward pass: what is frozen stays, and what the model sees is what the targets show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from trainer_data import ellipse_sample
from trainer_runs import CONFIG, changed

from trainer import loop, models
from trainer.config import Augment, Stream
from trainer.prompting import Plan
from trainer.step import Step
from trainer.stream import collate, prepare
from trainer.tiny import TinyEncoder
from trainer.validate import validate

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = Augment(flip=0, rotate90=0)


class Normed(TinyEncoder):
    """An encoder that normalises by batches, as MobileSAM's does."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.norm_batch = nn.BatchNorm2d(256)

    def forward(self, images):
        return self.norm_batch(super().forward(images))


def batch_of(count=3, size=32, objects=2):
    """A batch of ellipses, not augmented."""
    stream = Stream(objects_per_image=objects, min_area=4)
    items = [prepare(ellipse_sample(i, size), stream, PLAIN, np.random.default_rng(i)) for i in range(count)]
    return collate([item for item in items if item])


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_keeps_its_statistics(frozen, monkeypatch):
    monkeypatch.setattr(models, "TinyEncoder", Normed)
    config = changed(CONFIG, freeze=("encoder",) if frozen else (), image_size=32)
    sam = loop.prepare(models.build("tiny", image_size=32), config)
    batch = batch_of()
    step = Step(sam, config).train()
    norm = sam.image_encoder.norm_batch
    before = norm.running_mean.clone()
    alone = torch.cat([step.encode(loop.only(batch, row)) for row in range(len(batch.images))])
    assert torch.equal(before, norm.running_mean) == frozen
    assert torch.allclose(step.encode(batch), alone, atol=1e-5) == frozen
    validate(sam, [loop.only(batch, 0)], torch.device("cpu"))
    assert norm.training != frozen
    assert sam.mask_decoder.training
    step(batch, [Plan("box")])
    assert torch.equal(before, norm.running_mean) == frozen
