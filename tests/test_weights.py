"""The weights that ship: small, plain, open everywhere, and they segment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from synthfm.data.shards import object_masks
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample
from synthfm.trainer.model import checkpoints, models
from synthfm.trainer.model.predict import Prompt, Segmenter

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tiny():
    return models.load("tiny")[0]


def test_they_are_small_and_plain():
    assert checkpoints.SHIPPED.stat().st_size <= 20e6
    weights = torch.load(checkpoints.SHIPPED, map_location="cpu", weights_only=True)
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {torch.float16}
    encoder = [v.numel() for k, v in weights.items() if k.startswith("image_encoder.")]
    assert sum(encoder) <= 6e6


def test_they_segment_images_they_have_not_seen(tiny):
    """Better than the filled box on the same objects, and a click does what random weights cannot."""
    config, dice, filled = load_config("full", size=256), {"box": [], "point": []}, []
    for index in range(12):
        sample = make_sample(config, 20261124, index)
        masks = object_masks(sample.label, sample.objects)
        segmenter = Segmenter(tiny, multimask="never")
        encoding = segmenter.encode(sample.image)
        prompts = {
            "box": [Prompt(box=box) for box in sample.objects.box],
            "point": [Prompt(points[:1], [1]) for points in sample.objects.points],
        }
        for name, asked in prompts.items():
            for mask, found in zip(masks, segmenter.predict(encoding, asked), strict=True):
                dice[name].append(2 * (mask & found.mask).sum() / (mask.sum() + found.mask.sum()))
        for mask, (x0, y0, x1, y1) in zip(masks, sample.objects.box, strict=True):
            filled.append(2 * mask.sum() / (mask.sum() + (x1 - x0) * (y1 - y0)))
    assert np.mean(dice["box"]) > np.mean(filled)
    assert np.mean(dice["point"]) > 0.55


def test_sam_predictor_gives_the_same_masks(tiny):
    image = make_sample(load_config("full", size=256), 20261124, 0).image
    predictor = SamPredictor(tiny)
    predictor.set_image(np.repeat(image[:, :, None], 3, axis=2))
    point = np.array([[120.0, 130.0]])
    _, _, theirs = predictor.predict(point, np.ones(1, int), multimask_output=True)
    segmenter = Segmenter(tiny)
    ours = segmenter.alternatives(segmenter.encode(image), Prompt(point, [1]))
    assert np.abs(np.concatenate([one.low_res for one in ours]) - theirs).max() < 1e-4
