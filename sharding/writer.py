"""Finish a dataset: tables in bounded memory, then the manifest. The shards are already in place."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .atomic import atomic_file
from .hashing import file_digest
from .manifest import FileEntry, Manifest


def write_batches(path: Path, batches: Iterable[pa.Table], scratch: Path | None = None) -> None:
    """Write Parquet atomically, one row group a batch; the same batches give the same bytes.

    Memory holds one batch at a time. All have the schema of the first, of which there must be one (it may be empty).
    ``scratch`` is that of `atomic_file`.
    """
    tables = map(_plain, batches)
    first = next(tables, None)
    if first is None:
        raise ValueError(f"{path}: no batch, so no schema")
    with (
        atomic_file(path, scratch) as file,
        pq.ParquetWriter(file, first.schema, compression="zstd", store_schema=False) as writer,
    ):
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def _plain(table: pa.Table) -> pa.Table:
    """Without what depends on who made the table: notes in its schema, and how its columns are cut into chunks."""
    return table.replace_schema_metadata(None).combine_chunks()


def file_entry(folder: Path, name: str) -> FileEntry:
    """Size and digest of a file of the dataset."""
    path = folder / name
    return FileEntry(name, path.stat().st_size, file_digest(path))


def finish(folder: Path, manifest: Manifest, names: Sequence[str], scratch: Path | None = None) -> Manifest:
    """Publish ``manifest`` with the digests of the files ``names``, which are already written: the last act.

    ``names`` are the tables and, for Zarr, what `zarr_metadata.write_zarr_metadata` returned, in any order.
    """
    files = tuple(file_entry(folder, name) for name in sorted(names))
    replace(manifest, files=files).write(folder, scratch)
    return Manifest.read(folder)
