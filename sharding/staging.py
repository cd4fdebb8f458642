"""Read a dataset from a slow place while its shards are copied to a fast one: the disk or the memory of the node.

    torchrun --nproc-per-node 8 -m trainer pretrain --data /lustre/survey --out RUN --stage /scratch --stage-gb 500

Training starts at once. In the background the ranks of a node copy the first shards, as many as fit into 500 GB, once
for all of them and each verified; every record is read from the copy as soon as there is one. The copies stay for the
next job, which goes on where this one ended: remove the folder when they are no longer wanted. The limit is for this
dataset: copies of others, which lie beside, are not counted and not removed. A folder in /dev/shm stages to memory.
Order, pixels and checksums are the same as ever: only where bytes come from differs.

Whatever happens to the folder (it is full, not writable, its disk fails) is told in one warning, and the dataset is
read from where it was. A fault of the dataset itself is an error as always. How copies are made is copies.py's.
"""

import errno
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .copies import Copies
from .errors import DatasetError, one_line
from .manifest import Manifest
from .mapping import Bytes
from .storage import Checksums, Places, Storage, open_storage, read_range, shard_bytes

Told = Callable[[int, int], None]  # bytes that are staged, bytes that will be
_Read = Callable[[Places, Places, Bytes, Checksums | None], None]

_PIECE = 8 << 20  # bytes that are copied at a time: `close` waits for one
_LOOK_S = 1.0  # between two looks at what other processes have copied
_SOURCE, _COPY, _DISTRUSTED = 0, 1, 2  # where a shard is read: from the source; from its copy; the source, for good

_logger = logging.getLogger(__name__)


class StagedStorage:
    """A `Storage` that reads each shard of ``source`` from a copy below ``folder``, once it is there.

    ``told`` hears how far it is, from another thread, about once a second and at the end. A forked process reads the
    copies that there were, and makes none.
    """

    def __init__(self, source: Storage, manifest: Manifest, folder: Path, limit_bytes: int, told: Told) -> None:
        self._source = source
        self._stage = _Stage(source, manifest, folder, limit_bytes, told)
        self._stage.start(self)

    def read(self, shard: Places, offset: Places, out: Bytes, checksums: Checksums | None) -> None:
        """See `Storage`."""
        has_copy = self._stage.place[shard] == _COPY
        _read_rows(self._read_copies, has_copy, shard, offset, out, checksums)
        _read_rows(self._source.read, ~has_copy, shard, offset, out, checksums)

    def _read_copies(self, shard: Places, offset: Places, out: Bytes, checksums: Checksums | None) -> None:
        """The source instead where a copy cannot be read; one shard's fault is not another's."""
        try:
            self._stage.local.read(shard, offset, out, checksums)
        except DatasetError:
            numbers = np.unique(shard)
            if len(numbers) > 1:
                for number in numbers:
                    _read_rows(self._read_copies, shard == number, shard, offset, out, checksums)
                return
            self.distrust(int(numbers[0]))
            self._source.read(shard, offset, out, checksums)

    def distrust(self, shard: int) -> bool:
        """See `Storage`: a copy that is not as it was written is removed, and the source is read from now on."""
        place = self._stage.place
        if place[shard] == _SOURCE:
            return self._source.distrust(shard)
        if place[shard] == _COPY:
            place[shard] = _DISTRUSTED
            self._stage.copies.remove(shard)
            _logger.warning("%s: damaged, so removed; its source is read instead", self._stage.copies.path(shard))
        return True  # also to a thread that read the copy just before another one found it damaged

    def close(self) -> None:
        """See `Storage`: ends the copying, of which no partial file stays, then closes the source."""
        self._stage.close()
        self._source.close()


