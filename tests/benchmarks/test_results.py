"""The JSON: its schema, shares of limits, promises, a file that is whole or not there; and what people see of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.results import Bars, Curve, Limit, Promise, Ratio, Report, Result, StageReport, known
from benchmarks.table import show
from benchmarks.wording import quartiles, rate, ratio, share, short, stage

from .made_up import OURS, THEIRS
from .made_up import report as all_stages


def result(name: str, median: float, limit: Limit | None = None) -> Result:
    return Result(
        name=name, median=median, q25=median - 1, q75=median + 2, runs=5, bytes_per_image=100, params={"batch": 2},
        limit=limit,
    )  # fmt: skip


def report() -> Report:
    results = (result("ours", 30.0, Limit("copy", 0.25)), result("copy", 12.0))
    return Report(
        stage="read", machine={"cpu": "abacus"}, commit="abc", date="2026-11-27", full=False, results=results,
        ratios={"ours / copy": 2.5}, promises=(Promise(what="ours / copy", measured=2.5, at_least=3.0),),
        verdict="read binds",
    )  # fmt: skip


def test_the_published_schema():
    content = report().to_json()
    assert list(content)[:3] == ["stage", "machine", "commit"]
    assert {"date", "full", "left_out", "footing", "bars", "curves", "verdict", "analysis"} < set(content)
    assert content["results"] == [
        {"name": "ours", "unit": "images/s", "median": 30.0, "q25": 29.0, "q75": 32.0, "runs": 5,
         "bytes_per_image": 100, "params": {"batch": 2}, "limit": {"name": "copy", "per_item": 0.25},
         "bytes_per_s": 3000.0, "of_limit": 0.625},
        {"name": "copy", "unit": "images/s", "median": 12.0, "q25": 11.0, "q75": 14.0, "runs": 5,
         "bytes_per_image": 100, "params": {"batch": 2}, "limit": None,
         "bytes_per_s": None, "of_limit": None},
    ]  # fmt: skip
    assert content["ratios"] == {"ours / copy": 2.5}
    assert content["promises"] == [
        {"what": "ours / copy", "measured": 2.5, "at_least": 3.0, "at_most": None, "missing": "", "kept": False}
    ]


def test_the_file_holds_the_same(tmp_path: Path):
    path = tmp_path / "new" / "bench.json"
    all_stages().write(path)
    assert json.loads(path.read_text()) == json.loads(json.dumps(all_stages().to_json()))
    assert list(path.parent.iterdir()) == [path]


def test_the_same_runs_in_another_unit():
    """Five frames hold ten galaxies: two galaxies for each frame, at all quantiles, and half the work for each."""
    told = result("ours", 30.0, Limit("copy", 0.25)).converted("ours, galaxies", "images/s", 2.0, bytes_per_image=7)
    assert (told.name, told.unit, told.bytes_per_image, told.runs) == ("ours, galaxies", "images/s", 7, 5)
    assert (told.q25, told.median, told.q75) == (58.0, 60.0, 64.0)
    assert told.limit == Limit("copy", 0.125)


def test_no_share_of_a_limit_that_was_not_measured():
    alone = replace(report(), results=report().results[:1])
    assert alone.of_limit(alone.results[0]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"own": "nobody"},
        {"ratios": (Ratio(first="ours", second="nobody"),)},
        {"bars": (Bars(title="", results=("nobody",)),)},
        {"curves": (Curve(title="", axis="batch", lines={"": ("nobody",)}),)},
    ],
)
def test_a_name_that_no_result_has_is_refused(wrong):
    with pytest.raises(ValueError, match="read: no result is called nobody"):
        StageReport(stage="read", results=(result("ours", 30.0),), **wrong)


def test_two_results_of_one_name_are_refused():
    with pytest.raises(ValueError, match="read: two results are called ours"):
        StageReport(stage="read", results=(result("ours", 30.0), result("ours", 31.0)))


def test_ratios_with_a_bound_are_promises():
    ratios = (Ratio(first="ours", second="theirs", at_least=2.0), Ratio(first="theirs", second="ours"))
    stage = StageReport(stage="read", results=(result("ours", 30.0), result("theirs", 12.0)), ratios=ratios)
    assert stage.measured_ratios() == {"ours / theirs": 2.5, "theirs / ours": 0.4}
    assert stage.kept() == (Promise(what="ours / theirs", measured=2.5, at_least=2.0),)


def test_ratios_of_missing_peers_are_dropped():
    ratios = (Ratio(first="ours", second="theirs"), Ratio(first="ours", second="nobody"))
    assert known(ratios, (result("ours", 1.5), result("theirs", 1.5))) == ratios[:1]


@pytest.mark.parametrize(
    ("bounds", "kept"), [({"at_least": 2.5}, True), ({"at_least": 2.6}, False), ({"at_most": 2.5}, True),
                         ({"at_most": 2.4}, False), ({"at_most": 0.0}, False)]
)  # fmt: skip
def test_a_promise_is_kept_at_its_bound(bounds, kept):
    assert Promise(what="", measured=2.5, **bounds).kept is kept
    assert Promise(what="", measured=None, missing="needs a GPU", **bounds).kept is None


@pytest.mark.parametrize(
    "wrong",
    [{"measured": 1.0}, {"measured": 1.0, "at_least": 1.0, "at_most": 2.0}, {"measured": None, "at_least": 1.0},
     {"measured": 1.0, "at_least": 1.0, "missing": "why"}],
)  # fmt: skip
def test_a_promise_that_says_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="what: "):
        Promise(what="what", **wrong)


def test_what_people_see():
    console = Console(width=100, record=True)
    show(all_stages(), console)
    shown = console.export_text()
    for text in ("h5py contiguous, random batches", "22,755", "22,072 - 23,438", "5,210", "34 %", "one run",
                 "falls short", "kept", "not measured: needs a GPU", "at least 300,000",
                 "left out: augment: kornia: not installed",
                 "other ratios", "train binds the whole"):  # fmt: skip
        assert text in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_what_is_in_brackets_is_shown():
    """rich would take it for a style."""
    console = Console(width=100, record=True)
    promise = Promise(what="ingest: memory [MB]", measured=1.0, at_most=2.0)
    show(replace(report(), left_out={"[b]": "[red]"}, promises=(promise,), verdict="[bold]"), console)
    shown = console.export_text()
    assert "left out: [b]: [red]" in shown
    assert "memory [MB]" in shown
    assert "[bold]" in shown


@pytest.mark.parametrize(
    ("value", "text"), [(0.0421, "0.0421"), (3.5, "3.50"), (18.0, "18.0"), (99.96, "100"), (45_759.4, "45,759")]
)
def test_rates_have_three_digits_or_more(value, text):
    assert rate(value) == text


def test_figures_as_people_read_them():
    assert [ratio(value) for value in (0.042, 0.971, 1.0, 10.52, 138.4)] == ["0.0420", "0.97", "1.00", "10.5", "138"]
    assert [share(value) for value in (0.0072, 0.054, 0.99, 1.42, None)] == ["0.72 %", "5.4 %", "99 %", "142 %", ""]
    assert quartiles(replace(result("ours", 30.0), runs=1)) == "one run"


def test_names_without_their_stage():
    assert (stage(OURS), short(OURS)) == ("read", "skymill tar, 2 threads")
    assert short(f"{OURS} / {THEIRS}") == "skymill tar, 2 threads / h5py contiguous, random batches"
    assert (stage("ours"), short("ours")) == ("", "ours")
