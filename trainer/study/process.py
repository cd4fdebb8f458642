"""A job of a study and the process that does it: its command line, its devices, its log, and how it ended.

A process is in a session of its own, so that a Ctrl-C at the terminal reaches the study alone, which then tells it. If
the study dies, the kernel tells it (`follow`): it saves and ends as if the study had asked.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sharding import atomic_file

from ..errors import TrainerError
from ..signals import REQUEUE_FILE, REQUEUE_STATUS, STOP_SIGNALS, clear_requeue
from . import follow
from .devices import Device, environment

PROGRAM = (sys.executable, "-m", "trainer")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
TORCHRUN_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"  # it passes them on; see trainer.signals
SAVE_S = "120"  # the time that torchrun gives its ranks to save
STATE = "job.json"
WELL, DIVERGED = "well", "diverged"
LOG = "log.txt"
LOG_LINES = 10  # of the log, where a process failed without saying why in one
OWN_ERROR = "trainer: error: "
TOO_HIGH = "lower --lr"  # in the error of a training whose loss or weights are finite no more

Ending = Literal["done", "diverged", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something that `python -m trainer` does, once, in a folder of its own.

    The folder holds log.txt, all it has said, and job.json: what was begun there, from what, and how that has ended.
    Where things lie is not part of it, so a study goes on when it was moved, or is called by another path.
    """

    name: str  # for people
    words: tuple[str, ...]  # of the command line, after `python -m trainer`: what is done
    places: tuple[str, ...] = ()  # and the rest of it: where things are
    origin: tuple[str, ...] = ()  # what it is made from, by digests
    folder: Path
    ranks: int = 1  # processes under torchrun, each on a device
    weight: float = 1.0  # the work in it, in any unit that all jobs share
    may_diverge: bool = False  # whether that, too, is an end, of which the study thinks something

    @property
    def done(self) -> bool:
        """Whether it has ended before, well or, where it may, diverged; TrainerError where that was another job.

        What was made from something else, an earlier pre-training say, is not this job done: `begin` clears it away.
        """
        held = self._held()
        if held is None or held["ended"] is None:  # what was begun, the program itself knows
            return False
        before, now = _settings(held["words"]), _settings(self.words)
        if sorted(before) == sorted(now):
            return bool(held["origin"] == list(self.origin))
        gone, new = (
            ", ".join(one for one in ours if one not in theirs) for ours, theirs in ((before, now), (now, before))
        )
        raise TrainerError(
            f"{self.folder}: expected to be done with {new or 'less'}, was done with {gone or 'less'}; choose another "
            "--out or remove the folder"
        )

    @property
    def diverged(self) -> bool:
        """Whether it has ended so."""
        held = self._held()
        return held is not None and held["ended"] == DIVERGED and held["origin"] == list(self.origin)

    @property
    def made_on(self) -> int | None:
        """How many ranks made it; None where it has not ended."""
        held = self._held()
        return None if held is None else held["ranks"]

    def begin(self) -> None:
        """Make the folder ready: empty, where it holds what was made from something else."""
        held = self._held()
        if held is not None and held["origin"] != list(self.origin):
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(None)

    def end(self, *, diverged: bool = False) -> None:
        """Note that it has ended."""
        self._write(DIVERGED if diverged else WELL)

    def _write(self, ended: str | None) -> None:
        content = {
            "words": self.words,
            "origin": self.origin,
            "ended": ended,
            "ranks": None if ended is None else self.ranks,
        }
        with atomic_file(self.folder / STATE) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())

    def _held(self) -> dict[str, Any] | None:
        """The content of job.json; None where nothing was begun."""
        path = self.folder / STATE
        if not path.exists():
            return None
        try:
            held = json.loads(path.read_bytes())
            return {name: held[name] for name in ("words", "origin", "ended", "ranks")}
        except (ValueError, KeyError, TypeError) as err:
            raise TrainerError(f"{path}: damaged ({err!r}); remove the folder {self.folder}") from err


def _settings(words: Iterable[str]) -> list[str]:
    """Words by options: a command, then each option with its values."""
    found: list[str] = []
    for word in words:
        if found and not word.startswith("--"):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


class Process:
    """A job under way on some devices."""

    def __init__(self, job: Job, devices: Sequence[Device], lock: int) -> None:
        """Start it. ``lock`` is a descriptor that it holds open as long as it lives."""
        self.job, self.devices = job, tuple(devices)
        self._began = time.monotonic()
        job.begin()
        clear_requeue(job.folder)
        with (job.folder / LOG).open("ab") as log:
            self._log_from = log.tell()
            self._process = subprocess.Popen(
                _command(job),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": SAVE_S, **os.environ, **environment(self.devices)},
                start_new_session=True,
                pass_fds=[lock],
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self._began

    def ending(self) -> Ending | None:
        """How it has ended; None while it runs.

        torchrun hides the status of its ranks; a run that a signal stopped has left a file. A program that does not
        heed signals, or not yet, is ended by them.
        """
        status = self._process.poll()
        if status is None:
            return None
        if status == 0:
            return "done"
        requeue = status == REQUEUE_STATUS or (self.job.folder / REQUEUE_FILE).exists()
        if requeue or -status in STOP_SIGNALS:
            return "stopped"
        diverged = self.job.may_diverge and any(TOO_HIGH in line for line in self._own_errors())
        return "diverged" if diverged else "failed"

    def stop(self) -> None:
        """Ask it to save and end. Not its group: a compiler that it has started, say, is its own to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, and what it has started, without a save."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)

    def failure(self) -> str:
        """What there is to say of a process that has failed: its own one-line error, else the end of its log."""
        status, path = self._process.returncode, self.job.folder / LOG
        how = f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
        if own := self._own_errors():
            return f"{self.job.name}: {how}: {own[0]} (all it said is in {path})"
        said = self._said()[-LOG_LINES:]
        if not said:
            why = "often there was too little memory" if status == -signal.SIGKILL else f"it left nothing in {path}"
            return f"{self.job.name}: {how} before it said anything ({why}); start the study again to go on"
        return "\n  ".join([f"{self.job.name}: {how}; the end of {path}:", *said])

    def _own_errors(self) -> list[str]:
        return [line.removeprefix(OWN_ERROR) for line in self._said() if line.startswith(OWN_ERROR)]

    def _said(self) -> list[str]:
        """The lines of its log in this start."""
        with (self.job.folder / LOG).open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace").splitlines()


def _command(job: Job) -> list[str]:
    words = [*PROGRAM, *job.words, *job.places]
    if job.ranks > 1:
        # Its ranks are in sessions of their own and would live on without it.
        words = [*_following(signal.SIGKILL, 0), *words]
        how = ["--nproc-per-node", str(job.ranks), "--signals-to-handle", TORCHRUN_SIGNALS, "--no-python"]
        words = [*TORCHRUN, *how, *words]
    return [*_following(signal.SIGTERM, os.getpid()), *words]


def _following(number: signal.Signals, parent: int) -> list[str]:
    return [sys.executable, "-I", "-S", follow.__file__, str(int(number)), str(parent)]
