"""One step's forward pass: what is frozen stays, and what the model sees is what the targets show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything.utils.transforms import ResizeLongestSide
from torch import nn
from torch.nn import functional as F

from synthfm.data.prompts import tight_box
from synthfm.data.shards import Sample, object_masks
from synthfm.trainer.config import Augment, Prompting, Stream
from synthfm.trainer.model import decoder, models
from synthfm.trainer.model.tiny import TinyEncoder
from synthfm.trainer.objective import losses
from synthfm.trainer.objective.prompting import Plan
from synthfm.trainer.objective.step import Step
from synthfm.trainer.run import inputs
from synthfm.trainer.run.validate import validate
from synthfm.trainer.stream.batch import collate
from synthfm.trainer.stream.samples import prepare
from tests.support.ellipses import ellipse_sample
from tests.support.runs import CONFIG, changed

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = Augment(flip=0, rotate90=0)


class Normed(TinyEncoder):
    """An encoder that normalises by batches, as MobileSAM's does."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.norm_batch = nn.BatchNorm2d(256)

    def forward(self, images):
        return self.norm_batch(super().forward(images))


def batch_of(count=3, size=32, objects=2):
    """A batch of ellipses, not augmented."""
    stream = Stream(objects_per_image=objects, min_area=4)
    items = [prepare(ellipse_sample(i, size), stream, PLAIN, np.random.default_rng(i)) for i in range(count)]
    return collate([item for item in items if item])


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_keeps_its_statistics(frozen, monkeypatch):
    monkeypatch.setattr(models, "TinyEncoder", Normed)
    config = changed(CONFIG, freeze=("encoder",) if frozen else (), image_size=32)
    sam = inputs.prepare(models.build("tiny", image_size=32), config)
    batch = batch_of()
    step = Step(sam, config).train()
    norm = sam.image_encoder.norm_batch
    before = norm.running_mean.clone()
    alone = torch.cat([step.encode(batch.only(row)) for row in range(len(batch.images))])
    assert torch.equal(before, norm.running_mean) == frozen
    assert torch.allclose(step.encode(batch), alone, atol=1e-5) == frozen
    validate(sam, [batch.only(0)], torch.device("cpu"))
    assert norm.training != frozen
    assert sam.mask_decoder.training
    step(batch, [Plan("box")])
    assert torch.equal(before, norm.running_mean) == frozen


def step_of(size=96, **loss):
    """A step of `tiny` at some input size; the loss's settings."""
    config = changed(CONFIG, image_size=size, loss={"kind": "dice", **loss})
    return Step(models.build("tiny", image_size=size), config)


def answering(monkeypatch, answer):
    """Put `answer(number of the call)`, logits, in the place of the decoder's; returns what it is asked."""
    asked = []

    def decoded(sam, features, prompts, logits):
        asked.append((prompts.coords, prompts.kinds, logits))
        count, side = len(prompts.coords), 4 * features.shape[-1]
        masks = answer(len(asked) - 1).expand(count, 4, side, side).clone()
        weights = sum(p.sum() for p in sam.mask_decoder.parameters())
        return masks + 0 * weights, torch.tensor([0.3, 0.1, 0.9, 0.2]).expand(count, 4)

    monkeypatch.setattr(decoder, "decode", decoded)
    return asked


