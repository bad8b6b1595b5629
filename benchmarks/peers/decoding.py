"""A training step of the mask decoder, forward and backward, from embeddings: ours and the others' loops."""

from __future__ import annotations

from collections.abc import Callable

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from peers.turns import OURS, Contender, built
from synthfm.trainer.model import models
from synthfm.trainer.model.decoder import decode
from synthfm.trainer.model.packing import pack_alike


class Work:
    """Embeddings of some images, and clicks in each of them."""

    def __init__(self, images: int, prompts: int) -> None:
        self.sam: Sam = models.build("tiny", image_size=256)
        draw = torch.Generator().manual_seed(0)
        self.features = torch.randn(images, 256, 16, 16, generator=draw)
        self.points = 256 * torch.rand(images, prompts, 1, 2, generator=draw)
        self.labels = torch.ones(images, prompts, 1, dtype=torch.long)

    def ours(self) -> Tensor:
        """Logits (images * prompts, 4, 64, 64)."""
        packed = pack_alike(self.points.flatten(0, 1), self.labels.flatten(0, 1), None)
        return decode(self.sam, self.features, packed, None)[0]

    def by_image(self) -> Tensor:
        """As ``segment_anything`` asks its decoder: image by image."""
        encoder, masks = self.sam.prompt_encoder, []
        for features, points, labels in zip(self.features, self.points, self.labels, strict=True):
            sparse, dense = encoder(points=(points, labels), boxes=None, masks=None)
            masks.append(
                self.sam.mask_decoder.predict_masks(features[None], encoder.get_dense_pe(), sparse, dense)[0]
            )
        return torch.cat(masks)


def transformers_sam() -> torch.nn.Module:
    """Its SAM for images of 256 pixels with the smallest encoder, which is not asked."""
    from transformers import SamConfig, SamModel

    size = {"image_size": 256, "patch_size": 16}
    vision = {**size, "num_hidden_layers": 1, "global_attn_indexes": [0], "output_channels": 256}
    return SamModel(SamConfig(vision_config=vision, prompt_encoder_config=size))


def decoding(images: int, prompts: int, compiled: bool) -> list[Contender]:
    """Prompts."""
    work = Work(images, prompts)

    def by_transformers() -> Callable[[], Tensor]:
        theirs = transformers_sam()
        return lambda: (
            theirs(
                image_embeddings=work.features, input_points=work.points, input_labels=work.labels
            ).pred_masks
        )

    def step(forward: Callable[[], Tensor]) -> Callable[[], int]:
        def run() -> int:
            forward().square().mean().backward()
            return images * prompts

        return run

    found = [
        Contender(OURS, "synthfm", step(work.ours)),
        Contender("segment_anything", "segment-anything", step(work.by_image)),
        Contender("transformers", "transformers", built(lambda: step(by_transformers()))),
    ]
    if compiled:
        found += [
            Contender("segment_anything, compiled", "torch", step(torch.compile(work.by_image))),
            Contender(
                "transformers, compiled", "torch", built(lambda: step(torch.compile(by_transformers())))
            ),
        ]
    return found


@torch.no_grad()
def difference(images: int, prompts: int) -> float:
    """Largest difference of our logits from ``segment_anything``'s."""
    work = Work(images, prompts)
    return float((work.ours() - work.by_image()).abs().max())
