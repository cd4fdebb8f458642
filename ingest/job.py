"""The ingest job: plan, cut shards on Ray, publish the dataset."""

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from sharding import Dataset
from sharding.manifest import Manifest
from sharding.writer import finish

from .catalog import Catalog, read_catalog
from .errors import IngestError
from .extinction import Reddening, reddening
from .frames import find_frame
from .plan import Plan, ShardPlan, make_plan
from .register import SCALE_ARCSEC, SIZE
from .selection import SelectionConfig, Step, select
from .shard import ShardResult, label_columns, make_shard
from .stamps import missing_frame
from .tables import SDSS_BANDS

COVERAGE = "every pixel of every band is covered by the whole 6 x 6 kernel; other objects are rejects"


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """What to ingest, and where to."""

    catalog: Path
    frames: Path
    out: Path
    selection: SelectionConfig
    samples_per_shard: int = 512
    address: str | None = None  # of a Ray cluster; None starts a local one
    workers: int | None = None  # processes of a local Ray; None takes one a core

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise IngestError(f"--samples-per-shard: expected at least 1, got {self.samples_per_shard}")
        if self.workers is not None and self.workers < 1:
            raise IngestError(f"--workers: expected at least 1, got {self.workers}")
        if not self.frames.is_dir():
            raise IngestError(f"{self.frames}: expected a folder of frames, found none; check --frames")
        if self.out.exists() and not (self.out.is_dir() and not any(self.out.iterdir())):
            raise IngestError(f"{self.out}: already there; remove it or choose another --out")
        above = next(folder for folder in self.out.absolute().parents if folder.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise IngestError(f"{self.out}: expected a folder to write in at {above}, got none; choose another --out")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A catalogue ready to be cut, and how it came about."""

    catalog: Catalog
    rows_read: int
    steps: list[Step]
    reddening: Reddening
    plan: Plan


def prepare(config: IngestConfig) -> Prepared:
    """Read the catalogue, select, derive E(B-V), plan, and see that every frame is there. Reads no frame."""
    given = read_catalog(config.catalog)
    catalog, steps = select(given, config.selection)
    dust = reddening(catalog.array("ebv_sfd"), catalog.per_band("extinction"), str(config.catalog))
    plan = make_plan(catalog, dust.ebv_sfd, config.samples_per_shard)
    if not plan.shards:
        raise IngestError(f"{config.catalog}: no row can become a sample ({next(iter(plan.rejects.values()))}...)")
    for shard in plan.shards:
        for part in shard.fields:
            for band in SDSS_BANDS:
                if find_frame(config.frames, part.field, band) is None:
                    raise IngestError(missing_frame(config.frames, part.field, band))
    table = catalog.table
    if "ebv_sfd" in table.column_names:
        table = table.drop_columns(["ebv_sfd"])
    table = table.append_column("ebv_sfd", pa.array(dust.ebv_sfd, from_pandas=True))
    return Prepared(Catalog(catalog.path, table, catalog.is_photoobj), len(given), steps, dust, plan)


def write_dataset(config: IngestConfig, work: Prepared, progress: Callable[[int, int], None]) -> Dataset:
    """Cut the prepared catalogue into ``OUT.partial``, then rename it: the dataset appears whole, or not at all.

    ``progress`` hears (fields done, fields in all).
    """
    total = sum(len(shard.fields) for shard in work.plan.shards)
    partial = config.out.with_name(config.out.name + ".partial")
    _clear(partial)
    try:
        (partial / "shards").mkdir(parents=True)
        results: dict[int, ShardResult] = {}
        done = 0
        for shard, result in _run_on_ray(config, work, partial):
            results[shard.number] = result
            done += len(shard.fields)
            progress(done, total)
        _publish(partial, work, [results[number] for number in sorted(results)])
        if config.out.is_dir():
            config.out.rmdir()  # empty: checked at the start, and rmdir refuses anything else
        partial.replace(config.out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Dataset.open(config.out)


def _clear(partial: Path) -> None:
    """Remove what a killed run left; refuse to remove anything else that happens to have the name."""
    if not partial.exists():
        return
    ours = re.compile(r"shards|(samples\.parquet|rejects\.parquet|dataset\.json)(\.\d+\.partial)?")
    if not partial.is_dir() or not all(ours.fullmatch(path.name) for path in partial.iterdir()):
        raise IngestError(f"{partial}: in the way, and not left by an ingest; move it or choose another --out")
    shutil.rmtree(partial)


def _run_on_ray(config: IngestConfig, work: Prepared, out: Path) -> Iterator[tuple[ShardPlan, ShardResult]]:
    """Yield shards as they finish. Two tasks a core wait at most, so that the driver's memory stays bounded."""
    import ray

    _start_ray(ray, config)
    try:
        task = ray.remote(num_cpus=1, max_retries=3)(_attempt)
        frames, target = config.frames.absolute(), out.absolute()
        bound = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting: dict[Any, ShardPlan] = {}
        todo = iter(work.plan.shards)
        while True:
            for shard in todo:
                waiting[task.remote(shard, _labels(work, shard), frames, target)] = shard
                if len(waiting) >= bound:
                    break
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting), num_returns=1)
            result = ray.get(ready[0])
            if isinstance(result, IngestError):
                raise result
            yield waiting.pop(ready[0]), result
    finally:
        ray.shutdown()


