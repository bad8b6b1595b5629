"""Dice on held-out synthetic images, per prompt setting and modality, and overlay pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn import functional as F

from synthfm.trainer.model import decoder, look
from synthfm.trainer.model.next_slice import SHIPPED
from synthfm.trainer.model.packing import pack_alike
from synthfm.trainer.model.predict import Segmenter
from synthfm.trainer.model.propagate import Asking, Run
from synthfm.trainer.model.thin import THIN, logits_of, slenderness
from synthfm.trainer.objective.prompting import Plan, first_prompts
from synthfm.trainer.stream.batch import Batch, Following
from synthfm.trainer.stream.embeddings import fit_to_input


class Setting(NamedTuple):
    """A prompt setting: its first prompt, and whether the best of three masks is taken."""

    plan: Plan
    multimask: bool = False


SETTINGS = {
    "box": Setting(Plan("box")),
    "box_loose": Setting(Plan("box_loose")),
    "point1": Setting(Plan("point", positives=1)),
    "point1_best3": Setting(Plan("point", positives=1), multimask=True),
    "point1_person": Setting(Plan("point_person", positives=1), multimask=True),
    "points3": Setting(Plan("points", positives=3)),
}

THIN_SETTINGS = {name: SETTINGS[name] for name in ("box", "box_loose", "point1", "points3")} | {
    "box_frame": Setting(Plan("box_frame")),
    "points3_neg2": Setting(Plan("points_negative", positives=3, negatives=2)),
}
"""Those of the network for thin objects."""


class Scores(NamedTuple):
    """Mean Dice by (setting, modality), number of objects by the same, and the mean over all objects."""

    dice: dict[tuple[str, str], float]
    objects: dict[tuple[str, str], int]
    mean: float

    def by_setting(self) -> dict[str, float]:
        """Mean Dice of each setting, over the objects of all modalities."""
        names = dict.fromkeys(setting for setting, _ in self.dice)
        keys = {name: [key for key in self.dice if key[0] == name] for name in names}
        return {
            name: sum(self.dice[key] * self.objects[key] for key in of) / sum(self.objects[key] for key in of)
            for name, of in keys.items()
        }


@torch.no_grad()
def validate(
    sam: Sam, batches: Iterable[Batch], device: torch.device, of_thin: bool = False
) -> tuple[Scores, list[NDArray]]:
    """Score a model; returns the scores and up to four overlay pictures, uint8 (H, W, 3).

    With `of_thin` its network for thin objects alone is scored, on those.
    """
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    pictures: list[NDArray[np.uint8]] = []
    modes = {module: module.training for module in sam.modules()}  # frozen parts are not in training mode
    sam.eval()
    try:
        for batch in batches:
            batch = batch.to(device)
            targets = batch.masks()[0] > 0.5
            kept = slenderness(targets) <= THIN if of_thin else slice(None)
            targets = targets[kept]
            if not len(targets):
                continue
            for name, found in _thin_masks(sam, batch) if of_thin else _masks(sam, batch):
                masks = found[kept]
                overlap = (masks & targets).sum((1, 2)).double()
                dice = 2 * overlap / (masks.sum((1, 2)) + targets.sum((1, 2)))
                values[name, batch.modality[0]] += dice.tolist()
                if name == "box" and len(pictures) < 4:
                    pictures.append(overlay(batch.images[0, 0], targets[0], masks[0]))
            if batch.following is not None:
                values["carry", batch.modality[0]] += carried_dice(sam, batch, batch.following)
    finally:
        for module, mode in modes.items():
            module.training = mode
    every = [value for group in values.values() for value in group]
    scores = Scores(
        dice={key: float(np.mean(group)) for key, group in values.items()},
        objects={key: len(group) for key, group in values.items()},
        mean=float(np.mean(every)) if every else float("nan"),
    )
    return scores, pictures


def _masks(sam: Sam, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Of each setting its name and masks, bool (K, H, W), of a one-image batch's objects."""
    height, width = batch.labels.shape[1:]
    size = sam.image_encoder.img_size
    features = look.encode(sam, fit_to_input(batch.images, size))
    input_size = ResizeLongestSide.get_preprocess_shape(height, width, size)
    for name, setting in SETTINGS.items():
        prompts = first_prompts(setting.plan, batch, slice(None), size / max(height, width))
        low_res, iou = decoder.decode(sam, features, pack_alike(*prompts), None)
        found = look.Prediction(low_res, iou, size, (height, width), input_size)
        yield name, found.best(setting.multimask).logits()[:, 0] > 0


def _thin_masks(sam: Sam, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """As :func:`_masks`, by the network for thin objects."""
    image = batch.images[0, 0].cpu().numpy()
    for name, setting in THIN_SETTINGS.items():
        prompts = pack_alike(*first_prompts(setting.plan, batch, slice(None), 1.0))
        yield name, logits_of(sam.thin, image, prompts, sam.image_encoder.img_size) > 0


def carried_dice(sam: Sam, batch: Batch, following: Following) -> list[float]:
    """Dice of one object of a one-image batch in each slice that follows, when its mask is propagated.

    Where the object has ended it is 1 for nothing and 0 for anything else.
    """
    slices = [batch.images[0, 0].cpu().numpy(), *following.images[0].cpu().numpy()]
    asking = Asking(Segmenter(sam), SHIPPED, float(following.apart[0].max()))
    slot = int(batch.index[0]) % batch.members.shape[1]  # the first is the largest
    run = Run(slices, 0, 1, batch.masks()[0, slot].cpu().numpy() > 0.5, asking)
    found = []
    for number in range(len(slices) - 1):
        if not following.apart[0, number]:
            break  # the volume is over
        true, step = following.masks(number, slot)[0].cpu().numpy(), run.at(number + 1)
        mask = np.zeros_like(true) if step is None else step.mask
        areas = int(true.sum()) + int(mask.sum())
        found.append(2 * int((true & mask).sum()) / areas if areas else 1.0)
    return found


def overlay(image: Tensor, target: Tensor, predicted: Tensor) -> NDArray[np.uint8]:
    """The image with the target's outline in green and the prediction's in red, uint8 (H, W, 3)."""
    picture = np.repeat(image.cpu().numpy()[:, :, None], 3, axis=2).copy()
    for mask, colour in ((target, (0, 220, 0)), (predicted, (255, 40, 40))):
        inside = mask.float()[None, None]
        edge = (F.max_pool2d(inside, 3, stride=1, padding=1) - inside)[0, 0] > 0
        picture[edge.cpu().numpy()] = colour
    return picture
