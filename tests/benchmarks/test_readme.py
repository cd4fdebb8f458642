"""What the README says of measurements comes from a report: every block, its place, and what is missing."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.augmenting import contenders as ways
from benchmarks.augmenting.told import PRESETS
from benchmarks.blocks import BLOCKS, Source
from benchmarks.chain import feeding
from benchmarks.chain import measure as chain
from benchmarks.errors import BenchmarkError
from benchmarks.fields import DENSE, SPARSE
from benchmarks.ingesting import contenders as ingesting
from benchmarks.limits import matrix, memory_copy
from benchmarks.reading import names as reading
from benchmarks.readme import generate, source
from benchmarks.results import Promise, Report
from benchmarks.training import losses, points

from .made_up import MACHINE, report, result

ROOT = Path(__file__).parents[2]
PATH = "benchmarks/results/2026-11-27-abacus-all.json"
FIRST, LONGEST = losses.QUEUES


def _report() -> Report:
    """With the names that the stages give."""
    op, params = ways.named(ways.OP, PRESETS[0]), {"batch": 256, "stamp_px": 107, "view_px": 64}
    samples = {reading.FEW: (10_000, 33_000.0), reading.MANY: (1_000_000, 34_000.0)}
    rates = {
        ingesting.UNPACKING: 4.0, ingesting.ours(SPARSE): 3.6, ingesting.ours(DENSE): 2.5, ingesting.ASTROPY: 0.5,
        reading.ours("tar", 2): 67_000.0, reading.ours("zarr", 1): 34_800.0, reading.HDF5: 22_755.0,
        reading.copying(reading.UNCHECKED, 1): 45_759.0, reading.copying(reading.UNCHECKED, 2): 65_608.0,
        reading.dali(1): 38_632.0, reading.dali(2): 55_988.0, reading.DD: 9_529.0, reading.IN_SEQUENCE: 7_286.0,
        reading.IN_RANDOM_ORDER: 5_038.0, reading.ours(how=reading.FRESH): 27_000.0,
        ways.named(ways.OP, PRESETS[1]): 18_785.0, ways.named(ways.TORCH, PRESETS[0]): 1_543.0,
        ways.named(ways.OP, PRESETS[0], "2 threads"): 29_947.0,
        chain.WHOLE: 66.4, feeding.OURS: 7_000.0, feeding.HDF5: 320.0,
        losses.named(FIRST, "streaming"): 2_000.0, losses.named(FIRST, "plain"): 800.0,
    }  # fmt: skip
    results = [result(name, rate) for name, rate in rates.items()]
    results += [result(name, rate, params={"samples": n}) for name, (n, rate) in samples.items()]
    results += [
        result(reading.ours(), 33_168.0, params={"batch": 256}),
        result(op, 15_512.0, "views/s", params=params),
        result(chain.STEP, 67.0, limit=report().results[-6].limit, params={"batch": 64}),
        result(points.IN_MEMORY, 68.0, params={"depth": 10, "width": 16}),
        result(memory_copy(2), 15.5, "GB/s", None),
        result(matrix("fp32", "2 threads"), 115.0, "GFLOP/s", None),
    ]
    promises = (Promise(what="read: a | b", measured=2.5, at_least=3.0),)
    return replace(report(), machine=MACHINE, results=tuple(results), promises=promises, bars=(), curves=())


SOURCE = Source(_report(), PATH)


def block(name: str, source: Source = SOURCE) -> str:
    text = generate(f"before\n<!-- bench: {name} -->\ntyped by hand\n<!-- end -->\nafter\n", source)
    before, _, rest = text.partition(f"<!-- bench: {name} -->\n")
    made, _, after = rest.partition("<!-- end -->")
    assert (before, after) == ("before\n", "\nafter\n")
    return made


def without(*names: str) -> Source:
    return Source(replace(SOURCE.report, results=tuple(r for r in SOURCE.report.results if r.name not in names)), PATH)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_every_block_says_where_its_figures_are_from(name: str):
    made = block(name)
    assert f"([measured]({PATH}), medians)" in made.replace("\n", " ")
    assert "by hand" not in made
    assert all(len(line) <= 120 for line in made.splitlines() if not line.startswith("|"))


def test_reading_by_threads():
    made = block("read")
    assert made.replace("\n", " ").startswith(
        "On 2 cores, hot page cache, random batches of 256 of the same images, images/s ("
    )
    assert "\n| | 1 thread | 2 threads |\n|---|---|---|\n" in made.replace("|  |", "| |")
    assert "| Skymill, tar, every checksum verified | 33,168 | 67,000 |" in made
    assert "| h5py, contiguous, checks nothing | 22,755 |  |" in made
    assert "| Skymill, Zarr, every checksum verified | 34,800 |  |" in made
    assert "webdataset" not in made
    said = made.replace("\n", " ")
    assert "a fresh mapping runs at 0.81 of that; a cold disk at 0.76 of `dd` in sequence and 0.53 in random" in said
    assert "of 1,000,000 samples the rate is 1.03 of that of 10,000." in said
    assert (
        "DALI, which checks nothing, is 1.16 times as fast with 1 thread and 1.20 times as slow with 2 threads." in said
    )


def test_a_peer_that_was_left_out_is_not_told():
    made = block("read", without(reading.DD, reading.dali(2), reading.HDF5, reading.MANY))
    assert "`dd`" not in made
    assert "1,000,000" not in made
    assert "| DALI's tar reader, raw bytes, checks nothing | 38,632 |  |" in made


def test_views_by_preset():
    made = block("augment")
    assert "two views of 64 pixels of each of 256 stamps of 107, views/s" in made
    assert "| Skymill's operator | 15,512 | 18,785 |" in made
    assert "| Skymill's operator, 2 threads | 29,947 |  |" in made
    assert "kornia" not in made


def test_ingest_in_a_sentence():
    said = block("ingest").replace("\n", " ")
    assert "takes 1.11 times (2 galaxies a field) and 1.60 times (300 galaxies a field) as long as unpacking" in said
    assert "and makes 5.00 times the galaxies that astropy and reproject make (" in said


def test_the_step_and_what_feeds_it():
    made = block("train")
    said = made.replace("\n", " ")
    assert (
        "a ResNet-10 of width 16 takes 67.0 images/s (pairs of views, batch 64) of views that lie in memory, 36 %"
        in said
    )
    assert "and 66.4 as a run does" in said
    assert "| torch DataLoader, h5py and scikit-image, as released | 320 |" in made


def test_negatives_promises_verdict_and_limits():
    assert f"| {FIRST:,} | 2,000 | 800 | 2.50 |" in block("negatives")
    assert f"{LONGEST:,}" not in block("negatives")
    assert r"| read: a \| b | at least 3 | 2.50 | falls short |" in block("promises")
    assert SOURCE.report.verdict in block("verdict").replace("\n", " ")
    assert "| memory copy, 2 threads | 15.5 GB/s |" in block("limits")


def test_a_block_stands_in_a_list_too():
    text = "- **Speed**: bzip2. <!-- bench: ingest -->\n  <!-- end -->\n- next\n"
    made = generate(text, SOURCE)
    lines = made.splitlines()
    assert lines[0] == "- **Speed**: bzip2. <!-- bench: ingest -->"
    assert lines[-2:] == ["  <!-- end -->", "- next"]
    assert all(re.match(r"  \S", line) for line in lines[1:-1])


def test_what_is_generated_stays():
    text = "".join(f"<!-- bench: {name} -->\n<!-- end -->\n" for name in BLOCKS)
    once = generate(text, SOURCE)
    assert once != text
    assert generate(once, SOURCE) == once
    assert generate("nothing\n", SOURCE) == "nothing\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- bench: hats -->\n<!-- end -->\n", "expected bench: with one of augment, .*, got hats"),
        ("<!-- bench: read -->\n", "to have its own line <!-- end -->"),
        ("<!-- bench: read -->\n<!-- bench: train -->\n<!-- end -->\n", "to have its own line <!-- end -->"),
        ("<!-- end -->\n", "to have its own line <!-- end -->"),
        ("<!-- bench: read --> x <!-- end -->\n", "to have its own line <!-- end -->"),
    ],
)
def test_markers_that_are_wrong(text: str, said: str):
    with pytest.raises(BenchmarkError, match=said):
        generate(text, SOURCE)


def test_our_own_results_must_be_there():
    with pytest.raises(BenchmarkError, match="no result is called 'read: skymill tar, 1 thread'"):
        block("read", without(reading.ours()))
    results = tuple(replace(r, params={}) if r.name == reading.ours() else r for r in SOURCE.report.results)
    with pytest.raises(BenchmarkError, match="has no param 'batch'"):
        block("read", Source(replace(SOURCE.report, results=results), PATH))


def test_the_result_is_the_one_that_the_readme_names(tmp_path: Path):
    for name in (PATH, "benchmarks/results/2026-11-28-h100-all.json"):
        replace(report(), date=name[19:29]).write(tmp_path / name)
    found = source(f"# Skymill\n\n<!-- bench results: {PATH} -->\n", tmp_path)
    assert (found.path, found.report.date) == (PATH, PATH[19:29])


def test_a_readme_that_names_no_result(tmp_path: Path):
    with pytest.raises(BenchmarkError, match=r"expected one line <!-- bench results: FILE -->, got 0"):
        source("# Skymill\n", tmp_path)
    with pytest.raises(BenchmarkError, match=r"none\.json"):
        source("<!-- bench results: none.json -->\n", tmp_path)


def test_the_readme_says_what_was_measured():
    text = (ROOT / "README.md").read_text()
    assert generate(text, source(text, ROOT)) == text