@pytest.mark.parametrize(("height", "size"), [(41, 96), (45, 96), (41, 32), (47, 48), (55, 80), (64, 96)])
def test_what_is_image_and_what_is_padding_is_sams(height, size):
    batch = batch_of(1, 64)
    batch.images, batch.sizes = batch.images[..., :height, :], torch.tensor([[height, 64]])
    images, sizes = step_of(size)._input(batch)
    expected = ResizeLongestSide.get_preprocess_shape(height, 64, size)
    assert (tuple(images.shape[-2:]), tuple(sizes[0].tolist())) == (expected, expected)


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("kind", ["point", "point_any", "point_person", "point_random", "box"])
def test_a_single_click_is_not_asked_for_a_set(kind, rounds):
    batch, step = batch_of(3, 64), step_of()
    step.config = changed(step.config, prompts={"second_look": 1.0})
    batch.sets[1, 0] = True
    other = replace(batch, members=batch.members.clone())
    other.members[1, 0] = ~other.members[1, 0]
    plans = [Plan(kind, rounds=rounds, positives=int(kind != "box"), seed=seed) for seed in (1, 2)]
    for plan in plans:
        same = torch.equal(step(batch, [plan])[0], step(other, [plan])[0])
        assert same == (kind != "box" and rounds == 1)
    batch.sets[:] = True
    loss, log = step(batch, [plans[0]._replace(rounds=1)])
    assert (float(loss.detach()) == 0 and float(log["iou"]) == 0) == (kind != "box")


def wide(index, height=41, width=64):
    """The middle rows of a square sample, with the object table of what is left in them."""
    whole = ellipse_sample(index, width, most=1)
    first = (width - height) // 2
    rows = slice(first, first + height)
    image, label = whole.image[rows], whole.label[rows]
    table = whole.objects
    table.points[..., 1] -= first
    table.box[:] = [tight_box(mask) for mask in object_masks(label, table)]
    return Sample(image, label, whole.index, whole.seed, whole.modality, table)


@pytest.mark.parametrize("kind", ["box", "point"])
def test_prompts_of_images_that_are_not_square_lie_on_the_targets(kind, monkeypatch):
    stream = Stream(objects_per_image=1, min_area=4)
    items = [prepare(wide(i), stream, PLAIN, np.random.default_rng(i)) for i in range(4)]
    batch, step, targets = collate([item for item in items if item]), step_of(96), []
    asked = answering(monkeypatch, lambda _: torch.zeros(1))
    objective = losses.objective
    monkeypatch.setattr(losses, "objective", lambda *args: targets.append(args[2]) or objective(*args))
    step(batch, [Plan(kind, positives=int(kind == "point"))])
    ((coords, kinds, _),) = asked
    assert len(coords) > 2
    for target, row, labels in zip(targets[0], coords, kinds, strict=True):
        cells = 96 / len(target)
        if kind == "point":
            x, y = ((row[labels == 1][0] + 0.5) / cells).long().tolist()
            assert target[y, x] > 0.5
        else:
            box = torch.tensor(tight_box((target > 0.5).numpy()), dtype=torch.float32) * cells
            torch.testing.assert_close(row[labels >= 2].flatten(), box, rtol=0, atol=cells)


def test_a_corrective_click_falls_on_what_was_missed(monkeypatch):
    """With nothing found, that is the object: in pixels of the input, four times as fine as the masks."""
    batch, size = batch_of(3, 32, objects=1), 96
    asked = answering(monkeypatch, lambda _: torch.full((1,), -9.0))
    step_of(size)(batch, [Plan("box", rounds=2)])
    (_, first, _), (coords, kinds, _) = asked
    assert (first.shape[1], kinds.shape[1]) == (2, 3)
    assert (kinds == 1).sum() == len(coords)
    masks = F.interpolate(batch.masks(), (size, size))[:, 0]
    x, y = coords[kinds == 1].round().long().unbind(1)
    assert masks[torch.arange(len(masks)), y, x].all()


