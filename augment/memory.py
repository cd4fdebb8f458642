"""Memory of views on the host, used again when nobody holds them any more.

A batch of views is tens of megabytes. Given back to the system and asked for anew for every batch, they are made page
by page, of zeros: a tenth of the time on one thread, a third on two, which wait for each other there.
"""

import math
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_free: deque[npt.NDArray[np.uint8]] = deque(maxlen=4)  # its methods are atomic: threads need no lock


def memory_for(shape: tuple[int, int, int, int], dtype: torch.dtype, channels_last: bool) -> Tensor:
    """A tensor of any content, contiguous or channels-last; its memory comes back here when its last view dies."""
    size = math.prod(shape) * dtype.itemsize
    block = _one_of(size)
    lent = block[:]  # the tensors hold this, and nothing else does
    weakref.finalize(lent, _free.append, block).atexit = False
    order = torch.channels_last if channels_last else torch.contiguous_format
    strides = torch.empty(shape, device="meta", memory_format=order).stride()
    return torch.empty(0, dtype=dtype).set_(torch.from_numpy(lent).untyped_storage(), 0, shape, strides)


def _one_of(size: int) -> npt.NDArray[np.uint8]:
    """A block that is free, if it has this very size; others are let go, for batches are mostly of one size."""
    try:
        block = _free.popleft()
    except IndexError:
        return np.empty(size, np.uint8)
    return block if len(block) == size else np.empty(size, np.uint8)
