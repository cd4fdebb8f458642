"""Batches of a dataset: which, in what order, in whose memory; and what is left when they are no longer wanted."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from multiprocessing import get_context
from operator import methodcaller
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from sharding import Dataset, DatasetError
from sharding.convert import convert
from sharding.reader import AHEAD, Reader, _Buffer

MakeDataset = Callable[[Path, str], Path]

CPU = torch.device("cpu")
BATCHES = [[3, 0, 8], [1, 1, 1, 1, 7], [], [5], [8, 7, 6, 5, 4, 3, 2, 1, 0], [2, 4]]
WANTED = [np.array(batch, dtype=np.int64) for batch in BATCHES]


@pytest.fixture(scope="module", params=["float32", "float16", "int16"])
def encoded(
    request: pytest.FixtureRequest, dataset_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dataset]:
    """The nine samples in each encoding."""
    name: Literal["float32", "float16", "int16"] = request.param
    if name == "float32":
        yield Dataset.open(dataset_path)
    else:
        yield convert(dataset_path, tmp_path_factory.mktemp("encoded") / name, encoding=name)


def no_thread_of_a_reader() -> bool:
    """Whether all threads that read are gone."""
    return not any(thread.name.startswith("reader") for thread in threading.enumerate())


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_batches_come_in_order_whatever_their_sizes(encoded: Dataset, threads: int) -> None:
    with closing(Reader(encoded, CPU, threads=threads).batches(WANTED)) as batches:
        for indices, batch in zip(WANTED, batches, strict=True):
            np.testing.assert_array_equal(batch.indices, indices)
            assert batch.pixels().dtype == torch.float32
            np.testing.assert_array_equal(batch.pixels().numpy(), encoded.images(indices))
    assert no_thread_of_a_reader()


def test_nothing_wanted_is_no_batch(dataset: Dataset) -> None:
    assert list(Reader(dataset, CPU).batches([])) == []
    assert no_thread_of_a_reader()


def test_memory_is_that_of_three_batches_and_used_again(dataset: Dataset) -> None:
    wanted = (np.arange(9) for _ in range(50))
    places = [batch.stored.data_ptr() for batch in Reader(dataset, CPU, threads=2).batches(wanted)]
    assert len(set(places)) == AHEAD + 1


def test_a_batch_stays_as_it_is_until_the_next_is_asked_for(dataset: Dataset) -> None:
    with closing(Reader(dataset, CPU, threads=2).batches(np.arange(9) for _ in range(6))) as batches:
        for batch in batches:
            batch.stored.fill_(7.0)
            time.sleep(0.01)  # for threads that would write here
            assert (batch.stored == 7.0).all()


def test_no_more_than_two_batches_are_read_ahead(dataset: Dataset) -> None:
    asked = 0

    def wanted() -> Iterator[np.ndarray]:
        nonlocal asked
        for indices in WANTED * 3:
            asked += 1
            yield indices

    with closing(Reader(dataset, CPU).batches(wanted())) as batches:
        assert asked == 0  # nothing is read before it is wanted
        for number, _ in enumerate(batches, start=1):
            assert asked == min(number + AHEAD, 18)


def test_an_error_comes_in_the_place_of_its_batch(dataset: Dataset) -> None:
    batches = Reader(dataset, CPU, threads=2).batches([*WANTED[:2], np.array([0, 9]), *WANTED])
    assert [batch.indices.tolist() for batch in islice(batches, 2)] == BATCHES[:2]
    with pytest.raises(IndexError, match=r"\[0, 9\)"):
        next(batches)
    assert next(batches, None) is None
    assert no_thread_of_a_reader()


def test_damage_that_comes_while_a_dataset_is_read_is_never_handed_out(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    path = make_dataset(tmp_path / "nine", "zarr")
    dataset = Dataset.open(path)
    batches = Reader(dataset, CPU).batches([np.arange(9)] * 10)
    next(batches)
    with (path / dataset.manifest.shards[1].name).open("r+b") as file:
        file.write(b"\1")
    with pytest.raises(DatasetError, match=r"sample 1237645876861337005 .* its pixels differ from their checksum"):
        list(batches)
    assert no_thread_of_a_reader()
    assert len(next(Reader(dataset, CPU, check=False).batches([np.arange(9)])).indices) == 9  # asked not to look


def test_an_error_of_what_is_wanted_ends_the_threads(dataset: Dataset) -> None:
    def wanted() -> Iterator[np.ndarray]:
        yield from WANTED
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        list(Reader(dataset, CPU).batches(wanted()))
    assert no_thread_of_a_reader()


@pytest.mark.parametrize("end", ["close", "drop", "raise"])
def test_whoever_stops_early_leaves_no_thread(dataset: Dataset, end: str) -> None:
    batches = Reader(dataset, CPU).batches([np.arange(9)] * 100)
    next(batches)
    if end == "close":
        batches.close()
    elif end == "raise":
        with pytest.raises(ZeroDivisionError):
            batches.throw(ZeroDivisionError())
    else:
        del batches
        gc.collect()
    assert no_thread_of_a_reader()


def test_readers_of_one_dataset_do_not_disturb_each_other(encoded: Dataset) -> None:
    """Nor do two iterations of one reader: a consumer that failed may hold the first for long."""
    reader = Reader(encoded, CPU, threads=2)

    def read(seed: int) -> bool:
        wanted = list(np.random.default_rng(seed).integers(0, 9, (20, 6)))
        batches = reader.batches(wanted)
        return all(
            np.array_equal(batch.pixels().numpy(), encoded.images(indices))
            for indices, batch in zip(wanted, batches, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(12)))


def test_many_indices_take_threads_that_read_side_by_side(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(3, timeout=30)  # broken, an error, where fewer than three read at once
    whole = dataset.read_into

    def read_into(*arguments: object, **named: object) -> None:
        meeting.wait()
        whole(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "read_into", read_into)
    assert len(list(Reader(dataset, CPU, threads=3).batches([np.arange(9)] * 2))) == 2


def test_a_dataset_goes_to_another_process_by_its_place(dataset: Dataset) -> None:
    """As a DataLoader that spawns its workers sends it."""
    with get_context("spawn").Pool(1) as pool:
        sent = pool.apply(methodcaller("images", [8, 0, 8]), (dataset,))
    np.testing.assert_array_equal(sent, dataset.images([8, 0, 8]))


FORK = """
import os, sys, threading
import numpy as np, torch
from pathlib import Path
from sharding import Dataset, storage
from sharding.manifest import Manifest
from sharding.samples import open_samples
from sharding.reader import Reader
path = Path(sys.argv[1])
manifest = Manifest.read(path)

