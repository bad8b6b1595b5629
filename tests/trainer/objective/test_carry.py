"""An object carried through slices in training: asked as propagation asks, with the model's own errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synthfm.data.shards import Shard
from synthfm.trainer.config import Augment, Prompting, Stream
from synthfm.trainer.model import decoder, look, models
from synthfm.trainer.model.likelihood import LikelihoodRatio
from synthfm.trainer.model.next_slice import SHIPPED, Question, ask
from synthfm.trainer.model.predict import Segmenter
from synthfm.trainer.objective import losses
from synthfm.trainer.objective.carry import Carried, spoilt
from synthfm.trainer.objective.prompting import Plan, draw_plans
from synthfm.trainer.objective.step import Step
from synthfm.trainer.run.validate import validate
from synthfm.trainer.stream.batch import collate
from synthfm.trainer.stream.following import slices_after
from synthfm.trainer.stream.samples import prepare
from tests.support.ellipses import write_volumes
from tests.support.runs import CONFIG, changed

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE, INPUT, FIRST = 48, 64, 2


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    folder = write_volumes(tmp_path_factory.mktemp("volumes") / "a", num=1, size=SIZE)
    with Shard(folder / "shard-00000.h5") as opened:
        yield opened


def batch_of(shard, track, count=2, apart=2):
    """A batch of one slice and `count` after it, of the object of one track; track 1 ends after slice 4."""
    drawn = (slices_after(shard, FIRST, count, (apart, apart), np.random.default_rng(s)) for s in range(99))
    after = next(slices for slices in drawn if slices.rows[0] > FIRST)
    item = prepare(
        shard[FIRST],
        Stream(objects_per_image=2, min_area=4),
        Augment(flip=0, rotate90=0),
        np.random.default_rng(0),
        run=after,
    )
    slot = next(k for k, members in enumerate(item["members"]) if members[track + 1])
    for name in (
        "members",
        "sets",
        "boxes",
        "boxes_loose",
        "boxes_frame",
        "points",
        "point_labels",
        "clicks",
    ):
        item[name] = item[name][slot : slot + 1]
    item["following"]["members"] = item["following"]["members"][:, slot : slot + 1]
    return collate([item])


def plan_that_begins(kind, batch, following):
    """A plan whose first mask is the model's own (0), the reference (1) or one that is spoilt (2)."""
    index = int(batch.index[0])
    seed = next(s for s in range(99) if np.random.default_rng([s, index]).integers(3) == kind)
    return Plan("box", seed=seed, following=following)


@pytest.fixture
def asked(monkeypatch):
    """What the decoder is asked, by training and by propagation, in order."""
    calls, decode = [], decoder.decode

    def recorded(sam, features, prompts, logits):
        calls.append((features, prompts.coords, prompts.kinds, logits))
        return decode(sam, features, prompts, logits)

    monkeypatch.setattr(decoder, "decode", recorded)
    monkeypatch.setattr(look, "decode", recorded)
    return calls


def test_a_slice_is_asked_in_training_as_in_propagation(shard, asked):
    batch = batch_of(shard, track=0)
    sam = models.build("tiny", image_size=INPUT).eval()
    step = Step(sam, changed(CONFIG, image_size=INPUT)).eval()
    step(batch, [plan_that_begins(1, batch, following=1)])
    first, second = batch.images[0, 0].numpy(), batch.following.images[0, 0].numpy()
    mask = batch.masks()[0, 0].numpy() > 0
    apart = float(batch.following.apart[0, 0])
    assert apart == 4
    ask(second, 1, mask, Segmenter(sam), SHIPPED, LikelihoodRatio.of(first, mask), apart)
    assert len(asked) == 3  # the box, the slice that follows; then propagation's
    for ours, theirs in zip(asked[1], asked[2], strict=True):
        assert torch.allclose(ours.float(), theirs.float(), atol=1e-5)


