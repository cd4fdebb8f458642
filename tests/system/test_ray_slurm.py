"""`cluster/slurm/ingest.sbatch` as it stands, with stand-ins for Slurm; in most tests for Ray and ingest, too.

What is left then is its shell: who is started with what, who is told to end, and whether the job comes back.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jobs
import pytest
from runs import executable, make_stand_ins, processes

from ingest.run import add_run

_WAIT_S = 240.0

# A step on each of the job's nodes, or on one, with the rank of each task. Told to end, it kills them, as srun does.
_SRUN = """#!/usr/bin/env bash
shopt -s nullglob
tasks=$SLURM_JOB_NUM_NODES
while [[ $1 == --* ]]; do
  [[ $1 != --ntasks=1 ]] || tasks=1
  shift
done
steps=("$(dirname "$0")"/*.tasks)
trap 'kill -KILL $(jobs -p)' TERM
for ((task = 0; task < tasks; task++)); do
  SLURM_PROCID=$task "$@" &
  echo $! >>"$(dirname "$0")/${#steps[@]}.tasks"
done
status=0
for pid in $(jobs -p); do
  wait "$pid" || { status=$?; wait "$pid" || status=$?; }
done
exit "$status"
"""
# SIGTERM to the tasks of JOB.STEP.
_SCANCEL = """#!/usr/bin/env bash
[[ $1 == --signal=TERM && $2 == "$SLURM_JOB_ID".* ]]
kill -TERM $(<"$(dirname "$0")/${2#*.}.tasks")
"""
_SCONTROL = """#!/usr/bin/env bash
case $1-$2 in
  show-hostnames) echo 127.0.0.1 ;;
  show-job) echo "   PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=${TEST_PREEMPTED:-None}" ;;
  requeue-*) echo "$*" >>"$(dirname "$0")/requeued"; [[ ! ${TEST_REQUEUED:-} ]] || exit 1 ;;
esac
"""


@dataclass(frozen=True)
class Slurm:
    """Two nodes that run `ingest.sbatch`."""

    folder: Path  # where the job is started; holds .venv and bin/
    environment: dict[str, str]

    @property
    def job(self) -> str:
        """The job's id."""
        return self.environment["SLURM_JOB_ID"]

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """Begin the job, as Slurm would."""
        for path in (self.folder / "bin").glob("*.tasks"):
            path.unlink()
        return subprocess.Popen(
            ["bash", jobs.CHECKOUT / "cluster/slurm/ingest.sbatch", *options],
            cwd=self.folder,
            env=os.environ | self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        """For something to hold, before the job ends."""
        until = time.monotonic() + _WAIT_S
        while not what():
            if process.poll() is not None or time.monotonic() > until:
                jobs.kill(jobs.session(process.pid))
                pytest.fail("\n".join(process.communicate()))
            time.sleep(0.005)

    def finish(self, process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        """The job at its end, of which nothing is left."""
        done = jobs.finished(process)
        assert jobs.left_over(process.pid) == []
        assert not list(Path("/tmp").glob(f"ray-{self.job}-*"))
        return done

    def requeued(self) -> list[str]:
        """What was asked of `scontrol requeue`, since this was last asked."""
        path = self.folder / "bin" / "requeued"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@dataclass(frozen=True)
class Shell(Slurm):
    """Neither Ray nor ingest are run."""

    def calls(self, name: str) -> list[tuple[list[str], str]]:
        """The words and the token of each `ray` or `python`."""
        return [tuple(json.loads(path.read_text())) for path in (self.folder / ".venv/bin").glob(f"*.{name}")]

    def signal_steps(self, number: signal.Signals) -> None:
        """As Slurm does: to every process of the steps, and to nothing else of the job."""
        for task in self.tasks():
            for pid in processes(task):
                with suppress(ProcessLookupError):  # it ended meanwhile
                    os.kill(pid, number)

    def tasks(self) -> list[int]:
        """The process ids of all tasks of the job's steps."""
        return [int(task) for path in (self.folder / "bin").glob("*.tasks") for task in path.read_text().split()]


def _free_job() -> int:
    """The id of a job whose port is free."""
    while True:
        job = random.randrange(1, 10000)
        try:
            with socket.create_server(("127.0.0.1", 10000 + 2 * job)):
                return job
        except OSError:
            continue


def _environment(folder: Path) -> dict[str, str]:
    executable(folder / "bin" / "srun", _SRUN)
    executable(folder / "bin" / "scancel", _SCANCEL)
    executable(folder / "bin" / "scontrol", _SCONTROL)
    return {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(jobs.CHECKOUT),
        "SLURM_JOB_ID": str(_free_job()),
        "SLURM_JOB_NAME": "ingest",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    commands = make_stand_ins(tmp_path)
    executable(commands / "sleep", "#!/bin/sh\nexec /bin/sleep 0.02\n")
    catalog = tmp_path / "catalog.csv"
    catalog.touch()
    paths = {"SKYMILL_CATALOG": str(catalog), "SKYMILL_FRAMES": "https://frames", "SKYMILL_DATASET": "dataset"}
    made = Shell(tmp_path, _environment(tmp_path) | paths)
    yield made
    jobs.kill(pid for task in made.tasks() for pid in processes(task))  # where a test failed


def test_a_job_starts_ray_on_its_nodes_and_ingest_on_the_first(shell: Shell) -> None:
    job = shell.start("--samples-per-shard", "7", "--out", "mine")
    shell.wait_for(lambda: len(shell.calls("ray")) == 2 and len(shell.calls("python")) == 1, job)
    shell.signal_steps(signal.SIGTERM)
    shell.finish(job)

    address = f"127.0.0.1:{10000 + 2 * int(shell.job)}"
    nodes = shell.calls("ray")
    joined = [word for words, _ in nodes for word in words if word.startswith(("--head", "--address"))]
    assert sorted(joined) == [f"--address={address}", "--head"]
    assert all({"start", "--block", "--num-cpus=1", "--num-gpus=0"} <= set(words) for words, _ in nodes)

    [(words, token)] = shell.calls("python")
    assert words[:3] == ["-m", "ingest", "run"]
    parser = argparse.ArgumentParser()
    add_run(parser)
    expected = {"frames": "https://frames", "address": address, "samples_per_shard": 7, "out": Path("mine")}
    assert vars(parser.parse_args(words[3:])).items() >= expected.items()
    assert {token} == {each for _, each in nodes}
    assert len(bytes.fromhex(token)) == 32

    done = shell.finish(shell.start(TEST_STATUS="0"))
    assert (done.returncode, shell.requeued()) == (0, []), done.stderr
    assert len({each for _, each in shell.calls("python")}) == 2  # a token of that start alone


@pytest.mark.parametrize("refused", ["", "yes"])  # Slurm may have requeued it by itself
def test_before_the_time_limit_it_ends_ingest_and_comes_back(shell: Shell, refused: str) -> None:
    job = shell.start(TEST_REQUEUED=refused)
    shell.wait_for(lambda: len(shell.calls("python")) == 1, job)
    os.kill(job.pid, signal.SIGUSR1)  # to the batch shell alone
    done = shell.finish(job)
    assert (done.returncode, shell.requeued()) == (75, [f"requeue {shell.job}"]), done.stderr


@pytest.mark.parametrize(("preempted", "expected"), [("2026-01-01T00:00:00", 75), ("", 143)])
def test_steps_that_are_ended_come_back_where_that_was_a_preemption(
    shell: Shell, preempted: str, expected: int
) -> None:
    for refused in ("", "yes"):
        job = shell.start(TEST_PREEMPTED=preempted, TEST_REQUEUED=refused)
        before = len(shell.calls("python"))
        shell.wait_for(lambda before=before: len(shell.calls("python")) > before, job)
        shell.signal_steps(signal.SIGTERM)
        done = shell.finish(job)
        assert done.returncode == expected, done.stderr
        assert len(shell.requeued()) == (expected == 75)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"TEST_STATUS": "2"}, 2),
        ({"TEST_STATUS": "0", "TEST_PREEMPTED": "2026-01-01"}, 0),
        ({"TEST_RAY": "1", "SLURM_JOB_NUM_NODES": "1"}, 2),
        ({"TEST_RAY": "1", "SLURM_JOB_NUM_NODES": "1", "TEST_PREEMPTED": "2026-01-01"}, 75),  # while Ray starts
    ],
)
def test_a_job_that_fails_comes_back_only_from_preemption(shell: Shell, told: dict[str, str], expected: int) -> None:
    done = shell.finish(shell.start(**told))
    assert (done.returncode, len(shell.requeued())) == (expected, expected == 75), done.stderr
    assert ("ingest: error: 127.0.0.1: no Ray there" in done.stderr) == ("TEST_RAY" in told)


def test_a_node_that_is_told_to_end_before_ray_is_there_ends(shell: Shell) -> None:
    job = shell.start(TEST_RAY="0")  # the head ends at once, so the other waits for it
    shell.wait_for(lambda: len(shell.tasks()) == 2 and len(shell.calls("ray")) == 1, job)
    shell.signal_steps(signal.SIGTERM)
    assert shell.finish(job).returncode == 2


def test_without_a_catalogue_it_ends_in_one_line(shell: Shell) -> None:
    done = shell.finish(shell.start(SKYMILL_CATALOG="nothing"))
    assert done.returncode == 2
    assert done.stderr == "ingest: error: SKYMILL_CATALOG: expected a file at nothing, got none\n"
    assert not shell.calls("ray")


@pytest.mark.slow  # two starts of two nodes of Ray
def test_a_job_that_runs_out_of_time_is_requeued_and_goes_on(
    survey: jobs.Survey, reference: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    job = jobs.Job(survey=survey, out=tmp_path / "out")
    paths = {"SKYMILL_CATALOG": survey.catalog, "SKYMILL_FRAMES": survey.frames, "SKYMILL_DATASET": job.out}
    slurm = Slurm(tmp_path, _environment(tmp_path) | {name: str(path) for name, path in paths.items()})
    options = ["--samples-per-shard", str(job.samples_per_shard)]

    first = slurm.start(*options)
    slurm.wait_for(lambda: job.partial.exists() and job.strips_cut() > 0, first)
    os.kill(first.pid, signal.SIGUSR1)
    done = slurm.finish(first)
    assert done.returncode == 75, done.stdout + done.stderr
    assert slurm.requeued() == [f"requeue {slurm.job}"]
    assert not job.out.exists()
    assert job.strips_cut()

    done = slurm.finish(slurm.start(*options))
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs.content(job.out) == reference["webdataset"]
    assert slurm.requeued() == []