def _start_ray(ray: Any, config: IngestConfig) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = config.address or os.environ.get("RAY_ADDRESS")
    common = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address:
            _check_reachable(address)
            ray.init(address=address, **common)
        else:
            ray.init(address="local", num_cpus=config.workers or os.cpu_count(), include_dashboard=False, **common)
    except OSError as err:  # ConnectionError is one
        raise IngestError(f"--address {address}: no Ray cluster answers ({err}); start one or leave it out") from err


def _check_reachable(address: str) -> None:
    """Ray itself waits for minutes for a head node that is not there."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()


def _attempt(plan: ShardPlan, labels: pa.Table, frames: Path, out: Path) -> ShardResult | IngestError:
    """A user's error is a result: Ray must not retry it, and its text must stay one line."""
    try:
        return make_shard(plan, labels, frames, out)
    except IngestError as err:
        return err
    except OSError as err:
        return IngestError(f"{out / plan.name}: {err}; see to the disk and start again")


def _labels(work: Prepared, shard: ShardPlan) -> pa.Table:
    rows = np.concatenate([part.rows for part in shard.fields])
    table = work.catalog.table
    return table.select([name for name in label_columns() if name in table.column_names]).take(rows)


def _publish(folder: Path, work: Prepared, results: list[ShardResult]) -> None:
    made = [result for result in results if result.entry is not None]
    if not made:
        raise IngestError(f"{work.catalog.path}: no object is wholly covered by its frames; nothing to write")
    samples = _samples_table(work, made)
    rejects = _rejects_table(work, results)
    manifest = Manifest(
        survey=made[0].origin,
        bands=tuple(SDSS_BANDS),
        image_shape=(len(SDSS_BANDS), SIZE, SIZE),
        pixel_scale_arcsec=SCALE_ARCSEC,
        noise=_noise(made),
        counts={
            "catalogue_rows": work.rows_read,
            "objects": len(work.catalog),
            "samples": samples.num_rows,
            "rejects": rejects.num_rows,
        },
        selection=[{"condition": step.condition, "removed": step.removed} for step in work.steps],
        extinction={"source": work.reddening.source, "law": work.reddening.law},
        coverage=COVERAGE,
        plan=work.plan.digest,
        shards=tuple(result.entry for result in made if result.entry is not None),
        files=(),
        made_by=f"skymill {_version()}",
    )
    finish(folder, manifest, samples, rejects)


def _samples_table(work: Prepared, made: list[ShardResult]) -> pa.Table:
    kept = {name: np.concatenate([result.kept[name] for result in made]) for name in made[0].kept}
    counts = [len(result.kept["catalogue_row"]) for result in made]
    columns: dict[str, Any] = {
        "shard": np.repeat(np.arange(len(made), dtype=np.int32), counts),
        "row": np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
        "offset": kept["offset"],
        "crc32c": kept["crc32c"],
    }
    for name in ("sky_sigma", "stamp_sigma"):
        columns |= {f"{name}_{band}": kept[name][:, number] for number, band in enumerate(SDSS_BANDS)}
    return _append(work.catalog.table.take(kept["catalogue_row"]), columns, work.catalog.path)


def _rejects_table(work: Prepared, results: list[ShardResult]) -> pa.Table:
    covered = np.concatenate([result.rejected["covered"] for result in results])
    uncovered = np.concatenate([result.rejected["catalogue_row"] for result in results])
    early = np.array(sorted(work.plan.rejects), dtype=np.int64)
    columns: dict[str, Any] = {
        "reason": ["stamp not wholly covered"] * len(uncovered) + [work.plan.rejects[row] for row in early]
    }
    unknown = np.full((len(early), len(SDSS_BANDS)), np.nan)
    fraction = np.concatenate([covered, unknown])
    columns |= {f"covered_fraction_{band}": fraction[:, number] for number, band in enumerate(SDSS_BANDS)}
    return _append(work.catalog.table.take(np.concatenate([uncovered, early])), columns, work.catalog.path)


def _append(table: pa.Table, columns: dict[str, Any], where: Path) -> pa.Table:
    for name, values in columns.items():
        if name in table.column_names:
            raise IngestError(f"{where}: a column is called {name}, which Skymill writes itself; rename it")
        table = table.append_column(name, pa.array(values, from_pandas=True))
    return table


def _noise(made: list[ShardResult]) -> dict[str, dict[str, float]]:
    """Per band, medians over the samples [nanomaggy / pixel]."""
    sky, stamp = (
        np.nanmedian(np.concatenate([result.kept[name] for result in made]), axis=0)
        for name in ("sky_sigma", "stamp_sigma")
    )
    return {
        band: {"sky_sigma": float(sky[n]), "stamp_sigma": float(stamp[n]), "mad": float(stamp[n] / 1.4826)}
        for n, band in enumerate(SDSS_BANDS)
    }


def _version() -> str:
    try:
        return version("skymill")
    except PackageNotFoundError:
        return "from a checkout"