def child(batches):
    try:
        next(batches)
    except RuntimeError as err:
        assert "forked process" in str(err)
    else:
        raise SystemExit("the child went on with its parent's batches")
    batch = next(reader.batches([np.arange(9)]))
    np.testing.assert_array_equal(batch.pixels().numpy(), expected)

for kind in (storage.MappedStorage, storage.FileStorage):
    dataset = Dataset(path, manifest, open_samples(path, manifest), kind(path, manifest))
    expected = dataset.images(range(9))
    reader = Reader(dataset, torch.device("cpu"), threads=3)
    for number in range(10):
        batches = reader.batches(np.arange(9) for _ in range(30))
        next(batches)
        pid = os.fork()  # while threads read
        if pid == 0:
            if number == 0:
                sys.exit()  # with the batches open, and all that Python waits for at an end in order
            code = 1
            try:
                child(batches)
                del batches
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert all((batch.pixels().numpy() == expected).all() for batch in batches)
"""

CUT = """
import os, sys
import numpy as np, torch
from sharding import Dataset, DatasetError
from sharding.reader import Reader
dataset = Dataset.open(sys.argv[1])
batches = Reader(dataset, torch.device("cpu"), threads=2).batches(np.arange(9) for _ in range(50))
next(batches)
os.truncate(dataset.path / dataset.manifest.shards[0].name, 0)
try:
    list(batches)
except DatasetError as err:
    print(err)
