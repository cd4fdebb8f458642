"""The machine's description: what compares results, and no names."""

import json
import platform
import subprocess

import numpy as np
import pytest

from benchmarks import machine


def test_it_says_what_compares_results():
    found = machine.describe()
    assert found["cores"] >= 1
    assert found["python"] == platform.python_version()
    assert found["versions"]["numpy"] == np.__version__
    json.dumps(found)


def test_it_does_not_name_the_machine():
    assert len(platform.node()) < 3 or platform.node() not in json.dumps(machine.describe())


def test_what_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "PACKAGES", ("no-such-package",))
    assert machine.describe()["versions"] == {"no-such-package": None}


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_no_commit_outside_a_checkout(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert machine.commit() is None
