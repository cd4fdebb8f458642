"""What is wrong with one shard: its size, its digest, its pixels, what frames them, its end.

A shard that is whole is read once, a piece at a time, without Python work a record and mostly without the interpreter
lock. Only where something differs are its records looked at one by one, to name the damaged samples. Files are read,
not mapped: one that is truncated meanwhile, or lies on a bad disk, gives an OSError, where a mapping kills the process.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .crc32c import crc32c_rows
from .hashing import file_digest
from .manifest import MANIFEST, ShardEntry
from .records import Records, file_bytes, pixel_checksum

Bytes = npt.NDArray[np.uint8]
Advance = Callable[[int], None]

_PIECE_BYTES = 4 * 2**20  # of a file that are in memory at a time, in each thread


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as the manifest and the table of samples tell of it; arrays have one element a sample, in file order."""

    path: Path
    entry: ShardEntry
    records: Records
    objid: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]  # place in the shard, for `Records.trailer`
    crc32c: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class _Found:
    """What one reading of a file came to."""

    digest: str
    pixels: bool  # whether all checksums of pixels are right
    trailer: bool  # whether the end is as written


def shard_damage(shard: Shard, names: Mapping[str, str], advance: Advance = lambda size: None) -> list[str]:
    """One line a fault. ``names`` of all shards by digest tell which one a swapped file is.

    ``advance`` hears how many bytes were read; of a file of the right size, all of them.
    """
    try:
        return list(_faults(shard, names, advance))
    except OSError as err:
        return [unreadable(shard.path, err)]


def unreadable(path: Path, err: OSError) -> str:
    """The line for a file that the system does not give."""
    reason = "missing" if isinstance(err, FileNotFoundError) else f"cannot be read ({err.strerror or err})"
    return f"{path}: {reason}; ingest again"


def regular_size(path: Path) -> int:
    """Size of a file; OSError where there is none, or something else by its name."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"not a file: {stat.filemode(found.st_mode)}")
    return found.st_size


def _faults(shard: Shard, names: Mapping[str, str], advance: Advance) -> Iterator[str]:
    path, expected = shard.path, file_bytes(shard.records, shard.entry.samples)
    size = regular_size(path)
    if size != shard.entry.bytes:
        other = names.get(file_digest(path))
        which = f": it is that of {other}, swapped or renamed" if other else ""
        yield f"{path}: expected {shard.entry.bytes} bytes, got {size}{which}; ingest again"
        return
    if size != expected:
        yield f"{path}: its size does not fit {shard.entry.samples} samples; ingest again"
        return
    found = _read(shard, advance)
    right = found.digest == shard.entry.sha256
    if right and found.pixels and found.trailer:
        return
    other = names.get(found.digest)
    if other is not None and not right:
        yield f"{path}: it is that of {other}, swapped or renamed; ingest again"
        return
    damaged = list(_damaged_samples(shard)) if not (right and found.pixels) else []
    yield from (f"{path}: {which} differ from what was written; ingest again" for which in damaged)
    if not found.trailer:
        yield f"{path}: the end of the file differs from what was written; ingest again"
    elif not damaged:
        yield f"{path}: its bytes differ from the digest in {MANIFEST} (outside the images); ingest again"


def _read(shard: Shard, advance: Advance) -> _Found:
    """Read a file of the right size once."""
    digest, pixels, begin = hashlib.sha256(), True, 0
    records = shard.records
    end = records.pixel_offset + records.pixel_bytes
    trailer = np.empty(records.trailer_bytes, dtype=np.uint8)
    with shard.path.open("rb", buffering=0) as file:
        for piece in _pieces(file.fileno(), records, shard.entry.samples):
            digest.update(piece.data)
            expected = shard.crc32c[begin : begin + len(piece)]
            pixels &= np.array_equal(crc32c_rows(piece[:, records.pixel_offset : end]), expected)
            begin += len(piece)
            advance(piece.size)
        _fill(file.fileno(), trailer, begin * records.record_bytes)
    digest.update(trailer.data)
    advance(trailer.size)
    return _Found(digest.hexdigest(), pixels, trailer.tobytes() == records.trailer(shard.slot.tolist()))


def _pieces(descriptor: int, records: Records, samples: int) -> Iterator[Bytes]:
    """All records, some at a time: (record, byte). The memory is used again for the next ones."""
    at_once = max(1, _PIECE_BYTES // records.record_bytes)
    buffer = np.empty((min(at_once, samples), records.record_bytes), dtype=np.uint8)
    for begin in range(0, samples, at_once):
        piece = buffer[: samples - begin]
        _fill(descriptor, piece, begin * records.record_bytes)
        yield piece


def _fill(descriptor: int, out: Bytes, offset: int) -> None:
    """Read all of ``out`` from a place of a file; OSError where it ends before."""
    view = out.reshape(-1).data
    while view:
        count = os.preadv(descriptor, [view], offset)
        if not count:
            raise OSError("it became shorter while it was read")
        view, offset = view[count:], offset + count


def _damaged_samples(shard: Shard) -> Iterator[str]:
    number = 0
    with shard.path.open("rb", buffering=0) as file:
        for piece in _pieces(file.fileno(), shard.records, shard.entry.samples):
            for record in piece:
                objid, row = shard.objid[number], shard.row[number]
                if what := _damage(record.tobytes(), shard.records, str(objid), int(shard.crc32c[number])):
                    yield f"sample {objid} (row {row}): {what}"
                number += 1


def _damage(record: bytes, records: Records, key: str, crc32c: int) -> str | None:
    """What of an image is not as it was written, if anything: its pixels, or what frames them."""
    end = records.pixel_offset + records.pixel_bytes
    pixels = record[records.pixel_offset : end]
    if pixel_checksum(pixels) != crc32c:
        return "pixels"
    before, behind = records.frame(key, pixels)
    whole = record.startswith(before) and record[end:].startswith(behind)
    return None if whole else "its headers or padding"
