"""Reading files in sequence from the disk: past the page cache (O_DIRECT), or through it after it has forgotten them.

Which is faster depends on the disk. In a virtual machine the host may still hold what its guest has forgotten.
"""

import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

from ..pagecache import forget
from ..practice import Practice
from .way import Setting, Way

BLOCK = 2**20  # bytes
_THREADS = (1, 4)
_DIRECT = getattr(os, "O_DIRECT", 0)  # macOS has none

Piece = tuple[Path, int]  # a file, and where a block of it begins


def disk_ways(setting: Setting) -> Sequence[Way]:
    """GB/s of the given dataset's shards, or else of a file that is written for it and removed again."""
    data, amount = setting.data, setting.amount
    found = _pieces(_shards(data))
    if len(found) < 2:
        path = data.folder / "disk.bin"
        setting.opened.callback(path.unlink, missing_ok=True)
        _write(path, 2 * amount.disk_bytes)
        found = _pieces([path])
    once = min(len(found) // 2, amount.disk_bytes // BLOCK)
    pieces = found[: 2 * once]
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
    return tuple(way(how, flags, threads) for how, flags in kinds.items() for threads in _THREADS)


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


def _write(path: Path, count: int) -> None:
    """Blocks that are all different, so that no file system stores less than is read."""
    with path.open("wb") as file:
        for _ in range(count // BLOCK):
            file.write(os.urandom(BLOCK))
        file.flush()
        os.fsync(file.fileno())


def _reads_direct(path: Path) -> bool:
    try:
        return bool(_DIRECT) and read_pieces([(path, 0)], _DIRECT) == BLOCK
    except OSError:  # the file system cannot
        return False
