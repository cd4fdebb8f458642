"""What is being done, for who waits: a live line on a terminal, else lines on standard error, as in a job's log."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console


@contextmanager
def progress(console: Console, doing: str) -> Iterator[Callable[[str], None]]:
    """To be called with each thing that begins. Of several ranks the first one speaks."""
    began = perf_counter()
    if int(os.environ.get("RANK", "0")) > 0:
        yield lambda text: None
    elif console.is_terminal:
        with console.status(doing) as status:
            yield lambda text: status.update(f"{doing}: {text} (began at {perf_counter() - began:.0f} s)")
    else:
        yield lambda text: print(f"{perf_counter() - began:5.0f} s  {text}", file=sys.stderr, flush=True)
