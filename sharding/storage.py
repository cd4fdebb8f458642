"""Where the bytes of shards are taken from: one face for mapped files, files on a network, and object stores.

A storage knows files, places and bytes. Which sample lies where, and whether a checksum is right, is `Dataset`'s. All
of it may be used by several threads at once.
"""

import os
import resource
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .errors import DatasetError
from .manifest import Manifest, ShardEntry
from .mapping import Bytes, map_file
from .records import file_bytes

Places = npt.NDArray[np.int64]
Checksums = npt.NDArray[np.uint32]

_MOUNTS = Path("/proc/self/mounts")
_LOCAL = frozenset(("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"))
_OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4  # at a time, of those that a process may have
_NOWHERE = np.uint64(1 << 62)  # an address that no process has: a shard that is not held cannot be read
_ROW = 1 << 20  # bytes of a row of `read_range`


class Storage(Protocol):
    """The files of a dataset's shards."""

    def read(self, shard: Places, offset: Places, out: Bytes, checksums: Checksums | None) -> None:
        """Fill row i of ``out`` (n, byte) from ``offset[i]`` of shard number ``shard[i]``, and its CRC32C if wanted.

        DatasetError, in one line, where the bytes cannot be read.
        """

    def distrust(self, shard: int) -> bool:
        """A record of this shard was not as it was written: whether it will be read from elsewhere from now on."""

    def close(self) -> None:
        """Give back what is open; nothing may be read after it."""


class FolderStorage(Storage, Protocol):
    """Shards in a folder, not all of which need be there from the beginning."""

    def hold(self, shard: int) -> None:
        """Take in a shard that has come; DatasetError where it is missing or of another size than its samples take.

        One thread at a time may call it, while any number of others read.
        """


def open_storage(folder: Path, manifest: Manifest, shards: Iterable[int] | None = None) -> FolderStorage:
    """Mapped files where their file system is local, else plain reads; holds ``shards``, or all of them.

    DatasetError where one of these is missing or of a wrong size.
    """
    if _file_system(folder) in _LOCAL and can_populate():
        return MappedStorage(folder, manifest, shards)
    return FileStorage(folder, manifest, shards)


def read_range(storage: Storage, shard: int, offset: int, out: Bytes) -> None:
    """Fill ``out`` (byte,) from one place of a shard, in rows: an object store sends them side by side."""
    whole = len(out) // _ROW * _ROW
    for part, row, begin in ((out[:whole], _ROW, offset), (out[whole:], len(out) - whole, offset + whole)):
        if len(part):
            rows = part.reshape(-1, row)
            storage.read(np.full(len(rows), shard), begin + row * np.arange(len(rows)), rows, None)


