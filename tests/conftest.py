"""Fixtures of several test modules. The trainer's need PyTorch, which the generator's tests do without."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def one_thread():
    """Small tensors: threads cost more than they bring, above all beside other test processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A dataset folder of 16 images of 32 pixels."""
    from trainer_data import write_dataset

    return str(write_dataset(tmp_path_factory.mktemp("loop") / "a", num=16, size=32))


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory):
    """The folder of a run of `trainer_runs.CONFIG` on `shards`, to its end."""
    from trainer_runs import CONFIG, run

    out = tmp_path_factory.mktemp("run") / "a"
    run(CONFIG, shards, out)
    return out
