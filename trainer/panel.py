"""The live panel of a training, for the person at the terminal.

`Status` is what it shows, and shows itself at any width; `Panel` keeps it up to date. It is drawn when a record comes,
at most a few times a second, by the rank that writes, and costs the training's steps nothing.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import rich.panel
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .quantities import in_order, quantity
from .trace import Record, checkpoint_files

REFRESH_S = 0.25  # least time between two drawings
LOSSES = 200  # the last ones that are kept for the line of blocks
BLOCKS = "▁▂▃▄▅▆▇█"
COLUMN_WIDTH = 36  # of a label with its value


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What is known of a run; rich draws it."""

    run: str
    values: Mapping[str, int | float]  # the last of each quantity, with step and epoch
    losses: Sequence[float] = ()
    epochs: int | None = None
    total_steps: int | None = None
    seconds_left: float | None = None
    checkpoint: int | None = None  # the newest one's step

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """A frame with the progress, the numbers in columns, and the course of the loss where blocks can be shown."""
        inner = options.max_width - 4
        parts: list[RenderableType] = [self._progress(), self._numbers(max(1, inner // COLUMN_WIDTH))]
        if len(self.losses) > 1 and not options.ascii_only:
            parts.append(Text.assemble(("loss lately  ", "dim"), sparkline(self.losses, inner - 13)))
        held = "no checkpoint yet" if self.checkpoint is None else f"last checkpoint: step {self.checkpoint:,}"
        title = shortened(self.run, inner - 4, "..." if options.ascii_only else "…")
        yield rich.panel.Panel(
            Group(*parts), title=Text(title), title_align="left", subtitle=held, subtitle_align="left"
        )

    def _progress(self) -> RenderableType:
        step, epoch = int(self.values["step"]), int(self.values["epoch"]) + 1
        of_epochs = f"/{self.epochs:,}" if self.epochs else ""
        of_steps = f"/{self.total_steps:,}" if self.total_steps else ""
        line = Table.grid(expand=True)
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True, justify="right")
        line.add_row(f"epoch {epoch:,}{of_epochs}  step {step:,}{of_steps}", self._left())
        return Group(line, _as_line(ProgressBar(self.total_steps, step))) if self.total_steps else line

    def _left(self) -> str:
        if self.seconds_left is None:
            return ""
        return f"{timedelta(seconds=round(self.seconds_left))} left"

    def _numbers(self, columns: int) -> RenderableType:
        """Labels and values, read down the columns."""
        shown = [(quantity(name).label, quantity(name).text(self.values[name])) for name in in_order({*self.values})]
        rows = -(-len(shown) // columns)
        grid = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(columns):
            grid.add_column(no_wrap=True, style="dim")
            grid.add_column(no_wrap=True, min_width=COLUMN_WIDTH - 24)
        for row in range(rows):
            grid.add_row(*(word for pair in shown[row::rows] for word in pair))
        return grid


class Panel:
    """Shows the status of a run in place on a terminal; use it as a context. The last status stays there."""

    def __init__(
        self,
        run: Path,
        console: Console,
        *,
        epochs: int | None,
        total_steps: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._epochs, self._total_steps, self._clock = run, epochs, total_steps, clock
        self._live = Live(console=console, auto_refresh=False)
        self._values: dict[str, int | float] = {}
        self._losses: deque[float] = deque(maxlen=LOSSES)
        self._first: tuple[int, float] | None = None  # step and time of the first record
        self._drawn = -REFRESH_S

    def __enter__(self) -> "Panel":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._values:
            self._live.update(self.status())
        self._live.stop()

    def see(self, record: Record) -> None:
        """Take a record; a quantity that it lacks, as most lack a validation's, is shown as it was last."""
        self._values |= record
        if math.isfinite(record.get("loss", math.nan)):
            self._losses.append(record["loss"])
        if self._first is None:
            self._first = (int(record["step"]), self._clock())
        if self._clock() - self._drawn >= REFRESH_S:
            self._drawn = self._clock()
            self._live.update(self.status(), refresh=True)

    def status(self) -> Status:
        """What is known now."""
        return Status(
            run=str(self._run),
            values=dict(self._values),
            losses=tuple(self._losses),
            epochs=self._epochs,
            total_steps=self._total_steps,
            seconds_left=self._seconds_left(),
            checkpoint=max(checkpoint_files(self._run), default=None),
        )

    def _seconds_left(self) -> float | None:
        """At the mean rate since the first record, which leaves out the start."""
        if self._first is None or self._total_steps is None:
            return None
        step, began = self._first
        made = int(self._values["step"]) - step
        return (self._total_steps - step - made) * (self._clock() - began) / made if made else None


def _as_line(bar: ProgressBar) -> RenderableType:
    """A bar by itself does not end its line."""
    line = Table.grid(expand=True)
    line.add_row(bar)
    return line


def sparkline(values: Sequence[float], width: int) -> str:
    """The last ``width`` values as blocks, from the lowest to the highest of them."""
    shown = values[-width:]
    low, high = min(shown), max(shown)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] for value in shown)


def shortened(text: str, width: int, mark: str) -> str:
    """The end of a text that is too long, after a mark: of a path, the end tells more."""
    return text if len(text) <= width else mark + text[len(mark) - width :]
