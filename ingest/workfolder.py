"""`OUT.partial`: what an ingest has done so far, so that a restart continues from what is whole on disk.

OUT.partial/
  job.json   which job this is; another one does not touch the folder
  lock       held by the driver that is at work
  pieces/    cut strips (see `ingest.strip`)
  entries/   one file for each shard that is whole (see `ingest.join`)
  scratch/   files that are being written; what a killed process left here is removed
  dataset/   becomes OUT, by one rename, when all is done
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sharding.manifest import MANIFEST

from .errors import IngestError
from .sealed import read_sealed, write_sealed
from .strip import Piece

_PARTS = frozenset({"job.json", "lock", "pieces", "entries", "scratch", "dataset"})


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The folders of a job; open one with `opened`."""

    out: Path
    root: Path

    @property
    def pieces(self) -> Path:
        """Cut strips."""
        return self.root / "pieces"

    @property
    def entries(self) -> Path:
        """Entries of whole shards."""
        return self.root / "entries"

    @property
    def scratch(self) -> Path:
        """Files that are being written."""
        return self.root / "scratch"

    @property
    def dataset(self) -> Path:
        """What becomes the dataset."""
        return self.root / "dataset"

    def piece(self, number: int) -> Piece:
        """Where the piece of a strip lies."""
        return Piece(self.pieces, number)

    @property
    def is_finished(self) -> bool:
        """Whether the dataset is whole, its manifest included, and only waits for its name."""
        return (self.dataset / MANIFEST).is_file()

    def publish(self) -> None:
        """Rename the finished dataset to its place; all that takes time to remove is removed before."""
        for folder in (self.pieces, self.entries, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
        if self.out.is_dir():
            self.out.rmdir()  # empty: checked at the start, and rmdir refuses anything else
        self.dataset.replace(self.out)
        self.remove()

    def remove(self) -> None:
        """Remove all that the job has on disk; what it did goes before the marker that says whose it was."""
        for folder in (self.pieces, self.entries, self.scratch, self.dataset, self.root):
            shutil.rmtree(folder, ignore_errors=True)

    def _holds_work(self) -> bool:
        whole = (folder for folder in (self.pieces, self.entries) if folder.is_dir())
        return self.is_finished or any(any(folder.iterdir()) for folder in whole)


def work_root(out: Path) -> Path:
    """Where the work folder of ``out`` lies."""
    return out.absolute().with_name(out.name + ".partial")


def holds_dataset(out: Path) -> bool:
    """Whether a finished dataset is at ``out``, be it whole or damaged: to be repaired, not made."""
    return (out / MANIFEST).is_file()


@contextmanager
def opened(out: Path, job: str) -> Iterator[WorkFolder]:
    """Enter the work folder of ``out``, new or left by the same ``job``; held by one process at a time.

    If the block fails before any work is whole on disk, the folder is removed; else it stays for a restart.
    """
    folder = WorkFolder(out.absolute(), work_root(out))
    _check_ours(folder.root)
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise IngestError(f"{folder.root}: cannot be made ({err.strerror}); choose another --out") from err
    with (folder.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IngestError(f"{folder.root}: another ingest is at work on it; wait for it, or end it") from None
        _enter(folder, job)
        try:
            yield folder
        except BaseException:
            if not folder._holds_work():
                shutil.rmtree(folder.root, ignore_errors=True)
            raise


def _check_ours(root: Path) -> None:
    if root.exists() and not (root.is_dir() and {path.name for path in root.iterdir()} <= _PARTS):
        raise IngestError(f"{root}: in the way, and not left by an ingest; move it or choose another --out")


def _enter(folder: WorkFolder, job: str) -> None:
    marker = folder.root / "job.json"
    if marker.exists():
        found = read_sealed(marker)
        if found is None:
            raise IngestError(f"{marker}: not as it was written: the disk damaged it; remove {folder.root}")
        if found != {"job": job}:
            raise IngestError(
                f"{folder.root}: left by an ingest of another catalogue or with other settings; "
                "give the same to continue it, or remove it"
            )
        shutil.rmtree(folder.scratch, ignore_errors=True)
    for path in (folder.pieces, folder.entries, folder.scratch, folder.dataset):
        path.mkdir(exist_ok=True)
    write_sealed(marker, {"job": job}, folder.scratch)
