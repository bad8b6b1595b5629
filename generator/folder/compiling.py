"""The kernels are compiled once, before the workers start, which find them in numba's cache."""

from __future__ import annotations

import contextlib

from synthfm.data.compiled import compiling, kept
from synthfm.generator.config import GeneratorConfig
from synthfm.generator.scene import make_sample

SMALL = 64
"""Side in pixels of the samples that are drawn for it: kernels are the same for every size."""
ALIKE = 12
"""So many in a row that need nothing new are the end of it."""


class _NothingSeen(Exception):
    pass


def compile_kernels(config: GeneratorConfig, root_seed: int, most: int, shown: bool) -> None:
    """Have numba compile what the samples of a dataset need, by drawing its first ones, but small.

    What a rare kind of sample alone needs is left to the worker that meets it. Where numba has no place to
    keep what it compiles nothing is done: every process has to compile for itself.

    Parameters
    ----------
    config, root_seed
        The dataset's.
    most
        Most samples that are drawn, 0 for a dataset that is there already.
    shown
        Whether to say on standard error that something is compiled, and how long it took.
    """
    if not kept():
        return

    def once() -> None:  # a small image may show nothing where a large one does
        raise _NothingSeen

    small = config.model_copy(update={"size": min(config.size, SMALL)})
    alike = 0
    with compiling(shown) as done:
        for index in range(most):
            before = done.count
            with contextlib.suppress(_NothingSeen):
                make_sample(small, root_seed, index, once)
            alike = alike + 1 if done.count == before else 0
            if alike == ALIKE:
                return
