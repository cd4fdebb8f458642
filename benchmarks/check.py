"""`python -m benchmarks.check`: whether the benchmarks can be trusted. `make bench-check` calls it.

Each timing is made of the same work once and twice: it has to take twice as long, within a quarter. Then 10 ms a batch
are put into one stage after another, each time from where another one binds: the verdict has to move there. What is
printed is what was measured; the exit status is 1 where something failed.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table

from .injected import Moved, moved
from .practice import Practice
from .progress import progress
from .timing import Contender, race

ROUNDS = 5
LEAST, MOST = 1.5, 2.5  # times as long for twice the work
_PARTS = (
    "limits.measure", "stages.ingest", "stages.read", "stages.augment", "stages.train", "chain.measure",
)  # fmt: skip

Pair = tuple[Contender, Contender]
Race = Callable[[list[Contender], int], list[float]]  # contenders and rounds to the median seconds of each


@dataclass(frozen=True, slots=True)
class Doubled:
    """How many times as long a way took for what should be twice the work."""

    name: str
    seconds: float  # once
    work: float  # how many times the work was
    time: float  # how many times the time was

    @property
    def passes(self) -> bool:
        """Twice the work in twice the time."""
        return self.work == 2.0 and LEAST <= self.time <= MOST


def main() -> int:
    """The command's exit status."""
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="skymill-check-") as folder,
        progress(console, "checking") as say,
        Practice(folder=Path(folder), say=say) as data,
    ):
        doubled = list(_all_doubled(data))
        data.say("delays")
        delays = list(moved(data))
    return show(doubled, delays, console)


def show(doubled: Iterable[Doubled], delays: Iterable[Moved], console: Console) -> int:
    """Both tables; 1 if anything failed, else 0."""
    failed = 0
    table = Table("twice the work", "once", "time for twice", "", title=f"{LEAST} to {MOST} times the time")
    for each in doubled:
        failed += not each.passes
        work = "" if each.work == 2.0 else f", work {each.work:.2f}"
        table.add_row(each.name, f"{each.seconds:.2f} s", f"{each.time:.2f}{work}", _said(each.passes))
    console.print(table)
    table = Table("10 ms a batch put into", "binding before", "after: alone", "after: at once", "", title="The verdict")
    for one in delays:
        failed += not one.passes
        table.add_row(one.stage, one.before, one.alone, one.overlapped or "-", _said(one.passes))
    console.print(table)
    console.print(f"{failed} failed" if failed else "all passed")
    return int(failed > 0)


def check(pairs: Iterable[Pair], timed: Race) -> Iterator[Doubled]:
    """Each pair in turns, while it is there: a stage cleans up after its last one."""
    for once, twice in pairs:
        images: dict[str, int] = {}
        contenders = [_counted(once, "once", images), _counted(twice, "twice", images)]
        seconds = timed(contenders, ROUNDS)
        yield Doubled(once.name, seconds[0], images["twice"] / images["once"], seconds[1] / seconds[0])


def _all_doubled(data: Practice) -> Iterator[Doubled]:
    for part in _PARTS:
        for found in check(import_module(f"{__package__}.{part}").doubled(data), in_turns):
            data.say(f"twice the work: {found.name}")
            yield found


def in_turns(contenders: list[Contender], rounds: int, clock: Callable[[], float] = perf_counter) -> list[float]:
    """By `race`, whose rates are here of whole steps."""
    waited = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    return [1.0 / result.median for result in race(contenders, rounds=rounds, sync=waited, clock=clock)]


def _counted(contender: Contender, name: str, images: dict[str, int]) -> Contender:
    """A step that counts as one, and notes how many images it made."""

    def step() -> int:
        images[name] = contender.step()
        return 1

    return replace(contender, name=name, step=step)


def _said(passes: bool) -> str:
    return "passes" if passes else "[red]fails[/red]"


if __name__ == "__main__":
    sys.exit(main())
