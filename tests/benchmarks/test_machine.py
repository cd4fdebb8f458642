"""The machine's description: what compares results, and no names."""

import json
import platform
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import machine
from benchmarks.ingesting import swarp


def test_it_says_what_compares_results():
    found = machine.describe()
    assert found["cores"] >= 1
    assert found["python"] == platform.python_version()
    assert found["versions"]["numpy"] == np.__version__
    assert (found["torch_threads"], found["gpus"]) == (torch.get_num_threads(), torch.cuda.device_count())
    json.dumps(found)


def test_it_does_not_name_the_machine():
    assert len(platform.node()) < 3 or platform.node() not in json.dumps(machine.describe())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n"
            "flags\t\t: fpu sse avx2 avx512f avx512_bf16\n\nmodel name\t: another\n",
            {"cpu": "AMD EPYC", "cpu_model": "AuthenticAMD 25 17 1", "cpu_vectors": "avx2 avx512f avx512_bf16"},
        ),
        (
            "processor\t: 0\nFeatures\t: fp asimd sve\n",
            {"cpu": platform.processor(), "cpu_model": "", "cpu_vectors": "asimd sve"},
        ),
        (None, {"cpu": platform.processor(), "cpu_model": "", "cpu_vectors": ""}),
    ],
    ids=["amd", "arm", "no /proc"],
)
def test_processors_are_told_apart(monkeypatch: pytest.MonkeyPatch, text: str | None, told: dict[str, str]):
    def read_text(path: Path) -> str:
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(machine, "PACKAGES", ())
    found = machine.describe()
    assert {key: found[key] for key in told} == told


def test_what_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(swarp, "program", lambda: None)
    assert machine.describe()["versions"] == {"no-such-package": None, "SWarp": None}


def test_programs_say_their_versions(monkeypatch: pytest.MonkeyPatch):
    said = {"SWarp": "SWarp version 2.41.5 (2021-01-27)\n", "nvidia-smi": "580.65.06\n580.65.06\n"}
    monkeypatch.setattr(swarp, "program", lambda: "SWarp")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: SimpleNamespace(stdout=said[command[0]]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a GPU")
    found = machine.describe()
    assert (found["versions"]["SWarp"], found["driver"], found["accelerator"]) == ("2.41.5", "580.65.06", "a GPU")


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_no_commit_outside_a_checkout(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert machine.commit() is None