@pytest.fixture
def answering(monkeypatch):
    """Puts given logits, one for each call, in the place of the decoder's; returns what it is asked."""

    def put(*answers):
        calls, waiting = [], list(answers)

        def decoded(sam, features, prompts, logits):
            calls.append((features, prompts.coords, prompts.kinds, logits))
            side, count = 4 * features.shape[-1], len(prompts.coords)
            masks = torch.as_tensor(waiting.pop(0)).float().expand(count, 4, side, side).clone()
            weights = sum(p.sum() for p in sam.mask_decoder.parameters())
            return masks + 0 * weights, torch.full((count, 4), 0.5)

        monkeypatch.setattr(decoder, "decode", decoded)
        monkeypatch.setattr(look, "decode", decoded)
        return calls

    return put


def step_of(**keys):
    return Step(models.build("tiny", image_size=INPUT), changed(CONFIG, image_size=INPUT, **keys))


def test_the_next_slice_is_asked_with_what_was_answered_before(shard, answering):
    batch = batch_of(shard, track=0)
    plan = plan_that_begins(1, batch, following=2)
    side = INPUT // 4
    left = torch.where(torch.arange(side) < side // 2, 9.0, -9.0)
    areas = []
    for answer in (torch.tensor(9.0), left, torch.tensor(-9.0)):
        calls = answering(0.0, answer, 0.0)
        step_of()(batch, [plan])
        _, here, further = (call[3] for call in calls)
        areas.append(float((further > 0).float().mean() / (here > 0).float().mean()))
    whole, half, nothing = areas
    assert half < 0.85 * whole
    assert nothing == pytest.approx(1, abs=0.15)  # what was known is asked for again


def test_what_is_known_is_believed_less_the_further_away_it_is(shard):
    samples = [shard[k] for k in range(3)]
    masks = [sample.label == 1 for sample in samples]
    images = [sample.image for sample in samples]
    carried = Carried(images, masks, [0, 3, 5], masks[0], LikelihoodRatio.of(images[0], masks[0]))
    answer = look.Segmentation(
        np.zeros_like(carried.question(1, whole=True).expected), 0.5, torch.zeros(1, 64, 64)
    )
    for number, away in ((1, 3), (2, 8)):
        asked = carried.question(number, whole=True)
        wanted = Question.of(images[number], masks[0], SHIPPED, carried.taught, away, whole=True)
        assert np.array_equal(asked.before, wanted.before)
        assert asked.most == wanted.most
        dark = replace(asked, said=asked.said - 99)  # the grey values say that nothing is there
        carried.answered(number, dark, answer)
    assert np.array_equal(carried.mask, masks[0])


def test_where_an_object_has_ended_nothing_is_wanted_and_no_mask_is_right(shard, answering, monkeypatch):
    batch = batch_of(shard, track=1)
    assert batch.following.masks(0, 0).any()
    assert not batch.following.masks(1, 0).any()
    targets, objective, parts = [], losses.objective, []

    def recorded(logits, estimated, wanted, *rest):
        found = objective(logits, estimated, wanted, *rest)
        targets.append(wanted)
        parts.append(found[1])
        return found

    monkeypatch.setattr(losses, "objective", recorded)
    answering(9.0, 9.0, 9.0)
    step_of()(batch, [plan_that_begins(1, batch, following=2)])
    assert [bool(wanted.any()) for wanted in targets] == [True, True, False]
    assert parts[2]["iou"].tolist() == [0.0]
    assert parts[2]["iou_error"].tolist() == [pytest.approx(0.25)]  # 0.5 was estimated for each
    answering(-9.0, -9.0, -9.0)
    step_of()(batch, [plan_that_begins(1, batch, following=2)])
    assert parts[5]["iou"].tolist() == [0.0]  # nothing found where nothing is: its IoU is 0 as well


def test_from_an_embedding_cache_whole_slices_are_asked(shard, answering):
    batch = batch_of(shard, track=0)
    side = INPUT // 16
    batch.features = torch.zeros(1, 256, side, side)
    batch.following.features = torch.arange(2.0).view(1, 2, 1, 1, 1).expand(1, 2, 256, side, side)
    calls = answering(0.0, 0.0, 0.0)
    step_of()(batch, [plan_that_begins(1, batch, following=2)])
    for number, (features, coords, kinds, logits) in enumerate(calls[1:]):
        assert (features == number).all()
        assert kinds.tolist() == [[1, -1]]
        x, y = (coords[0, 0] * SIZE / INPUT).round().long().tolist()
        assert batch.following.masks(number, 0)[0, y, x]
        shown = float((logits > 0).float().mean())
        assert shown == pytest.approx(float(batch.masks()[0, 0].mean()), abs=0.06)


@pytest.mark.parametrize("volumes", [(True, False), (False, True), (False, False)])
def test_only_slices_of_volumes_are_carried_on(shard, answering, volumes):
    one, side = batch_of(shard, track=0), INPUT // 16
    both = one._mapped(lambda tensor: torch.cat([tensor, tensor]))
    both.features = torch.zeros(2, 256, side, side)
    both.following.features = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 2, 256, side, side)
    both.following.apart[~torch.tensor(volumes)] = 0  # as of a single image
    calls = answering(0.0, 0.0, 0.0)
    step_of()(both, [plan_that_begins(1, one, following=2)])
    asked = [features[:, 0, 0, 0].tolist() for features, *_ in calls[1:]]
    assert asked == [[row for row in range(2) if volumes[row]]] * 2 * any(volumes)


