"""Write the rows of HDF5 files as shards, in input order, and say what became of each row. Publishes nothing.

Shard k is made of input rows k N to (k + 1) N - 1. Memory holds one slab of images, the labels of one shard, and ten
bytes a row for the whole input.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding import atomic_file
from sharding.manifest import ShardEntry
from sharding.records import Records, TarRecords, ZarrRecords, json_length, pixel_checksum
from sharding.sample_json import sample_json
from sharding.writer import file_entry

from .hdf5_files import HdfRows, Images
from .noise import stamp_sigma

FORMATS = ("webdataset", "zarr")
NOT_FINITE = "a pixel is not finite"
REPEATED = "an earlier row has the same identifier"


@dataclass(slots=True)
class ShardMaker:
    """All input rows, and what became of those that were written so far."""

    rows: HdfRows
    objid: npt.NDArray[np.int64]  # (row,)
    ebv_sfd: npt.NDArray[np.float64] | None  # (row,) where it is derived
    container: str
    rows_per_shard: int
    entries: list[ShardEntry] = field(default_factory=list)  # of the shards that hold a sample
    bad: npt.NDArray[np.bool_] = field(init=False)  # (row,) is a reject
    repeated: npt.NDArray[np.bool_] = field(init=False)  # (row,) the identifier came before

    def __post_init__(self) -> None:
        self.repeated = np.ones(len(self.objid), dtype=bool)
        self.repeated[np.unique(self.objid, return_index=True)[1]] = False
        self.bad = self.repeated.copy()

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """First row and last row + 1 of each shard."""
        total, step = len(self.rows), self.rows_per_shard
        return [(begin, min(begin + step, total)) for begin in range(0, total, step)]

    def sample_batches(self, folder: Path, advance: Callable[[int, int], None]) -> Iterator[pa.Table]:
        """Write shard after shard into ``folder``; yield the table of each one's samples."""
        for number, (begin, end) in enumerate(self.ranges):
            labels = self._labels(begin, end)
            yield self._write_shard(folder, number, begin, labels)
            advance(end, len(self.rows))

    def reject_batches(self) -> Iterator[pa.Table]:
        """The rows that gave no sample, with the reason, after all shards are written."""
        for begin, end in self.ranges:
            rejected = np.flatnonzero(self.bad[begin:end])
            if begin and not rejected.size:
                continue  # the first batch tells the columns, even where it is empty
            reason = np.where(self.repeated[begin + rejected], REPEATED, NOT_FINITE).tolist()
            table = self._labels(begin, end).take(rejected)
            yield _with(table, {"reason": pa.array(reason, pa.string()), "input_row": pa.array(begin + rejected)})

    def _labels(self, begin: int, end: int) -> pa.Table:
        """objid, every label of the files, and ebv_sfd where it is derived."""
        found = self.rows.labels(begin, end)
        table = pa.table({"objid": self.objid[begin:end]})
        table = _with(table, {name: found[name] for name in found.column_names})
        if self.ebv_sfd is None:
            return table
        return _with(table, {"ebv_sfd": pa.array(self.ebv_sfd[begin:end], from_pandas=True)})

    def _write_shard(self, folder: Path, number: int, begin: int, labels: pa.Table) -> pa.Table:
        texts = sample_json(labels, self.rows.layout.bands)
        records = self._records(texts)
        name = records.shard_name(number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        crc32c: list[int] = []
        sigma = np.empty((len(labels), len(self.rows.layout.bands)))
        with atomic_file(folder / name) as file:
            for first, images in self.rows.images(begin, begin + len(labels)):
                for n in self._kept(first, images).tolist():
                    pixels = images[n].tobytes()
                    file.write(records.encode(str(self.objid[first + n]), pixels, texts[first + n - begin]))
                    stamp_sigma(images[n], sigma[len(crc32c)])
                    crc32c.append(pixel_checksum(pixels))
            places = np.flatnonzero(~self.bad[begin : begin + len(labels)])
            file.write(records.trailer(places.tolist()))
        own = self._own_columns(records, number, places, np.array(crc32c, dtype=np.uint32), sigma[: len(places)])
        self._enter(folder, name, records, len(places))
        return _with(labels.take(places), own)

    def _kept(self, first: int, images: Images) -> npt.NDArray[np.int64]:
        """Places in the slab of the rows that become samples."""
        here = slice(first, first + len(images))
        self.bad[here] |= ~np.isfinite(images).all(axis=(1, 2, 3))
        return np.flatnonzero(~self.bad[here])

    def _records(self, texts: list[bytes]) -> Records:
        if self.container == ZarrRecords.container:
            return ZarrRecords(self.image_shape, self.rows_per_shard)
        return TarRecords(self.image_shape, json_length(texts))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: band, y, x."""
        bands, height, width = self.rows.image_shape
        return bands, height, width

    def _enter(self, folder: Path, name: str, records: Records, samples: int) -> None:
        """Note a finished shard; one without a sample has no file."""
        if not samples:
            (folder / name).unlink()
            return
        whole = file_entry(folder, name)
        json_bytes = records.json_bytes if isinstance(records, TarRecords) else 0
        self.entries.append(ShardEntry(whole.name, whole.bytes, whole.sha256, samples, json_bytes))

    def _own_columns(
        self,
        records: Records,
        number: int,
        places: npt.NDArray[np.int64],
        crc32c: npt.NDArray[np.uint32],
        sigma: npt.NDArray[np.float64],
    ) -> dict[str, Any]:
        """What Skymill itself knows of a shard's samples. The noise of the native frames is unknown: null."""
        record = np.arange(len(places))
        is_zarr = self.container == ZarrRecords.container
        columns: dict[str, Any] = {
            "shard": pa.array(np.full(len(places), len(self.entries), dtype=np.int32)),
            "row": pa.array(number * self.rows_per_shard + places if is_zarr else record, pa.int64()),
            "offset": pa.array(records.pixel_offset + record * records.record_bytes, pa.int64()),
            "crc32c": pa.array(crc32c),
        }
        bands = self.rows.layout.bands
        columns |= {f"sky_sigma_{band}": pa.nulls(len(places), pa.float64()) for band in bands}
        return columns | {f"stamp_sigma_{band}": pa.array(sigma[:, n]) for n, band in enumerate(bands)}


def _with(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table
