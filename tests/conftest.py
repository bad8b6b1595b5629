"""Fixtures of several test modules. Most need PyTorch, which the generator's tests do without."""

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


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    """What the page asks."""
    from evaluation_cases import random_tiny

    from evaluation.methods import build

    weights = random_tiny(tmp_path_factory.mktemp("app") / "rand.pth")
    specs = (f"rand=checkpoint:{weights}", f"zoom:{weights}", "ellipse", "grabcut", "chan_vese")
    return [build(spec) for spec in specs]


@pytest.fixture
def library(tmp_path):
    """What the page shows."""
    from evaluation_cases import disc_folder

    from evaluation.app.pictures import Dataset, Library
    from evaluation.session import load_datasets

    root, descriptor = disc_folder(tmp_path / "sets")
    return Library([Dataset(item, root, 3) for item in load_datasets([str(descriptor)], root)])


@pytest.fixture
def sent(tmp_path):
    """Where the page's server keeps what is sent to it."""
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder
