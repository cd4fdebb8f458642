"""Jobs that are killed, interrupted, started twice, or done again end in the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import chaos
import jobs
import pytest

import ingest.job
from ingest.errors import IngestError
from ingest.prepare import IngestConfig, prepare
from ingest.sources import SourceConfig
from ingest.workfolder import WorkFolder

Reference = dict[str, dict[str, str]]
RAY_CRASHED = "You have likely discovered a bug in Ray"


def test_a_kill_of_each_kind_changes_nothing(survey: jobs.Survey, reference: Reference) -> None:
    """A driver and a worker; a node is killed in test_submit.py, and `make chaos` kills many of each."""
    kills = str(chaos.KINDS.index("node"))
    command = [sys.executable, chaos.__file__, "--kills", kills, "--seed", "5", "--survey", survey.root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split() == ["all", kills, "0"]


@pytest.mark.slow  # it does again what a kill at random may hit
def test_a_worker_that_dies_while_ray_starts_does_not_stop_the_job(
    survey: jobs.Survey, reference: Reference, tmp_path: Path
) -> None:
    job = jobs.Job(survey=survey, out=tmp_path / "out")
    process = job.start()
    starting: list[int] = []
    while not starting and process.poll() is None:
        found = jobs.session(process.pid).items()
        starting = [pid for pid, name in found if name.startswith("ray::IDLE")]  # its name before it is ready
    jobs.kill(starting[:1])
    assert starting
    done = jobs.finished(process)
    assert done.returncode == 0, done.stderr
    assert chaos.difference(job, reference["webdataset"]) == []


def test_a_difference_would_be_seen(survey: jobs.Survey, tmp_path: Path) -> None:
    job = jobs.Job(survey=survey, out=tmp_path / "out")
    (job.out / "shards").mkdir(parents=True)
    (job.out / "shards/00000.tar").write_bytes(b"some")
    reference = jobs.content(job.out)
    assert chaos.difference(job, reference) == []
    (job.out / "shards/00000.tar").write_bytes(b"same")
    (job.out / "shards/more").write_bytes(b"")
    job.partial.mkdir()
    assert chaos.difference(job, reference) == ["out/shards/00000.tar", "out/shards/more", "stray: out.partial"]


class _Again:
    """A pool in which every worker is lost after its task is done, before the result has come: the task runs again."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def put(self, name: Any, call: Any, *arguments: Any) -> None:
        self._inner.put(name, lambda: (call(*arguments), call(*arguments))[1])


@contextmanager
def _again(address: str | None, workers: int | None) -> Iterator[_Again]:
    with jobs.here(address, workers) as pool:
        yield _Again(pool)


@pytest.mark.parametrize("container", ["webdataset", "zarr"])
def test_a_task_may_run_again_after_it_was_done(
    survey: jobs.Survey, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: Any
) -> None:
    monkeypatch.setattr(ingest.job, "ray_pool", _again)
    config = _config(survey, tmp_path / "out", container)
    ingest.job.write_dataset(config, prepare(config))
    assert jobs.content(config.out) == reference[container]


def _config(survey: jobs.Survey, out: Path, container: Any = "webdataset") -> IngestConfig:
    """That of `jobs.Job`."""
    return IngestConfig(
        catalog=survey.catalog,
        source=SourceConfig(root=str(survey.frames)),
        out=out,
        format=container,
        samples_per_shard=jobs.Job.samples_per_shard,
    )


def test_a_job_that_lacks_only_its_last_step_takes_it(
    survey: jobs.Survey, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: WorkFolder) -> None:
        for each in (folder.pieces, folder.entries, folder.scratch):
            shutil.rmtree(each)
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest.job, "ray_pool", jobs.here)
    config = _config(survey, tmp_path / "out")
    work = prepare(config)
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest.job.write_dataset(config, work)
    assert not config.out.exists()
    ingest.job.write_dataset(config, work)
    assert jobs.content(config.out) == reference["webdataset"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    """It ended with one line, which says this."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert "Traceback" not in done.stderr
    assert line.startswith("ingest: error: ")
    assert text in line


def test_an_interrupted_job_refuses_others_and_goes_on(
    survey: jobs.Survey, reference: Reference, tmp_path: Path
) -> None:
    job = jobs.Job(survey=survey, out=tmp_path / "out")
    done = _interrupted(job)
    for _ in range(2):
        # It was in its last moments already; or Ray 2.60 crashed as it shut down, which it was seen to do.
        if done.returncode == 0 or RAY_CRASHED in done.stderr:
            shutil.rmtree(job.out if job.out.exists() else job.partial)
            done = _interrupted(job)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1].startswith("ingest: interrupted; ")
    assert "Traceback" not in done.stderr

    _refused(replace(job, format="zarr").run(), "left by an ingest of another catalogue or with other settings")
    shorter = tmp_path / "shorter.csv"
    shorter.write_text("".join(survey.catalog.read_text().splitlines(keepends=True)[:-2]))
    config = replace(_config(survey, job.out), catalog=shorter)
    with pytest.raises(IngestError, match="left by an ingest of another catalogue or with other settings"):
        ingest.job.write_dataset(config, prepare(config))

    assert job.strips_cut() >= 1
    went_on = job.run()
    assert went_on.returncode == 0, went_on.stderr
    assert jobs.content(job.out) == reference["webdataset"]
    assert _frames_unpacked(went_on.stdout) < 5 * jobs.RUNS * jobs.FIELDS_OF_RUN
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]


def _interrupted(job: jobs.Job) -> subprocess.CompletedProcess[str]:
    """Begin a job, let another try the same, then interrupt it as a terminal does: every process of it."""
    process = job.start()
    assert chaos.reached(job, process, chaos.Moment(strips=1, delay_s=0))
    os.killpg(process.pid, signal.SIGSTOP)  # so that it is still at work, however long the second takes to start
    try:
        _refused(job.run(), "another ingest is at work on it")
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    os.killpg(process.pid, signal.SIGINT)
    done = jobs.finished(process)
    assert jobs.left_over(process.pid) == []
    return done


def _frames_unpacked(printed: str) -> int:
    (line,) = (line for line in printed.splitlines() if "frames unpacked whole" in line)
    return int(line.split()[0])
