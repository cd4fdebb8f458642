"""Publish a file whole or not at all: write under another name, flush, rename."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def atomic_file(path: Path, scratch: Path | None = None) -> Iterator[BinaryIO]:
    """Open ``path`` for writing; it appears under its name only if the block ends well.

    Until then it lies in the folder ``scratch``, which must be of the same filesystem, or else beside ``path``: a
    process that is killed leaves its partial file there. The bytes and the folder's entry are flushed to the device, so
    that what is visible survives a power loss. OSError where ``path`` is a pipe or a device, which no file may replace.
    """
    path = path.resolve() if path.is_symlink() else path  # a link stays, and its target is written
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "expected a file, or none yet", str(path))
    # A process id would not do: two nodes that share the filesystem can have processes of one id.
    partial = (scratch or path.parent) / f"{path.name}.{uuid4().hex}.partial"
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)  # atomic within one filesystem
        flush_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush the names of a folder's files to the device, so that a rename survives a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
