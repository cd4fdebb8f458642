"""The read benchmark runs, its data are what they should be, and everything in it does the work it is timed for."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from benchmarks.limits.names import DISK, memory_copy
from benchmarks.practice import Practice
from benchmarks.reading import cold, hot, names, peers, told
from benchmarks.reading.cold import ColdRun
from benchmarks.reading.copying import copy_all
from benchmarks.reading.images import BANDS, SIDE_PX, SIGMA, first_samples, random_dataset, read_stored, sparse_dataset
from benchmarks.reading.material import Amount, random_batches
from benchmarks.reading.own import OwnReader
from benchmarks.results import StageReport
from benchmarks.stages import read
from sharding import Dataset, verify
from sharding.convert import convert
from sharding.dali_index import write_index
from sharding.encoding import Encoding
from sharding.storage import _file_system

SAMPLES = 12
SMALL = Amount(
    samples=16, batch=4, images=16, first=16, by_slow=4, by_slowest=4, by_url=8, beside=12, batches=(2, 8),
    sides_px=(8,), sparse=(12, 30), of_sparse=12, cold=8, rounds=1, cold_rounds=1,
)  # fmt: skip
INT16 = Encoding.of("int16", 0.25, dict.fromkeys(BANDS, SIGMA))

# The webdataset library leaves its files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


class Ranges(SimpleHTTPRequestHandler):
    """Serves files, and ranges of them."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        begin, last = map(int, wanted.groups()) if wanted else (0, len(content) - 1)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Range", f"bytes {begin}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last + 1 - begin))
        self.end_headers()
        self.wfile.write(content[begin : last + 1])

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


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


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a user's datasets: int16, small images, more than are read."""
    made = tmp_path_factory.mktemp("given")
    random_dataset(made / "tar", 21, INT16, side_px=9).close()
    convert(made / "tar", made / "zarr", container="zarr").close()
    return made


@pytest.fixture(scope="module")
def url(given: Path) -> Iterator[str]:
    """Where it is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(given))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own takes seconds to begin."""
    monkeypatch.setattr(read, "anonymous_growth_mb", lambda location, batches, threads: 1.0)


BATCHES = [np.array([7, 2, 11]), np.array([0, 5, 4])]
ASCENDING = [np.sort(batch) for batch in BATCHES]


def test_it_runs_and_leaves_nothing_behind(tmp_path: Path):
    with Practice(folder=tmp_path) as data:
        report = read.run(data, SMALL)
    everything = set(hot.PEERS) <= set(report.footing)
    promised = {(ratio.first, ratio.second): ratio.at_least for ratio in report.ratios}
    assert promised[names.ours(check=False), names.copying("", 1)] == 0.8
    assert promised[names.ours(), names.copying(names.CHECKED_BY_GOOGLE, 1)] == 0.8
    assert promised[names.ours("zarr"), names.copying(names.CHECKED_BY_OURS, 1)] == 0.8
    assert promised[names.MANY, names.FEW] == 0.9
    if everything:
        assert promised[names.ours(), names.WEBDATASET] == 8
        assert promised[names.ours("zarr"), names.ZARR] == 50
        assert promised[names.ours(), names.dali(1)] == 1.3
        assert promised[names.ours(), names.HDF5] == 1
    (memory,) = report.promises
    assert memory.at_most == 500
    assert 0 < memory.measured < 500
    assert report.own == names.ours("tar", max(data.threads))
    wanted = {"threads", "batch", "side_px", "encoding", "samples"} - (set() if len(data.threads) > 1 else {"threads"})
    assert {curve.axis for curve in report.curves} == wanted
    for curve in report.curves:
        for line in curve.lines.values():
            points = [_params(report, name)[curve.axis] for name in line]
            assert len(set(points)) == len(points) > 1
    assert not list(tmp_path.iterdir())


def test_each_rate_has_its_limit(tmp_path: Path, same_process: None):
    with Practice(folder=tmp_path) as data:
        report = read.run(data, SMALL)
    for result in report.results:
        is_cold = result.params["page_cache"] == "cold"
        assert (result.limit.name == DISK) == is_cold
        assert is_cold or result.limit.name in {memory_copy(n) for n in range(1, 1000)}
    of = {result.name: result.limit.per_item for result in report.results}
    assert of[names.ours()] == of[names.copying("", 1)] == pytest.approx(4 * 5 * 107**2 / 1e9)
    assert of[names.encoded("int16")] == of[names.ours()] / 2
    assert of[names.DECODE_ON_HOST] == pytest.approx(of[names.ours()] * 3 / 4)  # 2 bytes are read, 4 written
    assert of[names.encoded("int16", decoded=True)] == pytest.approx(of[names.ours()] * 5 / 4)
    assert of[names.sized(8)] == pytest.approx(4 * 5 * 8**2 / 1e9)


