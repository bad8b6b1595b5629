"""The second look: what it answers, and that what it finds lies where the image says."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from skimage.draw import disk

from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import correct
from synthfm.evaluation.methods import registry
from synthfm.evaluation.methods.method import Options
from synthfm.evaluation.scoring.ask import case_prompts
from synthfm.trainer.model import grey_values, look, models, second_look
from synthfm.trainer.model.grey_values import expected_iou
from synthfm.trainer.model.packing import pack
from synthfm.trainer.model.predict import SecondLook, Segmenter
from synthfm.trainer.model.second_look import SHIPPED, keep_clicks
from tests.support.cases import disc_case

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


@pytest.fixture(scope="module")
def ask(sam):
    """One prompt of one image, by default with the second look's own settings."""

    def ask(image, prompt, previous=None, settings=SHIPPED):
        segmenter = Segmenter(sam, settings)
        (found,) = segmenter.predict(segmenter.encode(image), [prompt], [previous])
        return found

    return ask


def first_and_second(sam, image, mask, kind, settings=SHIPPED):
    """The first look's prediction and what the second makes of it."""
    ys, xs = np.nonzero(mask)
    box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    prompt = Prompt(box=box) if kind == "box" else Prompt([[xs.mean(), ys.mean()]], [1])
    encoding = look.encode_image(sam, image)
    first = look.predict(sam, encoding, pack([prompt])).best(True)
    return first, second_look.predict(sam, encoding, prompt, first, settings)


def shown_as(mask, like):
    """A prediction as `like`, but of a mask."""
    logits = torch.from_numpy(np.where(mask, 6, -6).astype(np.float32))[None, None]
    size = like.low_res.shape[-2:]
    return replace(
        like, low_res=torch.nn.functional.interpolate(logits, size, mode="bilinear", antialias=True)
    )


def recorded(monkeypatch):
    """What the model is asked from now on: encodings, mask prompts and answers."""
    calls, plain = [], look.predict

    def predict(sam, encoding, prompts, logits=None):
        calls.append((encoding, logits, plain(sam, encoding, prompts, logits)))
        return calls[-1][2]

    monkeypatch.setattr(look, "predict", predict)
    return calls


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("kind", ["box", "click"])
@pytest.mark.parametrize(
    ("shape", "centre"), [((500, 500), (250, 250)), ((300, 600), (280, 30)), ((600, 300), (20, 285))]
)
def test_a_small_object_is_drawn_better_and_in_its_place(sam, kind, shape, centre):
    image, mask = disc(shape, centre)
    first, second = first_and_second(sam, image, mask, kind)
    assert second.mask.shape == shape
    assert dice(second.mask, mask) > max(0.93, dice(first.masks()[0, 0], mask))


def test_a_box_beyond_the_image_is_cut_to_it(ask):
    """The model has seen no corner outside of its input: such a box would come to nothing."""
    image, mask = disc((200, 256), (100, 4))
    whole, beyond = [0, 88, 16, 112], [-90, 88, 16, 112]
    cut, found = (ask(image, Prompt(box=box)) for box in (whole, beyond))
    torch.testing.assert_close(found.logits, cut.logits)
    assert dice(found.mask, mask) > 0.9


def test_a_round_goes_on_from_the_mask_before_it(sam, ask):
    image, _ = disc((300, 300), (150, 150))
    once, twice = Prompt([[150, 150]], [1]), Prompt([[150, 150], [150, 163]], [1, 0])
    first = ask(image, once)
    found = ask(image, twice, first)
    encoding = look.encode_image(sam, image)
    seen = look.predict(sam, encoding, pack([twice]), first.low_res[None]).best(False)
    torch.testing.assert_close(found.low_res, seen.low_res[0])
    alone = ask(image, twice)
    assert not torch.equal(found.low_res, alone.low_res)
    refined = ask(image, once, first)  # no longer ambiguous
    seen = look.predict(sam, encoding, pack([once]), first.low_res[None]).best(False)
    torch.testing.assert_close(refined.low_res, seen.low_res[0])


