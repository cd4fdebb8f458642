"""What a person sees of an ingest job: what the selection did, and how far the work is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .job import Prepared


def prepared_lines(work: Prepared) -> list[str]:
    """One line a condition, then what is left."""
    lines = [f"{work.catalog.path.name}: {work.rows_read} rows"]
    lines += [f"  - {step.removed:6d}  {step.condition}" for step in work.steps]
    fields = sum(len(shard.fields) for shard in work.plan.shards)
    lines.append(f"  = {len(work.catalog):6d}  objects in {fields} fields, {len(work.plan.shards)} shards")
    lines.append(f"  ebv_sfd: {work.reddening.source} ({work.reddening.law})")
    return lines


@contextmanager
def bar(task: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A live bar on standard error that is told (done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        number = progress.add_task(task, total=None)
        yield lambda done, total: progress.update(number, completed=done, total=total)
