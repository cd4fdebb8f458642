"""Cut one strip: the unit of work of an ingest job. Knows nothing of Ray.

What comes of it is a *piece*, three files in a folder: the records of its samples, one after another, as they will
stand in their shard (`.part`); what became of each object (`.parquet`); what was read (`.json`, written last: who can
read it may trust the other two).
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding import atomic_file
from sharding.hashing import file_digest
from sharding.records import PIXEL_DTYPE, Records, pixel_checksum
from sharding.tables import read_parquet
from sharding.writer import write_batches

from .errors import FrameError, IngestError
from .plan import FieldPlan, StripPlan
from .sealed import read_sealed, write_sealed
from .sources import SourceConfig, open_source
from .stamps import Stamps, cut_stamps
from .tables import SDSS_BANDS
from .window import NO_FRAME, Window

OnError = Literal["stop", "reject"]
PER_BAND = ("covered_fraction", "sky_sigma", "stamp_sigma")
NOT_COVERED = "stamp not wholly covered"
OUTSIDE = "outside the frames of its field"


@dataclass(frozen=True, kw_only=True, slots=True)
class CutConfig:
    """What to do with stamps and frames that are not as they should be."""

    min_coverage: float = 1.0  # of each band's stamp; what is not covered becomes 0, the sky's level
    on_error: OnError = "stop"


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a strip, in its order."""

    objid: npt.NDArray[np.int64]
    ra_deg: npt.NDArray[np.float64]
    dec_deg: npt.NDArray[np.float64]
    labels: list[bytes]  # JSON text of each; what the container has no room for is left out


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a piece lies, and what its files say."""

    folder: Path
    number: int

    @property
    def records(self) -> Path:
        """The samples' records."""
        return self.folder / f"{self.number:06d}.part"

    @property
    def objects(self) -> Path:
        """One row an object: kept, reason, CRC32C of its pixels and of its whole record, and per band `PER_BAND`."""
        return self.folder / f"{self.number:06d}.parquet"

    @property
    def summary(self) -> Path:
        """Samples, rejects, the survey's name, and what was read."""
        return self.folder / f"{self.number:06d}.json"

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of a piece whose tables are as they were written, else None."""
        summary = read_sealed(self.summary)
        try:
            whole = summary is not None and file_digest(self.objects) == summary["objects_sha256"]
        except OSError:
            return None
        return summary if whole else None

    def read_objects(self) -> pa.Table:
        """What became of each object; IngestError where a bad disk changed it."""
        if self.read_summary() is None:
            raise IngestError(f"{self.objects}: not as it was written: the disk damaged it; start again to cut it anew")
        return read_parquet(self.objects)


def cut_strip(
    plan: StripPlan,
    objects: Objects,
    records: Records,
    source: SourceConfig,
    config: CutConfig,
    piece: Piece,
    scratch: Path,
) -> dict[str, Any]:
    """Cut every stamp of a strip and write its piece; returns the summary.

    Memory holds the frames of two fields and `AT_ONCE` stamps. FrameError, or FetchError, where the job has to stop.
    """
    window = Window(open_source(source), [part.field for part in plan.fields], go_on=config.on_error == "reject")
    tables = []
    with atomic_file(piece.records, scratch) as file:
        for part, here, ahead in _parts(plan, objects):
            for table, encoded in _cut_field(window, part, here, records, config):
                file.writelines(encoded)
                tables.append(table)
            window.done_with(part.field, ahead.ra_deg, ahead.dec_deg)
    table = pa.concat_tables(tables)
    write_batches(piece.objects, [table], scratch)
    tally = window.tally
    samples = int(np.sum(table["kept"].to_numpy()))
    summary = {
        "samples": samples,
        "rejects": table.num_rows - samples,
        "fields": len(plan.fields),
        "faulty": bool(window.damaged),
        "missing": [n for n, part in enumerate(plan.fields) if NO_FRAME in window.damaged.get(part.field, "")],
        "host": socket.gethostname(),
        "survey": window.survey,
        "objects_sha256": file_digest(piece.objects),
        "inputs": sorted([name, *found] for name, found in tally.inputs.items()),
        "frames": tally.frames,
        "unpacked_bytes": tally.unpacked_bytes,
        "again_frames": tally.again_frames,
        "again_bytes": tally.again_bytes,
    }
    write_sealed(piece.summary, summary, scratch)
    return summary


def _parts(plan: StripPlan, objects: Objects) -> Iterator[tuple[FieldPlan, Objects, Objects]]:
    """Each field with its own objects and those of the next."""
    bounds = np.cumsum([0, *(len(part.rows) for part in plan.fields), 0])
    for number, part in enumerate(plan.fields):
        begin, end, after = bounds[number : number + 3].tolist()
        yield part, _some(objects, begin, end), _some(objects, end, after)


def _some(objects: Objects, begin: int, end: int) -> Objects:
    here = slice(begin, end)
    return Objects(objects.objid[here], objects.ra_deg[here], objects.dec_deg[here], objects.labels[here])


def _cut_field(
    window: Window, part: FieldPlan, objects: Objects, records: Records, config: CutConfig
) -> Iterator[tuple[pa.Table, list[bytes]]]:
    """What became of some objects of a field at a time, and the records of those that are samples."""
    try:
        window.own(part.field)
    except FrameError as err:
        if config.on_error == "stop":
            raise
        yield _table([err.reason] * len(objects.objid), np.zeros((2, len(objects.objid)), dtype=np.uint32), {}), []
        return
    for stamps in cut_stamps(window, part.field, objects.ra_deg, objects.dec_deg):
        here = _some(objects, stamps.objects.start, stamps.objects.stop)
        reasons = _reasons(window, part, stamps, config)
        measured = dict(zip(PER_BAND, (stamps.covered, stamps.sky_sigma, stamps.stamp_sigma()), strict=True))
        checksums, encoded = np.zeros((2, len(here.objid)), dtype=np.uint32), []
        for number in np.flatnonzero([not reason for reason in reasons]):
            image = stamps.images[number]
            if stamps.covered[number].min() < 1:
                image = np.where(np.isfinite(image), image, 0)
            pixels = image.astype(PIXEL_DTYPE, copy=False).tobytes()
            encoded.append(records.encode(str(here.objid[number]), pixels, here.labels[number]))
            checksums[:, number] = pixel_checksum(pixels), pixel_checksum(encoded[-1])
        yield _table(reasons, checksums, measured), encoded


def _reasons(window: Window, part: FieldPlan, stamps: Stamps, config: CutConfig) -> list[str]:
    """Why each object gives no sample; empty where it does."""
    covered = stamps.covered.min(axis=1)
    reasons = np.where(covered < config.min_coverage, NOT_COVERED, "").astype(object)
    reasons[stamps.covered.max(axis=1) == 0] = OUTSIDE
    for step, crosses in zip((-1, 1), stamps.crosses, strict=True):
        damage = window.damaged.get(part.field.beside(step))
        if damage is not None:
            reasons[crosses & (covered < 1)] = damage
    return [str(reason) for reason in reasons]


def _table(
    reasons: list[str], checksums: npt.NDArray[np.uint32], measured: dict[str, npt.NDArray[np.float64]]
) -> pa.Table:
    columns: dict[str, Any] = {"kept": pa.array([not reason for reason in reasons]), "reason": reasons}
    columns["crc32c"], columns["record_crc32c"] = checksums
    unknown = np.full((len(reasons), len(SDSS_BANDS)), np.nan)
    for name in PER_BAND:
        values = measured.get(name, unknown)
        columns |= {f"{name}_{band}": values[:, number] for number, band in enumerate(SDSS_BANDS)}
    return pa.table(columns)
