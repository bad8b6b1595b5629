"""MedSAM's checkpoint, its images and boxes prepared as its authors' own program does.

It was trained on images stretched to its square input without padding and scaled to 0..1 by their least
and largest value, with a box alone. SAM's preparation is another, and MedSAM's files cannot be told from
SAM's.

References
----------
Ma et al. (2024), Segment anything in medical images. Nature Communications 15, 654; its program
``MedSAM_Inference.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from skimage.transform import resize
from torch import Tensor
from torch.nn import functional as F

from evaluation.methods import Method, Predicted
from evaluation.methods.sam import BATCH, batches
from evaluation.prompting import Prompt
from trainer import look, models

SETTINGS = ("box", "box_loose", "box_wide")

Encoded = tuple[tuple[int, int], Tensor]
"""An image's height and width, and its embedding (1, C, h, w)."""


class MedSamMethod:
    """MedSAM behind the method protocol; it has no estimate of the IoU, as its authors did not train that."""

    def __init__(self, name: str, sam: Sam, *, device: str = "cpu") -> None:
        self.name = name
        self._sam: Any = sam.to(device).eval()
        self._side: int = sam.image_encoder.img_size

    def accepts(self, setting: str) -> bool:
        return setting in SETTINGS

    @torch.no_grad()
    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        square = resize(image, (self._side,) * 2, order=3, preserve_range=True, anti_aliasing=True)
        grey = square.astype(np.uint8).astype(np.float64)
        grey = (grey - grey.min()) / max(grey.max() - grey.min(), 1e-8)
        tensor = torch.tensor(grey, dtype=torch.float32, device=self._sam.device)
        return image.shape[:2], self._sam.image_encoder(tensor.expand(1, 3, -1, -1))

    @torch.no_grad()
    def predict(self, encoded: Encoded, prompts: Sequence[Prompt]) -> list[Predicted]:
        (height, width), features = encoded
        scale = self._side / np.array([width, height, width, height])
        nothing = np.zeros((0, 2))
        found: list[Predicted] = []
        for rows in batches(prompts, BATCH, lambda _: None):
            boxes = [np.asarray(prompts[row].box) * scale for row in rows]
            coords, kinds = look.pack_points([nothing] * len(rows), [nothing[:, 0]] * len(rows), boxes)
            coords, kinds = coords.to(features.device), kinds.to(features.device)
            logits, _ = look.decode(self._sam, features, coords, kinds, None)
            shares = F.interpolate(logits[:, :1].float().sigmoid(), (height, width), mode="bilinear")
            found += [Predicted(mask) for mask in (shares[:, 0] > 0.5).cpu().numpy()]
        return found


def open_checkpoint(name: str, checkpoint: str, *, device: str) -> Method:
    """A method from MedSAM's file, or another of its kind.

    Raises
    ------
    InputError
        If the file is no SAM checkpoint.
    """
    return MedSamMethod(name, models.load(checkpoint)[0], device=device)
