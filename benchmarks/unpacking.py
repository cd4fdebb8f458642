"""The physical limit of ingest: unpacking the same frames with indexed_bzip2, and nothing else."""

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

    def seconds(self, paths: Sequence[Path]) -> float:
        """How long the processes take for all of ``paths``."""
        began = perf_counter()
        list(self._pool.map(unpack, paths))
        return perf_counter() - began


@contextmanager
def unpackers(processes: int, warm_up: Sequence[Path]) -> Iterator[Unpackers]:
    """Start so many processes; they are warm once ``warm_up``, at least as many files, is unpacked."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = Unpackers(pool)
        found.seconds(warm_up)
        yield found
