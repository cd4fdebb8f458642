"""The plan: strips of consecutive fields, shards that are a fair mix, the same whatever the order of rows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.catalog import Catalog
from ingest.plan import LONGEST_STRIP, Plan, make_plan


def catalog(fields: dict[tuple[int, int], list[int]], per_field: int, seed: int = 0) -> Catalog:
    """A catalogue of (run, camcol) -> fields, rows in random order."""
    rows = [(run, camcol, field) for (run, camcol), found in fields.items() for field in found]
    run, camcol, field = (np.repeat(np.array(column, dtype=np.int32), per_field) for column in np.transpose(rows))
    count = len(run)
    table = pa.table(
        {
            "objid": np.arange(count) + 10**18,
            "ra": np.linspace(0, 359, count),
            "dec": np.zeros(count),
            "run": run,
            "camcol": camcol,
            "field": field,
            "rerun": ["301"] * count,
        }
    )
    return Catalog(Path("c"), table.take(np.random.default_rng(seed).permutation(count)), is_photoobj=False)


def plan_of(found: Catalog, samples_per_shard: int = 50) -> Plan:
    return make_plan(found, np.zeros(len(found)), samples_per_shard)


SURVEYS = st.dictionaries(
    st.tuples(st.integers(1, 9000), st.integers(1, 6)),
    st.lists(st.integers(11, 900), min_size=1, max_size=90, unique=True),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40)
@given(fields=SURVEYS, per_field=st.integers(1, 4), samples=st.integers(1, 400))
def test_every_object_is_in_one_strip_of_one_shard(
    fields: dict[tuple[int, int], list[int]], per_field: int, samples: int
) -> None:
    found = catalog(fields, per_field)
    plan = plan_of(found, samples)
    strips = [strip for shard in range(plan.shards) for strip in plan.strips(shard)]
    assert [strip.number for strip in strips] == list(range(len(plan.strip_fields)))
    rows = np.concatenate([strip.rows for strip in strips])
    assert sorted(rows) == list(range(len(found)))
    assert plan.objects_of_shards().sum() == len(found)
    for strip in strips:
        numbers = [part.field.field for part in strip.fields]
        assert len({(part.field.run, part.field.camcol) for part in strip.fields}) == 1
        present = sorted(fields[strip.fields[0].field.run, strip.fields[0].field.camcol])
        begin = present.index(numbers[0])
        assert numbers == present[begin : begin + len(numbers)]  # consecutive among those that have objects
        assert len(numbers) <= LONGEST_STRIP
        for part in strip.fields:
            assert set(found.table["field"].to_numpy()[part.rows]) == {part.field.field}


@pytest.mark.parametrize("fields", [6, 9, 11, 16, 40, 200, 1000, 4000])
def test_few_strips_end_inside_a_run(fields: int) -> None:
    """At each cut inside a run six of the 14 blocks of a frame come again: at most 10 % in all."""
    plan = plan_of(catalog({(94, 1): list(range(11, 11 + fields))}, 1))
    assert (len(plan.strip_fields) - 1) * 6 / 14 / fields <= 0.1


def test_shards_are_a_fair_mix_of_the_sky() -> None:
    """16 runs in 8 shards of 40 strips: each shard holds each run's share within 5 sigma of a random draw's spread."""
    fields = {(run, 1): list(range(11, 411)) for run in range(100, 116)}
    plan = plan_of(catalog(fields, 1), 800)
    assert plan.shards == 8
    sizes = plan.objects_of_shards()
    assert sizes.max() - sizes.min() <= 2 * LONGEST_STRIP
    for shard in range(plan.shards):
        runs = np.array([strip.fields[0].field.run for strip in plan.strips(shard)])
        counts = np.array([(runs == run).sum() for run in range(100, 116)])
        expected = len(runs) / 16  # 2.5 strips of a run; the spread of a draw without replacement is below Poisson's
        assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()
        assert len(set(runs)) >= 10


def test_a_strip_goes_to_its_place_by_what_it_is() -> None:
    """Another run in the catalogue does not change the order of the strips that were there before."""
    old = {(run, 2): list(range(11, 251)) for run in (94, 1000, 4510)}
    new = old | {(7000, 2): list(range(11, 251))}

    def firsts(fields: dict[tuple[int, int], list[int]]) -> list[tuple[int, int]]:
        plan = plan_of(catalog(fields, 1))
        strips = [plan.strip(n).fields[0].field for n in range(len(plan.strip_fields))]
        return [(field.run, field.field) for field in strips if field.run != 7000]

    assert firsts(new) == firsts(old)


def test_the_order_of_rows_changes_nothing() -> None:
    fields = {(run, 2): list(range(11, 91)) for run in (94, 1000, 4510)}
    assert len({plan_of(catalog(fields, 3, seed)).digest for seed in range(3)}) == 1
    changed = catalog(fields, 3)
    ra = changed.table["ra"].to_numpy().copy()
    ra[5] += 1e-9
    moved = Catalog(changed.path, changed.table.set_column(1, "ra", pa.array(ra)), is_photoobj=False)
    assert plan_of(moved).digest != plan_of(changed).digest


@pytest.mark.slow
def test_ten_million_rows_take_bounded_memory(tmp_path: Path) -> None:
    """Reading, selecting and planning 10 million rows (15 columns, 1.1 GB) stays below 3 GB, the table included."""
    rows, per_field = 10_000_000, 10
    field = np.arange(rows) // per_field
    columns = {
        "objid": np.arange(rows) + 10**18,
        "ra": np.linspace(0, 359, rows),
        "dec": np.linspace(-5, 60, rows),
        "run": (field // 5000).astype(np.int32) + 94,
        "camcol": (field // 833 % 6 + 1).astype(np.int32),
        "field": (field % 833 + 11).astype(np.int32),
        "ebv_sfd": np.full(rows, 0.03),
        "specz": np.full(rows, 0.1),
        **{f"{name}_{band}": np.full(rows, 0.1) for name in ("extinction", "psf_fwhm") for band in "ugriz"},
    }
    path = tmp_path / "ten-million.parquet"
    pq.write_table(pa.table(columns), path)
    (tmp_path / "frames").mkdir()
    script = f"""
import resource
from pathlib import Path
from ingest.prepare import IngestConfig, prepare
from ingest.sources import SourceConfig
config = IngestConfig(catalog=Path({str(path)!r}), source=SourceConfig(root={str(tmp_path / "frames")!r}),
                      out=Path({str(tmp_path / "out")!r}))
work = prepare(config)
print(len(work.plan.rows), work.plan.shards, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    planned, shards, peak_kb = map(int, done.stdout.split())
    assert planned == rows
    assert shards > 4000
    assert 500_000 < peak_kb < 3_000_000, peak_kb
