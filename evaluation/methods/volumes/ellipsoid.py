"""The ellipsoid whose middle section fills the box: what any method with a box has to beat in a volume.

The image is not looked at. Along the slices the ellipsoid reaches as far as it does in the plane, in mm: its
third axis is the geometric mean of the other two. Of boxes in several slices the largest is the middle
section, and in their own slices the ellipses in them stand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthfm.evaluation.cases.prompting import DrawnVolumePrompt, Setting
from synthfm.evaluation.cases.volume_prompts import Spacing
from synthfm.evaluation.methods.ellipse import inscribed
from synthfm.evaluation.methods.method import Predicted


class Ellipsoid:
    """See the module. Settings without a box are not for it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def accepts(self, setting: Setting) -> bool:
        return setting.box and not setting.interactive

    def encode(
        self, volume: NDArray[np.uint8], spacing: Spacing
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        return volume.shape, spacing or (1.0, 1.0, 1.0)

    def predict(
        self,
        encoded: tuple[tuple[int, ...], tuple[float, ...]],
        prompt: DrawnVolumePrompt,
        previous: Predicted | None = None,
    ) -> Predicted:
        shape, (between, row, column) = encoded
        boxes = {
            k: np.asarray(asked.box, float) for k, asked in prompt.prompts.items() if asked.box is not None
        }
        middle = max(boxes, key=lambda k: float(np.prod(boxes[k][2:] - boxes[k][:2])))
        centre = (boxes[middle][:2] + boxes[middle][2:]) / 2
        half = (boxes[middle][2:] - boxes[middle][:2]) / 2
        reach = float(np.sqrt(half[0] * column * half[1] * row)) / between
        mask = np.zeros(shape, bool)
        for k in range(shape[0]):
            rest = 1 - ((k - middle) / max(reach, 0.5)) ** 2
            if k in boxes:
                mask[k] = inscribed(boxes[k], (shape[1], shape[2]))
            elif rest > 0 and (prompt.span is None or prompt.span[0] <= k <= prompt.span[1]):
                part = half * np.sqrt(rest)
                mask[k] = inscribed(np.concatenate([centre - part, centre + part]), (shape[1], shape[2]))
        return Predicted(mask)


def build(name: str) -> Ellipsoid:
    return Ellipsoid(name)
