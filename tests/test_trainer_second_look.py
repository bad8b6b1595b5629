"""The second look: what it answers, and that what it finds lies where the image says."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_cases import disc_case
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from skimage.draw import disk

from evaluation import methods
from evaluation.prompting import correct
from evaluation.run import case_prompts
from trainer import look, models, second_look
from trainer.grey_values import expected_iou, settle

RADIUS = 11


@pytest.fixture(scope="module")
def sam():
    return models.load("tiny")[0].eval()


def disc(shape, centre):
    """A bright disc on noise, and its mask."""
    mask = np.zeros(shape, bool)
    mask[disk(centre, RADIUS, shape=shape)] = True
    noise = np.random.default_rng(0).normal(0, 12, shape)
    return np.clip(80 + 90 * mask + noise, 0, 255).astype(np.uint8), mask


def both_looks(sam, image, mask, kind):
    """The first look's prediction and the second's."""
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32) if kind == "box" else None
    clicks = np.array([[xs.mean(), ys.mean()]], np.float32)[: kind != "box"]
    coords, kinds = look.pack_points([clicks], [np.ones(len(clicks), np.int8)], [box])
    first = look.predict_points(sam, look.encode_image(sam, image), coords, kinds).best(True)
    return first, second_look.look_again(sam, image, first, coords[0], kinds[0])


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("kind", ["box", "click"])
@pytest.mark.parametrize(
    ("shape", "centre"), [((500, 500), (250, 250)), ((300, 600), (280, 30)), ((600, 300), (20, 285))]
)
def test_a_small_object_is_drawn_better_and_in_its_place(sam, kind, shape, centre):
    image, mask = disc(shape, centre)
    first, second = both_looks(sam, image, mask, kind)
    assert second.mask.shape == shape
    assert dice(second.mask, mask) > max(0.93, dice(first.masks()[0, 0], mask))


def test_a_box_beyond_the_image_is_cut_to_it(sam):
    """The model has seen no corner outside of its input: such a box would come to nothing."""
    image, mask = disc((200, 256), (100, 4))
    whole, beyond = [0, 88, 16, 112], [-90, 88, 16, 112]
    cut, found = (second_look.predict(sam, image, box=box) for box in (whole, beyond))
    torch.testing.assert_close(found.logits, cut.logits)
    assert dice(found.mask, mask) > 0.9


def test_a_round_goes_on_from_the_mask_before_it(sam):
    image, _ = disc((300, 300), (150, 150))
    first = second_look.predict(sam, image, [[150, 150]], [1])
    clicks, labels = [[150, 150], [150, 163]], [1, 0]
    found = second_look.predict(sam, image, clicks, labels, memory=first)
    coords, kinds = look.pack_points([np.array(clicks, float)], [np.array(labels)], [None])
    embedding = look.encode_image(sam, image)
    seen = look.predict_points(sam, embedding, coords, kinds, first.low_res[None]).best(False)
    torch.testing.assert_close(found.low_res, seen.low_res[0])
    alone = second_look.predict(sam, image, clicks, labels)
    assert not torch.equal(found.low_res, alone.low_res)
    refined = second_look.predict(sam, image, [[150, 150]], [1], memory=first)  # no longer ambiguous
    coords, kinds = look.pack_points([np.array([[150.0, 150.0]])], [np.array([1])], [None])
    seen = look.predict_points(sam, embedding, coords, kinds, first.low_res[None]).best(False)
    torch.testing.assert_close(refined.low_res, seen.low_res[0])


@pytest.mark.parametrize("empty", [False, True])
def test_the_mask_before_is_shown_as_fine_as_it_is(sam, monkeypatch, empty):
    """Not as the first answer, at the whole image, sees it again; unless there is none."""
    image, mask = disc((300, 300), (150, 150))
    first = second_look.predict(sam, image, [[150, 150]], [1])
    drawn = np.zeros(mask.shape, bool)
    drawn[disk((150, 150), 20, shape=mask.shape)] = not empty
    before = replace(first, logits=torch.from_numpy(np.where(drawn, 6, -6).astype(np.float32)))
    given, plain = [], look.predict_points
    monkeypatch.setattr(look, "predict_points", lambda *args: given.append(args) or plain(*args))
    clicks, labels = [[150, 150], [150, 166]], [1, 0]
    found = second_look.predict(sam, image, clicks, labels, memory=before)
    part, shown = given[1][1], given[1][4]
    side = part.original_size[0]
    seen = (shown > 0).float().mean() * side**2
    size = np.pi * 20**2 - np.pi * 3**2  # the click is held: without its spot, of a radius of 3
    assert seen == pytest.approx(size if not empty else mask.sum(), rel=0.08)
    assert side == 63 if not empty else side < 50  # 1.6 times the 39 pixels of the disc
    outside = np.ones(mask.shape, bool)
    outside[150 - side : 150 + side, 150 - side : 150 + side] = False
    assert not (found.mask & outside).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "memory Tensor: expected the Look of the round before"),
        ({"low_res": torch.zeros(1, 32, 32)}, r"memory of low_res .*\(1, 32, 32\)"),
        ({"logits": torch.zeros(300, 301)}, r"\(300, 301\)\): expected .*\(300, 300\)"),
    ],
)
def test_a_memory_of_something_else_is_named(sam, changes, message):
    image, _ = disc((300, 300), (150, 150))
    first = second_look.predict(sam, image, [[150, 150]], [1])
    memory = first.low_res if changes is None else replace(first, **changes)
    with pytest.raises(ValueError, match=message):
        second_look.predict(sam, image, [[150, 150]], [1], memory=memory)


@pytest.mark.parametrize("image", [np.zeros((3, 200, 320), np.uint8), [[0, 1], [2, 3]], np.zeros((9, 9))])
def test_the_image_is_what_is_wrong_where_it_is(sam, image):
    with pytest.raises(ValueError, match=r"image is .*expected uint8 \(H, W\)"):
        second_look.predict(sam, image, box=[40, 60, 90, 120])


def test_the_first_mask_lies_in_the_square_as_in_the_image(sam, monkeypatch):
    given, answers, plain = [], [], look.predict_points

    def recorded(sam, embedding, coords, kinds, logits=None):
        given.append((embedding, logits))
        answers.append(plain(sam, embedding, coords, kinds, logits))
        return answers[-1]

    monkeypatch.setattr(look, "predict_points", recorded)
    monkeypatch.setattr(second_look, "SHARPNESS", 0)
    image, mask = disc((400, 240), (300, 120))
    first, answer = both_looks(sam, image, mask, "box")
    assert answer.iou**2 == pytest.approx(float(answers[1].iou[0, 0]))
    assert answer.iou**2 != pytest.approx(float(answers[2].iou[0, 0]))
    (_, nothing), (part, memory), (again, neither) = given
    assert nothing is None
    assert (again, neither) == (part, None)
    seen = look.Prediction(memory, first.iou, first.image_size, part.original_size, part.input_size)
    before = first.masks()[0, 0]
    centre = np.argwhere(seen.masks()[0, 0]).mean(0) - (np.array(part.original_size) - 1) / 2
    assert abs(centre).max() < 2  # the square lies around the mask
    assert seen.masks().sum() == pytest.approx(before.sum(), rel=0.1)


def test_both_masks_are_settled_by_what_they_were_drawn_on(sam, monkeypatch):
    calls = []

    def recorded(logits, image):
        calls.append((logits, image, settle(logits, image)))
        return calls[-1][2]

    monkeypatch.setattr(second_look, "settle", recorded)
    image, mask = disc((300, 400), (200, 150))
    first, answer = both_looks(sam, image, mask, "box")
    (logits, whole, _), *_, (_, part, settled) = calls
    assert (logits == first.logits()[0, 0]).all()
    assert (whole == image).all()
    ((y, x),) = np.argwhere((sliding_window_view(image, part.shape) == part).all((2, 3)))
    assert (answer.logits[y : y + part.shape[0], x : x + part.shape[1]] == settled).all()
    assert answer.iou < expected_iou(settled) ** (second_look.SHARPNESS / 2) < 1


def test_the_estimate_falls_where_the_image_leaves_the_outline_open(sam, monkeypatch):
    image, mask = disc((300, 400), (200, 150))
    pictures = [np.clip(image - 78.0 * mask, 0, 255).astype(np.uint8), image]  # hardly seen, and clear
    ious = [both_looks(sam, picture, mask, "box")[1].iou for picture in pictures]
    monkeypatch.setattr(second_look, "SHARPNESS", 0)
    models_own = [both_looks(sam, picture, mask, "box")[1].iou for picture in pictures]
    assert ious[1] / ious[0] > 1.05 * models_own[1] / models_own[0]


def test_a_part_of_what_was_seen_first_is_not_what_was_meant(sam, monkeypatch):
    """From nearby a click on a vessel of an organ means the vessel; the first look had found the organ."""
    shape, vessel = (400, 400), 12
    organ = np.zeros(shape, bool)
    organ[disk((200, 200), 70, shape=shape)] = True
    grey = 80 + 60 * organ + np.random.default_rng(0).normal(0, 8, shape)
    grey[disk((200, 200), vessel, shape=shape)] = 200
    image, click = np.clip(grey, 0, 255).astype(np.uint8), np.array([[200.0, 200.0]])
    coords, kinds = look.pack_points([click], [np.array([1])], [None])
    found = look.predict_points(sam, look.encode_image(sam, image), coords, kinds).best(True)
    low_res = torch.nn.functional.interpolate(
        torch.from_numpy(np.where(organ, 6, -6).astype(np.float32))[None, None],
        found.low_res.shape[-2:],
        mode="bilinear",
        antialias=True,
    )
    first = look.Prediction(low_res, found.iou, found.image_size, found.original_size, found.input_size)
    answer = second_look.look_again(sam, image, first, coords[0], kinds[0], several=True)
    assert dice(answer.mask, organ) > 0.85
    corrected = second_look.look_again(sam, image, first, coords[0], kinds[0])  # as a further click would be
    assert dice(corrected.mask, organ) < 0.1
    monkeypatch.setattr(second_look, "SAME", 0)
    assert (
        dice(second_look.look_again(sam, image, first, coords[0], kinds[0], several=True).mask, organ) < 0.1
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([0.5, 5, 50]))
def test_every_click_is_on_its_side_and_nothing_changes_far_from_those_that_were_not(seed, count, scale):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(8, 60, 2))
    logits = torch.from_numpy(rng.normal(0, scale, shape).astype(np.float32))
    logits[rng.integers(shape[0]), rng.integers(shape[1])] = 1
    places = rng.permutation(np.argwhere(np.ones(shape, bool)))[:count]
    labels = rng.integers(0, 2, count)
    coords = torch.from_numpy(places[:, ::-1] + rng.uniform(-0.49, 0.49, places.shape))  # the nearest pixel's
    given_logits = logits.clone()
    found = second_look.held(logits, coords, torch.from_numpy(labels))
    assert torch.equal(logits, given_logits)
    sides = (found > 0).numpy()[tuple(places.T)]
    assert (sides == labels).all()
    wrong = places[(logits > 0).numpy()[tuple(places.T)] != labels]
    reach = 3 * max(second_look.SPOT * np.sqrt(int((logits > 0).sum())), 1)
    away = np.indices(shape)[:, None] - wrong.T[:, :, None, None]
    far = (np.hypot(*away) >= reach).all(0)
    assert (found == logits).numpy()[far].all()


def test_a_correction_is_as_large_as_the_mask_asks_and_ends_before_a_click_of_the_other_kind():
    logits = torch.full((300, 300), -5.0)
    logits[50:250, 50:200] = 5
    click, other = torch.tensor([[230, 150]]), torch.tensor([[233, 150]])
    alone = second_look.held(logits, click, torch.tensor([1])) > logits
    width = second_look.SPOT * np.sqrt(200 * 150)
    assert alone.sum() == pytest.approx(np.pi * (3 * width) ** 2, rel=0.05)
    both = second_look.held(logits, torch.cat([click, other]), torch.tensor([1, 0])) > logits
    assert both.sum() == 25  # within 3 pixels
    assert (
        second_look.held(logits, torch.cat([click, click]), torch.tensor([1, 0]))[150, 230]
        == -second_look.HELD
    )
    box = second_look.held(logits, torch.tensor([[60, 60], [100, 100]]), torch.tensor(look.BOX_LABELS))
    assert box is logits
    edge = second_look.held(logits, torch.tensor([[299.5, 299.5]]), torch.tensor([1]))  # rounds to 300
    assert edge[299, 299] == second_look.HELD
    empty = torch.full((20, 20), -1.0)
    assert second_look.held(empty, torch.tensor([[3, 3]]), torch.tensor([1])) is empty


@pytest.mark.parametrize(("x", "label"), [(209, 0), (216, 1)])
def test_a_click_that_model_and_grey_values_would_overrule_is_kept(sam, monkeypatch, x, label):
    """A little inside a disc's edge, or a little outside."""
    image, _ = disc((400, 400), (200, 200))
    clicks = [[200, 200], [x, 200]]
    answer = second_look.predict(sam, image, clicks, [1, label])
    assert [answer.mask[y, x] for x, y in clicks] == [True, label == 1]
    monkeypatch.setattr(second_look, "held", lambda logits, coords, kinds: logits)
    assert second_look.predict(sam, image, clicks, [1, label]).mask[200, x] != label


