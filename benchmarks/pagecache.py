"""Files that the system does not hold in memory. In a virtual machine the host may still hold them."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path


def forget(paths: Sequence[Path]) -> None:
    """Have the system drop the files from its page cache; of a file that someone has mapped it drops nothing."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # of a file system that nobody may write to
                os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