"""


def run(script: str, path: Path) -> str:
    """What a script prints in a process of its own, which a hang or a signal ends alone."""
    command = [sys.executable, "-c", script, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fork_goes_on_with_a_reader_of_its_own(dataset_path: Path) -> None:
    run(FORK, dataset_path)


def test_a_file_cut_short_between_batches_does_not_end_the_process(make_dataset: MakeDataset, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "nine", "webdataset")
    assert run(CUT, path) == (
        f"{path}/shards/00000.tar: cannot be read: cut short or its disk fails; verify it, then ingest again\n"
    )


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts what is open as Linux does")
def test_nothing_is_left_open(make_dataset: MakeDataset, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "nine", "webdataset")
    shared = Path("/dev/shm")
    before = len(os.listdir("/proc/self/fd")), set(shared.iterdir()), threading.active_count()
    for stop in (1, 3, 100):
        dataset = Dataset.open(path)
        batches = Reader(dataset, CPU).batches(WANTED)
        for _ in islice(batches, stop):
            pass
        failing = Reader(dataset, CPU).batches([np.array([9])])
        with suppress(IndexError):
            next(failing)
        del dataset, batches, failing
    gc.collect()
    assert (len(os.listdir("/proc/self/fd")), set(shared.iterdir()), threading.active_count()) == before
    assert str(path) not in Path("/proc/self/maps").read_text()


# The rest needs a GPU. `torch.cuda._sleep` holds a stream up, so that an order that is not kept shows.
LONG = 400_000_000  # cycles: about 0.2 s


@pytest.fixture
def gpu() -> torch.device:
    """The current GPU; skips where there is none."""
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    return torch.device("cuda")


@pytest.mark.gpu
def test_a_gpu_gets_the_same_pixels(encoded: Dataset, gpu: torch.device) -> None:
    with closing(Reader(encoded, gpu, threads=2).batches(WANTED * 5)) as batches:
        got = [batch.pixels() for batch in batches]  # all kept: none may be overwritten
    for indices, pixels in zip(WANTED * 5, got, strict=True):
        assert pixels.device.type == "cuda"
        np.testing.assert_array_equal(pixels.cpu().numpy(), encoded.images(indices))


@pytest.mark.gpu
def test_a_buffer_is_not_written_to_while_it_is_copied(gpu: torch.device) -> None:
    buffer = _Buffer(gpu)
    rows = buffer.rows(64, 100_000)
    assert rows.is_pinned()
    rows.fill_(1)
    with torch.cuda.stream(buffer._stream):
        torch.cuda._sleep(LONG)
    (sent,) = buffer.send(rows)
    buffer.rows(64, 100_000).fill_(2)  # waits
    torch.cuda.synchronize()
    assert (sent == 1).all()


@pytest.mark.gpu
def test_the_device_waits_for_the_copy_and_the_host_does_not(gpu: torch.device) -> None:
    buffer = _Buffer(gpu)
    rows = buffer.rows(64, 100_000).fill_(3)
    with torch.cuda.stream(buffer._stream):
        torch.cuda._sleep(LONG)
    (sent,) = buffer.received(buffer.send(rows))
    total = sent.sum(dtype=torch.int64)
    assert not torch.cuda.current_stream().query()  # still under way
    assert total.item() == 3 * 64 * 100_000


@pytest.mark.gpu
def test_memory_on_the_device_is_not_given_away_while_it_is_read(gpu: torch.device) -> None:
    first, second = _Buffer(gpu), _Buffer(gpu)
    second._stream = first._stream  # so that the allocator may give it the first one's memory
    (sent,) = first.received(first.send(first.rows(64, 100_000).fill_(4)))
    torch.cuda._sleep(LONG)
    total = sent.sum(dtype=torch.int64)
    del sent
    kept = second.send(second.rows(64, 100_000).fill_(5))
    assert total.item() == 4 * 64 * 100_000
    assert (kept[0] == 5).all()


@pytest.mark.gpu
def test_reading_does_not_wait_for_what_the_device_computes(encoded: Dataset, gpu: torch.device) -> None:
    batches = Reader(encoded, gpu).batches([np.arange(9)] * 4)
    next(batches)
    torch.cuda._sleep(LONG)
    next(batches)
    next(batches)
    assert not torch.cuda.current_stream().query()
    batches.close()


def test_the_last_batch_stays_as_it_is_when_the_reader_is_used_again(dataset: Dataset) -> None:
    reader = Reader(dataset, torch.device("cpu"), threads=1)
    (last,) = reader.batches([np.array([0, 1])])
    for _ in range(3):
        list(reader.batches([np.array([2, 3])] * 4))
    assert np.array_equal(last.pixels().numpy(), dataset.images([0, 1]))