@pytest.mark.parametrize("kind", ["box", "click"])
def test_a_first_mask_that_is_wrong_does_not_mislead(sam, monkeypatch, kind):
    image, mask = disc((400, 400), (200, 200))
    first, _ = both_looks(sam, image, mask, kind)
    around = np.zeros(mask.shape, bool)
    around[disk((200, 200), 27, shape=mask.shape)] = True
    logits = torch.from_numpy(np.where(around & ~mask, 6, -6).astype(np.float32))[None, None]
    low_res = torch.nn.functional.interpolate(
        logits, first.low_res.shape[-2:], mode="bilinear", antialias=True
    )
    wrong = look.Prediction(low_res, first.iou, first.image_size, first.original_size, first.input_size)
    assert dice(wrong.masks()[0, 0], mask) < 0.1

    answers, plain = [], look.predict_points
    monkeypatch.setattr(look, "predict_points", lambda *given: answers.append(plain(*given)) or answers[-1])
    monkeypatch.setattr(second_look, "SHARPNESS", 0)
    clicks = torch.tensor([[189.0, 189.0], [212.0, 212.0]] if kind == "box" else [[200.0, 200.0]])
    kinds = torch.tensor(look.BOX_LABELS if kind == "box" else [1])
    answer = second_look.look_again(sam, image, wrong, clicks, kinds, several=kind == "click")
    assert dice(answer.mask, mask) > 0.95
    # One click may mean several things: it gets the best of three masks, as it does at first.
    best = answers[-1].iou[0, 0] if kind == "box" else answers[-1].iou[0, 1:].max()
    assert answer.iou**2 == pytest.approx(float(best))


