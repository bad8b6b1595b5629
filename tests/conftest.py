"""Which tests run: `--quick` chooses by what each took the last time; those marked long want `--long`."""

from __future__ import annotations

import time

import pytest

from tests.support import orphans

QUICK = 80
"""Seconds that the tests of --quick may take together, from the first one on; on a starved machine longer,
until they have had half of that of a processor."""
SLOW = 3
"""Seconds: what took longer the last time is left out of --quick."""
DURATIONS = "synthfm/durations"


def pytest_addoption(parser):
    parser.addoption(
        "--quick", action="store_true", help=f"the tests that were fastest so far, for {QUICK} seconds"
    )
    parser.addoption("--long", action="store_true", help="also the tests of hours: tests/reliability")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes many minutes; run with --long, as `make test-long` does")
    orphans.end_with_this_process()
    config.durations = {}
    if config.pluginmanager.hasplugin("dsession"):
        config.pluginmanager.register(Several)


def pytest_collection_modifyitems(config, items):
    """Without what is long; with --quick: files of short tests first, without those known to be slow."""
    if not config.option.long:
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]
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
    config.quick_until = time.monotonic() + QUICK, time.process_time() + QUICK / 2


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if not item.config.option.quick:
        return
    wall, processor = item.config.quick_until
    if time.monotonic() > wall and time.process_time() > processor:
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
