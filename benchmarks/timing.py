"""Timing contenders side by side: warm-up first, in turns, the median and the quartiles."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from .results import Limit, Param, Result


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One way to do a stage's work."""

    name: str
    unit: str = "images/s"
    step: Callable[[], int]  # does it once, and returns how many images (or what the unit counts) it made
    prepare: Callable[[], None] = lambda: None  # before each step, not timed
    warm_up: Callable[[], object] | None = None  # in place of the first step, where that takes too long
    bytes_per_image: int
    params: Mapping[str, Param]
    limit: Limit | None = None  # None only for limits themselves


def race(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    sync: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = perf_counter,
) -> tuple[Result, ...]:
    """Run all contenders in turns, so that a slow spell of the machine hits them alike; a first round is not counted.

    ``sync`` waits for the accelerator, inside the timed region: without it a step is timed at launch.
    """
    rates: dict[str, list[float]] = {each.name: [] for each in contenders}
    for each in contenders:
        each.prepare()
        (each.warm_up or each.step)()
    for _ in range(rounds):
        for each in contenders:
            each.prepare()
            sync()
            began = clock()
            images = each.step()
            sync()
            rates[each.name].append(images / (clock() - began))
    return tuple(
        summary(each.name, each.unit, rates[each.name], each.bytes_per_image, each.params, each.limit)
        for each in contenders
    )


def summary(
    name: str,
    unit: str,
    rates: Sequence[float],
    bytes_per_image: int,
    params: Mapping[str, Param],
    limit: Limit | None = None,
) -> Result:
    """The median and the quartiles of some runs' rates."""
    q25, median, q75 = statistics.quantiles(rates, n=4, method="inclusive") if len(rates) > 1 else 3 * [rates[0]]
    return Result(
        name=name,
        unit=unit,
        median=median,
        q25=q25,
        q75=q75,
        runs=len(rates),
        bytes_per_image=bytes_per_image,
        params=params,
        limit=limit,
    )
