"""Bytes of shards from mapped files and plain reads: right, or an error in one line; what a dataset makes of them."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sharding import Dataset, DatasetError, storage
from sharding.manifest import Manifest
from sharding.samples import open_samples
from sharding.storage import FileStorage, MappedStorage, Storage, open_storage

MakeDataset = Callable[[Path, str], Path]
CONTAINERS = ["webdataset", "zarr"]
PIXEL_BYTES = 3 * 9 * 9 * 4


@pytest.fixture(params=CONTAINERS)
def path(request: pytest.FixtureRequest, make_dataset: MakeDataset, tmp_path: Path) -> Path:
    """A dataset that a test may damage, in either container."""
    return make_dataset(tmp_path / "nine", request.param)


@pytest.fixture(params=[MappedStorage, FileStorage])
def dataset(request: pytest.FixtureRequest, path: Path) -> Iterator[Dataset]:
    """The same dataset, read in either way."""
    manifest = Manifest.read(path)
    with Dataset(path, manifest, open_samples(path, manifest), request.param(path, manifest)) as dataset:
        yield dataset


def file_of(dataset: Dataset, index: int) -> tuple[Path, int]:
    """The file that holds a sample's pixels, and where, as the table of samples says."""
    shard, offset = (dataset.samples[name][index].as_py() for name in ("shard", "offset"))
    return dataset.path / dataset.manifest.shards[shard].name, offset


def by_hand(dataset: Dataset, index: int) -> bytes:
    """A sample's pixels, read without the storage."""
    file, offset = file_of(dataset, index)
    return file.read_bytes()[offset:][:PIXEL_BYTES]


@contextmanager
def flipped(file: Path, byte: int, bit: int) -> Iterator[None]:
    """One bit of a file is another one, in place, so that an open or mapped file shows it."""
    with file.open("r+b", buffering=0) as opened:
        (before,) = os.pread(opened.fileno(), 1, byte)
        os.pwrite(opened.fileno(), bytes([before ^ 1 << bit]), byte)
        yield
        os.pwrite(opened.fileno(), bytes([before]), byte)


def test_threads_read_in_any_order_what_the_files_hold(dataset: Dataset) -> None:
    expected = [by_hand(dataset, index) for index in range(9)]

    def read(seed: int) -> bool:
        indices = np.random.default_rng(seed).integers(0, 9, 50)  # many repeats
        out = np.empty((50, PIXEL_BYTES), np.uint8)
        dataset.read_into(indices, out, check=seed % 2 == 0)
        return [row.tobytes() for row in out] == [expected[index] for index in indices]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(60)))


def test_rows_of_an_odd_size_at_an_odd_place_are_read(dataset: Dataset) -> None:
    """A cache line is 64 bytes: neither the source nor the target of a copy need begin at one, nor be as long."""
    content = (dataset.path / dataset.manifest.shards[1].name).read_bytes()
    for size in (1, 63, 64, 65, 200):
        memory = np.zeros(3 * size + 8, np.uint8)
        for begin in (0, 1, 7):
            out = memory[begin:][: 3 * size].reshape(3, size)
            dataset.storage.read(np.array([1, 1, 1]), np.array([0, 5, 129]), out, None)
            assert [row.tobytes() for row in out] == [content[at:][:size] for at in (0, 5, 129)]


def test_a_flipped_bit_of_any_pixel_is_never_handed_out(dataset: Dataset) -> None:
    """Four times, with either container and storage: 1,000 flips."""
    rng = random.Random(9)
    batch = np.array([3, 8, 0, 1, 2, 4, 5, 6, 7, 3])
    for _ in range(250):
        index, byte, bit = rng.randrange(9), rng.randrange(PIXEL_BYTES), rng.randrange(8)
        file, offset = file_of(dataset, index)
        with flipped(file, offset + byte, bit), pytest.raises(DatasetError, match=str(1237645876861337000 + index)):
            dataset.images(batch)
    assert len(dataset.images(batch)) == 10


def test_a_damaged_sample_does_not_keep_others_from_being_read(dataset: Dataset) -> None:
    file, offset = file_of(dataset, 2)
    with flipped(file, offset, 0):
        others = [0, 1, 3, 4, 5, 6, 7, 8]
        assert [image.tobytes() for image in dataset.images(others)] == [by_hand(dataset, index) for index in others]
        with pytest.raises(DatasetError, match="differ from their checksum; verify, then ingest again") as caught:
            dataset.images(range(9))
        assert str(file) in str(caught.value)


def test_memory_that_compiled_code_must_not_write_to_is_refused(dataset: Dataset) -> None:
    indices = np.arange(3)
    good = np.empty((3, PIXEL_BYTES), np.uint8)
    read_only = good.copy()
    read_only.flags.writeable = False
    apart = np.empty((3, 2 * PIXEL_BYTES), np.uint8)[:, ::2]
    for wrong in (good[:2], good[:, 1:], good.view(np.int8), good.view(np.float32), read_only, apart, good[0]):
        with pytest.raises(ValueError, match="expected contiguous bytes of shape"):
            dataset.read_into(indices, wrong)


# Each in a process of its own: what goes wrong here ends a process by the signal SIGBUS.
CUT = """
import os, sys
from pathlib import Path
import numpy as np
from sharding import Dataset, DatasetError, storage
from sharding.manifest import Manifest
from sharding.samples import open_samples
path, kind = Path(sys.argv[1]), getattr(storage, sys.argv[2])
manifest = Manifest.read(path)
dataset = Dataset(path, manifest, open_samples(path, manifest), kind(path, manifest))
before = dataset.images(range(9))
for size in (4096 + 300, 700, 0):  # samples behind the end, on its page and on pages that are gone
    os.truncate(path / manifest.shards[0].name, size)
    for index in range(5):
        try:
            assert (dataset.images([index]) == before[index]).all()
            print("read")
        except DatasetError as err:
            print(err)
    assert (dataset.images(range(5, 9)) == before[5:]).all()
"""