def test_an_answer_that_means_another_object_is_not_carried(shard):
    sample = shard[FIRST]
    masks = [sample.label == 1, sample.label == 1]
    other = sample.label == 2
    images = [sample.image, shard[FIRST + 1].image]
    for seed in range(12):
        carried = Carried.of(images, masks, [0, 2], other, np.random.default_rng(seed))
        assert 2 * (carried.mask & masks[0]).sum() > 0.6 * (carried.mask.sum() + masks[0].sum())


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(2, 12))
@example(8, 4, 5)
@settings(max_examples=60, deadline=None)
def test_a_spoilt_mask_is_another_that_still_means_the_object(seed, a, b):
    y, x = np.indices((40, 36))
    mask = ((x - 16) / a) ** 2 + ((y - 20) / b) ** 2 <= 1
    found = spoilt(mask, np.random.default_rng(seed))
    assert (found.shape, found.dtype) == (mask.shape, bool)
    assert found.any()
    assert 2 * (found & mask).sum() > 0.5 * (found.sum() + mask.sum())


def test_masks_are_spoilt_in_every_way():
    y, x = np.indices((64, 64))
    mask = (x - 30) ** 2 + (y - 30) ** 2 < 14**2
    found = [spoilt(mask, np.random.default_rng(seed)) for seed in range(60)]
    ratio = [one.sum() / mask.sum() for one in found]
    assert min(ratio) < 0.8
    assert max(ratio) > 1.1
    middles = np.array([np.argwhere(one).mean(0) for one in found])
    assert middles.std(0).min() > 0.5
    inner = (x - 30) ** 2 + (y - 30) ** 2 < 8**2
    assert any((inner & ~one).any() for one in found)


def test_carrying_leaves_all_else_that_is_drawn_as_it_is():
    without = [draw_plans(Prompting(), 5, step) for step in range(40)]
    carried = [draw_plans(Prompting(carry=0.5, carry_slices=(2, 4)), 5, step) for step in range(40)]
    assert [[plan._replace(following=0) for plan in plans] for plans in carried] == without
    assert {plan.following for plans in carried for plan in plans} == {0, 1, 2, 3}


@pytest.mark.parametrize(("track", "nothing"), [(0, [0, 0]), (1, [0, 1])])
def test_the_figure_of_a_validation_counts_ended_slices_as_right_when_nothing_is_found(
    shard, answering, track, nothing
):
    batch = batch_of(shard, track)
    sam = models.build("tiny", image_size=INPUT)
    answering(*[-9.0] * 10)
    scores, _ = validate(sam, [batch], torch.device("cpu"))
    assert scores.objects["carry", "MR"] == 2
    assert scores.dice["carry", "MR"] == pytest.approx(np.mean(nothing))