@pytest.mark.parametrize("empty", [False, True])
def test_the_mask_before_is_shown_as_fine_as_it_is(ask, monkeypatch, empty):
    """Not as the first look, at the whole image, sees it again; unless there is none."""
    image, mask = disc((300, 300), (150, 150))
    first = ask(image, Prompt([[150, 150]], [1]))
    drawn = np.zeros(mask.shape, bool)
    drawn[disk((150, 150), 20, shape=mask.shape)] = not empty
    logits = torch.from_numpy(np.where(drawn, 6, -6).astype(np.float32))
    before = replace(first, logits=logits, mask=drawn)
    calls = recorded(monkeypatch)
    found = ask(image, Prompt([[150, 150], [150, 166]], [1, 0]), before)
    part, shown, _ = calls[1]
    side = part.original_size[0]
    seen = (shown > 0).float().mean() * side**2
    size = np.pi * 20**2 - np.pi * 3**2  # the click is kept: without its spot, of a radius of 3
    assert seen == pytest.approx(size if not empty else mask.sum(), rel=0.08)
    assert side == 63 if not empty else side < 50  # 1.6 times the 39 pixels of the disc
    outside = np.ones(mask.shape, bool)
    outside[150 - side : 150 + side, 150 - side : 150 + side] = False
    assert not (found.mask & outside).any()


@pytest.mark.parametrize("image", [np.zeros((3, 200, 320), np.uint8), [[0, 1], [2, 3]], np.zeros((9, 9))])
def test_the_image_is_what_is_wrong_where_it_is(ask, image):
    with pytest.raises(ValueError, match=r"image is .*expected uint8 \(H, W\)"):
        ask(image, Prompt(box=[40, 60, 90, 120]))


def test_the_first_mask_lies_in_the_square_as_in_the_image(sam, monkeypatch):
    calls = recorded(monkeypatch)
    image, mask = disc((400, 240), (300, 120))
    first, found = first_and_second(sam, image, mask, "box", SecondLook(sharpness=0))
    (_, nothing, _), (part, memory, second), (again, neither, afresh) = calls
    assert found.iou**2 == pytest.approx(float(second.iou[0, 0]))
    assert found.iou**2 != pytest.approx(float(afresh.iou[0, 0]))
    assert nothing is None
    assert (again, neither) == (part, None)
    seen = replace(first, low_res=memory, original_size=part.original_size, input_size=part.input_size)
    before = first.masks()[0, 0]
    centre = np.argwhere(seen.masks()[0, 0]).mean(0) - (np.array(part.original_size) - 1) / 2
    assert abs(centre).max() < 2  # the square lies around the mask
    assert seen.masks().sum() == pytest.approx(before.sum(), rel=0.1)


def test_both_masks_are_refined_by_what_they_were_drawn_on(sam, monkeypatch):
    calls, plain = [], grey_values.refine

    def refine(logits, image, settings):
        calls.append((logits, image, plain(logits, image, settings)))
        return calls[-1][2]

    monkeypatch.setattr(grey_values, "refine", refine)
    image, mask = disc((300, 400), (200, 150))
    first, found = first_and_second(sam, image, mask, "box")
    (logits, whole, _), *_, (_, part, refined) = calls
    assert (logits == first.logits()[0, 0]).all()
    assert (whole == image).all()
    ((y, x),) = np.argwhere((sliding_window_view(image, part.shape) == part).all((2, 3)))
    assert (found.logits[y : y + part.shape[0], x : x + part.shape[1]] == refined).all()
    assert found.iou < expected_iou(refined) ** (SHIPPED.sharpness / 2) < 1


def test_the_estimate_falls_where_the_image_leaves_the_outline_open(sam):
    image, mask = disc((300, 400), (200, 150))
    pictures = [np.clip(image - 78.0 * mask, 0, 255).astype(np.uint8), image]  # hardly seen, and clear
    ious = [first_and_second(sam, picture, mask, "box")[1].iou for picture in pictures]
    blunt = SecondLook(sharpness=0)
    models_own = [first_and_second(sam, picture, mask, "box", blunt)[1].iou for picture in pictures]
    assert ious[1] / ious[0] > 1.05 * models_own[1] / models_own[0]


