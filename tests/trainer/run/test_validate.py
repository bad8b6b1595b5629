"""The scores of a validation: what the model is asked, and what Dice its answers have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from synthfm.trainer.config import Augment, Stream
from synthfm.trainer.model import decoder, look, models
from synthfm.trainer.run.validate import validate
from synthfm.trainer.stream.batch import collate
from synthfm.trainer.stream.samples import prepare
from tests.support.ellipses import ellipse_sample

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE, INPUT = 32, 128  # so that a mask of the decoder has the image's own pixels


def images_of_one_object(height=SIZE):
    """Batches of one image each, with its only object twice."""
    stream, plain = Stream(objects_per_image=2, min_area=1), Augment(flip=0, rotate90=0)
    for i in range(3):
        item = prepare(ellipse_sample(i, SIZE, most=1), stream, plain, np.random.default_rng(i))
        batch = collate([item])
        batch.images, batch.labels = batch.images[:, :, :height], batch.labels[:, :height]
        yield batch


@pytest.mark.parametrize("height", [SIZE, 27])
def test_a_model_that_knows_the_truth_has_a_dice_of_one(height, monkeypatch):
    """One that finds the object that a prompt lies on, and takes a single click for a part or the whole."""
    batches = list(images_of_one_object(height))
    left = iter(batches)
    sam = models.build("tiny", image_size=INPUT)
    encode, truth = look.encode, []

    def encoded(sam, images):
        missing = (0, 0, 0, SIZE - height)
        truth[:] = [F.pad(next(left).masks()[0], missing)]
        return encode(sam, images)

    def decoded(sam, features, prompts, logits):
        (masks,), coords, kinds = truth, prompts.coords, prompts.kinds
        corner = kinds[:, :1] >= 2
        first = torch.where(corner, coords.mean(1), coords[:, 0])
        x, y = ((first + 0.5) * SIZE / INPUT).long().unbind(1)
        hit = masks[torch.arange(len(masks)), y, x][:, None, None]
        found = 20 * (masks * hit - 0.5)
        nothing = torch.full_like(found, -10)
        single = nothing if ((kinds == 1).sum(1) == 1).all() else found
        answers = torch.stack([single, nothing, found, nothing], 1)
        return answers, torch.tensor([0.5, 0.1, 0.9, 0.2]).expand(len(masks), 4)

    monkeypatch.setattr(look, "encode", encoded)
    monkeypatch.setattr(decoder, "decode", decoded)
    scores, pictures = validate(sam, batches, torch.device("cpu"))
    assert len(pictures) == 3
    assert set(scores.objects.values()) == {2}
    for (setting, _), dice in scores.dice.items():
        assert dice == pytest.approx(float(setting != "point1"), abs=0.05), setting
    assert scores.mean == pytest.approx(5 / 6, abs=0.05)