def test_predict_gives_what_the_evaluation_gets(sam):
    case = disc_case(0)
    for setting in ("box", "point1", "point1_neg1", "box_point"):
        ((_, prompt),) = case_prompts(case, [setting], 0)
        method = methods.build("zoom:tiny")
        (theirs,) = method.predict(method.encode(case.image), [prompt])
        clicks = (prompt.points, prompt.labels) if len(prompt.points) else (None, None)
        ours = second_look.predict(sam, case.image, *clicks, prompt.box)
        assert (ours.mask == theirs.mask).all()
        assert ours.iou == theirs.iou
        again = correct(prompt, theirs.mask, case.objects[0].mask, theirs.memory)
        (theirs,) = method.predict(method.encode(case.image), [again])
        ours = second_look.predict(sam, case.image, again.points, again.labels, again.box, memory=ours)
        assert (ours.mask == theirs.mask).all()


@pytest.mark.parametrize(
    ("multimask", "setting", "several"),
    [("auto", "point1", True), ("auto", "box", False), ("never", "point1", False), ("always", "box", True)],
)
def test_both_looks_follow_the_evaluations_choice_of_masks(monkeypatch, multimask, setting, several):
    told, plain = [], second_look.look_again

    def recorded(sam, image, first, coords, kinds, **options):
        told.append((first, options["several"]))
        return plain(sam, image, first, coords, kinds, **options)

    monkeypatch.setattr("evaluation.methods.sam.look_again", recorded)
    case = disc_case(0)
    ((_, prompt),) = case_prompts(case, [setting], 0)
    method = methods.build("zoom:tiny", multimask=multimask)
    image, embedding = method.encode(case.image)
    method.predict((image, embedding), [prompt])
    packed = look.pack_points([prompt.points], [prompt.labels], [prompt.box])
    found = look.predict_points(models.load("tiny")[0], embedding, *packed)
    ((first, said),) = told
    assert said is several
    assert torch.equal(first.iou, found.best(several).iou)
    assert not torch.equal(first.iou, found.best(not several).iou)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "no prompt"),
        ({"points": np.zeros((0, 2)), "labels": []}, "no prompt"),
        ({"points": [[1, 2]]}, "go together"),
        ({"labels": [1], "box": [1, 2, 3, 4]}, "go together"),
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
    ],
)
def test_a_prompt_that_is_none_of_the_image_is_an_error(sam, prompt, message):
    with pytest.raises(ValueError, match=message):
        second_look.predict(sam, np.zeros((5, 9), np.uint8), **prompt)


