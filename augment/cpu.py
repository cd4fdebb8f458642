"""The CPU op: rows of a plan rendered by compiled code, on as many threads as torch uses.

The threads are our own: numba's OpenMP layer dies after a fork, and its workqueue aborts when two threads use it. A
row is computed by one thread in one way, so its bits do not depend on their number, nor on the other rows.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .checks import check, check_places
from .kernels import render_rows
from .memory import memory_for

_LARGEST_PART = 8  # rows: half a ms, after which a thread sees that others have taken the rest
_PARTS_A_THREAD = 4


def render(
    stored: Tensor,
    objid: Tensor | None,
    step: Tensor | None,
    place: Tensor,
    affine: Tensor,
    gain: Tensor,
    taps: Tensor,
    noise_sigma: Tensor,
    noise_key: Tensor,
    size_px: int,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """The body of the operator on the CPU; what the arguments are is `checks`' to say.

    AugmentError where they do not fit together.
    """
    check(stored, objid, step, place, affine, gain, taps, noise_sigma, noise_key, size_px, dtype, channels_last)
    check_places(place, len(stored))
    rows, bands = gain.shape
    views = memory_for((rows, bands, size_px, size_px), dtype, channels_last)
    memory = (views.permute(0, 2, 3, 1) if channels_last else views).view(rows, bands * size_px**2)
    bits = dtype == torch.bfloat16
    arguments = (
        *_pixels(stored),
        stored.dtype == torch.float16,
        np.empty(0, np.int64) if objid is None else _array(objid),
        np.empty((0, bands), np.float32) if step is None else _array(step),
        tuple(stored.shape[2:]),
        *(_array(each) for each in (place, affine, gain, taps, noise_sigma, noise_key)),
        np.empty((0, memory.shape[1]), np.float32) if bits else memory.numpy(),
        memory.view(torch.int16).numpy().view(np.uint16) if bits else np.empty((0, memory.shape[1]), np.uint16),
        channels_last,
    )
    order = np.argsort(_array(place), kind="stable")  # views of a stamp side by side: it is still in the cache
    threads = torch.get_num_threads()
    part = min(_LARGEST_PART, max(1, -(-rows // (threads * _PARTS_A_THREAD))))
    parts = [order[start : start + part] for start in range(0, rows, part)]
    _share(lambda each: render_rows(each, *arguments), parts, threads)
    return views


def _pixels(stored: Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
    """(stamp, band, pixel) as float32 and as 16-bit words, one of the two without a stamp."""
    flat = _array(stored.flatten(2))
    none = (0, *flat.shape[1:])
    if stored.dtype == torch.float32:
        return flat, np.empty(none, np.uint16)
    return np.empty(none, np.float32), flat.view(np.uint16)


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().numpy())


def _share(work: Callable[[npt.NDArray[np.int64]], None], parts: list[npt.NDArray[np.int64]], threads: int) -> None:
    """``work`` on every part; a thread takes the next one when it is free, the calling thread too."""
    remaining = iter(parts)  # a list's iterator hands each item to one thread

    def take_parts() -> None:
        for part in remaining:
            work(part)

    helpers = [_helpers(threads - 1).submit(take_parts) for _ in range(min(threads, len(parts)) - 1)]
    take_parts()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun, behind another caller's, finds nothing left
            helper.result()


@functools.lru_cache(maxsize=1)
def _helpers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="augment")


if hasattr(os, "register_at_fork"):  # threads do not follow into a forked process
    os.register_at_fork(after_in_child=_helpers.cache_clear)
