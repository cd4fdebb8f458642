"""The samples of a tar dataset one after another, through the webdataset library, for those who want just that.

The library gets open streams of ours, so that it opens nothing by itself: its own openers run a shell. The order is
that of the dataset, without shuffling or state; `Dataset` with `Order` has both. Key and pixels of a sample are checked
against `samples.parquet`; its JSON text is checked by ``python -m sharding verify`` alone.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import Dataset, Images
from .encoding import decode
from .errors import DatasetError, one_line
from .records import TarRecords, file_bytes
from .storage import Storage, read_range

_BUFFER_BYTES = 16 << 20  # of a shard, read at a time: its parts are fetched side by side from a URL


def stream(location: Path | str) -> Iterator[dict[str, Any]]:
    """Samples of a dataset in a folder or at a URL, as webdataset has them.

    ``__key__`` is the objid as text, ``image.npy`` float32 (band, y, x) in nanomaggies per pixel, whatever it is stored
    as, and ``json`` the label as a dict. DatasetError, in one line, where a shard is not as it was written.
    """
    with Dataset.open(location) as dataset:
        if dataset.manifest.container != TarRecords.container:
            raise DatasetError(
                f"{location}: expected a tar dataset, got {dataset.manifest.container}; "
                "make one of it: python -m sharding convert --format webdataset"
            )
        expected = _Expected(dataset)
        for number, entry in enumerate(dataset.manifest.shards):
            file = _ShardFile(dataset.storage, number, file_bytes(dataset.manifest.records(entry), entry.samples))
            where = f"{location}/{entry.name}"
            count = 0
            for sample in _read_tar(file, where):
                yield expected.check(sample, where)
                count += 1
            if count != entry.samples:
                raise DatasetError(f"{where}: expected {entry.samples} samples, got {count}; verify it")


class _Expected:
    """What `samples.parquet` says of each sample to come, in its order."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._objid, self._crc32c = dataset.column("objid"), dataset.column("crc32c")
        self._next = 0

    def check(self, sample: dict[str, Any], where: str) -> dict[str, Any]:
        """The sample with its members decoded; DatasetError where it is not the next one."""
        number = self._next
        self._next += 1
        key = sample["__key__"]
        if number == len(self._objid) or key != str(self._objid[number]):
            raise DatasetError(f"{where}: sample {one_line(key)} is not the next of samples.parquet; verify it")
        try:
            stored = np.load(io.BytesIO(sample["image.npy"]), allow_pickle=False)
            label = json.loads(sample["json"])
        except (KeyError, ValueError, EOFError, RecursionError) as err:
            raise DatasetError(f"{where}: sample {key}: not as it was written ({one_line(err)}); verify it") from err
        return {**sample, "image.npy": self._image(stored, number, where), "json": label}

    def _image(self, stored: Any, number: int, where: str) -> Images:
        from .crc32c import crc32c_rows

        dataset = self._dataset
        layout = dataset.image_shape, dataset.stored_dtype
        fits = isinstance(stored, np.ndarray) and (stored.shape, stored.dtype) == layout
        if not fits or crc32c_rows(stored.reshape(1, -1).view(np.uint8))[0] != self._crc32c[number]:
            name = f"{where}: sample {self._objid[number]}"
            raise DatasetError(f"{name}: its pixels differ from their checksum; verify, then ingest again")
        objid, step = dataset.dither(np.array([number])) or (np.array([number]), None)
        return np.asarray(decode(stored[np.newaxis], objid, step)[0], dtype=np.float32)


class _ShardFile(io.RawIOBase):
    """A shard as a stream of bytes, of whatever storage. What the storage says of a fault stays in ``fault``."""

    def __init__(self, storage: Storage, shard: int, size: int) -> None:
        self._storage, self._shard, self._size = storage, shard, size
        self._position = 0
        self.fault = ""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        out = np.frombuffer(buffer, dtype=np.uint8)[: self._size - self._position]
        try:
            if len(out):
                read_range(self._storage, self._shard, self._position, out)
        except DatasetError as err:
            self.fault = str(err)
            raise
        self._position += len(out)
        return len(out)


def _read_tar(file: _ShardFile, where: str) -> Iterator[dict[str, Any]]:
    """Samples of one shard, their members as bytes."""
    try:
        from webdataset.tariterators import group_by_keys, tar_file_expander
    except ImportError as err:
        raise DatasetError(f"{where}: {one_line(err)}; pip install 'skymill[webdataset]'") from err
    opened = {"url": where, "stream": io.BufferedReader(file, _BUFFER_BYTES)}
    try:
        yield from group_by_keys(tar_file_expander([opened]))
    except Exception as err:
        # What tarfile and webdataset raise at a damaged archive is of many kinds, and webdataset adds to its text.
        raise DatasetError(file.fault or f"{where}: not a whole tar archive ({one_line(err)}); verify it") from err
