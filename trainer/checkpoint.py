"""Checkpoints of a run: written whole or not at all while training goes on, the newest whole one found again.

A checkpoint holds tensors, numbers and text only, so that it loads without running anything that it contains. What goes
into one is the caller's business; `Checkpoints` adds the step, the number of this format, and the versions of what
wrote it. A copy is taken at once, a thread writes it: a kill at any moment leaves the checkpoints that were whole.
"""

import logging
import pickle
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from sharding import atomic_file

from .errors import TrainerError
from .snapshot import snapshot
from .version import versions

FORMAT = 1
KEEP = 2  # the newest, and one to fall back on should the newest be damaged later
BEST = "best.pt"

_NAME = re.compile(r"step-(\d{8,})\.pt")
_PARTIAL = re.compile(r"(step-\d{8,}|best)\.pt\.[0-9a-f]{32}\.partial")  # as `atomic_file` names them
_REFUSED = re.compile(r"(?i)unsupported \w+:? (?:GLOBAL )?(\S+) whose|Unsupported \w+: GLOBAL (\S+)|<class '(\S+)'>")
_UNREADABLE = (  # what torch makes of arbitrary bytes
    OSError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
)
_log = logging.getLogger(__name__)


class DamagedError(TrainerError):
    """A file that is not whole, or is no checkpoint at all."""


class NotPlainError(DamagedError):
    """A file that holds more than tensors, numbers and text; that is never loaded."""


class Checkpoints:
    """The folder `checkpoints/` of a run. One process writes in it, any may read.

    As a context manager it ends when everything is on disk. What goes wrong in the thread that writes is raised by the
    next `save`, or by `finish`; the checkpoints that were there are left alone.
    """

    def __init__(self, folder: Path, keep: int = KEEP) -> None:
        self.folder, self.keep = folder, keep
        self._writer: threading.Thread | None = None
        self._error: Exception | None = None
        self._swept = False

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        except TrainerError as err:
            if error is None:
                raise
            _log.warning("%s", err)  # what ended the block comes first

    def save(self, step: int, content: Mapping[str, Any], *, best: bool = False) -> None:
        """Publish the checkpoint of ``step``, then drop all but the last few; ``best``: as the best one, too.

        Returns once the content is copied; waits before that for a write that is under way.
        """
        self._begin([f"step-{step:08d}.pt", *([BEST] if best else [])], {**content, "step": step})

    def save_best(self, content: Mapping[str, Any]) -> None:
        """Publish what is best so far, in the place of what was."""
        self._begin([BEST], content)

    def finish(self) -> None:
        """Wait until everything is on disk; raises TrainerError where something could not be written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint on the CPU, or None where there is none yet.

        A damaged one is passed over with a warning; TrainerError where all are damaged, or one has another format.
        """
        self.finish()
        found = self._steps()
        for step in sorted(found, reverse=True):
            try:
                return _read(found[step])
            except DamagedError as err:
                _log.warning("%s; trying the one before", err)
        if found:
            raise TrainerError(
                f"{self.folder}: none of its {len(found)} checkpoints can be read; start in a new folder"
            )
        return None

    def best(self) -> dict[str, Any]:
        """What was saved as the best last."""
        self.finish()
        path = self.folder / BEST
        if not path.is_file():
            raise TrainerError(f"{path}: no such checkpoint; let an epoch of the run finish first")
        return _read(path)

    def _steps(self) -> dict[int, Path]:
        """Whole checkpoints by their step; a partial one has another name."""
        paths = self.folder.glob("step-*.pt")
        return {int(match[1]): path for path in paths if (match := _NAME.fullmatch(path.name))}

    def _begin(self, names: list[str], content: Mapping[str, Any]) -> None:
        self.finish()
        copy = snapshot({**content, "format": FORMAT, "versions": versions()})
        # Not a daemon: the interpreter's end waits for it.
        self._writer = threading.Thread(target=self._write, args=(names, copy), name="checkpoint")
        self._writer.start()

    def _write(self, names: list[str], content: dict[str, Any]) -> None:
        """Runs in the thread."""
        try:
            self._sweep()
            for name in names:
                with atomic_file(self.folder / name) as file:
                    torch.save(content, file)
            self._prune(upto=content.get("step"))
        except Exception as err:
            self._error = self._explained(err, names[0])

    def _prune(self, upto: int | None) -> None:
        """Keep the last few. What stands beyond the step just written was damaged, or no step would follow it again."""
        if upto is None:
            return
        found = self._steps()
        kept = [step for step in sorted(found) if step <= upto][-self.keep :]
        for step in found.keys() - set(kept):
            found[step].unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Before the first write: drop what a killed writer of this folder has left half written."""
        if self._swept:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("*.partial"):
            if _PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self._swept = True

    def _explained(self, err: Exception, name: str) -> Exception:
        """A user's error for what the filesystem refused, which torch hides behind one of its own."""
        cause: BaseException | None = err
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            return err
        told = TrainerError(
            f"{self.folder / name}: cannot be written ({cause.strerror or cause}); make room or give the folder its "
            "rights, and start the run again: it goes on from its last checkpoint"
        )
        told.__cause__ = err
        return told


def read_whole(path: Path) -> Any:
    """What a file of `torch.save` holds, tensors on the CPU: every byte is checked, and nothing in it is run.

    Torch itself does not look at the archive's checksums. Raises DamagedError where the file cannot be read so.
    """
    try:
        damaged = _damaged_member(path)
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as err:
        if refused := _REFUSED.search(str(err)):
            raise NotPlainError(
                f"{path}: not a whole checkpoint (holds {next(filter(None, refused.groups()))}, no plain data)"
            ) from err
        reason = f" ({err.strerror})" if isinstance(err, OSError) and err.strerror else ""  # torch's own is a page
        raise DamagedError(f"{path}: not a whole checkpoint{reason}; take another, or a copy of it") from err
    if damaged:
        raise DamagedError(f"{path}: not a whole checkpoint (checksum of {damaged})")
    return content


def _damaged_member(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):  # written before torch 1.6, or not by torch
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint of this format."""
    content = read_whole(path)
    if not isinstance(content, dict):
        raise DamagedError(f"{path}: expected a checkpoint, got a {type(content).__name__}")
    if (got := content.get("format")) != FORMAT:
        made = content.get("versions", {}).get("skymill", "of before the first format")
        raise TrainerError(
            f"{path}: expected checkpoint format {FORMAT}, got {got}; go on with the Skymill that wrote it ({made})"
        )
    return content
