"""How this project compiles its kernels."""

from numba import njit

compiled = njit(cache=True, nogil=True, error_model="numpy")
"""Compile a kernel at its first call and keep it in the cache beside the source.

Kernels are single-threaded and use no fast-math, so that the same input gives the same output whatever runs
beside them; they release the interpreter lock.
"""
