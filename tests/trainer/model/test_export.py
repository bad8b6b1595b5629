"""Files for other programs, the download of SAM's weights, the embedding cache, the command line."""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import resource
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from lightning_fabric.utilities import rank_zero_only

from synthfm.data.console import Failed, InputError
from synthfm.data.files import locked
from synthfm.data.folder import read_manifest
from synthfm.data.prompts import Prompt
from synthfm.trainer.cli import main
from synthfm.trainer.config import PRESETS, load_config
from synthfm.trainer.model import download, look, models
from synthfm.trainer.model.export import export
from synthfm.trainer.model.packing import pack
from synthfm.trainer.run import loop, state
from synthfm.trainer.stream import embeddings
from tests.support.ellipses import write_dataset


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


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of one file, which is the published one, and a second that is not."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "right.pth").write_bytes(b"weights" * 1000)
    (served / "wrong.pth").write_bytes(b"something else")
    digest = hashlib.sha256(b"weights" * 1000).hexdigest()
    published = {
        "vit_b": download.Published("right.pth", digest),
        "vit_l": download.Published("wrong.pth", digest),
    }
    monkeypatch.setattr(download, "PUBLISHED", published)

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
        download.download("vit_l", out, server)
    assert [path.name for path in out.iterdir()] == ["right.pth"]
    (out / "right.pth").write_bytes(b"mine")
    with pytest.raises(InputError, match="not the published file"):
        download.download("vit_b", out, server)
    assert (out / "right.pth").read_bytes() == b"mine"


def test_server_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no address"):
        download.download("vit_b", tmp_path / "out", "foo")
    for wrong in ("http://a b/", "http://localhost:abc", "http://[::1"):
        with pytest.raises(InputError, match="no address"):
            download.download("vit_b", tmp_path / "out", wrong)
    with pytest.raises(Failed, match="cannot be downloaded"):
        download.download("vit_b", tmp_path / "out", "http://127.0.0.1:9/")
    assert not list((tmp_path / "out").iterdir())


def test_published_hashes_are_those_of_the_docs():
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| `(vit_.)` \| `(sam_\w+\.pth)`.* \| `([0-9a-f]{64})` \|$", text, re.M)
    assert {model: download.Published(file, sha256) for model, file, sha256 in rows} == download.PUBLISHED


def test_a_damaged_shard_costs_the_cache_itself_alone(sam, checkpoint, tmp_path):
    folder = write_dataset(tmp_path / "data", num=12, size=64, per_shard=4)
    path = folder / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:3000])
    out = tmp_path / "cache"
    result = command("embed", "--shards", folder, "--checkpoint", checkpoint, "--out", out)
    assert result.exit_code == 1
    assert "1 of 3 shards are left out, the first: " in result.output
    assert len(list(out.glob("*.h5"))) == 2
    cache = embeddings.Cache(out, embeddings.encoder_hash(sam), [folder])
    assert cache.read(folder / "shard-00002.h5", 0).shape == (256, 4, 4)
    next(out.glob("shard-00002-*.h5")).unlink()  # of a shard that is whole
    with pytest.raises(InputError, match="holds no embeddings of"):
        embeddings.Cache(out, embeddings.encoder_hash(sam), [folder])


def test_two_programs_do_not_fill_one_cache(checkpoint, shards, tmp_path):
    with locked(tmp_path, "synthfm-train embed"):
        result = command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", tmp_path)
    assert result.exit_code == 2
    assert "another synthfm-train embed is filling this folder" in result.output


def test_cache_holds_what_the_encoder_says(sam, checkpoint, shards, tmp_path):
    out = tmp_path / "cache"
    result = command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", out)
    assert result.exit_code == 0, result.output
    assert "up to 0.1 MB" in result.output
    assert "2 shards embedded" in result.output
    assert (
        "2 were there already"
        in command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", out).output
    )
    cache = embeddings.Cache(out, embeddings.encoder_hash(sam), [shards])
    path = shards / "shard-00001.h5"
    with h5py.File(path) as file, torch.no_grad():
        image = torch.from_numpy(file["image"][3])[None, None]
        expected = look.encode(sam, embeddings.fit_to_input(image, 64))[0]
    np.testing.assert_allclose(cache.read(path, 3), expected, atol=2e-3)
    other = models.build("tiny", image_size=64, seed=9)
    with pytest.raises(InputError, match="another encoder"):
        embeddings.Cache(out, embeddings.encoder_hash(other), [shards])
    with pytest.raises(InputError, match="another encoder"):
        embeddings.embed(other, [shards], out)


