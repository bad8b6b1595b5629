"""A session: objects, prompts by slice, masks, undo; who is asked what, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from synthfm.data.prompts import Prompt, tight_box
from synthfm.evaluation.scans.corrections import corrected
from synthfm.evaluation.scans.encodings import MEMORY
from synthfm.evaluation.scans.session import Session
from tests.support.region_growing import RegionGrowing, ellipsoid


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.fixture
def session() -> Session:
    session = Session(ellipsoid()[0], RegionGrowing())
    session.add("liver")
    return session


MASK = ellipsoid()[1]


def test_a_box_gives_the_mask_of_its_slice_and_propagation_that_of_the_volume(session: Session) -> None:
    found = session.box("liver", 11, [10, 9, 36, 40])
    assert dice(found, MASK[11]) > 0.95
    assert not session.mask("liver")[10].any()
    for _ in session.propagate("liver"):
        pass
    assert dice(session.mask("liver"), MASK) > 0.93
    assert 0 < session["liver"].iou[9] <= 1


def test_a_click_is_asked_with_all_before_it_and_with_the_answer_that_it_corrects(session: Session) -> None:
    segmenter = session._segmenter
    session.click("liver", 11, [22, 24])
    session.click("liver", 11, [[20, 20], [21, 21]])  # a scribble
    found = session.click("liver", 11, [22, 15], label=0)
    prompt, previous = segmenter.asked[-1]
    assert prompt.points.tolist() == [[22, 24], [20, 20], [21, 21], [22, 15]]
    assert prompt.labels.tolist() == [1, 1, 1, 0]
    assert previous.mask[15, 22]
    assert not found[15, 22]
    assert segmenter.asked[0][1] is None
    assert len(segmenter.encoded) == 1  # the slice is encoded once


def test_a_click_on_a_slice_that_propagation_has_filled_is_asked_in_the_square_around_its_mask(
    session: Session,
) -> None:
    session.box("liver", 11, [10, 9, 36, 40])
    list(session.propagate("liver"))
    before = session.mask_in("liver", 8)
    session.click("liver", 8, [22, 24], label=0)
    prompt, _ = session._segmenter.asked[-1]
    assert prompt.labels.tolist() == [0]  # in the middle: nothing of it may be the object
    session.undo()
    session.click("liver", 8, [22, 17], label=0)
    prompt, previous = session._segmenter.asked[-1]
    assert previous is None
    assert prompt.labels.tolist() == [0, 1]  # and the middle of what is left is the object's
    column, row = prompt.points[0].astype(int)
    ys, xs = np.nonzero(before)
    there = np.zeros_like(prompt.mask, bool)
    there[ys - 17 + row, xs - 22 + column] = True
    assert not (prompt.mask > 0)[row, column]
    taken = there ^ (prompt.mask > 0)
    assert 0 < taken.sum() < there.sum() / 2
    assert (there | ~taken).all()
    assert prompt.mask.shape < before.shape


@pytest.mark.parametrize(("place", "continues"), [([22, 24], True), ([2, 2], False)])
def test_a_click_where_nothing_is_known_is_asked_with_the_nearest_mask_if_it_may_mean_that_it_goes_on(
    session: Session, place: list[int], continues: bool
) -> None:
    session.box("liver", 6, [10, 9, 36, 40])
    nearest = session.box("liver", 11, [10, 9, 36, 40])
    session.click("liver", 14, place)
    prompt, previous = session._segmenter.asked[-1]
    assert previous is None
    if not continues:
        assert prompt.mask is None
        assert prompt.points.tolist() == [place]
        return
    assert prompt.mask.sum() == nearest.sum()
    assert prompt.mask.shape < nearest.shape
    away = [
        place - tight_box(mask)[:2] for place, mask in ((place, nearest), (prompt.points[0], prompt.mask))
    ]
    np.testing.assert_array_equal(*away)


@given(seed=st.integers(0, 2**32 - 1), label=st.sampled_from([0, 1]))
def test_a_correction_changes_what_its_click_is_about_and_nothing_else(seed: int, label: int) -> None:
    rng = np.random.default_rng(seed)
    known, answer = (ndimage.gaussian_filter(rng.normal(size=(20, 24)), 1.5) > 0 for _ in range(2))
    x, y = int(rng.integers(24)), int(rng.integers(20))
    found = corrected(answer, known, [x, y], label)
    numbered, _ = ndimage.label(found != known)
    assert numbered.max() <= 1
    assert not (found & ~known if label == 0 else known & ~found).any()  # a click inside takes nothing away
    assert found[y, x] == bool(label)
    if known[y, x] != bool(label):
        assert numbered[y, x] == 1
        pieces, _ = ndimage.label(answer & ~known if label else known & ~answer)
        piece = pieces == pieces[y, x] if pieces[y, x] else np.zeros_like(known)
        piece[y, x] = True
        np.testing.assert_array_equal(found != known, piece)


def test_a_correction_leaves_the_slices_beyond_the_nearest_anchors_as_they_were(session: Session) -> None:
    for number in (8, 11, 14):
        session.box("liver", number, [10, 9, 36, 40])
    list(session.propagate("liver"))
    before = session.mask("liver")
    session.draw("liver", 14, np.zeros_like(MASK[0]))
    asked = {step.slice for step in session.propagate("liver")}
    assert asked == {12, 13}
    after = session.mask("liver")
    np.testing.assert_array_equal(after[:12], before[:12])
    assert not after[14:].any()
    assert [*session.propagate("liver")] == []  # nothing has changed since


def test_a_propagation_that_is_enough_keeps_what_it_has_found_and_what_was_there(session: Session) -> None:
    session.box("liver", 11, [10, 9, 36, 40])
    for _ in session.propagate("liver", enough=lambda: True):
        pass
    assert np.flatnonzero(session.mask("liver").any((1, 2))).tolist() == [10, 11]
    list(session.propagate("liver"))  # asks all of them
    whole = session.mask("liver")
    assert dice(whole, MASK) > 0.93
    before = session["liver"]
    session.click("liver", 11, [22, 15], label=0)
    list(session.propagate("liver", enough=lambda: True))
    np.testing.assert_array_equal(session.mask("liver")[12:], whole[12:])
    session.restore(before)
    np.testing.assert_array_equal(session.mask("liver"), whole)


def test_everything_can_be_undone_and_done_again(session: Session) -> None:
    states = [session.mask("liver")]
    session.box("liver", 11, [10, 9, 36, 40])
    states.append(session.mask("liver"))
    list(session.propagate("liver"))
    states.append(session.mask("liver"))
    session.click("liver", 9, [22, 24], label=0)
    states.append(session.mask("liver"))
    session.clear("liver", 11)
    states.append(session.mask("liver"))
    for state in states[-2::-1]:
        assert session.undo()
        np.testing.assert_array_equal(session.mask("liver"), state)
    for state in states[1:]:
        assert session.redo()
        np.testing.assert_array_equal(session.mask("liver"), state)
    assert not session.redo()
    assert session.undo()
    session.box("liver", 3, [10, 9, 36, 40])
    assert not session.redo()  # another way was taken
    while session.undo():
        pass
    assert session.names == []


def test_a_propagation_that_is_broken_off_leaves_everything_as_it_was(session: Session) -> None:
    session.box("liver", 11, [10, 9, 36, 40])
    before = session.mask("liver")
    steps = session.propagate("liver")
    next(steps)
    steps.close()
    np.testing.assert_array_equal(session.mask("liver"), before)
    assert len(list(session.propagate("liver"))) > 5


def test_what_is_changed_during_a_propagation_is_not_overwritten(session: Session) -> None:
    session.box("liver", 11, [10, 9, 36, 40])
    steps = session.propagate("liver")
    next(steps)
    session.draw("liver", 3, MASK[11])
    with pytest.raises(ValueError, match="liver was changed while it was propagated"):
        list(steps)
    np.testing.assert_array_equal(session.mask("liver")[3], MASK[11])


def test_a_new_box_is_asked_anew(session: Session) -> None:
    session.box("liver", 11, [10, 9, 36, 40])
    session.box("liver", 11, [10, 9, 30, 40])
    prompt, previous = session._segmenter.asked[-1]
    assert previous is None
    assert prompt.mask is None
    assert prompt.box.tolist() == [10, 9, 30, 40]


def test_a_finished_object_is_protected_from_the_others(session: Session) -> None:
    whole, half = np.zeros_like(MASK[0]), np.zeros_like(MASK[0])
    whole[5:30, 5:30], half[5:30, 5:15] = True, True
    session.add("vessel")
    session.draw("vessel", 11, half)
    session.draw("liver", 11, whole)
    np.testing.assert_array_equal(session.mask("liver")[11], whole)
    session.finish("vessel")
    np.testing.assert_array_equal(session.mask("liver")[11], whole & ~half)
    session.finish("liver")
    session.finish("vessel", False)
    session.draw("vessel", 11, whole)
    np.testing.assert_array_equal(session.mask("vessel")[11], half)  # what the liver was when it was finished


def test_one_starts_with_a_mask_refines_it_and_goes_on(session: Session) -> None:
    coarse = np.zeros_like(MASK)
    coarse[9:14, 18:30, 16:28] = True
    session.begin("cyst", coarse)
    np.testing.assert_array_equal(session.mask("cyst"), coarse)
    assert list(session.propagate("cyst")) == []  # what one began with is not asked again
    assert list(session.refine("cyst")) == [9, 10, 11, 12, 13]
    refined = session.mask("cyst")
    assert dice(refined[9:14], MASK[9:14]) > 0.95 > dice(coarse[9:14], MASK[9:14])
    assert not refined[14:].any()
    list(session.propagate("cyst"))
    assert dice(session.mask("cyst"), MASK) > 0.93


def test_encodings_stay_within_their_memory_and_those_used_last_are_kept() -> None:
    slices, _ = ellipsoid()
    segmenter = RegionGrowing()
    session = Session(slices, segmenter, memory=3 * slices[0].nbytes)
    session.add("a")
    for number in (5, 6, 7, 5, 8):
        session.ask("a", number, Prompt([[22, 24]], [1]))
    assert session.encodings.bytes <= 3 * slices[0].nbytes
    assert [number in session.encodings for number in (5, 6, 7, 8)] == [True, False, True, True]
    assert len(segmenter.encoded) == 4
    assert MEMORY > 2**27


def test_an_image_is_a_session_of_one_slice() -> None:
    slices, mask = ellipsoid()
    session = Session(slices[11:12], RegionGrowing())
    session.add("a")
    assert dice(session.click("a", 0, [22, 24]), mask[11]) > 0.95
    assert list(session.propagate("a")) == []


def test_what_is_not_there_is_named(session: Session) -> None:
    with pytest.raises(ValueError, match="no object 'spleen'; there are liver"):
        session.click("spleen", 1, [3, 3])
    with pytest.raises(ValueError, match="slice 24: expected 0 to 23"):
        session.click("liver", 24, [3, 3])
    with pytest.raises(ValueError, match="there is an object 'liver' already"):
        session.add("liver")
    with pytest.raises(ValueError, match="liver: nothing to go out from; prompt a slice first"):
        list(session.propagate("liver"))
    with pytest.raises(ValueError, match=r"mask \(3, 3\): expected \(48, 48\)"):
        session.draw("liver", 3, np.zeros((3, 3), bool))
    session.rename("liver", "spleen")
    assert session.names == ["spleen"] == [session["spleen"].name]
    session.remove("spleen")
    assert session.names == []


def test_what_is_done_at_once_is_undone_at_once(session: Session) -> None:
    session.box("liver", 11, [10, 9, 36, 40])
    with session.at_once():
        session.add("spleen")
        session.click("spleen", 11, [22, 24])
        session.click("spleen", 11, [22, 25])
    session.undo()
    assert session.names == ["liver"]
    assert session.mask_in("liver", 11).any()
    session.redo()
    assert session.mask_in("spleen", 11).any()
    with session.at_once():
        pass
    session.undo()
    assert session.names == ["liver"]


def test_another_window_is_what_the_model_sees_from_then_on(session: Session) -> None:
    segmenter = session._segmenter
    session.box("liver", 11, [10, 9, 36, 40])
    session.show([255 - one for one in session.slices])
    session.box("liver", 11, [10, 9, 36, 40])
    first, second = segmenter.encoded
    np.testing.assert_array_equal(second, 255 - first)
    with pytest.raises(ValueError, match="expected"):
        session.show(list(session.slices)[1:])


def test_another_object_can_be_prompted_while_one_is_propagated(session: Session) -> None:
    session.box("liver", 11, [10, 9, 36, 40])
    steps = session.propagate("liver")
    next(steps)
    session.add("spleen")
    session.click("spleen", 11, [22, 24])
    for _ in steps:
        pass
    assert session.mask_in("spleen", 11).any()
    assert dice(session.mask("liver"), MASK) > 0.93
    session.undo()
    assert session.mask_in("spleen", 11).any()


def test_a_stroke_clicks_where_the_answer_does_not_say_so_yet_and_is_undone_at_once():
    slices, mask = ellipsoid()
    session = Session(slices, RegionGrowing())
    session.add("a")
    x0, y0, x1, y1 = tight_box(mask[11]).tolist()
    stroke = [((1 - t) * (x0 + 2) + t * (x1 - 3), (y0 + y1) / 2) for t in np.linspace(0, 1, 10)]
    found = session.scribble("a", 11, stroke)
    assert dice(found, mask[11]) > 0.9
    assert len(session["a"].prompts[11].points) < 4
    session.scribble("a", 11, [(x0 - 4, y0), (x1 + 4, y1)], 0)
    assert not len(session["a"].prompts[11].negatives)  # they are outside already
    assert session.undo()
    assert not session["a"].anchors
    for wrong, words in (([(900, 9)], "lies outside of the image"), ([], "is empty")):
        with pytest.raises(ValueError, match=f"the stroke {words}"):
            session.scribble("a", 11, wrong)


def test_of_a_stroke_counts_what_lies_in_the_slice():
    slices, mask = ellipsoid()
    session = Session(slices, RegionGrowing())
    session.add("a")
    x0, y0, x1, y1 = tight_box(mask[11]).tolist()
    session.scribble("a", 11, [((x0 + x1) / 2, (y0 + y1) / 2), (900, (y0 + y1) / 2)])
    assert len(session["a"].prompts[11].points) == 1
