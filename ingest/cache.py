"""A bounded folder of whole files that all processes of a node share, and the node's cap on open connections.

Every lock is a flock, which the kernel takes back when a process dies, however it dies. So the folder must be on a
local disk: over a network file system a flock may exclude less than it says. Knows bytes and keys, nothing of frames.
"""

import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import google_crc32c

from .errors import IngestError

_HEADER = struct.Struct("<8sQI")  # magic, bytes of content, CRC32C of content; then the content
_MAGIC = b"skymill1"
_KEEP = 0.9  # of the limit, when files must go: so that not every store has to look at every file
_POLL_S = 0.02


def default_folder() -> Path:
    """The user's own folder below the temporary one; IngestError where it is somebody else's."""
    folder = Path(tempfile.gettempdir(), f"skymill-frames-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():  # who owns it decides what is in a frame
        raise IngestError(f"{folder}: expected a folder of your own, got another user's; choose one with --cache")
    return folder


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold the lock of this file, against processes and threads alike; gives its descriptor."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


class Slots:
    """At most ``count`` holders at a time over all processes that use ``folder``."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder / "slots"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._count = count

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a free slot and hold it."""
        with locked(self._folder / "turn"):  # one waiter polls, the others sleep in the kernel, in order
            handle = self._wait()
        try:
            yield
        finally:
            os.close(handle)

    def _wait(self) -> int:
        while True:
            for number in range(self._count):
                handle = self._try(self._folder / f"{number:04d}")
                if handle is not None:
                    return handle
            time.sleep(_POLL_S)

    @staticmethod
    def _try(path: Path) -> int | None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return handle


class FileCache:
    """Files by key, at most ``limit_bytes`` in all; the least recently used go first.

    A key is a file name. A file appears whole or not at all, and what is read is checked by size and CRC32C.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._files, self._locks = folder / "files", folder / "locks"
        self._ledger = folder / "bytes"  # how many there are, at least; its lock guards every change of the files
        self._partial = folder / "partial"
        self._limit = limit_bytes
        for each in (self._files, self._locks):
            each.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Keep others from this key. Take no second one: keys share 4096 locks."""
        with locked(self._locks / sha256(key.encode()).hexdigest()[:3]):
            yield

    def holds(self, key: str) -> bool:
        """Whether there is such a file; it is not looked into."""
        return (self._files / key).exists()

    def read(self, key: str) -> bytes | None:
        """The content, or None where there is none; a damaged file counts as none and is removed."""
        path = self._files / key
        try:
            with path.open("rb") as file:
                header, content = file.read(_HEADER.size), file.read()
        except FileNotFoundError:
            return None
        if header != _header(content):
            self.drop(key)
            return None
        now = time.time_ns()
        with suppress(FileNotFoundError):  # another process may have removed it meanwhile
            os.utime(path, ns=(now, now))
        return content

    def store(self, key: str, content: bytes) -> None:
        """Keep the content, unless it alone is above the limit; OSError where the disk is full."""
        size = _HEADER.size + len(content)
        if size > self._limit:
            return
        with locked(self._ledger) as handle:
            total = _read_number(handle)
            if total is None or total + size > self._limit:
                total = self._make_room(size)
            _write_number(handle, total + size)  # first: dying here, it says too much, which the next count mends
            self._publish(key, content)

    def drop(self, key: str) -> None:
        """Remove a file, if it is there."""
        (self._files / key).unlink(missing_ok=True)

    def _publish(self, key: str, content: bytes) -> None:
        """Under the ledger's lock there is one writer: a partial file that a dead one left is overwritten."""
        try:
            with self._partial.open("wb") as file:
                file.write(_header(content))
                file.write(content)
            self._partial.replace(self._files / key)
        except OSError as err:
            self._partial.unlink(missing_ok=True)
            text = f"{err.strerror} (cache of fetched frames: make room, or choose another --cache)"
            raise OSError(err.errno, text, str(self._files)) from err

    def _make_room(self, size: int) -> int:
        """Count the files and remove the oldest so that ``size`` fits; the bytes that stay."""
        found = []
        for entry in os.scandir(self._files):
            with suppress(FileNotFoundError):
                stat = entry.stat()
                found.append((stat.st_mtime_ns, entry.name, stat.st_size))
        total = sum(each for _, _, each in found)
        if total + size <= self._limit:
            return total
        for _, name, each in sorted(found):
            if total + size <= self._limit * _KEEP:
                break
            self.drop(name)
            total -= each
        return total


def _header(content: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, len(content), google_crc32c.value(content))


def _read_number(handle: int) -> int | None:
    text = os.pread(handle, 32, 0)
    return int(text) if text.isdigit() else None


def _write_number(handle: int, number: int) -> None:
    os.pwrite(handle, b"%020d" % number, 0)  # always as long: an old number is wholly overwritten
