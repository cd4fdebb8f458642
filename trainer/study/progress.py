"""How far a study is: a live view on a terminal, elsewhere a line for each job that has ended."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .process import Job, Process


@dataclass(slots=True)
class Tally:
    """Jobs and their weights, and from those done in this start, the time that is left."""

    devices: int
    total_weight: float = 0.0  # of all jobs there will be, where that is known; at least that of those given
    jobs: int = 0
    done: int = 0
    given_weight: float = 0.0
    done_weight: float = 0.0
    worked: float = 0.0  # weight done in this start
    device_seconds: float = 0.0  # that it took

    def give(self, jobs: Sequence[Job], undone: Sequence[Job]) -> None:
        """Jobs that are to be carried out, and those of them that were not done before."""
        weight = sum(job.weight for job in jobs)
        self.jobs += len(jobs)
        self.done += len(jobs) - len(undone)
        self.given_weight += weight
        self.done_weight += weight - sum(job.weight for job in undone)
        self.total_weight = max(self.total_weight, self.given_weight)

    def end(self, job: Job, seconds: float) -> None:
        """A job has ended well."""
        self.done += 1
        self.done_weight += job.weight
        self.worked += job.weight
        self.device_seconds += seconds * job.ranks

    def reached(self, running: Iterable[tuple[Job, float]]) -> float:
        """The weight that is done, with the parts of the jobs that have run for so many seconds."""
        pace = self.worked / self.device_seconds if self.device_seconds else 0.0
        return self.done_weight + sum(min(job.weight, pace * job.ranks * seconds) for job, seconds in running)

    def seconds_left(self, running: Iterable[tuple[Job, float]]) -> float | None:
        """Until all is done; None before the first job of this start has ended."""
        if not self.worked:
            return None
        left = self.total_weight - self.reached(running)
        return max(0.0, left) * self.device_seconds / (self.worked * self.devices)


class Display:
    """Shows a tally; use it as a context."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console, self._tally = console, tally
        columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._rows: dict[Job, TaskID] = {}
        self._whole = self._bars.add_task("")

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def began(self, job: Job) -> None:
        """A job runs: it has a row of its own until it ends."""
        self._rows[job] = self._bars.add_task(job.name, total=None)

    def ended(self, process: Process, running: Sequence[Process], *, well: bool) -> None:
        """A job does not run any more; the line that says so, where there is no terminal, if it has ended well."""
        self._bars.remove_task(self._rows.pop(process.job))
        if well:
            self._tally.end(process.job, process.seconds)
        if well and not self._console.is_terminal:
            done = f"{self._tally.done}/{self._tally.jobs} {process.job.name}: done in {spoken(process.seconds)}"
            self.say(f"{done}{self._left(running)}")

    def tick(self, running: Sequence[Process]) -> None:
        """Time has passed."""
        tally = self._tally
        text = f"{tally.done}/{tally.jobs} jobs{self._left(running)}"
        self._bars.update(
            self._whole, completed=tally.reached(_times(running)), total=tally.total_weight, description=text
        )

    def _left(self, running: Sequence[Process]) -> str:
        left = self._tally.seconds_left(_times(running))
        return f", about {spoken(left)} left" if left else ""


def _times(running: Sequence[Process]) -> list[tuple[Job, float]]:
    return [(process.job, process.seconds) for process in running]


def spoken(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
