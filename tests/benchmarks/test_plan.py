"""The plan: closed forms by hand on made-up results, what binds, which results are taken, and the command."""

import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks.chain import measure as chain
from benchmarks.errors import BenchmarkError
from benchmarks.fields import DENSE, SPARSE
from benchmarks.ingesting.contenders import ours
from benchmarks.limits import DISK
from benchmarks.plan.evidence import Evidence
from benchmarks.plan.figures import size, span
from benchmarks.plan.plan import Plan, Prices
from benchmarks.plan.sizes import JSON_BYTES
from benchmarks.plan.told import show
from benchmarks.reading.names import IN_RANDOM_ORDER
from benchmarks.results import Result
from benchmarks.training import ranks
from benchmarks.training.points import IN_MEMORY
from benchmarks.verdict import H100
from ingest.catalog import read_catalog
from ingest.tables import SDSS_BANDS
from sharding.records import json_length
from sharding.sample_json import sample_json
from sharding.splits import BOUNDS

from .made_up import MACHINE, report, result

IMAGE_GB = 4 * 5 * 107 * 107 / 1e9
PAPERS = {"device": "cuda", "depth": 50, "width": 64, "view_px": 64, "batch": 256, "precision": "bf16"}
FIELD_DEG2 = 2048 * (1489 - 128) * (0.396 / 3600) ** 2


def _ingest(seconds: float = 1.0) -> list[Result]:
    """A field takes so long."""
    return [result(ours(SPARSE), 5 / seconds, "frames/s")]


def _chain(read: float = 1e6, augment: float = 5e3, step: float = 120.0, **params: Any) -> list[Result]:
    given = {"device": "cpu", "depth": 10, "width": 16, "view_px": 64, "batch": 64, "read_threads": 2} | params
    rates = {chain.READ: read, chain.AUGMENT: augment, chain.STEP: step}
    return [result(name, rate, params=given) for name, rate in rates.items()]


def _disk(images_per_s: float = 1e5) -> Result:
    return result(IN_RANDOM_ORDER, images_per_s)


def _in_sequence(images_per_s: float) -> Result:
    return result(DISK, images_per_s * IMAGE_GB, "GB/s", None)


def _file(folder: Path, *results: Result, name: str = "a.json", date: str = "2026-11-27", **machine: Any) -> Path:
    made = replace(report(), results=results, bars=(), curves=(), date=date, machine=MACHINE | machine)
    made.write(folder / name)
    return folder / name


def _plan(*paths: Path, galaxies: int = 1_200_000, gpus: int = 1, workers: int = 10, **prices: float) -> Plan:
    return Plan(galaxies, gpus, workers, Evidence(paths), Prices(**prices))


def _seconds(plan: Plan) -> dict[str, float]:
    return {stage.name: stage.seconds for stage in plan.stages}


def _figures(plan: Plan) -> dict[str, float]:
    return {figure.name: figure.value for figure in (*plan.sizes(), *plan.rates())}


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    """Results of a machine that feeds 8 GPUs from its disk."""
    return _file(tmp_path, *_ingest(), *_chain(), _disk())


def test_ingest_takes_the_time_of_its_fields(fast: Path):
    """1.2 million on 14,555 deg2: 2.78 a field, of which exp(-2.78) have none; a core reads 5 frames/s.

    Fields overlap sideways too, so that many is the least.
    """
    mean = 1_200_000 / 14_555 * FIELD_DEG2
    fields = 14_555 / FIELD_DEG2 * (1 - np.exp(-mean))
    plan = _plan(fast, workers=10)
    assert _seconds(plan)["ingest"] == pytest.approx(fields / 10)
    assert plan.stages[0].core_hours == pytest.approx(fields / 3600)
    figures = _figures(plan)
    assert figures["fields that have one, at least"] == pytest.approx(fields)
    assert figures["frames to fetch, at least"] == pytest.approx(5 * fields * 3.36e6)
    assert figures["ingest reads frames at"] == pytest.approx(5 * 10 * 3.36e6)
    told = next(line for line in plan.says() if line.startswith("The frames"))
    assert told.startswith("The frames, at least 6.80 TB, are to be there before: ")
    assert told.endswith(" Ingest reads them at 168 MB/s, which their storage has to give.")


