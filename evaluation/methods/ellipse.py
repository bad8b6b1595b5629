"""The filled ellipse inscribed in the box: what any method with a box has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import Setting
from synthfm.evaluation.methods.method import Method, Predicted


class Ellipse:
    """See the module. Settings without a box are not for it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def accepts(self, setting: Setting) -> bool:
        return setting.box

    def encode(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        return image.shape[0], image.shape[1]

    def predict(
        self, encoded: tuple[int, int], prompts: Sequence[Prompt], previous: Sequence[Predicted] = ()
    ) -> list[Predicted]:
        return [Predicted(inscribed(prompt.box, encoded)) for prompt in prompts if prompt.box is not None]


def inscribed(box: NDArray, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The ellipse inscribed in a half-open XYXY box, bool `shape`.

    >>> inscribed(np.array([0, 0, 6, 4]), (4, 7)).astype(int).tolist()
    [[0, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0, 0]]
    """
    x0, y0, x1, y1 = np.asarray(box, float)
    ys, xs = np.ogrid[: shape[0], : shape[1]]
    # A half-open box reaches from half a pixel before x0 to half a pixel before x1.
    across = (xs - (x0 + x1 - 1) / 2) / max((x1 - x0) / 2, 1e-6)
    down = (ys - (y0 + y1 - 1) / 2) / max((y1 - y0) / 2, 1e-6)
    return across**2 + down**2 <= 1.0


def build(name: str) -> Method:
    return Ellipse(name)
