"""One way to reach a limit: work that can be done once or several times over; and what it is made from."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from ..practice import Practice
from ..results import Param
from ..timing import Contender
from .amount import Amount


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What ways are made from; they leave with ``opened`` what must be closed."""

    data: Practice
    amount: Amount
    opened: ExitStack


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """Of a limit's ways the fastest is the limit."""

    how: str
    work: Callable[[int], int]  # does it so many times; gives how many bytes it moved, or how many FLOP it needed
    params: Mapping[str, Param]
    prepare: Callable[[], None] = _nothing  # before each work, not timed

    def contender(self, name: str, times: int = 1) -> Contender:
        """To be timed: a second's bytes or FLOP."""
        return Contender(
            name=name,
            unit="1/s",
            step=partial(self.work, times),
            prepare=self.prepare,
            bytes_per_image=0,  # no image is made
            params={**self.params, "how": self.how},
        )


def repeated(
    how: str,
    once: Callable[[], object],
    count: int,
    params: Mapping[str, Param],
    *,
    step_s: float,
    sync: Callable[[], None] = _nothing,
) -> Way:
    """``once``, which moves or computes ``count``, as often as takes ``step_s``; ``sync`` waits until it is done."""

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            once()
        sync()

    run(1)
    began = perf_counter()
    run(1)
    repetitions = max(1, math.ceil(step_s / (perf_counter() - began)))

    def work(times: int) -> int:
        run(times * repetitions)
        return times * repetitions * count

    return Way(how=how, work=work, params=params)
