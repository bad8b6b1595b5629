"""Where the second look goes: the square around what the first has seen, of one image and of a batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfm.data.prompts import Prompt
from synthfm.trainer.model import second_look
from synthfm.trainer.model.packing import pack


@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_the_square_holds_the_box_and_lies_in_the_image(shape, corners):
    height, width = shape
    x0, x1 = sorted(int(side * width) for side in corners[:2])
    y0, y1 = sorted(int(side * height) for side in corners[2:])
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    box = np.array([x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)])
    found = second_look.view_around(box, shape)
    side = int(np.ceil(second_look.SHIPPED.factor * max(box[2:] - box[:2])))
    for axis, size in enumerate((width, height)):
        start, end = found[axis], found[axis + 2]
        assert 0 <= start <= box[axis]
        assert box[axis + 2] <= end <= size
        assert end - start == min(side, size)


def test_extent_takes_clicks_as_pixels():
    mask = np.zeros((20, 20), bool)
    mask[5:8, 9:12] = True
    assert second_look.extent(mask, Prompt([[3, 6], [15, 2]], [1, 0])).tolist() == [3, 2, 16, 8]
    assert second_look.extent(mask, Prompt(box=[3, 6, 10, 9])).tolist() == [3, 5, 12, 9]


@given(
    shape=st.tuples(st.integers(8, 64), st.integers(8, 64)),
    seed=st.integers(0, 2**31),
    clicked=st.booleans(),
)
def test_the_squares_of_a_batch_are_those_of_single_images(shape, seed, clicked):
    """Training looks where `second_look.predict` looks, up to the rounding to whole pixels."""
    rng = np.random.default_rng(seed)
    side = max(shape)
    mask = np.zeros((side, side), bool)
    (y0, y1), (x0, x1) = (np.sort(rng.integers(0, size, 2)) for size in shape)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    corner = rng.integers(0, np.array(shape)[::-1] // 2, 2)
    corners = np.stack([corner, corner + 3])
    prompt = Prompt(corners[:1], [1]) if clicked else Prompt(box=corners.ravel())
    found = second_look.squares(torch.from_numpy(mask)[None], pack([prompt]), torch.tensor([shape]), side)
    left, top, wide = found[0].tolist()
    image = second_look.extent(mask[: shape[0], : shape[1]], prompt)
    x0, y0, x1, y1 = second_look.view_around(image, shape)
    if (y1 - y0, x1 - x0) == shape:
        assert wide >= side - 1
    else:
        assert (left, top) == pytest.approx((x0, y0), abs=1.01)
        assert (min(left + wide, shape[1]), min(top + wide, shape[0])) == pytest.approx((x1, y1), abs=1.01)


def test_a_square_around_no_mask_is_the_whole_input():
    nothing, prompts = torch.zeros((1, 16, 16), dtype=torch.bool), pack([Prompt([[30, 20]], [1])])
    found = second_look.squares(nothing, prompts, torch.tensor([[64, 64]]), 64)
    assert found.tolist() == [[0, 0, 64]]


def test_a_cut_shows_the_square_whatever_the_grids():
    """A ramp stays a ramp: the value of a cut's pixel is the place that it shows."""
    x = (torch.arange(32) + 0.5) * 2  # of an input of 64 pixels
    ramps = torch.stack([x.expand(32, 32), x[:, None].expand(32, 32)])[None]
    found = second_look.cut(ramps, torch.tensor([[10.0, 20.0, 40.0]]), 64, 16)[0]
    along = (torch.arange(16) + 0.5) * 40 / 16
    torch.testing.assert_close(found[0], (10 + along).expand(16, 16))
    torch.testing.assert_close(found[1], (20 + along)[:, None].expand(16, 16))
