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

from synthfm.data.prompts import Prompt
from synthfm.evaluation.cases.prompting import Setting
from synthfm.evaluation.methods.method import Method, Options, Predicted
from synthfm.trainer.model import models
from synthfm.trainer.model.decoder import decode
from synthfm.trainer.model.packing import pack
from synthfm.trainer.model.precision import encode_in
from synthfm.trainer.model.predict import BATCH, batches

Encoded = tuple[tuple[int, int], Tensor]
"""An image's height and width, and its embedding (1, C, h, w)."""


class MedSamMethod:
    """MedSAM behind the method protocol; it has no estimate of the IoU, as its authors did not train that."""

    def __init__(self, name: str, sam: Sam, *, device: str = "cpu") -> None:
        self.name = name
        self._sam: Any = sam.to(device).eval()
        self._side: int = sam.image_encoder.img_size

    def accepts(self, setting: Setting) -> bool:
        return setting.box and not setting.clicks

    @torch.no_grad()
    def encode(self, image: NDArray[np.uint8]) -> Encoded:
        square = resize(image, (self._side,) * 2, order=3, preserve_range=True, anti_aliasing=True)
        grey = square.astype(np.uint8).astype(np.float64)
        grey = (grey - grey.min()) / max(grey.max() - grey.min(), 1e-8)
        tensor = torch.tensor(grey, dtype=torch.float32, device=self._sam.device)
        return image.shape[:2], self._sam.image_encoder(tensor.expand(1, 3, -1, -1))

    @torch.no_grad()
    def predict(
        self, encoded: Encoded, prompts: Sequence[Prompt], previous: Sequence[Predicted] = ()
    ) -> list[Predicted]:
        (height, width), features = encoded
        scale = torch.tensor([self._side / width, self._side / height], device=features.device)
        found: list[Predicted] = []
        for rows in batches([None] * len(prompts), BATCH):
            packed = pack([prompts[row] for row in rows]).scaled(scale)
            logits, _ = decode(self._sam, features, packed, None)
            shares = F.interpolate(logits[:, :1].float().sigmoid(), (height, width), mode="bilinear")
            found += [Predicted(mask) for mask in (shares[:, 0] > 0.5).cpu().numpy()]
        return found


def open_checkpoint(name: str, checkpoint: str, options: Options) -> Method:
    """A method from MedSAM's file, or another of its kind.

    Raises
    ------
    InputError
        If the file is no SAM checkpoint.
    """
    return MedSamMethod(name, encode_in(models.load(checkpoint)[0], options.precision), device=options.device)
