"""The watch over workers' memory: peaks, halves, and who is a worker."""

import os
import subprocess
import sys

import pytest

from benchmarks.memory import WorkerMemory, worker_peaks


def test_growth_compares_the_whole_with_the_first_half():
    memory = WorkerMemory()
    for seconds, peaks in [(0.0, [100, 50]), (4.0, [200]), (5.0, []), (6.0, [300]), (10.0, [250, 10])]:
        memory.look(seconds, peaks)
    assert memory.seen[-1] == (10.0, 300)  # a peak stays one when its process has ended
    assert memory.growth == 300 / 200
    assert memory.peak_mb == pytest.approx(300e-6)


def test_without_workers_there_is_nothing_to_say():
    assert (WorkerMemory().peak_mb, WorkerMemory().growth) == (None, None)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
def test_only_descendants_that_ray_names_as_workers_count():
    """A process of 200 MB that calls itself as Ray's workers do, and one that calls itself as Ray's agents do."""
    code = "data = b'x' * 200_000_000; print('ready', flush=True); input()"
    names = ("ray::worker", "ray::DashboardAgent", "other")
    started = [
        subprocess.Popen(
            [name, "-c", code], executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        (peak,) = worker_peaks(os.getpid())
        assert 200e6 < peak < 300e6  # the interpreter itself has 10 MB
        assert worker_peaks(started[0].pid) == []
    finally:
        for process in started:
            process.communicate("\n")
