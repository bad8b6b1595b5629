"""The kernels are compiled once, before the workers start, which find them in numba's cache."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

from synthfm.data.compiled import compiling, kept
from synthfm.generator.config import GeneratorConfig
from synthfm.generator.scene import make_sample
from synthfm.generator.volume import make_volume

SMALL = 64
"""Side in pixels of the samples that are drawn for it: kernels are the same for every size."""
PATIENCE = 60
"""How often a small volume may ask whether to go on: some ten scenes."""
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

    def few() -> Callable[[], None]:
        asked = itertools.count()

        def between() -> None:  # a volume asks at each slice
            if next(asked) > PATIENCE:
                raise _NothingSeen

        return between

    small = config.model_copy(update={"size": min(config.size, SMALL)})
    if config.makes_volumes:  # as deep as needs be for slices to have neighbours
        thin = config.volume.model_copy(update={"depth": (3, 3)})
        small = small.model_copy(update={"volume": thin})
    alike = 0
    with compiling(shown) as done:
        for index in range(most):
            before = done.count
            with contextlib.suppress(_NothingSeen):
                if config.makes_volumes:
                    make_volume(small, root_seed, index, between=few())
                else:
                    make_sample(small, root_seed, index, once)
            alike = alike + 1 if done.count == before else 0
            if alike == ALIKE:
                return
