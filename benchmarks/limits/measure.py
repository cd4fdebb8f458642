"""Measures the limits that a run refers to."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from ..errors import BenchmarkError
from ..practice import Practice
from ..results import Result, StageReport
from ..timing import Contender, race
from .amount import Amount
from .bzip2 import bzip2_ways
from .device import device_copy_ways, host_to_device_ways
from .disk import disk_ways
from .matrix import ON_CUDA, PRECISIONS, device_matrix_ways, matrix_ways
from .memory import memory_ways
from .names import DEVICE_COPY, DISK, HOST_TO_DEVICE, bzip2, matrix, memory_copy, threads_text, unit
from .way import Setting, Way

Open = Callable[[Setting], Sequence[Way]]


def measure(names: Collection[str], data: Practice, amount: Amount | None = None) -> StageReport:
    """The limits of these names, as a stage; ValueError for one that nobody knows, or that this machine does not have.

    Of each limit all ways race, and the fastest is the limit. One that cannot be measured, for want of memory or of
    room on the disk, is left out, and costs the others nothing.
    """
    import torch

    opens = {name: _open(name) for name in sorted(names)}  # before the first takes its time
    results, left_out = [], {}
    for name, ways in opens.items():
        data.say(name)
        try:
            with ExitStack() as opened:
                found = ways(Setting(data=data, amount=amount or Amount(), opened=opened))
                results.append(_fastest(name, found, rounds=data.pick(5, 11)))
        except (BenchmarkError, OSError, MemoryError, torch.OutOfMemoryError) as err:
            left_out[name] = " ".join(str(err).split()) or type(err).__name__
    return StageReport(stage="limits", results=tuple(results), left_out=left_out)


def doubled(data: Practice, amount: Amount | None = None) -> Iterator[tuple[Contender, Contender]]:
    """Each way of the limits that are to be had here, its work once and twice; a pair is closed when the next comes."""
    counts = sorted({1, max(data.threads)})
    named: list[Callable[[int], str]] = [memory_copy, bzip2, partial(_on_threads, "fp32")]
    for name in (DISK, *(naming(count) for naming in named for count in counts), *_on_device()):
        with ExitStack() as opened:
            try:
                ways = _open(name)(Setting(data=data, amount=amount or Amount(), opened=opened))
            except BenchmarkError:  # it is not to be had here
                continue
            for way in ways:
                called = f"{name} ({way.how})"
                yield way.contender(called), way.contender(f"{called}, twice", times=2)


def _fastest(name: str, ways: Sequence[Way], rounds: int) -> Result:
    tried = race([way.contender(way.how) for way in ways], rounds=rounds)
    return max(tried, key=lambda result: result.median).converted(name, unit(name), 1e-9, bytes_per_image=0)


def _open(name: str) -> Open:
    """How the ways of a limit are made."""
    if name == DISK:
        return disk_ways
    if threads := _count(name, memory_copy):
        return partial(memory_ways, threads)
    if processes := _count(name, bzip2):
        return partial(bzip2_ways, processes)
    for precision in PRECISIONS:
        if threads := _count(name, partial(_on_threads, precision)):
            return partial(matrix_ways, precision, threads)
    if name in (on_device := _on_device()):
        return on_device[name]
    raise ValueError(f"{name!r}: expected a limit of those in benchmarks.limits, on a device that this machine has")


def _on_device() -> dict[str, Open]:
    """Those of a GPU; none without one."""
    import torch

    if not torch.cuda.is_available():
        return {}
    matrices: dict[str, Open] = {
        matrix(precision, "cuda"): partial(device_matrix_ways, precision) for precision in ON_CUDA
    }
    return {HOST_TO_DEVICE: host_to_device_ways, DEVICE_COPY: device_copy_ways, **matrices}


def _on_threads(precision: str, count: int) -> str:
    return matrix(precision, threads_text(count))


def _count(name: str, named: Callable[[int], str]) -> int:
    """For which number ``named`` gives ``name``; 0 if for none."""
    return next((count for digits in re.findall(r"\d+", name) if named(count := int(digits)) == name), 0)
