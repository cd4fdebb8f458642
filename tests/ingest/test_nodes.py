"""What differs between the nodes of a cluster is told, and costs no object."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ingest.job
from ingest.__main__ import main
from ingest.pool import _attempt
from ingest.sources import FolderSource
from sharding import Dataset

pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")


class Elsewhere:
    """Takes the place of Ray: another node, at which the folder of frames is empty if it is ``blind``."""

    free = True

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, blind: bool) -> None:
        self._monkeypatch, self._blind = monkeypatch, blind
        self._results: list[tuple[Any, Any]] = []

    def put(self, name: Any, call: Callable[..., Any], *arguments: Any) -> None:
        with self._monkeypatch.context() as patch:
            if self._blind:
                patch.setattr(FolderSource, "read", lambda source, field, band: None)
            self._results.append((name, call(*arguments)))

    def results(self, timeout_s: float) -> Iterator[tuple[Any, Any]]:
        yield self._results.pop()

    def __len__(self) -> int:
        return len(self._results)

    @contextmanager
    def pool(self, address: str | None, workers: int | None) -> Iterator["Elsewhere"]:
        yield self


def run(small_field: Any, out: Path) -> int:
    arguments = ["--catalog", small_field.catalog, "--frames", small_field.frames, "--out", out]
    return main(["run", *map(str, arguments), "--on-error", "reject"])


def test_frames_that_one_node_does_not_see_are_no_rejects(
    small_field: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(ingest.job, "ray_pool", Elsewhere(monkeypatch, blind=True).pool)
    assert run(small_field, out) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert f"{small_field.frames}: node {socket.gethostname()} does not see frame-*-" in line
    assert not out.exists()

    monkeypatch.setattr(ingest.job, "ray_pool", Elsewhere(monkeypatch, blind=False).pool)
    assert run(small_field, out) == 0  # what the blind node cut is cut again
    assert len(Dataset.open(out)) > 0


def test_frames_that_no_node_sees_are_rejects(
    field_copy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in field_copy.frames.glob("frame-*"):
        path.unlink()
    monkeypatch.setattr(ingest.job, "ray_pool", Elsewhere(monkeypatch, blind=False).pool)
    assert run(field_copy, tmp_path / "out") == 2
    assert "no object became a sample (frame-u-" in capsys.readouterr().err


def test_an_error_of_a_cluster_names_its_node(tmp_path: Path) -> None:
    (gone, here) = (_attempt((tmp_path / "gone").read_bytes, (), shared) for shared in (True, False))
    assert str(gone) == f"node {socket.gethostname()}: {here}"


@pytest.mark.parametrize("frames", ["{folder}/", "/{folder}/.", "s3://bucket/frames"])
def test_a_submitted_job_takes_an_absolute_path_however_it_is_written(
    frames: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    catalog = tmp_path / "nothing.csv"
    given = frames.format(folder=tmp_path)
    assert main(["run", "--catalog", str(catalog), "--frames", given, "--out", str(tmp_path / "out")]) == 2
    assert f"{catalog}: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["catalog", "frames", "out", "labels"])
def test_a_submitted_job_takes_no_relative_path(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    given = {"catalog": "/c.csv", "frames": "https://127.0.0.1/frames", "out": "/out", "labels": "/l.csv"}
    words = [word for name, value in (given | {option: "here"}).items() for word in (f"--{name}", value)]
    assert main(["run", *words]) == 2
    assert f"--{option}: expected an absolute path (or a URL) in a submitted job, got here" in capsys.readouterr().err
