"""SAM 2 through its own package, an image at a time (optional extra ``sam2``).

References
----------
Ravi et al. (2024), SAM 2: Segment anything in images and videos. arXiv:2408.00714.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthfm.data.console import InputError, brought_by
from synthfm.data.prompts import Multimask, Prompt
from synthfm.evaluation.cases.prompting import Setting
from synthfm.evaluation.methods.method import Method, Predicted, Unavailable
from synthfm.trainer.model.predict import BATCH, batches, chooses

_SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}
"""Width of the patch embedding and number of blocks, to the name of the size."""


class Sam2Method:
    """SAM 2's image predictor behind the method protocol."""

    def __init__(self, name: str, model: Any, *, multimask: Multimask = "auto") -> None:
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        self.name = name
        self._predictor = SAM2ImagePredictor(model)
        self._multimask = multimask
        self._current: NDArray[np.uint8] | None = None

    def accepts(self, setting: Setting) -> bool:
        return True

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self._predictor.set_image(np.repeat(image[:, :, None], 3, axis=2))
        self._current = image
        return image

    def predict(
        self, encoded: NDArray[np.uint8], prompts: Sequence[Prompt], previous: Sequence[Predicted] = ()
    ) -> list[Predicted]:
        if self._current is not encoded:  # the predictor holds one image
            self.encode(encoded)
        found: dict[int, Predicted] = {}
        # The predictor takes together what is alike.
        kinds = [(len(prompt.points), prompt.box is not None) for prompt in prompts]
        for rows in batches(kinds, BATCH):
            before = [previous[row].state for row in rows] if previous else []
            found.update(zip(rows, self._decode([prompts[row] for row in rows], before), strict=True))
        return [found[row] for row in range(len(prompts))]

    def _decode(self, prompts: Sequence[Prompt], before: Sequence[NDArray]) -> list[Predicted]:
        first, count = prompts[0], len(prompts)
        clicks = len(first.points) > 0
        masks, iou, low_res = self._predictor.predict(
            point_coords=np.stack([prompt.points for prompt in prompts]) if clicks else None,
            point_labels=np.stack([prompt.labels for prompt in prompts]) if clicks else None,
            box=np.stack([p.box for p in prompts if p.box is not None]) if first.box is not None else None,
            mask_input=np.stack(before) if before else None,
            multimask_output=chooses(self._multimask, first, bool(before)),
        )
        # The predictor drops the batch axis of a single prompt.
        masks = masks.reshape(count, -1, *masks.shape[-2:]) > 0
        iou, low_res = iou.reshape(count, -1), low_res.reshape(count, -1, *low_res.shape[-2:])
        best = iou.argmax(1)
        return [
            Predicted(masks[row, k], float(iou[row, k]), low_res[row, k][None]) for row, k in enumerate(best)
        ]


def is_sam2(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether a state dict is SAM 2's."""
    return "image_encoder.trunk.patch_embed.proj.weight" in weights


def config_of(weights: Mapping[str, torch.Tensor]) -> str:
    """The config in SAM 2's package that belongs to a state dict: its size and version, from its keys.

    Raises
    ------
    InputError
        If it is none of the published sizes.
    """
    width = weights["image_encoder.trunk.patch_embed.proj.weight"].shape[0]
    prefix = "image_encoder.trunk.blocks."
    blocks = len({key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)})
    size = _SIZES.get((width, blocks))
    if size is None:
        raise InputError(f"a SAM 2 of no published size (width {width}, {blocks} blocks)")
    version = "2.1" if "no_obj_embed_spatial" in weights else "2"
    return f"configs/sam{version}/sam{version}_hiera_{size}.yaml"


def from_weights(
    name: str, weights: Mapping[str, torch.Tensor], *, device: str, multimask: Multimask
) -> Method:
    """A method from SAM 2's own state dict.

    Raises
    ------
    Unavailable, InputError
        As by :func:`build_model`.
    """
    return Sam2Method(name, build_model(name, weights, "build_sam2", device), multimask=multimask)


def build_model(name: str, weights: Mapping[str, torch.Tensor], builder: str, device: str) -> Any:
    """SAM 2 with a state dict's weights, by a function of its package's ``build_sam``.

    Raises
    ------
    Unavailable
        If the package is not installed.
    InputError
        If the state dict does not fit.
    """
    try:
        from sam2 import build_sam
    except ImportError as error:
        raise Unavailable(f"a SAM 2 checkpoint needs its package; {brought_by('sam2')}") from error
    model = getattr(build_sam, builder)(config_of(weights), None, device=device)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InputError(
            f"{name}: the state dict does not fit SAM 2 ({str(error).splitlines()[-1].strip()})"
        ) from error
    return model
