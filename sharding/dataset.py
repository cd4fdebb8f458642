"""Open a dataset and take images and labels from it by index."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import splits
from .encoding import decode, step_columns
from .errors import DatasetError
from .identity import galaxy_identity
from .manifest import SAMPLES, Manifest
from .mapping import Bytes
from .samples import Layout, Samples, check_samples, open_samples
from .storage import Storage, open_storage
from .tables import identifiers, to_numpy

Indices = npt.NDArray[np.int64]
Images = npt.NDArray[np.float32]


class Dataset:
    """A finished dataset; samples are numbered 0 to len - 1 in the order of `samples.parquet`.

    It may be read by several threads at once. A copy in another process (pickle) is opened there anew.
    """

    def __init__(self, location: Path | str, manifest: Manifest, samples: Samples, storage: Storage) -> None:
        self.location = location  # a folder, or a URL
        self.manifest = manifest
        self.storage = storage
        self._table = samples
        self._layout = Layout(manifest)
        self._crc32c = check_samples(samples, manifest, f"{location}/{SAMPLES}")

    @classmethod
    def open(cls, location: Path | str) -> Self:
        """Open the dataset in a folder, or at a URL: read the manifest, check the table. DatasetError on any fault."""
        if "://" in str(location):
            from .remote import open_remote

            return cls(*open_remote(str(location)))
        path = Path(location)
        manifest = Manifest.read(path)
        samples = open_samples(path, manifest)
        return cls(path, manifest, samples, open_storage(path, manifest))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).open, (self.location,)

    def __len__(self) -> int:
        return self._layout.samples

    @property
    def path(self) -> Path:
        """The folder; DatasetError for a dataset at a URL."""
        if isinstance(self.location, Path):
            return self.location
        raise DatasetError(f"{self.location}: expected a dataset in a folder, got a URL; copy it first")

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of an image's first axis."""
        return self.manifest.bands

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: band, y, x."""
        return self.manifest.image_shape

    @property
    def stored_dtype(self) -> np.dtype[np.generic]:
        """Type of the pixels on disk, see `encoding`."""
        return self.manifest.encoding.dtype

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one stored image."""
        return int(np.prod(self.image_shape)) * self.stored_dtype.itemsize

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

    @cached_property
    def samples(self) -> pa.Table:
        """The whole of `samples.parquet`, kept once it was asked for. `column` takes less memory."""
        return self._table.read()

    def has(self, name: str) -> bool:
        """Whether `samples.parquet` has this column, whatever the case and underscores of its name."""
        return self._table.find(name) is not None

    def column(self, name: str) -> npt.NDArray[np.generic]:
        """One label of every sample: (sample,). Missing numbers are NaN."""
        return to_numpy(self._column(name), name)

    def per_band(self, prefix: str) -> npt.NDArray[np.float64]:
        """The columns ``{prefix}_{band}`` side by side: (sample, band)."""
        return np.stack([self.column(f"{prefix}_{band}").astype(np.float64) for band in self.bands], axis=1)

    def split(self, name: splits.Split, seed: int = 0) -> Indices:
        """Indices of one split, ascending; a function of each object's identity and the seed."""
        return splits.members(self.identity(), name, seed)

    def identity(self) -> Indices:
        """What makes samples the same galaxy, see `galaxy_identity`: (sample,)."""
        return self._identity

    @cached_property  # each split asks for it, and without thing_ids the sky is searched
    def _identity(self) -> Indices:
        position = [np.asarray(self.column(name), np.float64) if self.has(name) else None for name in ("ra", "dec")]
        objid = self.column("objid").astype(np.int64)
        return galaxy_identity(objid, self._known("thing_id"), self._known("specobjid"), *position)

    def images(self, indices: npt.ArrayLike) -> Images:
        """Images by index: float32 (n, band, y, x), nanomaggies per pixel; each one's checksum is verified."""
        wanted = np.asarray(indices, dtype=np.int64)
        stored = np.empty((len(wanted), self.pixel_bytes), dtype=np.uint8)
        self.read_into(wanted, stored)
        images = stored.view(self.stored_dtype).reshape(len(wanted), *self.image_shape)
        objid, step = self.dither(wanted) or (wanted, None)
        return decode(images, objid, step)

    def read_into(self, indices: Indices, out: Bytes, *, check: bool = True) -> None:
        """Fill row i of ``out`` (n, `pixel_bytes`) with the stored pixels of sample ``indices[i]``.

        Holds the interpreter lock for no more than moments. DatasetError names the sample whose pixels differ from
        their checksum, or says what cannot be read. ``check`` leaves checksums out, to measure what they cost.
        """
        if out.shape != (len(indices), self.pixel_bytes) or out.dtype != np.uint8 or not out.flags.carray:
            raise ValueError(  # compiled code is about to write there
                f"out: expected contiguous bytes of shape {(len(indices), self.pixel_bytes)}, got {out.dtype} of shape "
                f"{out.shape} with strides {out.strides}"
            )
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"{self.location}: indices must lie in [0, {len(self)})")
        if not len(indices):
            return
        shard, _, offset = self._layout.places(indices)
        if not check:
            self.storage.read(shard, offset, out, None)
            return
        found = np.empty(len(indices), dtype=np.uint32)
        self.storage.read(shard, offset, out, found)
        for row in np.flatnonzero(found != self._crc32c[indices]).tolist():
            self._read_elsewhere(indices[row : row + 1], out[row : row + 1])

    def _read_elsewhere(self, index: Indices, out: Bytes) -> None:
        """Read one damaged record again where the storage knows another place of its shard."""
        shard, _, offset = self._layout.places(index)
        found = np.empty(1, dtype=np.uint32)
        if self.storage.distrust(int(shard[0])):
            self.storage.read(shard, offset, out, found)
            if found[0] == self._crc32c[index[0]]:
                return
        raise DatasetError(
            f"{self.describe(int(index[0]))}: its pixels differ from their checksum; verify, then ingest again"
        )

    def stage(
        self, folder: Path, limit_bytes: int, told: Callable[[int, int], None] = lambda staged, total: None
    ) -> None:
        """From now on read from copies of the shards in a folder of this node, which are made in the background.

        The first shards, as many as fit into ``limit_bytes``. ``told`` hears about once a second, from another thread,
        how many bytes are staged and how many will be. Call it once, before the dataset is read; `close` ends it.
        """
        from .staging import StagedStorage

        if isinstance(self.location, Path) and folder.resolve().is_relative_to(self.location.resolve()):
            raise DatasetError(f"{folder}: expected a folder for copies outside of the dataset; choose another")
        self.storage = StagedStorage(self.storage, self.manifest, folder, limit_bytes, told)

    def dither(self, indices: Indices) -> tuple[Indices, Images] | None:
        """What `decode` needs of int16 pixels, of samples by index: objid (n,) and step (n, band); None for others."""
        if self._dither is None:
            return None
        objid, step = self._dither
        return objid[indices], step[indices]

    @cached_property
    def _dither(self) -> tuple[Indices, Images] | None:
        if self.manifest.encoding.name != "int16":
            return None
        objid, step = np.empty(len(self), np.int64), np.empty((len(self), len(self.bands)), np.float32)
        names, begin = step_columns(self.bands), 0
        for batch in self._table.batches(["objid", *names]):  # whole columns of doubles would fill gigabytes
            here = slice(begin, begin + batch.num_rows)
            objid[here] = batch["objid"]
            step[here] = np.stack([batch[name] for name in names], axis=1)
            begin += batch.num_rows
        return objid, step

    def describe(self, index: int) -> str:
        """Where a sample lies, for messages."""
        shard, _, _ = self._layout.places(np.array([index]))
        objid, row = (self._table.read([name])[name][index].as_py() for name in ("objid", "row"))
        return f"{self.location}/{self.manifest.shards[int(shard[0])].name}: sample {objid} (row {row})"

    def close(self) -> None:
        """Give back mappings, files and connections; also at the end of a ``with`` block."""
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _column(self, name: str) -> pa.ChunkedArray:
        found = self._table.find(name)
        if found is None:
            raise DatasetError(f"{self.location}: no column {name}; it has {', '.join(self._table.column_names)}")
        return self._table.read([found])[found]

    def _known(self, name: str) -> Indices | None:
        """A column of identifiers, 0 where there is none; None where it is missing."""
        if not self.has(name):
            return None
        values = identifiers(self._column(name))
        if values is None:
            raise DatasetError(
                f"{self.location}: column {name}: expected whole numbers or their digits, got others; "
                "ingest again without it"
            )
        return values
