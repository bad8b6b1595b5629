"""One training step's forward pass: images and prompts in, loss out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from trainer import decode, losses, zoom
from trainer.config import TrainConfig
from trainer.embeddings import fit_to_input
from trainer.prompting import (
    SINGLE_CLICKS,
    Plan,
    coarse_mask,
    first_prompts,
    looks_again,
    refines,
    share_out,
    with_click,
)
from trainer.stream import Batch


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
        targets = self.targets(batch, 4 * features.shape[-1] * self.config.loss.scale)
        losses_, logs = [], []
        groups = share_out(plans, targets.shape[1], largest_first=self.config.stream.largest_first)
        for plan, slots in zip(plans, groups, strict=True):
            loss, log = self.rounds(features, batch, plan, slots, targets[:, slots].flatten(0, 1))
            losses_.append(loss)
            logs.append(log)
        # Every trained weight takes part, whatever was drawn: DDP waits for the gradient of each.
        touched = sum(p.sum() for p in self.light_parameters())
        total = torch.stack(losses_).mean() + 0.0 * touched
        return total, {name: torch.stack([log[name] for log in logs]).mean() for name in logs[0]}

    def light_parameters(self) -> list[nn.Parameter]:
        """Trained weights outside the encoder."""
        parts = (self.sam.prompt_encoder, self.sam.mask_decoder)
        return [p for part in parts for p in part.parameters() if p.requires_grad]

    def encode(self, batch: Batch) -> Tensor:
        """Embeddings (B, C, h, w), from the cache where the batch brings them."""
        if batch.features is not None:
            # Of the type that the encoder would give: what is as large as the image takes it from there.
            device = batch.features.device.type
            mixed = torch.is_autocast_enabled(device)
            return batch.features.to(torch.get_autocast_dtype(device) if mixed else torch.float32)
        return self._encoded(*self._input(batch))

    def _input(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, 1, h, w) at the model's input size, and (B, 2), what of each is not padding."""
        size = self.sam.image_encoder.img_size
        scale = size / max(batch.images.shape[-2:])
        sizes = (batch.sizes * scale + 0.5).floor().long()  # as SAM rounds: a half goes up
        return fit_to_input(batch.images, size), sizes

    def _encoded(self, images: Tensor, sizes: Tensor) -> Tensor:
        with torch.set_grad_enabled(next(self.sam.image_encoder.parameters()).requires_grad):
            return decode.encode(self.sam, images, sizes)

    def targets(self, batch: Batch, side: int) -> Tensor:
        """Area-averaged masks (B, K, side, side) of the padded square that the decoder sees."""
        masks = _squared(batch.masks())
        flat = losses.area_average(masks.flatten(0, 1), (side, side))
        return flat.view(*masks.shape[:2], side, side)

    def rounds(
        self, features: Tensor, batch: Batch, plan: Plan, slots: slice, targets: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One group's rounds: N prompts of B images, features (B, C, h, w), targets (N, h', w')."""
        config, sam = self.config.loss, self.sam
        size, side = sam.image_encoder.img_size, 4 * features.shape[-1]
        points, labels, boxes = first_prompts(plan, batch, slots, size / max(batch.labels.shape[1:]))
        coarse = losses.area_average(targets, (side, side))
        previous = coarse_mask(coarse, plan.seed) if plan.kind == "mask" else None
        values: list[Tensor] = []
        log: dict[str, Tensor] = {}
        again = looks_again(plan, self.config.prompts.second_look)
        for number in range(plan.rounds):
            coords, kinds = decode.as_points(points, labels, boxes)
            logits, estimated = decode.decode(sam, features, coords, kinds, previous)
            value, parts = losses.objective(logits, estimated, targets, config, self.criterion)
            values.append(value * config.round_decay**number)
            log = parts if number == 0 else {**log, "iou": parts["iou"]}
            last = number + 1 == plan.rounds
            if last and number != again:
                break
            # What a user would see and correct: after one click the best of three, else the single mask.
            ambiguous = number == 0 and plan.kind in SINGLE_CLICKS and config.multimask > 0
            chosen = decode.choose(estimated.detach(), ambiguous)
            shown = logits.detach().float()[torch.arange(len(logits), device=logits.device), chosen]
            if number == again and coords is not None and kinds is not None:
                values.append(self.second_look(batch, plan, slots, coords, kinds, shown))
            if not last:
                previous = shown[:, None]
                if not refines(plan, number, self.config.prompts.refine):
                    click, sign = losses.corrective_clicks(shown, coarse)
                    click = (click + 0.5) * (size / side) - 0.5
                    points, labels = with_click(points, labels, click, sign)
        return torch.stack(values).mean(), log

    def second_look(
        self, batch: Batch, plan: Plan, slots: slice, coords: Tensor, kinds: Tensor, shown: Tensor
    ) -> Tensor:
        """Loss of a second look at one object of each image, as :func:`trainer.zoom.look_again` takes it.

        Coords (N, M, 2) and kinds (N, M) are a group's prompts, shown (N, 4h, 4w) the logits that they gave.
        """
        size, side = self.sam.image_encoder.img_size, shown.shape[-1]
        images, sizes = self._input(batch)
        members = batch.members[:, slots]
        count, objects = members.shape[:2]
        picked = plan.seed % objects
        masks = _squared(replace(batch, members=members[:, picked : picked + 1]).masks())
        rows = torch.arange(count, device=shown.device) * objects + picked
        coords, kinds, shown = coords[rows], kinds[rows], shown[rows]
        views = zoom.squares(shown > 0, coords, kinds, sizes, size)
        scale = size / views[:, 2:]
        seen = ((sizes - views[:, [1, 0]]) * scale).round().long().clamp(1, size)
        features = self._encoded(zoom.cut(_squared(images.float()), views, size, size), seen)
        memory = zoom.cut(shown[:, None], views, size, side)
        wanted = zoom.cut(masks, views, size, size)[:, 0]
        wanted = losses.area_average(wanted, 2 * (side * self.config.loss.scale,))
        moved = (coords - views[:, None, :2]) * scale[:, None]
        logits, estimated = decode.decode(self.sam, features, moved, kinds, memory)
        return losses.objective(logits, estimated, wanted, self.config.loss, self.criterion)[0]


def _squared(images: Tensor) -> Tensor:
    """Images (..., H, W), padded right and below to the square that the encoder sees."""
    height, width = images.shape[-2:]
    longest = max(height, width)
    return nn.functional.pad(images, (0, longest - width, 0, longest - height))
