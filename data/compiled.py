"""How this project compiles its kernels."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit

_compile = partial(njit, nogil=True, error_model="numpy")


def compiled(kernel: Callable[..., Any]) -> Any:
    """Compile a kernel at its first call and keep it in numba's cache; in memory where that has no place.

    Kernels are single-threaded and use no fast-math, so that the same input gives the same output whatever
    runs beside them; they release the interpreter lock.
    """
    try:
        return _compile(kernel, cache=True)
    except RuntimeError:  # neither the program's folder nor the user's own can be written
        return _compile(kernel)