def test_a_part_of_what_was_seen_first_is_not_what_was_meant(sam):
    """From nearby a click on a vessel of an organ means the vessel; the first look had found the organ."""
    shape, vessel = (400, 400), 12
    organ = np.zeros(shape, bool)
    organ[disk((200, 200), 70, shape=shape)] = True
    grey = 80 + 60 * organ + np.random.default_rng(0).normal(0, 8, shape)
    grey[disk((200, 200), vessel, shape=shape)] = 200
    image, prompt = np.clip(grey, 0, 255).astype(np.uint8), Prompt([[200, 200]], [1])
    encoding = look.encode_image(sam, image)
    first = shown_as(organ, look.predict(sam, encoding, pack([prompt])).best(True))
    found = second_look.predict(sam, encoding, prompt, first, several=True)
    assert dice(found.mask, organ) > 0.85
    found = second_look.predict(sam, encoding, prompt, first, SecondLook(same=0), several=True)
    assert dice(found.mask, organ) < 0.1


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([0.5, 5, 50]))
def test_every_click_is_on_its_side_and_nothing_changes_far_from_those_that_were_not(seed, count, scale):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(8, 60, 2))
    logits = torch.from_numpy(rng.normal(0, scale, shape).astype(np.float32))
    logits[rng.integers(shape[0]), rng.integers(shape[1])] = 1
    places = rng.permutation(np.argwhere(np.ones(shape, bool)))[:count]
    labels = rng.integers(0, 2, count)
    coords = places[:, ::-1] + rng.uniform(-0.49, 0.49, places.shape)  # the nearest pixel's
    given_logits = logits.clone()
    found = keep_clicks(logits, Prompt(coords, labels))
    assert torch.equal(logits, given_logits)
    sides = (found > 0).numpy()[tuple(places.T)]
    assert (sides == labels).all()
    wrong = places[(logits > 0).numpy()[tuple(places.T)] != labels]
    reach = 3 * max(SHIPPED.spot * np.sqrt(int((logits > 0).sum())), 1)
    away = np.indices(shape)[:, None] - wrong.T[:, :, None, None]
    far = (np.hypot(*away) >= reach).all(0)
    assert (found == logits).numpy()[far].all()


def test_a_correction_is_as_large_as_the_mask_asks_and_ends_before_a_click_of_the_other_kind():
    logits = torch.full((300, 300), -5.0)
    logits[50:250, 50:200] = 5
    click = Prompt([[230, 150]], [1])
    alone = keep_clicks(logits, click) > logits
    width = SHIPPED.spot * np.sqrt(200 * 150)
    assert alone.sum() == pytest.approx(np.pi * (3 * width) ** 2, rel=0.05)
    both = keep_clicks(logits, click.with_click([233, 150], 0)) > logits
    assert both.sum() == 25  # within 3 pixels
    undone = keep_clicks(logits, click.with_click([230, 150], 0))
    assert undone[150, 230] == -SHIPPED.click_logit
    assert keep_clicks(logits, Prompt(box=[60, 60, 100, 100])) is logits
    edge = keep_clicks(logits, Prompt([[299.5, 299.5]], [1]))  # rounds to 300
    assert edge[299, 299] == SHIPPED.click_logit
    empty = torch.full((20, 20), -1.0)
    assert keep_clicks(empty, Prompt([[3, 3]], [1])) is empty


@pytest.mark.parametrize(("x", "label"), [(209, 0), (216, 1)])
def test_a_click_that_model_and_grey_values_would_overrule_is_kept(ask, monkeypatch, x, label):
    """A little inside a disc's edge, or a little outside."""
    image, _ = disc((400, 400), (200, 200))
    prompt = Prompt([[200, 200], [x, 200]], [1, label])
    found = ask(image, prompt)
    assert [found.mask[y, x] for x, y in prompt.points] == [True, label == 1]
    monkeypatch.setattr(second_look, "keep_clicks", lambda logits, prompt, settings: logits)
    assert ask(image, prompt).mask[200, x] != label


@pytest.mark.parametrize("kind", ["box", "click"])
def test_a_first_mask_that_is_wrong_does_not_mislead(sam, monkeypatch, kind):
    image, mask = disc((400, 400), (200, 200))
    first, _ = first_and_second(sam, image, mask, kind)
    around = np.zeros(mask.shape, bool)
    around[disk((200, 200), 27, shape=mask.shape)] = True
    wrong = shown_as(around & ~mask, first)
    assert dice(wrong.masks()[0, 0], mask) < 0.1

    prompt = Prompt(box=[189, 189, 212, 212]) if kind == "box" else Prompt([[200, 200]], [1])
    encoding, calls = look.encode_image(sam, image), recorded(monkeypatch)
    found = second_look.predict(
        sam, encoding, prompt, wrong, SecondLook(sharpness=0), several=kind == "click"
    )
    assert dice(found.mask, mask) > 0.95
    # One click may mean several things: it gets the best of three masks, as it does at first.
    answer = calls[-1][2].iou[0]
    assert found.iou**2 == pytest.approx(float(answer[0] if kind == "box" else answer[1:].max()))


