"""Methods: what is asked of each, and which there are.

A method encodes an image once, then predicts a mask for each of any number of prompts. Adding one is a file
in this folder with a class of the :class:`Method` protocol, and a line in :data:`CLASSICAL` or :func:`build`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from data.console import InputError, did_you_mean
from data.prompts import Multimask, Prompt
from evaluation.prompting import Setting


class Unavailable(Exception):
    """A method's optional package is missing; the message says what to install."""


@dataclass(frozen=True)
class Predicted:
    """One predicted mask.

    Attributes
    ----------
    mask
        bool (H, W), the image's size.
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


@runtime_checkable
class Ambiguous(Method, Protocol):
    """A method that can say what else one click alone may mean."""

    def alternatives(self, encoded: Any, prompt: Prompt) -> list[Predicted]:
        """The masks that a prompt of one click alone may mean, always in the model's own order.

        The one that :meth:`Method.predict` answers with is among them.
        """


CLASSICAL = {
    "ellipse": "filled ellipse inscribed in the box: the image is not looked at",
    "grabcut": "GrabCut (OpenCV)",
    "random_walker": "random walker (scikit-image)",
    "region_growing": "confidence-connected region growing from the clicks",
    "chan_vese": "morphological Chan-Vese (scikit-image); no negative clicks",
}
"""Method name (and module in this folder) to what it does."""

SECOND_LOOK = ("second-look", "zoom")
"""Names of the kind that takes a second look; the latter is an older one."""
MODELS = ("checkpoint", *SECOND_LOOK, "medsam")
"""Kinds of method that are opened from a checkpoint."""


def build(spec: str, *, device: str = "cpu", multimask: Multimask = "auto") -> Method:
    """Build a method from ``[NAME=]SPEC``.

    Parameters
    ----------
    spec
        A name of :data:`CLASSICAL`; ``checkpoint:FILE`` for a SAM or SAM 2 checkpoint; ``second-look:FILE``
        (or ``zoom:FILE``) for a SAM one with a second look; ``medsam:FILE`` for MedSAM's; ``masks:DIR`` for
        masks saved by another system. ``NAME=`` before it gives the name of its column.
    device
        Where models run.
    multimask
        As in :class:`evaluation.config.EvalConfig`.

    Raises
    ------
    InputError
        If the method is unknown or its file is not one of the kind.
    Unavailable
        If it needs a package that is not installed.
    """
    name, kind, argument = parse(spec)
    if kind == "medsam":
        from evaluation.methods import medsam

        return medsam.open_checkpoint(name, argument, device=device)
    if kind in MODELS:
        from evaluation.methods import sam

        return sam.open_checkpoint(
            name, argument, device=device, multimask=multimask, second_look=kind in SECOND_LOOK
        )
    if kind == "masks":
        from evaluation.methods import masks

        return masks.build(name, argument)
    method: Method = importlib.import_module(f"evaluation.methods.{kind}").build(name)
    return method


def parse(spec: str) -> tuple[str, str, str]:
    """Split ``[NAME=]SPEC`` into name, kind and argument.

    >>> parse("SAM=checkpoint:sam_vit_b.pth"), parse("ellipse")
    (('SAM', 'checkpoint', 'sam_vit_b.pth'), ('ellipse', 'ellipse', ''))
    >>> parse("second-look:tiny"), parse("zoom:tiny")
    (('tiny-second-look', 'second-look', 'tiny'), ('tiny-zoom', 'zoom', 'tiny'))
    """
    given, equals, rest = spec.partition("=")
    if not equals or spec.partition(":")[0] in (*MODELS, "masks"):  # a file's name may hold one
        given, rest = "", spec
    kind, _, argument = rest.partition(":")
    if kind in (*MODELS, "masks") and argument:
        stem = Path(argument).stem
        return given or (f"{stem}-{kind}" if kind in SECOND_LOOK else stem), kind, argument
    if kind in CLASSICAL and not argument:
        return given or kind, kind, ""
    raise InputError(
        f"unknown method {spec!r}; {did_you_mean(kind, CLASSICAL)}choose among {', '.join(CLASSICAL)}, "
        "second-look:FILE, medsam:FILE and masks:DIR; models are given with --checkpoint [NAME=]FILE"
    )
