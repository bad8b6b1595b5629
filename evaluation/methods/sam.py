"""SAM-format checkpoints: SynthFM, SAM, MobileSAM, `tiny`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from synthfm.data.console import InputError, brought_by
from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import Setting
from synthfm.evaluation.methods import sam2
from synthfm.evaluation.methods.method import Method, Options, Predicted, Unavailable, VolumeMethod
from synthfm.trainer.model import checkpoints, models
from synthfm.trainer.model.precision import encode_in
from synthfm.trainer.model.predict import Encoding, SecondLook, Segmentation, Segmenter


class SamMethod:
    """A :class:`synthfm.trainer.model.predict.Segmenter` behind the method protocol."""

    def __init__(self, name: str, segmenter: Segmenter) -> None:
        self.name = name
        self.segmenter = segmenter

    def accepts(self, setting: Setting) -> bool:
        return True

    def encode(self, image: NDArray[np.uint8]) -> Encoding:
        return self.segmenter.encode(image)

    def predict(
        self, encoded: Encoding, prompts: Sequence[Prompt], previous: Sequence[Predicted] = ()
    ) -> list[Predicted]:
        before = [one.state for one in previous] or None
        return [_predicted(found) for found in self.segmenter.predict(encoded, prompts, before)]

    def alternatives(self, encoded: Encoding, prompt: Prompt) -> list[Predicted]:
        """See :meth:`synthfm.trainer.model.predict.Segmenter.alternatives`."""
        return [_predicted(found) for found in self.segmenter.alternatives(encoded, prompt)]


def _predicted(found: Segmentation) -> Predicted:
    return Predicted(found.mask, found.iou, found)


def open_checkpoint(name: str, checkpoint: str, options: Options, *, second_look: bool = False) -> Method:
    """A method from a checkpoint of SAM or SAM 2, or from the word ``tiny`` for the embedded one.

    Parameters
    ----------
    second_look
        Whether it takes one, see :mod:`synthfm.trainer.model.second_look`.

    Raises
    ------
    Unavailable
        If the package of its encoder is not installed.
    InputError
        If the file is not such a checkpoint, or one of SAM 2 is to take a second look.
    """
    weights = _read(checkpoint, second_look)
    if sam2.is_sam2(weights):
        return sam2.from_weights(name, weights, device=options.device, multimask=options.multimask)
    sam = encode_in(models.load(checkpoint)[0], options.precision)
    settings = SecondLook() if second_look else None
    return SamMethod(name, Segmenter(sam.to(options.device), settings, multimask=options.multimask))


def open_for_volumes(
    name: str, checkpoint: str, options: Options, *, second_look: bool = False
) -> VolumeMethod:
    """As :func:`open_checkpoint`, for volumes; a second look is taken in the prompted slices alone, as
    propagation shows a model the square around the object anyway.
    """
    from synthfm.evaluation.methods.volumes import propagation

    weights = _read(checkpoint, second_look)
    if sam2.is_sam2(weights):
        from synthfm.evaluation.methods.volumes import sam2 as video

        return video.from_weights(name, weights, device=options.device)
    sam = encode_in(models.load(checkpoint)[0], options.precision)
    nearby = Segmenter(sam.to(options.device), multimask=options.multimask)
    whole = Segmenter(sam, SecondLook(), multimask=options.multimask) if second_look else nearby
    return propagation.Propagated(name, whole, nearby)


def _read(checkpoint: str, second_look: bool) -> Mapping[str, torch.Tensor]:
    """The weights of a checkpoint for which all that it needs is there."""
    weights = checkpoints.read_weights(checkpoint)
    if sam2.is_sam2(weights):
        if second_look:
            raise InputError(f"{checkpoint}: a SAM 2 checkpoint; a second look takes those of SAM's format")
    elif models.identify(weights) == "mobile_sam" and not all(map(find_spec, ("mobile_sam", "timm"))):
        raise Unavailable(f"a MobileSAM checkpoint needs its package; {brought_by('mobile')}")
    return weights
