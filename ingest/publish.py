"""The last part of an ingest job: tables from the pieces, a shard at a time, then the manifest, then the name."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding.manifest import INPUTS, PERCENTILES, REJECTS, SAMPLES, Manifest, ShardEntry
from sharding.records import TarRecords, ZarrRecords
from sharding.writer import finish, write_batches
from sharding.zarr_metadata import write_zarr_metadata

from .errors import IngestError
from .join import read_entry
from .prepare import IMAGE_SHAPE, IngestConfig, Prepared
from .register import REVISION, SCALE_ARCSEC
from .strip import PER_BAND, CutConfig
from .tables import SDSS_BANDS
from .version import made_by
from .workfolder import WorkFolder

_SAMPLED = 200_000  # samples at most that percentiles are taken of: every n-th

#: What the measured columns of samples.parquet mean, one a band each.
COLUMNS = {
    "covered_fraction": "part of the stamp's pixels that frames cover",
    "sky_sigma": "white-equivalent noise of the native frame within 53 pixels of the object, from differences of "
    "neighbouring pixels, clipped at 3 sigma [nanomaggy / pixel]",
    "stamp_sigma": "1.4826 x median absolute deviation of the stamp [nanomaggy / pixel]; resampling smooths, so it is "
    "0.79 to 1.0 of sky_sigma and the stamp's noise is correlated",
    "psf_fwhm": "width of the point-spread function as the catalogue gives it [arcsec]; photoObj's PSF_FWHM is 2.3548 "
    "sqrt(M_RR_CC_PSF / 2) x 0.396, from adaptive moments: the width at half maximum is 1 to 7 % smaller, and "
    "psf_width of psField and photoField larger",
}

REGISTRATION = f"Lanczos-3 through an affine fit of each object's WCS, revision {REVISION}"


def publish(folder: WorkFolder, config: IngestConfig, work: Prepared) -> None:
    """Write everything but the shards, which are whole, and give the dataset its name."""
    entries = [_entry(folder, shard) for shard in range(work.plan.shards)]
    shards = tuple(entry for entry in entries if entry.samples)
    if not shards:
        reason = _first_reason(folder)
        folder.remove()  # there is nothing in it to go on from
        raise IngestError(f"{config.catalog}: no object became a sample ({reason}...); check frames and catalogue")
    tables = _Tables(folder, config, work, entries)
    target, scratch = folder.dataset, folder.scratch
    write_batches(target / SAMPLES, tables.samples(), scratch)
    write_batches(target / REJECTS, tables.rejects(), scratch)
    inputs, survey = _inputs(folder, len(work.plan.strip_fields))
    write_batches(target / INPUTS, [inputs], scratch)
    names = [SAMPLES, REJECTS, INPUTS]
    manifest = _manifest(config, work, tables, shards=shards, inputs=inputs, survey=survey)
    if config.format == ZarrRecords.container:
        names += write_zarr_metadata(target, manifest, tables.valid(), scratch)
    finish(target, manifest, names, scratch)
    folder.publish()


class _Tables:
    """Tables of the dataset, made from the catalogue and the pieces, a shard at a time."""

    def __init__(self, folder: WorkFolder, config: IngestConfig, work: Prepared, entries: list[ShardEntry]) -> None:
        self._folder, self._config, self._work, self._entries = folder, config, work, entries
        self.sample_count = sum(entry.samples for entry in entries)
        self.reject_count = len(work.plan.reject_rows)
        self._measured: dict[str, list[npt.NDArray[np.float64]]] = {}

    def samples(self) -> Iterator[pa.Table]:
        """Samples of each shard in turn; notes what `distributions` needs."""
        number, seen = 0, 0
        every = max(1, self.sample_count // _SAMPLED)
        for shard, entry in enumerate(self._entries):
            if not entry.samples:
                continue
            rows, objects, kept = self._shard(shard)
            columns = self._places(shard, number, entry, kept)
            columns["crc32c"] = objects["crc32c"].take(kept)
            columns |= {name: objects[name].take(kept) for name in objects.column_names if name.startswith(PER_BAND)}
            table = _append(self._work.catalog.table.take(rows[kept]), columns)
            self._note(table, np.arange(-seen % every, table.num_rows, every))
            number, seen = number + 1, seen + table.num_rows
            yield table

    def _places(self, shard: int, number: int, entry: ShardEntry, kept: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Where each sample of a shard lies."""
        place = np.arange(entry.samples)
        if self._config.format == ZarrRecords.container:
            records: Any = ZarrRecords(IMAGE_SHAPE, self._work.slots_per_shard)
            row = shard * self._work.slots_per_shard + kept
        else:
            records, row = TarRecords(IMAGE_SHAPE, entry.json_bytes), place
        offset = records.pixel_offset + place * records.record_bytes
        return {"shard": np.full(entry.samples, number, dtype=np.int32), "row": row, "offset": offset}

    def rejects(self) -> Iterator[pa.Table]:
        """Rejects of each shard, then those that the plan left out."""
        per_band = [f"{name}_{band}" for name in PER_BAND for band in SDSS_BANDS]
        for shard in range(len(self._entries)):
            rows, objects, kept = self._shard(shard)
            left = np.setdiff1d(np.arange(len(rows)), kept)
            self.reject_count += len(left)
            columns = {name: objects[name].take(left) for name in ("reason", *per_band)}
            yield _append(self._work.catalog.table.take(rows[left]), columns)
        plan = self._work.plan
        unknown = {name: pa.nulls(len(plan.reject_rows), pa.float64()) for name in per_band}
        yield _append(
            self._work.catalog.table.take(plan.reject_rows), {"reason": pa.array(plan.reasons(), pa.string())} | unknown
        )

    def valid(self) -> npt.NDArray[np.bool_]:
        """Which slots of the Zarr array hold a sample."""
        slots = self._work.slots_per_shard
        valid = np.zeros(len(self._entries) * slots, dtype=bool)
        for shard in range(len(self._entries)):
            valid[shard * slots + self._shard(shard)[2]] = True
        return valid

    def _shard(self, shard: int) -> tuple[npt.NDArray[np.int64], pa.Table, npt.NDArray[np.int64]]:
        """Catalogue rows of a shard's objects, what became of them, and which are samples."""
        strips = list(self._work.plan.strips(shard))
        objects = pa.concat_tables([self._folder.piece(strip.number).read_objects() for strip in strips])
        rows = np.concatenate([strip.rows for strip in strips])
        return rows, objects.combine_chunks(), np.flatnonzero(objects["kept"].to_numpy())

    def _note(self, table: pa.Table, some: npt.NDArray[np.int64]) -> None:
        for name in (*PER_BAND, "psf_fwhm"):
            if f"{name}_r" in table.column_names:
                chosen = [table[f"{name}_{band}"].take(some).fill_null(np.nan).to_numpy() for band in SDSS_BANDS]
                self._measured.setdefault(name, []).append(np.stack(chosen, axis=1))

    def distributions(self) -> dict[str, dict[str, list[float]]]:
        """`PERCENTILES` of what was measured, by band."""
        return {name: band_percentiles(np.concatenate(parts)) for name, parts in self._measured.items()}


