"""Check a dataset against its manifest: every size, digest, count and pixel checksum."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .dataset import check_samples, read_table
from .errors import DatasetError
from .hashing import file_digest
from .manifest import MANIFEST, FileEntry, Manifest
from .tables import to_numpy
from .tarshard import map_pixels, pixel_checksum


def verify(folder: Path, advance: Callable[[int], None] = lambda samples: None) -> Iterator[str]:
    """Yield one line for each fault; ``advance`` is told how many samples each finished shard held."""
    try:
        manifest = Manifest.read(folder)
    except DatasetError as err:
        yield str(err)
        return
    yield from _strays(folder, manifest)
    for entry in manifest.files:
        yield from _file_faults(folder, entry)
    try:
        samples = read_table(folder / "samples.parquet")
        rejects = read_table(folder / "rejects.parquet")
        check_samples(samples, manifest, folder / "samples.parquet")
    except DatasetError as err:
        yield str(err)
        return
    yield from _count_faults(folder, manifest, samples.num_rows, rejects.num_rows)
    shard = to_numpy(samples["shard"], "shard")
    for number, entry in enumerate(manifest.shards):
        here = np.flatnonzero(shard == number)
        objid = to_numpy(samples["objid"], "objid")[here]
        crc32c = to_numpy(samples["crc32c"], "crc32c")[here]
        faults = list(_file_faults(folder, entry))
        if faults and (folder / entry.name).is_file() and (folder / entry.name).stat().st_size == entry.bytes:
            pixels = map_pixels(folder / entry.name, manifest.layout(entry), entry.samples)
            named = [
                f"{folder / entry.name}: sample {objid[row]} (row {row}): pixels differ from their CRC32C; ingest again"
                for row in range(entry.samples)
                if pixel_checksum(pixels[row]) != crc32c[row]
            ]
            faults = named or [f"{faults[0]} (outside the pixels)"]
        yield from faults
        advance(entry.samples)


def _file_faults(folder: Path, entry: FileEntry) -> Iterator[str]:
    path = folder / entry.name
    if not path.is_file():
        yield f"{path}: missing; ingest again"
    elif path.stat().st_size != entry.bytes:
        yield f"{path}: expected {entry.bytes} bytes, got {path.stat().st_size}; ingest again"
    elif file_digest(path) != entry.sha256:
        yield f"{path}: its bytes differ from the digest in {MANIFEST}; ingest again"


def _strays(folder: Path, manifest: Manifest) -> Iterator[str]:
    known = {MANIFEST, *(entry.name for entry in (*manifest.files, *manifest.shards))}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in known:
            yield f"{path}: not listed in {MANIFEST}; move it out of the dataset"


def _count_faults(folder: Path, manifest: Manifest, samples: int, rejects: int) -> Iterator[str]:
    found = {"samples": samples, "rejects": rejects, "objects": samples + rejects}
    for name, count in found.items():
        if manifest.counts.get(name) != count:
            yield f"{folder / MANIFEST}: counts.{name} is {manifest.counts.get(name)}, the tables hold {count}"
