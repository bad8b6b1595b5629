"""What several of the trainer's tests start from."""

from __future__ import annotations

import pytest
import torch

from synthfm.trainer.model import models
from tests.support.ellipses import write_dataset
from tests.support.runs import CONFIG, run


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors: threads cost more than they bring, above all beside other test processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A dataset folder of 16 images of 32 pixels."""
    return str(write_dataset(tmp_path_factory.mktemp("loop") / "a", num=16, size=32))


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory):
    """The folder of a run of `CONFIG` on `shards`, to its end."""
    out = tmp_path_factory.mktemp("run") / "a"
    run(CONFIG, shards, out)
    return out


@pytest.fixture(scope="module")
def sam():
    """The smallest model there is."""
    return models.build("tiny", image_size=64)


@pytest.fixture(scope="module")
def checkpoint(sam, tmp_path_factory):
    """A file of `sam`."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    models.export(sam, path)
    return path
