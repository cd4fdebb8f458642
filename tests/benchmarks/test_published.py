"""A report that was written is read as it was; of one that is damaged it says in one line where."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import BenchmarkError
from benchmarks.published import read_report
from benchmarks.results import Limit, Promise, Report, Result

from .made_up import report

Damage = Callable[[dict[str, Any]], object]
RATES = st.floats(1e-6, 1e12)
PRINTABLE = st.characters(categories=("L", "M", "N", "P", "S"))
TEXTS = st.text(PRINTABLE, max_size=20)


@st.composite
def results(draw: st.DrawFn) -> Result:
    q25, median, q75 = sorted(draw(st.lists(RATES, min_size=3, max_size=3)))
    return Result(
        name=draw(TEXTS), unit=draw(TEXTS), median=median, q25=q25, q75=q75, runs=draw(st.integers(1, 99)),
        bytes_per_image=draw(st.integers(0, 10**17)),
        params=draw(st.dictionaries(TEXTS, st.integers() | st.floats(-1e9, 1e9) | TEXTS, max_size=3)),
        limit=draw(st.none() | st.builds(Limit, TEXTS, RATES)),
    )  # fmt: skip


FIGURES = st.floats(-1e9, 1e9)
MEASURED = st.builds(Promise, what=TEXTS, measured=FIGURES, at_least=FIGURES)
UNMEASURED = st.builds(Promise, what=TEXTS, measured=st.none(), at_most=FIGURES, missing=st.text(PRINTABLE, min_size=1))
REPORTS = st.builds(
    Report, stage=TEXTS, machine=st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS, max_size=3),
    commit=st.none() | TEXTS, date=TEXTS, full=st.booleans(),
    results=st.lists(results(), max_size=4, unique_by=lambda result: result.name).map(tuple),
    ratios=st.dictionaries(TEXTS, RATES, max_size=3), promises=st.lists(MEASURED | UNMEASURED, max_size=3).map(tuple),
    left_out=st.dictionaries(TEXTS, TEXTS, max_size=2), footing=st.dictionaries(TEXTS, TEXTS, max_size=2),
    verdict=TEXTS,
)  # fmt: skip


@settings(max_examples=30)
@given(REPORTS)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, made: Report):
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    made.write(path)
    assert read_report(path) == made


def test_charts_are_read_too(tmp_path: Path):
    report().write(tmp_path / "all.json")
    assert read_report(tmp_path / "all.json") == report()


def test_unknown_keys_are_passed_over(tmp_path: Path):
    def more(content: dict[str, Any]) -> None:
        content["mood"] = "good"
        content["results"][0]["colour"] = content["bars"][0]["colour"] = "blue"

    assert read_report(_damaged(tmp_path, more)) == report()


def _damaged(folder: Path, damage: Damage) -> Path:
    path = folder / "bench.json"
    content = json.loads(json.dumps(report().to_json()))
    damage(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda c: c["results"][2].update(median=0), "results[2]: median: expected a number above 0"),
        (lambda c: c["results"][0].update(q25=-1.0), "results[0]: q25: expected a number above 0"),
        (lambda c: c["results"][0].update(q25=1e9), "results[0]: expected q25 <= median <= q75"),
        (lambda c: c["results"][0].update(median="fast"), 'median: expected a number, got "fast"'),
        (lambda c: c["results"][0].update(median=True), "median: expected a number, got true"),
        (lambda c: c["results"][0].update(median=10**400), "median: expected a number of the usual size"),
        (lambda c: c["results"][0].update(runs=0), "runs: expected a whole number of at least 1 and"),
        (lambda c: c["results"][0].update(runs=2.5), "runs: expected a whole number of at least 1"),
        (lambda c: c["results"][0].update(bytes_per_image=-1), "bytes_per_image: expected a whole number of at"),
        (lambda c: c["results"][0].pop("unit"), "results[0]: expected 'unit', which is missing"),
        (lambda c: c["results"][0].update(params={"threads": [1]}), "params: threads: expected a number, got [1]"),
        (lambda c: c["results"][0].update(limit="disk"), 'limit: expected an object, got "disk"'),
        (lambda c: c["results"][0]["limit"].update(per_item=0), "limit: per_item: expected a number above 0"),
        (lambda c: c["results"].append(c["results"][0]), "is there twice"),
        (lambda c: c.update(results={}), "results: expected a list, got {}"),
        (lambda c: c.update(full="yes"), 'full: expected true or false, got "yes"'),
        (lambda c: c.update(commit=7), "commit: expected a text, got 7"),
        (lambda c: c["ratios"].update({"a / b": None}), "ratios: a / b: expected a number, got null"),
        (lambda c: c["promises"][0].update(at_least=None), "promises[0]: "),
        (lambda c: c["promises"][0].update(measured=None), "says why"),
        (lambda c: c["bars"][0]["results"].append("read: nobody"), 'expected a result\'s name, got "read: nobody"'),
        (lambda c: c["curves"][0]["lines"].update(tar=["nobody"]), 'lines: tar[0]: expected a result\'s name, got'),
        (lambda c: c["curves"][0].update(axis="hats"), "curves[0]: axis: expected a param of all its results"),
        (lambda c: c["analysis"].update(gpus=[{"gpus": 1}]), "analysis: gpus[0]: expected 'images_per_s'"),
        (lambda c: c["analysis"]["gpus"][0].update(idle=2), "idle: expected a share of one, got 2"),
        (lambda c: c["analysis"].update(gpus=7), "analysis: gpus: expected a list, got 7"),
        (lambda c: [c.pop(key) for key in ("date", "full")], "an older version wrote it; measure again"),
        (lambda c: c.clear(), "expected 'results', which is missing"),
        (lambda c: c.update(machine={}, stage="\n" * 9 + "x", date=["\n"]), "date: expected a text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, damage: Damage, said: str):
    path = _damaged(tmp_path, damage)
    with pytest.raises(BenchmarkError, match=re.escape(said)) as caught:
        read_report(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"median": NaN}', "not JSON (NaN is no number)"),
        (b"[1]", "expected an object, got [1]"),
        (b"9" * 5000, "not JSON"),
    ],
)
def test_a_file_that_is_no_report(tmp_path: Path, text: bytes, said: str):
    (tmp_path / "bench.json").write_bytes(text)
    with pytest.raises(BenchmarkError, match=re.escape(said)):
        read_report(tmp_path / "bench.json")


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str):
    with pytest.raises(BenchmarkError, match="cannot be read"):
        read_report(tmp_path / name)


def test_the_results_of_before_are_refused(tmp_path: Path):
    """The first schema had neither date nor charts."""
    old = {key: value for key, value in report().to_json().items()
           if key in ("stage", "machine", "commit", "results", "ratios", "verdict")}  # fmt: skip
    (tmp_path / "old.json").write_text(json.dumps(old))
    with pytest.raises(BenchmarkError, match=r"old\.json: no 'date': an older version wrote it; measure again"):
        read_report(tmp_path / "old.json")


def test_a_report_without_an_analysis(tmp_path: Path):
    replace(report(), analysis={}).write(tmp_path / "bench.json")
    assert read_report(tmp_path / "bench.json").analysis == {}
