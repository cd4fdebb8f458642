"""The jobs by Slurm itself: they come back after the time limit and after preemption, and not after scancel."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jobs
import pytest
import slurm_cluster
from runs import SMALL, make_dataset, make_stand_ins, trace

pytestmark = pytest.mark.slow  # minutes: Slurm counts time limits in them


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm_cluster.Cluster]:
    if name := slurm_cluster.missing():
        pytest.skip(f"{name} is not installed: apt-get install slurm-wlm munge")
    with slurm_cluster.running() as started:
        yield started


def test_a_job_is_signalled_preempted_and_cancelled(cluster: slurm_cluster.Cluster, tmp_path: Path) -> None:
    dataset, run = make_dataset(tmp_path / "dataset"), tmp_path / "moco"
    (tmp_path / ".venv").symlink_to(sys.prefix)
    cluster.environment.update(
        SKYMILL_DATASET=str(dataset),
        SKYMILL_RUNS=str(tmp_path),
        SKYMILL_RANKS="2",
        CUDA_VISIBLE_DEVICES="",
        PYTHONPATH=str(jobs.CHECKOUT),
    )
    site = ["--gpus-per-node=0", "--cpus-per-task=2", f"--output={tmp_path}/%x-%j.log", f"--chdir={tmp_path}"]
    script = "cluster/slurm/pretrain.sbatch"
    [asked] = re.findall(r"^#SBATCH --signal=(\S+)@300$", (jobs.CHECKOUT / script).read_text(), re.MULTILINE)
    site += ["--time=2", f"--signal={asked}@30"]
    job = cluster.ask("sbatch", "--parsable", *site, script, *SMALL, "--max-steps", "1000000")

    def steps() -> int:
        return len(trace(run)) if (run / "metrics.jsonl").exists() else 0

    def said() -> str:
        return (tmp_path / f"moco-{job}.log").read_text()[-3000:]

    def requeued(times: int) -> int:
        """The steps that it has saved, once it is back in the queue; it is to start at once, not after two minutes."""
        cluster.wait(job, f"PENDING {times}")
        found = steps()
        cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
        return found

    slurm_cluster.wait_for(lambda: steps() > 0, said)
    saved = requeued(1)  # by the signal before the time limit
    assert saved > 0

    slurm_cluster.wait_for(lambda: steps() > saved, said)
    _preempt(cluster)
    saved, before = requeued(2), saved
    assert saved > before

    cluster.wait(job, "RUNNING 2")
    time.sleep(3)  # the step has begun; torch takes longer to import
    _preempt(cluster)
    assert requeued(3) == saved  # it could not save yet, and comes back

    slurm_cluster.wait_for(lambda: steps() > saved, said)
    cluster.ask("scancel", job)
    cluster.wait(job, "CANCELLED 3")
    assert (run / "requeue").exists()  # saved all the same, so what is started again by hand goes on there


def test_ingest_comes_back_from_preemption_and_not_from_a_later_fault(
    cluster: slurm_cluster.Cluster, tmp_path: Path
) -> None:
    commands = make_stand_ins(tmp_path)  # Ray and ingest itself: test_ray_slurm
    cluster.environment.update(SKYMILL_CATALOG=str(commands / "activate"), SKYMILL_DATASET=str(tmp_path / "dataset"))
    site = ["--nodes=1", "--cpus-per-task=2", "--time=2", f"--output={tmp_path}/%x-%j.log", f"--chdir={tmp_path}"]
    job = cluster.ask("sbatch", "--parsable", *site, "cluster/slurm/ingest.sbatch")

    def drivers() -> list[Path]:
        return list(commands.glob("*.python"))

    def said() -> str:
        return (tmp_path / f"ingest-{job}.log").read_text()[-3000:]

    slurm_cluster.wait_for(lambda: len(drivers()) == 1, said)
    _preempt(cluster)
    cluster.wait(job, "PENDING 1")
    cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    [before] = drivers()
    slurm_cluster.wait_for(lambda: len(drivers()) == 2, said)
    [again] = set(drivers()) - {before}
    os.kill(int(again.stem), signal.SIGKILL)  # what PreemptTime said is of the start before
    cluster.wait(job, "FAILED 1")
    assert not list(Path("/tmp").glob(f"ray-{job}-*"))


def _preempt(cluster: slurm_cluster.Cluster) -> None:
    cluster.ask("sbatch", "--partition=high", "--cpus-per-task=64", "--output=/dev/null", "--wrap=sleep 5")
