"""Masks from prompts: the first click in an image, the next ones, and many boxes, in one thread."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from peers.decoding import transformers_sam
from peers.turns import OURS, Contender
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample
from synthfm.trainer.model import models
from synthfm.trainer.model.export import export_onnx
from synthfm.trainer.model.predict import Prompt, Segmenter

SIZE, BOXES = 512, 64


class Onnx:
    """Our own export in onnxruntime, asked as its documentation does."""

    def __init__(self, sam: Sam, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for path in export_onnx(sam, folder / "tiny.onnx")
        )
        self.size = sam.image_encoder.img_size

    def encode(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        from skimage.transform import resize

        small = resize(image.astype(np.float32), (self.size, self.size), order=1)
        return self.encoder.run(None, {"image": np.repeat(small[None, None], 3, 1)})[0]

    def ask(self, embedding: NDArray[np.float32], points: NDArray, labels: NDArray) -> NDArray[np.bool_]:
        scale = self.size / SIZE
        masks = self.decoder.run(
            None,
            {
                "image_embeddings": embedding,
                "point_coords": (points[None] * scale).astype(np.float32),
                "point_labels": labels[None].astype(np.float32),
                "mask_input": np.zeros((1, 1, self.size // 4, self.size // 4), np.float32),
                "has_mask_input": np.zeros(1, np.float32),
                "orig_im_size": np.array([SIZE, SIZE], np.float32),
            },
        )[0]
        return masks > 0


class Asked:
    """An image, clicks and boxes in it, and those who are asked."""

    def __init__(self, folder: Path) -> None:
        sample = make_sample(load_config("ct", size=SIZE), 0, 0)
        self.image, rng = sample.image, np.random.default_rng(0)
        self.colour = np.repeat(self.image[..., None], 3, 2)
        self.click = sample.objects.points[0, :1].astype(float)
        low = rng.uniform(0, SIZE - 90, (BOXES, 2))
        self.boxes = np.hstack([low, low + rng.uniform(20, 90, (BOXES, 2))])
        sam = models.load("tiny")[0].eval()
        self.segmenter, self.predictor, self.onnx = Segmenter(sam), SamPredictor(sam), Onnx(sam, folder)

    def first(self) -> list[Contender]:
        """Clicks, each in an image of its own."""

        def onnx() -> object:
            return self.onnx.ask(self.onnx.encode(self.image), *self._with_padding())

        def predictor() -> object:
            self.predictor.set_image(self.colour)
            return self.predictor.predict(self.click, np.ones(1))

        return [
            Contender(OURS, "synthfm", times(lambda: self._ours(self.segmenter.encode(self.image)), 8)),
            Contender("SamPredictor, our weights", "segment-anything", times(predictor, 8)),
            Contender("onnxruntime, our export", "onnxruntime", times(onnx, 8)),
        ]

    def next(self) -> list[Contender]:
        """Clicks in an image that is encoded."""
        encoding, embedding = self.segmenter.encode(self.image), self.onnx.encode(self.image)
        self.predictor.set_image(self.colour)
        theirs, features = transformers_sam().eval(), torch.randn(1, 256, 16, 16)
        point, label = torch.tensor(self.click[None, None]).float() / 2, torch.ones(1, 1, 1, dtype=torch.long)

        @torch.no_grad()
        def by_transformers() -> object:
            masks = theirs(image_embeddings=features, input_points=point, input_labels=label).pred_masks[0]
            return torch.nn.functional.interpolate(masks, (SIZE, SIZE), mode="bilinear").numpy() > 0

        return [
            Contender(OURS, "synthfm", times(lambda: self._ours(encoding), 16)),
            Contender(
                "SamPredictor, our weights",
                "segment-anything",
                times(lambda: self.predictor.predict(self.click, np.ones(1)), 16),
            ),
            Contender("transformers, random weights", "transformers", times(by_transformers, 16)),
            Contender(
                "onnxruntime, our export",
                "onnxruntime",
                times(lambda: self.onnx.ask(embedding, *self._with_padding()), 16),
            ),
            Contender("SAM 2's tiny, random weights", "sam2", times(self._sam2(), 4)),
        ]

    def many(self) -> list[Contender]:
        """Boxes in one image that is encoded."""
        encoding = self.segmenter.encode(self.image)
        self.predictor.set_image(self.colour)
        prompts = [Prompt(box=box) for box in self.boxes]

        def one_by_one() -> int:
            for box in self.boxes:
                self.predictor.predict(box=box, multimask_output=False)
            return BOXES

        def at_once() -> int:
            boxes = self.predictor.transform.apply_boxes_torch(torch.tensor(self.boxes), (SIZE, SIZE)).float()
            self.predictor.predict_torch(None, None, boxes, multimask_output=False)[0].numpy()
            return BOXES

        def ours() -> int:
            for found in self.segmenter.predict(encoding, prompts):
                _ = found.mask
            return BOXES

        return [
            Contender(OURS, "synthfm", ours),
            Contender("SamPredictor, box by box", "segment-anything", one_by_one),
            Contender("SamPredictor, all at once", "segment-anything", at_once),
        ]

    def _ours(self, encoding: object) -> object:
        (found,) = self.segmenter.predict(encoding, [Prompt(self.click, [1])])  # type: ignore[arg-type]
        return found.mask

    def _with_padding(self) -> tuple[NDArray, NDArray]:
        return np.vstack([self.click, np.zeros((1, 2))]), np.array([1, -1])

    def _sam2(self) -> Callable[[], object]:
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        predictor = SAM2ImagePredictor(build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu"))
        predictor.set_image(self.colour)
        return lambda: predictor.predict(self.click, np.ones(1))


def times(ask: Callable[[], object], count: int) -> Callable[[], int]:
    def work() -> int:
        for _ in itertools.repeat(None, count):
            ask()
        return count

    return work
