"""The command writes what a stage found, and the train stage runs; the other stages have files of their own."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.practice import PracticeData
from benchmarks.results import Result, StageReport
from benchmarks.stages import augment, train
from trainer.config import EncoderConfig, PretrainConfig

RATES = {"ours": 4.0, "theirs": 2.0}
REPORT = StageReport(
    stage="augment",
    results=tuple(
        Result(name=name, median=rate, q25=rate, q75=rate, runs=3, bytes_per_image=1, params={"threads": 1})
        for name, rate in RATES.items()
    ),
    own="ours",
    pairs=(("ours", "theirs"),),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PracticeData:
    return PracticeData(tmp_path_factory.mktemp("practice"), galaxies=30)


def test_train_runs(data: PracticeData):
    settings = PretrainConfig(
        encoder=EncoderConfig(depth=10, width=2), view_px=16, batch=8, queue=16, batch_norm_groups=2, epochs=9
    )
    report = train.measure(data.dataset, settings, rounds=1)
    assert {result.name for result in report.results} == {train.IN_MEMORY, train.WHOLE}
    assert report.results[0].params["batch"] == 8


def test_a_stage_writes_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(augment, "run", lambda data: REPORT)
    assert _main(tmp_path / "augment.json") == 0
    content = json.loads((tmp_path / "augment.json").read_text())
    assert content["results"] == [{**asdict(result), "params": dict(result.params)} for result in REPORT.results]
    assert content["ratios"] == {"ours / theirs": 2.0}
    assert content["verdict"].startswith("augment alone was measured")


def test_a_file_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(augment, "run", lambda data: REPORT)
    (tmp_path / "file").touch()
    assert _main(tmp_path / "file" / "out.json") == 2
    assert capsys.readouterr().err.count("\n") == 1


def _main(path: Path) -> int:
    """The command, which takes one thread."""
    threads = torch.get_num_threads()
    try:
        return command.main(["augment", "--json", str(path)])
    finally:
        torch.set_num_threads(threads)
