"""Checkpoints of a run: written whole or not at all, the newest whole one found again.

A checkpoint holds tensors, numbers and text only, so that it loads without running anything that it contains. What goes
into one is the caller's business; `Checkpoints` adds the step.
"""

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sharding import atomic_file

from .errors import TrainerError

KEEP = 2  # the newest, and one to fall back on should the newest be damaged later
BEST = "best.pt"

_NAME = re.compile(r"step-(\d{8,})\.pt")
_log = logging.getLogger(__name__)


class Checkpoints:
    """The folder `checkpoints/` of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, content: Mapping[str, Any]) -> None:
        """Publish the checkpoint of ``step``, then drop all but the last few."""
        self._write(f"step-{step:08d}.pt", {**content, "step": step})
        for old in self._steps()[:-KEEP]:
            old.unlink(missing_ok=True)

    def save_best(self, content: Mapping[str, Any]) -> None:
        """Publish what is best so far, in the place of what was."""
        self._write(BEST, content)

    def newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint on the CPU, or None where there is none yet.

        A damaged one is passed over with a warning; TrainerError where all are damaged.
        """
        found = self._steps()
        for path in reversed(found):
            try:
                return _read(path)
            except TrainerError as err:
                _log.warning("%s; trying the one before", err)
        if found:
            raise TrainerError(
                f"{self.folder}: none of its {len(found)} checkpoints can be read; start in a new folder"
            )
        return None

    def best(self) -> dict[str, Any]:
        """What `save_best` wrote last."""
        path = self.folder / BEST
        if not path.is_file():
            raise TrainerError(f"{path}: no such checkpoint; let an epoch of the run finish first")
        return _read(path)

    def _steps(self) -> list[Path]:
        """Whole checkpoints by their step; a partial one has another name."""
        found = [
            (int(match[1]), path) for path in self.folder.glob("step-*.pt") if (match := _NAME.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found)]

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / name) as file:
            torch.save(dict(content), file)


def _read(path: Path) -> dict[str, Any]:
    """Load a checkpoint whose every byte is as written: torch itself does not look at the archive's checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise TrainerError(f"{path}: not a whole checkpoint (checksum of {damaged})")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as err:
        raise TrainerError(f"{path}: not a whole checkpoint ({str(err).splitlines()[0]})") from err
    return content
