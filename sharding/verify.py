"""Check a dataset against its manifest: every size, digest, count and pixel checksum."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .dataset import check_samples, read_table
from .errors import DatasetError
from .hashing import file_digest
from .manifest import INPUTS, MANIFEST, REJECTS, SAMPLES, ZARR_FILES, FileEntry, Manifest, ShardEntry
from .mapping import Bytes, map_file
from .records import Records, ZarrRecords, file_bytes, pixel_checksum, shard_number
from .tables import to_numpy
from .zarr_metadata import zarr_files

IntArray = npt.NDArray[np.generic]


def verify(folder: Path, advance: Callable[[int], None] = lambda samples: None) -> Iterator[str]:
    """Yield one line for each fault; ``advance`` is told how many samples each finished shard held."""
    try:
        manifest = Manifest.read(folder)
    except DatasetError as err:
        yield str(err)
        return
    yield from _strays(folder, manifest)
    try:
        tables = {e.name: read_table(folder, e) for e in manifest.files if e.name.endswith(".parquet")}
        samples = tables[SAMPLES]
        check_samples(samples, manifest, folder / SAMPLES)
    except DatasetError as err:
        yield str(err)
        return
    yield from _count_faults(folder, manifest, tables)
    if manifest.container == ZarrRecords.container:
        yield from _zarr_faults(folder, manifest, to_numpy(samples["row"], "row"))
    begin = 0
    for entry in manifest.shards:
        yield from _shard_faults(folder, manifest, entry, samples.slice(begin, entry.samples))
        begin += entry.samples
        advance(entry.samples)


def _shard_faults(folder: Path, manifest: Manifest, entry: ShardEntry, samples: pa.Table) -> Iterator[str]:
    """The damaged samples by name; where none is damaged, what else is."""
    path, records = folder / entry.name, manifest.records(entry)
    fault = _file_fault(folder, entry)
    if not path.is_file() or path.stat().st_size != file_bytes(records, entry.samples):
        yield fault or f"{path}: its size does not fit {entry.samples} samples; ingest again"
        return
    content = map_file(path, file_bytes(records, entry.samples))
    damaged = list(_damaged_images(content[: -records.trailer_bytes], records, samples))
    yield from (f"{path}: {which} differ from what was written; ingest again" for which in damaged)
    row = to_numpy(samples["row"], "row")
    slots = row - shard_number(entry.name) * manifest.slots_per_shard  # a tar has none
    if content[-records.trailer_bytes :].tobytes() != records.trailer(slots.tolist()):
        yield f"{path}: the end of the file differs from what was written; ingest again"
    elif fault and not damaged:
        yield f"{fault} (outside the images)"


def _damaged_images(content: Bytes, records: Records, samples: pa.Table) -> Iterator[str]:
    objid, row, crc32c = (to_numpy(samples[name], name).tolist() for name in ("objid", "row", "crc32c"))
    for number, record in enumerate(content.reshape(-1, records.record_bytes)):
        if what := _damage(record.tobytes(), records, str(objid[number]), crc32c[number]):
            yield f"sample {objid[number]} (row {row[number]}): {what}"


def _damage(record: bytes, records: Records, key: str, crc32c: int) -> str | None:
    """What of an image is not as it was written, if anything: its pixels, or what frames them."""
    end = records.pixel_offset + records.pixel_bytes
    pixels = record[records.pixel_offset : end]
    if pixel_checksum(pixels) != crc32c:
        return "pixels"
    before, behind = records.frame(key, pixels)
    whole = record.startswith(before) and record[end:].startswith(behind)
    return None if whole else "its headers or padding"


def _file_fault(folder: Path, entry: FileEntry) -> str | None:
    path = folder / entry.name
    if not path.is_file():
        return f"{path}: missing; ingest again"
    if path.stat().st_size != entry.bytes:
        return f"{path}: expected {entry.bytes} bytes, got {path.stat().st_size}; ingest again"
    if file_digest(path) != entry.sha256:
        return f"{path}: its bytes differ from the digest in {MANIFEST}; ingest again"
    return None


def _zarr_faults(folder: Path, manifest: Manifest, row: IntArray) -> Iterator[str]:
    """What other readers are told about the array must be what the manifest and the table of samples say."""
    entries = {entry.name: entry for entry in manifest.files}
    faults = {name: _file_fault(folder, entries[name]) for name in ZARR_FILES}
    yield from (fault for fault in faults.values() if fault)
    if any(faults.values()):
        return
    slots = entries["images.zarr/valid/c/0"].bytes - 4  # one byte a slot, then the checksum
    valid = np.zeros(max(slots, int(row.max(initial=-1)) + 1), dtype=bool)
    valid[row] = True
    if len(valid) != slots or slots % manifest.slots_per_shard:
        yield f"{folder / 'images.zarr'}: {slots} slots do not hold the rows of {SAMPLES}; ingest again"
        return
    for name, content in zarr_files(manifest, valid).items():
        if (folder / name).read_bytes() != content:
            yield f"{folder / name}: does not fit {MANIFEST} and {SAMPLES}; ingest again"


def _strays(folder: Path, manifest: Manifest) -> Iterator[str]:
    known = {MANIFEST, *(entry.name for entry in (*manifest.files, *manifest.shards))}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in known:
            yield f"{path}: not listed in {MANIFEST}; move it out of the dataset"


def _count_faults(folder: Path, manifest: Manifest, tables: dict[str, pa.Table]) -> Iterator[str]:
    samples, rejects = tables[SAMPLES].num_rows, tables[REJECTS].num_rows
    found = {"samples": samples, "rejects": rejects, "objects": samples + rejects}
    for name, count in found.items():
        if manifest.counts.get(name) != count:
            yield f"{folder / MANIFEST}: counts.{name} is {manifest.counts.get(name)}, the tables hold {count}"
    if INPUTS in tables:
        inputs = tables[INPUTS]
        totals = {"frames": inputs.num_rows, "bytes": pc.sum(inputs["bytes"]).as_py() or 0}
        if manifest.inputs != totals:
            yield f"{folder / MANIFEST}: inputs are {manifest.inputs}, {INPUTS} holds {totals}; ingest again"
