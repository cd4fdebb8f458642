"""Join a shard's pieces to its file, checking every sample on the way. Knows nothing of Ray.

The entry of a shard is written after its file, so who can read the entry may trust the file; then the pieces' records
are no longer needed.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import google_crc32c
import numpy as np

from sharding import atomic_file
from sharding.manifest import ShardEntry
from sharding.records import Records, file_bytes

from .errors import IngestError
from .sealed import read_sealed, write_sealed
from .strip import Piece


def entry_path(folder: Path, shard: int) -> Path:
    """Where the entry of a shard lies until the manifest is written."""
    return folder / f"{shard:06d}.json"


def read_entry(entries: Path, dataset: Path, shard: int) -> ShardEntry | None:
    """The entry of a shard that is whole on disk, else None. A shard of no sample has an entry, but no file."""
    found = read_sealed(entry_path(entries, shard))
    if found is None:
        return None
    entry = ShardEntry(**found)
    try:
        whole = entry.samples == 0 or (dataset / entry.name).stat().st_size == entry.bytes
    except OSError:
        return None
    return entry if whole else None


def join_shard(
    shard: int, pieces: Sequence[Piece], records: Records, json_bytes: int, dataset: Path, entries: Path, scratch: Path
) -> ShardEntry:
    """Write a shard's file and its entry. IngestError where a piece is not as it was written.

    It may be run again at any time: Ray does so where a worker is lost after its last write.
    """
    entry = read_entry(entries, dataset, shard)
    if entry is None:
        entry = _join(shard, pieces, records, json_bytes, dataset, scratch)
        write_sealed(entry_path(entries, shard), asdict(entry), scratch)
    for piece in pieces:
        piece.records.unlink(missing_ok=True)
    return entry


def _join(
    shard: int, pieces: Sequence[Piece], records: Records, json_bytes: int, dataset: Path, scratch: Path
) -> ShardEntry:
    name = records.shard_name(shard)
    path = dataset / name
    digest, slots, planned = hashlib.sha256(), [], 0
    with atomic_file(path, scratch) as file:
        path.parent.mkdir(parents=True, exist_ok=True)  # not before: a worker that outlived its job would leave it
        for piece in pieces:
            objects = piece.read_objects()
            kept = np.flatnonzero(objects["kept"].to_numpy())
            for record in _records(piece, records, np.asarray(objects["record_crc32c"].to_numpy())[kept].tolist()):
                digest.update(record)
                file.write(record)
            slots += (planned + kept).tolist()
            planned += objects.num_rows
        trailer = records.trailer(slots)
        digest.update(trailer)
        file.write(trailer)
    if not slots:
        path.unlink()
    size = file_bytes(records, len(slots))
    return ShardEntry(name, size, digest.hexdigest(), len(slots), json_bytes)


def _records(piece: Piece, records: Records, checksums: list[int]) -> Iterator[bytes]:
    with piece.records.open("rb") as file:
        for number, checksum in enumerate(checksums):
            record = file.read(records.record_bytes)
            if len(record) != records.record_bytes or google_crc32c.value(record) != checksum:
                raise IngestError(
                    f"{piece.records}: record {number} is not as it was written: the disk damaged it; "
                    f"remove {piece.summary.name} beside it and start again"
                )
            yield record
