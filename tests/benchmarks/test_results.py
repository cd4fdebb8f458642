"""The JSON: its schema, the ratios, and a file that is whole or not there."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import Report, Result, StageReport
from benchmarks.table import show


def result(name: str, median: float) -> Result:
    return Result(
        name=name, median=median, q25=median - 1, q75=median + 2, runs=5, bytes_per_image=100, params={"batch": 2}
    )


def report() -> Report:
    stage = StageReport(
        stage="read",
        results=(result("ours", 30.0), result("theirs", 12.0)),
        own="ours",
        pairs=(("ours", "theirs"),),
        left_out=("h5py",),
    )
    return Report(stage="read", machine={"cpu": "abacus"}, commit="abc", stages=(stage,), verdict="read binds")


def test_the_published_schema():
    theirs = {"name": "theirs", "unit": "images/s", "median": 12.0, "q25": 11.0, "q75": 14.0, "runs": 5,
              "bytes_per_image": 100, "params": {"batch": 2}}  # fmt: skip
    content = report().to_json()
    assert list(content) == ["stage", "machine", "commit", "results", "ratios", "verdict"]
    assert content["results"][1] == theirs
    assert content["ratios"] == {"ours / theirs": 2.5}
    assert (content["stage"], content["machine"], content["commit"]) == ("read", {"cpu": "abacus"}, "abc")


def test_the_file_holds_the_same(tmp_path: Path):
    path = tmp_path / "new" / "bench.json"
    report().write(path)
    assert json.loads(path.read_text()) == report().to_json()
    assert list(path.parent.iterdir()) == [path]


def test_the_same_runs_in_another_unit():
    """Five frames hold ten galaxies: two galaxies for each frame, at all quantiles."""
    told = result("ours", 30.0).converted("ours, galaxies", "images/s", 2.0, bytes_per_image=7)
    assert (told.name, told.unit, told.bytes_per_image, told.runs) == ("ours, galaxies", "images/s", 7, 5)
    assert (told.q25, told.median, told.q75) == (58.0, 60.0, 64.0)


@pytest.mark.parametrize("wrong", [{"own": "nobody"}, {"pairs": (("ours", "nobody"),)}])
def test_a_name_that_no_result_has_is_refused(wrong):
    right = {"stage": "read", "results": (result("ours", 30.0),), "own": "ours", "pairs": ()}
    with pytest.raises(ValueError, match="read: no result is called nobody"):
        StageReport(**right | wrong)


def test_what_people_see(capsys: pytest.CaptureFixture[str]):
    show(report(), Console(width=100))
    shown = capsys.readouterr().out
    for text in (
        "theirs",
        "12",
        "images/s",
        "11 - 14",
        "2.50  ours / theirs",
        "left out: h5py, which is not installed",
        "read binds",
    ):
        assert text in shown
