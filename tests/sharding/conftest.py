"""A small dataset of random images, written with the public writer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sharding import Dataset, atomic_file
from sharding.manifest import Manifest, ShardEntry
from sharding.tarshard import Layout, ShardWriter, json_length
from sharding.writer import file_entry, finish

SHAPE = (3, 9, 9)
PER_SHARD = (5, 4)


def write_shard(
    folder: Path, number: int, objid: np.ndarray, images: np.ndarray
) -> tuple[ShardEntry, list[int], list[int]]:
    """One shard; returns its entry, the offsets and the checksums."""
    texts = [b'{"objid":%d}' % value for value in objid]
    layout = Layout(SHAPE, json_length(texts))
    name = f"shards/{number:05d}.tar"
    with atomic_file(folder / name) as file:
        writer = ShardWriter(file, layout)
        added = [writer.add(str(value), image, text) for value, image, text in zip(objid, images, texts, strict=True)]
        writer.close()
    entry = file_entry(folder, name)
    shard = ShardEntry(entry.name, entry.bytes, entry.sha256, len(objid), layout.json_bytes)
    return shard, [offset for offset, _ in added], [crc for _, crc in added]


def write_dataset(folder: Path) -> Path:
    """Nine samples in two shards; sample n's pixels come from seed n."""
    (folder / "shards").mkdir(parents=True)
    total = sum(PER_SHARD)
    objid = np.arange(total) + 1237645876861337000
    images = np.stack([np.random.default_rng(n).normal(size=SHAPE).astype(np.float32) for n in range(total)])
    entries, offsets, checksums, begin = [], [], [], 0
    for number, count in enumerate(PER_SHARD):
        here = slice(begin, begin + count)
        entry, offset, crc = write_shard(folder, number, objid[here], images[here])
        entries.append(entry)
        offsets += offset
        checksums += crc
        begin += count
    samples = pa.table(
        {
            "objid": objid,
            "shard": np.repeat(np.arange(2, dtype=np.int32), PER_SHARD),
            "row": np.concatenate([np.arange(count, dtype=np.int32) for count in PER_SHARD]),
            "offset": np.array(offsets, dtype=np.int64),
            "crc32c": np.array(checksums, dtype=np.uint32),
            "thing_id": pa.array([7, 7, None, -1, 9, 10, 11, 12, 13], pa.int64()),
            "specz": pa.array([0.1, None, *[0.2] * 7]),
            "petroMag_g": np.arange(9.0),
            "petroMag_r": np.arange(9.0) + 1,
            "petroMag_i": np.arange(9.0) + 2,
            "galaxy_zoo_objid": pa.array([None, *[2**60 + 1] * 8], pa.int64()),
            "label": ["disc"] * 9,
        }
    )
    manifest = Manifest(
        survey="TEST",
        bands=("g", "r", "i"),
        image_shape=SHAPE,
        pixel_scale_arcsec=0.396,
        noise={band: {"sky_sigma": 1.0, "stamp_sigma": 0.9, "mad": 0.6} for band in "gri"},
        counts={"catalogue_rows": 9, "objects": 9, "samples": 9, "rejects": 0},
        selection=[],
        extinction={"source": "none", "law": "none"},
        coverage="whole",
        plan="0" * 64,
        shards=tuple(entries),
        files=(),
        made_by="tests",
    )
    finish(folder, manifest, samples, samples.slice(0, 0))
    return folder


@pytest.fixture(scope="session")
def dataset_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return write_dataset(tmp_path_factory.mktemp("dataset") / "nine")


@pytest.fixture
def dataset(dataset_path: Path) -> Dataset:
    """The nine samples, open."""
    return Dataset.open(dataset_path)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return write_dataset(tmp_path / "nine")


@pytest.fixture
def flip_bit() -> Callable[[Path, int, int], None]:
    """Flip one bit of a file in place."""

    def flip(path: Path, byte: int, bit: int) -> None:
        content = bytearray(path.read_bytes())
        content[byte] ^= 1 << bit
        path.write_bytes(bytes(content))

    return flip
