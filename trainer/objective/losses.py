"""The objective: overlap of single and ambiguous masks, and the error of the estimated IoU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss, FocalLoss
from torch import Tensor, nn
from torch.nn import functional as F

from synthfm.trainer.config import Loss

FOCAL = 20.0
"""Weight of the focal loss beside Dice, as in SAM (Kirillov et al., 2023, appendix A)."""


class MaskLoss(nn.Module):
    """MONAI's Dice loss, with its focal loss or cross-entropy added: one value for each mask.

    MONAI's own sums of the two only come averaged over the batch, and the minimum over ambiguous masks needs
    them one by one.

    Parameters
    ----------
    kind
        ``"dice"``, ``"dice_focal"`` or ``"dice_ce"``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, reduction="none")
        self.pixel: nn.Module | None = None
        self.weight = FOCAL if kind == "dice_focal" else 1.0
        if kind == "dice_focal":
            self.pixel = FocalLoss(gamma=2.0, reduction="none")
        elif kind == "dice_ce":
            self.pixel = nn.BCEWithLogitsLoss(reduction="none")

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (M, h, w) and targets (M, h, w) in 0..1 to losses (M,)."""
        logits, targets = logits[:, None], targets[:, None]
        values = self.dice(logits, targets).flatten(1).mean(1)
        if self.pixel is not None:
            values = values + self.weight * self.pixel(logits, targets).flatten(1).mean(1)
        return values


def area_average(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Masks (N, H, W) as the share of each cell that they cover, float32 (N, *size).

    Where `size` is the larger one, masks are upsampled bilinearly.
    """
    size = tuple(size)
    if size == masks.shape[-2:]:
        return masks
    mode = "area" if size[0] <= masks.shape[-2] else "bilinear"
    return F.interpolate(masks[:, None], size, mode=mode)[:, 0]


def upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Logits (N, C, h, w) in float32 at `size`, bilinearly."""
    logits = logits.float()
    size = tuple(size)
    if size == logits.shape[-2:]:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def inside(targets: Tensor) -> Tensor:
    """The cells of area-averaged masks (N, h, w) that count as the object's, bool: those filled by half.

    Of an object that fills none by half, such as a thin vessel, half of what its fullest cell has is enough.
    """
    most = targets.amax((-2, -1), keepdim=True)
    return targets > torch.where(most > 0.5, 0.5, most / 2)


def iou(logits: Tensor, targets: Tensor) -> Tensor:
    """Actual IoU (N, C) of masks (N, C, h, w) with targets (N, h, w), see :func:`inside`."""
    predicted, wanted = logits > 0, inside(targets)[:, None]
    overlap = (predicted & wanted).sum((-2, -1))
    return overlap / (predicted | wanted).sum((-2, -1)).clamp(min=1)


def objective(
    logits: Tensor, estimated: Tensor, targets: Tensor, config: Loss, criterion: MaskLoss
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of each prompt in one round.

    The single mask always counts. Of the three others only the one of least loss does, so that they come to
    stand for different readings of an ambiguous click (Kirillov et al., 2023, section 3).

    Parameters
    ----------
    logits, estimated
        The decoder's masks (N, 4, h, w) and estimates of their IoU (N, 4).
    targets
        (N, H, W) in 0..1, at the resolution at which the loss is taken.

    Returns
    -------
    loss, parts
        The sums (N,), and their parts (N,) by name, detached; `iou` is the single mask's actual IoU.
    """
    fine = upsample(logits, targets.shape[-2:])
    count, masks = fine.shape[:2]
    wanted = targets[:, None].expand(-1, masks, -1, -1)
    values = criterion(fine.flatten(0, 1), wanted.flatten(0, 1)).view(count, masks)
    actual = iou(fine.detach(), targets)
    single = values[:, 0]
    error = F.mse_loss(estimated.float(), actual, reduction="none").mean(1)
    multi = values[:, 1:].min(1).values
    loss = single + config.iou * error + config.multimask * multi
    parts = {"single": single, "multi": multi, "iou_error": error, "iou": actual[:, 0]}
    return loss, {name: value.detach() for name, value in parts.items()}


def corrective_clicks(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The next click of each of N prompts: the deepest point of the error.

    For whole batches on any device: depth is the number of 3x3 erosions that a point survives (chessboard
    distance, up to 32). Unlike :func:`synthfm.data.prompts.corrective_point`, which the evaluation uses, it
    does not look for the region of most pixels, which is a thin rim of many masks.

    Parameters
    ----------
    logits
        (N, h, w); a mask where above 0.
    targets
        (N, h, w) in 0..1.

    Returns
    -------
    points, labels
        float32 (N, 2) as (x, y) in cells, and int64 (N,): 1 where the mask was missed, 0 where overrun. A
        perfect mask gets its own deepest point as a positive click.
    """
    wanted = inside(targets)
    predicted = logits > 0
    error = wanted ^ predicted
    error = torch.where(error.flatten(1).any(1)[:, None, None], error, wanted)
    # Missed and overrun parts that touch are two regions: where the label changes, the depth ends.
    missed = error & wanted
    remaining = torch.stack([missed, error & ~wanted], 1)
    depth = remaining.to(torch.uint8)
    for _ in range(min(32, max(logits.shape[-2:]) // 2)):
        # An erosion by 3x3, by rows and then columns; beyond the border nothing is error.
        padded = F.pad(remaining, (1, 1, 1, 1))
        rows = padded[..., :-2, :] & padded[..., 1:-1, :] & padded[..., 2:, :]
        remaining = rows[..., :-2] & rows[..., 1:-1] & rows[..., 2:]
        # Whether anything remains is known at once on a CPU; a GPU would be waited for.
        if remaining.device.type == "cpu" and not remaining.any():
            break
        depth += remaining
    best = depth.amax(1).flatten(1).argmax(1)
    columns = logits.shape[-1]
    points = torch.stack([best % columns, best // columns], 1).float()
    labels = wanted.flatten(1).gather(1, best[:, None])[:, 0].long()
    return points, labels
