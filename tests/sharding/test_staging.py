"""Staging: pixels are the same wherever they are read, copies are made once, and no fault of the folder ends a run."""

import fcntl
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sharding import Dataset, DatasetError, atomic_file, copies, staging, storage
from sharding.manifest import Manifest, ShardEntry
from sharding.records import TarRecords, pixel_checksum
from sharding.storage import MappedStorage, Storage
from sharding.writer import file_entry, finish, write_batches

SHARDS, EACH = 6, 4  # shards, samples in each
COUNT = SHARDS * EACH
DEADLINE_S = 20.0  # far more than anything here takes; what waits as long has failed

IMAGES = np.random.default_rng(0).normal(size=(COUNT, 3, 9, 9)).astype("<f4")


def write_six(template: Path, folder: Path) -> Path:
    """A tar dataset of six shards; what its manifest says besides is the template's."""
    records = TarRecords((3, 9, 9), 512)
    entries = []
    for shard in range(SHARDS):
        name = records.shard_name(shard)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / name) as file:
            for number in range(shard * EACH, (shard + 1) * EACH):
                file.write(records.encode(str(number), IMAGES[number].tobytes(), b"{}"))
            file.write(records.trailer(range(EACH)))
        entry = file_entry(folder, name)
        entries.append(ShardEntry(entry.name, entry.bytes, entry.sha256, EACH, 512))
    number = np.arange(COUNT)
    table = {
        "objid": number,
        "shard": (number // EACH).astype(np.int32),
        "row": number % EACH,
        "offset": records.pixel_offset + number % EACH * records.record_bytes,
        "crc32c": np.array([pixel_checksum(image.tobytes()) for image in IMAGES], dtype=np.uint32),
    }
    write_batches(folder / "samples.parquet", [pa.table(table)])
    write_batches(folder / "rejects.parquet", [pa.table({"objid": np.arange(0)})])
    manifest = replace(Manifest.read(template), shards=tuple(entries), files=())
    finish(folder, manifest, ["samples.parquet", "rejects.parquet"])
    return folder


class Source:
    """A storage that counts what is read of each shard, and waits where it is told to."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.reads: list[int] = []
        self.open: dict[int, threading.Event] = {}  # a shard's stage waits for it
        self.closed = False

    def read(self, shard: np.ndarray, offset: np.ndarray, out: np.ndarray, checksums: np.ndarray | None) -> None:
        """Records are read at once; what the stage reads may have to wait."""
        self.reads += shard.tolist()
        if checksums is None and (gate := self.open.get(int(shard[0]))):
            assert gate.wait(DEADLINE_S)
        self.inner.read(shard, offset, out, checksums)

    def distrust(self, shard: int) -> bool:
        """There is no other place."""
        return self.inner.distrust(shard)

    def close(self) -> None:
        """So that it is seen."""
        self.closed = True
        self.inner.close()


class Told:
    """How far a stage is."""

    def __init__(self) -> None:
        self.done, self.total = 0, -1

    def __call__(self, done: int, total: int) -> None:
        """Called by the stage."""
        self.done, self.total = done, total

    def wait_for(self, done: int) -> None:
        """Until this many bytes are staged."""
        wait_until(lambda: self.done == done)

    def wait_for_all(self) -> None:
        """Until no more will come."""
        wait_until(lambda: self.done == self.total)


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll, but not for ever."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.005)


def is_staging() -> bool:
    """Whether a thread of a stage lives."""
    return any(thread.name == "stage" for thread in threading.enumerate())


def check_pixels(dataset: Dataset) -> None:
    """All samples, each of them twice, in random order."""
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(COUNT), 2))
    np.testing.assert_array_equal(dataset.images(order), IMAGES[order])


def files_in(folder: Path) -> list[str]:
    """Names of all files, without those of folders."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Texts of all warnings."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(scope="module")
def pristine(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards, to read only."""
    return write_six(dataset_path, tmp_path_factory.mktemp("six") / "six")


@pytest.fixture
def six(pristine: Path) -> Iterator[Dataset]:
    """Six shards behind a `Source`; no thread may be left behind."""
    dataset = Dataset.open(pristine)
    dataset.storage = Source(dataset.storage)
    yield dataset
    dataset.close()
    assert not is_staging()


def source_of(dataset: Dataset) -> Source:
    """What the dataset is staged from, or will be."""
    found = getattr(dataset.storage, "_source", dataset.storage)
    assert isinstance(found, Source)
    return found


def sizes_of(dataset: Dataset) -> np.ndarray:
    """Bytes of each shard."""
    return np.array([entry.bytes for entry in dataset.manifest.shards])


@pytest.mark.parametrize("container", ["webdataset", "zarr"])
@pytest.mark.parametrize("mapped", [True, False])
def test_copies_are_the_shards_and_give_their_pixels(
    container: str, mapped: bool, tmp_path: Path, make_dataset: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "can_populate", lambda: mapped)
    path = make_dataset(tmp_path / "data", container)
    with Dataset.open(path) as dataset:
        assert isinstance(dataset.storage, MappedStorage) == mapped
        expected = dataset.images(np.arange(9))
        dataset.storage = Source(dataset.storage)
        told = Told()
        dataset.stage(tmp_path / "stage", 10**9, told)
        np.testing.assert_array_equal(dataset.images(np.arange(9)), expected)
        told.wait_for_all()
        source_of(dataset).reads.clear()
        np.testing.assert_array_equal(dataset.images(np.arange(9)), expected)
        assert source_of(dataset).reads == []
        names = [entry.name for entry in dataset.manifest.shards]
        folder = tmp_path / "stage" / dataset.digest[:16]
    assert files_in(tmp_path / "stage") == sorted(f"{folder.name}/{name}" for name in names)
    assert all((folder / name).read_bytes() == (path / name).read_bytes() for name in names)


def test_pixels_are_the_same_while_shards_come_one_by_one(
    six: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_PIECE", 1000)  # many pieces, the last one shorter
    monkeypatch.setattr(storage, "_ROW", 300)
    source, told = source_of(six), Told()
    source.open = {shard: threading.Event() for shard in range(SHARDS)}
    six.stage(tmp_path, 10**9, told)
    for shard, done in enumerate(np.cumsum(sizes_of(six)).tolist()):
        check_pixels(six)
        source.open[shard].set()
        told.wait_for(done)
        source.reads.clear()
        check_pixels(six)
        assert shard not in {number for number in source.reads[:COUNT] if not source.open[number].is_set()}
    source.reads.clear()
    check_pixels(six)
    assert source.reads == []


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_first_shards_that_fit_are_staged(more: int, six: Dataset, tmp_path: Path) -> None:
    told, fit = Told(), sizes_of(six)[:3].sum()
    six.stage(tmp_path, int(fit) + more, told)
    expected = 2 if more < 0 else 3
    told.wait_for(sizes_of(six)[:expected].sum())
    wait_until(lambda: not is_staging())
    assert told.done == told.total
    assert [name[-9:] for name in files_in(tmp_path)] == [f"{shard:05d}.tar" for shard in range(expected)]
    check_pixels(six)


def test_a_later_job_uses_what_is_whole_and_copies_the_rest(pristine: Path, six: Dataset, tmp_path: Path) -> None:
    told = Told()
    with Dataset.open(pristine) as first:
        first.stage(tmp_path, 10**9, told)
        told.wait_for_all()
    folder = tmp_path / six.digest[:16] / "shards"
    (folder / "00001.tar").unlink()
    os.truncate(folder / "00004.tar", 100)
    again = Told()
    six.stage(tmp_path, 10**9, again)
    again.wait_for_all()
    assert set(source_of(six).reads) == {1, 4}
    check_pixels(six)
    assert set(source_of(six).reads) == {1, 4}


@pytest.mark.parametrize("harm", ["flipped", "cut short"])
def test_a_damaged_copy_is_removed_and_its_source_read(
    harm: str, six: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    six.stage(tmp_path, 10**9, told)
    told.wait_for_all()
    copy = tmp_path / six.digest[:16] / "shards/00002.tar"
    if harm == "flipped":
        with copy.open("r+b") as file:
            file.seek(TarRecords((3, 9, 9), 512).pixel_offset + 5)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 4]))
    else:
        os.truncate(copy, 0)
    source_of(six).reads.clear()
    check_pixels(six)
    assert set(source_of(six).reads) == {2}
    check_pixels(six)
    assert not copy.exists()
    assert warnings_of(caplog) == [f"{copy}: damaged, so removed; its source is read instead"]


def test_a_damaged_source_is_not_staged(
    dataset_path: Path, tmp_path: Path, flip_bit: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_six(dataset_path, tmp_path / "data")
    records = TarRecords((3, 9, 9), 512)
    flip_bit(path / "shards/00001.tar", records.pixel_offset + records.record_bytes, 0)  # the second sample of it
    told = Told()
    with Dataset.open(path) as dataset:
        dataset.stage(tmp_path / "stage", 10**9, told)
        wait_until(lambda: not is_staging())
        assert told.done == told.total - dataset.manifest.shards[1].bytes
        whole = np.delete(np.arange(COUNT), EACH + 1)
        np.testing.assert_array_equal(dataset.images(whole), IMAGES[whole])
        with pytest.raises(DatasetError, match=rf"00001.tar: sample {EACH + 1} \(row 1\): its pixels differ"):
            dataset.images([EACH + 1])
    assert len(files_in(tmp_path / "stage")) == SHARDS - 1
    (warning,) = warnings_of(caplog)
    assert warning.startswith("shards/00001.tar: its bytes differ from the digest")


def test_a_source_that_cannot_be_read_is_not_staged(
    six: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inner = source_of(six).inner.read

    def failing(shard: np.ndarray, offset: np.ndarray, out: np.ndarray, checksums: np.ndarray | None) -> None:
        if checksums is None and shard[0] == 3:
            raise DatasetError("shards/00003.tar: cannot be read (timed out)")
        inner(shard, offset, out, checksums)

    monkeypatch.setattr(source_of(six).inner, "read", failing)
    six.stage(tmp_path, 10**9)
    wait_until(lambda: not is_staging())
    assert len(files_in(tmp_path)) == SHARDS - 1
    assert warnings_of(caplog) == ["shards/00003.tar: cannot be read (timed out); this shard is not staged"]
    check_pixels(six)


def test_a_folder_that_cannot_be_made_is_one_warning(
    six: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    six.stage(tmp_path / "file", 10**9)
    wait_until(lambda: not is_staging())
    (warning,) = warnings_of(caplog)
    assert "no more is staged (Not a directory)" in warning
    check_pixels(six)


def test_a_folder_of_another_user_is_not_trusted(
    six: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = os.getuid() + 1
    monkeypatch.setattr(copies.os, "getuid", lambda: other)
    six.stage(tmp_path, 10**9)
    wait_until(lambda: not is_staging())
    assert "no more is staged (it is not a folder of your own)" in warnings_of(caplog)[0]
    assert files_in(tmp_path) == []


def test_closing_early_is_prompt_and_leaves_nothing(
    six: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_PIECE", 1000)
    source, told = source_of(six), Told()
    gate = source.open[2] = threading.Event()
    before = len(os.listdir("/proc/self/fd"))
    six.stage(tmp_path, 10**9, told)
    told.wait_for(sizes_of(six)[:2].sum())
    wait_until(lambda: source.reads[-1] == 2)
    assert [name[-17:] for name in files_in(tmp_path)][-1] == "00002.tar.partial"
    closing = threading.Thread(target=six.close)
    closing.start()
    wait_until(six.storage._stage._stop.is_set)
    gate.set()
    closing.join(DEADLINE_S)
    assert source.reads.count(2) == 1  # the piece at hand, no other
    assert source.closed
    assert not is_staging()
    assert len(files_in(tmp_path)) == 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_dataset_that_is_let_go_ends_its_stage(pristine: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(pristine)
    source = dataset.storage = Source(dataset.storage)
    gate = source.open[1] = threading.Event()
    dataset.stage(tmp_path, 10**9)
    wait_until(lambda: source.reads.count(1) == 1)
    del dataset
    gc.collect()
    gate.set()
    wait_until(lambda: not is_staging())
    assert len(files_in(tmp_path)) <= 2  # a shard of one piece was at hand
    assert not any(name.endswith("partial") for name in files_in(tmp_path))


def test_what_killed_processes_left_is_removed_and_nothing_else(six: Dataset, tmp_path: Path) -> None:
    kept = ["0123456789abcdef/shards/00000.tar", "mine/a.partial", "notes.partial"]
    dead = "0123456789abcdef/images.zarr/images/c/0/0/0/0.partial"
    living = "fedcba9876543210/shards/00007.tar.partial"
    for name in (*kept, dead, living):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    told = Told()
    with (tmp_path / living).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        six.stage(tmp_path, 10**9, told)
        told.wait_for_all()
    staged = {f"{six.digest[:16]}/shards/{shard:05d}.tar" for shard in range(SHARDS)}
    assert set(files_in(tmp_path)) == {*kept, living, *staged}


# What a process of another rank runs: arguments are the dataset, the stage's folder, and which shards it is slow at.
RANK = """
import os, sys, threading, time
from pathlib import Path
import numpy as np
from sharding import Dataset, staging

path, folder, slow, seconds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
fast = staging.read_range
def read_range(source, shard, offset, out):
    os.write(1, f"copies {shard} {os.getpid()}\\n".encode())  # one write, which another process cannot tear
    copying.set()
    if str(shard) in slow:
        time.sleep(seconds)
    fast(source, shard, offset, out)
staging.read_range = read_range
state, copying = {}, threading.Event()
dataset = Dataset.open(path)
expected = dataset.images(np.arange(len(dataset)))
"""


def start_rank(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """A process that runs ``code``."""
    command = [sys.executable, "-c", RANK + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish_rank(rank: "subprocess.Popen[str]") -> tuple[list[str], str]:
    """Lines that it printed, and its standard error."""
    out, err = rank.communicate(timeout=3 * DEADLINE_S)
    assert rank.returncode == 0, err
    return out.splitlines(), err


def test_ranks_share_the_work_and_copy_nothing_twice(pristine: Path, tmp_path: Path) -> None:
    code = """
twin = os.fork()  # two processes for the price of one start
dataset.stage(folder, 10**9, lambda done, total: state.update(done=done, total=total))
while state.get("done", 0) != state.get("total"):
    assert np.array_equal(dataset.images(np.arange(len(dataset))), expected)
    time.sleep(0.01)
assert np.array_equal(dataset.images(np.arange(len(dataset))), expected)
dataset.close()
assert not twin or os.waitpid(twin, 0)[1] == 0
"""
    lines, _ = finish_rank(start_rank(code, pristine, tmp_path, "012345", 0.2))
    copied, by = zip(*(line.removeprefix("copies ").split() for line in lines), strict=True)
    assert sorted(copied) == [str(shard) for shard in range(SHARDS)]
    assert len(set(by)) == 2
    assert len(files_in(tmp_path)) == SHARDS


def test_the_shard_of_a_killed_process_is_finished_by_another(six: Dataset, tmp_path: Path) -> None:
    """Even where the dead one left a child, which inherited its descriptors."""
    code = """
dataset.stage(folder, 10**9)
copying.wait()
child = os.fork()
if not child:
    same = np.array_equal(dataset.images(np.arange(len(dataset))), expected)
    dataset.close()
    print("child", os.getpid(), same, flush=True)
time.sleep(60)
"""
    rank = start_rank(code, six.path, tmp_path, "0", 60)
    assert rank.stdout is not None
    assert rank.stdout.readline() == f"copies 0 {rank.pid}\n"
    told = Told()
    six.stage(tmp_path, 10**9, told)
    told.wait_for(sizes_of(six)[1:].sum())  # all but the one that the other copies
    check_pixels(six)
    _, child, same = rank.stdout.readline().split()
    try:
        assert same == "True"
        assert told.done < told.total
        copy = tmp_path / six.digest[:16] / "shards/00000.tar"
        copy.with_name("00000.tar.partial").write_bytes(bytes(100_000))  # longer than the shard
        rank.kill()
        rank.wait(DEADLINE_S)
        told.wait_for_all()
    finally:
        os.kill(int(child), signal.SIGKILL)
        rank.kill()
        rank.communicate(timeout=DEADLINE_S)
    assert copy.read_bytes() == (six.path / "shards/00000.tar").read_bytes()
    assert len(files_in(tmp_path)) == SHARDS
    check_pixels(six)


def test_a_full_disk_ends_the_stage_not_the_run(pristine: Path, tmp_path: Path) -> None:
    """A limit of file sizes stands for it."""
    code = """
import resource
half = dataset.manifest.shards[0].bytes // 2
resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
dataset.stage(folder, 10**9)
[thread.join() for thread in threading.enumerate() if thread.name == "stage"]
assert np.array_equal(dataset.images(np.arange(len(dataset))), expected)
"""
    lines, err = finish_rank(start_rank(code, pristine, tmp_path, "", 0))
    assert [line[:8] for line in lines] == ["copies 0"]
    assert err.count("\n") == 1
    assert "no more is staged (File too large)" in err
    assert files_in(tmp_path) == []


def test_a_process_that_ends_without_closing_leaves_nothing(pristine: Path, tmp_path: Path) -> None:
    code = """
staging._PIECE = 1000
dataset.stage(folder, 10**9)
copying.wait()
"""
    lines, err = finish_rank(start_rank(code, pristine, tmp_path, "0", 0.2))
    assert 1 <= len(lines) < 5  # pieces, of which the first shard alone has eight
    assert err == ""
    assert files_in(tmp_path) == []


def test_a_limit_that_no_shard_fits_is_told(six: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    six.stage(tmp_path / "stage", 10)
    assert "nothing is staged: the first shard has" in caplog.text


def test_copies_do_not_go_into_the_dataset(six: Dataset) -> None:
    with pytest.raises(DatasetError, match="expected a folder for copies outside of the dataset"):
        six.stage(six.path / "stage", 10**9)
