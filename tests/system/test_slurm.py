"""The Slurm jobs as they stand, run by bash, with an `srun` and an `scontrol` that do what Slurm does on one node.

`test_slurm_real` runs them by Slurm itself.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jobs
import numpy as np
import pytest
import torch
from runs import SMALL, make_dataset, processes, trace

import trainer.__main__

SLURM = jobs.CHECKOUT / "cluster" / "slurm"
NAMES = ("pretrain", "finetune", "ingest")
STEPS = 50
OPTIONS = [*SMALL, "--max-steps", str(STEPS)]
TIMEOUT_S = 120.0

# What stands before the site's settings.
SBATCH = ["--ntasks-per-node=1", "--requeue", "--open-mode=append", "--dependency=singleton"]
SBATCH_OF = {
    "pretrain": ["--job-name=moco", *SBATCH, "--signal=USR1@300"],
    "finetune": ["--job-name=photoz", *SBATCH, "--signal=USR1@300"],
    "ingest": ["--job-name=ingest", *SBATCH, "--no-kill", "--signal=B:USR1@120"],
}

# Starts a step in a session of its own and says its process id; or, told a status, starts none and says the words.
SRUN = f"""#!{sys.executable}
import json, os, subprocess, sys
from pathlib import Path
folder = Path(__file__).parent
words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0)
(folder / "words").write_text(json.dumps(words))
if "TEST_STATUS" in os.environ:
    sys.exit(int(os.environ["TEST_STATUS"]))
step = subprocess.Popen(words, start_new_session=True)
(folder / "partial").write_text(str(step.pid))
(folder / "partial").rename(folder / "step")
status = step.wait()
sys.exit(128 - status if status < 0 else status)
"""
SCONTROL = """#!/usr/bin/env bash
echo "$*" >>"$(dirname "$0")/asked"
case $1-$2 in
  show-hostnames) echo localhost ;;
  show-job) echo "   PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime=${TEST_PREEMPTED:-None}" ;;
  requeue-*) [[ ! ${TEST_REQUEUED:-} ]] || { echo "Job is already pending" >&2; exit 1; } ;;
