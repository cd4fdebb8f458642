"""The largest resident memory of Ray's worker processes, followed while a job runs. Reads /proc: Linux only."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_INTERVAL_S = 0.5  # a process's peak is counted by the kernel, so a spell between two looks is not missed
_NAME, _SERVICES = "ray::", ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass(slots=True)
class WorkerMemory:
    """Peaks of the largest worker so far, by time."""

    seen: list[tuple[float, int]] = field(default_factory=list)  # (seconds, bytes), both ascending

    @property
    def peak_mb(self) -> float | None:
        """The largest resident memory of a worker [MB]; None where none was seen."""
        return self.seen[-1][1] / 1e6 if self.seen else None

    @property
    def growth(self) -> float | None:
        """The peak of the whole time over that of its first half: 1 where memory is flat; None where none was seen."""
        if not self.seen:
            return None
        middle = (self.seen[0][0] + self.seen[-1][0]) / 2
        return self.seen[-1][1] / max(peak for seconds, peak in self.seen if seconds <= middle)

    def look(self, seconds: float, peaks: list[int]) -> None:
        """Note the peaks of the workers that are there at a time."""
        if peaks:
            before = self.seen[-1][1] if self.seen else 0
            self.seen.append((seconds, max(before, *peaks)))


@contextmanager
def watched_workers() -> Iterator[WorkerMemory]:
    """Watch the workers among this process's descendants."""
    memory, ended = WorkerMemory(), threading.Event()

    def watch() -> None:
        while not ended.wait(_INTERVAL_S):
            memory.look(time.monotonic(), worker_peaks(os.getpid()))

    thread = threading.Thread(target=watch, name="watch workers' memory", daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def worker_peaks(root: int) -> list[int]:
    """Largest resident memory so far [bytes] of each Ray worker below the process ``root``."""
    parents = {}
    for folder in _PROC.glob("[0-9]*"):
        if (parent := _status(folder).get("PPid")) is not None:
            parents[int(folder.name)] = int(parent)
    peaks = []
    for process in parents:
        if _is_below(process, root, parents) and _is_worker(_PROC / str(process)):
            peak = _status(_PROC / str(process)).get("VmHWM", "0 kB")  # absent once it has ended
            peaks.append(1024 * int(peak.split()[0]))
    return [peak for peak in peaks if peak]


def _status(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / "status").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _is_worker(folder: Path) -> bool:
    try:
        name = (folder / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return name.startswith(_NAME) and not name.startswith(_SERVICES)


def _is_below(process: int, root: int, parents: dict[int, int]) -> bool:
    while process in parents:
        process = parents[process]
        if process == root:
            return True
    return False
