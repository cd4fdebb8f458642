"""The command: what it writes and prints, what becomes of a stage that fails, and of a user's mistakes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import limits
from benchmarks.chain import measure as chain
from benchmarks.errors import BenchmarkError
from benchmarks.practice import Practice
from benchmarks.results import Limit, Promise, Ratio, Result, StageReport
from benchmarks.stages import augment, ingest, read, train
from benchmarks.verdict import Chain

COPY = limits.memory_copy()
CHAIN = Chain(
    batch=64,
    alone={"read": 30.0, "augment": 20.0, "train": 4.0},
    overlapped=3.9,
    busy={"read": 0.1, "augment": 0.2, "train": 0.97},
    waiting=0.01,
)


def _result(name: str, rate: float, unit: str = "images/s", limit: Limit | None = None) -> Result:
    return Result(
        name=name,
        unit=unit,
        median=rate,
        q25=rate,
        q75=rate,
        runs=3,
        bytes_per_image=1,
        params={"threads": 1},
        limit=limit,
    )


def _stage(stage: str, rate: float) -> StageReport:
    ours, theirs = f"{stage}: ours", f"{stage}: theirs"
    return StageReport(
        stage=stage,
        results=(_result(ours, rate, limit=Limit(COPY, 0.5)), _result(theirs, 1.0, limit=Limit(COPY, 0.5))),
        own=ours,
        ratios=(Ratio(first=ours, second=theirs, at_least=3.0),),
        left_out={"absent": "not installed"},
    )


def _limits(names: set[str], data: Practice) -> StageReport:
    return StageReport(stage="limits", results=tuple(_result(name, 10.0, "GB/s") for name in sorted(names)))


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, rate in ((ingest, 8.0), (read, 6.0), (augment, 5.0), (train, 4.0)):
        stage = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, "run", lambda data, stage=stage, rate=rate: _stage(stage, rate))
    whole = StageReport(stage="whole", results=(_result("whole: ours", 3.9, limit=Limit(COPY, 0.5)),))
    monkeypatch.setattr(chain, "run", lambda data: (whole, CHAIN))
    monkeypatch.setattr(limits, "measure", _limits)


def test_the_json_is_as_published(tmp_path: Path):
    assert command.main(["all", "--json", str(tmp_path / "all.json")]) == 0
    content = json.loads((tmp_path / "all.json").read_text())
    assert content["stage"] == "all"
    assert {"machine", "commit", "results", "ratios", "verdict"} <= content.keys()
    ours = next(result for result in content["results"] if result["name"] == "read: ours")
    assert ours["median"] == 6.0
    assert ours["of_limit"] == 6.0 * 0.5 / 10.0
    assert content["ratios"]["read: ours / read: theirs"] == 6.0
    assert content["verdict"].startswith("train binds")
    assert content["left_out"]["read: absent"] == "not installed"
    kept = {promise["what"]: promise["kept"] for promise in content["promises"]}
    assert kept["read: ours / read: theirs"] is True


@pytest.mark.parametrize("stage", ["ingest", "read", "augment", "train"])
def test_a_stage_alone(tmp_path: Path, stage: str):
    assert command.main([stage, "--json", str(tmp_path / "one.json")]) == 0
    content = json.loads((tmp_path / "one.json").read_text())
    stages = {result["name"].partition(":")[0] for result in content["results"]}
    assert stages == {stage, "limit"} | ({"whole"} if stage == "train" else set())


def test_a_stage_that_fails_costs_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(data: Practice) -> StageReport:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(augment, "run", broken)
    assert command.main(["all", "--json", str(tmp_path / "all.json")]) == 1
    content = json.loads((tmp_path / "all.json").read_text())
    assert content["left_out"]["augment: all of it"] == "failed: RuntimeError: out of memory"
    assert {"ingest: ours", "train: ours"} <= {result["name"] for result in content["results"]}
    assert "out of memory" in capsys.readouterr().err


def test_a_users_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(read, "run", _refuse)
    assert command.main(["read"]) == 2
    assert capsys.readouterr().err.endswith("\nbenchmarks: error: DATASET: expected 5 bands, got 3\n")


def test_a_users_mistake_in_one_stage_costs_only_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(read, "run", _refuse)
    assert command.main(["all", "--json", str(tmp_path / "all.json")]) == 1
    content = json.loads((tmp_path / "all.json").read_text())
    assert content["left_out"]["read: all of it"] == "DATASET: expected 5 bands, got 3"


def _refuse(data: Practice) -> StageReport:
    raise BenchmarkError("DATASET: expected 5 bands, got 3")


def test_a_dataset_that_is_none_is_said_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(ingest, "run", lambda data: pytest.fail("it measured"))
    assert command.main(["all", "--data", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("option", ["--json", "--page"])
def test_a_file_that_cannot_be_written_is_told_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
):
    monkeypatch.setattr(augment, "run", lambda data: pytest.fail("it measured"))
    (tmp_path / "file").touch()
    assert command.main(["augment", option, str(tmp_path / "file" / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_page_is_written_and_named_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "bench.html"
    assert command.main(["read", "--page", str(page)]) == 0
    assert page.read_text().lstrip().startswith("<!")
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith("page: ")


def test_page_and_compare_take_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "read.json"
    assert command.main(["read", "--json", str(path)]) == 0
    assert command.main(["page", str(path)]) == 0
    assert path.with_suffix(".html").exists()
    assert command.main(["compare", str(path), str(path)]) == 0
    assert capsys.readouterr().out


def test_only_train_works_under_torchrun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    assert command.main(["read"]) == 2
    assert "expected train" in capsys.readouterr().err


def test_a_result_without_a_measured_limit_is_a_bug(monkeypatch: pytest.MonkeyPatch):
    lone = replace(
        _stage("read", 6.0), results=(_result("read: ours", 6.0, limit=Limit("limit: none", 1.0)),), ratios=()
    )
    monkeypatch.setattr(read, "run", lambda data: lone)
    monkeypatch.setattr(limits, "measure", lambda names, data: StageReport(stage="limits", results=()))
    with pytest.raises(ValueError, match="was not measured, nor"):
        command.main(["read"])


def test_a_promise_has_one_bound_and_says_why_it_is_not_measured():
    assert Promise(what="x", measured=2.0, at_least=1.5).kept
    assert not Promise(what="x", measured=2.0, at_most=1.5).kept
    assert Promise(what="x", measured=None, at_most=1.5, missing="needs a GPU").kept is None
    with pytest.raises(ValueError, match="one bound"):
        Promise(what="x", measured=2.0)
    with pytest.raises(ValueError, match="says why"):
        Promise(what="x", measured=None, at_least=1.0)
