"""What a person sees of an ingest job: what the selection did, how far the work is, and what it came to.

On a terminal, a live line; elsewhere, as in the log of a submitted job, plain lines at growing intervals.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .job import Progress as JobProgress
from .prepare import Prepared

_FIRST_LINE_S, _LAST_INTERVAL_S = 5.0, 60.0  # between plain lines: 5 s, growing by half to a minute


def prepared_lines(work: Prepared) -> list[str]:
    """One line a condition, then what is left."""
    lines = [f"{work.catalog.path.name}: {work.rows_read} rows"]
    lines += [f"  - {step.removed:6d}  {step.condition}" for step in work.steps]
    plan = work.plan
    parts = f"{plan.fields.num_rows} fields, {len(plan.strip_fields)} strips, {plan.shards} shards"
    lines.append(f"  = {len(work.catalog):6d}  objects in {parts}")
    lines.append(f"  ebv_sfd: {work.reddening.source} ({work.reddening.law})")
    if work.labels is not None:
        lines.append(f"  {work.labels}")
    return lines


def finished_lines(state: JobProgress | None) -> list[str]:
    """Rates, and what was read twice; nothing where all was done before."""
    if state is None or not state.frames:
        return []
    seconds, galaxies = state.seconds, state.galaxies - state.galaxies_before
    again = state.again_bytes / max(1, state.unpacked_bytes)
    return [
        f"  {seconds:.1f} s: {state.frames / seconds:.2f} frames/s, {state.read_bytes / 1e6 / seconds:.1f} MB/s, "
        f"{galaxies / seconds:.1f} galaxies/s",
        f"  {state.frames} frames unpacked whole; at the ends of strips rows of {state.again_frames} again: "
        f"{100 * again:.1f} % more",
    ]


@contextmanager
def job_progress() -> Iterator["_Teller"]:
    """Something to tell how far a job is; it writes to standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Teller(_PlainLines().tell)
        return
    columns = (TextColumn("ingest"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None)
        yield _Teller(
            lambda state: progress.update(
                task, description=_line(state), completed=state.fields, total=state.fields_total
            )
        )


@dataclass(slots=True)
class _Teller:
    """Passes on what it is told, and remembers it."""

    show: Callable[[JobProgress], None]
    state: JobProgress | None = None

    def __call__(self, state: JobProgress) -> None:
        self.state = state
        self.show(state)


@dataclass(slots=True)
class _PlainLines:
    interval_s: float = _FIRST_LINE_S
    next_s: float = field(default_factory=time.monotonic)
    finished: bool = False

    def tell(self, state: JobProgress) -> None:
        """Print a line when it is time for one, and one at the end."""
        whole = state.fields == state.fields_total
        if self.finished or (time.monotonic() < self.next_s and not whole):
            return
        print(f"ingest: {_line(state)}", file=sys.stderr, flush=True)
        self.finished = whole
        self.next_s = time.monotonic() + self.interval_s
        self.interval_s = min(1.5 * self.interval_s, _LAST_INTERVAL_S)


def _line(state: JobProgress) -> str:
    left = state.seconds_left
    seconds = max(state.seconds, 1e-9)
    parts = [
        f"{state.fields}/{state.fields_total} fields",
        f"{state.galaxies}/{state.objects} galaxies",
        f"{state.read_bytes / 1e6 / seconds:.1f} MB/s",
        f"{state.rejects} rejects",
        "" if left is None else f"{_clock(left)} left",
    ]
    return ", ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def bar(task: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A live bar on standard error, where that is a terminal, that is told (done, total)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        number = progress.add_task(task, total=None)
        yield lambda done, total: progress.update(number, completed=done, total=total)