class _Stage:
    """The copies of this process and the thread that takes them in: its own, and those of other processes.

    ``place``, one byte a shard, is read and written whole: no lock, which a forked process might inherit as held.
    """

    def __init__(self, source: Storage, manifest: Manifest, folder: Path, limit_bytes: int, told: Told) -> None:
        self.copies = Copies(folder, manifest)
        self.local = open_storage(self.copies.folder, manifest, shards=())
        self.place = np.full(len(manifest.shards), _SOURCE, dtype=np.uint8)
        self._source, self._told = source, told
        self._sizes = np.array([shard_bytes(manifest, entry) for entry in manifest.shards], dtype=np.int64)
        self._missing = list(range(shards_within(self._sizes, limit_bytes)))
        self._total = int(self._sizes[: len(self._missing)].sum())
        if not self._missing:
            needed, limit = int(self._sizes[0]) / 1e9, limit_bytes / 1e9
            _logger.warning(
                "%s: nothing is staged: the first shard has %.3g GB, the limit is %.3g", folder, needed, limit
            )
        self._next_look_s = 0.0
        self._stop, self._pid = threading.Event(), os.getpid()

    def start(self, reader: StagedStorage) -> None:
        """Start the thread. It knows its reader weakly: one that nobody closed ends it when it is collected."""
        self._reader = weakref.ref(reader)
        self._thread = threading.Thread(target=self._run, name="stage")
        self._thread.start()

    def close(self) -> None:
        """End the thread and unmap what it took in."""
        if os.getpid() == self._pid:
            self._stop.set()
            self._thread.join()
        self.local.close()

    def _run(self) -> None:
        """Until all is there, nobody wants it, or the folder fails."""
        try:
            self.copies.prepare()
            self._look()
            while self._missing:
                for shard in list(self._missing):
                    self._check_wanted()
                    if shard in self._missing:  # nobody else has made it meanwhile
                        self._copy(shard)
                if self._missing:  # others are at these; should one die, they are free
                    self._stop.wait(_LOOK_S)
                    self._look()
        except _UnwantedError:
            pass
        except OSError as err:
            where = self.copies.folder
            _logger.warning("%s: no more is staged (%s); the rest is read from its source", where, err.strerror or err)

    def _copy(self, shard: int) -> None:
        """Make a copy, unless another process is at it. A shard whose source is damaged gets none."""
        try:
            if self.copies.make(shard, self._pieces(shard)):
                self._take([shard])
        except DatasetError as err:
            _logger.warning("%s; this shard is not staged", one_line(err))
            self._missing.remove(shard)

    def _pieces(self, shard: int) -> Iterator[Bytes]:
        """The bytes of a shard, each piece valid until the next; has an eye on other processes meanwhile."""
        size = int(self._sizes[shard])
        buffer = np.empty(min(size, _PIECE), dtype=np.uint8)
        for offset in range(0, size, _PIECE):
            self._check_wanted()
            if time.monotonic() >= self._next_look_s:
                self._look()
            piece = buffer[: size - offset]
            read_range(self._source, shard, offset, piece)
            yield piece

    def _look(self) -> None:
        """Take in what other processes, or earlier jobs, have made."""
        self._take([shard for shard in self._missing if self.copies.is_whole(shard)])
        self._next_look_s = time.monotonic() + _LOOK_S

    def _take(self, shards: list[int]) -> None:
        for shard in shards:
            try:
                self.local.hold(shard)
            except DatasetError as err:  # a fault of the folder, not of the dataset
                raise OSError(errno.EIO, one_line(err)) from err
            self.place[shard] = _COPY
            self._missing.remove(shard)
        self._told(int(self._sizes[self.place == _COPY].sum()), self._total)

    def _check_wanted(self) -> None:
        if self._stop.is_set() or self._reader() is None or not threading.main_thread().is_alive():
            raise _UnwantedError


class _UnwantedError(Exception):
    """Nobody will read what is being copied."""


def shards_within(sizes: npt.NDArray[np.int64], limit_bytes: int) -> int:
    """How many shards are staged: the first ones, as many as together fit into the limit."""
    return int(np.searchsorted(np.cumsum(sizes), limit_bytes, side="right"))


def _read_rows(
    read: _Read,
    chosen: npt.NDArray[np.bool_],
    shard: Places,
    offset: Places,
    out: Bytes,
    checksums: Checksums | None,
) -> None:
    """Read the chosen rows; by way of memory of their own, unless they are all."""
    rows = np.flatnonzero(chosen)  # numpy lets go of the interpreter lock for numbers of rows, not for a mask
    if len(rows) == len(chosen):
        read(shard, offset, out, checksums)
    elif len(rows):
        part = np.empty((len(rows), out.shape[1]), dtype=np.uint8)
        sums = None if checksums is None else np.empty(len(rows), dtype=np.uint32)
        read(shard[rows], offset[rows], part, sums)
        out[rows] = part
        if checksums is not None and sums is not None:
            checksums[rows] = sums
