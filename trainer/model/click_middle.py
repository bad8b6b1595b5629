"""A single click, asked once more from the middle of each thing that it may mean.

People click on an object, not on its middle; near the edge a click is easily taken for what lies there. Of a
click the model draws three masks, a part, more and the whole; for the middle of each it is asked again. An
answer that holds the click and of which the model is surer is what was meant: it knows best what it sees from
the middle, where most clicks of its training lay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from synthfm.data.prompts import Prompt, centre_point, tight_box
from synthfm.trainer.model import look
from synthfm.trainer.model.look import Encoding, Prediction
from synthfm.trainer.model.packing import pack


@torch.no_grad()
def ask_again(
    sam: Sam, encoding: Encoding, prompts: Sequence[Prompt], first: Prediction, doubt: float
) -> Prediction:
    """The masks of single clicks, or of the middle of one of them where the model is surer of that.

    Parameters
    ----------
    prompts
        B prompts of one positive click each, in pixels of the image.
    first
        Their masks, (B, 4).
    doubt
        By how much its IoU estimate must be higher for an answer to another click than the one given.

    Returns
    -------
    Prediction
        (B, 4); where another click answers, masks that do not hold the one given have an estimate of 0.
    """
    scale = np.array(encoding.input_size[::-1]) / encoding.original_size[::-1]
    masks = on_input(first)[:, 1:].cpu().numpy()
    places = [(row, middle) for row, three in enumerate(masks) for middle in map(_middle, three) if middle]
    if not places:
        return first
    clicks = [Prompt([(np.array(middle) + 0.5) / scale - 0.5], [1]) for _, middle in places]
    again = look.predict(sam, encoding, pack(clicks))
    rows = torch.tensor([row for row, _ in places])
    given = np.array([prompt.points[0] for prompt in prompts])
    last = np.array(encoding.input_size[::-1]) - 1
    x, y = torch.from_numpy(np.clip(np.round((given + 0.5) * scale - 0.5), 0, last).astype(np.int64)).T
    holds = on_input(again)[torch.arange(len(rows)), :, y[rows], x[rows]]
    again = replace(again, iou=torch.where(holds, again.iou, 0.0))
    low_res, iou = first.low_res.clone(), first.iou.clone()
    surest = again.iou[:, 1:].amax(1)
    for row in range(len(prompts)):
        own = torch.nonzero(rows == row)[:, 0]
        if len(own) and surest[own].max() > first.iou[row, 1:].max() + doubt:
            best = own[surest[own].argmax()]
            low_res[row], iou[row] = again.low_res[best], again.iou[best]
    return replace(first, low_res=low_res, iou=iou)


def on_input(found: Prediction) -> Tensor:
    """Masks in pixels of the model's input without its padding, bool (B, C, h, w)."""
    height, width = found.input_size
    size = (found.image_size, found.image_size)
    logits = F.interpolate(found.low_res, size, mode="bilinear", align_corners=False)
    return logits[..., :height, :width] > 0


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The deepest point (x, y) of a mask; None of an empty one."""
    if not mask.any():
        return None
    x0, y0, x1, y1 = tight_box(mask).tolist()
    x, y = centre_point(mask[y0:y1, x0:x1]).tolist()
    return x0 + x, y0 + y
