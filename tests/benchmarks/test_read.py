"""The read benchmark runs, its data are what they should be, and everything in it does the work it is timed for."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.practice import PracticeData
from benchmarks.reading import hot, peers
from benchmarks.reading.coldcache import ColdRuns
from benchmarks.reading.copying import copy_all
from benchmarks.reading.hot import Amount, in_memory, random_batches
from benchmarks.reading.images import BANDS, IMAGE_SHAPE, SIGMA, random_dataset, sparse_dataset
from benchmarks.stages import read
from sharding import Dataset, verify
from sharding.convert import convert
from sharding.dali_index import write_index
from sharding.encoding import Encoding
from sharding.storage import _file_system

SAMPLES = 12
SMALL = Amount(samples=16, batch=4, encoded=12, by_slow=4, by_slowest=4, few=12, many=30, of_both=12)

# The webdataset library leaves its files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a tar of random images in it."""
    made = tmp_path_factory.mktemp("read")
    random_dataset(made / "tar", SAMPLES).close()
    return made


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return Dataset.open(folder / "tar")


@pytest.fixture(scope="module")
def zarr(folder: Path) -> Path:
    """The same in Zarr."""
    convert(folder / "tar", folder / "zarr", container="zarr").close()
    return folder / "zarr"


BATCHES = [np.array([7, 2, 11]), np.array([0, 5, 4])]
ASCENDING = [np.sort(batch) for batch in BATCHES]


def test_it_runs_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    report = read.run(PracticeData(tmp_path / "never-made"), rounds=1, amount=SMALL)
    names = {result.name for result in report.results}
    installed = [peer for peer in hot.PEERS if hot.is_installed(peer)]
    told = {pair for pair in read.wanted() if names.issuperset(pair)}
    assert set(report.pairs) == told
    assert len(installed) < len(hot.PEERS) or told == set(read.wanted())
    assert set(report.left_out) == set(hot.PEERS) - set(installed)
    assert report.wanted[read.MANY, read.FEW] == 0.9
    assert all(ratio > 0 for ratio in report.ratios().values())
    many = next(result for result in report.results if result.name == read.MANY)
    assert many.params["samples"] == SMALL.many
    assert 0 < many.params["own_memory_grew_mb"] < 500
    assert not list(tmp_path.iterdir())


def test_peers_that_are_not_installed_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hot, "is_installed", lambda package: False)
    monkeypatch.setattr(read, "_cold", lambda folder, amount: ())
    monkeypatch.setattr(read, "_few_and_many", lambda folder, amount, rounds: ())
    report = read.run(PracticeData(tmp_path / "never-made"), rounds=1, amount=SMALL)
    assert report.left_out == hot.PEERS
    assert all(name.startswith(("read: skymill", "read: copy", "read: decode")) for name in map(_name, report.results))
    assert {name for pair in report.pairs for name in pair} <= set(map(_name, report.results))


def _name(result) -> str:
    return result.name


def test_a_random_dataset_is_whole_and_its_images_differ(folder: Path, dataset: Dataset):
    assert list(verify(folder / "tar", lambda count: None)) == []
    images = dataset.images(np.arange(SAMPLES))
    assert images.shape == (SAMPLES, *IMAGE_SHAPE)
    assert len(np.unique(images[:, 0, 0, 0])) == SAMPLES


def test_an_encoded_one_holds_the_same_images(tmp_path: Path, dataset: Dataset):
    """A rounded pixel is at most half a step off."""
    encoding = Encoding.of("int16", 0.25, dict.fromkeys(BANDS, SIGMA))
    with random_dataset(tmp_path, SAMPLES, encoding) as encoded:
        difference = encoded.images(np.arange(SAMPLES)) - dataset.images(np.arange(SAMPLES))
    assert list(verify(tmp_path, lambda count: None)) == []
    assert 0.9 / 2 * 0.25 * SIGMA < np.abs(difference).max() <= 1.001 / 2 * 0.25 * SIGMA


