"""Strokes and many clicks: on their side of the outline, spread, the fewer among the more; bad ones said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label as pieces

from synthfm.data import strokes
from synthfm.data.distance import walk

MASKS = arrays(bool, (24, 30), elements=st.booleans()).filter(lambda mask: mask.any())
SEEDS = st.integers(0, 2**32)


def ring() -> np.ndarray:
    y, x = np.ogrid[:96, :96]
    away = np.hypot(x - 48, y - 48)
    return (away < 30) & (away > 25)


@settings(deadline=None)
@given(mask=MASKS, seed=SEEDS, count=st.integers(1, 5))
def test_strokes_keep_to_their_side_of_any_mask(mask, seed, count):
    prompt = strokes.draw_prompt(mask, count, count, np.random.default_rng(seed))
    assert all(mask[y, x] for x, y in prompt.positives)
    assert not any(mask[y, x] for x, y in prompt.negatives)
    assert 1 <= len(prompt.positives) <= count * strokes.STROKE_POINTS
    assert bool(len(prompt.negatives)) == (not mask.all())


@settings(deadline=None)
@given(mask=MASKS, seed=SEEDS, count=st.integers(1, 40))
def test_many_clicks_keep_to_their_side_and_more_hold_the_fewer(mask, seed, count):
    made = [strokes.many_clicks(mask, n, 0.6, np.random.default_rng(seed)) for n in (count, 40)]
    for prompt in made:
        assert prompt.labels[0] == 1
        assert all(mask[y, x] == label for (x, y), label in zip(prompt.points, prompt.labels, strict=True))
    assert len(made[0].points) == count
    assert np.array_equal(made[1].points[:count], made[0].points)


def test_more_strokes_hold_the_fewer():
    few, more = (strokes.draw_prompt(ring(), n, n, np.random.default_rng(3)) for n in (1, 4))
    assert {tuple(p) for p in few.points.tolist()} <= {tuple(p) for p in more.points.tolist()}
    assert len(more.points) > len(few.points)


def test_nobody_draws_where_nothing_is_shown():
    usable = np.zeros((96, 96), bool)
    usable[:, :60] = True
    for seed in range(20):
        prompt = strokes.draw_prompt(ring() & usable, 2, 3, np.random.default_rng(seed), usable)
        assert (prompt.points[:, 0] < 60).all()


def test_strokes_differ_in_kind_and_length():
    drawn = strokes.draw_strokes(ring(), 60, np.random.default_rng(0))
    lengths = [len(stroke) for stroke in drawn]
    assert min(lengths) < 12
    assert max(lengths) > 60


def test_points_of_a_stroke_are_its_pixels_spread_over_it():
    stroke = [[x, 7] for x in range(100)]
    points = strokes.stroke_points(stroke)
    assert len(points) == strokes.STROKE_POINTS
    assert {tuple(p) for p in points.tolist()} <= {tuple(p) for p in stroke}
    xs = np.sort(points[:, 0])
    assert np.ptp(xs) == 99
    assert np.diff(xs).min() >= strokes.APART
    assert strokes.stroke_points(stroke[:4]).tolist() == [[0, 7], [3, 7]]
    assert strokes.stroke_points([[5, 5]] * 3).tolist() == [[5, 5]]


def test_ten_thousand_points_are_a_stroke_of_ten():
    rng = np.random.default_rng(0)
    prompt = strokes.prompt_of([rng.integers(0, 96, (10_000, 2))], [], (96, 96))
    assert len(prompt.points) == strokes.STROKE_POINTS


def test_what_lies_beyond_the_image_or_on_both_sides_says_nothing():
    across = strokes.polyline([[-20, 5], [40, 5]])
    prompt = strokes.prompt_of([across], [strokes.polyline([[0, 0], [0, 20]])], (30, 30))
    assert (prompt.positives >= 0).all()
    assert (prompt.positives < 30).all()
    assert [0, 5] not in prompt.points.tolist()
    assert len(prompt.negatives)


@pytest.mark.parametrize(
    ("inside", "outside", "words"),
    [
        ([], [], "no stroke"),
        ([np.zeros((0, 2))], [], "stroke 1 inside is empty"),
        ([[[3, 3]]], [[]], "stroke 1 outside is empty"),
        ([[[3, 3]], [[99, 3]]], [], "stroke 2 inside lies outside of the image, 30 x 20"),
        ([[[3, 3]]], [[[3, 3]]], "the contrary"),
        ([[3, 3]], [], r"expected pixels \(n, 2\)"),
        ([[[3, np.nan]]], [], r"expected pixels \(n, 2\)"),
    ],
)
def test_a_bad_stroke_is_named(inside, outside, words):
    with pytest.raises(ValueError, match=words):
        strokes.prompt_of(inside, outside, (20, 30))


def test_a_drawing_is_its_pieces_and_a_large_one_is_several():
    drawn = np.zeros((200, 200), bool)
    drawn[5, 3:20] = drawn[50, 50:70] = True
    assert [len(stroke) for stroke in strokes.strokes_in(drawn)] == [17, 20]
    drawn[100:104] = True
    found = strokes.strokes_in(drawn)
    assert len(found) == 2 + 800 // strokes.CUT
    assert sum(map(len, found)) == drawn.sum()
    assert not strokes.strokes_in(np.zeros((9, 9), bool))


def test_a_polyline_is_connected_and_ends_where_it_should():
    stroke = strokes.polyline([[2, 3], [20, 9], [7, 19]])
    drawn = np.zeros((30, 30), bool)
    drawn[stroke[:, 1], stroke[:, 0]] = True
    assert pieces(drawn, connectivity=2).max() == 1
    assert stroke[0].tolist() == [2, 3]
    assert stroke[-1].tolist() == [7, 19]


@settings(deadline=None)
@given(mask=MASKS, seed=SEEDS, longest=st.integers(1, 60))
def test_a_walk_steps_from_pixel_to_pixel_of_the_mask(mask, seed, longest):
    flat = np.flatnonzero(mask)
    start = int(flat[seed % len(flat)])
    path = walk(mask, start, longest)
    assert path[0].tolist() == [start % 30, start // 30]
    assert mask[path[:, 1], path[:, 0]].all()
    assert len(path) <= longest + 1
    assert (np.abs(np.diff(path, axis=0)).max(1, initial=1) == 1).all()
