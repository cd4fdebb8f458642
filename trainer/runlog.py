"""What a run says while it runs: `metrics.jsonl`, TensorBoard, and a line for the person who watches.

One record is one JSON object a line; a resumed run drops the records after its checkpoint first, so that the trace
reads as if nothing had happened.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch.utils.tensorboard import SummaryWriter

from sharding import atomic_file

METRICS = "metrics.jsonl"
PLAIN_LINE_EVERY_S = 10.0

Record = Mapping[str, int | float]


class RunLog:
    """Takes the records of a run from the rank that writes; use it as a context."""

    def __init__(self, run: Path, *, from_step: int, console: Console) -> None:
        """Keep the records up to ``from_step`` and go on after them."""
        run.mkdir(parents=True, exist_ok=True)
        self._path = run / METRICS
        keep_until(self._path, from_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=from_step + 1)
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last_line = -PLAIN_LINE_EVERY_S

    def __enter__(self) -> "RunLog":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        self._file.close()
        self._board.close()

    def record(self, record: Record, line: str) -> None:
        """Write one record (it has a ``step``) and show ``line``."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in record.items():
            if name not in ("step", "epoch"):
                self._board.add_scalar(name, value, int(record["step"]))
        self._show(line)

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _show(self, line: str) -> None:
        """In place on a terminal; else now and then, so that a log file stays readable."""
        if self._live:
            self._live.update(Text(line), refresh=True)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_EVERY_S:
            self._last_line = time.monotonic()
            self.say(line)


def keep_until(path: Path, step: int) -> None:
    """Drop the records after ``step``, and a last line that was cut short by the end of its process."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not line.endswith("\n") or record["step"] > step:
            break
        kept.append(line)
    with atomic_file(path) as file:
        file.write("".join(kept).encode())
