"""Files for other programs: the mean of several models, half precision, ONNX."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from synthfm.data.prompts import Prompt
from synthfm.trainer.model import look, models
from synthfm.trainer.model.export import export
from synthfm.trainer.model.packing import pack
from tests.support.runs import command


def test_the_mean_of_several_counts_each_as_often_as_it_is_named(tmp_path):
    files = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for seed, path in enumerate(files):
        models.export(models.build("tiny", image_size=64, seed=seed), path)
    a, b = (models.load(path)[0].state_dict() for path in files)
    run = ["export", files[0], files[1], files[1], "--out", tmp_path / "mean.pth"]
    assert command(*run).exit_code == 0
    mean = models.load(tmp_path / "mean.pth")[0].state_dict()
    assert any((a[key] != b[key]).any() for key in a)
    for key in a:
        assert torch.allclose(mean[key].double(), (a[key].double() + 2 * b[key]) / 3, atol=1e-6)
    models.export(models.build("tiny", image_size=64, depths=(1, 2, 6)), files[0])
    result = command(*run)
    assert result.exit_code == 2
    assert "b.pth: another model or size than" in result.output


def test_what_the_command_writes_has_its_sha256_beside_it(checkpoint, tmp_path):
    for suffix in ("pth", "safetensors"):
        path = tmp_path / f"a.{suffix}"
        assert command("export", checkpoint, "--out", path).exit_code == 0
        written = (tmp_path / f"a.{suffix}.sha256").read_text()
        assert written == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  a.{suffix}\n"


def test_half_precision_halves_the_file(sam, checkpoint, tmp_path):
    (path,) = export(sam, tmp_path / "half.pth", half=True)
    assert path.stat().st_size < 0.55 * checkpoint.stat().st_size
    assert models.load(path)[1] == "tiny"


def test_onnx_gives_the_masks_of_the_model(sam, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    encoder, decoder = export(sam, tmp_path / "tiny.onnx")
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        expected = look.encode(sam, image)
    (features,) = runtime.InferenceSession(str(encoder)).run(None, {"image": image.numpy()})
    np.testing.assert_allclose(features, expected, atol=1e-3)
    session = runtime.InferenceSession(str(decoder))
    encoding = look.Encoding(np.zeros((48, 64), np.uint8), torch.from_numpy(features), (48, 64))
    points = np.array([[20.0, 30.0], [5, 6]], np.float32)
    labels = np.array([1, 0], np.float32)
    for mask, has_mask in (
        (np.zeros((1, 1, 16, 16), np.float32), 0),
        (features[:, :1].repeat(4, 2).repeat(4, 3), 1),
    ):
        masks, iou, low = session.run(
            None,
            {
                "image_embeddings": features,
                "point_coords": np.concatenate([points, np.zeros((1, 2), np.float32)])[None],
                "point_labels": np.append(labels, np.float32(-1))[None],
                "mask_input": mask,
                "has_mask_input": np.array([has_mask], np.float32),
                "orig_im_size": np.array([48, 64], np.float32),
            },
        )
        prompt = torch.from_numpy(mask) if has_mask else None
        found = look.predict(sam, encoding, pack([Prompt(points, labels)]), prompt)
        np.testing.assert_allclose(low, found.low_res, atol=1e-4)
        np.testing.assert_allclose(masks, found.logits(), atol=1e-4)
        np.testing.assert_allclose(iou, found.iou, atol=1e-4)
