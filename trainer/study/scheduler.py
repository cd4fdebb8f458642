"""A study's jobs over the devices there are: long ones first, each a process of its own, stopped and gone on with.

A job that has ended well is never started again. Where a signal comes, or a job fails, all save and end, and the next
start goes on from there.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.console import Console

from ..errors import TrainerError
from ..signals import Preempted
from .devices import Device
from .held import Held
from .process import Job, Process
from .progress import Display, Tally

__all__ = ["Job", "Scheduler"]

POLL_S = 0.05


class Scheduler:
    """Carries out jobs in a folder that is ``held``; use it as a context. Jobs may come in several calls."""

    def __init__(
        self, devices: Sequence[Device], console: Console, total_weight: float | None = None, *, held: Held
    ) -> None:
        """``total_weight`` is that of all jobs there will be; None where it is not known."""
        self._devices, self._held = devices, held
        self._tally = Tally(len(devices), total_weight or 0.0)
        self._display = Display(console, self._tally)
        self._running: list[Process] = []
        self._after: Callable[[Job], object] = lambda job: None
        self._stopped_by, self._failure = "", ""  # why no more jobs are started

    def __enter__(self) -> "Scheduler":
        self._display.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._display.__exit__(*error)

    def carry_out(self, jobs: Sequence[Job], after: Callable[[Job], object] = lambda job: None) -> None:
        """Do what of ``jobs`` is not done; returns when all is. ``after`` is called with each that is, now or before.

        TrainerError for a job that fails, that needs more devices than there are, or whose folder holds another one;
        `Preempted` where a signal to the study or to a job has stopped it, once all have saved.
        """
        done = {job for job in jobs if job.done}
        undone = [job for job in jobs if job not in done]
        for job in undone:
            if job.ranks > len(self._devices):
                raise TrainerError(f"{job.name}: expected {job.ranks} devices, got {len(self._devices)}")
        self._tally.give(jobs, undone)
        if done:
            self._display.say(f"done before: {len(done)} of {_jobs(len(jobs))}")
        self._after = after
        for job in done:
            after(job)
        with self._held.noted():
            try:
                self._work(deque(sorted(undone, key=lambda job: -job.weight / job.ranks)))
            finally:
                self._end()
        if self._failure:
            raise TrainerError(self._failure)
        if self._stopped_by:
            raise Preempted(self._held.told(self._stopped_by))

    def _work(self, waiting: deque[Job]) -> None:
        """In order: one that needs more devices than are free holds up those behind it, or it might wait for ever."""
        while True:
            self._stopped_by = self._stopped_by or self._held.received
            if self._stopped_by or self._failure or not (waiting or self._running):
                return
            while waiting and waiting[0].ranks <= len(free := self._free()):
                job = waiting.popleft()
                self._running.append(Process(job, free[: job.ranks], self._held.lock.fileno()))
                self._note_running()
                self._display.began(job)
            self._look()

    def _free(self) -> list[Device]:
        used = {device for process in self._running for device in process.devices}
        return [device for device in self._devices if device not in used]

    def _note_running(self) -> None:
        self._held.lock.note(process.pid for process in self._running)

    def _look(self) -> None:
        """Wait a moment, and see who has ended."""
        time.sleep(POLL_S)
        for process in list(self._running):
            if ending := process.ending():
                self._running.remove(process)
                self._note_running()
                if ending in ("done", "diverged"):
                    process.job.end(diverged=ending == "diverged")
                    self._after(process.job)
                elif ending == "stopped":  # a batch system signals all processes, and this one has heard it first
                    self._stopped_by = self._stopped_by or f"a signal to {process.job.name}"
                elif not (self._stopped_by or self._failure):
                    self._failure = process.failure()
                self._display.ended(process, self._running, well=ending in ("done", "diverged"))
                if ending == "diverged":
                    self._display.say(f"{process.job.name}: has diverged")
        self._display.tick(self._running)

    def _end(self) -> None:
        """Ask those that run to save and end, and wait for them; a second Ctrl-C kills them."""
        if self._running:
            why = self._stopped_by or ("a job failed" if self._failure else "an error")
            self._display.say(f"{why}: {_jobs(len(self._running))} to save and end (a second Ctrl-C kills them)")
        for process in self._running:
            process.stop()
        while self._running:
            if self._held.interrupts > 1:
                for process in self._running:
                    process.kill()
            self._look()


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"