esac
"""


@dataclass
class Slurm:
    """A node that runs jobs."""

    folder: Path  # holds bin/, runs/ and the checkout's place
    environment: dict[str, str]
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The run of `pretrain.sbatch`."""
        return self.folder / "runs" / "moco"

    def start(self, job: str, *options: str, **environment: str) -> "subprocess.Popen[str]":
        """Begin a job, as Slurm would."""
        for name in ("step", "asked", "words"):
            (self.folder / "bin" / name).unlink(missing_ok=True)
        process = subprocess.Popen(
            ["bash", str(SLURM / f"{job}.sbatch"), *options],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def finish(self, job: str, *options: str, **environment: str) -> tuple[int, str]:
        """A whole job: its status, and what it said."""
        process = self.start(job, *options, **environment)
        said, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, said

    def words(self) -> list[str]:
        """The command that `srun` was given, without its own options."""
        return json.loads((self.folder / "bin" / "words").read_text())

    def requeued(self) -> list[str]:
        """What was asked of `scontrol requeue`."""
        asked = (self.folder / "bin" / "asked").read_text().splitlines()
        return [line for line in asked if line.startswith("requeue")]

    def signal_step(self, number: signal.Signals) -> None:
        """As Slurm does: to every process of the step, and to nothing else of the job."""
        for pid in processes(int((self.folder / "bin" / "step").read_text())):
            os.kill(pid, number)

    def close(self) -> None:
        """End what is left."""
        step = self.folder / "bin" / "step"
        left = processes(int(step.read_text())) if step.exists() else []
        jobs.kill([*left, *(pid for each in self.started if each.poll() is None for pid in processes(each.pid))])
        for each in self.started:
            each.communicate()


def _free_job() -> int:
    """The id of a job whose port is free."""
    while True:
        job = random.randrange(1, 20000)
        try:
            with socket.create_server(("127.0.0.1", 10000 + job)):
                return job
        except OSError:
            continue


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset") / "small")


@pytest.fixture
def slurm(tmp_path: Path, dataset: Path) -> Iterator[Slurm]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(jobs.CHECKOUT),
        "CUDA_VISIBLE_DEVICES": "",
        "SLURM_JOB_ID": str(_free_job()),
        "SLURM_JOB_NAME": "moco",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "1",
        "SKYMILL_DATASET": str(dataset),
        "SKYMILL_RUNS": str(tmp_path / "runs"),
        "SKYMILL_RANKS": "1",
    }
    made = Slurm(tmp_path, environment)
    yield made
    made.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a job; sums of several threads differ in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_job_that_gets_the_signal_saves_is_requeued_and_goes_on_at_the_next_step(
    slurm: Slurm, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = slurm.start("pretrain", *OPTIONS)
    _wait_for(lambda: (slurm.run / "metrics.jsonl").exists() and len(trace(slurm.run)) > 2, first)
    slurm.signal_step(signal.SIGUSR1)
    said, _ = first.communicate(timeout=TIMEOUT_S)
    assert first.returncode == 75, said
    assert slurm.requeued() == [f"requeue {slurm.environment['SLURM_JOB_ID']}"]
    saved = len(trace(slurm.run))
    assert 2 < saved < STEPS
    assert (slurm.run / "requeue").read_text().startswith(f"saved at step {saved} after SIGUSR1")

    # A start that fails is not started again, though the one before it asked for that.
    status, said = slurm.finish("pretrain", *OPTIONS, TEST_STATUS="1")
    assert (status, slurm.requeued()) == (1, []), said

    status, said = slurm.finish("pretrain", *OPTIONS, TEST_STATUS="0", SLURM_RESTART_COUNT="1")
    assert (status, slurm.requeued()) == (0, []), said
    # What that start would run, and the same run undisturbed, are done here: torch is loaded once.
    monkeypatch.setattr("trainer.running.write_run_report", lambda run: run)
    words = slurm.words()
    assert trainer.__main__.main(words[words.index("trainer") + 1 :]) == 0
    assert f"steps {saved} to {STEPS}" in capsys.readouterr().out
    assert not (slurm.run / "requeue").exists()
    whole = tmp_path / "whole"
    assert trainer.__main__.main(["pretrain", "--data", str(dataset), "--out", str(whole), *OPTIONS]) == 0
    assert len(trace(slurm.run)) == STEPS
    np.testing.assert_array_equal(trace(slurm.run), trace(whole))


def test_without_data_the_job_ends_in_one_line(slurm: Slurm, tmp_path: Path) -> None:
    status, said = slurm.finish("pretrain", SKYMILL_DATASET=str(tmp_path / "nothing"))
    assert status == 2
    assert said.count("\n") == 1
    assert said.startswith(f"moco: error: SKYMILL_DATASET: expected a dataset at {tmp_path / 'nothing'}, got no ")
    assert not (tmp_path / "bin" / "words").exists()


@pytest.mark.parametrize("job", NAMES)
def test_outside_of_slurm_it_says_so(slurm: Slurm, job: str) -> None:
    del slurm.environment["SLURM_JOB_ID"]
    status, said = slurm.finish(job)
    assert status != 0
    assert said.strip().endswith("SLURM_JOB_ID: is set by Slurm; start this with sbatch")


@pytest.mark.parametrize(
    ("status", "preempted", "expected"),
    [("1", "", 1), ("1", "2026-01-01T00:00:00", 75), ("143", "2026-01-01T00:00:00", 75), ("0", "2026-01-01", 0)],
)
def test_what_slurm_preempts_before_it_could_save_comes_back(
    slurm: Slurm, status: str, preempted: str, expected: int
) -> None:
    for refused in ("", "yes"):  # Slurm may have requeued it by itself
        found, said = slurm.finish("pretrain", TEST_STATUS=status, TEST_PREEMPTED=preempted, TEST_REQUEUED=refused)
        assert found == expected, said
        assert len(slurm.requeued()) == (expected == 75)


def test_a_requeued_job_meets_nothing_of_its_last_start(slurm: Slurm) -> None:
    slurm.finish("pretrain", TEST_STATUS="0")
    first = slurm.words()
    slurm.finish("pretrain", TEST_STATUS="0", SLURM_RESTART_COUNT="1")
    second = slurm.words()
    changed = [(one, other) for one, other in zip(first, second, strict=True) if one != other]
    job = slurm.environment["SLURM_JOB_ID"]
    assert changed == [(f"{job}-0", f"{job}-1")]


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        (["--epochs", "2", "--out", "elsewhere"], {}, "--out: expected none; name the run by sbatch's --job-name"),
        (["--out=elsewhere"], {}, "--out: expected none"),
        ([], {"SLURM_JOB_NAME": "../run"}, "--job-name: expected a folder's name, without /, got ../run"),
        ([], {"SLURM_ARRAY_JOB_ID": "7"}, "--array: expected none; each run is a job of its own name"),
    ],
)
def test_a_run_is_one_job_of_its_name(slurm: Slurm, options: list[str], environment: dict[str, str], told: str) -> None:
    status, said = slurm.finish("pretrain", *options, TEST_STATUS="0", **environment)
    assert status == 2
    assert told in said


