"""Asking a model: prompts of all kinds, of one image, in one call, round after round."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.draw import disk

from synthfm.data.prompts import Prompt
from synthfm.data.strokes import MOST, thinned
from synthfm.trainer.model import decoder, look, models, predict
from synthfm.trainer.model.packing import pack
from synthfm.trainer.model.predict import SecondLook, Segmenter

SHAPE = (240, 300)


@pytest.fixture(scope="module")
def sam():
    return models.load("tiny")[0]


@pytest.fixture(scope="module", params=[None, SecondLook()], ids=["first look", "second look"])
def segmenter(sam, request):
    return Segmenter(sam, request.param)


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros(SHAPE, bool)
    mask[disk((100, 180), 20, shape=SHAPE)] = True
    return mask


@pytest.fixture(scope="module")
def image(mask):
    """Two discs, of which `mask` is one."""
    grey = 80.0 + 70 * mask + np.random.default_rng(0).normal(0, 12, SHAPE)
    grey[disk((100, 90), 30, shape=SHAPE)] += 70
    return np.clip(grey, 0, 255).astype(np.uint8)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def every_kind(mask):
    return [
        Prompt([[180, 100]], [1]),
        Prompt(box=[160, 80, 201, 121]),
        Prompt([[180, 100], [90, 100]], [1, 0]),
        Prompt(mask=mask),
        Prompt([[180, 100]], [1], [150, 70, 211, 131], mask),
    ]


def test_prompts_of_every_kind_get_together_what_each_gets_alone(segmenter, image, mask, monkeypatch):
    encoding, prompts = segmenter.encode(image), every_kind(mask)
    monkeypatch.setattr(predict, "BATCH", 2)
    found = segmenter.predict(encoding, prompts)
    monkeypatch.setattr(predict, "BATCH", 99)
    previous = [found[0], None, None, found[3], None]
    again = segmenter.predict(encoding, [prompt.with_click([181, 101], 1) for prompt in prompts], previous)
    for row, prompt in enumerate(prompts):
        (alone,) = segmenter.predict(encoding, [prompt])
        assert (alone.mask ^ found[row].mask).mean() < 1e-4
        assert alone.iou == pytest.approx(found[row].iou, abs=1e-4)
        assert dice(alone.mask, mask) > 0.85
        (corrected,) = segmenter.predict(encoding, [prompt.with_click([181, 101], 1)], [previous[row]])
        assert (corrected.mask ^ again[row].mask).mean() < 1e-4
    assert segmenter.predict(encoding, []) == []


def test_a_mask_is_shown_where_it_lies(sam, image, mask, monkeypatch):
    """A mask prompt alone says which of two discs is meant; logits say so as much as yes and no."""
    shown, plain = [], look.predict

    def recorded(sam, encoding, prompts, logits=None):
        shown.append(logits)
        return plain(sam, encoding, prompts, logits)

    monkeypatch.setattr(look, "predict", recorded)
    segmenter = Segmenter(sam)
    encoding = segmenter.encode(image)
    first, other, logits = segmenter.predict(
        encoding, [Prompt(mask=mask), Prompt(mask=mask[:, ::-1]), Prompt(mask=mask * 12.0 - 6)]
    )
    assert dice(first.mask, mask) > 0.85
    assert dice(other.mask, mask) < 0.2
    assert (logits.mask == first.mask).all()
    seen = look.Prediction(
        shown[0], torch.zeros(3, 1), sam.image_encoder.img_size, SHAPE, encoding.input_size
    )
    assert dice(seen.masks()[0, 0], mask) > 0.9


def test_a_segmentation_before_takes_the_place_of_a_prompts_mask(segmenter, image, mask):
    encoding, wrong = segmenter.encode(image), Prompt([[180, 100]], [1], mask=mask[:, ::-1])
    (first,) = segmenter.predict(encoding, [Prompt([[180, 100]], [1])])
    (found,), (without,) = (
        segmenter.predict(encoding, [prompt], [first]) for prompt in (wrong, Prompt([[180, 100]], [1]))
    )
    assert torch.equal(found.low_res, without.low_res)


def test_alternatives_are_the_models_three_masks_and_its_answer_is_among_them(segmenter, image):
    encoding, prompt = segmenter.encode(image), Prompt([[180, 100]], [1])
    found = segmenter.alternatives(encoding, prompt)
    own = look.predict(segmenter.sam, encoding, pack([prompt]))
    assert torch.equal(torch.cat([one.low_res for one in found]), own.low_res[0, 1:])
    (answer,) = segmenter.predict(encoding, [prompt])
    assert answer.iou == found[int(own.iou[0, 1:].argmax())].iou


def test_what_is_drawn_is_the_mask_in_logits(segmenter, image, mask):
    """Images padded on either side; SAM resizes in two steps, so an edge may move by a hair."""
    for seen in (image, image[:150], image[:, :170]):
        y, x = np.argwhere(mask[: len(seen), : seen.shape[1]]).mean(0)
        (answer,) = segmenter.predict(segmenter.encode(seen), [Prompt([(x, y)], [1])])
        drawn = answer.drawn()
        assert drawn.shape == answer.mask.shape
        assert answer.mask.any()
        assert np.mean((drawn > 0).numpy() != answer.mask) < 0.15 * answer.mask.mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "previous Tensor: expected the Segmentation of the round before"),
        ({"low_res": torch.zeros(1, 32, 32)}, r"previous low_res .*\(1, 32, 32\)"),
        ({"mask": np.zeros((300, 301), bool)}, r"\(300, 301\)\): expected .*\(240, 300\)"),
    ],
)
def test_a_segmentation_of_something_else_is_named(segmenter, image, changes, message):
    encoding, prompt = segmenter.encode(image), Prompt([[180, 100]], [1])
    (first,) = segmenter.predict(encoding, [prompt])
    previous = first.low_res if changes is None else replace(first, **changes)
    with pytest.raises(ValueError, match=message):
        segmenter.predict(encoding, [prompt], [previous])


@pytest.mark.parametrize(
    ("prompt", "message"), [(Prompt(), "no prompt"), (Prompt([[300, 5]], [1]), "300 x 240")]
)
def test_a_prompt_that_is_none_of_the_image_is_an_error(segmenter, image, prompt, message):
    encoding = segmenter.encode(image)
    for ask in (
        lambda: segmenter.predict(encoding, [prompt]),
        lambda: segmenter.alternatives(encoding, prompt),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
    with pytest.raises(ValueError, match="2 previous segmentations of 1 prompts"):
        segmenter.predict(encoding, [prompt.with_click([5, 5], 1).moved(5, 0)], [None, None])


def test_ten_thousand_clicks_are_answered_as_a_hundred_spread_over_them(segmenter, image, mask):
    ys, xs = np.nonzero(mask)
    chosen = np.random.default_rng(0).integers(len(ys), size=10_000)
    many = Prompt(np.stack([xs, ys], 1)[chosen], np.ones(10_000))
    encoding = segmenter.encode(image)
    (found,) = segmenter.predict(encoding, [many])
    assert (found.mask & mask).any()
    (fewer,) = segmenter.predict(encoding, [thinned(many)])
    assert np.array_equal(found.mask, fewer.mask)
    assert len(thinned(many).points) == MOST
    few = Prompt(many.points[:5], many.labels[:5])
    assert thinned(few) is few


def test_attention_hands_on_no_numbers_that_are_slow_to_multiply():
    shares = decoder.shares_of(torch.tensor([[0.0, -60.0, -90.0]]), -1)[0].tolist()
    assert shares[0] == 1
    assert shares[1] == pytest.approx(np.exp(-60))
    assert shares[2] == 0  # its exponential would be a denormal number