def test_a_cache_holds_no_more_files_open_than_the_window(sam, shards, tmp_path):
    embeddings.embed(sam, [shards], tmp_path, progress=False)
    cache = embeddings.Cache(tmp_path, embeddings.encoder_hash(sam), [shards], window=1)
    for path in sorted(shards.glob("*.h5")) * 2:
        cache.read(path, 0)
        assert len(cache._open) == 1


def test_inputs_are_known_by_the_first_digits_of_their_hash(checkpoint, shards):
    described = state.describe(loop.Inputs((str(shards),), checkpoint=str(checkpoint)))
    manifest, weights_ = (
        hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in (shards / "manifest.json", checkpoint)
    )
    assert described["shards"] == [[str(shards), manifest]]
    assert described["checkpoint"] == [str(checkpoint), weights_]


def test_a_damaged_cache_is_named(sam, shards, tmp_path):
    embeddings.embed(sam, [shards], tmp_path, progress=False)
    cache = embeddings.Cache(tmp_path, embeddings.encoder_hash(sam), [shards])
    path = next(iter(read_manifest(shards).shards)).file
    (damaged,) = tmp_path.glob(f"{Path(path).stem}-*.h5")
    with h5py.File(damaged) as file:
        start = file["features"].id.get_chunk_info(3).byte_offset
    with open(damaged, "r+b") as handle:
        handle.seek(start + 100)
        handle.write(b"damaged")
    assert np.isfinite(cache.read(shards / path, 2)).all()
    with pytest.raises(InputError, match=f"{damaged.name}: corrupted"):
        cache.read(shards / path, 3)


def run_on_a_full_disk(*arguments: object):
    """`synthfm-train` in a process whose files cannot grow beyond 300 kB."""
    program = """
import resource, signal, sys
from synthfm.trainer.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
main(sys.argv[1:])
"""
    words = [str(argument) for argument in arguments]
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "cache"])
def test_a_full_disk_ends_in_one_line_and_leaves_nothing(checkpoint, tmp_path, name):
    out = tmp_path / "out" / name
    if out.suffix:
        result = run_on_a_full_disk("export", checkpoint, "--out", out)
    else:
        folder = write_dataset(tmp_path / "shards", num=60, size=16, per_shard=60)
        result = run_on_a_full_disk("embed", "--shards", folder, "--checkpoint", checkpoint, "--out", out)
    assert result.returncode == 2, result.stderr  # not the signal with which HDF5 ends after a failed write
    assert f"{out}: File too large" in result.stderr or not out.suffix
    assert ": File too large" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
    ],
)
def test_embedding_out_of_memory_says_what_to_lower(checkpoint, shards, tmp_path, monkeypatch, error):
    def encode(*_):
        raise error

    monkeypatch.setattr(look, "encode", encode)
    result = command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", tmp_path, "--batch", 4)
    assert result.exit_code == 1
    assert "out of memory with 4 images at a time: lower --batch" in result.output
    assert not list(tmp_path.iterdir())


def test_only_the_first_process_says_where_the_model_is(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *_, **__: tmp_path / "model.pth")
    arguments = ["run", "--shards", shards, "--out", tmp_path, "--train-encoder"]
    for rank, expected in ((0, f"{tmp_path / 'model.pth'}\n"), (1, "")):
        monkeypatch.setattr(rank_zero_only, "rank", rank, raising=False)
        assert command(*arguments).output == expected