@pytest.mark.parametrize(
    ("job", "options", "expected"),
    [
        ("pretrain", [], {}),
        ("pretrain", ["--epochs", "20", "--precision", "bf16"], {"epochs": 20, "precision": "bf16"}),
        ("finetune", [], {"task": "photoz", "init": "runs/moco"}),
        ("finetune", ["--task", "morphology", "--init", "none"], {"task": "morphology", "init": "none"}),
    ],
)
def test_options_of_the_job_are_those_of_the_command_and_win(
    slurm: Slurm, dataset: Path, job: str, options: list[str], expected: dict[str, object]
) -> None:
    status, said = slurm.finish(job, *options, TEST_STATUS="0", SLURM_JOB_NAME="mine", SKYMILL_RUNS="runs")
    assert status == 0, said
    words = slurm.words()
    module, command, *rest = words[words.index("-m") + 1 :]
    assert (words[0], module, command) == ("torchrun", "trainer", job)
    parser = argparse.ArgumentParser()
    importlib.import_module(f"trainer.{job}").add_arguments(parser)
    given = vars(parser.parse_args(rest))
    assert given.items() >= {"data": str(dataset), "out": Path("runs/mine"), **expected}.items()


def test_the_jobs_are_what_the_template_makes(tmp_path: Path) -> None:
    subprocess.run(["bash", str(SLURM / "make.sh"), str(tmp_path)], check=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(made) == {f"{name}.sbatch" for name in NAMES}
    assert {name: (SLURM / name).read_text() for name in made} == made, "run bash cluster/slurm/make.sh"


@pytest.mark.parametrize("job", NAMES)
def test_sbatch_sees_every_option(job: str) -> None:
    lines = (SLURM / f"{job}.sbatch").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    begins = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))  # it stops there
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert max(options) < begins
    site = next(number for number, line in enumerate(lines) if line.startswith("# ---- The site's settings."))
    assert [lines[number].removeprefix("#SBATCH ") for number in options if number < site] == SBATCH_OF[job]
    assert not [line for line in lines if line.startswith("#SBATCH") and ("account" in line or "partition" in line)]


def test_shell_files_are_without_fault() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.sh", "*.sbatch", ".ci/run"],
        cwd=jobs.CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"cluster/demo.sh", "cluster/slurm/make.sh", "cluster/slurm/pretrain.sbatch", ".ci/run"} <= set(listed)
    for name in listed:
        subprocess.run(["bash", "-n", name], cwd=jobs.CHECKOUT, check=True)
    if shutil.which("shellcheck") is None:
        assert not os.environ.get("CI"), "install Debian's package shellcheck"
        pytest.skip("shellcheck is not installed")
    scripts = [name for name in listed if not name.endswith("template.sbatch")]  # no script, but what makes three
    found = subprocess.run(["shellcheck", *scripts], cwd=jobs.CHECKOUT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def _wait_for(what: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + TIMEOUT_S
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.01)
