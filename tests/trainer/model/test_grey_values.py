"""What an image's grey values say of a mask: that they mend it, and only near it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from synthfm.trainer.model.grey_values import SHIPPED, GreyValues, log_odds, refine

SHAPE = (96, 110)
MOST = (SHIPPED.histogram + SHIPPED.texture) * SHIPPED.limit + SHIPPED.agreement


def disc(radius=20.0, centre=(48.0, 50.0), shape=SHAPE):
    ys, xs = np.indices(shape)
    return np.hypot(ys - centre[0], xs - centre[1]) < radius


def unsure(mask):
    """Logits of a mask that know its outline to some pixels only."""
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return torch.from_numpy((np.clip(inside - outside, -12, 12) / 3).astype(np.float32))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def picture(mask, kind):
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, mask.shape)
    grey = {
        "brighter": 90 + 50 * mask + 15 * noise,
        "darker": 150 - 40 * mask + 15 * noise,
        "finer": 120 + np.where(mask, 25 * noise, 25 * 3 * ndimage.gaussian_filter(noise, 1.5)),
        "calmer": 120 + np.where(mask, 6, 30) * noise,
        # Two tissues around an object between them: no threshold tells it apart.
        "between": 120 + np.where(mask, 0, np.where(np.arange(mask.shape[1]) < 50, -45, 45)) + 10 * noise,
    }[kind]
    return np.clip(grey, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["brighter", "darker", "finer", "calmer", "between"])
@pytest.mark.parametrize("wrong", [disc(17), disc(23), disc(20, (50, 53))])
def test_a_mask_comes_closer_to_what_the_image_shows(kind, wrong):
    right = disc()
    refined = refine(unsure(wrong), picture(right, kind)).numpy() > 0
    assert dice(refined, right) > dice(wrong, right) + 0.2 * (1 - dice(wrong, right))


def test_the_mended_mask_teaches_again():
    ys, xs = np.indices(SHAPE)
    radius = np.hypot(ys - 48, xs - 50)
    rim = np.select([radius < 14, radius < 22], [60, 160], 60)  # the mask holds some of a bright rim
    image = np.clip(rim + np.random.default_rng(0).normal(0, 12, SHAPE), 0, 255).astype(np.uint8)
    thrice = refine(unsure(disc(17)), image).numpy() > 0
    once = refine(unsure(disc(17)), image, GreyValues(rounds=1)).numpy() > 0
    assert dice(thrice, disc(14)) > dice(once, disc(14)) + 0.05 > dice(disc(17), disc(14)) + 0.05


@pytest.mark.parametrize("kind", ["brighter", "between"])
def test_a_right_mask_stays(kind):
    refined = refine(unsure(disc()), picture(disc(), kind)).numpy() > 0
    assert dice(refined, disc()) > 0.985


def test_only_pixels_near_the_mask_are_asked():
    logits = unsure(disc())
    image = picture(disc(), "brighter")
    image[:10] = image[-1, -1]  # and what is far has no say either
    refined = refine(logits, image)
    far = ndimage.distance_transform_edt(~disc()) >= SHIPPED.reach * np.sqrt(disc().sum())
    assert (refined[far] == logits[far]).all()
    assert (refined[~torch.from_numpy(far)] != logits[~torch.from_numpy(far)]).float().mean() > 0.9


@given(
    image=arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 200))),
    seed=st.integers(0, 99),
    level=st.floats(-3, 3),
)
def test_any_image_and_mask_give_finite_bounded_log_odds(image, seed, level):
    logits = np.random.default_rng(seed).normal(level, 2, image.shape).astype(np.float32)
    added = refine(torch.from_numpy(logits), image).numpy() - logits
    assert np.isfinite(added).all()
    assert abs(added).max() <= MOST + 1e-4


def test_no_grey_value_overrules_a_mask_that_is_sure():
    image = np.where(disc(14), 110, 90).astype(np.uint8)  # only the middle of the mask differs
    image[48, 64] = 255
    logits = unsure(disc()).numpy()
    added = log_odds(logits, image)
    assert added.max() > SHIPPED.histogram * SHIPPED.limit
    assert abs(added).max() <= MOST + 1e-4


@pytest.mark.parametrize("sign", [-1, 1], ids=["empty", "full"])
def test_without_a_mask_or_surroundings_nothing_changes(sign):
    logits = sign * (torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) + 0.1)
    refined = refine(logits, picture(disc(), "brighter"))
    torch.testing.assert_close(refined, logits, rtol=0, atol=0)


def test_an_even_image_leaves_the_mask():
    refined = refine(unsure(disc()), np.full(SHAPE, 7, np.uint8)).numpy() > 0
    assert dice(refined, disc()) > 0.99


def test_neighbours_that_look_alike_agree():
    spots = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.08
    logits = torch.where(spots, -0.5, 1.0) * torch.where(torch.from_numpy(disc()), 1, -1)
    image = np.full(SHAPE, 90, np.uint8)
    assert dice(logits.numpy() > 0, disc()) < 0.9
    assert dice(refine(logits, image).numpy() > 0, disc()) > 0.97


def test_neighbours_are_asked_after_the_grey_values():
    right, known = (
        disc(),
        disc() & (np.indices(SHAPE)[1] < 60),
    )  # unsure of a part, which is as bright as the rest
    logits = torch.from_numpy(np.select([known, right], [3, -0.2], -3).astype(np.float32))
    neighbours = GreyValues(rounds=1, agreement=50)  # they alone decide
    assert (
        dice(refine(logits, picture(right, "brighter"), neighbours).numpy() > 0, right)
        > 0.97
        > dice(known, right)
    )


def test_neighbours_across_an_edge_do_not():
    line = np.zeros(SHAPE, bool)
    line[20:80, 50] = True  # one pixel wide: all around it is background
    image = np.clip(80 + 40 * line + np.random.default_rng(0).normal(0, 8, SHAPE), 0, 255).astype(np.uint8)
    logits = torch.where(torch.from_numpy(line), 0.5, -1.0)
    assert dice(refine(logits, image).numpy() > 0, line) > 0.97


def test_the_unit_of_the_grey_values_does_not_count():
    logits, image = unsure(disc()).numpy(), picture(disc(), "brighter").astype(float)
    np.testing.assert_allclose(log_odds(logits, image / 9 - 1000), log_odds(logits, image), atol=0.02)


def test_colours_are_averaged():
    logits, image = unsure(disc()), np.clip(picture(disc(), "brighter"), 40, 200)
    refined = refine(logits, np.stack([image - 40, image, image + 40], 2))
    torch.testing.assert_close(refined, refine(logits, image), rtol=0, atol=0)


def test_a_large_image_settles_as_a_small_one_does():
    wrong, image = unsure(disc(17)), picture(disc(), "brighter")
    large = torch.nn.functional.interpolate(wrong[None, None], scale_factor=4, mode="bilinear")[0, 0]
    refined = refine(large, image.repeat(4, 0).repeat(4, 1)).numpy() > 0
    small = refine(wrong, image).numpy() > 0
    assert dice(refined, small.repeat(4, 0).repeat(4, 1)) > 0.97
    assert dice(refined, disc().repeat(4, 0).repeat(4, 1)) > 0.9
