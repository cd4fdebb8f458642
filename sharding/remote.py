"""A dataset at a URL: the manifest and the table of samples are fetched, records are read by byte ranges.

Order, state, checksums and errors are those of a dataset in a folder: only where bytes come from differs. How they come
is fetch.py's.
"""

import hashlib
import mmap
import os
import tempfile
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from .errors import DatasetError
from .faults import without_password
from .fetch import Fetcher, Span
from .manifest import MANIFEST, FileEntry, Manifest
from .mapping import Bytes
from .records import file_bytes
from .samples import Samples, samples_entry
from .storage import Checksums, Places

_PIECE = 1 << 20  # bytes of one request of a whole file's: `fetch_spans` has some of them in memory at a time


def open_remote(url: str) -> tuple[str, Manifest, Samples, "RemoteStorage"]:
    """What `Dataset` is made of, from a URL (https, s3, any protocol of fsspec); DatasetError on any fault."""
    if urlsplit(url).password is not None:
        raise DatasetError(
            f"the URL {without_password(url)}: expected none with a password, which messages and checkpoints "
            "would show, got one; put it into ~/.netrc"
        )
    url = url.rstrip("/")
    fetcher = Fetcher(url)
    try:
        manifest = _fetch_manifest(fetcher)
        return url, manifest, _fetch_samples(fetcher, samples_entry(manifest)), RemoteStorage(fetcher, manifest)
    except BaseException:
        fetcher.close()
        raise


class RemoteStorage:
    """Shards at a URL, see `Storage`: each record is one request of a range, many of them at a time.

    A process that was forked from the one that opened it is refused: it would use the same connections.
    """

    def __init__(self, fetcher: Fetcher, manifest: Manifest) -> None:
        """Asks for the last byte of every shard: each is there and long enough, and the server serves ranges."""
        self._fetcher = fetcher
        self._names = [entry.name for entry in manifest.shards]
        sizes = [file_bytes(manifest.records(entry), entry.samples) for entry in manifest.shards]
        last = [Span(name, size - 1, size) for name, size in zip(self._names, sizes, strict=True)]
        fetcher.fetch_spans(last, lambda number, content: None)

    def read(self, shard: Places, offset: Places, out: Bytes, checksums: Checksums | None) -> None:
        """See `Storage`."""
        from .crc32c import crc32c_rows

        places = zip(shard.tolist(), offset.tolist(), strict=True)
        spans = [Span(self._names[number], begin, begin + out.shape[1]) for number, begin in places]

        def deliver(row: int, content: bytes) -> None:
            out[row] = np.frombuffer(content, dtype=np.uint8)

        self._fetcher.fetch_spans(spans, deliver)
        if checksums is not None:
            checksums[:] = crc32c_rows(out)

    def distrust(self, shard: int) -> bool:
        """See `Storage`: there is no other place."""
        return False

    def close(self) -> None:
        """See `Storage`: closes the connections."""
        self._fetcher.close()


def _fetch_manifest(fetcher: Fetcher) -> Manifest:
    where = fetcher.where(MANIFEST)
    content = fetcher.fetch(MANIFEST)
    if content is None:
        raise DatasetError(f"{where}: expected a manifest, found none; is it a finished dataset?")
    return Manifest.parse(content, where)


def _fetch_samples(fetcher: Fetcher, entry: FileEntry) -> Samples:
    """The table of samples, of ten million rows perhaps: kept in a file that has no name, and mapped."""
    where = fetcher.where(entry.name)
    try:
        with tempfile.TemporaryFile() as file:
            _fetch_into(file, fetcher, entry)
            content = mmap.mmap(file.fileno(), entry.bytes, access=mmap.ACCESS_READ)
    except OSError as err:
        folder = tempfile.gettempdir()
        raise DatasetError(f"{folder}: cannot hold {where} ({err.strerror}); set TMPDIR to another folder") from err
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DatasetError(f"{where}: its bytes differ from the digest in {MANIFEST}; ingest again")
    return Samples(pa.py_buffer(content), where)


def _fetch_into(file: BinaryIO, fetcher: Fetcher, entry: FileEntry) -> None:
    starts = range(0, entry.bytes, _PIECE)
    spans = [Span(entry.name, start, min(start + _PIECE, entry.bytes)) for start in starts]

    def write(number: int, content: bytes) -> None:
        os.pwrite(file.fileno(), content, starts[number])

    file.truncate(entry.bytes)
    fetcher.fetch_spans(spans, write)
