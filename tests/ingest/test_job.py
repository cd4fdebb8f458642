"""Whole ingest jobs, started as a user starts them."""

import bz2
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import webdataset

from ingest.catalog import read_catalog
from ingest.errors import IngestError
from ingest.extinction import reddening
from ingest.plan import make_plan
from ingest.prepare import IngestConfig, prepare
from ingest.sources import SourceConfig, open_source
from ingest.stamps import cut_stamps
from ingest.window import Window
from sharding import Dataset

pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ingest", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _members(shard: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(shard) as archive:
        return archive.getmembers()


@pytest.fixture(scope="module")
def small_dataset(small_field: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "small"
    done = _run("--catalog", small_field.catalog, "--frames", small_field.frames, "--out", out, "--workers", "1")
    assert done.returncode == 0, done.stderr
    return out


def test_the_dataset_holds_the_stamps_and_the_catalogue(small_field: Any, small_dataset: Path) -> None:
    dataset = Dataset.open(small_dataset)
    assert (dataset.manifest.survey, dataset.manifest.counts["objects"]) == ("SMALL", 12)
    rejects = pq.read_table(small_dataset / "rejects.parquet")
    assert len(dataset) + rejects.num_rows == 12
    order = np.argsort(dataset.column("objid"))
    ra, dec = (np.array(dataset.column(name), dtype=np.float64)[order] for name in ("ra", "dec"))
    field = prepare(_config(small_field, small_dataset.with_name("unused"))).plan.strip(0).fields[0].field
    source = open_source(SourceConfig(root=str(small_field.frames)))
    (expected,) = cut_stamps(Window(source, [field]), field, ra, dec)
    np.testing.assert_array_equal(dataset.images(order), expected.images)
    np.testing.assert_array_equal(dataset.per_band("sky_sigma")[order], expected.sky_sigma)
    kept = np.isin(np.array(small_field.table["objid"]), dataset.column("objid"))
    np.testing.assert_array_equal(dataset.column("specz")[order], np.array(small_field.table["specz"])[kept])


def test_the_sky_noise_is_the_one_that_was_painted(small_dataset: Path) -> None:
    # Each estimate rests on some 27 x 106 differences clipped at 3 sigma: 2.5 % each, and 1 % for their median.
    noise = Dataset.open(small_dataset).manifest.noise
    painted = {"u": 0.041, "g": 0.015, "r": 0.022, "i": 0.033, "z": 0.19}
    for band, sigma in painted.items():
        assert noise[band]["sky_sigma"] == pytest.approx(sigma, rel=0.05 if band != "g" else 0.10)


# webdataset leaves closing its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_and_tar_read_the_shard(small_dataset: Path) -> None:
    dataset = Dataset.open(small_dataset)
    shard = small_dataset / "shards/00000.tar"
    names = [member.name for member in _members(shard)]
    assert names[:2] == [f"{dataset.column('objid')[0]}.image.npy", f"{dataset.column('objid')[0]}.json"]
    listed = subprocess.run(["tar", "-tf", shard], capture_output=True, text=True, check=True)
    assert (listed.stdout.split(), listed.stderr) == (names, "")
    records = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode())
    assert len(records) == len(dataset)
    for number, record in enumerate(records):
        np.testing.assert_array_equal(record["image.npy"], dataset.images([number])[0])
        assert record["json"]["objid"] == dataset.column("objid")[number]
        assert record["json"]["ebv_sfd"] == dataset.column("ebv_sfd")[number]


def test_every_sample_takes_the_same_number_of_bytes(small_dataset: Path) -> None:
    members = _members(small_dataset / "shards/00000.tar")
    steps = np.diff([member.offset for member in members[::2]])
    assert len(set(steps.tolist())) == 1
    offsets = pq.read_table(small_dataset / "samples.parquet")["offset"].to_numpy()
    np.testing.assert_array_equal(offsets, [member.offset_data + 128 for member in members[::2]])


def test_no_path_or_time_is_in_any_file(small_field: Any, small_dataset: Path) -> None:
    for path in small_dataset.rglob("*"):
        if path.is_file():
            assert str(small_field.frames.parent).encode() not in path.read_bytes()
    assert all(member.mtime == 0 for member in _members(small_dataset / "shards/00000.tar"))


def test_the_real_field_gives_326_samples_and_one_reject(survey_data: Path, tmp_path: Path) -> None:
    root = survey_data / "sdss/000094-1-0012"
    done = _run("--catalog", root / "galaxies.csv", "--frames", root, "--out", tmp_path / "field")
    assert done.returncode == 0, done.stderr
    dataset, rejects = Dataset.open(tmp_path / "field"), pq.read_table(tmp_path / "field/rejects.parquet")
    assert (len(dataset), rejects.num_rows) == (326, 1)
    assert rejects["objid"].to_pylist() == [1237645876861338292]
    assert rejects["covered_fraction_r"][0].as_py() == pytest.approx(0.963, abs=5e-4)
    bright = pa.csv.read_csv(root / "galaxies.csv").filter(pa.compute.field("petroMag_r") < 20)
    assert set(bright["objid"].to_pylist()) <= set(dataset.samples["objid"].to_pylist())
    assert dataset.manifest.extinction["law"] == "Schlegel-Finkbeiner-Davis 1998"


