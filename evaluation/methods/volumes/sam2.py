"""SAM 2's own video predictor on a volume, its slices as frames (optional extra ``sam2``).

Prompts are given in their slices, then the mask is carried to both sides from the first of them.

References
----------
Ravi et al. (2024), SAM 2: Segment anything in images and videos. arXiv:2408.00714.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from synthfm.evaluation.cases.prompting import DrawnVolumePrompt, Setting
from synthfm.evaluation.cases.volume_prompts import Spacing
from synthfm.evaluation.methods.method import Predicted
from synthfm.evaluation.methods.sam2 import build_model

QUALITY = 95
"""Of the JPEG files that the predictor reads its frames from."""


class Sam2Volume:
    """See the module."""

    def __init__(self, name: str, predictor: Any) -> None:
        self.name = name
        self._predictor = predictor

    def accepts(self, setting: Setting) -> bool:
        return True

    def encode(self, volume: NDArray[np.uint8], spacing: Spacing) -> tuple[tuple[int, ...], Any]:
        with tempfile.TemporaryDirectory() as folder:
            for k, image in enumerate(volume):
                Image.fromarray(image).convert("RGB").save(Path(folder) / f"{k:05d}.jpg", quality=QUALITY)
            state = self._predictor.init_state(folder, offload_video_to_cpu=True)
        return volume.shape, state

    def predict(
        self,
        encoded: tuple[tuple[int, ...], Any],
        prompt: DrawnVolumePrompt,
        previous: Predicted | None = None,
    ) -> Predicted:
        shape, state = encoded
        self._predictor.reset_state(state)
        for k, asked in prompt.prompts.items():
            self._predictor.add_new_points_or_box(
                state,
                k,
                0,
                points=asked.points.astype(np.float32) if len(asked.points) else None,
                labels=asked.labels.astype(np.int32) if len(asked.points) else None,
                box=None if asked.box is None else asked.box.astype(np.float32),
            )
        mask = np.zeros(shape, bool)
        start = min(prompt.prompts)
        for reverse in (False, True):
            for k, _, logits in self._predictor.propagate_in_video(state, start, reverse=reverse):
                if prompt.span is None or prompt.span[0] <= k <= prompt.span[1]:
                    mask[k] = (logits[0, 0] > 0).cpu().numpy()
        return Predicted(mask)


def from_weights(name: str, weights: Mapping[str, torch.Tensor], *, device: str) -> Sam2Volume:
    """A method from SAM 2's own state dict.

    Raises
    ------
    Unavailable, InputError
        As by :func:`synthfm.evaluation.methods.sam2.build_model`.
    """
    return Sam2Volume(name, build_model(name, weights, "build_sam2_video_predictor", device))
