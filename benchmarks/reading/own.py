"""Our reader, as the read benchmark runs it: from mapped files, by plain reads or from a URL."""

import importlib
import itertools
import multiprocessing
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sharding import Dataset
from sharding.samples import open_samples
from sharding.storage import FileStorage, open_storage

if TYPE_CHECKING:
    from sharding.reader import Batch

Indices = npt.NDArray[np.int64]

_BUFFERS = 3  # of a reader: one in use, the others read ahead
_AHEAD = _BUFFERS - 1
_READ_AHEAD_S = 0.05  # several times what reading two batches takes
_STATUS = Path("/proc/self/status")


def open_for_plain_reads(folder: Path) -> Dataset:
    """The dataset, read as on a network file system."""
    with Dataset.open(folder) as mapped:
        manifest = mapped.manifest
    return Dataset(folder, manifest, open_samples(folder, manifest), FileStorage(folder, manifest))


class OwnReader:
    """A reader of some batches, timed as in the middle of an epoch: its buffers are there, and it has read ahead.

    ``anew`` has it map the shards again before each pass, ``decoded`` makes pixels of what is stored, in the thread
    that takes the batches. The batches are all that is read while the clock runs: others are read ahead before it.
    """

    def __init__(
        self,
        dataset: Dataset,
        batches: Sequence[Indices],
        threads: int,
        *,
        check: bool = True,
        anew: bool = False,
        decoded: bool = False,
        device: str = "cpu",
    ) -> None:
        import torch

        from sharding.reader import Reader

        self._dataset, self._batches, self._anew, self._decoded = dataset, batches, anew, decoded
        self._reader = Reader(dataset, torch.device(device), threads=threads, check=check)
        self._under_way: Iterator[Batch] = iter(())

    def begin(self) -> None:
        """Begin a pass, and wait until it has read ahead."""
        if self._anew:
            self._dataset.storage.close()
            self._dataset.storage = open_storage(self._dataset.path, self._dataset.manifest)
        first = itertools.repeat(self._batches[0], _BUFFERS + _AHEAD)
        self._under_way = self._reader.batches(itertools.chain(first, self._batches))
        for _ in range(_BUFFERS):
            next(self._under_way)
        time.sleep(_READ_AHEAD_S)

    def finish(self) -> int:
        """Read the batches; gives the number of images."""
        for _ in range(_AHEAD):
            next(self._under_way)
        return sum(len(batch.pixels() if self._decoded else batch.stored) for batch in self._under_way)


def read_once(dataset: Dataset, batches: Iterable[Indices], threads: int) -> int:
    """All batches, from the beginning; gives the number of images."""
    import torch

    from sharding.reader import Reader

    reader = Reader(dataset, torch.device("cpu"), threads=threads)
    return sum(len(batch.stored) for batch in reader.batches(batches))


def can_tell_memory() -> bool:
    """Whether this system tells a process's own memory."""
    return _STATUS.exists()


def anonymous_growth_mb(location: Path | str, batches: Sequence[Indices], threads: int) -> float:
    """By how much a process's own memory grows from before the dataset is opened to the end of a pass [MB]."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_anonymous_growth_mb, location, batches, threads).result()


def _anonymous_growth_mb(location: Path | str, batches: Sequence[Indices], threads: int) -> float:
    importlib.import_module("sharding.reader")  # the memory of torch and compiled code is not the reader's
    before, most = _anonymous_bytes(), 0

    def watched() -> Iterable[Indices]:
        nonlocal most
        for batch in batches:
            yield batch
            most = max(most, _anonymous_bytes())

    with Dataset.open(location) as dataset:
        read_once(dataset, watched(), threads)
        most = max(most, _anonymous_bytes())
    return (most - before) / 1e6


def _anonymous_bytes() -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])
