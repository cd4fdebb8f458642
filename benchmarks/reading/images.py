"""Datasets of any size for the read benchmark: random numbers for images, or sparse files that are all zero.

How fast an image is read does not depend on what it shows. Records, tables and manifest are those of `sharding`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding import Dataset, atomic_file
from sharding.encoding import Encoding, Steps, encode, step_columns
from sharding.manifest import FileEntry, Manifest, ShardEntry
from sharding.records import TarRecords, file_bytes, pixel_checksum
from sharding.writer import file_entry, finish, write_batches

BANDS = ("u", "g", "r", "i", "z")
IMAGE_SHAPE = (5, 107, 107)
SHARD_SAMPLES = 1024
SIGMA = 0.29  # of random numbers from 0 to 1
_FIRST_OBJID = 1237645876861337000  # so that keys are as long as SDSS's
_TEXT = b'{"objid":%d}'
_TEXT_BYTES = 512
_UNKNOWN = "0" * 64  # where a digest is due that nobody will look at

Images = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard that was written."""

    entry: ShardEntry
    crc32c: npt.NDArray[np.uint32]  # (n,)
    step: Steps | None = None  # (n, band) of int16


def random_dataset(folder: Path, samples: int, encoding: Encoding | None = None) -> Dataset:
    """A tar dataset of ``samples`` different images, whole and verified."""
    encoding = encoding or Encoding()
    shards = [_random_shard(folder, encoding, *bounds) for bounds in _bounds(samples)]
    return _publish(folder, samples, encoding, shards)


def sparse_dataset(folder: Path, samples: int) -> Dataset:
    """A tar dataset whose shards are holes: as many bytes to read, none on disk. `verify` would refuse it."""
    records = _records(Encoding())
    zero = pixel_checksum(bytes(records.pixel_bytes))
    shards = []
    for number, first, end in _bounds(samples):
        name, size = records.shard_name(number), file_bytes(records, end - first)
        with _made(folder / name).open("wb") as file:
            file.truncate(size)
        entry = _shard_entry(FileEntry(name, size, _UNKNOWN), end - first)
        shards.append(_Shard(entry, np.full(end - first, zero, dtype=np.uint32)))
    return _publish(folder, samples, Encoding(), shards)


def _bounds(samples: int) -> Iterator[tuple[int, int, int]]:
    """Number, first sample and last sample + 1 of each shard."""
    for number, first in enumerate(range(0, samples, SHARD_SAMPLES)):
        yield number, first, min(first + SHARD_SAMPLES, samples)


def _random_shard(folder: Path, encoding: Encoding, number: int, first: int, end: int) -> _Shard:
    records, objid = _records(encoding), _FIRST_OBJID + np.arange(first, end)
    images = np.random.default_rng(first).random((end - first, *IMAGE_SHAPE), dtype=np.float32)
    stored, step = encode(images, objid, encoding, BANDS)
    name = records.shard_name(number)
    with atomic_file(_made(folder / name)) as file:
        for key, pixels in zip(objid.tolist(), stored, strict=True):
            file.write(records.encode(str(key), pixels.tobytes(), _TEXT % key))
        file.write(records.trailer(range(end - first)))
    crc32c = np.array([pixel_checksum(pixels) for pixels in stored], dtype=np.uint32)
    return _Shard(_shard_entry(file_entry(folder, name), end - first), crc32c, step)


def _records(encoding: Encoding) -> TarRecords:
    return TarRecords(IMAGE_SHAPE, _TEXT_BYTES, encoding.dtype)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _shard_entry(entry: FileEntry, samples: int) -> ShardEntry:
    return ShardEntry(**asdict(entry), samples=samples, json_bytes=_TEXT_BYTES)


def _publish(folder: Path, samples: int, encoding: Encoding, shards: Sequence[_Shard]) -> Dataset:
    number, records = np.arange(samples), _records(encoding)
    row = number % SHARD_SAMPLES
    columns = {
        "objid": _FIRST_OBJID + number,
        "shard": (number // SHARD_SAMPLES).astype(np.int32),
        "row": row,
        "offset": records.pixel_offset + row * records.record_bytes,
        "crc32c": np.concatenate([shard.crc32c for shard in shards]),
    }
    for band, name in enumerate(step_columns(BANDS) if encoding.step else ()):
        columns[name] = np.concatenate([shard.step[:, band] for shard in shards if shard.step is not None])
    rejects = pa.table({"objid": pa.array([], pa.int64()), "reason": pa.array([], pa.string())})
    write_batches(folder / "samples.parquet", [pa.table(columns)])
    write_batches(folder / "rejects.parquet", [rejects])
    manifest = _manifest(samples, encoding, [shard.entry for shard in shards])
    finish(folder, manifest, ("samples.parquet", "rejects.parquet"))
    return Dataset.open(folder)


def _manifest(samples: int, encoding: Encoding, shards: Sequence[ShardEntry]) -> Manifest:
    return Manifest(
        survey="random numbers",
        bands=BANDS,
        image_shape=IMAGE_SHAPE,
        pixel_scale_arcsec=0.396,
        noise={band: {"sky_sigma": SIGMA, "stamp_sigma": SIGMA, "mad": 0.25} for band in BANDS},
        counts={"catalogue_rows": samples, "objects": samples, "samples": samples, "rejects": 0},
        selection=[],
        extinction={"source": "none", "law": "none"},
        coverage="whole",
        registration="none: random numbers",
        inputs={"frames": 0, "bytes": 0},
        labels=[],
        distributions={},
        plan=_UNKNOWN,
        shards=tuple(shards),
        files=(),
        encoding=encoding,
        made_by="benchmarks",
    )
