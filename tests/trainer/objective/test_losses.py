"""The objective, corrective clicks, and the prompts drawn for training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfm.data.prompts import corrective_point
from synthfm.trainer.config import Augment, Loss, Prompting, PromptMix, Stream, TrainConfig
from synthfm.trainer.model import decoder, models
from synthfm.trainer.objective import losses
from synthfm.trainer.objective.prompting import (
    BOXES,
    DRAWN_CLICKS,
    KINDS,
    MANY,
    Plan,
    assign_objects,
    draw_plans,
    first_prompts,
    second_look_after,
)
from synthfm.trainer.objective.step import Step
from synthfm.trainer.stream.batch import collate
from synthfm.trainer.stream.samples import prepare
from tests.support.ellipses import ellipse_sample


def square(size: int = 16, box: tuple[int, int, int, int] = (4, 4, 12, 12)) -> torch.Tensor:
    mask = torch.zeros(1, size, size)
    x0, y0, x1, y1 = box
    mask[:, y0:y1, x0:x1] = 1
    return mask


def test_an_object_that_fills_no_cell_by_half_is_still_the_object():
    """A thin vessel: a click on it means it, and a mask of its cells is right."""
    target = torch.zeros(1, 16, 16)
    target[0, 3:9, 5] = 0.4
    target[0, 3:9, 6] = 0.1
    wanted = torch.zeros(1, 16, 16, dtype=torch.bool)
    wanted[0, 3:9, 5] = True
    assert torch.equal(losses.inside(target), wanted)
    logits = wanted.float() * 2 - 1
    assert losses.iou(logits[:, None], target) == 1
    points, labels = losses.corrective_clicks(logits, target)
    assert labels.tolist() == [1]
    assert points[0, 0] == 5
    whole = square() * 0.9
    whole[0, 0, 0] = 0.47
    assert torch.equal(losses.inside(whole), whole > 0.5)
    assert not losses.inside(torch.zeros(1, 4, 4)).any()


@pytest.mark.parametrize("kind", ["dice", "dice_focal", "dice_ce"])
def test_loss_of_a_right_mask_is_near_zero_and_of_a_wrong_one_is_not(kind):
    target = square()
    right = 40 * (target - 0.5)
    loss = losses.MaskLoss(kind)
    assert loss(right, target) < 0.01
    assert loss(-right, target) > 0.9


def test_dice_equals_the_formula():
    logits, target = torch.randn(3, 8, 8), torch.rand(3, 8, 8)
    p = logits.sigmoid()
    expected = 1 - (2 * (p * target).sum((1, 2)) + 1e-5) / ((p + target).sum((1, 2)) + 1e-5)
    torch.testing.assert_close(losses.MaskLoss("dice")(logits, target), expected)


def test_focal_loss_counts_twenty_times_beside_dice():
    logits, target = torch.randn(3, 8, 8), (torch.rand(3, 8, 8) > 0.5).float()
    right = torch.where(target > 0, logits.sigmoid(), 1 - logits.sigmoid())
    focal = (-((1 - right) ** 2) * right.log()).mean((1, 2))
    expected = losses.MaskLoss("dice")(logits, target) + 20 * focal
    torch.testing.assert_close(losses.MaskLoss("dice_focal")(logits, target), expected)


def test_only_the_best_of_three_masks_learns():
    target = square()
    logits = torch.stack([torch.zeros(1, 16, 16), -4 * (target - 0.5), 4 * (target - 0.5), target * 0], 1)
    logits.requires_grad_()
    config = Loss(multimask=1.0, iou=0.0)
    loss, parts = losses.objective(logits, torch.zeros(1, 4), target, config, losses.MaskLoss("dice"))
    loss.backward()
    assert [bool(grad.any()) for grad in logits.grad[0]] == [True, False, True, False]
    assert parts["multi"] < parts["single"]


def test_iou_head_is_drawn_to_the_actual_iou():
    target = square()
    logits = 9 * (square(box=(4, 4, 12, 8)) - 0.5)[:, None].expand(-1, 4, -1, -1)
    estimated = torch.full((1, 4), 0.5)
    config = Loss(iou=1.0)
    _, parts = losses.objective(logits, estimated, target, config, losses.MaskLoss("dice"))
    assert parts["iou"] == pytest.approx(0.5)
    assert parts["iou_error"] == pytest.approx(0.0)
    estimated[:, 2] = 0.7  # of four masks
    _, parts = losses.objective(logits, estimated, target, config, losses.MaskLoss("dice"))
    assert parts["iou_error"] == pytest.approx(0.04 / 4)


def test_targets_are_averaged_by_area():
    mask = torch.zeros(1, 4, 4)
    mask[0, 0, :3] = 1
    assert losses.area_average(mask, (2, 2))[0].tolist() == [[0.5, 0.25], [0, 0]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_corrective_click_lies_in_the_error_and_has_its_sign(seed):
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        x, y = np.sort(rng.integers(0, 25, (2, 2)), axis=0).T
        mask = np.zeros((24, 24), bool)
        mask[y[0] : y[1] + 1, x[0] : x[1] + 1] = True
        masks.append(mask)
    predicted, wanted = masks
    points, labels = losses.corrective_clicks(
        torch.from_numpy(predicted)[None].float() - 0.5, torch.from_numpy(wanted)[None].float()
    )
    x, y = points[0].int().tolist()
    if (predicted == wanted).all():
        assert wanted[y, x] or not wanted.any()
        return
    assert predicted[y, x] != wanted[y, x]
    assert labels[0] == wanted[y, x]


def test_corrective_click_is_that_of_the_evaluation_in_a_clear_case():
    wanted, predicted = square(32, (4, 4, 25, 25))[0].bool(), square(32, (4, 4, 15, 25))[0].bool()
    points, labels = losses.corrective_clicks(predicted[None].float() - 0.5, wanted[None].float())
    expected, sign = corrective_point(predicted.numpy(), wanted.numpy())
    assert labels[0] == sign == 1
    assert np.abs(points[0].numpy() - expected).max() <= 6  # as deep; which of the equals differs
    assert abs(points[0, 0] - expected[0]) <= 1


def batch_of(count: int = 3):
    plain, strokes = Augment(flip=0, rotate90=0), Prompting(mix=PromptMix(scribble=1, points_many=1))
    stream = Stream(objects_per_image=4)
    items = [
        prepare(ellipse_sample(i, 64), stream, plain, np.random.default_rng(i), prompting=strokes)
        for i in range(count)
    ]
    return collate([item for item in items if item])


@pytest.mark.parametrize("kind", KINDS)
def test_first_prompts_are_of_their_kind(kind):
    batch = batch_of()
    batch.boxes_frame += 1  # of ellipses they are the loose ones
    mix = PromptMix(**{name: float(name == kind) for name in KINDS})
    plan = draw_plans(Prompting(mix=mix), 0, 0)[0]
    assert plan.kind == kind
    points, labels, boxes = first_prompts(plan, batch, slice(0, None, 2), 2.0)
    assert (boxes is not None) == (kind in BOXES)
    assert (points.shape[1] == 0) == (kind in ("box", "box_loose", "box_frame", "mask"))
    masks = batch.masks()[:, ::2].flatten(0, 1)
    if points.shape[1]:
        x, y = (points / 2).long().unbind(-1)
        inside = masks[torch.arange(len(masks))[:, None], y, x] > 0
        used = labels >= 0
        assert (inside == (labels == 1))[used].all()
        if kind not in MANY:
            assert (labels[:, 0] == 1).all()
            assert ((labels == 0).any() == (kind == "points_negative")).all()
    if boxes is not None and kind == "box":
        torch.testing.assert_close(boxes, batch.boxes[:, ::2].flatten(0, 1) * 2)
    if kind == "box_frame":
        torch.testing.assert_close(boxes, batch.boxes_frame[:, ::2].flatten(0, 1) * 2)


def test_a_kind_of_weight_0_leaves_the_plans_as_they_were():
    """Runs that do not ask for it draw what they drew before there was one."""
    drawn = [plan.kind for step in range(40) for plan in draw_plans(Prompting(), 0, step)]
    begin = [
        "mask",
        "points",
        "point_any",
        "point_any",
        "box_loose",
        "point_any",
        "points_negative",
        "point_any",
    ]
    assert drawn[:8] == begin
    assert "box_frame" not in drawn


def test_drawn_clicks_differ_and_keep_off_the_small_objects_inside():
    sample = next(s for s in (ellipse_sample(i, 64) for i in range(20)) if s.objects.parent.any())
    stream, plain = Stream(objects_per_image=4, clear_clicks=1.0), Augment(flip=0, rotate90=0)
    parent = int(sample.objects.parent.max())
    drawn = []
    for seed in range(30):
        batch = collate([prepare(sample, stream, plain, np.random.default_rng(seed))])
        rows = [k for k in range(4) if batch.members[0, k, parent] and (batch.members[0, k].sum() > 1)]
        for kind in DRAWN_CLICKS:
            points, labels, _ = first_prompts(Plan(kind, 1), batch, slice(None), 1.0)
            assert labels.tolist() == [[1]] * 4
            drawn += [(kind, *points[k, 0].tolist()) for k in rows]
    assert len(set(drawn)) > 30
    assert all(sample.label[int(y), int(x)] == parent for _, x, y in drawn)


def test_one_click_anywhere_is_not_always_the_centre():
    batch = batch_of()
    first = {
        tuple(first_prompts(Plan("point_any", 1, seed=seed), batch, slice(0, 1), 1.0)[0][0, 0].tolist())
        for seed in range(8)
    }
    assert len(first) > 2


@pytest.mark.parametrize("largest_first", [0, 1])
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    count=st.integers(min_value=4, max_value=9),
)
def test_every_object_belongs_to_one_group(kinds, count, largest_first):
    plans = [Plan(kind) for kind in kinds]
    shares = [range(count)[part] for part in assign_objects(plans, count, largest_first=largest_first)]
    assert all(len(share) for share in shares)
    assert sorted(k for share in shares for k in share) == list(range(count))


def test_single_clicks_take_the_larger_objects():
    plans = [Plan("box"), Plan("point", 1), Plan("points", 3), Plan("point_any", 1)]
    assert [(s.start, s.stop) for s in assign_objects(plans, 8, largest_first=1)] == [
        (4, 6),
        (0, 2),
        (6, 8),
        (2, 4),
    ]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_single_clicks_take_the_larger_objects_in_the_share_asked_for(share):
    config = Prompting(groups=3)
    blocks = [
        assign_objects(draw_plans(config, 0, step), 6, largest_first=share)[0].step is None
        for step in range(1000)
    ]
    assert np.mean(blocks) == pytest.approx(share, abs=0.05)


def test_plans_follow_seed_and_step_alone():
    config = Prompting(groups=3)
    assert draw_plans(config, 1, 7) == draw_plans(config, 1, 7)
    assert draw_plans(config, 1, 7) != draw_plans(config, 1, 8)
    assert {plan.rounds for step in range(50) for plan in draw_plans(config, 0, step)} == {1, 2, 3, 4}


@pytest.mark.parametrize("refine", [0.0, 1.0])
def test_a_round_without_a_click_gets_the_mask_alone(refine, monkeypatch):
    batch = batch_of()
    size = batch.images.shape[-1]
    config = TrainConfig(prompts=Prompting(refine=refine))
    step = Step(models.build("tiny", image_size=size, seed=0), config)
    asked, plain = [], decoder.decode

    def recorded(sam, features, prompts, logits):
        answer = plain(sam, features, prompts, logits)
        asked.append((prompts.kinds.shape[1], logits, answer[0].detach()[:, :1]))
        return answer

    monkeypatch.setattr(decoder, "decode", recorded)
    step(batch, [Plan("box", rounds=3)])
    corners = [points for points, _, _ in asked]
    assert corners == ([2, 2, 2] if refine else [2, 3, 4])
    for (_, _, shown), (_, fed_back, _) in itertools.pairwise(asked):
        torch.testing.assert_close(fed_back, shown)


@pytest.mark.parametrize("kind", ["point", "box"])
def test_a_second_look_shows_the_object_where_its_prompt_says(kind, monkeypatch):
    """Prompt, image, mask fed back and target of the crop are one object's, at the input's size."""
    batch = batch_of()
    size = 2 * batch.images.shape[-1]
    config = TrainConfig(prompts=Prompting(second_look=1), stream=Stream(largest_first=0))
    step = Step(models.build("tiny", image_size=size, seed=0), config)
    plan = Plan(kind, positives=int(kind == "point"), seed=1)
    truth = batch.masks().flatten(0, 1)
    small = torch.nn.functional.interpolate(truth[:, None], (size // 4, size // 4), mode="area")[:, 0]
    plain, objective = decoder.decode, losses.objective
    prompts, targets = [], []

    def decoded(sam, features, packed, logits):
        masks, iou = plain(sam, features, packed, logits)
        prompts.append((packed.coords, packed.kinds, logits))
        return (masks * 0 + 8 * (small - 0.5)[:, None] if logits is None else masks), iou

    def scored(logits, estimated, wanted, *rest):
        targets.append(wanted)
        return objective(logits, estimated, wanted, *rest)

    monkeypatch.setattr(decoder, "decode", decoded)
    monkeypatch.setattr(losses, "objective", scored)
    loss, _ = step(batch, [plan])
    loss.backward()
    assert len(prompts) == 2
    (coords, kinds, memory), wanted = prompts[1], targets[1]
    assert len(coords) == len(batch.images)
    first = small.view(len(coords), -1, *small.shape[1:])[:, plan.seed]
    assert ((memory[:, 0] > 0).sum((1, 2)) > (first > 0.5).sum((1, 2))).all()  # it is shown larger
    fine = torch.nn.functional.interpolate(wanted[:, None], (size, size), mode="bilinear")[:, 0] > 0.5
    for mask, row, labels in zip(fine, coords, kinds, strict=True):
        rows, columns = torch.nonzero(mask).unbind(1)
        if kind == "point":
            x, y = row[0].long().tolist()
            assert mask[y, x]
        else:
            edges = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            torch.testing.assert_close(edges, row[labels >= 2].flatten(), rtol=0, atol=0.06 * size)
    overlap = torch.nn.functional.interpolate(memory, wanted.shape[-2:], mode="bilinear")[:, 0] > 0
    assert (losses.iou(2.0 * overlap[:, None] - 1, wanted) > 0.8).all()


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_second_looks_come_in_the_share_asked_for_after_any_round(share):
    plans = [Plan("box", rounds=3, seed=seed) for seed in range(600)]
    rounds = [second_look_after(plan, share) for plan in plans]
    assert np.mean([number is not None for number in rounds]) == pytest.approx(share, abs=0.06)
    assert {number for number in rounds if number is not None} == ({0, 1, 2} if share else set())