def test_groups_that_are_decoded_together_give_what_each_gives_alone():
    """Whatever their clicks, rounds and mask prompts, and however many objects of each image they have."""
    plans = [
        Plan("points_negative", positives=2, negatives=2, rounds=3, seed=1 << 30),
        Plan("mask", rounds=2, seed=5),
        Plan("point", positives=1, rounds=1, seed=6),
        Plan("box", rounds=4, seed=7),
        Plan("box_point", positives=1, rounds=2, seed=8),
    ]
    batch, step = batch_of(3, 64, objects=7), step_of(64, multimask=0.5, iou=1.0, round_decay=0.9)
    step.config = changed(step.config, prompts={"second_look": 0.5, "refine": 0.3})
    loss, log = step(batch, plans)
    features = step.encode(batch)
    alone = step.groups(batch, plans, 4 * features.shape[-1])
    assert {len(group.wanted) for group in alone} == {3, 6}
    for group in alone:
        for number in range(group.plan.rounds):
            step.round(features, batch, [group], number)
    assert sum(len(group.losses) for group in alone) > sum(plan.rounds for plan in plans)  # second looks
    torch.testing.assert_close(loss, torch.stack([torch.stack(g.losses).mean() for g in alone]).mean())
    for name, value in log.items():
        torch.testing.assert_close(value, torch.stack([group.log[name] for group in alone]).mean())


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_further_rounds_count_less(decay, monkeypatch):
    batch = batch_of()
    answering(monkeypatch, lambda _: torch.zeros(1))
    one, three = (step_of(32, round_decay=decay)(batch, [Plan("box", rounds=n)])[0] for n in (1, 3))
    assert float((three / one).detach()) == pytest.approx((1 + decay + decay**2) / 3)


def test_the_log_is_of_the_first_round_with_the_last_ones_iou(monkeypatch):
    answering(monkeypatch, lambda number: torch.full((1,), 9.0 if number else -9.0))
    _, log = step_of(32)(batch_of(), [Plan("box", rounds=3)])  # nothing at first, then everything
    assert log["single"] > 0.99
    assert log["iou"] > 0.05


@pytest.mark.parametrize(("kind", "shown"), [("point", 2), ("box", 0)])
def test_after_one_click_the_best_of_three_is_shown(kind, shown, monkeypatch):
    """And so corrected by the second click, after which the prompt is no longer ambiguous."""
    asked = answering(monkeypatch, lambda n: torch.arange(4.0)[None, :, None, None] + 10 * n)
    plan = Plan(kind, positives=int(kind == "point"), rounds=3)
    step_of(32)(batch_of(), [plan])
    assert [float(memory.unique()) for _, _, memory in asked[1:]] == [shown, 10]


def test_a_coarse_mask_prompt_shows_the_object(monkeypatch):
    batch = batch_of(3, 32, objects=1)
    asked = answering(monkeypatch, lambda _: torch.zeros(1))
    for seed in range(4):
        step_of(128)(batch, [Plan("mask", seed=seed)])
        coords, _, logits = asked[-1]
        assert coords.shape[1] == 0
        assert (losses.iou(logits, batch.masks()[:, 0]) > 0.5).all()


@pytest.mark.parametrize("enabled", [True, False])
def test_cached_embeddings_have_the_type_that_the_encoder_would_give(enabled):
    batch, step = batch_of(), step_of(32)
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        encoded = step.encode(batch)
        batch.features = encoded.detach().half()
        cached = step.encode(batch)
    step.sam.image_encoder.register_forward_hook(lambda *parts: parts[-1].float())  # as ViT's last norm does
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        assert step.encode(replace(batch, features=None)).dtype == encoded.dtype
    assert cached.dtype == encoded.dtype == (torch.bfloat16 if enabled else torch.float32)
    torch.testing.assert_close(cached, encoded, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", ["scribble", "points_many"])
def test_prompts_of_many_clicks_give_together_what_each_gives_alone(kind):
    stream, many = Stream(objects_per_image=1, min_area=4), Prompting(mix={"scribble": 1, "points_many": 1})
    items = [
        prepare(ellipse_sample(k, 64), stream, PLAIN, np.random.default_rng(k), prompting=many)
        for k in range(4)
    ]
    plan, step = [Plan(kind, rounds=2, seed=3)], step_of(96).eval()
    labels = collate(items).strokes_labels if kind == "scribble" else collate(items).many_labels
    assert len(set((labels >= 0).sum(-1).flatten().tolist())) > 1
    with torch.no_grad():
        together = step(collate(items), plan)[0]
        alone = [step(collate([item]), plan)[0] for item in items]
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-4, atol=1e-4)