def test_peers_that_are_not_installed_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_process: None):
    for module in (hot, read):
        monkeypatch.setattr(module, "is_installed", lambda package: False)
    monkeypatch.setattr(cold, "why_not", lambda: "there is no disk")
    with Practice(folder=tmp_path) as data:
        report = read.run(data, SMALL)
    assert set(report.left_out) == {*hot.PEERS, "reading from the disk"}
    assert report.left_out["reading from the disk"] == "there is no disk"
    assert not report.footing
    assert all(name.startswith(("read: skymill", "read: copy", "read: decode")) for name in _names(report))


@pytest.mark.parametrize("container", ["tar", "zarr"])
def test_a_given_dataset_is_read_where_it_lies(tmp_path: Path, given: Path, container: str, same_process: None):
    with Practice(folder=tmp_path, given=given / container) as data:
        report = read.run(data, SMALL)
    assert report.own == names.ours(container, max(data.threads))
    params = _params(report, report.own)
    assert (params["encoding"], params["side_px"], params["samples"]) == ("int16", 9, 21)
    assert _params(report, names.ours("zarr" if container == "tar" else "tar"))["samples"] == SMALL.samples
    assert {names.ours(container, how=names.PLAIN), names.encoded("int16", decoded=True)} <= _names(report)
    assert not {names.FEW, names.sized(8)} & _names(report)
    assert [promise.missing for promise in report.promises] == ["", "measured where no dataset is given"]


def test_a_dataset_at_a_url_is_read_by_ranges_and_its_copy_beside_others(tmp_path: Path, url: str, same_process: None):
    with Practice(folder=tmp_path, given=f"{url}/zarr") as data:
        report = read.run(data, SMALL)
    assert report.own == names.at_url(max(data.threads))
    assert _params(report, report.own)["samples"] == 21
    assert _params(report, names.ours())["samples"] == _params(report, names.ours("zarr"))["samples"] == SMALL.samples


def test_one_image_is_enough(tmp_path: Path, same_process: None):
    random_dataset(tmp_path / "one", 1, side_px=9).close()
    with Practice(folder=tmp_path, given=tmp_path / "one") as data:
        report = read.run(data, SMALL)
    assert _params(report, report.own)["batch"] == 1


def test_doubled_work_is_twice_as_many_images(tmp_path: Path):
    pairs = 0
    with Practice(folder=tmp_path) as data:
        for once, twice in read.doubled(data, SMALL):
            done = []
            for contender in (once, twice):
                contender.prepare()
                done.append(contender.step())
            assert done[1] == 2 * done[0] > 0, once.name
            assert once.name == twice.name
            pairs += 1
    assert pairs > 20
    assert not list(tmp_path.iterdir())


def test_each_peer_has_its_footing():
    assert set(told.FOOTING) == set(hot.PEERS)


def _names(report: StageReport) -> set[str]:
    return {result.name for result in report.results}


def _params(report: StageReport, name: str) -> dict:
    return next(result.params for result in report.results if result.name == name)


def test_a_random_dataset_is_whole_and_its_images_differ(folder: Path, dataset: Dataset):
    assert list(verify(folder / "tar", lambda count: None)) == []
    images = dataset.images(np.arange(SAMPLES))
    assert images.shape == (SAMPLES, 5, SIDE_PX, SIDE_PX)
    assert len(np.unique(images[:, 0, 0, 0])) == SAMPLES


def test_an_encoded_one_holds_the_same_images(tmp_path: Path, dataset: Dataset):
    """A rounded pixel is at most half a step off."""
    with random_dataset(tmp_path, SAMPLES, INT16) as encoded:
        difference = encoded.images(np.arange(SAMPLES)) - dataset.images(np.arange(SAMPLES))
    assert list(verify(tmp_path, lambda count: None)) == []
    assert 0.9 / 2 * 0.25 * SIGMA < np.abs(difference).max() <= 1.001 / 2 * 0.25 * SIGMA