def test_training_takes_its_epochs_at_the_rate_of_the_gpus(fast: Path):
    """FLOP of a pair of views, of a step on labels and of a look: 41.93, 31.36 and 10.50 G (facts of the project)."""
    plan = _plan(fast, gpus=4)
    seconds = _seconds(plan)
    assert seconds["pre-training"] == pytest.approx(100 * 0.75 * 1_200_000 / (4 * H100))
    learning, looking = H100 * 41.928 / 31.364, H100 * 41.928 / 10.497
    tuned = 100 * 516_525 * (0.65 / learning + 0.10 / looking) / 4
    assert seconds["fine-tuning"] == pytest.approx(tuned, rel=1e-4)
    assert seconds["evaluation"] == pytest.approx(0.25 * 516_525 / looking, rel=1e-4)
    assert seconds["embedding"] == pytest.approx(1_200_000 / looking, rel=1e-4)
    assert BOUNDS == {"train": (0.0, 0.65), "validation": (0.65, 0.75), "test": (0.75, 1.0)}


@pytest.mark.parametrize(("encoding", "dtype", "label"), [("float32", "<f4", 512), ("int16", "<i2", 1024)])
def test_the_dataset_is_as_large_as_python_s_own_tar(fast: Path, encoding: str, dtype: str, label: int):
    image, packed = io.BytesIO(), io.BytesIO()
    np.save(image, np.zeros((5, 107, 107), dtype))
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (("1.image.npy", image.getvalue()), ("1.json", bytes(label))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        sample = tar.offset
    assert _figures(_plan(fast, galaxies=1000))[f"dataset, {encoding}"] == 1000 * sample


def test_a_sample_s_json_is_as_long_as_that_of_a_real_galaxy(tmp_path: Path):
    """Of field 94-1-12, with the columns of ingest/casjobs.sql that a sample carries; int16 adds five steps."""
    band = {
        f"{name}_{each}": value
        for name, value in (("extinction", 0.20927566), ("psffwhm", 1.6198102))
        for each in SDSS_BANDS
    }
    row = {
        "objID": 1237645876861337613, "ra": 336.6046784825287, "dec": -0.9831110086634869, "run": 94, "rerun": 301,
        "camcol": 1, "field": 12, "thing_id": 75326638, "specz": 0.16391732, "e_bv_sfd": 0.0756292, **band,
    }  # fmt: skip
    path = tmp_path / "row.csv"
    path.write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    table = read_catalog(path).table
    assert json_length(sample_json(table, SDSS_BANDS)) == JSON_BYTES["float32"]
    for each in SDSS_BANDS:
        table = table.append_column(f"step_{each}", [np.array([0.004779621493071318])])
    assert json_length(sample_json(table, SDSS_BANDS)) == JSON_BYTES["int16"]


def test_the_network_is_counted(fast: Path):
    """27.97 M weights, twice, and their gradients and momentum; batch norm's statistics are below 0.2 % of that."""
    sizes = _figures(_plan(fast))
    assert sizes["queue, on each GPU"] == 65_536 * 128 * 4
    assert sizes["weights and optimiser, on each GPU"] == pytest.approx(4 * 4 * 27.97e6, rel=3e-3)
    assert sizes["checkpoints of pre-training"] == pytest.approx(3 * (3 * 4 * 27.97e6 + 65_536 * 128 * 4), rel=3e-3)
    assert sizes["embeddings"] == 1_200_000 * (2048 * 4 + 8)


def test_twice_the_galaxies_take_twice_the_time_and_the_room(fast: Path):
    once, twice = (_plan(fast, galaxies=count, gpus=4) for count in (10**5, 2 * 10**5))
    assert _seconds(twice) == pytest.approx({name: 2 * seconds for name, seconds in _seconds(once).items()})
    grows = {figure.name for figure in once.sizes() if figure.unit in ("bytes", "s", "frames", "fields", "galaxies")}
    grows -= {"queue, on each GPU", "weights and optimiser, on each GPU", "checkpoints of pre-training"}
    small, large = _figures(once), _figures(twice)
    assert {name: 2 * small[name] for name in grows} == pytest.approx({name: large[name] for name in grows})


def test_no_more_have_a_redshift_than_the_papers(fast: Path):
    labelled = {
        count: _figures(_plan(fast, galaxies=count))["galaxies with a redshift"] for count in (10**6, 516_525, 9)
    }
    assert labelled == {10**6: 516_525, 516_525: 516_525, 9: 9}


def test_twice_the_gpus_take_half_the_time_until_the_disk_binds(tmp_path: Path):
    """A disk for 4 GPUs; of int16, for 8. Further nodes bring disks of their own."""
    slow = _file(tmp_path, *_ingest(), *_chain(), _disk(4 * H100))
    times = {number: _plan(slow, gpus=number).stages[1] for number in (1, 2, 4, 8, 12, 16, 32, 64)}
    found = {number: times[1].seconds / stage.seconds for number, stage in times.items()}
    assert found == pytest.approx({1: 1, 2: 2, 4: 4, 8: 4, 12: 6, 16: 8, 32: 16, 64: 32})
    assert [times[number].binds for number in (4, 8, 12)] == ["the GPUs", "the disk", "the disk"]
    assert times[8].waits == pytest.approx(0.5)
    told = _plan(slow, gpus=8).says()[1]
    assert (
        "its GPUs wait 50 % of the time; it would take from memory 72 minutes, from disk as int16 72 minutes." in told
    )
    assert "nodes that read as [1] does, a machine of 2 cores, abacus, 25.2 GB of memory" in told


def test_a_disk_gives_what_random_batches_had_from_it(tmp_path: Path):
    """Where only the limit in sequence was measured it stands for them, and is told to be more than they may reach."""
    chain_, both = (*_ingest(), *_chain()), (_in_sequence(9_000), _disk(1_300))
    random = _plan(_file(tmp_path, *chain_, *both, name="both.json"))
    assert random.stages[1].waits == pytest.approx(0.5)
    assert "random batches past the page cache" in random.rates()[2].source
    sequence = _plan(_file(tmp_path, *chain_, _in_sequence(1_300), name="one.json"))
    assert sequence.stages[1].waits == pytest.approx(0.5)
    assert "in sequence, which random batches may not reach" in sequence.rates()[2].source


def test_what_fits_into_memory_is_not_read_from_the_disk(tmp_path: Path):
    """1.2 million take 277 GB; memory reads for 6 GPUs, the disk for one. Three quarters of 300 GiB are 242 GB."""
    results = *_ingest(), *_chain(read=6 * H100), _disk(H100)
    large, small = (_file(tmp_path, *results, name=f"{gib}.json", memory_gib=gib) for gib in (350, 300))
    assert _plan(large, gpus=8).stages[1].images_per_s == pytest.approx(6 * H100)
    assert _plan(large, gpus=8).stages[1].binds == "reading from memory"
    assert _plan(small, gpus=8).stages[1].images_per_s == pytest.approx(H100)
    assert _plan(small, gpus=8).stages[1].binds == "the disk"


def test_workers_are_as_fast_together_as_was_measured(tmp_path: Path):
    jobs = [
        result(f"{ours(DENSE)}, {n} worker{'s' * (n > 1)}", rate, "frames/s", params={"workers": n})
        for n, rate in {1: 2.0, 2: 3.8, 4: 6.0}.items()
    ]
    alone, shared = (
        _file(tmp_path, *_ingest(), *_chain(), _disk()),
        _file(tmp_path, *_ingest(), *_chain(), _disk(), *jobs, name="b.json"),
    )
    assert _seconds(_plan(shared))["ingest"] == pytest.approx(_seconds(_plan(alone))["ingest"] / 0.75)
    assert "4 give 3.00 times one" in _plan(shared).stages[0].source
    assert "assumed" in _plan(alone).stages[0].source


def test_a_gpu_that_was_measured_takes_the_place_of_the_assumed_one(tmp_path: Path, fast: Path):
    """Its step and its views one after the other: 1,000 a second; ingest is still from the other file, though older."""
    gpu = _file(tmp_path, *_chain(augment=5_000, step=1_250, **PAPERS), name="gpu.json", accelerator="H100")
    plan = _plan(fast, gpu)
    assert plan.nodes.rate == pytest.approx(1_000)
    rate = plan.nodes.figures()[0]
    assert rate.source == "measured [1]: step and views, batch 256, bf16"
    assert [source.where for source in plan.evidence.sources] == [str(gpu), str(fast)]
    assert "H100" in str(plan.evidence.sources[0])
    assert _plan(fast).nodes.figures()[0].source.startswith("assumed: of an H100")


def test_a_gpu_s_rate_of_another_network_is_not_the_papers(tmp_path: Path, fast: Path):
    other = _file(tmp_path, *_chain(step=9e9, **PAPERS | {"depth": 18}), _disk(), name="z.json", date="2026-12-01")
    assert _plan(fast, other).nodes.rate == H100


def test_gpus_share_a_batch_and_wait_for_each_other_as_was_measured(tmp_path: Path, fast: Path):
    """A batch of 64 runs at 0.8 of the rate of 256, which 4 GPUs have; two together do 1.8 times what one does."""
    batches = [result(IN_MEMORY, 2_000.0, params=PAPERS)]
    batches += [result(f"{IN_MEMORY}, batch {n}", rate, params=PAPERS | {"batch": n}) for n, rate in ((64, 1_600.0),)]
    together = [
        result(name, rate, params=PAPERS | {"ranks": n})
        for name, rate, n in ((ranks.ALONE, 1_000.0, 1), (ranks.together(2), 1_800.0, 2))
    ]
    gpu = _file(tmp_path, *_chain(augment=1e9, step=1_000, **PAPERS), *batches, *together, _disk(), name="gpu.json")
    rates = {gpus: _plan(fast, gpu, gpus=gpus).stages[1].images_per_s for gpus in (1, 2, 4, 8, 16)}
    factor = 0.9 * 0.8
    assert rates == pytest.approx({n: n * 1_000 * (factor if n > 1 else 1.0) for n in rates}, rel=1e-5)
    assert "2 GPUs do 1.80 times what one does" in _plan(fast, gpu, gpus=4).stages[1].source
    assert "that 4 GPUs do 4 times what one does is assumed" in _plan(fast, gpus=4).stages[1].source


def test_the_newest_results_are_taken(tmp_path: Path):
    old = _file(tmp_path, *_ingest(1.0), *_chain(), _disk(), name="b.json", date="2026-01-01")
    new = _file(tmp_path, *_ingest(2.0), name="a.json", date="2026-02-01")
    assert _seconds(_plan(old, new))["ingest"] == pytest.approx(2 * _seconds(_plan(old))["ingest"])


def test_a_cost_is_of_what_has_a_price(fast: Path):
    plan = _plan(fast, gpus=4, gpu=2.5)
    on_gpus = [stage for stage in plan.stages if stage.gpus]
    assert plan.to_json()["cost"] == pytest.approx(2.5 * sum(each.gpus * each.seconds / 3600 for each in on_gpus))
    both = _plan(fast, gpus=4, gpu=2.5, core=0.04)
    of_cores = 0.04 * 10 * _seconds(plan)["ingest"] / 3600
    assert both.to_json()["cost"] == pytest.approx(plan.to_json()["cost"] + of_cores)
    assert _plan(fast).to_json()["cost"] is None


def test_what_the_defaults_cannot_run_on_is_told(fast: Path):
    """Groups of batch statistics lie whole in a rank, so there are as many GPUs as divide 8."""
    assert "run on 1, 2, 4, 8 GPUs; on 16 give --batch 512 --batch-norm-groups 16" in _plan(fast, gpus=8).says()[-1]
    assert "on 6 give --batch 192 --batch-norm-groups 6" in _plan(fast, gpus=6).says()[-1]


@pytest.mark.parametrize("lacking", [ours(SPARSE), chain.READ, IN_RANDOM_ORDER])
def test_a_result_that_no_file_has_is_named(tmp_path: Path, lacking: str):
    results = [each for each in (*_ingest(), *_chain(), _disk()) if each.name != lacking]
    with pytest.raises(BenchmarkError, match=r"a\.json: expected a result .*; measure it"):
        _plan(_file(tmp_path, *results))


@pytest.mark.parametrize("option", ["--galaxies", "--gpus", "--workers"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1.5", "1e13", "many", ""])
def test_a_count_that_is_none_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], option: str, value: str):
    counts = {"--galaxies": "1.2e6", "--gpus": "8", "--workers": "4"} | {option: value}
    assert command.main(["plan", *(f"{name}={text}" for name, text in counts.items())]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"benchmarks: error: {option}: expected a whole number")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--gpu-hour=-1"], ["--core-hour=nan"], ["--results", "none.json"]])
def test_other_mistakes_are_one_line_too(capsys: pytest.CaptureFixture[str], arguments: list[str]):
    assert command.main(["plan", "--galaxies", "10", "--gpus", "1", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_documented_command_says_the_same_on_the_terminal_and_in_its_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """On the published results; every figure has its source, and every number that stands on a file cites it."""
    path = tmp_path / "plan.json"
    assert command.main(["plan", "--galaxies", "1.2e6", "--gpus", "8", "--gpu-hour", "2", "--json", str(path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    content = json.loads(path.read_text())
    assert (content["galaxies"], content["gpus"], content["workers"]) == (1_200_000, 8, 64)
    for line in content["says"]:
        assert line in printed
    stages = content["stages"]
    assert [stage["name"] for stage in stages] == ["ingest", "pre-training", "fine-tuning", "evaluation", "embedding"]
    assert content["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages))
    for stage in stages:
        assert f"{stage['name']} {span(stage['seconds'])}" in printed
        assert f"images/s; {stage['source']}." in printed
    for figure in content["figures"]:
        assert re.match(r"(measured \[\d+\]|computed|assumed|given): ", figure["source"])
    cited = set(re.findall(r"measured \[(\d+)\]", json.dumps(content)))
    assert cited <= {str(each["number"]) for each in content["results"]}
    assert all(f"[{each['number']}] benchmarks/results/" in printed for each in content["results"])


def test_a_narrow_terminal_cuts_nothing(fast: Path):
    console = Console(width=60, file=io.StringIO())
    plan = _plan(fast, gpus=8, gpu=2.5, core=0.04)
    show(plan, console)
    printed = console.file.getvalue()
    assert "…" not in printed
    assert all(re.search(rf"^{stage.name} .* {span(stage.seconds)} ", printed, re.MULTILINE) for stage in plan.stages)


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (1_000, "1.00 kB"), (276.9e9, "277 GB"), (999.7e9, "1.00 TB")]
)
def test_sizes_have_three_digits(count: float, text: str):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.001, "less than 1 s"),
        (3.04, "3.0 s"),
        (119, "119 s"),
        (120, "2.0 minutes"),
        (7_200, "2.0 hours"),
        (864_000, "10 days"),
    ],
)
def test_times_have_two(seconds: float, text: str):
    assert span(seconds) == text