@pytest.mark.parametrize("turned", [False, True])
def test_an_image_of_which_the_model_sees_one_row_is_answered(sam, turned):
    image, box = np.zeros((1, 600), np.uint8), [195, 0, 305, 1]
    image[:, 200:300] = 200
    if turned:
        image, box = image.T, [0, 195, 1, 305]
    assert second_look.predict(sam, image, box=box).mask.shape == image.shape


def test_the_readmes_example_runs(tmp_path, monkeypatch):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    parts = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    code = "".join(part for part in parts if 'load("tiny")' in part or "second_look" in part)
    assert "memory=look" in code
    monkeypatch.chdir(tmp_path)
    image, mask = disc((160, 160), (90, 65))
    Image.fromarray(image).save("slice.png")
    names: dict = {}
    exec(code, names)
    assert dice(names["look"].mask, mask) > 0.8


def test_an_image_without_pixels_is_an_error(sam):
    with pytest.raises(ValueError, match=r"image is uint8 \(0, 9\)"):
        look.encode_image(sam, np.zeros((0, 9), np.uint8))


def test_an_object_as_large_as_the_image_is_not_looked_at_again(sam):
    image = disc((RADIUS * 2 + 4,) * 2, (RADIUS + 2,) * 2)[0]
    first, second = both_looks(sam, image, image > 125, "box")
    torch.testing.assert_close(second.logits, settle(first.logits()[0, 0], image), rtol=0, atol=0)


def test_an_empty_first_mask_is_left(sam):
    image, mask = disc((200, 200), (100, 100))
    first, _ = both_looks(sam, image, mask, "click")
    empty = look.Prediction(
        torch.full_like(first.low_res, -1), first.iou, first.image_size, first.original_size, first.input_size
    )
    answer = second_look.look_again(sam, image, empty, torch.tensor([[100.0, 100.0]]), torch.tensor([1]))
    assert not answer.mask.any()
    assert answer.iou == 0
