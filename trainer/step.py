"""One training step's forward pass: images and prompts in, loss out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from trainer import decode, losses
from trainer.config import TrainConfig
from trainer.embeddings import fit_to_input
from trainer.prompting import (
    SINGLE_CLICKS,
    Plan,
    coarse_mask,
    first_prompts,
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
            return batch.features.float()
        sam = self.sam
        size = sam.image_encoder.img_size
        with torch.set_grad_enabled(next(sam.image_encoder.parameters()).requires_grad):
            images = fit_to_input(batch.images, size)
            sizes = torch.round(batch.sizes * (size / max(batch.images.shape[-2:]))).long()
            return decode.encode(sam, images, sizes)

    def targets(self, batch: Batch, side: int) -> Tensor:
        """Area-averaged masks (B, K, side, side) of the padded square that the decoder sees."""
        masks = batch.masks()
        height, width = masks.shape[-2:]
        longest = max(height, width)
        if height != width:
            masks = nn.functional.pad(masks, (0, longest - width, 0, longest - height))
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
        for number in range(plan.rounds):
            coords, kinds = decode.as_points(points, labels, boxes)
            logits, estimated = decode.decode(sam, features, coords, kinds, previous)
            value, parts = losses.objective(logits, estimated, targets, config, self.criterion)
            values.append(value * config.round_decay**number)
            log = parts if number == 0 else {**log, "iou": parts["iou"]}
            if number + 1 < plan.rounds:
                # What a user would see and correct: after one click the best of three, else the single mask.
                ambiguous = number == 0 and plan.kind in SINGLE_CLICKS and config.multimask > 0
                chosen = decode.choose(estimated.detach(), ambiguous)
                shown = logits.detach().float()[torch.arange(len(logits), device=logits.device), chosen]
                previous = shown[:, None]
                if not refines(plan, number, self.config.prompts.refine):
                    click, sign = losses.corrective_clicks(shown, coarse)
                    click = (click + 0.5) * (size / side) - 0.5
                    points, labels = with_click(points, labels, click, sign)
        return torch.stack(values).mean(), log
