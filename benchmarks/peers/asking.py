"""Masks from prompts: the first click in an image, the next ones, and many boxes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from peers.decoding import transformers_sam
from peers.turns import OURS, Contender, built
from synthfm.generator.config import load_config
from synthfm.generator.scene import make_sample
from synthfm.trainer.model import models
from synthfm.trainer.model.export import export_onnx
from synthfm.trainer.model.predict import Prompt, Segmenter

SIZE, BOXES = 512, 64
SAM2 = "configs/sam2.1/sam2.1_hiera_t.yaml"


class Onnx:
    """Our own export in onnxruntime, asked as its documentation does."""

    def __init__(self, sam: Sam, folder: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
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

    def __init__(self, folder: Path, threads: int = 1) -> None:
        sample = make_sample(load_config("ct", size=SIZE), 0, 0)
        self.image, rng = sample.image, np.random.default_rng(0)
        self.colour = np.repeat(self.image[..., None], 3, 2)
        self.click = sample.objects.points[0, :1].astype(float)
        low = rng.uniform(0, SIZE - 90, (BOXES, 2))
        self.boxes = np.hstack([low, low + rng.uniform(20, 90, (BOXES, 2))])
        self.sam, self.folder, self.threads = models.load("tiny")[0].eval(), folder, threads
        self.segmenter, self.predictor = Segmenter(self.sam), SamPredictor(self.sam)

    def first(self) -> list[Contender]:
        """Clicks, each in an image of its own."""

        def predictor() -> object:
            self.predictor.set_image(self.colour)
            return self.predictor.predict(self.click, np.ones(1))

        def onnx() -> Callable[[], int]:
            model = self._onnx()
            return times(lambda: model.ask(model.encode(self.image), *self._with_padding()), 8)

        def by_sam2() -> Callable[[], int]:
            model = sam2_predictor()

            def ask() -> object:
                model.set_image(self.colour)
                return model.predict(self.click, np.ones(1))

            return times(ask, 1)

        return [
            Contender(OURS, "synthfm", times(lambda: self._ours(self.segmenter.encode(self.image)), 8)),
            Contender("SamPredictor, our weights", "segment-anything", times(predictor, 8)),
            Contender("onnxruntime, our export", "onnxruntime", built(onnx)),
            Contender("transformers' vit_b, random weights", "transformers", built(self._transformers_vit_b)),
            Contender("SAM 2's tiny, random weights", "sam2", built(by_sam2)),
        ]

    def next(self) -> list[Contender]:
        """Clicks in an image that is encoded."""
        encoding = self.segmenter.encode(self.image)
        self.predictor.set_image(self.colour)

        def onnx() -> Callable[[], int]:
            model = self._onnx()
            embedding = model.encode(self.image)
            return times(lambda: model.ask(embedding, *self._with_padding()), 16)

        def by_sam2() -> Callable[[], int]:
            model = sam2_predictor()
            model.set_image(self.colour)
            return times(lambda: model.predict(self.click, np.ones(1)), 4)

        return [
            Contender(OURS, "synthfm", times(lambda: self._ours(encoding), 16)),
            Contender(
                "SamPredictor, our weights",
                "segment-anything",
                times(lambda: self.predictor.predict(self.click, np.ones(1)), 16),
            ),
            Contender(
                "transformers, random weights",
                "transformers",
                built(lambda: times(transformers_decoder(points=self.click[:, None] / 2), 16)),
            ),
            Contender("onnxruntime, our export", "onnxruntime", built(onnx)),
            Contender("SAM 2's tiny, random weights", "sam2", built(by_sam2)),
        ]

    def many(self) -> list[Contender]:
        """Boxes in one image that is encoded."""
        encoding = self.segmenter.encode(self.image)
        self.predictor.set_image(self.colour)
        prompts = [Prompt(box=box) for box in self.boxes]

        def one_by_one() -> object:
            return [self.predictor.predict(box=box, multimask_output=False) for box in self.boxes]

        def at_once() -> object:
            boxes = self.predictor.transform.apply_boxes_torch(torch.tensor(self.boxes), (SIZE, SIZE)).float()
            return self.predictor.predict_torch(None, None, boxes, multimask_output=False)[0].numpy()

        def onnx() -> Callable[[], int]:
            model, corners = self._onnx(), self.boxes.reshape(-1, 2, 2)
            embedding, labels = model.encode(self.image), np.array([2, 3])
            return lambda: len([model.ask(embedding, box, labels) for box in corners])

        def by_sam2() -> Callable[[], int]:
            model = sam2_predictor()
            model.set_image(self.colour)
            return lambda: len(model.predict(box=self.boxes, multimask_output=False)[0])

        return [
            Contender(
                OURS,
                "synthfm",
                lambda: len([found.mask for found in self.segmenter.predict(encoding, prompts)]),
            ),
            Contender("SamPredictor, box by box", "segment-anything", times(one_by_one, 1, BOXES)),
            Contender("SamPredictor, all at once", "segment-anything", times(at_once, 1, BOXES)),
            Contender(
                "transformers, random weights",
                "transformers",
                built(lambda: times(transformers_decoder(boxes=self.boxes / 2), 1, BOXES)),
            ),
            Contender("onnxruntime, our export", "onnxruntime", built(onnx)),
            Contender("SAM 2's tiny, random weights", "sam2", built(by_sam2)),
        ]

    def _ours(self, encoding: object) -> object:
        (found,) = self.segmenter.predict(encoding, [Prompt(self.click, [1])])  # type: ignore[arg-type]
        return found.mask

    def _onnx(self) -> Onnx:
        return Onnx(self.sam, self.folder, self.threads)

    def _with_padding(self) -> tuple[NDArray, NDArray]:
        return np.vstack([self.click, np.zeros((1, 2))]), np.array([1, -1])

    def _transformers_vit_b(self) -> Callable[[], int]:
        """The whole of it, which takes images of 1024 pixels."""
        from transformers import SamConfig, SamImageProcessor, SamModel

        model, processor = SamModel(SamConfig()).eval(), SamImageProcessor()
        point, label = torch.tensor(self.click[None, None] * 1024 / SIZE).float(), torch.ones(1, 1, 1)

        @torch.no_grad()
        def ask() -> object:
            given = processor(self.colour, return_tensors="pt")
            masks = model(given["pixel_values"], input_points=point, input_labels=label.long()).pred_masks
            return processor.post_process_masks(
                masks, given["original_sizes"], given["reshaped_input_sizes"]
            )[0]

        return times(ask, 1)


@torch.no_grad()
def transformers_decoder(**prompts: NDArray) -> Callable[[], object]:
    """Its prompt encoder and mask decoder for images of 256 pixels, as ours; masks at the image's size.

    `points` are (N, 1, 2) or `boxes` (N, 4), each prompt answered on its own.
    """
    model, features = transformers_sam().eval(), torch.randn(1, 256, 16, 16)
    given = {f"input_{name}": torch.tensor(values[None]).float() for name, values in prompts.items()}
    if "points" in prompts:
        given["input_labels"] = torch.ones(given["input_points"].shape[:3], dtype=torch.long)

    @torch.no_grad()
    def ask() -> object:
        masks = model(image_embeddings=features, multimask_output="points" in prompts, **given).pred_masks[0]
        return torch.nn.functional.interpolate(masks, (SIZE, SIZE), mode="bilinear").numpy() > 0

    return ask


def sam2_predictor() -> Any:
    """SAM 2's image predictor: the smallest of its models, weights drawn."""
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    return SAM2ImagePredictor(build_sam2(SAM2, device="cpu"))


def times(ask: Callable[[], object], count: int, each: int = 1) -> Callable[[], int]:
    def work() -> int:
        for _ in itertools.repeat(None, count):
            ask()
        return count * each

    return work
