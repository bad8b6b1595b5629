"""Fixtures of several test modules. Most need PyTorch, which the generator's tests do without."""

from __future__ import annotations

import time

import pytest

QUICK = 100
"""Seconds that the tests of --quick may take together, the import of packages included."""
SLOW = 3
"""Seconds: what took longer the last time is left out of --quick."""
DURATIONS = "synthfm/durations"


def pytest_addoption(parser):
    parser.addoption(
        "--quick", action="store_true", help="the tests that were fastest so far, for 100 seconds"
    )


def pytest_configure(config):
    config.began = time.monotonic()
    config.durations = {}
    if config.pluginmanager.hasplugin("dsession"):
        config.pluginmanager.register(Several)


def pytest_collection_modifyitems(config, items):
    """With --quick: files of short tests first, without the tests known to be slow."""
    if not config.option.quick:
        return
    known = config.cache.get(DURATIONS, {})
    slow = [item for item in items if known.get(item.nodeid, 0) > SLOW]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if known.get(item.nodeid, 0) <= SLOW]
    times: dict[str, list[float]] = {}
    for item in items:
        times.setdefault(item.path, []).append(known.get(item.nodeid, SLOW))
    items.sort(key=lambda item: sum(times[item.path]) / len(times[item.path]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.config.option.quick and time.monotonic() - item.config.began > QUICK:
        pytest.skip(f"--quick ends after {QUICK} seconds")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if not report.skipped:
        durations = item.config.durations
        durations[item.nodeid] = durations.get(item.nodeid, 0) + call.duration
    return report


def pytest_sessionfinish(session):
    """What each test took is kept in pytest's own cache, beside what it took before."""
    config = session.config
    if hasattr(config, "workeroutput"):  # one of several processes: the one that started them keeps it
        config.workeroutput[DURATIONS] = config.durations
    elif config.durations and getattr(config, "cache", None) is not None:
        config.cache.set(DURATIONS, {**config.cache.get(DURATIONS, {}), **config.durations})


class Several:
    """Of pytest-xdist, which is not there in every environment."""

    @staticmethod
    def pytest_testnodedown(node, error):
        node.config.durations.update(getattr(node, "workeroutput", {}).get(DURATIONS, {}))


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

    from synthfm.evaluation.methods.registry import build

    weights = random_tiny(tmp_path_factory.mktemp("app") / "rand.pth")
    specs = (f"rand=checkpoint:{weights}", f"zoom:{weights}", "ellipse", "grabcut", "chan_vese")
    return [build(spec) for spec in specs]


@pytest.fixture
def library(tmp_path):
    """What the page shows."""
    from evaluation_cases import disc_folder

    from synthfm.evaluation.interactive.page.pictures import Dataset, Library
    from synthfm.evaluation.session import load_datasets

    root, descriptor = disc_folder(tmp_path / "sets")
    return Library([Dataset(item, root, 3) for item in load_datasets([str(descriptor)], root)])


@pytest.fixture
def sent(tmp_path):
    """Where the page's server keeps what is sent to it."""
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder
