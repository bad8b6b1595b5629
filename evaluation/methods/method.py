"""What the evaluation asks of a method: to encode an image once, then a mask for each of any prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from synthfm.data.prompts import Multimask, Prompt
from synthfm.evaluation.cases.prompting import DrawnVolumePrompt, Setting
from synthfm.evaluation.cases.volume_prompts import Spacing


class Unavailable(Exception):
    """A method's optional package is missing; the message says what to install."""


@dataclass(frozen=True)
class Options:
    """How models are asked.

    Attributes
    ----------
    device
        Where they run, by PyTorch's name.
    multimask, precision
        As in :class:`synthfm.evaluation.config.EvalConfig`; the precision not ``auto``.
    """

    device: str = "cpu"
    multimask: Multimask = "auto"
    precision: str = "32"


@dataclass(frozen=True)
class Predicted:
    """One predicted mask.

    Attributes
    ----------
    mask
        bool (H, W), the image's size; of a volume (slices, H, W).
    iou
        The method's own estimate of the mask's IoU; None where it gives none.
    state
        What the method itself needs of its answer to correct it with the next click; None where it needs
        nothing.
    """

    mask: NDArray[np.bool_]
    iou: float | None = None
    state: Any = None


class Method(Protocol):
    """What the evaluation asks of a method (contract 3)."""

    name: str

    def accepts(self, setting: Setting) -> bool:
        """Whether the method can use prompts of this setting; where not, its rows are absent."""

    def encode(self, image: NDArray[np.uint8]) -> Any:
        """Prepare one image, uint8 (H, W)."""

    def predict(
        self, encoded: Any, prompts: Sequence[Prompt], previous: Sequence[Predicted] = ()
    ) -> list[Predicted]:
        """A mask for each prompt, in order; the prompts belong to different objects and settings.

        Where they correct masks by one more click each, `previous` are those.
        """


class VolumeMethod(Protocol):
    """What the evaluation asks of a method for volumes."""

    name: str

    def accepts(self, setting: Setting) -> bool:
        """Whether the method can use prompts of this setting; where not, its rows are absent."""

    def encode(self, volume: NDArray[np.uint8], spacing: Spacing) -> Any:
        """Prepare one volume, uint8 (slices, H, W)."""

    def predict(
        self, encoded: Any, prompt: DrawnVolumePrompt, previous: Predicted | None = None
    ) -> Predicted:
        """The mask of one object, bool (slices, H, W).

        Where the prompt has one click more than the one before (in its slice `last`), `previous` is the
        answer that it corrects.
        """


@runtime_checkable
class Ambiguous(Method, Protocol):
    """A method that can say what else one click alone may mean."""

    def alternatives(self, encoded: Any, prompt: Prompt) -> list[Predicted]:
        """The masks that a prompt of one click alone may mean, always in the model's own order.

        The one that :meth:`Method.predict` answers with is among them.
        """
