"""`samples.parquet`, read a column at a time: of ten million galaxies the whole table would fill gigabytes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .encoding import step_columns
from .errors import DatasetError
from .hashing import file_digest
from .manifest import MANIFEST, SAMPLES, FileEntry, Manifest
from .records import shard_number
from .tables import canonical, read_parquet

Column = npt.NDArray[np.int64]

_PLACES = ("objid", "shard", "row", "offset", "crc32c")


class Samples:
    """The table of samples; ``source`` is its file, or its bytes in memory."""

    def __init__(self, source: Path | pa.Buffer, where: str) -> None:
        self._source = source
        self._where = where
        with self._open() as file:
            self.num_rows: int = file.metadata.num_rows
            self.column_names: list[str] = file.schema_arrow.names

    def find(self, name: str) -> str | None:
        """The table's own spelling of a column, whatever the case and underscores of ``name``, or None."""
        wanted = canonical(name)
        return next((column for column in self.column_names if canonical(column) == wanted), None)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Some columns, by the table's own spelling, or all of them."""
        try:
            return read_parquet(self._input(), columns)
        except (OSError, pa.ArrowException) as err:
            raise self._damaged(err) from err

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns, some rows at a time, in order."""
        with self._open() as file:
            try:
                for group in range(file.num_row_groups):  # all of them at once take memory that grows with the table
                    yield from file.iter_batches(row_groups=[group], columns=columns, use_threads=False)
            except (OSError, pa.ArrowException) as err:
                raise self._damaged(err) from err

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._input())
        except (OSError, pa.ArrowException) as err:
            raise self._damaged(err) from err

    def _input(self) -> Path | pa.NativeFile:
        return self._source if isinstance(self._source, Path) else pa.BufferReader(self._source)

    def _damaged(self, err: Exception) -> DatasetError:
        reason = str(err).splitlines()[0]
        return DatasetError(f"{self._where}: cannot be read ({reason}); the dataset is damaged, ingest again")


def open_samples(folder: Path, manifest: Manifest) -> Samples:
    """The samples of a dataset in a folder; DatasetError where the bytes are not those that were written."""
    entry = samples_entry(manifest)
    path = folder / entry.name
    try:
        whole = file_digest(path) == entry.sha256
    except OSError as err:
        raise DatasetError(f"{path}: cannot be read ({err.strerror}); the dataset is damaged, ingest again") from err
    if not whole:
        raise DatasetError(f"{path}: its bytes differ from the digest in {MANIFEST}; ingest again")
    return Samples(path, str(path))


def samples_entry(manifest: Manifest) -> FileEntry:
    """What the manifest says of the file."""
    return next(entry for entry in manifest.files if entry.name == SAMPLES)


class Layout:
    """Where each sample of a dataset lies: a function of the manifest alone."""

    def __init__(self, manifest: Manifest) -> None:
        counts = [entry.samples for entry in manifest.shards]
        layouts = [manifest.records(entry) for entry in manifest.shards]
        self._begin = np.cumsum([0, *counts])  # number of the first sample of each shard, and one more
        self._first = np.array([layout.pixel_offset for layout in layouts], dtype=np.int64)
        self._record = np.array([layout.record_bytes for layout in layouts], dtype=np.int64)
        self._number = np.array([shard_number(entry.name) for entry in manifest.shards], dtype=np.int64)
        self._slots = manifest.slots_per_shard

    @property
    def samples(self) -> int:
        """How many samples the shards hold."""
        return int(self._begin[-1])

    def places(self, indices: Column) -> tuple[Column, Column, Column]:
        """Shard, number in the shard's file, and byte offset of the pixels, of samples by index."""
        shard = np.searchsorted(self._begin, indices, side="right") - 1
        place = indices - self._begin[shard]
        return shard, place, self._first[shard] + place * self._record[shard]

    def rows_fit(self, row: Column, before: int, shard: Column, place: Column) -> bool:
        """Whether ``row`` counts a tar's records, or Zarr's slots: each in its shard and behind the one before."""
        if not self._slots:
            return np.array_equal(row, place)
        in_shard = np.array_equal(row // self._slots, self._number[shard])
        return in_shard and bool((np.diff(row, prepend=before) > 0).all())


def check_samples(samples: Samples, manifest: Manifest, where: str) -> npt.NDArray[np.uint32]:
    """Check that the table speaks of exactly the records that the manifest's shards hold; gives the checksums."""
    needed = (*_PLACES, *(step_columns(manifest.bands) if manifest.encoding.name == "int16" else ()))
    missing = [name for name in needed if name not in samples.column_names]
    if missing:
        raise DatasetError(f"{where}: column {missing[0]} is missing; the dataset is damaged, ingest again")
    layout, begin, before = Layout(manifest), 0, -1
    if samples.num_rows != layout.samples:
        raise DatasetError(
            f"{where}: expected {layout.samples} samples, as in {MANIFEST}, got {samples.num_rows}; ingest again"
        )
    crc32c = np.empty(layout.samples, dtype=np.uint32)
    for batch in samples.batches(_PLACES[1:]):
        if not all(pa.types.is_integer(batch[name].type) and batch[name].null_count == 0 for name in _PLACES[1:]):
            raise DatasetError(f"{where}: {', '.join(_PLACES[1:])} must be whole numbers, none missing; ingest again")
        given = {name: np.asarray(batch[name]) for name in _PLACES[1:]}
        shard, place, offset = layout.places(np.arange(begin, begin + batch.num_rows))
        row = given["row"]
        if not (np.array_equal(given["shard"], shard) and layout.rows_fit(row, before, shard, place)):
            raise DatasetError(f"{where}: shard and row do not count the records of {MANIFEST}; ingest again")
        if not np.array_equal(given["offset"], offset):
            raise DatasetError(f"{where}: byte offsets do not fit the shards of {MANIFEST}; ingest again")
        crc32c[begin : begin + batch.num_rows] = given["crc32c"]
        begin, before = begin + batch.num_rows, int(row[-1])
    return crc32c
