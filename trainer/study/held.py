"""A study's folder while a study is at work there: no other one may be, and a signal ends it with a line."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from ..signals import STOP_SIGNALS, Preempted
from .alone import Alone

HEARD = (signal.SIGINT, *STOP_SIGNALS)


class Held:
    """The folder ``study`` from entry to exit; use it as a context, in the main thread.

    On entry TrainerError where another study is at work there. Within, a stop signal or Ctrl-C raises `Preempted`,
    but in a `noted` block, where it is noted and does nothing else.
    """

    def __init__(self, study: Path) -> None:
        self.received = ""  # name of the first signal
        self.interrupts = 0  # how often it was Ctrl-C
        self._study, self._noted = study, False
        self._open = ExitStack()

    def __enter__(self) -> "Held":
        self.lock = Alone(self._study)
        self._open.callback(self.lock.close)
        for number in HEARD:
            before = signal.signal(number, self._hear)
            self._open.callback(
                signal.signal, number, signal.SIG_DFL if before is None else before
            )  # None: not Python's
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def told(self, why: str) -> str:
        """What a study says that was stopped."""
        return f"{self._study}: stopped by {why}; start it again to go on"

    @contextmanager
    def noted(self) -> Iterator[None]:
        """A block in which a signal is noted and does nothing else."""
        self._noted = True
        try:
            yield
        finally:
            self._noted = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
        self.interrupts += number == signal.SIGINT
        if not self._noted:
            raise Preempted(self.told(self.received))