def band_percentiles(values: npt.NDArray[np.float64]) -> dict[str, list[float]]:
    """`PERCENTILES` of (sample, band), by band; a band without a number is left out."""
    return {
        band: np.nanpercentile(values[:, number], PERCENTILES).tolist()
        for number, band in enumerate(SDSS_BANDS)
        if np.isfinite(values[:, number]).any()
    }


def settings(config: IngestConfig, work: Prepared) -> dict[str, Any]:
    """What `dataset.json` says of a job whatever its frames hold: a dataset of other settings is not of this job."""
    return {
        "selection": [{"condition": step.condition, "removed": step.removed} for step in work.steps],
        "extinction": {"source": work.reddening.source, "law": work.reddening.law},
        "coverage": coverage_rule(config.cut),
        "registration": REGISTRATION,
        "labels": [work.labels.as_dict()] if work.labels else [],
        "plan": work.plan.digest,
        "container": config.format,
        "slots_per_shard": work.slots_per_shard if config.format == ZarrRecords.container else 0,
    }


def _manifest(
    config: IngestConfig,
    work: Prepared,
    tables: _Tables,
    *,
    shards: tuple[ShardEntry, ...],
    inputs: pa.Table,
    survey: str,
) -> Manifest:
    distributions = tables.distributions()
    return Manifest(
        survey=survey,
        bands=tuple(SDSS_BANDS),
        image_shape=IMAGE_SHAPE,
        pixel_scale_arcsec=SCALE_ARCSEC,
        noise=_noise(distributions),
        counts={
            "catalogue_rows": work.rows_read,
            "objects": len(work.catalog),
            "samples": tables.sample_count,
            "rejects": tables.reject_count,
        },
        inputs={"frames": inputs.num_rows, "bytes": int(np.sum(inputs["bytes"].to_numpy()))},
        distributions=distributions,
        shards=shards,
        files=(),
        columns={name: text for name, text in COLUMNS.items() if name in distributions},
        made_by=made_by(),
        **settings(config, work),
    )


