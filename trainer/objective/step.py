"""One training step's forward pass: images and prompts in, loss out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from synthfm.trainer.config import TrainConfig
from synthfm.trainer.model import decoder, look, second_look
from synthfm.trainer.model.packing import IGNORE_LABEL, PackedPrompts, pack_alike
from synthfm.trainer.objective import losses
from synthfm.trainer.objective.carry import Asked, Carried, answers_in, targets
from synthfm.trainer.objective.prompting import (
    MANY,
    SINGLE_CLICKS,
    Plan,
    assign_objects,
    coarse_mask,
    first_prompts,
    refines,
    second_look_after,
)
from synthfm.trainer.stream.batch import Batch, Following
from synthfm.trainer.stream.embeddings import fit_to_input


@dataclass
class Group:
    """The objects that get one kind of prompt: N, as many of each of B images, image by image.

    Attributes
    ----------
    plan, slots
        Its plan, and which of each image's objects belong to it.
    wanted
        (N, h, w) in 0..1, at the resolution at which the loss is taken.
    points, labels, boxes
        (N, M, 2), (N, M) and (N, 4) or None, in pixels of the model's input.
    coarse
        (N, 4h, 4w) in 0..1, what the next click corrects; None where none comes.
    memory
        (N, 1, 4h, 4w), the logits that are the next round's mask prompt, or None.
    fair
        bool (N,), what can be told from the first prompt: not a set of objects from a single click.
    losses, log
        Of each round so far, and of the first with the last one's IoU.
    """

    plan: Plan
    slots: slice
    wanted: Tensor
    fair: Tensor
    points: Tensor
    labels: Tensor
    boxes: Tensor | None
    coarse: Tensor | None = None
    memory: Tensor | None = None
    losses: list[Tensor] = field(default_factory=list)
    log: dict[str, Tensor] = field(default_factory=dict)

    def packed(self) -> PackedPrompts:
        """As the decoder takes them."""
        return pack_alike(self.points, self.labels, self.boxes, ragged=self.plan.kind in MANY)


class Step(nn.Module):
    """The model with its objective; a module, so that DDP sees every use of a weight within one forward.

    Parameters
    ----------
    sam
        The model.
    config
        The run's config.
    """

    def __init__(self, sam: Sam, config: TrainConfig) -> None:
        super().__init__()
        self.sam = sam
        self.config = config
        self.criterion = losses.MaskLoss(config.loss.kind)

    def train(self, mode: bool = True) -> Step:
        """As of any module, but frozen parts stay in evaluation mode.

        In training mode MobileSAM's encoder would normalise by the batch and move its running statistics,
        which are no parameters and so are not frozen with them.
        """
        super().train(mode)
        for part in (self.sam.image_encoder, self.sam.prompt_encoder, self.sam.mask_decoder):
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self

    def forward(self, batch: Batch, plans: Sequence[Plan]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss over groups and rounds, and its parts."""
        features = self.encode(batch)
        groups = self.groups(batch, plans, 4 * features.shape[-1])
        for number in range(max(plan.rounds for plan in plans)):
            asked = [group for group in groups if number < group.plan.rounds]
            # Without a mask prompt an image is the same for all of its prompts, and decoded faster.
            plain = [group for group in asked if group.memory is None]
            shown = [group for group in asked if group.memory is not None]
            for alike in filter(None, (plain, shown)):
                self.round(features, batch, alike, number)
        # Every trained weight takes part, whatever was drawn: DDP waits for the gradient of each.
        touched = sum(p.sum() for p in self.light_parameters())
        total = torch.stack([torch.stack(group.losses).mean() for group in groups]).mean() + 0.0 * touched
        return total, {name: torch.stack([g.log[name] for g in groups]).mean() for name in groups[0].log}

    def light_parameters(self) -> list[nn.Parameter]:
        """Trained weights outside the encoder."""
        parts = (self.sam.prompt_encoder, self.sam.mask_decoder)
        return [p for part in parts for p in part.parameters() if p.requires_grad]

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings (B, C, h, w), from the cache where the batch brings them."""
        if batch.features is not None:
            return _as_autocast(batch.features)
        return self._encoded(*self._input(batch))

    def _input(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, 1, h, w) at the model's input size, and (B, 2), what of each is not padding."""
        size = self.sam.image_encoder.img_size
        scale = size / max(batch.images.shape[-2:])
        sizes = (batch.sizes * scale + 0.5).floor().long()  # as SAM rounds: a half goes up
        return fit_to_input(batch.images, size), sizes

    def _encoded(self, images: Tensor, sizes: Tensor) -> Tensor:
        with torch.set_grad_enabled(next(self.sam.image_encoder.parameters()).requires_grad):
            return _as_autocast(look.encode(self.sam, images, sizes))

    def targets(self, batch: Batch, side: int) -> Tensor:
        """Area-averaged masks (B, K, side, side) of the padded square that the decoder sees."""
        masks = squared(batch.masks())
        flat = losses.area_average(masks.flatten(0, 1), (side, side))
        return flat.view(*masks.shape[:2], side, side)

    def groups(self, batch: Batch, plans: Sequence[Plan], side: int) -> list[Group]:
        """The groups with their first prompts; `side` of the decoder's masks in cells."""
        targets = self.targets(batch, side * self.config.loss.scale)
        scale = self.sam.image_encoder.img_size / max(batch.labels.shape[1:])
        parts = assign_objects(plans, targets.shape[1], largest_first=self.config.stream.largest_first)
        groups = []
        for plan, slots in zip(plans, parts, strict=True):
            wanted = targets[:, slots].flatten(0, 1)
            fair = ~(batch.sets[:, slots].flatten() & (plan.kind in SINGLE_CLICKS))
            group = Group(plan, slots, wanted, fair, *first_prompts(plan, batch, slots, scale))
            if plan.rounds > 1:
                group.coarse = losses.area_average(wanted, (side, side))
            if plan.kind == "mask":
                group.memory = coarse_mask(losses.area_average(wanted, (side, side)), plan.seed)
            groups.append(group)
        return groups

    def round(self, features: Tensor, batch: Batch, groups: Sequence[Group], number: int) -> None:
        """One round of some groups, all of them with mask prompts or all without, in one call of the decoder.

        Adds to their losses and logs, and where they go on to their prompts.
        """
        config, count = self.config.loss, len(features)
        prompts = _packed(groups, count)
        memory = [group.memory for group in groups if group.memory is not None]
        logits, estimated = decoder.decode(
            self.sam, features, prompts, _joined(memory, count) if memory else None
        )
        wanted = _joined([group.wanted for group in groups], count)
        values, parts = losses.objective(logits, estimated, wanted, config, self.criterion)
        of_each = (torch.stack([values, *parts.values()], 1), logits.detach(), estimated.detach())
        corrected = []
        for group, scores, answer, iou in zip(
            groups, *(_parted(p, groups, count) for p in of_each), strict=True
        ):
            loss, *mean = counted_mean(scores, group.fair) if number == 0 else scores.mean(0)
            group.losses.append(loss * config.round_decay**number)
            log = dict(zip(parts, (value.detach() for value in mean), strict=True))
            group.log = log if number == 0 else {**group.log, "iou": log["iou"]}
            again = number == second_look_after(group.plan, self.config.prompts.second_look)
            goes_on = number + 1 < group.plan.rounds
            carried = not goes_on and group.plan.following and batch.following is not None
            if not goes_on and not again and not carried:
                continue
            # What a user would see and correct: after one click the best of three, else the single mask.
            ambiguous = number == 0 and group.plan.kind in SINGLE_CLICKS
            chosen = look.choose(iou, ambiguous)
            shown = answer.float()[torch.arange(len(answer), device=answer.device), chosen]
            if again:
                group.losses.append(self.second_look(batch, group, shown, number))
            if carried:
                group.losses += self.carry(batch, group, shown)
            if goes_on:
                group.memory = shown[:, None]
                if not refines(group.plan, number, self.config.prompts.refine):
                    corrected.append(group)
        if corrected:
            self.correct(corrected, count)

    def correct(self, groups: Sequence[Group], count: int) -> None:
        """Give each prompt of groups that go on a click at the deepest point of its mask's error."""
        masks = _joined([group.memory for group in groups if group.memory is not None], count)[:, 0]
        wanted = _joined([group.coarse for group in groups if group.coarse is not None], count)
        clicks, signs = losses.corrective_clicks(masks, wanted)
        clicks = (clicks + 0.5) * (self.sam.image_encoder.img_size / masks.shape[-1]) - 0.5
        new = (_parted(clicks, groups, count), _parted(signs, groups, count))
        for group, click, sign in zip(groups, *new, strict=True):
            group.points = torch.cat([group.points, click[:, None]], 1)
            group.labels = torch.cat([group.labels, sign[:, None]], 1)

    def second_look(self, batch: Batch, group: Group, shown: Tensor, number: int) -> Tensor:
        """Loss of a second look at one object of each image, as :mod:`synthfm.trainer.model.second_look`
        takes it.

        Shown (N, 4h, 4w) are the logits that the group's prompts gave in round `number`.
        """
        size, side = self.sam.image_encoder.img_size, shown.shape[-1]
        images, sizes = self._input(batch)
        members = batch.members[:, group.slots]
        objects = members.shape[1]
        picked = group.plan.seed % objects
        masks = squared(replace(batch, members=members[:, picked : picked + 1]).masks())
        prompts = group.packed()
        coords, kinds = prompts.coords[picked::objects], prompts.kinds[picked::objects]
        shown = shown[picked::objects]
        views = second_look.squares(shown > 0, PackedPrompts(coords, kinds, prompts.ragged), sizes, size)
        scale = size / views[:, 2:]
        seen = ((sizes - views[:, :2].flip(1)) * scale).round().long().clamp(1, size)
        features = self._encoded(second_look.cut(squared(images.float()), views, size, size), seen)
        memory = second_look.cut(shown[:, None], views, size, side)
        wanted = second_look.cut(masks, views, size, size)[:, 0]
        wanted = losses.area_average(wanted, 2 * (side * self.config.loss.scale,))
        moved = PackedPrompts((coords - views[:, None, :2]) * scale[:, None], kinds, prompts.ragged)
        logits, estimated = decoder.decode(self.sam, features, moved, memory)
        values, _ = losses.objective(logits, estimated, wanted, self.config.loss, self.criterion)
        return counted_mean(values, group.fair[picked::objects]) if number == 0 else values.mean()

    def carry(self, batch: Batch, group: Group, shown: Tensor) -> list[Tensor]:
        """Losses of carrying one object of each image through the slices that follow, one of each slice.

        As :mod:`synthfm.trainer.objective.carry` says; from an embedding cache, which has no squares around
        objects, whole slices are asked. Single images are not carried, so there may be none.
        """
        following, plan = batch.following, group.plan
        assert following is not None
        slots = range(batch.members.shape[1])[group.slots]
        picked = plan.seed % len(slots)
        slot = slots[picked]
        whole = following.features is not None
        known = group.fair[picked :: len(slots)]
        rows = (following.apart[:, : plan.following].any(1) & known).nonzero()[:, 0].tolist()
        if not rows:
            return []
        carried = self._carried(batch, following, plan, slot, shown[picked :: len(slots)], rows)
        found = []
        for number in range(1, plan.following + 1):
            slices = [one.images[number] for one in carried]
            questions = [one.question(number, whole=whole) for one in carried]
            asked = Asked.of(self.sam, questions, slices)
            if following.features is not None:
                features = _as_autocast(following.features[rows, number - 1])
            else:
                features = self._encoded(asked.images, asked.sizes)
            logits, estimated = decoder.decode(self.sam, features, asked.prompts, asked.memory)
            true = [q.part(one.masks[number]) for q, one in zip(questions, carried, strict=True)]
            wanted = targets(true, logits.shape[-1] * self.config.loss.scale).to(logits.device)
            found.append(
                losses.objective(logits, estimated, wanted, self.config.loss, self.criterion)[0].mean()
            )
            answers = answers_in(self.sam, questions, asked.sizes, logits.detach(), estimated.detach())
            for one, q, answer in zip(carried, questions, answers, strict=True):
                one.answered(number, q, answer)
        return found

    def _carried(
        self,
        batch: Batch,
        following: Following,
        plan: Plan,
        slot: int,
        shown: Tensor,
        images: Sequence[int],
    ) -> list[Carried]:
        """Some images' objects of one slot; shown (B, 4h, 4w) are the logits of the model's own answers."""
        height, width = batch.labels.shape[1:]
        longest = max(height, width)
        own = losses.upsample(shown[:, None], (longest, longest))[:, 0, :height, :width] > 0
        count = plan.following
        slices = torch.cat([batch.images, following.images[:, :count]], 1).cpu().numpy()
        first = replace(batch, members=batch.members[:, slot : slot + 1]).masks()[:, 0] > 0
        masks = torch.stack([first, *(following.masks(number, slot) for number in range(count))], 1)
        found = []
        sizes = batch.sizes.tolist()
        for row in images:
            rows, columns = sizes[row]
            seen = np.s_[..., :rows, :columns]
            found.append(
                Carried.of(
                    [*slices[row][seen]],
                    [*masks[row].cpu().numpy()[seen]],
                    [0.0, *following.apart[row, :count].tolist()],
                    own[row].cpu().numpy()[seen],
                    np.random.default_rng([plan.seed, int(batch.index[row])]),
                )
            )
        return found


