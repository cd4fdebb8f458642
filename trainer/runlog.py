"""What a run says while it runs: `metrics.jsonl`, TensorBoard, and a panel or lines for the person who watches.

One record is one JSON object a line; a resumed run drops the records after its checkpoint first, so that the trace
reads as if nothing had happened.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from sharding import atomic_file

from .errors import TrainerError
from .panel import Panel
from .quantities import PLACE
from .trace import METRICS, Record, read_trace

__all__ = ["Record", "RunLog", "keep_until"]

PLAIN_LINE_EVERY_S = 10.0


class RunLog:
    """Takes the records of a run from the rank that writes; use it as a context."""

    def __init__(
        self, run: Path, *, from_step: int, console: Console, epochs: int | None = None, total_steps: int | None = None
    ) -> None:
        """Keep the records up to ``from_step`` and go on after them; the panel shows how much is left, where told."""
        run.mkdir(parents=True, exist_ok=True)
        self._run, self._console = run, console
        self._keep_until(from_step)
        self._file = (run / METRICS).open("ab", buffering=0)  # what cannot be written is known at once, and not kept
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=from_step + 1)
        self._describe(from_step)
        self._panel = Panel(run, console, epochs=epochs, total_steps=total_steps) if console.is_terminal else None
        self._last_line = -PLAIN_LINE_EVERY_S

    def __enter__(self) -> "RunLog":
        if self._panel:
            self._panel.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._panel:
            self._panel.__exit__()
        self._file.close()
        # An error that is on its way tells more than that the board cannot be closed either.
        with self._writing("its end") if kind is None else suppress(OSError):
            self._board.close()

    def record(self, record: Record, line: str) -> None:
        """Write one record (it has a ``step``) and show the panel or, where there is no terminal, ``line``."""
        with self._writing(f"step {record['step']}"):
            self._append(json.dumps(record).encode() + b"\n")
            for name, value in record.items():
                if name not in PLACE:
                    self._board.add_scalar(name, value, int(record["step"]))
        if self._panel:
            self._panel.see(record)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_EVERY_S:  # now and then: a log file stays readable
            self._last_line = time.monotonic()
            self.say(line)

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _append(self, content: bytes) -> None:
        """All of it: on a disk that is nearly full a write takes a part, and the next says why."""
        while content:
            content = content[self._file.write(content) :]

    def _keep_until(self, step: int) -> None:
        damaged = keep_until(self._run / METRICS, step)
        if damaged:
            numbers = ", ".join(map(str, damaged))
            self.say(f"{self._run / METRICS}: damaged lines are left out (number {numbers}); the others are kept")

    def _describe(self, step: int) -> None:
        """The run's `config.json` as a text in TensorBoard, indented as code."""
        path = self._run / "config.json"
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            self._board.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()), step)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise TrainerError(
                f"{self._run}: the log of {what} cannot be written ({err.strerror or err}); make room, then start the "
                "same command again: it goes on from its newest checkpoint"
            ) from err


def keep_until(path: Path, step: int) -> list[int]:
    """Drop the records after ``step`` and what is no record; the numbers of the lines that were damaged.

    A last line that was cut short by the end of its process is dropped too; that is no damage.
    """
    if not path.exists():
        return []
    trace = read_trace(path)
    with atomic_file(path) as file:
        file.write(b"".join(json.dumps(record).encode() + b"\n" for record in trace.records if record["step"] <= step))
    return trace.damaged