class MappedStorage:
    """Shards mapped into memory: a record is copied once, from the page cache into the batch."""

    def __init__(self, folder: Path, manifest: Manifest, shards: Iterable[int] | None = None) -> None:
        self._folder, self._manifest = folder, manifest
        count = len(manifest.shards)
        maps: list[Bytes] = []
        self._mapped = maps, np.full(count, _NOWHERE)
        self._cold = True  # until a read shows that all was in memory
        self._tells = True  # until a file is held of which the kernel does not say what is in memory
        for shard in range(count) if shards is None else shards:
            self.hold(shard)

    def hold(self, shard: int) -> None:
        """See `FolderStorage`."""
        from .gather import tells_residence

        entry = self._manifest.shards[shard]
        maps, address = self._mapped
        maps.append(map_file(self._folder / entry.name, shard_bytes(self._manifest, entry)))
        self._tells = self._tells and tells_residence(maps[-1])
        address[shard] = maps[-1].ctypes.data

    def read(self, shard: Places, offset: Places, out: Bytes, checksums: Checksums | None) -> None:
        """See `Storage`."""
        from .gather import PAGE, gather

        unreadable = np.zeros(len(out), dtype=bool)
        sums = np.empty(0, dtype=np.uint32) if checksums is None else checksums
        maps, address = self._mapped  # held here: what another thread closes meanwhile stays mapped
        sources = address[shard] + offset.astype(np.uint64)
        pages = np.empty(out.shape[1] // PAGE + 2 if self._tells else 0, dtype=np.uint8)
        before = _blocks_read()
        gather(sources, np.uint64(out.ctypes.data), np.uint64(out.shape[1]), sums, unreadable, pages, self._cold)
        self._cold = _blocks_read() > before
        del maps
        if unreadable.any():
            path = self._folder / self._manifest.shards[int(shard[unreadable.argmax()])].name
            raise DatasetError(f"{path}: cannot be read: cut short or its disk fails; verify it, then ingest again")

    def distrust(self, shard: int) -> bool:
        """See `Storage`: there is no other place."""
        return False

    def close(self) -> None:
        """See `Storage`: a file is unmapped when no thread reads it any more."""
        self._mapped = [], self._mapped[1][:0]


class FileStorage:
    """Plain reads at a place: over a network an error of the server is an exception, where a mapping is killed."""

    def __init__(self, folder: Path, manifest: Manifest, shards: Iterable[int] | None = None) -> None:
        self._manifest = manifest
        self._paths = [folder / entry.name for entry in manifest.shards]
        self._open: OrderedDict[int, _File] = OrderedDict()
        for shard in range(len(manifest.shards)) if shards is None else shards:
            self.hold(shard)

    def hold(self, shard: int) -> None:
        """See `FolderStorage`."""
        path, expected = self._paths[shard], shard_bytes(self._manifest, self._manifest.shards[shard])
        try:
            actual = path.stat().st_size
        except OSError as err:
            raise DatasetError(f"{path}: cannot be read ({err.strerror}); is the dataset whole?") from err
        if actual != expected:
            raise DatasetError(f"{path}: expected {expected} bytes, got {actual}; verify it, then ingest again")

    def read(self, shard: Places, offset: Places, out: Bytes, checksums: Checksums | None) -> None:
        """See `Storage`."""
        from .crc32c import crc32c_rows

        for row, (number, begin) in enumerate(zip(shard.tolist(), offset.tolist(), strict=True)):
            path = self._paths[number]
            try:
                self._file(number).fill(memoryview(out[row]), begin)
            except OSError as err:
                raise DatasetError(f"{path}: cannot be read ({err.strerror}); verify it, then ingest again") from err
            if checksums is not None:
                checksums[row] = crc32c_rows(out[row : row + 1])[0]

    def _file(self, number: int) -> "_File":
        """Without a lock, which a forked process may inherit as held: at worst two threads open the same file."""
        found = self._open.pop(number, None) or _File(os.open(self._paths[number], os.O_RDONLY | os.O_CLOEXEC))
        self._open[number] = found
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)
        return found

    def distrust(self, shard: int) -> bool:
        """See `Storage`: there is no other place."""
        return False

    def close(self) -> None:
        """See `Storage`."""
        self._open.clear()


class _File:
    """An open file; closed when the last thread that uses it lets go."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fill(self, out: memoryview, offset: int) -> None:
        """Fill all of ``out``; OSError where the file ends before."""
        while len(out):
            count = os.preadv(self._descriptor, [out], offset)
            if not count:
                raise OSError(0, "cut short")
            out, offset = out[count:], offset + count

    def __del__(self) -> None:
        os.close(self._descriptor)


def can_populate() -> bool:
    """Whether this kernel says of a mapped page that it cannot be read, instead of ending the process."""
    from .gather import PAGE, POPULATE_READ, advise

    page = np.empty(2 * PAGE, dtype=np.uint8)
    return bool(advise(np.uint64(page.ctypes.data), np.uint64(PAGE), POPULATE_READ))


def shard_bytes(manifest: Manifest, entry: ShardEntry) -> int:
    """Size of a shard's file, by what its samples take."""
    return file_bytes(manifest.records(entry), entry.samples)


def _file_system(folder: Path) -> str:
    """The kind of file system of this folder, made or not, as /proc/self/mounts calls it; "" where it is not known."""
    try:
        lines = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    mounted = {line.split()[1].replace("\\040", " "): line.split()[2] for line in lines}
    resolved = Path(os.path.realpath(folder))
    return next((mounted[str(path)] for path in (resolved, *resolved.parents) if str(path) in mounted), "")


def _blocks_read() -> int:
    """How many blocks this thread has had the kernel read from a disk."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock
