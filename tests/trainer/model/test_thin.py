"""The network for thin objects: what it sees lies where it was asked; where surer it is believed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfm.data.prompts import Prompt
from synthfm.trainer.model import models, second_look, thin
from synthfm.trainer.model.packing import pack
from synthfm.trainer.model.predict import SecondLook, Segmenter

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (60, 84)


def line(width, length, side=128):
    mask = torch.zeros(1, side, side)
    mask[:, 20 : 20 + width, 10 : 10 + length] = 1
    return mask


def disc(radius, side=128):
    ys, xs = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return (torch.hypot(ys - side / 2, xs - side / 2) < radius)[None].float()


def test_what_is_thin():
    ring = disc(40) - disc(36)
    thin_ones, others = (
        [line(2, 60), line(4, 110), ring],
        [disc(40), disc(8), line(20, 60), disc(40) - disc(20)],
    )
    assert all(float(thin.slenderness(mask)) <= thin.THIN for mask in thin_ones)
    assert all(float(thin.slenderness(mask)) > thin.THIN for mask in others)
    assert float(thin.slenderness(torch.zeros(1, 32, 32))) == 0


@given(st.integers(2, 5), st.integers(0, 3), st.booleans())
def test_slenderness_does_not_depend_on_how_an_object_lies(width, turn, mirrored):
    mask = line(width, 90)
    moved = torch.rot90(mask.flip(2) if mirrored else mask, turn, (1, 2))
    assert torch.allclose(thin.slenderness(moved), thin.slenderness(mask))
    assert torch.allclose(thin.slenderness(torch.cat([mask, disc(30)]))[0], thin.slenderness(mask)[0])


def test_the_border_of_the_image_is_no_outline():
    """A vessel that leaves the image is as thin as one that ends before it."""
    whole = torch.ones(1, 64, 64)
    half = whole.clone()
    half[:, :, 32:] = 0
    assert float(thin.slenderness(whole)) > 100
    assert float(thin.slenderness(half)) == pytest.approx(2 * (64 * 32) ** 0.5 / 64)


@given(st.integers(0, 2**32 - 1))
def test_clicks_and_box_lie_where_they_were_given(seed):
    rng = np.random.default_rng(seed)
    points = np.stack([rng.integers(0, SHAPE[1], 4), rng.integers(0, SHAPE[0], 4)], 1)
    labels = np.array([1, 0, 1, 0])
    x0, y0 = rng.integers(0, 40, 2)
    box = [x0, y0, x0 + rng.integers(1, 40), y0 + rng.integers(1, 20)]
    image = torch.from_numpy(rng.integers(0, 256, (1, 1, *SHAPE)).astype(np.float32))
    size = torch.tensor([SHAPE])
    planes = thin.planes_of(
        image, size, pack([Prompt(points, labels, box=box), Prompt(points[:1], labels[:1])])
    )
    for number, (x, y) in enumerate(points):
        near = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert (planes[0, 1 if labels[number] else 2][near] == 1).all()
    assert float(planes[1, 1].sum()) <= 9
    assert float(planes[1, 2:].abs().sum()) == 0
    inside = np.zeros(SHAPE, bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    assert np.array_equal(planes[0, 3].numpy() > 0, inside)
    assert set(np.unique(planes[0, 3].numpy())) <= {-1.0, 1.0}
    assert abs(float(planes[0, 0].mean())) < 1e-3
    assert float(planes[0, 0].std()) == pytest.approx(1, abs=0.05)


def test_padding_is_not_looked_at():
    """Of an image that is padded the grey values are scaled by what is image."""
    image = torch.randint(0, 256, (1, 1, 40, 64), generator=torch.Generator().manual_seed(0)).float()
    padded = torch.nn.functional.pad(image, (0, 8, 0, 24), value=255)
    prompt = pack([Prompt([[5, 5]], [1])])
    alone = thin.planes_of(image, torch.tensor([[40, 64]]), prompt)
    beside = thin.planes_of(padded, torch.tensor([[40, 64]]), prompt)
    assert torch.allclose(beside[..., :40, :64], alone, atol=1e-5)
    assert float(beside[:, 0, 40:].abs().max()) == 0


@pytest.mark.parametrize("shape", [(37, 90), (300, 41), (9, 9), (64, 64, 3)])
def test_an_answer_has_the_images_size(shape):
    net = thin.ThinNet().eval()
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    prompts = pack([Prompt(box=[1, 1, 8, 8]), Prompt([[3, 4], [6, 2]], [1, 0])])
    logits = thin.logits_of(net, image, prompts, 128)
    assert logits.shape == (2, *shape[:2])
    assert torch.isfinite(logits).all()
    alone = thin.logits_of(net, image, pack([Prompt(box=[1, 1, 8, 8])]), 128)
    assert torch.allclose(logits[:1], alone, atol=1e-3)


def vessels(side=192, contrast=-45):
    """A dark tree on a patchy ground, not drawn by the generator: its mask and an image, uint8."""
    rng = np.random.default_rng(3)
    ys, xs = np.indices((side, side))
    mask = np.zeros((side, side), bool)
    for slope, start in ((0.25, 30), (-0.3, 150), (0.6, 70), (-0.1, 110)):
        mask |= np.abs(ys - start - slope * xs - 9 * np.sin(xs / 17 + start)) < 2.2
    ground = 130 + 25 * np.sin(xs / 40) + 20 * np.cos(ys / 31)
    return mask, np.clip(ground + contrast * mask + rng.normal(0, 9, mask.shape), 0, 255).astype(np.uint8)


def dice(found, mask):
    return 2 * (found & mask).sum() / max(found.sum() + mask.sum(), 1)


@pytest.fixture(scope="module")
def tiny():
    return models.load("tiny")[0]


@pytest.mark.parametrize("contrast", [-45, 45])
def test_the_shipped_network_draws_vessels_that_the_decoder_cannot(tiny, contrast):
    mask, image = vessels(contrast=contrast)
    points = np.argwhere(mask)[:: mask.sum() // 12][:, ::-1]
    outside = np.argwhere(~mask)[:: (~mask).sum() // 12][:, ::-1]
    prompts = [
        Prompt(box=[0, 0, 192, 192]),
        Prompt(np.concatenate([points, outside]), [1] * len(points) + [0] * len(outside)),
    ]
    scores = []
    for wanted in (None, thin.SHIPPED):
        segmenter = Segmenter(tiny, SecondLook(thin=wanted))
        scores.append([dice(one.mask, mask) for one in segmenter.predict(segmenter.encode(image), prompts)])
    assert min(scores[1]) > 0.75
    assert scores[1][0] > scores[0][0] + 0.2


def test_a_compact_object_is_answered_as_without(tiny):
    ys, xs = np.indices((160, 160))
    noise = np.random.default_rng(0).normal(0, 8, (160, 160))
    image = np.clip(90 + 60 * (np.hypot(ys - 80, (xs - 70) / 1.3) < 34) + noise, 0, 255).astype(np.uint8)
    prompts = [Prompt(box=[26, 46, 115, 115]), Prompt([[70, 80]], [1]), Prompt([[70, 80], [10, 10]], [1, 0])]
    found = [
        [one.mask for one in segmenter.predict(segmenter.encode(image), prompts)]
        for segmenter in (Segmenter(tiny, SecondLook(thin=wanted)) for wanted in (None, thin.SHIPPED))
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_what_the_evidence_is(tiny):
    """Each field says what it is named for, of masks that are known."""
    mask, image = vessels()
    sure = torch.from_numpy(np.where(mask, 4.0, -4.0).astype(np.float32))
    on, off = np.argwhere(mask)[40, ::-1], np.argwhere(~mask)[40:42, ::-1]
    clicks = Prompt([on, off[0]], [1, 0])
    corner = np.zeros_like(mask)
    corner[:48, :48] = True
    asked = second_look.extent(corner, Prompt([on], [1]))
    told = thin.evidence(sure, image, clicks, asked)
    assert told.sure > 1.5 > thin.evidence(sure / 8, image, clicks, asked).sure
    assert told.contrast > 1.5
    assert thin.evidence(sure, np.full_like(image, 90), clicks, asked).contrast == 0
    ys, xs = np.nonzero(mask)
    assert told.span == pytest.approx((np.ptp(ys) + 1) * (np.ptp(xs) + 1) / mask.size)
    x, y = (max(int(place) + 1, 48) for place in on)
    assert told.asked_span == pytest.approx(x * y / mask.size)
    assert thin.evidence(
        sure, image, Prompt([[3, 4]], [1]), np.array([0, 0, 48, 48])
    ).asked_span == pytest.approx(48 * 48 / mask.size)
    assert (told.inside, told.outside) == (1, 1)
    wrong = thin.evidence(sure, image, Prompt([off[0], on, off[1]], [1, 1, 0]), asked)
    assert (wrong.inside, wrong.outside) == (0.5, 1)
    assert thin.evidence(sure, image, Prompt(box=[0, 0, 96, 48]), np.array([0, 0, 96, 48]))[-3:] == (
        0.125,
        1,
        1,
    )


@given(st.floats(-3, 0.5), st.floats(0.3, 4))
def test_the_cut_of_the_highest_expected_dice(shift, slope):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy((slope * rng.normal(shift, 1, (40, 40))).astype(np.float32))
    chance = torch.sigmoid(logits)

    def expected(kept):
        return float(2 * chance[kept].sum() / (kept.sum() + chance.sum()))

    found = expected(thin.of_best_dice(logits) > 0)
    assert found >= expected(logits > 0)
    assert found >= max(expected(logits > cut) for cut in np.arange(-3, 0.1, 0.25)) - 1e-6


def test_the_evidence_decides(tiny):
    _mask, image = vessels()
    segmenter = Segmenter(tiny, SecondLook(thin=None))
    prompt = Prompt(box=[0, 0, 192, 192])
    (found,) = segmenter.predict(segmenter.encode(image), [prompt])
    said = np.ones(0, bool)
    for bias in (-100.0, 100.0):
        settings = SecondLook(thin=replace(thin.SHIPPED, bias=bias))
        chosen = second_look.or_thin(tiny, found, image, prompt, said, settings)
        assert (chosen is found) == (bias > 0)
    assert second_look.or_thin(tiny, found, image, prompt, said, SecondLook(thin=None)) is found


def test_the_network_is_asked_no_more_than_it_takes(tiny, monkeypatch):
    """Not of what is small, and finely where the first look is not far from being believed."""
    mask, image = vessels(side=320)
    box, click = Prompt(box=[0, 0, 320, 320]), Prompt([np.argwhere(mask)[9, ::-1]], [1])
    small, seen, real = np.append(click.points[0], click.points[0] + 1), [], thin.logits_of

    def logits_of(net, image, prompts, side):
        seen.append(side)
        return real(net, image, prompts, side)

    monkeypatch.setattr(thin, "logits_of", logits_of)
    assert thin.answer(tiny.thin, image, click, small) is None
    assert seen == []
    assert thin.answer(tiny.thin, image, box, box.box) is not None
    assert seen == [256, 320]
    far = replace(thin.SHIPPED, bias=100.0)
    assert thin.answer(tiny.thin, image, box, box.box, far) is None
    assert seen == [256, 320, 256]


def test_what_is_asked(tiny, monkeypatch):
    """The box, or what is around the clicks inside and the answer; of neither nothing."""
    mask, image = vessels()
    corner = np.zeros_like(mask)
    corner[10:48, 10:48] = True
    found = second_look.segmentation(torch.from_numpy(np.where(corner, 3.0, -3.0)), 0.5, None)
    empty = second_look.segmentation(torch.full(mask.shape, -3.0), 0.5, None)
    seen = []
    monkeypatch.setattr(thin, "answer", lambda net, image, prompt, asked, settings: seen.append(list(asked)))
    clicks = Prompt([[100, 60], [180, 180]], [1, 0])
    for one, prompt in (
        (found, Prompt([[0, 0]], [1], box=[5, 6, 90, 80])),
        (found, clicks),
        (empty, clicks),
        (found, Prompt([[180, 180]], [0])),
        (found, Prompt(mask=mask)),
        (empty, Prompt([[180, 180]], [0])),
    ):
        assert second_look.or_thin(tiny, one, image, prompt, np.ones(len(prompt.points), bool)) is one
    assert seen == [[5, 6, 90, 80], [10, 10, 101, 61], [100, 60, 101, 61], [10, 10, 48, 48]]
