"""What `make bench-check` would find in made-up timings: nothing here is timed."""

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmarks import check, injected
from benchmarks.check import Doubled, in_turns
from benchmarks.injected import DELAY_S, Moved
from benchmarks.timing import Contender
from benchmarks.verdict import verdict


class Clock:
    """Stands still until someone works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def works(self, seconds: float, images: int) -> Callable[[], int]:
        """A step that takes so long."""

        def step() -> int:
            self.now += seconds
            return images

        return step


def pair(once: Callable[[], int], twice: Callable[[], int]) -> tuple[Contender, Contender]:
    first, second = (Contender(name="way", step=step, bytes_per_image=8, params={}) for step in (once, twice))
    return first, second


@pytest.mark.parametrize(
    ("seconds", "images", "passes"),
    [
        (2.0, 8, True),  # twice the work in twice the time
        (1.6, 8, True),
        (2.4, 8, True),
        (1.0, 8, False),  # a timing of nothing, or of a cache
        (1.4, 8, False),
        (2.6, 8, False),
        (2.0, 4, False),  # not twice the work
    ],
)
def test_twice_the_work_has_to_take_twice_the_time(seconds: float, images: int, passes: bool):
    clock = Clock()
    (found,) = check.check([pair(clock.works(1.0, 4), clock.works(seconds, images))], partial(in_turns, clock=clock))
    assert found.time == pytest.approx(seconds)
    assert found.work == images / 4
    assert found.seconds == pytest.approx(1.0)
    assert (found.name, found.passes) == ("way", passes)


def test_a_stage_cleans_up_after_its_pairs():
    clock, log = Clock(), []

    def doubled() -> Iterator[tuple[Contender, Contender]]:
        try:
            log.append("open")
            yield pair(clock.works(1.0, 1), clock.works(2.0, 2))
        finally:
            log.append("closed")

    found = [(each.name, list(log)) for each in check.check(doubled(), partial(in_turns, clock=clock))]
    assert found == [("way", ["open"])]
    assert log == ["open", "closed"]


@pytest.mark.parametrize(
    ("doubled", "delays", "status"),
    [
        ([Doubled("way", 0.1, 2.0, 2.1)], [Moved("read", "train", "read", "read")], 0),
        ([Doubled("way", 0.1, 2.0, 1.0)], [Moved("read", "train", "read", "read")], 1),
        ([Doubled("way", 0.1, 2.0, 2.1)], [Moved("read", "train", "read", "train")], 1),
    ],
)
def test_the_exit_status_says_whether_anything_failed(doubled: list[Doubled], delays: list[Moved], status: int):
    console = Console(record=True, width=120)
    assert check.show(doubled, delays, console) == status
    assert ("1 failed" in console.export_text()) == bool(status)


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (Moved("read", "train", "read", "read"), True),
        (Moved("ingest", "train", "ingest", None), True),
        (Moved("read", "read", "read", "read"), False),  # it was there before
        (Moved("read", "train", "train", "read"), False),
        (Moved("read", "train", "read", "augment"), False),
    ],
)
def test_a_delay_counts_as_found_where_the_verdict_moves_to_it(found: Moved, passes: bool):
    assert found.passes == passes


@pytest.mark.parametrize("finds", [True, False])
def test_each_stage_is_delayed_from_where_another_one_binds(finds: bool, monkeypatch: pytest.MonkeyPatch):
    """Batches of 4: made-up ms of each stage, of which training binds."""
    asked: list[dict[str, float]] = []

    def at_once(data: object, delays: dict[str, float] | None = None) -> object:
        asked.append(dict(delays or {}))
        seconds = {"read": 0.001, "augment": 0.003, "train": 0.004}
        if finds:
            seconds = {stage: took + asked[-1].get(stage, 0.0) for stage, took in seconds.items()}
        found = verdict({stage: 4 / took for stage, took in seconds.items()})
        return SimpleNamespace(alone=found.alone, overlapped=found.alone)

    monkeypatch.setattr(injected, "at_once", at_once)
    monkeypatch.setattr(injected, "_in_ingest", lambda data: Moved("ingest", "train", "ingest", None))
    found = list(injected.moved(SimpleNamespace(say=lambda text: None)))
    assert [each.stage for each in found] == ["ingest", "read", "augment", "train"]
    assert [each.passes for each in found] == [True, finds, finds, finds]
    assert {"augment": DELAY_S / 2, "train": DELAY_S} in asked
    assert {"read": DELAY_S} in asked
