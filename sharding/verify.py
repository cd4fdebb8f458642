"""Check a dataset against its manifest: every size, digest, count and pixel checksum."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .dataset import check_samples, read_table
from .errors import DatasetError
from .hashing import file_digest
from .manifest import MANIFEST, FileEntry, Manifest
from .tables import to_numpy
from .tarshard import Layout, map_pixels, pixel_checksum

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
        samples, rejects = (read_table(folder / entry.name, entry) for entry in manifest.files)
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
            damaged = list(_damaged_images(folder / entry.name, manifest.layout(entry), objid, crc32c))
            faults = damaged or [f"{faults[0]} (outside the images)"]
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


def _damaged_images(path: Path, layout: Layout, objid: IntArray, crc32c: IntArray) -> Iterator[str]:
    """Name each sample whose image member differs from what was written: headers, pixels, padding."""
    pixels = map_pixels(path, layout, len(objid))
    records = np.memmap(path, np.uint8, mode="r")
    pixel_end = layout.pixel_offset + layout.pixel_bytes
    for row, key in enumerate(objid.tolist()):
        record = records[row * layout.record_bytes :][: layout.image_bytes]
        whole = pixel_checksum(pixels[row]) == crc32c[row]
        if (
            not whole
            or record[: layout.pixel_offset].tobytes() != layout.preamble(str(key))
            or record[pixel_end:].any()
        ):
            what = "its headers" if whole else "pixels"
            yield f"{path}: sample {key} (row {row}): {what} differ from what was written; ingest again"


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
