"""Prompts as the decoder takes them: clicks and box corners as one list of points, each with its kind.

The order is SAM's: clicks, then the two corners of a box, or one padding point where there are clicks and no
box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from synthfm.data.prompts import Prompt

BOX_LABELS = (2, 3)
"""Kinds of a box's two corners, as in SAM's ONNX model."""
PAD_LABEL = -1
"""SAM's padding point: a token of its own that is attended to."""
IGNORE_LABEL = -2
"""Fills rows of fewer points than others; nothing attends to it, so that a row's numbers stay the same."""


@dataclass(frozen=True)
class PackedPrompts:
    """N prompts of up to M points.

    Attributes
    ----------
    coords
        float32 (N, M, 2), points (x, y) in pixels; M is 0 where there are mask prompts alone.
    kinds
        int64 (N, M): 1 object, 0 background, :data:`BOX_LABELS`, :data:`PAD_LABEL`, :data:`IGNORE_LABEL`.
    ragged
        Whether some of the points are to be ignored. (Asking the tensor would wait for the GPU.)
    """

    coords: Tensor
    kinds: Tensor
    ragged: bool = False

    def scaled(self, scale: Tensor) -> PackedPrompts:
        """In other pixels, on the device of `scale`: (2,), those of one pixel across and down."""
        coords, kinds = self.coords.to(scale.device) * scale, self.kinds.to(scale.device)
        return replace(self, coords=coords, kinds=kinds)


def pack(prompts: Sequence[Prompt]) -> PackedPrompts:
    """Prompts of any numbers of clicks, with a box or without; ends of shorter rows are ignored."""
    longest = max(len(prompt.points) for prompt in prompts) + 2
    coords = np.zeros((len(prompts), longest, 2), np.float32)
    kinds = np.full((len(prompts), longest), IGNORE_LABEL)
    for row, prompt in enumerate(prompts):
        count = len(prompt.points)
        coords[row, :count], kinds[row, :count] = prompt.points, prompt.labels
        if prompt.box is not None:
            corners = slice(count, count + 2)
            coords[row, corners], kinds[row, corners] = prompt.box.reshape(2, 2), BOX_LABELS
        elif count:
            kinds[row, count] = PAD_LABEL
    used = (kinds != IGNORE_LABEL).any(0)
    kinds = kinds[:, used]
    ragged = bool((kinds == IGNORE_LABEL).any())
    return PackedPrompts(torch.from_numpy(coords[:, used]), torch.from_numpy(kinds), ragged)


def pack_alike(
    points: Tensor, labels: Tensor, boxes: Tensor | None, *, ragged: bool = False
) -> PackedPrompts:
    """N prompts of as many clicks each, all with a box or all without, as tensors on one device.

    Parameters
    ----------
    points, labels, boxes
        (N, M, 2), (N, M) of 1, 0 or :data:`PAD_LABEL`, and (N, 4) or None; M may be 0.
    ragged
        Whether some of the labels are :data:`IGNORE_LABEL`.
    """
    coords, kinds = [points.float()], [labels.long()]
    if boxes is not None:
        coords.append(boxes.float().view(-1, 2, 2))
        # Made where it is needed: a copy from the CPU would wait for the GPU.
        kinds.append(
            torch.arange(BOX_LABELS[0], BOX_LABELS[1] + 1, device=boxes.device).expand(len(boxes), -1)
        )
    elif points.shape[1]:
        coords.append(torch.zeros_like(coords[0][:, :1]))
        kinds.append(torch.full_like(kinds[0][:, :1], PAD_LABEL))
    return PackedPrompts(torch.cat(coords, 1), torch.cat(kinds, 1), ragged)
