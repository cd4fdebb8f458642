"""Ingest of `fields`, timed: one strip in this process, as a worker does it, or a whole job on a local Ray."""

import math
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ingest.job import Progress, write_dataset
from ingest.join import join_shard
from ingest.prepare import IMAGE_SHAPE, Format, IngestConfig, prepare
from ingest.sources import SourceConfig, open_source
from ingest.strip import Objects, Piece, cut_strip
from ingest.tables import SDSS_BANDS
from sharding.records import TarRecords
from sharding.sample_json import sample_json

from ..fields import Fields
from ..memory import watched_workers

IMAGE_BYTES = 4 * math.prod(IMAGE_SHAPE)
_LOOK_S = 0.01

Float64s = npt.NDArray[np.float64]


class Strip:
    """The first fields as one strip of a plan, to be cut to a shard of its own. In the run, more fields may follow."""

    def __init__(self, fields: Fields, density: int, number: int, container: Format = "webdataset") -> None:
        self._config = _config(fields, density, number, fields.frames.with_name("never-made"), container=container)
        work = prepare(self._config)
        self._plan = work.plan.strip(0)
        rows = self._plan.rows
        if len(self._plan.fields) != number:
            raise ValueError(f"expected a number of fields that the plan leaves in one strip, got {number}")
        texts = sample_json(work.catalog.table.take(rows), SDSS_BANDS)
        objid, ra, dec = (work.catalog.table[name].to_numpy()[rows] for name in ("objid", "ra", "dec"))
        self.objects = Objects(objid, ra, dec, texts)
        self._records = work.records(self._config, texts)

    def paths(self) -> list[Path]:
        """The frames of its fields, the five of a field one after another."""
        source = open_source(self._config.source)
        found = [source.read(part.field, band) for part in self._plan.fields for band in SDSS_BANDS]
        return [Path(file.where) for file in found if file is not None]

    def first_field(self) -> tuple[list[Path], Float64s, Float64s]:
        """The frames and the objects' ra and dec [deg] of the first of its fields."""
        here = slice(len(self._plan.fields[0].rows))
        return self.paths()[: len(SDSS_BANDS)], self.objects.ra_deg[here], self.objects.dec_deg[here]

    def cut(self) -> int:
        """Cut it and join its shard, on disk; returns how many frames it has."""
        config = self._config
        with tempfile.TemporaryDirectory(dir=config.out.parent) as folder:
            scratch = Path(folder)
            piece, dataset, entries = Piece(scratch / "pieces", number=0), scratch / "dataset", scratch / "entries"
            for made in (piece.folder, entries):
                made.mkdir()
            summary = cut_strip(self._plan, self.objects, self._records, config.source, config.cut, piece, scratch)
            json_bytes = self._records.json_bytes if isinstance(self._records, TarRecords) else 0
            join_shard(0, [piece], self._records, json_bytes, dataset, entries, scratch)
        return int(summary["frames"])


@dataclass(frozen=True, slots=True)
class JobRun:
    """What a whole job did."""

    frames: int
    galaxies: int  # samples and rejects
    again_bytes: int  # unpacked a second time, at the ends of strips
    unpacked_bytes: int
    start_s: float  # from when Ray was ready until the first worker had begun its strip
    seconds: float  # from then until the dataset was whole
    worker_peak_mb: float | None
    worker_growth: float | None  # see WorkerMemory


def run_job(fields: Fields, density: int, number: int, workers: int) -> JobRun:
    """Ingest the first ``number`` fields on a local Ray; the dataset is removed."""
    with tempfile.TemporaryDirectory(dir=fields.frames.parent) as folder:
        config = _config(fields, density, number, Path(folder) / "dataset", workers)
        seen: list[Progress] = []
        with watched_workers() as memory, _first_file(Path(folder) / "dataset.partial" / "scratch") as begun:
            write_dataset(config, prepare(config), seen.append)
            ended = time.monotonic()
    state = seen[-1]
    return JobRun(
        frames=state.frames,
        galaxies=state.galaxies,
        again_bytes=state.again_bytes,
        unpacked_bytes=state.unpacked_bytes,
        start_s=begun[0] - state.began_s,
        seconds=ended - begun[0],
        worker_peak_mb=memory.peak_mb,
        worker_growth=memory.growth,
    )


@contextmanager
def _first_file(folder: Path) -> Iterator[list[float]]:
    """Watch a job's folder of files that are being written; the list gets the time at which a piece is first there."""
    begun: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not begun and not ended.wait(_LOOK_S):
            if any(folder.glob("*.part.*")):
                begun.append(time.monotonic())

    thread = threading.Thread(target=watch, name="watch for the first piece", daemon=True)
    thread.start()
    try:
        yield begun
    finally:
        ended.set()
        thread.join()


def _config(
    fields: Fields, density: int, number: int, out: Path, workers: int | None = None, container: Format = "webdataset"
) -> IngestConfig:
    source = SourceConfig(root=str(fields.frames))
    return IngestConfig(catalog=fields.catalog(density, number), source=source, out=out, workers=workers,
                        format=container)  # fmt: skip