def _as_autocast(features: Tensor) -> Tensor:
    """Embeddings in autocast's type, which the decoder takes for all that is as large as the image.

    The cache holds float16, and ViT's last norm gives float32.
    """
    device = features.device.type
    mixed = torch.is_autocast_enabled(device)
    return features.to(torch.get_autocast_dtype(device) if mixed else torch.float32)


def counted_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the rows of `values` (N, ...) that are counted, bool (N,); 0 where none is."""
    share = counted / counted.sum().clamp(min=1)
    return (values * share.view(-1, *(1,) * (values.ndim - 1))).sum(0)


def _joined(parts: Sequence[Tensor], count: int) -> Tensor:
    """Rows of several groups, image by image for `count` images, as one: (N, ...)."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([part.unflatten(0, (count, -1)) for part in parts], 1).flatten(0, 1)


def _parted(rows: Tensor, groups: Sequence[Group], count: int) -> list[Tensor]:
    """Rows (N, ...) that lie as :func:`_joined` lays them, as one part for each group."""
    sizes = [len(group.wanted) // count for group in groups]
    return [part.flatten(0, 1) for part in rows.unflatten(0, (count, -1)).split(sizes, 1)]


def _packed(groups: Sequence[Group], count: int) -> PackedPrompts:
    """The prompts of several groups, image by image for `count` images; ends of shorter rows are ignored."""
    parts = [group.packed() for group in groups]
    numbers = [part.kinds.shape[1] for part in parts]
    missing = [max(numbers) - number for number in numbers]
    coords = [nn.functional.pad(p.coords, (0, 0, 0, m)) for p, m in zip(parts, missing, strict=True)]
    kinds = [
        nn.functional.pad(p.kinds, (0, m), value=IGNORE_LABEL) for p, m in zip(parts, missing, strict=True)
    ]
    ragged = len(set(numbers)) > 1 or any(part.ragged for part in parts)
    return PackedPrompts(_joined(coords, count), _joined(kinds, count), ragged)


def squared(images: Tensor) -> Tensor:
    """Images (..., H, W), padded right and below to the square that the encoder sees."""
    height, width = images.shape[-2:]
    longest = max(height, width)
    return nn.functional.pad(images, (0, longest - width, 0, longest - height))