def coverage_rule(cut: CutConfig) -> str:
    """What becomes of pixels that no frame covers, in words."""
    covered = "a pixel is covered where the whole 6 x 6 kernel lies in its field's frame or a neighbour's of the run"
    if cut.min_coverage == 1:
        return f"{covered}; a stamp that is not covered whole in every band is a reject"
    return f"{covered}; below {cut.min_coverage:g} in any band a stamp is a reject, else what is not covered is 0"


def _noise(distributions: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Per band, medians over the samples [nanomaggy / pixel]."""
    middle = PERCENTILES.index(50)
    noise = {}
    for band in SDSS_BANDS:
        sky, stamp = (distributions[name].get(band, [np.nan] * 5)[middle] for name in ("sky_sigma", "stamp_sigma"))
        noise[band] = {"sky_sigma": sky, "stamp_sigma": stamp, "mad": stamp / 1.4826}
    return noise


def _inputs(folder: WorkFolder, strips: int) -> tuple[pa.Table, str]:
    """The frames that were read (name, bytes, crc32c, by name), and the survey that made them.

    IngestError where one changed while the job ran.
    """
    schema = pa.schema([("name", pa.string()), ("bytes", pa.int64()), ("crc32c", pa.uint32())])
    parts, surveys = [schema.empty_table()], {""}
    for number in range(strips):
        summary = folder.piece(number).read_summary() or {"inputs": [], "survey": ""}
        rows = [dict(zip(schema.names, found, strict=True)) for found in summary["inputs"]]
        parts.append(pa.Table.from_pylist(rows, schema=schema))
        surveys.add(summary["survey"])
    table = pa.concat_tables(parts).sort_by([(name, "ascending") for name in schema.names])
    columns = [table[name].to_numpy() for name in schema.names]
    again = np.ones(table.num_rows, dtype=bool)  # the same frame, read for two strips
    for values in columns:
        again[1:] &= values[1:] == values[:-1]
    again[:1] = False
    table, name = table.filter(pa.array(~again)), columns[0][~again]
    if changed := name[1:][name[1:] == name[:-1]].tolist():
        raise IngestError(
            f"{changed[0]}: it changed while the job ran: two readings differ; remove {folder.root} and start again"
        )
    return table, " and ".join(sorted(surveys - {""}))


def _entry(folder: WorkFolder, shard: int) -> ShardEntry:
    entry = read_entry(folder.entries, folder.dataset, shard)
    if entry is None:
        raise IngestError(f"{folder.root}: shard {shard} is no longer whole on disk; start again to go on")
    return entry


def _first_reason(folder: WorkFolder) -> str:
    return str(folder.piece(0).read_objects()["reason"][0])


def _append(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    for name, values in columns.items():
        column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        table = table.append_column(name, column)
    return table
