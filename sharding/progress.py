"""A live bar of bytes for commands that read much; used by command lines only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


@contextmanager
def byte_bar(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """On standard error, where that is a terminal; told how many more bytes are done, by any thread."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda size: None
        return
    columns = (TextColumn(task), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        number = progress.add_task(task, total=total)
        yield lambda size: progress.advance(number, size)
