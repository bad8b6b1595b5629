"""A batch: images with their objects and prompts, and the slices that follow them, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from synthfm.data.distance import look_up

IGNORED = -2
"""Label of what fills up rows of fewer points, as :data:`synthfm.trainer.model.packing.IGNORE_LABEL`."""


@dataclass
class Batch:
    """B images with K objects each.

    Attributes
    ----------
    images
        uint8 (B, 1, H, W).
    sizes
        int64 (B, 2), height and width without padding.
    labels
        uint8 (B, H, W), label maps.
    members
        bool (B, K, 256), which label numbers make up each object: ``members[b, k][labels[b]]`` is its mask.
    sets
        bool (B, K), which objects are sets of others, such as all cells.
    boxes, boxes_loose, boxes_frame
        float32 (B, K, 4), XYXY: tight, as a person would draw it, and the latter or, around what is thin and
        spread over the image, the whole image.
    points, point_labels
        float32 (B, K, P, 2) and int64 (B, K, P): the centre, further positives, then negatives; -1 pads.
    index
        int64 (B,), the samples' numbers in their datasets.
    modality
        B names.
    clicks
        float32 (B, K, 2, 2): a click as a person places it, and one on any pixel of the object, where any
        prompt that is drawn from the masks is asked for. Else None.
    strokes, strokes_labels, many, many_labels
        Strokes as clicks, and many clicks at once, where they are asked for: float32 (B, K, M, 2) and int64
        (B, K, M), rows of fewer filled up with :data:`IGNORED`. Else None.
    features
        (B, C, h, w) embeddings where a cache is used, else None.
    following
        The slices that follow each image in its volume, where a mask is to be carried through them.
    problems
        What was wrong with samples that had to be replaced, one line each.
    """

    images: Tensor
    sizes: Tensor
    labels: Tensor
    members: Tensor
    sets: Tensor
    boxes: Tensor
    boxes_loose: Tensor
    boxes_frame: Tensor
    points: Tensor
    point_labels: Tensor
    index: Tensor
    modality: list[str]
    clicks: Tensor | None = None
    strokes: Tensor | None = None
    strokes_labels: Tensor | None = None
    many: Tensor | None = None
    many_labels: Tensor | None = None
    features: Tensor | None = None
    following: Following | None = None
    problems: list[str] = field(default_factory=list)

    def to(self, device: torch.device) -> Batch:
        """The same on `device`; copies from pinned memory do not wait."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Called by the data loader."""
        return self._mapped(Tensor.pin_memory)

    def only(self, row: int) -> Batch:
        """A batch of one of its images."""
        one = self._mapped(lambda tensor: tensor[row : row + 1])
        return replace(one, modality=self.modality[row : row + 1])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return _mapped(self, change)

    def masks(self) -> Tensor:
        """Masks of all objects, float32 (B, K, H, W)."""
        return _masks(self.labels, self.members, torch.float32)


@dataclass
class Following:
    """L slices of the volume of each of B images, outward from it; of a single image, itself again.

    Attributes
    ----------
    images
        uint8 (B, L, H, W).
    labels
        uint8 (B, L, H, W), label maps.
    members
        bool (B, L, K, 256), as :class:`Batch` has them, of the same objects; none where one has ended.
    apart
        float32 (B, L), how far a slice lies from the one before, in pixels; 0 where it is that one again.
    features
        (B, L, C, h, w) embeddings where a cache is used, else None.
    """

    images: Tensor
    labels: Tensor
    members: Tensor
    apart: Tensor
    features: Tensor | None = None

    def masks(self, number: int, slot: int) -> Tensor:
        """Masks of the images' objects of one slot in one of the slices, bool (B, H, W)."""
        return _masks(self.labels[:, number], self.members[:, number, slot, None], torch.bool)[:, 0]


def _masks(labels: Tensor, members: Tensor, dtype: torch.dtype) -> Tensor:
    """Masks (B, K, H, W) of label maps, uint8 (B, H, W), by the numbers of each, bool (B, K, 256)."""
    shape = (*members.shape[:2], *labels.shape[1:])
    if labels.device.type != "cpu":
        flat = labels.flatten(1).long()[:, None].expand(-1, members.shape[1], -1)
        return torch.gather(members.to(dtype), 2, flat).view(shape)
    masks = torch.empty(shape, dtype=dtype)  # the same without an index of eight bytes for each pixel
    for label, numbers, filled in zip(labels.numpy(), members.numpy(), masks.numpy(), strict=True):
        for own, mask in zip(numbers, filled, strict=True):
            look_up(label, own, mask)
    return masks


Held = TypeVar("Held", Batch, Following)


def _mapped(held: Held, change: Callable[[Tensor], Tensor]) -> Held:
    changed: dict[str, Any] = {}
    for name, value in vars(held).items():
        if isinstance(value, Tensor):
            changed[name] = change(value)
        elif isinstance(value, Following):
            changed[name] = _mapped(value, change)
    return replace(held, **changed)


def collate(items: Sequence[dict]) -> Batch:
    """Stack prepared samples."""
    arrays = {
        key: torch.from_numpy(np.stack([item[key] for item in items]))
        for key in items[0]
        if key not in ("modality", "features", "problems", "following")
    }
    for name in ("strokes", "many"):
        if name in arrays:
            used = int((arrays[f"{name}_labels"] != IGNORED).sum(-1).max())
            for key in (name, f"{name}_labels"):
                arrays[key] = arrays[key][:, :, :used].contiguous()
    following = [item["following"] for item in items if item.get("following") is not None]
    parts = following[0] if following else {}
    later = {key: torch.from_numpy(np.stack([one[key] for one in following])) for key in parts}
    features = [item["features"] for item in items if item.get("features") is not None]
    return Batch(
        **arrays,
        modality=[item["modality"] for item in items],
        features=torch.from_numpy(np.stack(features)) if features else None,
        following=Following(**later) if later else None,
        problems=[problem for item in items for problem in item.get("problems", ())],
    )
