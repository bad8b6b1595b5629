"""What a box says of a mask that is nearly the ellipse in it, and when it says nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfm.data.distance import bounds
from synthfm.data.prompts import Prompt
from synthfm.trainer.model import models
from synthfm.trainer.model.ellipse_prior import SHIPPED, log_odds
from synthfm.trainer.model.predict import SecondLook, Segmenter

SHAPE = (120, 140)


def ellipse(a=40.0, b=30.0, lean=0.0, centre=(70.0, 60.0), shape=SHAPE):
    """Half-axes a and b of the box that it touches, and the correlation of its x and y."""
    ys, xs = np.indices(shape) + 0.5
    x, y = (xs - centre[0]) / a, (ys - centre[1]) / b
    return (x * x - 2 * lean * x * y + y * y) / (1 - lean * lean) <= 1


BOX = bounds(ellipse())
shift = st.floats(-0.5, 0.5)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@given(
    st.floats(45, 60), st.floats(45, 52), st.floats(-0.6, 0.6), st.sampled_from([0.965, 1.035]), shift, shift
)
def test_an_outline_that_is_a_little_off_is_moved_to_the_box(a, b, lean, scale, right, down):
    meant = ellipse(a, b, lean)
    drawn = ellipse(scale * a, scale * b, lean, (70 + right, 60 + down))
    added = log_odds(drawn, bounds(meant))
    assert added.dtype == np.float32
    assert 0 < abs(added).max() <= SHIPPED.weight
    assert dice(added > 0, meant) > max(0.985, dice(drawn, meant))


def test_it_lies_in_the_middle_of_the_box():
    added = log_odds(ellipse(38, 28.5), BOX)
    np.testing.assert_array_equal(added, added[:, ::-1])
    np.testing.assert_array_equal(added, added[::-1])
    np.testing.assert_array_equal(bounds(added > 0), BOX)


def test_it_leans_as_the_mask_does():
    meant = ellipse(lean=0.5)
    drawn = ellipse(38, 28.5, lean=0.5)
    assert dice(log_odds(drawn, bounds(meant)) > 0, meant) > 0.99
    assert dice(log_odds(drawn[:, ::-1], bounds(meant[:, ::-1])) > 0, meant[:, ::-1]) > 0.99


def test_it_says_less_the_less_alike_mask_and_ellipse_are():
    full, much, little = (log_odds(ellipse(width, 30), BOX).max() for width in (37, 35.5, 34.5))
    assert full == SHIPPED.weight > much > little > 0
    assert log_odds(ellipse(33, 30), BOX) is None
    between = log_odds(ellipse(), BOX + np.array([0, 0, 2, 0]))  # a pixel off, in the mean
    assert between.max() == SHIPPED.weight / 2


@pytest.mark.parametrize(("column", "several"), [(35, False), (44, True), (96, True)])
def test_an_object_of_several_pieces_is_no_ellipse(column, several):
    mask = ellipse(37, 30)
    mask[:, column : column + 2] = False
    assert dice(mask, ellipse()) > SHIPPED.like[0]
    assert (log_odds(mask, BOX) is None) == several


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (ellipse(), BOX),  # keeps to its box
        (ellipse(), BOX + np.array([0, 0, 1, 0])),  # to half a pixel
        (ellipse(), BOX + np.array([-8, -8, 8, 8])),  # a loose box
        (np.pad(np.ones((60, 80), bool), 30), np.array([28, 28, 112, 92])),  # no ellipse
        (np.zeros(SHAPE, bool), np.array([30, 30, 100, 90])),
        (ellipse(38.5, centre=(40, 60)), np.array([0, 30, 80, 90])),  # may go on beyond the image
        (ellipse(38.5, centre=(100, 60)), np.array([60, 30, 140, 90])),
        (ellipse(b=28.5, centre=(70, 30)), np.array([30, 0, 110, 60])),
        (ellipse(b=28.5, centre=(70, 90)), np.array([30, 60, 110, 120])),
        (np.indices(SHAPE).sum(0) == 60, np.array([10, 10, 52, 52])),  # a line
        (np.indices(SHAPE).sum(0) == 0, np.array([1, 1, 3, 3])),  # a pixel
        (np.pad(np.ones((1, 40), bool), 30), np.array([30, 29, 70, 32])),  # a row
        (np.pad(np.ones((40, 1), bool), 30), np.array([29, 30, 32, 70])),  # a column
    ],
)
@pytest.mark.filterwarnings("error")
def test_it_says_nothing(mask, box):
    assert log_odds(mask, box.astype(float)) is None


@pytest.fixture(scope="module")
def sam():
    return models.load("tiny")[0].eval()


def skull():
    """A head whose inner edge is the brighter one, and the mask that is meant, with the outer one."""
    meant = ellipse(52, 40, 0.2, (100, 80), (160, 200))
    inner, core = (ellipse(f * 52, f * 40, 0.2, (100, 80), (160, 200)) for f in (0.95, 0.88))
    noise = np.random.default_rng(0).normal(0, 8, meant.shape)
    grey = 60 + 25 * meant + 110 * inner - 90 * core + noise
    return np.clip(grey, 0, 255).astype(np.uint8), meant


def test_a_box_moves_the_outline_outwards_where_no_click_speaks(sam):
    image, meant = skull()
    box = bounds(meant)
    prompts = [Prompt(box=box), Prompt([[100, 80]], [1], box)]
    segmenters = (Segmenter(sam, SecondLook(ellipse=prior)) for prior in (SHIPPED, None))
    (alone, clicked), (before, clicked_before) = (
        segmenter.predict(segmenter.encode(image), prompts) for segmenter in segmenters
    )
    assert 0.9 < dice(before.mask, meant) < dice(alone.mask, meant) - 0.01
    assert abs(bounds(alone.mask) - box).max() <= 1
    assert torch.equal(clicked.logits, clicked_before.logits)