@pytest.mark.parametrize("kind", ["MappedStorage", "FileStorage"])
def test_a_file_cut_short_while_it_is_open_is_an_error_in_one_line(
    make_dataset: MakeDataset, tmp_path: Path, kind: str
) -> None:
    path = make_dataset(tmp_path / "nine", "webdataset")
    done = subprocess.run([sys.executable, "-c", CUT, path, kind], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 15  # five samples, three lengths: each read or one line
    assert "read" not in lines[-5:]  # of an empty file
    file = path / Manifest.read(path).shards[0].name
    assert all(line == "read" or line.startswith(f"{file}: ") for line in lines)
    assert all("cut short" in line for line in lines[-5:])


def test_a_file_replaced_by_a_shorter_one_gives_old_pixels_or_an_error(dataset: Dataset) -> None:
    file, _ = file_of(dataset, 0)
    expected = by_hand(dataset, 0)
    shorter = file.with_name("shorter")
    shorter.write_bytes(b"")
    shorter.replace(file)
    try:
        assert dataset.images([0]).tobytes() == expected  # of the file that is mapped
    except DatasetError as err:
        assert f"{file}: cannot be read (cut short)" in str(err)  # noqa: PT017 - either is right
    with pytest.raises(DatasetError, match="bytes, got 0"):
        Dataset.open(dataset.path)


@pytest.mark.parametrize("kind", [MappedStorage, FileStorage])
@pytest.mark.parametrize("fault", ["missing", "longer", "folder"])
def test_a_shard_that_is_not_as_listed_is_not_opened(
    path: Path, kind: Callable[[Path, Manifest], Storage], fault: str
) -> None:
    manifest = Manifest.read(path)
    file = path / manifest.shards[1].name
    content = file.read_bytes()
    file.unlink()
    if fault == "longer":
        file.write_bytes(content + b"\0")
    elif fault == "folder":
        file.mkdir()
    with pytest.raises(DatasetError, match=f"{file}: (cannot be read|expected {len(content)} bytes, got)"):
        kind(path, manifest)


def test_an_input_output_error_of_a_plain_read_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(5, os.strerror(5))

    files = FileStorage(path, Manifest.read(path))
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(DatasetError, match=r"c/0/0/0/0|00000\.tar: cannot be read \(Input/output error\); verify it"):
        files.read(np.array([0]), np.array([0]), np.empty((1, 8), np.uint8), None)


def test_reads_that_come_in_parts_are_put_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may give fewer bytes than were asked for."""
    whole = os.preadv
    manifest = Manifest.read(path)
    dataset = Dataset(path, manifest, open_samples(path, manifest), FileStorage(path, manifest))
    expected = dataset.images(range(9))
    monkeypatch.setattr(os, "preadv", lambda file, views, at: whole(file, [views[0][:100]], at))
    np.testing.assert_array_equal(dataset.images(range(9)), expected)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux does")
def test_plain_reads_keep_no_more_files_open_than_they_may(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_OPEN_FILES", 1)
    before = len(os.listdir("/proc/self/fd"))
    files = FileStorage(path, Manifest.read(path))
    for _ in range(3):
        files.read(np.array([0, 1, 0, 1]), np.zeros(4, np.int64), np.empty((4, 8), np.uint8), None)
        assert len(os.listdir("/proc/self/fd")) == before + 1

    def read(seed: int) -> None:
        shard = np.random.default_rng(seed).integers(0, 2, 40)
        files.read(shard, np.zeros(40, np.int64), np.empty((40, 8), np.uint8), None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(40)))
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_are_mapped_where_their_file_system_is_local(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.read(path)
    mounts = tmp_path / "mounts"
    monkeypatch.setattr(storage, "_MOUNTS", mounts)
    for kind, expected in (("ext4", MappedStorage), ("nfs4", FileStorage), ("lustre", FileStorage)):
        mounts.write_text(f"/dev/root / ext4 rw 0 0\nserver:/home {path.resolve()} {kind} rw 0 0\n")
        assert type(open_storage(path, manifest)) is expected
    mounts.unlink()
    assert type(open_storage(path, manifest)) is FileStorage  # not known: the way that is right on all


def test_files_are_not_mapped_where_the_kernel_cannot_say_what_is_unreadable(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "can_populate", lambda: False)
    assert type(open_storage(path, Manifest.read(path))) is FileStorage


def test_what_another_thread_closes_is_read_to_its_end(path: Path) -> None:
    """A thread that reads holds the mappings; afterwards none is left."""
    manifest = Manifest.read(path)
    expected = Dataset.open(path).images(range(9)).view(np.uint8).reshape(9, -1)
    for _ in range(20):
        mapped = MappedStorage(path, manifest)
        dataset = Dataset(path, manifest, open_samples(path, manifest), mapped)
        out = np.empty((9, PIXEL_BYTES), np.uint8)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(dataset.read_into, np.arange(9), out)
            mapped.close()
            failed = reading.exception()
        assert isinstance(failed, IndexError) if failed else np.array_equal(out, expected)
    del dataset, mapped
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_pipe_under_a_shards_name_is_no_shard(path: Path) -> None:
    shard = path / Manifest.read(path).shards[0].name
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(DatasetError, match=r"expected .* bytes, got 0"):
        Dataset.open(path)
