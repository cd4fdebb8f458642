"""A study's folder belongs to one study at a time, and to the trainings that a killed one has left until they end.

The lock is a flock on STUDY/lock, which each training inherits: it is free only when all of them have ended, however
they did. Over a network file system a flock may exclude less than it says.
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import TrainerError

LOCK = "lock"


class Alone:
    """The lock, held from here to `close`.

    TrainerError where another process holds it, or where there can be no such folder.
    """

    def __init__(self, study: Path) -> None:
        try:
            study.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as err:
            raise TrainerError(
                f"{study}: expected a folder for the study, got a file ({err.filename}); choose another --out"
            ) from err
        self._file = (study / LOCK).open("a+b", buffering=0)  # not emptied: it says who holds it
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            holders = self._holders()
            self._file.close()
            if not isinstance(err, BlockingIOError):
                raise
            raise TrainerError(
                f"{study}: expected no other study at work there, got {holders}; wait for it, or end it (trainings "
                "that a killed study left save and end by themselves)"
            ) from None
        self.note([])

    def note(self, trainings: Iterable[int]) -> None:
        """Say who holds the lock: this process and those of the trainings, by their ids."""
        self._file.truncate(0)
        self._file.write(" ".join(map(str, [os.getpid(), *trainings])).encode())

    def fileno(self) -> int:
        """The descriptor that a training has to inherit."""
        return self._file.fileno()

    def close(self) -> None:
        """Give the lock back, as far as this process holds it."""
        self._file.close()

    def _holders(self) -> str:
        """Those of the ids in the file that are alive: a killed study's own is still among them."""
        self._file.seek(0)
        alive = [number for number in self._file.read().decode().split() if Path("/proc", number).exists()]
        return f"process {', '.join(alive)}" if alive else "one on another machine"
