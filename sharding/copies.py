"""Whole, verified copies of a dataset's shards in a folder that the processes of a node share.

Knows files: how several processes make each copy once, and what dead ones left behind. When copies are made, and who
reads them, is staging.py's. A copy grows in a partial file beside its name, under that file's flock, which the kernel
takes back when a process dies, however it dies. So the folder must be on a disk, or in the memory, of the node itself:
over a network file system a flock may exclude less than it says.
"""

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .atomic import flush_folder
from .errors import DatasetError
from .manifest import MANIFEST, Manifest
from .mapping import Bytes
from .storage import shard_bytes

_PARTIAL = ".partial"
_NAME = re.compile(r"[0-9a-f]{16}")  # of a dataset's folder

_locked: set[int] = set()  # descriptors; a forked process shares their locks, and would keep them when this one dies


def _let_go() -> None:
    while _locked:
        os.close(_locked.pop())


os.register_at_fork(after_in_child=_let_go)


class Copies:
    """Copies of shards below ``folder``/DIGEST/, under the names that they have in the dataset.

    DIGEST is the first 16 hexadecimal digits of the manifest's: datasets do not meet. OSError is any fault of the disk.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder / manifest.digest[:16]
        self._manifest = manifest

    def prepare(self) -> None:
        """Make the folder and remove what killed processes left half done, for whatever dataset."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.is_symlink() or self.folder.stat().st_uid != os.getuid():  # who owns it decides what is in it
            raise OSError(errno.EPERM, "it is not a folder of your own", str(self.folder))
        for each in self.folder.parent.iterdir():
            if _NAME.fullmatch(each.name) and not each.is_symlink():
                for partial in each.rglob(f"*{_PARTIAL}"):
                    with suppress(OSError):  # another user's
                        _remove_abandoned(partial)

    def path(self, shard: int) -> Path:
        """Where the copy of a shard is, or will be."""
        return self.folder / self._manifest.shards[shard].name

    def is_whole(self, shard: int) -> bool:
        """Whether there is a copy, by its size: what it was made of has been verified."""
        try:
            return self.path(shard).stat().st_size == shard_bytes(self._manifest, self._manifest.shards[shard])
        except FileNotFoundError:
            return False

    def make(self, shard: int, pieces: Iterable[Bytes]) -> bool:
        """Copy a shard, given in ``pieces``, unless it is there; False where another process is just copying it.

        DatasetError where the pieces are not the shard that the manifest lists. After any error nothing is left.
        """
        path = self.path(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + _PARTIAL)
        with _alone(partial) as handle:
            if handle is None:
                return False
            try:
                if not self.is_whole(shard):
                    self._write(shard, pieces, handle)
                    partial.replace(path)
                    flush_folder(path.parent)
                    return True
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            partial.unlink()
            return True

    def _write(self, shard: int, pieces: Iterable[Bytes], handle: int) -> None:
        digest = hashlib.sha256()
        os.ftruncate(handle, 0)
        with open(handle, "wb", closefd=False) as file:
            for piece in pieces:
                digest.update(piece.data)
                file.write(piece.data)
        os.fsync(handle)
        entry = self._manifest.shards[shard]
        if digest.hexdigest() != entry.sha256:
            raise DatasetError(f"{entry.name}: its bytes differ from the digest in {MANIFEST}; verify the dataset")

    def remove(self, shard: int) -> None:
        """Remove a copy that is not as it was written, if that can be done."""
        with suppress(OSError):
            self.path(shard).unlink()


@contextmanager
def _alone(path: Path) -> Iterator[int | None]:
    """Hold the lock of a file, made if need be, and give its descriptor; None where another holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _locked.add(handle)
    try:
        yield handle if _try_lock(handle, path) else None
    finally:
        _locked.discard(handle)
        os.close(handle)


def _try_lock(handle: int, path: Path) -> bool:
    """Whether the lock was free, and the file is still the one of this name: its last holder may have moved it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_abandoned(partial: Path) -> None:
    with _alone(partial) as handle:
        if handle is not None:
            partial.unlink()
