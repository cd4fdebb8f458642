"""Datasets for the read benchmark: random numbers for images, copies of others, or sparse files that are all zero.

How fast an image is read does not depend on what it shows. Records, tables and manifest are those of `sharding`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding import Dataset, atomic_file
from sharding.encoding import Encoding, Steps, Stored, encode, step_columns
from sharding.manifest import FileEntry, Manifest, ShardEntry
from sharding.records import TarRecords, file_bytes, pixel_checksum
from sharding.writer import file_entry, finish, write_batches

BANDS = ("u", "g", "r", "i", "z")
SIDE_PX = 107
SHARD_SAMPLES = 1024
SIGMA = 0.29  # of random numbers from 0 to 1
_FIRST_OBJID = 1237645876861337000  # so that keys are as long as SDSS's
_TEXT = b'{"objid":%d}'
_TEXT_BYTES = 512
_UNKNOWN = "0" * 64  # where a digest is due that nobody will look at

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the images of a dataset are."""

    bands: tuple[str, ...] = BANDS
    image_shape: tuple[int, int, int] = (len(BANDS), SIDE_PX, SIDE_PX)
    encoding: Encoding = field(default_factory=Encoding)

    @property
    def records(self) -> TarRecords:
        return TarRecords(self.image_shape, _TEXT_BYTES, self.encoding.dtype)


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard that was written."""

    entry: ShardEntry
    crc32c: npt.NDArray[np.uint32]  # (n,)
    step: Steps | None = None  # (n, band) of int16


def random_dataset(folder: Path, samples: int, encoding: Encoding | None = None, *, side_px: int = SIDE_PX) -> Dataset:
    """A tar dataset of ``samples`` different images of so many pixels a side, whole and verified."""
    kind = _Kind(image_shape=(len(BANDS), side_px, side_px), encoding=encoding or Encoding())
    objid, shards = _objid(samples), []
    for number, here in _shards(samples):
        rng = np.random.default_rng(here.start)
        images = rng.random((here.stop - here.start, *kind.image_shape), dtype=np.float32)
        stored, step = encode(images, objid[here], kind.encoding, BANDS)
        shards.append(_write_shard(folder, kind, number, objid[here], stored, step))
    return _publish(folder, kind, objid, shards)


def first_samples(source: Dataset, samples: int, folder: Path) -> Dataset:
    """A tar dataset of the first samples of another, with the pixels as they are stored there."""
    kind = _Kind(source.bands, source.image_shape, source.manifest.encoding)
    objid, shards = source.column("objid")[:samples].astype(np.int64), []
    for number, here in _shards(samples):
        indices = np.arange(here.start, here.stop)
        stored = read_stored(source, indices)
        _, step = source.dither(indices) or (None, None)
        shards.append(_write_shard(folder, kind, number, objid[here], stored, step))
    return _publish(folder, kind, objid, shards)


def sparse_dataset(folder: Path, samples: int) -> Dataset:
    """A tar dataset whose shards are holes: as many bytes to read, none on disk. `verify` would refuse it."""
    kind = _Kind()
    zero = pixel_checksum(bytes(kind.records.pixel_bytes))
    shards = []
    for number, here in _shards(samples):
        count = here.stop - here.start
        name, size = kind.records.shard_name(number), file_bytes(kind.records, count)
        with _made(folder / name).open("wb") as file:
            file.truncate(size)
        entry = _shard_entry(FileEntry(name, size, _UNKNOWN), count)
        shards.append(_Shard(entry, np.full(count, zero, dtype=np.uint32)))
    return _publish(folder, kind, _objid(samples), shards)


def read_stored(dataset: Dataset, indices: Indices) -> Stored:
    """Images as they are stored: (n, band, y, x)."""
    rows = np.empty((len(indices), dataset.pixel_bytes), dtype=np.uint8)
    dataset.read_into(indices, rows)
    return rows.view(dataset.stored_dtype).reshape(len(indices), *dataset.image_shape)


def _objid(samples: int) -> Indices:
    return _FIRST_OBJID + np.arange(samples)


def _shards(samples: int) -> Iterator[tuple[int, slice]]:
    """Each shard's number and samples."""
    for number, first in enumerate(range(0, samples, SHARD_SAMPLES)):
        yield number, slice(first, min(first + SHARD_SAMPLES, samples))


def _write_shard(folder: Path, kind: _Kind, number: int, objid: Indices, stored: Stored, step: Steps | None) -> _Shard:
    name = kind.records.shard_name(number)
    with atomic_file(_made(folder / name)) as file:
        for key, pixels in zip(objid.tolist(), stored, strict=True):
            file.write(kind.records.encode(str(key), pixels.tobytes(), _TEXT % key))
        file.write(kind.records.trailer(range(len(objid))))
    crc32c = np.array([pixel_checksum(pixels) for pixels in stored], dtype=np.uint32)
    return _Shard(_shard_entry(file_entry(folder, name), len(objid)), crc32c, step)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _shard_entry(entry: FileEntry, samples: int) -> ShardEntry:
    return ShardEntry(**asdict(entry), samples=samples, json_bytes=_TEXT_BYTES)


def _publish(folder: Path, kind: _Kind, objid: Indices, shards: Sequence[_Shard]) -> Dataset:
    number, records = np.arange(len(objid)), kind.records
    row = number % SHARD_SAMPLES
    columns = {
        "objid": objid,
        "shard": (number // SHARD_SAMPLES).astype(np.int32),
        "row": row,
        "offset": records.pixel_offset + row * records.record_bytes,
        "crc32c": np.concatenate([shard.crc32c for shard in shards]),
    }
    for band, name in enumerate(step_columns(kind.bands) if kind.encoding.step else ()):
        columns[name] = np.concatenate([shard.step[:, band] for shard in shards if shard.step is not None])
    rejects = pa.table({"objid": pa.array([], pa.int64()), "reason": pa.array([], pa.string())})
    write_batches(folder / "samples.parquet", [pa.table(columns)])
    write_batches(folder / "rejects.parquet", [rejects])
    manifest = _manifest(kind, len(objid), [shard.entry for shard in shards])
    finish(folder, manifest, ("samples.parquet", "rejects.parquet"))
    return Dataset.open(folder)


def _manifest(kind: _Kind, samples: int, shards: Sequence[ShardEntry]) -> Manifest:
    return Manifest(
        survey="made to be read",
        bands=kind.bands,
        image_shape=kind.image_shape,
        pixel_scale_arcsec=0.396,
        noise={band: {"sky_sigma": SIGMA, "stamp_sigma": SIGMA, "mad": 0.25} for band in kind.bands},
        counts={"catalogue_rows": samples, "objects": samples, "samples": samples, "rejects": 0},
        selection=[],
        extinction={"source": "none", "law": "none"},
        coverage="whole",
        registration="none",
        inputs={"frames": 0, "bytes": 0},
        labels=[],
        distributions={},
        plan=_UNKNOWN,
        shards=tuple(shards),
        files=(),
        encoding=kind.encoding,
        made_by="benchmarks",
    )
