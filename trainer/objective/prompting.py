"""Which first prompt each group of objects gets in a step, drawn from the seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synthfm.trainer.config import Prompting
from synthfm.trainer.model.packing import PAD_LABEL
from synthfm.trainer.stream.batch import Batch

DRAWN_CLICKS = ("point_person", "point_random")
"""Single clicks that are drawn from the mask, in the order of `Batch.clicks`."""
SINGLE_CLICKS = ("point", "point_any", *DRAWN_CLICKS)
_STORED = ("point", "point_any", "points", "points_negative", "box", "box_loose", "box_point", "mask")
MANY = {"scribble": "strokes", "points_many": "many"}
"""Kinds of many clicks, of which objects have different numbers, and the fields of a batch that hold them."""
KINDS = (*_STORED, *DRAWN_CLICKS, *MANY, "box_frame")
BOXES = {"box": "boxes", "box_loose": "boxes_loose", "box_point": "boxes_loose", "box_frame": "boxes_frame"}
"""Which of a batch's boxes the kinds with one take."""


WITHOUT_CLICKS = ("box", "box_loose", "box_frame", "mask")
"""Kinds of a box or a mask alone."""


class Plan(NamedTuple):
    """One group's prompts in one step: the same on every process.

    Attributes
    ----------
    kind
        One of :data:`KINDS`.
    positives, negatives
        Clicks inside and outside.
    rounds
        Rounds, the first included.
    seed
        Of what differs from object to object.
    following
        Through how many further slices the mask is carried after the last round.
    """

    kind: str
    positives: int = 0
    negatives: int = 0
    rounds: int = 1
    seed: int = 0
    following: int = 0


def draw_plans(config: Prompting, seed: int, step: int) -> list[Plan]:
    """The plans of a step's groups."""
    rng = np.random.default_rng([seed, step, 4])
    weights = np.array([getattr(config.mix, kind) for kind in KINDS])
    plans = []
    for _ in range(config.groups):
        kind = KINDS[rng.choice(len(KINDS), p=weights / weights.sum())]
        several = int(rng.integers(2, config.points_max + 1))
        negatives = int(rng.integers(config.negatives_max))
        positives = {"points": several, "points_negative": several - 1, **dict.fromkeys(WITHOUT_CLICKS, 0)}
        goes_on = rng.random() < config.interactive
        rounds = int(rng.integers(2, max(config.rounds_max, 2) + 1))
        seed_of_group = int(rng.integers(1 << 31))
        plans.append(
            Plan(
                kind=kind,
                positives=positives.get(kind, 1),
                negatives=negatives + 1 if kind == "points_negative" else 0,
                rounds=rounds if goes_on and config.rounds_max > 1 else 1,
                seed=seed_of_group,
                following=_following(config, seed_of_group),
            )
        )
    return plans


def _following(config: Prompting, seed: int) -> int:
    """Through how many slices a group's mask is carried on."""
    rng = np.random.default_rng([seed, 101])
    least, most = config.carry_slices
    return int(rng.integers(least, most + 1)) - 1 if rng.random() < config.carry else 0


def slices_following(config: Prompting, seed: int, step: int) -> int:
    """How many slices of its volume a step reads after each image."""
    return max(plan.following for plan in draw_plans(config, seed, step)) if config.carry else 0


def refines(plan: Plan, number: int, share: float) -> bool:
    """Whether the round after round `number` brings no click, as some of SAM's own rounds in training."""
    return bool(np.random.default_rng([plan.seed, number]).random() < share)


def second_look_after(plan: Plan, share: float) -> int | None:
    """After which round's mask a group gets a second look, at a crop around it; None for the others."""
    rng = np.random.default_rng([plan.seed, 100])
    return int(rng.integers(plan.rounds)) if plan.kind != "mask" and rng.random() < share else None


def assign_objects(plans: Sequence[Plan], count: int, *, largest_first: float) -> list[slice]:
    """Which of the `count` objects of each image belong to each plan's group.

    By turns; in a share `largest_first` of the steps in blocks, single clicks first (objects come by area).
    """
    if plans[0].seed >= largest_first * (1 << 31):  # the plans' own seed decides: the same on every process
        return [slice(number, None, len(plans)) for number in range(len(plans))]
    ranks = np.argsort(np.argsort([plan.kind not in SINGLE_CLICKS for plan in plans], kind="stable"))
    edges = np.linspace(0, count, len(plans) + 1).round().astype(int)
    return [slice(int(edges[rank]), int(edges[rank + 1])) for rank in ranks]


def first_prompts(
    plan: Plan, batch: Batch, slots: slice, scale: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Clicks, their labels and boxes of a group, in pixels of the model's input.

    Parameters
    ----------
    plan
        The group's plan.
    batch
        The batch.
    slots
        Which of the K objects of each image belong to the group.
    scale
        Pixels of the model's input per pixel of the image.

    Returns
    -------
    points, labels, boxes
        (N, M, 2), (N, M) and (N, 4) or None; N = images x objects of the group, image by image. M may be 0.
        Where objects have different numbers of clicks (:data:`MANY`), some are to be ignored.
    """
    if plan.kind in DRAWN_CLICKS:
        assert batch.clicks is not None  # they are drawn wherever a mix asks for them
        clicks = batch.clicks[:, slots, DRAWN_CLICKS.index(plan.kind)].flatten(0, 1)
        points, labels = clicks[:, None], batch.point_labels.new_ones((len(clicks), 1))
    elif plan.kind in MANY:
        field = MANY[plan.kind]
        points, labels = (getattr(batch, name)[:, slots].flatten(0, 1) for name in (field, f"{field}_labels"))
    else:
        points, labels = _clicks(plan, batch.points[:, slots], batch.point_labels[:, slots])
    boxes = None
    if plan.kind in BOXES:
        boxes = getattr(batch, BOXES[plan.kind])[:, slots].flatten(0, 1) * scale
    return points * scale, labels, boxes


def _clicks(plan: Plan, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    points, labels = points.flatten(0, 1), labels.flatten(0, 1)
    # Clicks wanted come first by a stable sort of their rank; missing ones are padding.
    rank = torch.arange(labels.shape[1], device=labels.device).expand_as(labels).float()
    if plan.kind == "point_any":  # of the clicks inside: their list is turned before the first is taken
        inside = labels == 1
        of_each = inside.sum(1, keepdim=True).clamp(min=1)
        rank = ((inside.cumsum(1) - 1 - plan.seed) % of_each).float()
    coords, marks = [points[:, :0]], [labels[:, :0]]
    for sign, count in ((1, plan.positives), (0, plan.negatives)):
        if count:
            order = torch.argsort(torch.where(labels == sign, rank, torch.inf), dim=1)[:, :count]
            mark = labels.gather(1, order)
            coords.append(points.gather(1, order[..., None].expand(-1, -1, 2)))
            marks.append(torch.where(mark == sign, mark, PAD_LABEL))
    return torch.cat(coords, 1), torch.cat(marks, 1)


def coarse_mask(targets: Tensor, seed: int) -> Tensor:
    """A careless mask prompt, logits (N, 1, h, w), from targets (N, h, w): blurred, grown or shrunk."""
    rng = np.random.default_rng(seed)
    width = 2 * int(rng.integers(1, 4)) + 1
    blurred = F.avg_pool2d(targets[:, None], width, stride=1, padding=width // 2, count_include_pad=False)
    return float(rng.uniform(6, 14)) * (blurred - float(rng.uniform(0.3, 0.6)))
