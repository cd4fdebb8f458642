"""The same catalogue and frames give the same bytes, whoever does the work and in what order."""

from pathlib import Path

import jobs
import numpy as np
import pyarrow.parquet as pq
import pytest

from ingest.job import write_dataset
from ingest.prepare import IngestConfig, prepare
from ingest.sources import SourceConfig
from sharding import Dataset

Reference = dict[str, dict[str, str]]


@pytest.mark.parametrize(("container", "workers"), [("webdataset", 1), ("zarr", 4)])
def test_any_number_of_workers(
    survey: jobs.Survey, reference: Reference, tmp_path: Path, container: str, workers: int
) -> None:
    job = jobs.Job(survey=survey, out=tmp_path / "out", format=container, options=("--workers", str(workers)))
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert jobs.content(job.out) == reference[container]


@pytest.mark.parametrize("container", ["webdataset", "zarr"])
def test_another_order_of_tasks(
    survey: jobs.Survey, reference: Reference, tmp_path: Path, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.job.ray_pool", jobs.here)
    config = IngestConfig(
        catalog=survey.catalog,
        source=SourceConfig(root=str(survey.frames)),
        out=tmp_path / "out",
        format=container,
        samples_per_shard=jobs.Job.samples_per_shard,
    )
    work = prepare(config)
    assert work.plan.shards > 3
    order = np.random.default_rng(1).permutation(work.plan.shards).tolist()
    write_dataset(config, work, shards=order)
    assert jobs.content(config.out) == reference[container]


def test_both_containers_hold_the_same_pixels_and_rows(survey: jobs.Survey, reference: Reference) -> None:
    tar, zarr = (Dataset.open(survey.root.with_name(f"reference-{name}")) for name in reference)
    every = np.arange(len(tar))
    np.testing.assert_array_equal(tar.images(every), zarr.images(every))
    placed = ["row", "offset"]
    assert tar.samples.drop_columns(placed).equals(zarr.samples.drop_columns(placed))
    rejects = [pq.ParquetFile(dataset.path / "rejects.parquet").read() for dataset in (tar, zarr)]
    assert rejects[0].equals(rejects[1])
    assert rejects[0].num_rows > 0  # so that some slot is empty
    assert len(tar) + rejects[0].num_rows == tar.manifest.counts["objects"]


@pytest.mark.parametrize("damaged", ["pieces/000000.parquet", "pieces/000001.json", "entries/000000.json"])
def test_what_a_bad_disk_changed_is_made_again(
    survey: jobs.Survey,
    reference: Reference,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damaged: str,
) -> None:
    monkeypatch.setattr("ingest.job.ray_pool", jobs.here)
    config = IngestConfig(
        catalog=survey.catalog,
        source=SourceConfig(root=str(survey.frames)),
        out=tmp_path / "out",
        samples_per_shard=jobs.Job.samples_per_shard,
    )
    with monkeypatch.context() as patch:
        patch.setattr("ingest.job.publish", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(config, prepare(config))
    path = tmp_path / "out.partial" / damaged
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    write_dataset(config, prepare(config))
    assert jobs.content(config.out) == reference["webdataset"]


def _interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt
