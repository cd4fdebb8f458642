"""The physical limit of reading: copying the same bytes in memory, with as many threads.

Rows of one large array, in the reader's order, go to a batch that is used again; a checksum is taken right behind the
copy of a row, from the cache. Threads do not wait for each other at the end of a batch.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import numpy as np
import numpy.typing as npt

from sharding.crc32c import crc32c_rows

Bytes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Check = Callable[[Bytes], object]  # of one row: (1, byte)


def no_check(row: Bytes) -> None:
    """Copying alone."""


def by_google(row: Bytes) -> None:
    """The checksum by google_crc32c, which holds the interpreter lock meanwhile."""
    google_crc32c.value(row[0])


def by_ours(row: Bytes) -> None:
    """The checksum by `sharding.crc32c`, which does not."""
    crc32c_rows(row)


def copy_all(rows: Bytes, batches: Sequence[Indices], out: Bytes, threads: int, check: Check) -> int:
    """Copy batches of ``rows`` (n, byte) into ``out`` (batch, byte), each thread its part of all batches."""
    bounds = np.linspace(0, len(out), threads + 1).astype(int).tolist()

    def part(begin: int, end: int) -> None:
        for batch in batches:
            for place, index in enumerate(batch[begin:end].tolist(), start=begin):
                np.copyto(out[place], rows[index])
                check(out[place : place + 1])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, bounds[:-1], bounds[1:]))
    return sum(map(len, batches))
