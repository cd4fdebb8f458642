"""Unpacking frames with indexed_bzip2 in processes, and nothing else: the physical limit of ingest."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter


def unpack(path: Path) -> int:
    """Unpack a frame on one core and forget it; returns how many bytes it had."""
    import indexed_bzip2

    # Left open, its object aborts the interpreter at the end.
    with indexed_bzip2.open(str(path), parallelization=1) as file:
        return len(file.read())


class Unpackers:
    """Processes that unpack. Made by `unpackers`."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def unpack(self, paths: Sequence[Path]) -> int:
        """Unpack and forget all of ``paths``; returns how many bytes they had."""
        return sum(self._pool.map(unpack, paths))

    def seconds(self, paths: Sequence[Path]) -> float:
        """How long the processes take for all of ``paths``."""
        began = perf_counter()
        self.unpack(paths)
        return perf_counter() - began


@contextmanager
def unpackers(processes: int, warm_up: Sequence[Path]) -> Iterator[Unpackers]:
    """Start so many processes; they are warm once ``warm_up``, at least as many files, is unpacked."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = Unpackers(pool)
        found.unpack(warm_up)
        yield found