def test_run_uses_the_cache_and_never_the_encoder(checkpoint, shards, tmp_path, monkeypatch):
    command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", tmp_path / "cache")
    arguments = ["run", "--shards", shards, "--checkpoint", checkpoint, "--out", tmp_path / "run", "--preset",
                 "decoder_cpu", "--embeddings", tmp_path / "cache", "--steps", 2, "--batch", 2,
                 "--accelerator", "cpu", "--set", "stream.val_images=0"]  # fmt: skip
    monkeypatch.setattr(look, "encode", lambda *_: pytest.fail("the encoder was run"))
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
        (["--freeze", ""], "--freeze is given, but empty; 'none'"),
        (["--freeze", ","], "--freeze is given, but empty; 'none'"),
        (["--freeze", "encoder", "--train-encoder"], "not both"),
        (["--checkpoint", "tiny", "--init-from", "tiny"], "--checkpoint or --init-from, not both"),
        (["--checkpoint", "absent.pth"], "absent.pth: no such checkpoint"),
        (["--train-encoder", "--resume"], "no run to resume"),
        (["--resume", "--fresh"], "not both: one keeps the run"),
        (["--model", "vit_x"], "model"),
        (["--checkpoint", "tiny", "--freeze", "decoder"], "a decoder that is drawn afresh has to learn"),
        (["--freeze", "prompt_encoder"], "a frozen prompt_encoder needs its weights"),
        (["--train-encoder", "--decoder", "pretrained"], "there are no weights to keep"),
        (["--init-from", "tiny", "--decoder", "scratch"], "--init-from goes on from all weights"),
        (["--init-from", ""], "--init-from is given, but empty"),
        (["--checkpoint", ""], "--checkpoint is given, but empty"),
        (["--embeddings", ""], "--embeddings is given, but empty"),
        (["--set", "batch=yes"], "key 'batch': expected a number"),
    ],
)
def test_wrong_arguments_end_in_one_line(shards, tmp_path, arguments, message):
    result = command("run", "--shards", shards, "--steps", 1, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "run" / "log.csv").exists()


def test_a_folder_that_is_no_dataset(tmp_path):
    result = command("run", "--shards", tmp_path, "--out", tmp_path / "run", "--train-encoder")
    assert result.exit_code == 2
    assert "manifest.json" in result.output


@pytest.mark.parametrize(
    "preset", sorted(str(path.relative_to(PRESETS).with_suffix("")) for path in PRESETS.rglob("*.yaml"))
)
def test_presets_are_valid(preset):
    assert load_config(preset).steps


@pytest.mark.parametrize("precision", ["32", "16", "bf16", "auto"])
def test_precision_is_taken_as_yaml_reads_it(tmp_path, precision):
    (tmp_path / "own.yaml").write_text(f"precision: {precision}\n")
    assert load_config("default", [f"precision={precision}"]).precision == precision
    assert load_config(str(tmp_path / "own.yaml")).precision == precision


def test_other_precisions_are_refused():
    with pytest.raises(InputError, match=r"precision.*'auto', '32', 'bf16' or '16'"):
        load_config("default", ["precision=64"])


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("prompts.groups=7", r"objects_per_image \(6\) must be at least prompts.groups \(7\)"),
        ("augment.zoom=[0,1]", r"augment.zoom.*greater than 0"),
        ("augment.zoom=[2,1]", r"augment.zoom.*rises from low to high"),
        ("augment.zoom=[1,.inf]", r"augment.zoom.*finite"),
        ("augment.coarseness=[0.5,2]", r"augment.coarseness.*greater than or equal to 1"),
        ("augment.coarseness=[3,2]", r"augment.coarseness.*rises from low to high"),
        ("optim.lr=.inf", r"optim.lr.*finite"),
        ("prompts.mix.point=.inf", r"prompts.mix.point.*finite"),
        ("stream.balance=.nan", r"stream.balance.*finite"),
        (f"seed={2**64}", r"seed.*less than"),
    ],
)
def test_settings_that_cannot_be_are_refused(override, wanted):
    with pytest.raises(InputError, match=wanted):
        load_config("default", [override])


@pytest.mark.parametrize("size", [0, -32, 16, 40])
def test_sizes_that_tiny_cannot_have_are_refused(size):
    with pytest.raises(InputError, match=f"multiple of 16 from 32, got {size}"):
        models.build("tiny", image_size=size)
