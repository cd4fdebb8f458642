"""What the documents tell people to type works: each command is run here, small, or it is said who runs it."""

import argparse
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import commands
import h5py
import jobs
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from commands import CHECKOUT, Command

SMALL_TRAINING = "--depth 10 --width 4 --batch 16 --batch-norm-groups 2 --precision fp32 --no-compile"
SMALL_PRETRAINING = f"{SMALL_TRAINING} --queue 64 --max-steps 2"
SMALL_FINETUNING = f"{SMALL_TRAINING} --epochs 1"
MANY_NODES = "--nproc-per-node gpu --rdzv-backend c10d --rdzv-endpoint node-a:29500"
RESULT = CHECKOUT / "benchmarks/results/2026-11-27-cpu-2-cores-all.json"


@dataclass(frozen=True, kw_only=True)
class Small:
    """How a command is run here: some of its words are others, and more stand behind it."""

    words: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    process: bool = False  # as it stands, not in this process
    slow: bool = False  # takes long: only in the slow test, where all are processes


# By how a command begins; the longest that fits counts.
HERE = {
    "python -m ingest run --catalog photoObj": Small(),
    "python -m ingest run --catalog CATALOG": Small(
        words={
            "CATALOG": "ten.parquet",
            "DIR_OR_URL": "/shared/frames",
            "[--format": "--format",
            "webdataset|zarr]": "zarr",
            "[--address": "--address",
            "RAY]": "local",
        }
    ),
    "python -m ingest run --catalog few.csv": Small(
        words={"https://data.sdss.org/sas/dr12/boss/photoObj/frames": "/shared/frames"}
    ),
    "python -m ingest run --catalog /shared": Small(),
    "python -m ingest hdf5": Small(words={"DATASET": "imported"}),
    "python -m ingest export": Small(words={"DATASET": "data/field"}),
    "python -m ingest seeing": Small(),
    "python -m sharding info": Small(),
    "python -m sharding verify": Small(),
    "python -m sharding convert DATASET --out NEW --format": Small(words={"DATASET": "data/field"}),
    "python -m sharding convert DATASET --out NEW --encoding": Small(words={"DATASET": "data/field", "NEW": "newer"}),
    "python -m sharding convert /shared": Small(),
    "python -m trainer views": Small(),
    "torchrun --nproc-per-node 2 -m trainer pretrain": Small(more="--width 4 --queue 64 --max-steps 2", process=True),
    "torchrun --nproc-per-node 2 -m trainer finetune": Small(more=SMALL_FINETUNING),
    "torchrun --standalone --nproc-per-node 8 -m trainer pretrain": Small(more=SMALL_PRETRAINING),
    "torchrun --standalone --nproc-per-node 8 -m trainer finetune": Small(more=SMALL_FINETUNING),
    "torchrun --standalone --nproc-per-node gpu -m trainer pretrain": Small(more=SMALL_PRETRAINING),
    "python -m trainer evaluate": Small(),
    "python -m trainer report": Small(),
    "python -m trainer study --recipe": Small(),
    "python -m trainer embed": Small(),
    "python -m trainer similar": Small(),
    "python -m trainer map": Small(slow=True),  # UMAP compiles for as long as all others take
    "python -m trainer knn": Small(),
    "python -m benchmarks compare": Small(),
    "torchrun --nproc-per-node 2 -m benchmarks train": Small(slow=True),  # half a minute
    f"torchrun --nnodes 4 {MANY_NODES} --rdzv-id bench": Small(
        words={"4": "1", "gpu": "2", "node-a:29500": "localhost:0"}, slow=True
    ),
    "python -c": Small(process=True),
    "head ": Small(process=True),
    "mkdir ": Small(process=True),
}

# By how a command begins: the file that runs it, and what must stand in that file.
ELSEWHERE = {
    "make test": (".ci/run", "lint test"),
    "make lint": (".ci/run", "lint test"),
    "cd /shared/skymill && make install": (".ci/run", "make install"),
    "ray get-auth-token": ("tests/system/two_nodes.py", 'told("ray get-auth-token"'),
    "RAY_AUTH_MODE=token ray start --h": ("tests/system/two_nodes.py", 'told("RAY_AUTH_MODE=token ray start --head"'),
    "RAY_AUTH_MODE=token ray start --a": ("tests/system/two_nodes.py", 'told("RAY_AUTH_MODE=token ray start --addr'),
    "RAY_AUTH_MODE=token ray job": ("tests/system/test_submit.py", 'told("RAY_AUTH_MODE=token ray job submit"'),
    "sbatch cluster/slurm/ingest.sbatch": ("tests/system/test_ray_slurm.py", "ingest.sbatch"),
    "sbatch cluster/slurm/pretrain.sbatch": ("tests/system/test_slurm.py", '"pretrain", "finetune"'),
    "sbatch cluster/slurm/finetune.sbatch": ("tests/system/test_slurm.py", '"pretrain", "finetune"'),
    "sbatch --dependency=afterok": ("tests/system/test_slurm.py", '"pretrain", "finetune"'),
    "bash cluster/slurm/make.sh": ("tests/system/test_slurm.py", "make.sh"),
    "kubectl apply --kustomize cluster/kubernetes": ("tests/system/test_manifests.py", "kustomize"),
    "export TORCH_": ("tests/system/test_torchrun_nodes.py", '"export TORCH_"'),
    "torchrun --nnodes 4": ("tests/system/test_torchrun_nodes.py", '"torchrun --nnodes 4 '),
    "torchrun --nnodes 2:4": ("tests/system/test_torchrun_nodes.py", '"torchrun --nnodes 2:4 '),
    "python -m trainer study --data": ("tests/trainer/test_study.py", '"study", "--recipe"'),
    "python -m benchmarks plan": ("tests/system/commands.py", "plan_printed"),
    "python -m benchmarks read": ("tests/benchmarks/test_command.py", '["read", "--page"'),
    "python -m benchmarks page": ("tests/benchmarks/test_command.py", '["page", '),
}

