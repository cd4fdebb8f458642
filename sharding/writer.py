"""Finish a dataset: the table of samples, the table of rejects, then the manifest."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .atomic import atomic_file
from .hashing import file_digest
from .manifest import FileEntry, Manifest


def write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet atomically; the same table gives the same bytes."""
    with atomic_file(path) as file:
        pq.write_table(table.replace_schema_metadata(None), file, compression="zstd", store_schema=False)


def file_entry(folder: Path, name: str) -> FileEntry:
    """Size and digest of a file of the dataset."""
    path = folder / name
    return FileEntry(name, path.stat().st_size, file_digest(path))


def finish(folder: Path, manifest: Manifest, samples: pa.Table, rejects: pa.Table) -> Manifest:
    """Write both tables, then publish ``manifest`` with their digests. The shards are already in place."""
    write_table(samples, folder / "samples.parquet")
    write_table(rejects, folder / "rejects.parquet")
    files = tuple(file_entry(folder, name) for name in ("samples.parquet", "rejects.parquet"))
    replace(manifest, files=files).write(folder)
    return Manifest.read(folder)
