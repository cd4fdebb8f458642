"""How kernels are compiled: without the interpreter lock, and kept on disk for the next process where that can be."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel at its first call; in a checkout and a home that cannot be written, in every process anew."""
    try:
        return njit(nogil=True, cache=True)(kernel)  # type: ignore[no-any-return]
    except RuntimeError:  # numba finds no folder to keep it in
        return njit(nogil=True)(kernel)  # type: ignore[no-any-return]
