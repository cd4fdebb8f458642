"""Copying in the host's memory, by every way that is known to be the fastest somewhere.

Batches of one large array go to a buffer that is used again, as a reader's does; a buffer as large as the array gains
nothing. Each thread has its part of every batch, and none waits for the others at the end of a batch.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from ..threads import torch_threads
from .way import Setting, Way

Bytes = npt.NDArray[np.uint8]
Copy = Callable[[Bytes, Bytes], object]  # (target, source), each (byte,)


def memory_ways(threads: int, setting: Setting) -> Sequence[Way]:
    """GB/s of ``threads``: bytes count once, though they are read and written."""
    amount, opened = setting.amount, setting.opened
    opened.enter_context(torch_threads(1))  # of each of ours, which ask for it when they first copy
    pool = opened.enter_context(ThreadPoolExecutor(threads))
    source = np.ones((amount.batches, amount.batch * amount.image_bytes), dtype=np.uint8)
    target = np.zeros(source.shape[1], dtype=np.uint8)
    part = -(-len(target) // threads)

    def way(how: str, copy: Copy, block: int) -> Way:
        def work(times: int) -> int:
            passes = times * amount.passes * threads
            list(pool.map(partial(copy_part, source, target, copy, block, passes), *_bounds(len(target), threads)))
            return passes * source.size

        return Way(how=how, work=work, params={"threads": threads, "block_bytes": block})

    return (
        way("numpy, an image at a time", np.copyto, amount.image_bytes),
        way("numpy, a batch at a time", np.copyto, part),
        way("torch, a batch at a time", copy_by_torch, part),
        way("stores past the caches, a batch at a time", copy_past_caches, part),
    )


def copy_part(source: Bytes, target: Bytes, copy: Copy, block: int, passes: int, begin: int, end: int) -> None:
    """Copy the bytes from ``begin`` to ``end`` of all rows of ``source`` (row, byte), ``block`` at once."""
    for _ in range(passes):
        for row in source:
            for first in range(begin, end, block):
                last = min(first + block, end)
                copy(target[first:last], row[first:last])


def copy_by_torch(target: Bytes, source: Bytes) -> None:
    """As a tensor is copied."""
    import torch

    torch.from_numpy(target).copy_(torch.from_numpy(source))


def copy_past_caches(target: Bytes, source: Bytes) -> None:
    """As our reader writes a batch, as one record: with non-temporal stores, which need not read what they replace."""
    from sharding.gather import PAGE, gather

    unreadable, pages = np.zeros(1, dtype=np.bool_), np.empty(len(source) // PAGE + 2, dtype=np.uint8)
    address, count = np.uint64(target.ctypes.data), np.uint64(len(source))
    no_sums = np.empty(0, dtype=np.uint32)
    gather(np.array([source.ctypes.data], dtype=np.uint64), address, count, no_sums, unreadable, pages, False)
    if unreadable[0]:
        raise OSError("the kernel says that an array in memory cannot be read")


def _bounds(count: int, parts: int) -> tuple[list[int], list[int]]:
    edges = np.linspace(0, count, parts + 1).astype(int).tolist()
    return edges[:-1], edges[1:]
