"""A study's jobs over the devices there are: long ones first, each a process of its own, stopped and gone on with.

A job that has ended well is never started again. Where a signal comes, or a job fails, all save and end, and the next
start goes on from there.
"""

import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from ..errors import TrainerError
from ..signals import STOP_SIGNALS, Preempted
from .alone import Alone
from .devices import Device
from .process import Job, Process
from .progress import Display, Tally

__all__ = ["Job", "Scheduler"]

POLL_S = 0.05


class Scheduler:
    """Carries out jobs in the folder ``study``, which is its own from entry to exit; use it as a context.

    On entry TrainerError where another study is at work there. Jobs may come in several calls. A signal between them,
    while the caller decides what comes next, raises `Preempted` at once. Only for the main thread.
    """

    def __init__(
        self, devices: Sequence[Device], console: Console, total_weight: float | None = None, *, study: Path
    ) -> None:
        """``total_weight`` is that of all jobs there will be; None where it is not known."""
        self._devices, self._study = devices, study
        self._tally = Tally(len(devices), total_weight or 0.0)
        self._display = Display(console, self._tally)
        self._signals = _Signals(study)
        self._running: list[Process] = []
        self._stopped_by, self._failure = "", ""  # why no more jobs are started
        self._open = ExitStack()

    def __enter__(self) -> "Scheduler":
        self._lock = Alone(self._study)
        self._open.callback(self._lock.close)
        self._open.enter_context(self._signals.heard())
        self._open.enter_context(self._display)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def carry_out(self, jobs: Sequence[Job]) -> None:
        """Do what of ``jobs`` is not done; returns when all is.

        TrainerError for a job that fails, that needs more devices than there are, or whose folder holds another one;
        `Preempted` where a signal to the study or to a job has stopped it, once all have saved.
        """
        undone = [job for job in jobs if not job.done]
        for job in undone:
            if job.ranks > len(self._devices):
                raise TrainerError(f"{job.name}: expected {job.ranks} devices, got {len(self._devices)}")
        self._tally.give(jobs, undone)
        if len(undone) < len(jobs):
            self._display.say(f"done before: {len(jobs) - len(undone)} of {_jobs(len(jobs))}")
        with self._signals.noted():
            try:
                self._work(deque(sorted(undone, key=lambda job: -job.weight / job.ranks)))
            finally:
                self._end()
        if self._failure:
            raise TrainerError(self._failure)
        if self._stopped_by:
            raise Preempted(self._signals.told(self._stopped_by))

    def _work(self, waiting: deque[Job]) -> None:
        """In order: one that needs more devices than are free holds up those behind it, or it might wait for ever."""
        while True:
            self._stopped_by = self._stopped_by or self._signals.received
            if self._stopped_by or self._failure or not (waiting or self._running):
                return
            while waiting and waiting[0].ranks <= len(free := self._free()):
                job = waiting.popleft()
                self._running.append(Process(job, free[: job.ranks], self._lock.fileno()))
                self._note_running()
                self._display.began(job)
            self._look()

    def _free(self) -> list[Device]:
        used = {device for process in self._running for device in process.devices}
        return [device for device in self._devices if device not in used]

    def _note_running(self) -> None:
        self._lock.note(process.pid for process in self._running)

    def _look(self) -> None:
        """Wait a moment, and see who has ended."""
        time.sleep(POLL_S)
        for process in list(self._running):
            if ending := process.ending():
                self._running.remove(process)
                self._note_running()
                if ending == "done":
                    process.job.mark_done()
                elif ending == "stopped":  # a batch system signals all processes, and this one has heard it first
                    self._stopped_by = self._stopped_by or f"a signal to {process.job.name}"
                elif not (self._stopped_by or self._failure):
                    self._failure = process.failure()
                self._display.ended(process, self._running, well=ending == "done")
        self._display.tick(self._running)

    def _end(self) -> None:
        """Ask those that run to save and end, and wait for them; a second Ctrl-C kills them."""
        if self._running:
            why = self._stopped_by or ("a job failed" if self._failure else "an error")
            self._display.say(f"{why}: {_jobs(len(self._running))} to save and end (a second Ctrl-C kills them)")
        for process in self._running:
            process.stop()
        while self._running:
            if self._signals.interrupts > 1:
                for process in self._running:
                    process.kill()
            self._look()


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


class _Signals:
    """What asks the study to end: the stop signals and Ctrl-C."""

    def __init__(self, study: Path) -> None:
        self.received = ""  # name of the first one
        self.interrupts = 0  # how often it was Ctrl-C
        self._study, self._noted = study, False

    def told(self, why: str) -> str:
        """What a study says that was stopped."""
        return f"{self._study}: stopped by {why}; start it again to go on"

    @contextmanager
    def heard(self) -> Iterator[None]:
        """A block in which a signal raises `Preempted`."""
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, *STOP_SIGNALS)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # None: not set from Python

    @contextmanager
    def noted(self) -> Iterator[None]:
        """A block, within, in which a signal is noted and does nothing else."""
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
