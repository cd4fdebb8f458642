"""Check a dataset against its manifest, on all cores: every size, digest, count and pixel checksum.

What may be wrong inside a shard is in `damage`.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from .damage import Advance, Shard, regular_size, shard_damage, unreadable
from .errors import DatasetError
from .hashing import file_digest
from .manifest import INPUTS, MANIFEST, REJECTS, SAMPLES, ZARR_FILES, FileEntry, Manifest
from .records import ZarrRecords, shard_number
from .samples import Samples, check_samples
from .zarr_metadata import zarr_files

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a dataset."""

    name: str  # of the file, "/" between parts
    text: str  # one line


def verify(folder: Path, advance: Advance = lambda size: None, threads: int | None = None) -> Iterator[str]:
    """Yield one line for each fault; see `findings`."""
    return (found.text for found in findings(folder, advance, threads))


def findings(folder: Path, advance: Advance = lambda size: None, threads: int | None = None) -> Iterator[Finding]:
    """Yield what is wrong, in the order of the shards.

    Every byte is read once; only a damaged shard is read again, to name its samples. ``advance`` hears, from several
    threads, how many bytes of shards were read. ``threads``: one a core where None. Memory holds four columns of
    `samples.parquet` and a few MB a thread.
    """
    try:
        manifest = Manifest.read(folder)
    except DatasetError as err:
        yield Finding(MANIFEST, str(err))
        return
    yield from _strays(folder, manifest)
    damaged = {entry.name: text for entry in manifest.files if (text := _file_fault(folder, entry))}
    yield from (Finding(name, text) for name, text in damaged.items())
    try:
        yield from _count_faults(folder, manifest, damaged)
        if SAMPLES in damaged:
            return
        samples = Samples(folder / SAMPLES, str(folder / SAMPLES))
        crc32c = check_samples(samples, manifest, str(folder / SAMPLES))
        objid, row = (np.asarray(column.to_numpy()) for column in samples.read(("objid", "row")).columns)
    except DatasetError as err:
        yield Finding(SAMPLES, str(err))
        return
    if manifest.container == ZarrRecords.container and not damaged.keys() & set(ZARR_FILES):
        yield from _zarr_faults(folder, manifest, row)
    yield from _shard_faults(list(_shards(folder, manifest, objid, row, crc32c)), advance, threads)


def _shard_faults(shards: list[Shard], advance: Advance, threads: int | None) -> Iterator[Finding]:
    names = {shard.entry.sha256: shard.entry.name for shard in shards}
    pool = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="verify")
    try:
        found = pool.map(lambda shard: shard_damage(shard, names, advance), shards)
        for shard, texts in zip(shards, found, strict=True):
            yield from (Finding(shard.entry.name, text) for text in texts)
    finally:
        pool.shutdown(cancel_futures=True)  # who stops listening waits for the shards at hand only


def _shards(
    folder: Path, manifest: Manifest, objid: IntArray, row: IntArray, crc32c: npt.NDArray[np.uint32]
) -> Iterator[Shard]:
    begin = 0
    for entry in manifest.shards:
        here = slice(begin, begin + entry.samples)
        slot = row[here] - shard_number(entry.name) * manifest.slots_per_shard  # a tar has none
        yield Shard(folder / entry.name, entry, manifest.records(entry), objid[here], row[here], slot, crc32c[here])
        begin += entry.samples


def _file_fault(folder: Path, entry: FileEntry) -> str | None:
    """What is wrong with a file that is no shard."""
    path = folder / entry.name
    try:
        size = regular_size(path)
        if size != entry.bytes:
            return f"{path}: expected {entry.bytes} bytes, got {size}; ingest again"
        if file_digest(path) != entry.sha256:
            return f"{path}: its bytes differ from the digest in {MANIFEST}; ingest again"
    except OSError as err:
        return unreadable(path, err)
    return None


def zarr_contents(manifest: Manifest, row: IntArray) -> dict[str, bytes]:
    """What the files of `images.zarr` that are no shards hold, by the manifest and the samples' rows.

    DatasetError where these do not fit.
    """
    entries = {entry.name: entry for entry in manifest.files}
    slots = entries["images.zarr/valid/c/0"].bytes - 4  # one byte a slot, then the checksum
    if slots <= row.max(initial=-1) or slots % manifest.slots_per_shard:
        raise DatasetError(f"{slots} slots do not hold the rows of {SAMPLES}; ingest again")
    valid = np.zeros(slots, dtype=bool)
    valid[row] = True
    return zarr_files(manifest, valid)


def _zarr_faults(folder: Path, manifest: Manifest, row: IntArray) -> Iterator[Finding]:
    """What other readers are told about the array must be what the manifest and the table of samples say."""
    try:
        contents = zarr_contents(manifest, row)
    except DatasetError as err:
        yield Finding(MANIFEST, f"{folder / MANIFEST}: {err}")
        return
    for entry in manifest.files:
        content = contents.get(entry.name)
        if content is not None and hashlib.sha256(content).hexdigest() != entry.sha256:
            path = folder / entry.name
            yield Finding(entry.name, f"{path}: does not fit {MANIFEST} and {SAMPLES}; ingest again")


def _strays(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    """Files that no dataset has here; of a shard under another name, which one it is."""
    known = {MANIFEST, *(entry.name for entry in (*manifest.files, *manifest.shards))}
    shards = {(entry.bytes, entry.sha256): entry.name for entry in manifest.shards}
    sizes = {entry.bytes for entry in manifest.shards}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in known or not path.is_file():
            continue
        try:
            size = path.stat().st_size
            other = shards.get((size, file_digest(path))) if size in sizes else None
        except OSError:  # it is in the way, whatever it holds
            other = None
        which = f", but holds {other}" if other else ""
        yield Finding(name, f"{path}: not listed in {MANIFEST}{which}; move it out of the dataset")


def _count_faults(folder: Path, manifest: Manifest, damaged: dict[str, str]) -> Iterator[Finding]:
    """Counts of the manifest against those of the tables, but for the damaged ones."""
    tables = {entry.name for entry in manifest.files if entry.name not in damaged}
    rows = {name: Samples(folder / name, str(folder / name)).num_rows for name in (SAMPLES, REJECTS) if name in tables}
    found = {name.removesuffix(".parquet"): count for name, count in rows.items()}
    if len(found) == 2:
        found["objects"] = sum(found.values())
    for name, count in found.items():
        if manifest.counts.get(name) != count:
            text = f"{folder / MANIFEST}: counts.{name} is {manifest.counts.get(name)}, the tables hold {count}"
            yield Finding(MANIFEST, text)
    if INPUTS in tables:
        inputs = Samples(folder / INPUTS, str(folder / INPUTS)).read(("bytes",))
        totals = {"frames": inputs.num_rows, "bytes": pc.sum(inputs["bytes"]).as_py() or 0}
        if manifest.inputs != totals:
            text = f"{folder / MANIFEST}: inputs are {manifest.inputs}, {INPUTS} holds {totals}; ingest again"
            yield Finding(MANIFEST, text)
