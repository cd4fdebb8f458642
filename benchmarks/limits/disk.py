"""Reading files in sequence from the disk: past the page cache (O_DIRECT), or through it after it has forgotten them.

Which is faster depends on the disk, and so does how many reads it wants at once. A way of which less than half of the
bytes came from a disk is none: a file stays in the page cache while someone has it mapped, or where there is no disk.
In a virtual machine the host may still hold what its guest has forgotten.
"""

import mmap
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from time import perf_counter

from ..errors import BenchmarkError
from ..pagecache import forget
from ..practice import Practice
from .way import Setting, Way

BLOCK = 2**20  # bytes
_THREADS, _MORE_THREADS = (1, 4, 16), (64,)
_COUNTED = 512  # bytes, of ru_inblock
_MOSTLY = 0.5  # of the bytes
_DIRECT = getattr(os, "O_DIRECT", 0)  # macOS has none

Piece = tuple[Path, int]  # a file, and where a block of it begins


def disk_ways(setting: Setting) -> Sequence[Way]:
    """GB/s of the given dataset's shards, or else of a file that is written for it and removed again.

    As many bytes as take a step's time, where there are. BenchmarkError where none come from a disk.
    """
    amount, shards = setting.amount, _pieces(_shards(setting.data))
    sources: tuple[Callable[[int], list[Piece]], ...] = (lambda count: shards[:count], partial(_written, setting))
    for source in sources:
        count = amount.disk_bytes // BLOCK
        while len(pieces := source(2 * count)) > 1:
            tried = [(way, _cold_s(way)) for way in _ways(pieces, setting.data)]
            cold = [(way, seconds) for way, seconds in tried if seconds is not None]
            if not cold:
                break
            enough = min(seconds for _, seconds in cold) >= amount.step_s
            if enough or len(pieces) < 2 * count or 2 * count * BLOCK > amount.disk_most_bytes:
                return tuple(way for way, _ in cold)
            count *= 2
    raise BenchmarkError("files stay in memory here, or this system does not say what comes from a disk")


def _ways(pieces: Sequence[Piece], data: Practice) -> Iterator[Way]:
    """To read the first half of the pieces, or all."""
    once = len(pieces) // 2
    paths = list(dict.fromkeys(path for path, _ in pieces))

    def way(how: str, flags: int, threads: int) -> Way:
        def work(times: int) -> int:
            with ThreadPoolExecutor(threads) as pool:
                return sum(pool.map(partial(read_pieces, flags=flags), _parts(pieces[: times * once], threads)))

        return Way(
            how=f"{how}, {threads} at once",
            work=work,
            params={"threads": threads, "block_bytes": BLOCK},
            prepare=partial(forget, paths),
        )

    kinds = {"through the page cache": 0} | ({"O_DIRECT": _DIRECT} if _reads_direct(paths[0]) else {})
    for how, flags in kinds.items():
        for threads in data.pick(_THREADS, (*_THREADS, *_MORE_THREADS)):
            yield way(how, flags, threads)


def _cold_s(way: Way) -> float | None:
    """How long the work takes; None where most of its bytes were in memory."""
    way.prepare()
    before, began = _bytes_read(), perf_counter()
    count = way.work(1)
    seconds = perf_counter() - began
    return seconds if _bytes_read() - before >= _MOSTLY * count else None


def _bytes_read() -> int:
    """From disks, by this process."""
    return _COUNTED * resource.getrusage(resource.RUSAGE_SELF).ru_inblock


def read_pieces(pieces: Sequence[Piece], flags: int = 0) -> int:
    """Read blocks, each file opened once; gives the bytes."""
    count = 0
    with mmap.mmap(-1, BLOCK) as buffer:  # aligned to a page, which O_DIRECT asks for
        for path, group in groupby(pieces, key=lambda piece: piece[0]):
            descriptor = os.open(path, os.O_RDONLY | flags)
            try:
                count += sum(os.preadv(descriptor, [buffer], offset) for _, offset in group)
            finally:
                os.close(descriptor)
    return count


def _shards(data: Practice) -> list[Path]:
    """Of the dataset that was given; none of one at a URL."""
    if data.given is None or not isinstance(data.dataset.location, Path):
        return []
    files = (path for path in data.dataset.path.rglob("*") if path.is_file())
    return sorted(path for path in files if path.stat().st_size >= BLOCK)


def _pieces(paths: Sequence[Path]) -> list[Piece]:
    """The whole blocks of files."""
    return [(path, offset) for path in paths for offset in range(0, path.stat().st_size - BLOCK + 1, BLOCK)]


def _parts(pieces: Sequence[Piece], parts: int) -> list[Sequence[Piece]]:
    edges = [len(pieces) * part // parts for part in range(parts + 1)]
    return [pieces[begin:end] for begin, end in pairwise(edges)]


def _written(setting: Setting, count: int) -> list[Piece]:
    """So many blocks of a file, which grows; all are different, so that no file system stores less than is read."""
    path = setting.data.folder / "disk.bin"
    setting.opened.callback(path.unlink, missing_ok=True)
    with path.open("ab") as file:
        for _ in range(count - file.tell() // BLOCK):
            file.write(os.urandom(BLOCK))
        file.flush()
        os.fsync(file.fileno())
    return _pieces([path])


def _reads_direct(path: Path) -> bool:
    try:
        return bool(_DIRECT) and read_pieces([(path, 0)], _DIRECT) == BLOCK
    except OSError:  # the file system cannot
        return False
