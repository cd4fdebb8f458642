"""Reading files that the system does not hold in its page cache. Linux only.

In a virtual machine the host may still hold them; `dd` of the same files tells what there is to be had.
"""

import os
import resource
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

_BLOCK = 512  # bytes, of ru_inblock


def drop(paths: Sequence[Path]) -> None:
    """Have the system forget the files; of a file that someone has mapped it forgets nothing."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_by_dd(paths: Sequence[Path]) -> None:
    """Read the files, one after another, and forget them."""
    for path in paths:
        subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=4M", "status=none"], check=True)


@dataclass(slots=True)
class ColdRuns:
    """Runs of one way to read ``paths``, each with nothing of them in memory."""

    paths: Sequence[Path]
    step: Callable[[], int]  # reads them; gives how many images they hold
    rates: list[float] = field(default_factory=list)  # [images / s]
    from_disk: float = 0.0  # bytes that the last run had from the disk, over those of the files

    def run(self) -> None:
        """Drop the files, then read them."""
        drop(self.paths)
        before, began = _bytes_read(), perf_counter()
        images = self.step()
        self.rates.append(images / (perf_counter() - began))
        self.from_disk = (_bytes_read() - before) / sum(path.stat().st_size for path in self.paths)


def _bytes_read() -> int:
    """From disks, by this process and the children that it waited for."""
    used = (resource.getrusage(who).ru_inblock for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return _BLOCK * sum(used)
