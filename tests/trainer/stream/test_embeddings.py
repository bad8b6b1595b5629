"""The embedding cache: what the encoder says of each image, kept in files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from synthfm.data.console import Failed, InputError
from synthfm.data.files import locked
from synthfm.data.folder import read_manifest
from synthfm.trainer.model import look, models
from synthfm.trainer.run import loop, state
from synthfm.trainer.stream import embeddings
from tests.support.ellipses import write_dataset
from tests.support.runs import command


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("cache") / "a", num=10, size=32, per_shard=5)


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


def test_a_cache_holds_no_more_files_open_than_the_window(sam, shards, tmp_path):
    embeddings.embed(sam, [shards], tmp_path, progress=False)
    cache = embeddings.Cache(tmp_path, embeddings.encoder_hash(sam), [shards], window=1)
    for path in sorted(shards.glob("*.h5")) * 2:
        cache.read(path, 0)
        assert len(cache._open) == 1


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


def test_inputs_are_known_by_the_first_digits_of_their_hash(checkpoint, shards):
    described = state.describe(loop.Inputs((str(shards),), checkpoint=str(checkpoint)))
    manifest, weights_ = (
        hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in (shards / "manifest.json", checkpoint)
    )
    assert described["shards"] == [[str(shards), manifest]]
    assert described["checkpoint"] == [str(checkpoint), weights_]


def _without_the_encoder(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["encoder"]


def _of_fewer(path):
    with h5py.File(path, "r+") as file:
        file.attrs["count"] = 7


def _linked(path):
    with h5py.File(path, "r+") as file:
        file.move("features", "there")
        file["features"] = h5py.SoftLink("/there")


SPOILED = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "a text": lambda path: path.write_text("no cache\n" * 100),
    "without the encoder": _without_the_encoder,
    "of fewer images": _of_fewer,
    "a link": _linked,
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_cache_that_is_cut_or_foreign_is_one_line(how, sam, checkpoint, shards, tmp_path):
    embeddings.embed(sam, [shards], tmp_path, progress=False)
    path = min(tmp_path.glob("*.h5"))
    SPOILED[how](path)
    result = command("embed", "--shards", shards, "--checkpoint", checkpoint, "--out", tmp_path)
    assert result.exit_code == 2
    assert f"Error: {path}: " in result.output
    with pytest.raises(InputError, match=path.name):
        embeddings.Cache(tmp_path, embeddings.encoder_hash(sam), [shards])


def test_embeddings_that_are_no_numbers_are_not_kept(sam, shards, tmp_path, monkeypatch):
    encode = look.encode
    monkeypatch.setattr(look, "encode", lambda *args: 1e6 * encode(*args))  # beyond half precision
    with pytest.raises(Failed, match="its embeddings are NaN, or beyond the range of half precision"):
        embeddings.embed(sam, [shards], tmp_path, progress=False)
    assert not any(tmp_path.glob("*.h5*"))
