"""Timing by a clock that the test winds: turns, warm-up, quartiles, and waiting inside the timed region."""

from collections.abc import Callable

import pytest

from benchmarks import Contender, Result, race


class Clock:
    """Stands still until someone works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def contender(name: str, step: Callable[[], int]) -> Contender:
    return Contender(name=name, step=step, bytes_per_image=8, params={"batch": 4})


def takes(clock: Clock, seconds: list[float], log: list[str], name: str) -> Callable[[], int]:
    """A step of four images whose n-th call takes ``seconds[n]``."""
    calls = iter(seconds)

    def step() -> int:
        log.append(name)
        clock.now += next(calls)
        return 4

    return step


def test_contenders_take_turns_and_the_first_round_is_not_counted():
    clock, log = Clock(), []
    one, two = takes(clock, [99, 1, 2, 4], log, "one"), takes(clock, [50, 2, 2, 2], log, "two")
    first, second = race([contender("one", one), contender("two", two)], rounds=3, clock=clock)
    assert log == ["one", "two"] * 4
    # Rates 4, 2, 1: the quartiles of three values lie half-way to the median.
    assert first == Result(
        name="one", median=2, q25=1.5, q75=3, runs=3, bytes_per_image=8, params={"batch": 4}, unit="images/s"
    )
    assert (second.median, second.q25, second.q75) == (2, 2, 2)


def test_one_round_is_its_own_median():
    clock = Clock()
    (only,) = race([contender("one", takes(clock, [9, 2], [], "one"))], rounds=1, clock=clock)
    assert (only.q25, only.median, only.q75, only.runs) == (2, 2, 2, 1)


def test_a_warm_up_of_its_own_takes_the_place_of_the_first_step():
    clock, log = Clock(), []
    one = Contender(
        name="one",
        unit="frames/s",
        step=takes(clock, [2, 4], log, "step"),
        warm_up=lambda: log.append("warm-up"),
        bytes_per_image=8,
        params={},
    )
    (only,) = race([one], rounds=2, clock=clock)
    assert log == ["warm-up", "step", "step"]
    assert (only.unit, only.median) == ("frames/s", 1.5)


def test_waiting_for_the_accelerator_counts():
    """A step that only launches its work, which ends when it is waited for."""
    clock, launched = Clock(), [0.0]

    def step() -> int:
        launched[0] += 3.0
        return 4

    def sync() -> None:
        clock.now += launched[0]
        launched[0] = 0.0

    (only,) = race([contender("one", step)], rounds=2, sync=sync, clock=clock)
    assert only.median == pytest.approx(4 / 3)


def test_work_left_over_from_another_contender_does_not_count():
    clock, launched = Clock(), [100.0]

    def sync() -> None:
        clock.now += launched[0]
        launched[0] = 0.0

    def step() -> int:
        clock.now += 2.0
        return 4

    (only,) = race([contender("one", step)], rounds=1, sync=sync, clock=clock)
    assert only.median == 2
