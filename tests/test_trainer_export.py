"""Files for other programs, the download of SAM's weights, the embedding cache, the command line."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from trainer_data import write_dataset

from data.console import Failed, InputError
from trainer import decode, embeddings, models, weights
from trainer.cli import main
from trainer.config import PRESETS, load_config
from trainer.export import export


@pytest.fixture(scope="module")
def sam():
    return models.build("tiny", image_size=64)


@pytest.fixture(scope="module")
def checkpoint(sam, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    models.export(sam, path)
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("cache") / "a", num=10, size=32, per_shard=5)


def command(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_half_precision_halves_the_file(sam, checkpoint, tmp_path):
    (path,) = export(sam, tmp_path / "half.pth", half=True)
    assert path.stat().st_size < 0.55 * checkpoint.stat().st_size
    assert models.load(path)[1] == "tiny"


def test_onnx_gives_the_masks_of_the_model(sam, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    encoder, decoder = export(sam, tmp_path / "tiny.onnx")
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        expected = decode.encode(sam, image)
    (features,) = runtime.InferenceSession(str(encoder)).run(None, {"image": image.numpy()})
    np.testing.assert_allclose(features, expected, atol=1e-3)
    session = runtime.InferenceSession(str(decoder))
    embedding = decode.Embedding(torch.from_numpy(features), (48, 64), (48, 64))
    points = np.array([[[20.0, 30.0], [5, 6]]], np.float32)
    labels = np.array([[1, 0]], np.float32)
    for mask, has_mask in (
        (np.zeros((1, 1, 16, 16), np.float32), 0),
        (features[:, :1].repeat(4, 2).repeat(4, 3), 1),
    ):
        masks, iou, low = session.run(
            None,
            {
                "image_embeddings": features,
                "point_coords": np.concatenate([points, np.zeros((1, 1, 2), np.float32)], 1),
                "point_labels": np.concatenate([labels, -np.ones((1, 1), np.float32)], 1),
                "mask_input": mask,
                "has_mask_input": np.array([has_mask], np.float32),
                "orig_im_size": np.array([48, 64], np.float32),
            },
        )
        prompt = torch.from_numpy(mask) if has_mask else None
        single = decode.predict(sam, embedding, points, labels, logits=prompt)
        multi = decode.predict(sam, embedding, points, labels, logits=prompt, multimask=True)
        np.testing.assert_allclose(low, torch.cat([single.low_res, multi.low_res], 1), atol=1e-4)
        np.testing.assert_allclose(masks, torch.cat([single.logits(), multi.logits()], 1), atol=1e-4)
        np.testing.assert_allclose(iou, torch.cat([single.iou, multi.iou], 1), atol=1e-4)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of one file, which is the published one, and a second that is not."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "right.pth").write_bytes(b"weights" * 1000)
    (served / "wrong.pth").write_bytes(b"something else")
    digest = hashlib.sha256(b"weights" * 1000).hexdigest()
    published = {
        "vit_b": weights.Published("right.pth", digest),
        "vit_l": weights.Published("wrong.pth", digest),
    }
    monkeypatch.setattr(weights, "PUBLISHED", published)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}/"
        httpd.shutdown()
        thread.join()


def test_weights_are_downloaded_and_checked(server, tmp_path):
    out = tmp_path / "out"
    result = command("weights", "--model", "vit_b", "--out", out, "--base-url", server)
    assert result.exit_code == 0, result.output
    assert (out / "right.pth").read_bytes() == b"weights" * 1000
    with pytest.raises(Failed, match="SHA-256"):
        weights.download("vit_l", out, server)
    assert [path.name for path in out.iterdir()] == ["right.pth"]
    (out / "right.pth").write_bytes(b"mine")
    with pytest.raises(InputError, match="not the published file"):
        weights.download("vit_b", out, server)
    assert (out / "right.pth").read_bytes() == b"mine"


def test_server_that_is_not_there(tmp_path):
    with pytest.raises(Failed, match="cannot be downloaded"):
        weights.download("vit_b", tmp_path / "out", "http://127.0.0.1:9/")
    assert not list((tmp_path / "out").iterdir())


def test_published_hashes_are_those_of_the_documentation():
    assert {model: published.sha256[:6] for model, published in weights.PUBLISHED.items()} == {
        "vit_b": "ec2df6",
        "vit_l": "3adcc4",
        "vit_h": "a7bf3b",
    }


def test_cache_holds_what_the_encoder_says(sam, checkpoint, shards, tmp_path):
    out = tmp_path / "cache"
    result = command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", out)
    assert result.exit_code == 0, result.output
    assert "0.00 GB" in result.output
    assert "2 shards embedded" in result.output
    assert (
        "2 were there already"
        in command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", out).output
    )
    cache = embeddings.Cache(out, embeddings.encoder_hash(sam), [shards])
    path = shards / "shard-00001.h5"
    with h5py.File(path) as file, torch.no_grad():
        image = torch.from_numpy(file["image"][3])[None, None]
        expected = decode.encode(sam, embeddings.fit_to_input(image, 64))[0]
    np.testing.assert_allclose(cache.read(path, 3), expected, atol=2e-3)
    other = models.build("tiny", image_size=64, seed=9)
    with pytest.raises(InputError, match="another encoder"):
        embeddings.Cache(out, embeddings.encoder_hash(other), [shards])
    with pytest.raises(InputError, match="another encoder"):
        embeddings.embed(other, [shards], out)


def test_run_uses_the_cache_and_never_the_encoder(checkpoint, shards, tmp_path, monkeypatch):
    command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", tmp_path / "cache")
    arguments = ["run", "--shards", shards, "--checkpoint", checkpoint, "--out", tmp_path / "run", "--preset",
                 "decoder_cpu", "--embeddings", tmp_path / "cache", "--steps", 2, "--batch", 2,
                 "--accelerator", "cpu", "--set", "stream.val_images=0"]  # fmt: skip
    monkeypatch.setattr(decode, "encode", lambda *_: pytest.fail("the encoder was run"))
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    result = command(*arguments, "--train-encoder", "--fresh")
    assert result.exit_code == 2
    assert "needs a frozen encoder" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "nope"], "unknown preset 'nope'"),
        (["--set", "optim.lrr=1"], "did you mean 'lr'"),
        (["--set", "optim.lr=-1"], "optim.lr"),
        (["--freeze", "neck"], "--freeze 'neck'"),
        (["--freeze", "encoder", "--train-encoder"], "not both"),
        (["--checkpoint", "absent.pth"], "absent.pth: no such checkpoint"),
        (["--train-encoder", "--resume"], "no run to resume"),
        (["--model", "vit_x"], "model"),
    ],
)
def test_wrong_arguments_end_in_one_line(shards, tmp_path, arguments, message):
    result = command("run", "--shards", shards, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "run" / "log.csv").exists()


def test_a_folder_that_is_no_dataset(tmp_path):
    result = command("run", "--shards", tmp_path, "--out", tmp_path / "run", "--train-encoder")
    assert result.exit_code == 2
    assert "manifest.json" in result.output


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_presets_are_valid(preset):
    assert load_config(preset).steps
