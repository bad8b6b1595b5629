"""What the page's tests start from."""

from __future__ import annotations

import pytest

from synthfm.evaluation.interactive.page.pictures import Dataset, Library
from synthfm.evaluation.methods.registry import build
from synthfm.evaluation.session import load_datasets
from tests.support.cases import disc_folder, random_tiny


@pytest.fixture(scope="module")
def methods(tmp_path_factory):
    """What the page asks."""
    weights = random_tiny(tmp_path_factory.mktemp("app") / "rand.pth")
    specs = (f"rand=checkpoint:{weights}", f"zoom:{weights}", "ellipse", "grabcut", "chan_vese")
    return [build(spec) for spec in specs]


@pytest.fixture
def library(tmp_path):
    """What the page shows."""
    root, descriptor = disc_folder(tmp_path / "sets")
    return Library([Dataset(item, root, 3) for item in load_datasets([str(descriptor)], root)])


@pytest.fixture
def sent(tmp_path):
    """Where the page's server keeps what is sent to it."""
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder
