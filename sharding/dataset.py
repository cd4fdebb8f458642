"""Open a dataset and take images and labels from it by index."""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import splits
from .errors import DatasetError
from .manifest import MANIFEST, SAMPLES, FileEntry, Manifest
from .mapping import map_file
from .records import PIXEL_DTYPE, ZarrRecords, file_bytes, pixel_checksum, shard_number
from .tables import find_column, read_parquet, to_numpy

Indices = npt.NDArray[np.int64]
Images = npt.NDArray[np.float32]


class Dataset:
    """A finished dataset on disk; samples are numbered 0 to len - 1 in the order of `samples.parquet`."""

    def __init__(self, path: Path, manifest: Manifest, samples: pa.Table) -> None:
        self.path = path
        self.manifest = manifest
        self.samples = samples
        self._shard = np.asarray(samples["shard"].to_numpy())
        self._offset = np.asarray(samples["offset"].to_numpy())
        self._crc32c = np.asarray(samples["crc32c"].to_numpy())
        self._files = [map_file(path / s.name, file_bytes(manifest.records(s), s.samples)) for s in manifest.shards]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read the manifest and the table of samples, map the shards; DatasetError on any fault."""
        path = Path(path)
        manifest = Manifest.read(path)
        table = read_table(path, next(entry for entry in manifest.files if entry.name == SAMPLES))
        check_samples(table, manifest, path / SAMPLES)
        return cls(path, manifest, table)

    def __len__(self) -> int:
        return int(self.samples.num_rows)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of an image's first axis."""
        return self.manifest.bands

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: band, y, x."""
        return self.manifest.image_shape

    @property
    def pixel_scale_arcsec(self) -> float:
        """Side of a pixel [arcsec]."""
        return self.manifest.pixel_scale_arcsec

    @property
    def digest(self) -> str:
        """Digest of the manifest, and through it of every file: two datasets with one digest are the same."""
        return self.manifest.digest

    @property
    def mad(self) -> npt.NDArray[np.float64]:
        """Per band, the stamps' median absolute deviation [nanomaggy / pixel], median over the dataset: (band,)."""
        return np.array([self.manifest.noise[band]["mad"] for band in self.bands])

    def has(self, name: str) -> bool:
        """Whether `samples.parquet` has this column, whatever the case and underscores of its name."""
        return find_column(self.samples, name) is not None

    def column(self, name: str) -> npt.NDArray[np.generic]:
        """One label of every sample: (sample,). Missing numbers are NaN."""
        found = find_column(self.samples, name)
        if found is None:
            raise DatasetError(f"{self.path}: no column {name}; it has {', '.join(self.samples.column_names)}")
        return to_numpy(self.samples[found], found)

    def per_band(self, prefix: str) -> npt.NDArray[np.float64]:
        """The columns ``{prefix}_{band}`` side by side: (sample, band)."""
        return np.stack([self.column(f"{prefix}_{band}").astype(np.float64) for band in self.bands], axis=1)

    def split(self, name: splits.Split, seed: int = 0) -> Indices:
        """Indices of one split, ascending; a function of each object's identity and the seed."""
        return splits.members(self.identity(), name, seed)

    def identity(self) -> Indices:
        """What makes two samples the same galaxy: thing_id where it is known (positive), else objid."""
        objid = self.column("objid").astype(np.int64)
        name = find_column(self.samples, "thing_id")
        if name is None:
            return objid
        thing = np.asarray(self.samples[name].cast(pa.int64()).fill_null(-1).to_numpy())
        return np.where(thing > 0, thing, objid)

    def images(self, indices: npt.ArrayLike) -> Images:
        """Images by index: float32 (n, band, y, x), nanomaggies per pixel; each one's checksum is verified."""
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"{self.path}: indices must lie in [0, {len(self)})")
        out = np.empty((len(wanted), *self.image_shape), dtype=PIXEL_DTYPE)
        size = int(np.prod(self.image_shape)) * PIXEL_DTYPE.itemsize
        for pixels, index in zip(out.view(np.uint8).reshape(len(wanted), size), wanted, strict=True):
            begin = self._offset[index]
            pixels[:] = self._files[self._shard[index]][begin : begin + size]
            if pixel_checksum(pixels) != self._crc32c[index]:
                raise DatasetError(
                    f"{self.describe(int(index))}: its pixels differ from their checksum; verify, then ingest again"
                )
        return out

    def describe(self, index: int) -> str:
        """Where a sample lies, for messages."""
        objid, shard, row = (self.samples[name][index].as_py() for name in ("objid", "shard", "row"))
        return f"{self.path / self.manifest.shards[shard].name}: sample {objid} (row {row})"


def read_table(folder: Path, entry: FileEntry) -> pa.Table:
    """Read a Parquet file of a dataset whose bytes are those that were written, or say in one line why not."""
    path = folder / entry.name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise DatasetError(f"{path}: its bytes differ from the digest in {MANIFEST}; ingest again")
        return read_parquet(pa.BufferReader(content))
    except (OSError, pa.ArrowException) as err:
        reason = str(err).splitlines()[0]
        raise DatasetError(f"{path}: cannot be read ({reason}); the dataset is damaged, ingest again") from err


def check_samples(table: pa.Table, manifest: Manifest, path: Path) -> None:
    """Check that the table of samples speaks of exactly the records that the manifest's shards hold."""
    missing = [name for name in ("objid", "shard", "row", "offset", "crc32c") if name not in table.column_names]
    if missing:
        raise DatasetError(f"{path}: column {missing[0]} is missing; the dataset is damaged, ingest again")
    samples = [entry.samples for entry in manifest.shards]
    place = np.concatenate([np.arange(count) for count in samples] or [np.empty(0, np.int64)])  # in the shard's file
    shard, row, offset = (np.asarray(table[name].to_numpy()) for name in ("shard", "row", "offset"))
    rows_fit = _slots_fit(row, shard, manifest) if manifest.container == ZarrRecords.container else _equal(row, place)
    if not (_equal(shard, np.repeat(np.arange(len(samples)), samples)) and rows_fit):
        raise DatasetError(f"{path}: shard and row do not count the records of dataset.json; ingest again")
    layouts = [manifest.records(entry) for entry in manifest.shards]
    record = np.array([layout.record_bytes for layout in layouts], dtype=np.int64)
    first = np.array([layout.pixel_offset for layout in layouts], dtype=np.int64)
    if not _equal(offset, first[shard] + place * record[shard]):
        raise DatasetError(f"{path}: byte offsets do not fit the shards of dataset.json; ingest again")


def _slots_fit(row: Indices, shard: Indices, manifest: Manifest) -> bool:
    """Whether every row is a slot of its shard, and each is after the one before."""
    number = np.array([shard_number(entry.name) for entry in manifest.shards], dtype=np.int64)
    if len(shard) and not (shard.min() >= 0 and shard.max() < len(number)):
        return False
    return bool(_equal(row // manifest.slots_per_shard, number[shard]) and (np.diff(row) > 0).all())


def _equal(left: npt.NDArray[np.generic], right: npt.NDArray[np.generic]) -> bool:
    return bool(np.array_equal(left, right))
