"""Open a dataset and take images and labels from it by index."""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from . import splits
from .errors import DatasetError
from .manifest import MANIFEST, FileEntry, Manifest
from .tables import find_column, to_numpy
from .tarshard import Images, map_pixels, pixel_checksum

Indices = npt.NDArray[np.int64]


class Dataset:
    """A finished dataset on disk; samples are numbered 0 to len - 1 in the order of `samples.parquet`."""

    def __init__(self, path: Path, manifest: Manifest, samples: pa.Table) -> None:
        self.path = path
        self.manifest = manifest
        self.samples = samples
        self._shard = np.asarray(samples["shard"].to_numpy())
        self._row = np.asarray(samples["row"].to_numpy())
        self._crc32c = np.asarray(samples["crc32c"].to_numpy())
        self._pixels = [map_pixels(path / s.name, manifest.layout(s), s.samples) for s in manifest.shards]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read the manifest and the table of samples, map the shards; DatasetError on any fault."""
        path = Path(path)
        manifest = Manifest.read(path)
        table = read_table(path / "samples.parquet", next(f for f in manifest.files if f.name == "samples.parquet"))
        check_samples(table, manifest, path / "samples.parquet")
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
        out = np.empty((len(wanted), *self.image_shape), dtype=np.float32)
        for number in np.unique(self._shard[wanted]):
            here = np.flatnonzero(self._shard[wanted] == number)
            out[here] = self._pixels[number][self._row[wanted[here]]]
        for image, index in zip(out, wanted, strict=True):
            if pixel_checksum(image) != self._crc32c[index]:
                raise DatasetError(
                    f"{self.describe(int(index))}: its pixels differ from their checksum; verify, then ingest again"
                )
        return out

    def describe(self, index: int) -> str:
        """Where a sample lies, for messages."""
        objid, shard, row = (self.samples[name][index].as_py() for name in ("objid", "shard", "row"))
        return f"{self.path / self.manifest.shards[shard].name}: sample {objid} (row {row})"


def read_table(path: Path, entry: FileEntry) -> pa.Table:
    """Read a Parquet file of a dataset whose bytes are those that were written, or say in one line why not."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise DatasetError(f"{path}: its bytes differ from the digest in {MANIFEST}; ingest again")
        return pq.read_table(pa.BufferReader(content))
    except (OSError, pa.ArrowException) as err:
        reason = str(err).splitlines()[0]
        raise DatasetError(f"{path}: cannot be read ({reason}); the dataset is damaged, ingest again") from err


def check_samples(table: pa.Table, manifest: Manifest, path: Path) -> None:
    """Check that the table of samples speaks of exactly the records that the manifest's shards hold."""
    missing = [name for name in ("objid", "shard", "row", "offset", "crc32c") if name not in table.column_names]
    if missing:
        raise DatasetError(f"{path}: column {missing[0]} is missing; the dataset is damaged, ingest again")
    expected_shard = np.repeat(np.arange(len(manifest.shards)), [s.samples for s in manifest.shards])
    expected_row = np.concatenate([np.arange(s.samples) for s in manifest.shards] or [np.empty(0, np.int64)])
    shard, row = (np.asarray(table[name].to_numpy()) for name in ("shard", "row"))
    if not (np.array_equal(shard, expected_shard) and np.array_equal(row, expected_row)):
        raise DatasetError(f"{path}: shard and row do not count the records of dataset.json; ingest again")
    layouts = [manifest.layout(entry) for entry in manifest.shards]
    record = np.array([layout.record_bytes for layout in layouts], dtype=np.int64)
    first = np.array([layout.pixel_offset for layout in layouts], dtype=np.int64)
    if not np.array_equal(table["offset"].to_numpy(), first[shard] + row * record[shard]):
        raise DatasetError(f"{path}: byte offsets do not fit the shards of dataset.json; ingest again")