def test_a_sparse_one_takes_no_disk_and_reads_as_zeros(tmp_path: Path):
    with sparse_dataset(tmp_path, 1500) as dataset:
        shards = [tmp_path / entry.name for entry in dataset.manifest.shards]
        assert (len(dataset), len(shards)) == (1500, 2)
        assert not dataset.images([0, 1499]).any()
    assert sum(path.stat().st_size for path in shards) > 1500 * dataset.pixel_bytes
    assert sum(512 * path.stat().st_blocks for path in shards) < 1e6


def test_random_batches_hold_each_sample_at_most_once_and_are_always_the_same():
    batches = random_batches(100, 90, 8)
    assert [len(batch) for batch in batches] == [8] * 11
    assert len(np.unique(batches)) == 88
    assert 0 <= np.min(batches) <= np.max(batches) < 100
    assert np.array_equal(batches, random_batches(100, 90, 8))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_limit_copies_each_row_to_its_place_and_checks_it_once(threads: int):
    rows = np.arange(40, dtype=np.uint8).reshape(10, 4)
    out, checked = np.zeros((3, 4), dtype=np.uint8), []
    batches = [np.array([9, 0, 4]), np.array([3, 3, 8])]
    assert copy_all(rows, batches, out, threads, lambda row: checked.append(row.tobytes())) == 6
    assert np.array_equal(out, rows[batches[-1]])
    assert Counter(checked) == Counter(rows[index].tobytes() for batch in batches for index in batch)


def test_webdataset_reads_the_same_images(dataset: Dataset):
    pytest.importorskip("webdataset")
    batches = list(peers.webdataset_batches(peers.shard_paths(dataset), 5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert np.array_equal(np.concatenate(batches), in_memory(dataset))


def test_dali_reads_the_same_bytes(folder: Path, dataset: Dataset):
    pytest.importorskip("nvidia.dali")
    pipeline = peers.dali_pipeline(peers.shard_paths(dataset), write_index(folder / "tar", folder / "index"), 6, 1)
    read = [np.asarray(file) for _ in range(2) for file in pipeline.run()[0]]
    pixels = [file.tobytes()[-dataset.pixel_bytes :] for file in read]
    assert pixels == [image.tobytes() for image in in_memory(dataset)]


def test_zarr_python_reads_the_same_images(zarr: Path, dataset: Dataset):
    pytest.importorskip("zarr")
    _same(peers.zarr_batches(zarr, BATCHES), ASCENDING, dataset)


def test_tensorstore_reads_the_same_images(zarr: Path, dataset: Dataset):
    pytest.importorskip("tensorstore")
    _same(peers.tensorstore_batches(zarr, BATCHES), BATCHES, dataset)


def test_h5py_reads_the_same_images(tmp_path: Path, dataset: Dataset):
    pytest.importorskip("h5py")
    peers.write_hdf5(tmp_path / "images.h5", in_memory(dataset))
    _same(peers.hdf5_batches(tmp_path / "images.h5", BATCHES), ASCENDING, dataset)


def _same(batches, indices, dataset: Dataset) -> None:
    """Batch by batch: one that is used again is looked at before the next."""
    for batch, wanted in zip(batches, indices, strict=True):
        assert np.array_equal(batch, dataset.images(wanted))


def test_a_dropped_file_is_read_from_the_disk(tmp_path: Path):
    """A second reading finds it in memory; `ColdRuns` drops it before each."""
    if _file_system(tmp_path) in ("tmpfs", "ramfs", ""):
        pytest.skip("these files lie in memory, or nobody knows where")
    path = tmp_path / "file"
    path.write_bytes(bytes(4_000_000))
    runs = ColdRuns([path], lambda: len(path.read_bytes()))
    for _ in range(2):
        runs.run()
        assert runs.from_disk == pytest.approx(1, abs=0.05)  # other threads read nothing; the last page is a whole one
    assert len(runs.rates) == 2
