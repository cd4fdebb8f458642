"""Unpacking frames, and nothing else."""

from collections.abc import Sequence
from itertools import cycle, islice

from ..unpacking import unpackers
from .way import Setting, Way


def bzip2_ways(processes: int, setting: Setting) -> Sequence[Way]:
    """GB/s of unpacked bytes, from files in the page cache."""
    paths, each = sorted(setting.data.fields.frames.rglob("*.bz2")), setting.amount.frames * processes
    pool = setting.opened.enter_context(unpackers(processes, warm_up=list(islice(cycle(paths), 2 * processes))))

    def work(times: int) -> int:
        return pool.unpack(list(islice(cycle(paths), times * each)))

    return (Way(how="indexed_bzip2", work=work, params={"processes": processes, "frames": each}),)