def test_the_first_samples_are_copied_as_they_are_stored(tmp_path: Path, given: Path):
    with Dataset.open(given / "zarr") as source, first_samples(source, 7, tmp_path / "copy") as copy:
        first = np.arange(7)
        assert np.array_equal(read_stored(copy, first), read_stored(source, first))
        assert np.array_equal(copy.images(first), source.images(first))
        assert np.array_equal(copy.column("objid"), source.column("objid")[:7])
    assert list(verify(tmp_path / "copy", lambda count: None)) == []


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


def test_more_batches_than_samples_fill_begin_anew_in_another_order():
    batches = random_batches(10, 30, 4)
    assert [len(np.unique(batches[begin : begin + 2])) for begin in (0, 2, 4)] == [8, 8, 8]
    assert not np.array_equal(batches[:2], batches[2:4])


@pytest.mark.parametrize("decoded", [False, True])
def test_our_reader_is_timed_over_its_batches_and_no_others(dataset: Dataset, decoded: bool):
    reader = OwnReader(dataset, BATCHES, 2, decoded=decoded)
    for _ in range(2):
        reader.begin()
        assert reader.finish() == 6


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
    batches = list(peers.webdataset_batches(peers.shard_paths(dataset, SAMPLES), 5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert np.array_equal(np.concatenate(batches), read_stored(dataset, np.arange(SAMPLES)))


def test_dali_reads_the_same_bytes(folder: Path, dataset: Dataset):
    pytest.importorskip("nvidia.dali")
    indices = write_index(folder / "tar", folder / "index")
    pipeline = peers.dali_pipeline(peers.shard_paths(dataset, SAMPLES), indices, 6, 1)
    read = [np.asarray(file) for _ in range(2) for file in pipeline.run()[0]]
    pixels = [file.tobytes()[-dataset.pixel_bytes :] for file in read]
    assert pixels == [image.tobytes() for image in read_stored(dataset, np.arange(SAMPLES))]


def test_zarr_python_reads_the_same_images(zarr: Path, dataset: Dataset):
    pytest.importorskip("zarr")
    _same(peers.zarr_batches(zarr, BATCHES), ASCENDING, dataset)


def test_tensorstore_reads_the_same_images(zarr: Path, dataset: Dataset):
    pytest.importorskip("tensorstore")
    _same(peers.tensorstore_batches(zarr, BATCHES), BATCHES, dataset)


def test_h5py_reads_the_same_images(tmp_path: Path, dataset: Dataset):
    pytest.importorskip("h5py")
    peers.write_hdf5(tmp_path / "images.h5", read_stored(dataset, np.arange(SAMPLES)))
    _same(peers.hdf5_batches(tmp_path / "images.h5", BATCHES), ASCENDING, dataset)


def _same(batches, indices, dataset: Dataset) -> None:
    """Batch by batch: one that is used again is looked at before the next."""
    for batch, wanted in zip(batches, indices, strict=True):
        assert np.array_equal(batch, dataset.images(wanted))


def test_only_shards_of_the_first_samples_are_read(tmp_path: Path):
    with sparse_dataset(tmp_path, 2050) as dataset:
        counts = [len(peers.shard_paths(dataset, samples)) for samples in (1, 1024, 1025, 2050)]
    assert counts == [1, 1, 2, 3]


def test_a_dropped_file_is_read_from_the_disk(tmp_path: Path):
    """A second reading finds it in memory; each run is of a dropped one."""
    if _file_system(tmp_path) in ("tmpfs", "ramfs", ""):
        pytest.skip("these files lie in memory, or nobody knows where")
    path = tmp_path / "file"
    path.write_bytes(bytes(4_000_000))
    run = ColdRun([path], lambda: len(path.read_bytes()))
    for _ in range(2):
        run.drop()
        assert run.run() == 4_000_000
        assert run.from_disk == pytest.approx(1, abs=0.05)  # other threads read nothing; the last page is a whole one
    run.run()
    assert run.from_disk == 0


def test_what_stays_in_memory_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    random_dataset(tmp_path, 8, side_px=9).close()
    monkeypatch.setattr(ColdRun, "drop", lambda self: None)
    results, why = cold.measure(tmp_path, SMALL, 1)
    assert results == ()
    assert "stay in memory" in why
