"""Datasets larger than memory, and of many samples: made of holes in files, so that they cost neither time nor disk."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sharding.manifest import REJECTS, SAMPLES, ZARR_FILES, FileEntry, Manifest, ShardEntry
from sharding.records import ZarrRecords, file_bytes, pixel_checksum
from sharding.writer import file_entry, write_batches

MEGABYTE = 10**6
STAMP = (5, 107, 107)


def make_sparse(folder: Path, like: Path, shape: tuple[int, int, int], shards: int, slots: int) -> Path:
    """A Zarr dataset ``like`` another, all pixels zero. Only what is checked when it is opened has its right digest."""
    records = ZarrRecords(shape, slots)
    entries = []
    for number in range(shards):
        path = folder / records.shard_name(number)
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.truncate(file_bytes(records, slots))
        entries.append(ShardEntry(records.shard_name(number), file_bytes(records, slots), "0" * 64, slots, 0))
    checksum = pixel_checksum(bytes(records.pixel_bytes))
    write_batches(folder / SAMPLES, (_rows(number, slots, records.record_bytes, checksum) for number in range(shards)))
    made_up = tuple(FileEntry(name, 0, "0" * 64) for name in (REJECTS, *ZARR_FILES))
    bands = tuple("ugriz"[: shape[0]])
    manifest = replace(Manifest.read(like), image_shape=shape, bands=bands, slots_per_shard=slots)
    replace(manifest, shards=tuple(entries), files=(file_entry(folder, SAMPLES), *made_up)).write(folder)
    return folder


def _rows(shard: int, slots: int, record_bytes: int, checksum: int) -> pa.Table:
    place = np.arange(slots)
    columns = {
        "objid": place + shard * slots,
        "shard": np.full(slots, shard, dtype=np.int32),
        "row": place + shard * slots,
        "offset": place * record_bytes,
        "crc32c": np.full(slots, checksum, dtype=np.uint32),
        "label": np.random.default_rng(shard).normal(size=slots),  # what need not be in memory
    }
    return pa.table(columns)


# In a process of its own, whose memory nobody else uses.
READ = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from sharding import Dataset
from sharding.order import Order
from sharding.reader import Reader

def anonymous():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

cpu = torch.device("cpu")
small = Reader(Dataset.open(sys.argv[2]), cpu).batches([np.arange(9)])
assert next(small).pixels().sum() != 0  # what is read once is not counted: numba, its kernels, torch
small.close()
batch, most = int(sys.argv[3]), int(sys.argv[4])
before, begin = anonymous(), time.perf_counter()
dataset = Dataset.open(sys.argv[1])
opened, opened_s = anonymous(), time.perf_counter() - begin
order = Order(np.arange(len(dataset)), 3, dataset=dataset.digest, drop_last=False)
state, wanted = order.start, []
for _ in range(min(most, -(-len(dataset) // batch))):
    indices, state = order.take(state, batch)
    wanted.append(indices)
peak, sums = 0, 0.0
for got in Reader(dataset, cpu, threads=2).batches(wanted):
    sums += got.pixels().abs().sum().item()
    peak = max(peak, anonymous())
assert sums == 0.0
seconds = time.perf_counter() - begin
print(json.dumps({"opened": opened - before, "opened_s": opened_s, "peak": peak - before, "seconds": seconds}))
"""


def read(path: Path, small: Path, batch: int, batches: int) -> dict[str, float]:
    """Read at most so many batches in random order; growth of anonymous memory [byte] and times."""
    command = [sys.executable, "-c", READ, path, small, str(batch), str(batches)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory as Linux does")
@pytest.mark.parametrize(
    ("size", "most"),
    [
        pytest.param(1500 * MEGABYTE, 120 * MEGABYTE, id="quick"),
        pytest.param(None, 500 * MEGABYTE, id="larger than memory", marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_dataset(zarr_path: Path, tmp_path: Path, size: int | None, most: int) -> None:
    """Three batches of 64 are 44 MB, one more where pixels are summed; pages of files are the kernel's to take back."""
    if size is None:
        size = int(1.1 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    slots = 1000
    shards = -(-size // (slots * int(np.prod(STAMP)) * 4))
    assert read(make_sparse(tmp_path / "large", zarr_path, STAMP, shards, slots), zarr_path, 64, 10**6)["peak"] < most


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory as Linux does")
@pytest.mark.parametrize("samples", [2_000_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_ten_million_samples_take_four_bytes_each(zarr_path: Path, tmp_path: Path, samples: int) -> None:
    """The table, of 40 bytes a sample, stays on disk. 40 MB: Arrow's buffers of a row group, and what they leave."""
    path = make_sparse(tmp_path / "many", zarr_path, (1, 2, 2), samples // 100_000, 100_000)
    assert read(path, zarr_path, 256, 20)["peak"] < 4 * samples + 40 * MEGABYTE
