"""Make one shard: the unit of work of an ingest job. Knows nothing of Ray."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding import atomic_file
from sharding.manifest import ShardEntry
from sharding.tarshard import Layout, ShardWriter, json_length
from sharding.writer import file_entry

from .plan import FieldPlan, ShardPlan
from .register import SIZE
from .stamps import FieldStamps, cut_stamps
from .tables import SDSS_BANDS

LABELS = ("objid", "run", "rerun", "camcol", "field", "ra", "dec", "thing_id", "ebv_sfd", "specz")
BAND_LABELS = ("extinction", "psf_fwhm")


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What became of a shard's objects; rows are rows of the catalogue."""

    entry: ShardEntry | None  # None where no object gave a sample
    kept: dict[str, npt.NDArray[Any]]  # catalogue_row, offset, crc32c (sample), sky_sigma, stamp_sigma (sample, band)
    rejected: dict[str, npt.NDArray[Any]]  # catalogue_row (object), covered (object, band)
    origin: str


def label_columns() -> tuple[str, ...]:
    """The catalogue columns that go into a sample's JSON; all others are in samples.parquet only."""
    return (*LABELS, *(f"{name}_{band}" for name in BAND_LABELS for band in SDSS_BANDS))


def make_shard(plan: ShardPlan, labels: pa.Table, frames: Path, out: Path) -> ShardResult:
    """Cut every stamp of a shard and write it.

    ``labels`` has one row for each object of the plan, in its order. An object is kept if every pixel of every band is
    covered. Memory holds one field's stamps at a time.
    """
    texts = [_json(row) for row in labels.to_pylist()]
    layout = Layout((len(SDSS_BANDS), SIZE, SIZE), json_length(texts))
    path = out / plan.name
    pieces: list[tuple[FieldPlan, FieldStamps]] = []
    written: list[tuple[int, int]] = []
    with atomic_file(path) as file:
        writer = ShardWriter(file, layout)
        for part, stamps, begin in _fields(plan, labels, frames):
            for number in np.flatnonzero(_whole(stamps)):
                key = str(labels["objid"][begin + int(number)].as_py())
                written.append(writer.add(key, stamps.images[number], texts[begin + int(number)]))
            pieces.append((part, _without_images(stamps)))
        writer.close()
    if not written:
        path.unlink()
        return _result(None, pieces, written)
    whole = file_entry(out, plan.name)
    entry = ShardEntry(whole.name, whole.bytes, whole.sha256, len(written), layout.json_bytes)
    return _result(entry, pieces, written)


def _fields(plan: ShardPlan, labels: pa.Table, frames: Path) -> Iterator[tuple[FieldPlan, FieldStamps, int]]:
    ra, dec = (np.array(labels[name].to_numpy()) for name in ("ra", "dec"))
    begin = 0
    for part in plan.fields:
        here = slice(begin, begin + len(part.rows))
        yield part, cut_stamps(frames, part.field, ra[here], dec[here]), begin
        begin += len(part.rows)


def _whole(stamps: FieldStamps) -> npt.NDArray[np.bool_]:
    return np.asarray((stamps.covered == 1).all(axis=1))


def _without_images(stamps: FieldStamps) -> FieldStamps:
    empty = np.empty((0, 0, 0, 0), dtype=np.float32)
    return FieldStamps(empty, stamps.covered, stamps.sky_sigma, stamps.stamp_sigma, stamps.origin)


def _result(
    entry: ShardEntry | None, pieces: list[tuple[FieldPlan, FieldStamps]], written: list[tuple[int, int]]
) -> ShardResult:
    rows = np.concatenate([part.rows for part, _ in pieces])
    whole = np.concatenate([_whole(stamps) for _, stamps in pieces])
    joined = {
        name: np.concatenate([getattr(stamps, name) for _, stamps in pieces])
        for name in ("covered", "sky_sigma", "stamp_sigma")
    }
    kept = {
        "catalogue_row": rows[whole],
        "offset": np.array([offset for offset, _ in written], dtype=np.int64),
        "crc32c": np.array([crc for _, crc in written], dtype=np.uint32),
        "sky_sigma": joined["sky_sigma"][whole],
        "stamp_sigma": joined["stamp_sigma"][whole],
    }
    rejected = {"catalogue_row": rows[~whole], "covered": joined["covered"][~whole]}
    return ShardResult(entry, kept, rejected, pieces[0][1].origin)


def _json(row: dict[str, Any]) -> bytes:
    clean = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
    return json.dumps(clean, separators=(",", ":")).encode()