# By how a command begins: why no test runs it. That its options are known is tested all the same.
NOT_RUN = {
    "make demo": "minutes; tests/trainer/test_study.py runs its study, smaller, and its other commands are run here",
    "make study": "most of an hour; tests/trainer/test_study.py runs a study, smaller",
    "make bench": "ten minutes; tests/benchmarks runs every stage, smaller",
    "make chaos": "minutes of kills; tests/system/test_chaos.py makes some",
    "python -m benchmarks all": "ten minutes; tests/benchmarks runs every stage, smaller",
    "ray up": "needs AWS; tests/system/test_ray_files.py asks Ray and EC2's own schema about its file",
    "ray dashboard": "needs the cluster that `ray up` starts",
    "ray down": "needs the cluster that `ray up` starts",
    "kubectl wait": "needs a cluster; tests/system/test_manifests.py holds its names to the files",
    "kubectl create secret": "needs a cluster; tests/system/test_manifests.py holds its name to the files",
    "chmod 600 ~/.ray/auth_token": "is of the user's own home",
    "docker ": "CI has no container engine; tests/system/test_manifests.py checks the Dockerfile",
    "pip install boto3": "would change the tests' own packages; tests/system/test_ray_files.py holds the version",
}

SUBMITTED = {"ingest": "ingest run", "pretrain": "trainer pretrain", "finetune": "trainer finetune"}  # Slurm's jobs

ALL = commands.commands()


def _entry(command: Command) -> str:
    """The key under which a command stands; empty where it stands nowhere."""
    return max((key for key in (*HERE, *ELSEWHERE, *NOT_RUN) if command.text.startswith(key)), key=len, default="")


def _among(*tables: Mapping[str, object]) -> list[Command]:
    return [command for command in ALL if any(_entry(command) in table for table in tables)]


