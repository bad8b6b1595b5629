"""Clicked pixels teach what others look like: a mask is mended by it, as far as the clicks held out agree."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfm.data.prompts import Prompt
from synthfm.data.strokes import draw_prompt, many_clicks
from synthfm.trainer.model.in_turn import beginnings
from synthfm.trainer.model.pixel_classifier import SHIPPED, PixelClassifier, refine

SHAPE = (96, 120)


def lines(width=3):
    """Slanting lines, far from a blob."""
    ys, xs = np.indices(SHAPE)
    return (xs + ys) % 24 < width


def picture(mask, contrast=60.0, noise=12.0):
    rng = np.random.default_rng(1)
    return np.clip(110 + contrast * mask + rng.normal(0, noise, SHAPE), 0, 255).astype(np.uint8)


def logits_of(mask, sure=2.0):
    return torch.from_numpy(np.where(mask, sure, -sure).astype(np.float32))


def dice(found, mask):
    found = found.numpy() > 0
    return 2 * (found & mask).sum() / max(found.sum() + mask.sum(), 1)


def answered(mask, wrong, image, settings=SHIPPED, prompt=None):
    prompt = prompt or draw_prompt(mask, 3, 3, np.random.default_rng(4))
    first = logits_of(wrong)
    return refine(first, image, prompt, first, beginnings(prompt)[0], settings)


@pytest.mark.parametrize("contrast", [60, -60])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3)])
def test_strokes_on_lines_find_the_lines(contrast, shape):
    mask = lines()
    image = np.broadcast_to(picture(mask, contrast).reshape(*SHAPE, *(1,) * (len(shape) - 2)), shape)
    filled = np.ones(SHAPE, bool)  # the model sees no more than that the lines are everywhere
    assert dice(answered(mask, filled, image), mask) > dice(logits_of(filled), mask) + 0.4


def test_where_pixels_say_nothing_the_model_is_believed():
    disc = np.hypot(*(np.indices(SHAPE).T - [48, 60]).T) < 25
    image = picture(disc, contrast=0)
    prompts = [many_clicks(disc, 60, 0.5, np.random.default_rng(k)) for k in range(8)]
    kept = [dice(answered(disc, disc, image, prompt=prompt), disc) for prompt in prompts]
    told = [dice(answered(disc, disc, image, PixelClassifier(doubt=1e6), prompt), disc) for prompt in prompts]
    assert np.mean(kept) > 0.96
    assert np.mean(kept) > np.mean(told) + 0.02


def test_a_mask_grows_near_itself_and_its_clicks_only():
    mask = lines()
    part = mask & (np.indices(SHAPE)[1] < 40)
    prompt = draw_prompt(part, 3, 3, np.random.default_rng(0))
    found = answered(mask, part, picture(mask), prompt=prompt).numpy() > 0
    assert found[:, :40].any()
    assert not found[:, 60:].any()


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 30))
def test_any_clicks_in_any_image_give_finite_logits(seed, clicks, side):
    rng = np.random.default_rng(seed)
    shape = (side, int(rng.integers(1, 30)))
    image = rng.integers(0, 256, shape).astype(np.uint8)
    if seed % 3 == 0:
        image[:] = 7
    points = np.stack([rng.integers(0, shape[1], clicks), rng.integers(0, shape[0], clicks)], 1)
    prompt = Prompt(points, rng.integers(0, 2, clicks))
    first = torch.from_numpy(rng.normal(0, 30, shape).astype(np.float32))
    said = rng.random(clicks) < 0.3
    found = refine(first, image, prompt, first, said)
    assert found.shape == first.shape
    assert torch.isfinite(found).all()
    of_one_kind = len(set(prompt.labels[~said].tolist())) < 2
    assert not of_one_kind or torch.equal(found, first)


def test_a_large_image_is_classified_smaller():
    mask = np.kron(lines(), np.ones((8, 8), bool))
    image = np.kron(picture(lines()), np.ones((8, 8), np.uint8))
    filled = np.ones(mask.shape, bool)
    assert dice(answered(mask, filled, image), mask) > 0.8