def _config(field: Any, out: Path, **changes: Any) -> IngestConfig:
    base = {"catalog": field.catalog, "source": SourceConfig(root=str(field.frames)), "out": out}
    return IngestConfig(**(base | changes))


@pytest.mark.parametrize("fault", ["truncated bz2", "missing band"])
def test_a_bad_frame_is_one_line_and_leaves_no_half_dataset(field_copy: Any, tmp_path: Path, fault: str) -> None:
    frame = field_copy.frames / "frame-i-000077-3-0021.fits"
    if fault == "truncated bz2":
        packed = bz2.compress(frame.read_bytes())
        frame.with_name(frame.name + ".bz2").write_bytes(packed[: len(packed) // 2])
        frame.unlink()
        expected = "frame-i-000077-3-0021.fits.bz2: not a whole bzip2 file"
    else:
        frame.unlink()
        expected = "expected frame-i-000077-3-0021.fits or .fits.bz2"
    out = tmp_path / "out"
    done = _run("--catalog", field_copy.catalog, "--frames", field_copy.frames, "--out", out, "--workers", "1")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_what_is_in_the_way_is_never_removed(small_field: Any, small_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="already there"):
        _config(small_field, small_dataset.parent)  # what is no dataset is not repaired either
    mine = tmp_path / "out.partial/precious.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = _run("--catalog", small_field.catalog, "--frames", small_field.frames, "--out", tmp_path / "out")
    assert (done.returncode, mine.read_text()) == (2, "mine")
    assert "in the way" in done.stderr


def test_rows_that_cannot_become_samples_are_rejects_with_their_reason(small_field: Any, tmp_path: Path) -> None:
    rows = small_field.table.to_pylist()
    rows += [rows[0] | {"specz": 0.2}, rows[1] | {"objid": 5, "ra": 400.0}, rows[2] | {"objid": 6, "ebv_sfd": None}]
    rows.insert(0, rows[3] | {"dec": None})  # unusable, so the later row with its objid counts
    path = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    catalog = read_catalog(path)
    dust = reddening(catalog.array("ebv_sfd"), None, "c")
    plan = make_plan(catalog, dust.ebv_sfd, 512)
    assert dict(zip(plan.reject_rows.tolist(), plan.reasons(), strict=True)) == {
        0: "ra or dec is not a position",
        13: "objid repeated",
        14: "ra or dec is not a position",
        15: "ebv_sfd missing",
    }
    planned = np.concatenate([strip.rows for shard in range(plan.shards) for strip in plan.strips(shard)])
    assert sorted(planned) == list(range(1, 13))


def test_a_catalogue_without_a_usable_row_is_one_line(small_field: Any, tmp_path: Path) -> None:
    rows = [row | {"ra": float("nan")} for row in small_field.table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    with pytest.raises(IngestError, match=r"no row can become a sample \(ra or dec is not a position"):
        prepare(_config(small_field, tmp_path / "out", catalog=tmp_path / "c.parquet"))


def test_an_out_that_cannot_be_made_is_refused_at_once(small_field: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IngestError, match="expected a folder to write in"):
        _config(small_field, tmp_path / "file/out")


def test_an_address_where_no_cluster_is_fails_at_once(small_field: Any, tmp_path: Path) -> None:
    arguments = ("--catalog", small_field.catalog, "--frames", small_field.frames, "--out", tmp_path / "out")
    done = _run(*arguments, "--address", "127.0.0.1:1")  # nothing listens on port 1
    assert done.returncode == 2
    assert "no Ray cluster answers" in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_the_plan_is_a_function_of_the_objects_not_of_their_rows(small_field: Any, tmp_path: Path) -> None:
    digests = set()
    for seed in range(3):
        shuffled = small_field.table.take(np.random.default_rng(seed).permutation(12))
        pq.write_table(shuffled, tmp_path / "c.parquet")
        catalog = read_catalog(tmp_path / "c.parquet")
        digests.add(make_plan(catalog, catalog.need("ebv_sfd"), 512).digest)
    assert len(digests) == 1


def test_the_manifest_is_plain_json_with_the_selection(small_dataset: Path) -> None:
    manifest = json.loads((small_dataset / "dataset.json").read_text())
    assert manifest["extinction"] == {"source": "catalogue column ebv_sfd", "law": "as given"}
    assert manifest["counts"]["catalogue_rows"] == 12
    assert re.fullmatch("[0-9a-f]{64}", manifest["plan"])