@pytest.fixture(scope="module")
def place(survey: jobs.Survey, survey_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents speak of: real frames, shared storage, and what `make demo` leaves."""
    root = tmp_path_factory.mktemp("place")
    real = survey_data / "sdss/000094-1-0012"
    tables = [real / "photoObj-000094-1-0012.fits", *(survey_data / "sdss").glob("photoField-*.fits")]
    given = {"frames": real, "old.json": RESULT, "new.json": RESULT, "shared/frames": survey.frames}
    (root / "shared").mkdir()
    for name, path in (given | {path.name: path for path in tables}).items():
        (root / name).symlink_to(path)
    table = pyarrow.csv.read_csv(survey.catalog)
    table = table.append_column("specz", [np.random.default_rng(1).uniform(0.02, 0.3, len(table))])
    pyarrow.csv.write_csv(table, root / "skymill_spectroscopic.csv")
    pyarrow.parquet.write_table(table, root / "shared/catalog.parquet")
    pyarrow.parquet.write_table(table[:10], root / "ten.parquet")
    for number, name in enumerate(("sdss_w_specz_train.h5", "more.h5")):
        _write_published(root / name, first=10 * number + 1)
    with pytest.MonkeyPatch.context() as patch:
        _stand_in(root, patch)
        ingest = "--catalog shared/catalog.parquet --frames shared/frames --out build/demo/dataset"
        pretrain = f"--data build/demo/dataset --out build/demo/pretrain/reference {SMALL_PRETRAINING}"
        assert _run_here(f"python -m ingest run {ingest}".split()) == 0
        assert _run_here(f"python -m trainer pretrain {pretrain}".split()) == 0
    return root


def _write_published(path: Path, *, first: int) -> None:
    """Three galaxies as Hayat et al. 2021 published them."""
    number = np.arange(first, first + 3)
    with h5py.File(path, "w") as file:
        file["images"] = np.ones((3, 5, 107, 107), "f4")
        file["e_bv"] = np.full((3, 5), 0.1) * [5.155, 3.793, 2.751, 2.086, 1.479]
        for name in ("ObjID", "specObjID"):
            file[name] = number
        for name in ("ra", "dec", "specz_redshift", "specz_redshift_err"):
            file[name] = number / 100


def _stand_in(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Commands of this process are run in a folder, without Ray, and without the page that a run draws at its end."""
    patch.chdir(root)
    patch.setattr("ingest.job.ray_pool", jobs.here)
    patch.setattr("trainer.running.write_run_report", lambda run: run / "report.html")


def _text(command: Command, root: Path) -> str:
    """A command made small, for a shell."""
    small = HERE[_entry(command)]
    words = [small.words.get(word, word) for word in f"{command.text} {small.more}".split()]
    return " ".join(words).replace(" /shared/", f" {root}/shared/")


def _run_here(words: list[str]) -> int:
    """In this process, as the one rank; packages and compiled kernels are loaded once for all commands."""
    program, *rest = words
    if program == "torchrun":
        given = _torchrun(rest)
        return _main(given.training_script)(given.training_script_args)
    assert (program, rest[0]) == ("python", "-m")
    return _main(rest[1])(rest[2:])


def _main(module: str) -> Any:
    return importlib.import_module(f"{module}.__main__").main


def _torchrun(words: list[str]) -> argparse.Namespace:
    from torch.distributed.run import get_args_parser

    given = get_args_parser().parse_args(words)
    assert given.module
    return given


def _ray(words: list[str]) -> None:
    """Let Ray's command line take these words; it would end the test where one is wrong."""
    from ray.scripts.scripts import cli

    command: Any = cli
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    command.make_context(name, words)


def _run_as_process(text: str, root: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"


def test_every_command_has_an_entry_and_every_entry_a_command() -> None:
    entries = {command: _entry(command) for command in ALL}
    assert [str(command) for command, entry in entries.items() if not entry] == []
    assert {*HERE, *ELSEWHERE, *NOT_RUN} - set(entries.values()) == set()


SLOW = [command for command in _among(HERE) if HERE[_entry(command)].slow]


@pytest.mark.parametrize("command", [each for each in _among(HERE) if each not in SLOW], ids=str)
def test_a_command_is_run(command: Command, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the documents: most take what those before them made."""
    if HERE[_entry(command)].process:
        _run_as_process(_text(command, place), place)
        return
    _stand_in(place, monkeypatch)
    assert _run_here(shlex.split(_text(command, place))) == 0


@pytest.mark.slow  # each is an interpreter of its own, most with torch or Ray
def test_commands_are_run_as_processes(place: Path) -> None:
    for made in ("data", "runs", "NEW", "newer", "imported", "DATASET", "few", "stamp.fits", "shared/runs"):
        shutil.rmtree(place / made, ignore_errors=True)
    for made in (place / "shared").glob("dataset*"):
        shutil.rmtree(made)
    (place / "stamp.fits").unlink(missing_ok=True)
    for command in _among(HERE):
        text = re.sub(r"--nproc-per-node (8|gpu)", "--nproc-per-node 2", _text(command, place))
        _run_as_process(text, place)


@pytest.mark.parametrize("command", _among(ELSEWHERE), ids=str)
def test_a_command_is_run_elsewhere(command: Command) -> None:
    file, essential = ELSEWHERE[_entry(command)]
    assert essential in commands.read(file)


@pytest.mark.parametrize("command", [each for each in ALL if "make " in each.text], ids=str)
def test_make_knows_its_targets(command: Command) -> None:
    words = shlex.split(command.text)
    targets = [word for word in words[words.index("make") + 1 :] if word not in ("&&", ".", ".venv/bin/activate")]
    done = subprocess.run(["make", "--dry-run", *targets], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [*_among(ELSEWHERE, NOT_RUN), *SLOW, *commands.inline()], ids=str)
def test_the_options_are_known(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Of commands that are not run here, or rarely, and of those that stand in a sentence."""
    text = command.text.removeprefix("RAY_AUTH_MODE=token ")
    if text.startswith("ray "):
        _ray(text.partition(" > ")[0].split()[1:])
        return
    if text.startswith("torchrun ") and " ... " not in text:
        _torchrun(text.split()[1:])
    for job, room in SUBMITTED.items():
        text = re.sub(rf"^sbatch .*cluster/slurm/{job}\.sbatch", f"python -m {room}", text)
    _, module, rest = text.partition(" -m ")
    if not module:
        return
    name, subcommand, *options = rest.split()
    with pytest.raises(SystemExit) as end:
        _main(name)([subcommand, "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out.split()
    assert {option for option in options if option.startswith("--")} <= {word.strip("[],") for word in told}


@pytest.mark.parametrize("number", range(2))
def test_the_python_of_the_readme_runs(number: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    code = list(commands.fenced("README.md", "python"))[number]
    exec(code.replace("batch=256", "batch=16"), {})


def test_the_files_that_commands_name_are_there() -> None:
    named = {word for command in ALL for word in command.text.split() if word.startswith("cluster/")}
    assert {name for name in named if not (CHECKOUT / name).exists()} == set()


def test_the_page_shows_what_the_plan_prints() -> None:
    """`python tests/system/commands.py` puts it there."""
    assert commands.plan_told() == commands.plan_printed()
