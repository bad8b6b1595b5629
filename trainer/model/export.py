"""Checkpoints for use elsewhere: SAM's format, safetensors, half precision, ONNX.

The ONNX decoder has the inputs and outputs of SAM's own exporter (``scripts/export_onnx_model.py``), so that
programs written for SAM's ONNX files run it; the encoder is a file of its own beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from segment_anything.utils.onnx import SamOnnxModel
from torch import Tensor, nn
from torch.nn import functional as F

from synthfm.data.console import InputError, brought_by
from synthfm.data.files import forget_digest, replacing, write_digest
from synthfm.trainer.model import models
from synthfm.trainer.model.checkpoints import check_finite

OPSET = 17
FORMATS = ("pth", "safetensors", "onnx")
DECODER_INPUTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input",
                  "orig_im_size")  # fmt: skip
DECODER_OUTPUTS = ("masks", "iou_predictions", "low_res_masks")


class OnnxEncoder(nn.Module):
    """Normalisation and image encoder: float (1, 3, S, S) of 0 to 255 to embeddings (1, C, h, w).

    A smaller image is to be padded right and below with the pixel mean (123.675, 116.28, 103.53), which
    normalisation turns into SAM's padding of 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.encoder = sam.image_encoder
        self.register_buffer("mean", sam.pixel_mean)
        self.register_buffer("std", sam.pixel_std)

    def forward(self, image: Tensor) -> Tensor:
        return self.encoder((image - self.mean) / self.std)


class OnnxDecoder(SamOnnxModel):
    """SAM's ONNX model, with the size of the padding traced.

    The published class turns that size into a Python number, which the tracer freezes to the example's.
    """

    def mask_postprocessing(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
        """Logits (B, C, 4h, 4w) at the original size, without the padding."""
        size = [self.img_size, self.img_size]
        masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        kept = self.resize_longest_image_size(orig_im_size, self.img_size)
        masks = masks[..., : kept[0], : kept[1]]
        original = orig_im_size.to(torch.int64)
        shape = (original[0], original[1])
        return F.interpolate(masks, size=shape, mode="bilinear", align_corners=False)  # type: ignore[arg-type]


def export(sam: Sam, path: Path, half: bool = False) -> list[Path]:
    """Write a model in the format of the path's suffix, and the SHA-256 beside it; returns the model's files.

    Parameters
    ----------
    sam
        The model, in evaluation mode.
    path
        ``.pth``, ``.pt`` or ``.safetensors``; ``.onnx`` writes ``NAME_encoder.onnx`` and
        ``NAME_decoder.onnx``.
    half
        Halve the file: float16 weights. Programs that load them into a float32 model lose nothing else.

    Raises
    ------
    InputError
        If the suffix is none of these, or ONNX is asked for and its package is missing.
    """
    suffix = path.suffix.lstrip(".")
    if suffix not in (*FORMATS, "pt"):
        raise InputError(f"{path}: the suffix says the format; choose one of .{', .'.join(FORMATS)}")
    if half and suffix == "onnx":
        raise InputError("--half is for .pth and .safetensors, not for ONNX")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == "onnx":
        check_finite(sam.state_dict(), f"{path} is not written")
        written = list(export_onnx(sam, path))
    else:
        models.export(sam, path, half)
        written = [path]
    for file in written:
        write_digest(file)
    return written


def export_onnx(sam: Sam, path: Path) -> tuple[Path, Path]:
    """Write encoder and decoder as ONNX, float32; returns their paths."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise InputError(f"ONNX needs its package; {brought_by('onnx')}") from error
    sam = sam.cpu().float().eval()
    size = sam.image_encoder.img_size
    channels = sam.prompt_encoder.embed_dim
    grid = sam.prompt_encoder.image_embedding_size
    encoder, decoder = (path.with_name(f"{path.stem}_{part}.onnx") for part in ("encoder", "decoder"))
    image = torch.rand(1, 3, size, size) * 255
    _write(OnnxEncoder(sam), (image,), encoder, ["image"], ["image_embeddings"], {})
    example = (
        torch.randn(1, channels, *grid),
        torch.randint(0, size, (1, 5, 2)).float(),
        torch.randint(0, 4, (1, 5)).float(),
        torch.randn(1, 1, 4 * grid[0], 4 * grid[1]),
        torch.ones(1),
        torch.tensor([size, size]).float(),
    )
    axes = {"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}}
    model = OnnxDecoder(sam, return_single_mask=False)
    _write(model, example, decoder, list(DECODER_INPUTS), list(DECODER_OUTPUTS), axes)
    return encoder, decoder


def _write(
    model: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> None:
    forget_digest(path)
    with replacing(path) as partial, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, on shapes that are fixed here
        torch.onnx.export(
            model,
            example,
            str(partial),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
