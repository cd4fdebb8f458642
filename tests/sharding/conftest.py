"""A small dataset of random images in either container, written with the public writer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sharding import Dataset, atomic_file
from sharding.manifest import Manifest, ShardEntry
from sharding.records import Records, TarRecords, ZarrRecords, json_length, pixel_checksum
from sharding.writer import file_entry, finish, write_batches
from sharding.zarr_metadata import write_zarr_metadata

SHAPE = (3, 9, 9)
SLOTS = 6  # of a shard
# Which places of a shard gave a sample. All of shard 1 was rejected, so it has no file.
PLACES: dict[int, list[int]] = {0: [0, 1, 2, 4, 5], 1: [], 2: [0, 2, 3, 4]}
OBJID = np.arange(9) + 1237645876861337000

MakeDataset = Callable[[Path, str], Path]
Flip = Callable[[Path, int, int], None]


def image(number: int) -> np.ndarray:
    """The pixels of sample ``number`` come from the seed ``number``."""
    return np.random.default_rng(number).normal(size=SHAPE).astype("<f4")


def write_shard(folder: Path, records: Records, number: int, first: int) -> tuple[ShardEntry, pa.Table]:
    """One shard, whose first sample is number ``first`` of the dataset; its entry and where its samples lie."""
    places = PLACES[number]
    numbers = range(first, first + len(places))
    name = records.shard_name(number)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / name) as file:
        for n in numbers:
            file.write(records.encode(str(OBJID[n]), image(n).tobytes(), label(n)))
        file.write(records.trailer(places))
    entry = file_entry(folder, name)
    is_tar = isinstance(records, TarRecords)
    row = np.arange(len(places)) if is_tar else np.array(places) + number * SLOTS
    where = {
        "row": row,
        "offset": records.pixel_offset + np.arange(len(places)) * records.record_bytes,
        "crc32c": np.array([pixel_checksum(image(n).tobytes()) for n in numbers], dtype=np.uint32),
    }
    json_bytes = records.json_bytes if isinstance(records, TarRecords) else 0
    return ShardEntry(entry.name, entry.bytes, entry.sha256, len(places), json_bytes), pa.table(where)


def label(number: int) -> bytes:
    """The text of a sample."""
    return b'{"objid":%d}' % OBJID[number]


def write_dataset(folder: Path, container: str) -> Path:
    """Nine samples of 18 slots in two shards, a third one empty."""
    records = TarRecords(SHAPE, json_length([label(0)])) if container == "webdataset" else ZarrRecords(SHAPE, SLOTS)
    entries, places, first = [], [], 0
    for number in (0, 2):
        entry, where = write_shard(folder, records, number, first)
        places.append(where.append_column("shard", pa.array([len(entries)] * len(where), pa.int32())))
        entries.append(entry)
        first += entry.samples
    labels = {
        "objid": OBJID,
        "thing_id": pa.array([7, 7, None, -1, 9, 10, 11, 12, 13], pa.int64()),
        "specz": pa.array([0.1, None, *[0.2] * 7]),
        "petroMag_g": np.arange(9.0),
        "petroMag_r": np.arange(9.0) + 1,
        "petroMag_i": np.arange(9.0) + 2,
        "galaxy_zoo_objid": pa.array([None, *[2**60 + 1] * 8], pa.int64()),
        "label": ["disc"] * 9,
    }
    where = pa.concat_tables(places)
    samples = pa.table({**labels, **{name: where[name] for name in where.column_names}})
    manifest = make_manifest(container, tuple(entries))
    names = write_tables(folder, samples)
    if container == "zarr":
        valid = np.zeros(len(PLACES) * SLOTS, dtype=bool)
        valid[where["row"].to_numpy()] = True
        names += write_zarr_metadata(folder, manifest, valid)
    finish(folder, manifest, names)
    return folder


def write_tables(folder: Path, samples: pa.Table) -> tuple[str, ...]:
    """The samples in two row groups, one reject a missing place, two input frames."""
    rejects = pa.table({"objid": np.arange(9), "reason": ["too near the edge"] * 9})
    inputs = pa.table({"name": ["frame-g", "frame-r"], "bytes": [1000, 2000], "crc32c": [1, 2]})
    tables = {"samples": [samples[:5], samples[5:]], "rejects": [rejects], "inputs": [inputs]}
    for name, batches in tables.items():
        write_batches(folder / f"{name}.parquet", batches)
    return tuple(f"{name}.parquet" for name in tables)


def make_manifest(container: str, shards: tuple[ShardEntry, ...]) -> Manifest:
    """What `write_dataset` publishes."""
    return Manifest(
        survey="TEST",
        bands=("g", "r", "i"),
        image_shape=SHAPE,
        pixel_scale_arcsec=0.396,
        noise={band: {"sky_sigma": 1.0, "stamp_sigma": 0.9, "mad": 0.6} for band in "gri"},
        counts={"catalogue_rows": 20, "objects": 18, "samples": 9, "rejects": 9},
        selection=[{"condition": "petroMag_r < 17.8", "removed": 2}],
        extinction={"source": "none", "law": "none"},
        coverage="whole",
        registration="none: random numbers",
        inputs={"frames": 2, "bytes": 3000},
        labels=[{"table": "zoo.csv", "matched": 7}],
        distributions={"sky_sigma": {band: [0.5, 0.75, 1.0, 1.25, 2.0] for band in "gri"}},
        plan="0" * 64,
        container=container,
        slots_per_shard=SLOTS if container == "zarr" else 0,
        shards=shards,
        files=(),
        made_by="tests",
    )


@pytest.fixture
def make_dataset() -> MakeDataset:
    """`write_dataset`: (folder, container) -> folder."""
    return write_dataset


@pytest.fixture(scope="session")
def dataset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar dataset to read only."""
    return write_dataset(tmp_path_factory.mktemp("dataset") / "nine", "webdataset")


@pytest.fixture(scope="session")
def zarr_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same samples in Zarr, to read only."""
    return write_dataset(tmp_path_factory.mktemp("dataset") / "nine", "zarr")


@pytest.fixture
def dataset(dataset_path: Path) -> Dataset:
    """The nine samples, open."""
    return Dataset.open(dataset_path)


@pytest.fixture
def flip_bit() -> Flip:
    """Flip one bit of a file in place: (path, byte, bit)."""

    def flip(path: Path, byte: int, bit: int) -> None:
        content = bytearray(path.read_bytes())
        content[byte] ^= 1 << bit
        path.write_bytes(bytes(content))

    return flip
