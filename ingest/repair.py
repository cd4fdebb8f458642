"""Repair a finished dataset in place: cut its damaged shards again, from the same catalogue and frames.

A dataset is first examined; then what can be mended is made in the work folder, as a job makes it, and takes the place
of the damaged file in one rename, if its SHA-256 is that of the manifest. So a repair that is killed, or finds other
frames than those of old, leaves every file as it was. The manifest and the tables cannot be made again in part.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharding import DatasetError, atomic_file
from sharding.atomic import flush_folder
from sharding.hashing import file_digest
from sharding.manifest import INPUTS, MANIFEST, REJECTS, SAMPLES, FileEntry, Manifest
from sharding.records import shard_number
from sharding.tables import read_parquet
from sharding.verify import Finding, findings, zarr_contents

from .errors import IngestError
from .job import Progress, write_shards
from .prepare import IngestConfig, Prepared
from .publish import settings
from .workfolder import WorkFolder, opened, work_root

_MADE_AT_ONCE = (MANIFEST, SAMPLES, REJECTS, INPUTS)


@dataclass(frozen=True, slots=True)
class Damage:
    """What `examine` found."""

    shards: tuple[FileEntry, ...]  # to cut again
    metadata: tuple[FileEntry, ...]  # of Zarr, to write again
    strays: tuple[str, ...]  # lines on files that do not belong there: they are left alone

    @property
    def files(self) -> tuple[str, ...]:
        """Names of what is to be mended."""
        return tuple(entry.name for entry in (*self.shards, *self.metadata))


def recognised(config: IngestConfig, work: Prepared) -> Manifest:
    """The manifest of the finished dataset at ``config.out``; IngestError where it is damaged, or of another job."""
    manifest = _manifest(config.out)
    given = json.loads(json.dumps(settings(config, work)))  # as a manifest holds it
    if other := [name for name, value in given.items() if getattr(manifest, name) != value]:
        what = "the objects or --samples-per-shard" if other[0] == "plan" else other[0]
        raise _already_there(config.out, what)
    return manifest


def examine(
    config: IngestConfig, work: Prepared, manifest: Manifest, advance: Callable[[int], None] = lambda size: None
) -> Damage:
    """Verify the dataset at ``config.out``, that of `recognised`; ``advance`` is that of `sharding.verify`.

    IngestError where it is of another catalogue, or damaged in a way that cannot be mended.
    """
    found = list(findings(config.out, advance))
    for finding in found:
        if finding.name in _MADE_AT_ONCE:
            raise _beyond_repair(config.out, finding.text)
    _check_catalog(config, work)
    names = {finding.name for finding in found}
    shards = tuple(entry for entry in manifest.shards if entry.name in names)
    if folders := [entry.name for entry in shards if (config.out / entry.name).is_dir()]:
        raise IngestError(f"{config.out / folders[0]}: a folder where a shard belongs; move it away and start again")
    metadata = tuple(entry for entry in manifest.files if entry.name in names)
    return Damage(shards, metadata, tuple(_strays(found, manifest)))


def mend(
    config: IngestConfig,
    work: Prepared,
    manifest: Manifest,
    damage: Damage,
    progress: Callable[[Progress], None] = lambda state: None,
) -> None:
    """Make the damaged files again, and remove what an earlier repair left.

    IngestError, after all that could be mended is, where a file comes out otherwise than it was: that one stays.
    """
    if not damage.files and not work_root(config.out).exists():
        return
    with opened(config.out, work.digest) as folder:
        if folder.is_finished:
            raise IngestError(f"{folder.root}: holds another finished dataset; move it or {config.out} away")
        numbers = [shard_number(entry.name) for entry in damage.shards]
        write_shards(config, work, folder, numbers, _progress(work, numbers), progress)
        other = [entry.name for entry in damage.shards if not _take_place(folder, entry)]
        if damage.metadata:
            other += _write_metadata(config.out, manifest, damage, folder.scratch)
        folder.remove()
    if other:
        more = f" and {len(other) - 1} more files" if len(other) > 1 else ""
        raise IngestError(
            f"{config.out / other[0]}{more}: made again, it is not what {MANIFEST} tells: frames, catalogue or version "
            "of Skymill differ from those of then; the old file stays, bring those back and start again"
        )


def _manifest(out: Path) -> Manifest:
    try:
        manifest = Manifest.read(out)
    except DatasetError as err:
        raise _beyond_repair(out, str(err)) from err
    if manifest.encoding.name != "float32":
        raise IngestError(
            f"{out}: holds pixels encoded as {manifest.encoding.name}, which no ingest makes; "
            "repair the dataset that it was converted from, and convert that again"
        )
    return manifest


def _beyond_repair(out: Path, text: str) -> IngestError:
    told = text.removesuffix("; ingest again")
    return IngestError(f"{told}; this is beyond repair: move {out} away and ingest again")


def _check_catalog(config: IngestConfig, work: Prepared) -> None:
    """The samples must be of this catalogue in every column, or its labels would seem to be ingested."""
    path, table = config.out / SAMPLES, work.catalog.table
    columns = pq.read_schema(path).names
    if columns[: len(table.column_names) + 1] != [*table.column_names, "shard"]:
        raise _already_there(config.out, "columns")
    strips = (strip for shard in range(work.plan.shards) for strip in work.plan.strips(shard))
    rows = np.concatenate([strip.rows for strip in strips])
    objid = read_parquet(path, ["objid"])["objid"].to_numpy()
    rows = rows[np.isin(table["objid"].to_numpy()[rows], objid)]
    for name in table.column_names:
        then = read_parquet(path, [name])[name]
        if _bytes(then) != _bytes(table[name].take(pa.array(rows)).cast(then.type)):
            raise _already_there(config.out, f"column {name}")


def _bytes(column: pa.ChunkedArray) -> bytes:
    """Equal for equal columns, missing values and NaN included."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"": column.combine_chunks()}), sink, store_schema=False)
    return bytes(sink.getvalue())


def _already_there(out: Path, what: str) -> IngestError:
    return IngestError(
        f"{out}: already there, of another catalogue or settings ({what}); remove it or choose another --out"
    )


def _strays(found: list[Finding], manifest: Manifest) -> Iterator[str]:
    known = {entry.name for entry in (*manifest.shards, *manifest.files)}
    return (finding.text for finding in found if finding.name not in known)


def _progress(work: Prepared, shards: list[int]) -> Progress:
    fields = sum(len(strip.fields) for shard in shards for strip in work.plan.strips(shard))
    return Progress(fields, int(work.plan.objects_of_shards()[shards].sum()))


def _take_place(folder: WorkFolder, entry: FileEntry) -> bool:
    """Put a shard where the damaged one is, if it is the one of old."""
    path, target = folder.dataset / entry.name, folder.out / entry.name
    if not path.is_file() or file_digest(path) != entry.sha256:  # no sample, no file
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    flush_folder(target.parent)
    return True


def _write_metadata(out: Path, manifest: Manifest, damage: Damage, scratch: Path) -> list[str]:
    """Write damaged files of Zarr again; names of those that come out otherwise."""
    row = np.asarray(read_parquet(out / SAMPLES, ["row"])["row"].to_numpy())
    contents, other = zarr_contents(manifest, row), []
    for entry in damage.metadata:
        if hashlib.sha256(contents[entry.name]).hexdigest() != entry.sha256:
            other.append(entry.name)
            continue
        (out / entry.name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out / entry.name, scratch) as file:
            file.write(contents[entry.name])
    return other
