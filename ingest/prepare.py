"""What an ingest job is asked for, and its catalogue made ready: read, labelled, selected, dereddened, planned."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from sharding.hashing import file_digest
from sharding.records import Records, TarRecords, ZarrRecords, json_length

from .catalog import Catalog, read_catalog
from .errors import IngestError
from .extinction import Reddening, reddening
from .labels import LabelJoin, join_labels
from .plan import Plan, make_plan
from .register import SIZE
from .selection import SelectionConfig, Step, select
from .sources import SourceConfig, open_source
from .strip import PER_BAND, CutConfig
from .tables import SDSS_BANDS
from .version import made_by
from .workfolder import holds_dataset

IMAGE_SHAPE = (len(SDSS_BANDS), SIZE, SIZE)
Format = Literal["webdataset", "zarr"]

_WRITTEN = ("shard", "row", "offset", "crc32c", "reason", *(f"{name}_{b}" for name in PER_BAND for b in SDSS_BANDS))


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """What to ingest, and where to."""

    catalog: Path
    source: SourceConfig
    out: Path
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    labels: Path | None = None
    match_radius_arcsec: float | None = None  # join labels by position within this; None: by objid
    format: Format = "webdataset"
    samples_per_shard: int = 2048
    cut: CutConfig = field(default_factory=CutConfig)
    address: str | None = None  # of a Ray cluster; None starts a local one
    workers: int | None = None  # tasks at a time; None takes one a core

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise IngestError(f"--samples-per-shard: expected at least 1, got {self.samples_per_shard}")
        if self.workers is not None and self.workers < 1:
            raise IngestError(f"--workers: expected at least 1, got {self.workers}")
        if not 0 < self.cut.min_coverage <= 1:
            raise IngestError(f"--min-coverage: expected more than 0 and at most 1, got {self.cut.min_coverage}")
        if self.match_radius_arcsec is not None and self.labels is None:
            raise IngestError("--match-radius: it joins the table of --labels, which was not given; give both")
        if not holds_dataset(self.out):  # else it is for `ingest.repair`
            check_out(self.out)


def check_out(out: Path) -> None:
    """IngestError unless a dataset can be made at ``out``: nothing is there, and the folder above can be written."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise IngestError(f"{out}: already there; remove it or choose another --out")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise IngestError(f"{out}: expected a folder to write in at {above}, got none; choose another --out")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A catalogue ready to be cut, and how it came about."""

    catalog: Catalog
    rows_read: int
    steps: list[Step]
    labels: LabelJoin | None
    reddening: Reddening
    plan: Plan
    digest: str  # of all that decides the bytes of the dataset, but for the frames

    def records(self, config: IngestConfig, texts: list[bytes]) -> Records:
        """The layout of the shard whose labels are ``texts``."""
        if config.format == ZarrRecords.container:
            return ZarrRecords(IMAGE_SHAPE, self.slots_per_shard)
        return TarRecords(IMAGE_SHAPE, json_length(texts))

    @property
    def slots_per_shard(self) -> int:
        """Places of a Zarr shard: as many as the largest shard has objects."""
        return int(self.plan.objects_of_shards().max())


def prepare(config: IngestConfig) -> Prepared:
    """Read the catalogue, join labels, select, derive E(B-V) and plan. Reads no frame."""
    open_source(config.source)  # a wrong folder or URL is better told now than by the first task
    given = read_catalog(config.catalog)
    catalog, steps = select(given, config.selection)
    join = None
    if config.labels is not None:  # after the selection: members of a family share positions
        _check_columns(catalog, config.catalog)
        catalog, join = join_labels(catalog, config.labels, config.match_radius_arcsec)
    _check_columns(catalog, config.labels or config.catalog)
    dust = reddening(catalog.array("ebv_sfd"), catalog.per_band("extinction"), str(config.catalog))
    plan = make_plan(catalog, dust.ebv_sfd, config.samples_per_shard)
    if not plan.shards:
        raise IngestError(f"{config.catalog}: no row can become a sample ({plan.reasons()[0]}...); check its columns")
    table = catalog.table
    if "ebv_sfd" in table.column_names:
        table = table.drop_columns(["ebv_sfd"])
    table = table.append_column("ebv_sfd", pa.array(dust.ebv_sfd, from_pandas=True)).combine_chunks()
    ready = Catalog(catalog.path, table, catalog.is_photoobj)
    return Prepared(ready, len(given), steps, join, dust, plan, _digest(config, plan))


def _check_columns(catalog: Catalog, where: Path) -> None:
    for name in _WRITTEN:
        if name in catalog.table.column_names:
            raise IngestError(f"{where}: a column is called {name}, which Skymill writes itself; rename it")


def _digest(config: IngestConfig, plan: Plan) -> str:
    tables = [file_digest(path) for path in (config.catalog, config.labels) if path is not None]
    settings = [made_by(), config.format, config.cut, config.selection, config.match_radius_arcsec, plan.digest]
    return hashlib.sha256(repr((tables, settings)).encode()).hexdigest()
