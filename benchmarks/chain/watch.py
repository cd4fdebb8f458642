"""Who is at work while a chain of stages runs: intervals, on the host's clock and the device's, and delays put in."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import Any

import torch

Interval = tuple[float, float]  # begin and end [s]


class Watch:
    """Notes when each kind of work is done; ``delays`` [s] are slept in it, to see who notices.

    On a GPU work that the host only begins is timed by events, too: the larger one of both shares is told. That is an
    upper bound, for the device may wait for its next kernel meanwhile.
    """

    def __init__(
        self,
        delays: Mapping[str, float] | None = None,
        *,
        on_gpu: bool = False,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._delays, self._on_gpu, self._clock = delays or {}, on_gpu, clock
        self._at: dict[str, list[Interval]] = defaultdict(list)  # appending is atomic: threads need no lock
        self._events: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self._looks: list[Interval] = []
        self._looking = False

    @contextmanager
    def at(self, work: str, *, device: bool = False) -> Iterator[None]:
        """A block of this kind of work, which is on the ``device`` or on the host alone."""
        timed = device and self._on_gpu and self._looking
        if timed:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            first.record()
        began = self._clock()
        try:
            yield
        finally:
            self._at[work].append((began, self._clock()))
            if timed:
                last.record()
                self._events[work].append((first, last))

    def delay(self, work: str) -> None:
        """To be called once a batch within its block."""
        if seconds := self._delays.get(work):
            sleep(seconds)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """A block of the time of which `shares` tells."""
        self._looking, began = True, self._clock()
        yield
        if self._on_gpu:
            torch.cuda.synchronize()
        self._looking = False
        self._looks.append((began, self._clock()))

    def shares(self) -> dict[str, float]:
        """Share of the time looked at in which somebody was at each kind of work, and on a GPU of ``device``: any."""
        total = sum(end - begin for begin, end in self._looks)
        shares = {work: _covered(intervals, self._looks) / total for work, intervals in self._at.items()}
        seconds = {
            work: sum(first.elapsed_time(last) for first, last in events) / 1e3 for work, events in self._events.items()
        }
        for work, took in seconds.items():
            shares[work] = max(shares[work], took / total)
        return shares | ({"device": sum(seconds.values()) / total} if self._on_gpu else {})


def _covered(intervals: Sequence[Interval], looks: Sequence[Interval]) -> float:
    """How much of ``looks`` the union of ``intervals`` covers [s]."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        begin, reached = max(begin, reached), max(end, reached)
        covered += sum(max(0.0, min(end, last) - max(begin, first)) for first, last in looks)
    return covered
