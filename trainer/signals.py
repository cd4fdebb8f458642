"""Signals that ask a run to save and end, and how whoever started it learns that it wants to be started again.

Slurm sends SIGTERM before it takes a node away, and SIGUSR1 as long before the end of a job as its script asks
(`#SBATCH --signal=USR1@300`). A run that heeds one ends with status 75 of `python -m trainer`. torchrun passes on
SIGTERM, and SIGUSR1 only with `--signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1` (without it the signal ends
torchrun at once, and its ranks live on); it gives the ranks 30 s (or `TORCH_ELASTIC_SHUTDOWN_TIMEOUT`), ends itself
with status 1 and so hides 75. Therefore the run leaves a file, RUN/requeue, for the script to look at.
"""

import signal
from pathlib import Path
from types import FrameType, TracebackType

from sharding import atomic_file

REQUEUE_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again later
REQUEUE_FILE = "requeue"

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(Exception):
    """A signal has ended a run, which is saved; no fault, and `python -m trainer` ends with `REQUEUE_STATUS`."""


class StopSignals:
    """While the block lasts, the stop signals are noted and do nothing else: neither the first nor those that follow.

    That matters beyond the step that is under way: torchrun sends SIGTERM to the other ranks once one has ended, and
    Slurm sends SIGTERM after SIGUSR1, while the checkpoint is still being written. Only for the main thread.
    """

    def __init__(self) -> None:
        self.received: str | None = None  # name of the first one

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # None: not set from Python

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number).name


def ask_requeue(run: Path, *, step: int, received: str | None) -> None:
    """Leave RUN/requeue; to be called once the run is saved. Says the step and the signal, for whoever looks.

    ``received`` is this process's; None where it was another rank that a signal reached.
    """
    with atomic_file(run / REQUEUE_FILE) as file:
        file.write(f"saved at step {step} after {received or 'a signal to another rank'}\n".encode())


def clear_requeue(run: Path) -> None:
    """Take RUN/requeue away, before a run begins: one that then fails must not be started again and again."""
    (run / REQUEUE_FILE).unlink(missing_ok=True)
