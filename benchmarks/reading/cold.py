"""Reading files that the system does not hold in its page cache, beside `dd` of the same files.

In a virtual machine the host may still hold them; `dd` tells what there is to be had.
"""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np

from sharding import Dataset
from sharding.manifest import Manifest

from ..limits.names import DISK
from ..pagecache import forget
from ..results import Limit, Param, Result
from ..timing import Contender, race
from . import names
from .material import Amount, Indices, random_batches
from .own import read_once

_BLOCK = 512  # bytes, of ru_inblock
_MOSTLY = 0.5  # of the files' bytes: of less, a run was not cold


def why_not() -> str:
    """What this system lacks to forget files; "" where it can."""
    if not hasattr(os, "posix_fadvise"):
        return "this system has no posix_fadvise to drop files from memory"
    return "" if shutil.which("dd") else "no dd is installed"


@dataclass(kw_only=True)
class FirstShards:
    """The files of a dataset's first shards, which hold at least so many images unless it has fewer."""

    folder: Path
    images: int

    def __post_init__(self) -> None:
        shards = Manifest.read(self.folder).shards
        counts = list(accumulate(shard.samples for shard in shards))
        last = next((number for number, count in enumerate(counts) if count >= self.images), len(counts) - 1)
        self.paths = [self.folder / shard.name for shard in shards[: last + 1]]
        self.images = counts[last]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.paths)


@dataclass(slots=True)
class ColdRun:
    """One way to read files, with nothing of them in memory when it begins."""

    paths: Sequence[Path]
    reads: Callable[[], int]  # gives how many images they hold
    from_disk: float = 0.0  # bytes that the last run had from the disk, over those of the files

    def drop(self) -> None:
        """Have the system forget the files; of a file that someone has mapped it forgets nothing."""
        forget(self.paths)

    def run(self) -> int:
        """Read them; gives the number of images."""
        before = _bytes_read()
        images = self.reads()
        self.from_disk = (_bytes_read() - before) / sum(path.stat().st_size for path in self.paths)
        return images


def contenders(folder: Path, amount: Amount, threads: int) -> Iterator[tuple[Contender, ColdRun]]:
    """`dd`, and our reader with new buffers in a new mapping: in the order of the files, and in random order."""
    files = FirstShards(folder=folder, images=amount.cold)
    in_sequence = np.split(np.arange(files.images), range(amount.batch, files.images, amount.batch))
    at_random = random_batches(files.images, files.images, min(amount.batch, files.images))
    ways: dict[str, Callable[[], int]] = {
        names.DD: partial(_by_dd, files),
        names.IN_SEQUENCE: partial(_read_once, folder, in_sequence, threads),
        names.IN_RANDOM_ORDER: partial(_read_once, folder, at_random, threads),
    }
    for name, reads in ways.items():
        run = ColdRun(files.paths, reads)
        params: dict[str, Param] = {"page_cache": "cold", "samples": files.images}
        if name != names.DD:
            params |= {"batch": amount.batch, "threads": threads}
        size = files.bytes // files.images  # whole files are read, as dd does
        yield (
            Contender(
                name=name,
                step=run.run,
                prepare=run.drop,
                bytes_per_image=size,
                params=params,
                limit=Limit(DISK, size / 1e9),
            ),
            run,
        )


def images(contender: Contender) -> int:
    """How many a step of it reads."""
    return int(contender.params["samples"])


def measure(folder: Path, amount: Amount, threads: int) -> tuple[tuple[Result, ...], str]:
    """The results; or none, and why: the files may lie where the system cannot forget them."""
    if missing := why_not():
        return (), missing
    ways = list(contenders(folder, amount, threads))
    results = race([contender for contender, _ in ways], rounds=amount.cold_rounds)
    if min(run.from_disk for _, run in ways) < _MOSTLY:
        return (), f"the files of {folder} stay in memory, or this system does not say what comes from a disk"
    told = (
        {**result.params, "from_disk": round(run.from_disk, 3)} for result, (_, run) in zip(results, ways, strict=True)
    )
    return tuple(replace(result, params=params) for result, params in zip(results, told, strict=True)), ""


def _by_dd(files: FirstShards) -> int:
    for path in files.paths:
        subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=4M", "status=none"], check=True)
    return files.images


def _read_once(folder: Path, batches: Sequence[Indices], threads: int) -> int:
    """As a new process does it, which also gets its buffers from the system; it leaves nothing mapped."""
    with Dataset.open(folder) as dataset:
        return read_once(dataset, batches, threads)


def _bytes_read() -> int:
    """From disks, by this process and the children that it waited for."""
    used = (resource.getrusage(who).ru_inblock for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return _BLOCK * sum(used)
