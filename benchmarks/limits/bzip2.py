"""Unpacking frames, and nothing else."""

from collections.abc import Sequence
from itertools import cycle, islice

from ..unpacking import unpack, unpackers
from .way import Setting, Way


def bzip2_ways(processes: int, setting: Setting) -> Sequence[Way]:
    """GB/s of unpacked bytes, from files in the page cache."""
    paths, each = sorted(setting.data.fields.frames.rglob("*.bz2")), setting.amount.frames * processes
    pool = setting.opened.enter_context(unpackers(processes, warm_up=list(islice(cycle(paths), 2 * processes))))

    def work(times: int) -> int:
        return pool.unpack(list(islice(cycle(paths), times * each)))

    def here(times: int) -> int:
        return sum(map(unpack, islice(cycle(paths), times * each)))

    ways = {"indexed_bzip2": work} | ({"indexed_bzip2 in this process": here} if processes == 1 else {})
    params = {"processes": processes, "frames": each}
    return [Way(how=how, work=way, params=params) for how, way in ways.items()]
