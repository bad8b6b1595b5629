"""One object through a scan, from a box: ours beside a box in each slice, and SAM 2's video predictor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench_growth import DISC, scan
from numpy.typing import NDArray
from PIL import Image
from segment_anything import SamPredictor

from peers.asking import SAM2
from peers.turns import OURS, Contender, built
from synthfm.evaluation.segment import segment
from synthfm.trainer.model import models

FRAMES = 4


def scans(folder: Path, slices: int) -> list[Contender]:
    """Slices of a scan; `folder` takes the frames that SAM 2 reads."""
    volume = scan(slices)
    low, high = np.percentile(volume, (1, 99))
    grey = (255 * np.clip((volume - low) / (high - low), 0, 1)).astype(np.uint8)

    def ours() -> int:
        segment(volume, box=(*DISC, slices // 2))
        return slices

    return [
        Contender(OURS, "synthfm", ours),
        Contender(
            "SamPredictor, our weights, a box in every slice", "segment-anything", slice_by_slice(grey)
        ),
        Contender(
            "SAM 2's tiny, as a video, random weights",
            "sam2",
            built(lambda: as_video(grey[:FRAMES], folder / "frames")),
        ),
    ]


def slice_by_slice(grey: NDArray[np.uint8]) -> Callable[[], int]:
    predictor = SamPredictor(models.load("tiny")[0].eval())

    def work() -> int:
        for image in grey:
            predictor.set_image(np.repeat(image[..., None], 3, 2))
            predictor.predict(box=np.array(DISC), multimask_output=False)
        return len(grey)

    return work


def as_video(grey: NDArray[np.uint8], folder: Path) -> Callable[[], int]:
    """From the box in the middle to either end, as its notebook does, through :data:`FRAMES` slices.

    Fewer than the others, for time: a frame costs the more, the more frames were before it.
    """
    import torch
    from sam2.build_sam import build_sam2_video_predictor

    folder.mkdir()
    for number, image in enumerate(grey):
        Image.fromarray(image).save(folder / f"{number}.jpg")
    predictor = build_sam2_video_predictor(SAM2, device="cpu", apply_postprocessing=False)
    middle = len(grey) // 2

    @torch.inference_mode()
    def work() -> int:
        state = predictor.init_state(str(folder))
        predictor.add_new_points_or_box(state, frame_idx=middle, obj_id=1, box=np.array(DISC, np.float32))
        found = {}
        for backwards in (False, True):
            for frame, _, logits in predictor.propagate_in_video(state, reverse=backwards):
                found[frame] = (logits > 0).numpy()
        return len(found)

    return work
