"""One training step of the network for thin objects, which needs no other part of the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthfm.trainer.model.packing import pack_alike
from synthfm.trainer.model.thin import THIN, planes_of, slenderness
from synthfm.trainer.objective import losses
from synthfm.trainer.objective.prompting import MANY, SINGLE_CLICKS, Plan, assign_objects, first_prompts
from synthfm.trainer.objective.step import Step, counted_mean, squared
from synthfm.trainer.stream.batch import Batch


class ThinStep(Step):
    """Images and prompts to the loss of its masks; where an object is not thin, its mask is to be empty."""

    def light_parameters(self) -> list[nn.Parameter]:
        """The network's."""
        return list(self.sam.thin.parameters())

    def forward(self, batch: Batch, plans: Sequence[Plan]) -> tuple[Tensor, dict[str, Tensor]]:
        """As of any step; there is one round, and no more than one mask."""
        images, sizes = self._input(batch)
        images = squared(images.float())
        targets = self.targets(batch, images.shape[-1])
        scale = images.shape[-1] / max(batch.labels.shape[1:])
        thin = slenderness(targets.flatten(0, 1)).view(targets.shape[:2]) <= THIN
        found = []
        parts = assign_objects(plans, targets.shape[1], largest_first=self.config.stream.largest_first)
        for plan, slots in zip(plans, parts, strict=True):
            prompts = pack_alike(*first_prompts(plan, batch, slots, scale), ragged=plan.kind in MANY)
            meant = thin[:, slots].flatten()
            wanted = targets[:, slots].flatten(0, 1) * meant[:, None, None]
            logits = self.sam.thin(planes_of(images, sizes, prompts)).float()
            iou = losses.iou(logits[:, None], wanted)[:, 0]
            values = torch.stack([self.criterion(logits, wanted), iou.detach()], 1)
            fair = ~(batch.sets[:, slots].flatten() & (plan.kind in SINGLE_CLICKS))
            loss, iou = counted_mean(values, fair & meant)
            loss = loss + self.config.loss.nothing * counted_mean(values, fair & ~meant)[0]
            found.append(torch.stack([loss, iou]))
        loss, iou = torch.stack(found).mean(0)
        return loss, {"single": loss.detach(), "iou": iou.detach()}
