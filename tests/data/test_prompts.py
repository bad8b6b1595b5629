"""Prompts: what they hold, and where clicks, boxes and scribbles of a mask lie, for any mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from synthfm.data import prompts
from synthfm.data.distance import around, by_depth, extents, look_up
from synthfm.data.prompts import Prompt

quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def masks(draw) -> np.ndarray:
    """Random pixels, or a smooth blob; never empty."""
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    if draw(st.booleans()):
        mask = draw(npst.arrays(bool, shape))
    else:
        noise = np.random.default_rng(draw(seeds)).normal(size=shape)
        mask = ndimage.gaussian_filter(noise, 3) > 0
    assume(mask.any())
    return mask


def neighbourhood(mask: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask)


@quick
@given(masks())
def test_the_tight_box_holds_the_mask_and_each_side_touches_it(mask):
    x0, y0, x1, y1 = prompts.tight_box(mask)
    assert mask.sum() == mask[y0:y1, x0:x1].sum()
    assert mask[y0].any()
    assert mask[y1 - 1].any()
    assert mask[:, x0].any()
    assert mask[:, x1 - 1].any()


@quick
@given(masks(), seeds)
def test_extents_are_the_tight_boxes_of_every_number_in_a_label_map(mask, seed):
    label = np.random.default_rng(seed).choice(np.array([0, 3, 255], np.uint8), mask.shape)
    label[mask] = 7
    boxes, pixels = extents(label)
    assert pixels.tolist() == np.bincount(label.ravel(), minlength=256).tolist()
    for number in range(256):
        if (label == number).any():
            np.testing.assert_array_equal(boxes[number], prompts.tight_box(label == number))
        else:
            np.testing.assert_array_equal(boxes[number], [*mask.shape[::-1], 0, 0])


@quick
@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))), seeds)
def test_the_mask_of_several_numbers_and_its_box_are_those_of_numpy(label, seed):
    members = np.random.default_rng(seed).random(256) < 0.5
    members[label[0, 0]] = True
    for kind in (bool, np.float32):
        mask = np.empty(label.shape, kind)
        look_up(label, members, mask)
        np.testing.assert_array_equal(mask, members[label])
    np.testing.assert_array_equal(around(extents(label)[0], members), prompts.tight_box(members[label]))


@quick
@given(masks(), st.floats(0, 1, exclude_max=True))
def test_a_share_of_the_summed_depth_is_a_pixel(mask, share):
    sums = np.cumsum(prompts.depth(mask), dtype=np.float64)
    place = np.searchsorted(sums, share * sums[-1], side="right")
    assert by_depth(mask, share) == (place % mask.shape[1], place // mask.shape[1])


@quick
@given(masks())
def test_depth_is_the_exact_distance_with_the_frame_as_outside(mask):
    expected = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    np.testing.assert_allclose(prompts.depth(mask), expected, rtol=1e-6)


@quick
@given(masks())
def test_the_centre_is_the_deepest_point_and_among_equals_nearest_to_their_middle(mask):
    x, y = prompts.centre_point(mask)
    inner = prompts.depth(mask)
    assert mask[y, x]
    assert inner[y, x] == pytest.approx(inner.max())
    equals = np.argwhere(inner > inner.max() - 1e-4)
    away = np.linalg.norm(equals - equals.mean(0), axis=1)
    assert np.linalg.norm((y, x) - equals.mean(0)) == pytest.approx(away.min())


def test_millions_of_equally_deep_pixels_have_their_middle_as_centre():
    comb = np.zeros((3000, 3000), bool)
    comb[:, ::2] = True
    x, y = prompts.centre_point(comb)
    assert abs(x - 1499) <= 1
    assert abs(y - 1499.5) <= 1


@quick
@given(masks(), seeds, st.integers(1, 8))
def test_positive_clicks_lie_in_the_mask_and_start_at_the_centre(mask, seed, count):
    points = prompts.positive_points(mask, count, np.random.default_rng(seed))
    assert points.shape == (count, 2)
    assert points.dtype == np.int16
    assert mask[points[:, 1], points[:, 0]].all()
    assert (points[0] == prompts.centre_point(mask)).all()


@quick
@given(seeds)
def test_positive_clicks_are_spread_over_a_large_object(seed):
    mask = np.zeros((40, 200), bool)
    mask[5:35, 5:195] = True
    points = prompts.positive_points(mask, 5, np.random.default_rng(seed))
    assert np.ptp(points[:, 0]) > 120
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)[~np.eye(5, dtype=bool)]
    assert distances.min() > 10


@quick
@given(masks(), seeds, st.integers(0, 6))
def test_negative_clicks_lie_outside_the_mask_and_near(mask, seed, count):
    points = prompts.negative_points(mask, count, np.random.default_rng(seed))
    assert len(points) == (count if not mask.all() else 0)
    away = neighbourhood(mask)[points[:, 1], points[:, 0]]
    assert (away > 0).all()
    far = prompts.reach(int(mask.sum()))
    if ((neighbourhood(mask) > 1.5) & (neighbourhood(mask) <= far)).any():
        assert (away <= far).all()
        assert (away > 1.4).all()


@pytest.mark.parametrize(("side", "far"), [(8, 4), (60, 15), (200, 24)])
def test_negative_clicks_are_spread_around_an_object_over_a_ring_that_grows_with_it(side, far):
    mask = np.zeros((side + 80, side + 80), bool)
    mask[40:-40, 40:-40] = True
    rng = np.random.default_rng(0)
    clicks = np.array([prompts.negative_points(mask, 4, rng) for _ in range(100)])
    away = neighbourhood(mask)[clicks[..., 1], clicks[..., 0]]
    assert 0.8 * far < away.max() <= far
    distances = np.linalg.norm(clicks[:, :, None] - clicks[:, None], axis=-1)
    assert distances[:, ~np.eye(4, dtype=bool)].min() > side / 2


@quick
@given(seeds, st.integers(1, 6))
def test_the_first_negative_click_lies_in_the_touching_neighbour(seed, count):
    label = np.zeros((60, 60), np.uint8)
    label[20:40, 10:30], label[20:40, 30:50] = 1, 2
    points = prompts.negative_points(label == 1, count, np.random.default_rng(seed), label)
    found = label[points[:, 1], points[:, 0]]
    assert (found != 1).all()
    assert (found[::2] == 2).all()


@quick
@given(masks(), seeds, st.data())
def test_negative_clicks_keep_to_the_usable_pixels(mask, seed, data):
    usable = data.draw(npst.arrays(bool, mask.shape))
    points = prompts.negative_points(mask, 4, np.random.default_rng(seed), usable=usable)
    x0, y0, x1, y1 = prompts.tight_box(mask)
    far = prompts.reach(int(mask.sum()))
    near = np.s_[max(y0 - far, 0) : y1 + far, max(x0 - far, 0) : x1 + far]
    assert len(points) == (4 if (usable & ~mask)[near].any() else 0)
    assert (usable & ~mask)[points[:, 1], points[:, 0]].all()


@quick
@given(masks(), seeds)
def test_negative_clicks_do_not_depend_on_who_measured_the_distance(mask, seed):
    from synthfm.data.distance import squared_distance

    given_distance = prompts.negative_points(
        mask, 3, np.random.default_rng(seed), squared=squared_distance(~mask, False)
    )
    own = prompts.negative_points(mask, 3, np.random.default_rng(seed))
    np.testing.assert_array_equal(given_distance, own)


@quick
@given(seeds, st.tuples(*[st.integers(0, 199)] * 2), st.tuples(*[st.integers(0, 49)] * 2), st.floats(0.05, 1))
def test_a_drawn_box_keeps_to_the_image_and_to_the_object(seed, columns, rows, outward):
    x0, x1 = sorted(columns)
    y0, y1 = sorted(rows)
    box = np.array([x0, y0, x1 + 1, y1 + 1])
    drawn = prompts.loose_box(box, np.random.default_rng(seed), (50, 200), outward=outward)
    assert (drawn >= 0).all()
    assert (drawn <= [200, 50, 200, 50]).all()
    assert (drawn[2:] > drawn[:2]).all()
    extent = np.tile(box[2:] - box[:2], 2)
    assert (np.abs(drawn - box) <= outward * extent + 4).all()


def test_most_drawn_sides_lie_outside_the_tight_box():
    rng = np.random.default_rng(0)
    box = np.array([200, 200, 300, 300])
    for options, least, most in (({}, 6, 10), ({"outward": 0.8}, 30, 38)):
        drawn = np.array([prompts.loose_box(box, rng, (500, 500), **options) for _ in range(1000)])
        shifts = (drawn - box) * [-1, -1, 1, 1]
        assert 0.78 < np.mean(shifts > 0) < 0.92
        assert least < shifts.mean() < most


@quick
@given(masks(), seeds, st.sampled_from([0.0, 0.1, 0.5]))
def test_the_corrective_click_lies_deepest_in_the_largest_error(mask, seed, share):
    predicted = mask ^ (np.random.default_rng(seed).random(mask.shape) < share)
    (x, y), kind = prompts.corrective_point(predicted, mask)
    if (predicted == mask).all():
        assert kind == 1
        assert mask[y, x]
        return
    assert predicted[y, x] != mask[y, x]
    assert kind == int(mask[y, x])
    missed, overrun = (ndimage.label(error)[0] for error in (mask & ~predicted, predicted & ~mask))
    sizes = [np.bincount(part.ravel())[1:].max(initial=0) for part in (missed, overrun)]
    part = missed if kind else overrun
    region = part == part[y, x]
    assert np.count_nonzero(region) == max(sizes)
    assert (prompts.centre_point(region) == (x, y)).all()


@quick
@given(masks(), seeds, st.integers(2, 20))
def test_a_scribble_stays_in_the_largest_piece_of_the_mask(mask, seed, count):
    stroke = prompts.scribble(mask, count, np.random.default_rng(seed))
    assert stroke.shape == (count, 2)
    assert mask[stroke[:, 1], stroke[:, 0]].all()
    numbered, _ = ndimage.label(mask, np.ones((3, 3)))
    (piece,) = np.unique(numbered[stroke[:, 1], stroke[:, 0]])
    assert np.count_nonzero(numbered == piece) == np.bincount(numbered.ravel())[1:].max()


@quick
@given(seeds)
def test_a_scribble_runs_along_a_bent_object_clear_of_its_edge(seed):
    mask = np.zeros((120, 150), bool)
    mask[20:100, 20:130] = True
    mask[:70, 50:100] = False  # a U, 30 pixels thick
    stroke = prompts.scribble(mask, 12, np.random.default_rng(seed))
    steps = np.linalg.norm(np.diff(stroke, axis=0), axis=1)
    assert steps.min() > 5
    assert steps.max() < 2 * steps.min()
    assert np.ptp(stroke[:, 0]) > 60
    assert prompts.depth(mask)[stroke[:, 1], stroke[:, 0]].min() > 5


def test_an_empty_mask_has_no_prompts():
    empty, rng = np.zeros((5, 5), bool), np.random.default_rng(0)
    drawn = (lambda mask: prompts.random_point(mask, rng), lambda mask: prompts.person_point(mask, rng))
    for ask in (prompts.tight_box, prompts.centre_point, *drawn):
        with pytest.raises(ValueError, match="empty mask"):
            ask(empty)


def test_a_person_clicks_towards_the_middle_a_random_pixel_is_anywhere():
    y, x = np.ogrid[:96, :90]
    mask, rng = (x - 50) ** 2 + (y - 40) ** 2 < 30**2, np.random.default_rng(0)
    for draw, mean in ((prompts.person_point, 1 / 2), (prompts.random_point, 2 / 3)):
        clicks = np.array([draw(mask, rng) for _ in range(2000)])
        assert mask[clicks[:, 1], clicks[:, 0]].all()
        np.testing.assert_allclose(clicks.mean(0), [50, 40], atol=1.5)
        assert np.hypot(*(clicks - [50, 40]).T).mean() / 30 == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "no prompt"),
        ({"points": np.zeros((0, 2)), "labels": []}, "no prompt"),
        ({"points": [[1, 2]]}, r"expected \(N, 2\) and \(N,\)"),
        ({"labels": [1], "box": [1, 2, 3, 4]}, r"expected \(N, 2\) and \(N,\)"),
        ({"points": [[1, 2]], "labels": [1, 0]}, r"expected \(N, 2\) and \(N,\)"),
        ({"points": [1, 2], "labels": [1]}, r"expected \(N, 2\)"),
        ({"points": [[1, 2]], "labels": [2]}, "1 for object, 0 for background"),
        ({"points": [[9, 2]], "labels": [1]}, "not all in the image, 9 x 5"),
        ({"points": [[1, np.nan]], "labels": [1]}, "not all in the image"),
        ({"box": [1, 2, 3]}, "four numbers"),
        ({"box": [3, 2, 1, 4]}, "holds nothing of the image"),
        ({"box": [3, 2, 3, 4]}, "holds nothing of the image"),
        ({"box": [9, 2, 12, 4]}, "holds nothing of the image"),
        ({"box": [1, 2, np.nan, 4]}, "four numbers"),
        ({"box": [1, "a", 3, 4]}, "box .*: expected numbers"),
        ({"box": {}}, "box {}: expected numbers"),
        ({"points": [[1, 2], [3]], "labels": [1, 1]}, "points .*: expected numbers"),
        ({"mask": np.ones(5, bool)}, r"expected bool or finite logits \(H, W\)"),
        ({"mask": np.full((5, 9), np.nan)}, r"expected bool or finite logits \(H, W\)"),
        ({"mask": np.ones((9, 5), bool)}, r"mask \(9, 5\): the image is \(5, 9\)"),
    ],
)
def test_a_prompt_that_is_none_of_the_image_is_an_error(prompt, message):
    with pytest.raises(ValueError, match=message):
        Prompt(**prompt).within((5, 9))


def test_a_prompt_cannot_be_changed_and_is_known_by_its_content():
    points = np.array([[3, 4], [5, 6]], np.int16)
    prompt = Prompt(points, [1, 0], (1, 2, 8, 9))
    same = Prompt(points.astype(np.int64), np.array([1, 0], np.int8), np.array([1, 2, 8, 9], np.float32))
    assert (prompt == same, hash(prompt) == hash(same)) == (True, True)
    points[0] = 0
    assert prompt == same
    with pytest.raises(ValueError, match="read-only"):
        prompt.points[0] = 0
    others = [
        Prompt(same.points, [1, 1], same.box),
        Prompt(same.points, same.labels),
        same.with_click((3, 4), 1),
    ]
    assert prompt not in [*others, Prompt(same.points, same.labels, same.box, np.zeros((9, 9), bool)), "a"]


def test_a_box_is_cut_to_the_image():
    assert Prompt(box=[-4.5, 2, 30, 4]).within((5, 9)).box.tolist() == [0, 2, 9, 4]


def test_a_mask_of_integers_is_what_is_above_0():
    assert Prompt(mask=[[0, 255], [1, 0]]).mask.tolist() == [[False, True], [True, False]]