def test_the_evaluation_gets_what_the_segmenter_gives(ask):
    case = disc_case(0)
    for setting in ("box", "point1", "point1_neg1", "box_point"):
        ((_, prompt),) = case_prompts(case, [setting], 0)
        method = registry.build("second-look:tiny")
        (theirs,) = method.predict(method.encode(case.image), [prompt])
        ours = ask(case.image, Prompt(prompt.points, prompt.labels, prompt.box))
        assert (ours.mask == theirs.mask).all()
        assert ours.iou == theirs.iou
        again = correct(prompt, theirs.mask, case.objects[0].mask)
        (theirs,) = method.predict(method.encode(case.image), [again], [theirs])
        ours = ask(case.image, again, ours)
        assert (ours.mask == theirs.mask).all()


@pytest.mark.parametrize(
    ("multimask", "setting", "several"),
    [("auto", "point1", True), ("auto", "box", False), ("never", "point1", False), ("always", "box", True)],
)
def test_first_and_second_follow_the_evaluations_choice_of_masks(monkeypatch, multimask, setting, several):
    calls, plain = [], second_look.predict

    def predict(sam, encoding, prompt, first, *settings, **options):
        calls.append((first, options["several"]))
        return plain(sam, encoding, prompt, first, *settings, **options)

    monkeypatch.setattr(second_look, "predict", predict)
    case = disc_case(0)
    ((_, prompt),) = case_prompts(case, [setting], 0)
    method = registry.build("second-look:tiny", Options(multimask=multimask))
    encoding = method.encode(case.image)
    method.predict(encoding, [prompt])
    found = look.predict(models.load("tiny")[0], encoding, pack([prompt]))
    ((first, said),) = calls
    assert said is several
    assert torch.equal(first.iou, found.best(several).iou)
    assert not torch.equal(first.iou, found.best(not several).iou)


@pytest.mark.parametrize("turned", [False, True])
def test_an_image_of_which_the_model_sees_one_row_is_answered(ask, turned):
    image, box = np.zeros((1, 600), np.uint8), [195, 0, 305, 1]
    image[:, 200:300] = 200
    if turned:
        image, box = image.T, [0, 195, 1, 305]
    assert ask(image, Prompt(box=box)).mask.shape == image.shape


def test_the_readmes_example_runs(tmp_path, monkeypatch):
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    parts = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    code = "".join(part for part in parts if 'load("tiny")' in part or "Segmenter" in part)
    assert "previous=" in code
    monkeypatch.chdir(tmp_path)
    image, mask = disc((160, 160), (90, 65))
    Image.fromarray(image).save("slice.png")
    names: dict = {"grey": image}
    exec(code, names)
    assert dice(names["found"].mask, mask) > 0.8


def test_an_image_without_pixels_is_an_error(sam):
    with pytest.raises(ValueError, match=r"image is uint8 \(0, 9\)"):
        look.encode_image(sam, np.zeros((0, 9), np.uint8))


def test_an_object_as_large_as_the_image_gets_no_second_look(sam):
    image = disc((RADIUS * 2 + 4,) * 2, (RADIUS + 2,) * 2)[0]
    first, second = first_and_second(sam, image, image > 125, "box")
    refined = grey_values.refine(first.logits()[0, 0], image)
    torch.testing.assert_close(second.logits, refined, rtol=0, atol=0)


def test_an_empty_first_mask_is_left(sam):
    image, mask = disc((200, 200), (100, 100))
    first, _ = first_and_second(sam, image, mask, "click")
    empty = replace(first, low_res=torch.full_like(first.low_res, -1))
    encoding = look.encode_image(sam, image)
    found = second_look.predict(sam, encoding, Prompt([[100, 100]], [1]), empty)
    assert not found.mask.any()
    assert found.iou == 0
