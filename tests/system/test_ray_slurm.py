"""`cluster/slurm/ingest.sbatch`, with stand-ins for Slurm's commands: two Ray nodes, the signal, the next start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs
import pytest

_STRIP_S = 240.0

# A step on each of the job's nodes, or on one, with the rank of each task; a SIGTERM goes on to them.
_SRUN = """#!/usr/bin/env bash
tasks=$SLURM_JOB_NUM_NODES
while [[ $1 == --* ]]; do
  [[ $1 != --ntasks=1 ]] || tasks=1
  shift
done
for ((task = 0; task < tasks; task++)); do
  SLURM_PROCID=$task "$@" &
done
trap 'kill -TERM $(jobs -p)' TERM
status=0
for pid in $(jobs -p); do
  wait "$pid" || { status=$?; wait "$pid" || status=$?; }
done
exit "$status"
"""
_SCONTROL = """#!/usr/bin/env bash
[[ $1 == show ]] && echo 127.0.0.1 || echo "$@" >>"$REQUEUED"
"""


def _start(survey: jobs.Survey, out: Path, tools: Path) -> subprocess.Popen[str]:
    python = Path(sys.executable).parent
    environment = {
        "PATH": f"{tools}{os.pathsep}{python}{os.pathsep}{os.environ['PATH']}",
        "REQUEUED": str(tools / "requeued"),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NAME": "ingest",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "SKYMILL_CATALOG": str(survey.catalog),
        "SKYMILL_FRAMES": str(survey.frames),
        "SKYMILL_DATASET": str(out),
    }
    text = (jobs.CHECKOUT / "cluster/slurm/ingest.sbatch").read_text()
    (tools / "ingest.sbatch").write_text(text.replace("\nvenv=.venv ", f"\nvenv={python.parent} "))
    return subprocess.Popen(
        ["bash", tools / "ingest.sbatch", "--samples-per-shard", str(jobs.Job.samples_per_shard)],
        cwd=jobs.CHECKOUT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow  # two starts of two nodes of Ray
def test_a_job_that_runs_out_of_time_is_requeued_and_goes_on(
    survey: jobs.Survey, reference: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"srun": _SRUN, "scontrol": _SCONTROL}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    job = jobs.Job(survey=survey, out=tmp_path / "out")

    first = _start(survey, job.out, tools)
    until = time.monotonic() + _STRIP_S
    while not (job.partial.exists() and job.strips_cut()):
        if first.poll() is not None or time.monotonic() > until:
            jobs.kill(jobs.session(first.pid))
            pytest.fail("\n".join(first.communicate()))
        time.sleep(0.005)
    os.kill(first.pid, signal.SIGUSR1)  # to the batch shell alone
    done = jobs.finished(first)
    assert done.returncode == 75, done.stdout + done.stderr
    assert (tools / "requeued").read_text() == f"requeue {os.getpid()}\n"
    assert jobs.left_over(first.pid) == []
    assert not job.out.exists()
    pieces = {(path.name, path.stat().st_mtime_ns) for path in job.partial.glob("pieces/*.json")}
    assert pieces

    second = _start(survey, job.out, tools)
    done = jobs.finished(second)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs.content(job.out) == reference["webdataset"]
    assert (tools / "requeued").read_text().count("\n") == 1
    assert jobs.left_over(second.pid) == []
    assert not list(Path("/tmp").glob(f"ray-{os.getpid()}-*"))
