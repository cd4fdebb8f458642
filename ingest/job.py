"""The ingest job: cut strips, join shards, publish the dataset. It goes on from what an earlier start left whole."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sharding import Dataset
from sharding.records import Records, TarRecords, file_bytes
from sharding.sample_json import json_columns, sample_json

from .errors import IngestError
from .join import entry_path, join_shard, read_entry
from .plan import StripPlan
from .pool import Pool, ray_pool
from .prepare import IngestConfig, Prepared, check_out
from .publish import publish
from .sources import open_source
from .strip import Objects, Piece, cut_strip
from .tables import SDSS_BANDS
from .workfolder import WorkFolder, opened

_HEARTBEAT_S = 1.0


@dataclass(slots=True)
class Progress:
    """How far a job is. ``*_before`` were whole on disk when it started."""

    fields_total: int
    objects: int  # rejects of the plan included
    fields: int = 0
    fields_before: int = 0
    galaxies_before: int = 0
    samples: int = 0
    rejects: int = 0
    frames: int = 0  # unpacked whole, in this start
    read_bytes: int = 0  # of frame files, in this start
    unpacked_bytes: int = 0
    again_frames: int = 0
    again_bytes: int = 0
    began_s: float = field(default_factory=time.monotonic)  # when Ray was ready

    def add(self, summary: dict[str, Any], *, before: bool) -> None:
        """Count a strip."""
        self.fields += summary["fields"]
        self.samples += summary["samples"]
        self.rejects += summary["rejects"]
        if before:
            self.fields_before += summary["fields"]
            self.galaxies_before += summary["samples"] + summary["rejects"]
            return
        self.read_bytes += sum(size for _, size, _ in summary["inputs"])
        for name in ("frames", "unpacked_bytes", "again_frames", "again_bytes"):
            setattr(self, name, getattr(self, name) + summary[name])

    @property
    def galaxies(self) -> int:
        """Samples and rejects."""
        return self.samples + self.rejects

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.began_s

    @property
    def seconds_left(self) -> float | None:
        """By the rate so far; None before the first strip."""
        here = self.fields - self.fields_before
        return self.seconds / here * (self.fields_total - self.fields) if here else None


def write_dataset(
    config: IngestConfig,
    work: Prepared,
    progress: Callable[[Progress], None] = lambda state: None,
    shards: Iterable[int] | None = None,
) -> Dataset:
    """Cut the prepared catalogue, shard after shard in the order of ``shards`` (default: ascending).

    The bytes do not depend on that order, on the number of workers, or on where an earlier start ended. The dataset
    appears at ``config.out`` whole, or not at all. ``progress`` is called about once a second.
    """
    state = Progress(work.plan.fields.num_rows, len(work.catalog), rejects=len(work.plan.reject_rows))
    progress(state)
    check_out(config.out)
    with opened(config.out, work.digest) as folder:
        if folder.is_finished:  # an earlier start was killed just before its last step
            folder.publish()
        else:
            wanted = range(work.plan.shards) if shards is None else shards
            write_shards(config, work, folder, wanted, state, progress)
            publish(folder, config, work)
            progress(state)
    return Dataset.open(config.out)


def write_shards(
    config: IngestConfig,
    work: Prepared,
    folder: WorkFolder,
    shards: Iterable[int],
    state: Progress,
    progress: Callable[[Progress], None],
) -> None:
    """Cut and join those of ``shards`` that are not whole in the work folder yet; without one, no Ray is started."""
    job = _Job(config, work, folder, state)
    tasks = job.missing(shards)
    first = next(tasks, None)
    if first is not None:
        with ray_pool(config.address, config.workers) as pool:
            state.began_s = time.monotonic()  # Ray's own start is not ours to count
            job.run(pool, first, tasks, progress)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A strip to cut."""

    shard: int
    plan: StripPlan
    objects: Objects
    records: Records

    def __str__(self) -> str:
        first, last = self.plan.fields[0].field, self.plan.fields[-1].field
        return f"run {first.run} camcol {first.camcol} fields {first.field} to {last.field}"


@dataclass(frozen=True, slots=True)
class _Join:
    """A shard to join."""

    shard: int
    records: Records

    def __str__(self) -> str:
        return f"shard {self.shard}"


@dataclass(slots=True)
class _Job:
    """What is still to do of a job."""

    config: IngestConfig
    work: Prepared
    folder: WorkFolder
    state: Progress
    uncut: dict[int, int] = field(default_factory=dict)  # shard -> strips that are not cut yet

    def missing(self, shards: Iterable[int]) -> Iterator[_Cut | _Join]:
        """Strips that are not whole on disk, and shards whose strips all are; counts what is."""
        for shard in shards:
            strips = list(self.work.plan.strips(shard))
            if self._is_joined(shard, strips):
                continue
            rows = np.concatenate([strip.rows for strip in strips])
            texts = sample_json(json_columns(self.work.catalog.table, SDSS_BANDS).take(rows), SDSS_BANDS)
            records = self.work.records(self.config, texts)
            cuts: list[_Cut | _Join] = list(self._cuts(shard, strips, texts, records))
            self.uncut[shard] = len(cuts)
            yield from cuts or [_Join(shard, records)]

    def _is_joined(self, shard: int, strips: list[StripPlan]) -> bool:
        """Whether a shard is whole on disk; counts it then. One with a faulty frame is not: that may be mended now."""
        if read_entry(self.folder.entries, self.folder.dataset, shard) is None:
            return False
        summaries = [self.folder.piece(strip.number).read_summary() for strip in strips]
        if not all(summary is not None and not summary["faulty"] for summary in summaries):
            entry_path(self.folder.entries, shard).unlink()
            return False
        for summary in summaries:
            self.state.add(summary or {}, before=True)
        return True

    def _cuts(self, shard: int, strips: list[StripPlan], texts: list[bytes], records: Records) -> Iterator[_Cut]:
        begin = 0
        for strip in strips:
            rows = strip.rows
            summary = self.folder.piece(strip.number).read_summary()
            if summary and not summary["faulty"] and _is_whole(self.folder.piece(strip.number), summary, records):
                self.state.add(summary, before=True)
            else:
                chosen = self.work.catalog.table.select(["objid", "ra", "dec"]).take(rows)  # not the whole columns
                objid, ra, dec = (np.array(column.to_numpy()) for column in chosen.columns)
                yield _Cut(shard, strip, Objects(objid, ra, dec, texts[begin : begin + len(rows)]), records)
            begin += len(rows)

    def run(
        self, pool: Pool, first: _Cut | _Join, rest: Iterator[_Cut | _Join], progress: Callable[[Progress], None]
    ) -> None:
        """Do the tasks. A shard is joined as soon as its last strip is cut, before more strips are begun."""
        joins: deque[_Cut | _Join] = deque([first])
        while True:
            while pool.free:
                task = joins.popleft() if joins else next(rest, None)
                if task is None:
                    break
                self._put(pool, task)
            if not len(pool):
                return
            for task, result in pool.results(_HEARTBEAT_S):
                if isinstance(task, _Cut):
                    self._check_missing(task, result)
                    self.state.add(result, before=False)
                    self.uncut[task.shard] -= 1
                    if not self.uncut[task.shard]:
                        joins.append(_Join(task.shard, task.records))
            progress(self.state)

    def _check_missing(self, task: _Cut, summary: dict[str, Any]) -> None:
        """What only one node misses is no fault of the survey: a folder is not mounted there. Its objects are none."""
        if not summary["missing"] or self.config.source.is_url:
            return
        source = open_source(self.config.source)
        for part in (task.plan.fields[number] for number in summary["missing"]):
            if all(source.read(part.field, band) is not None for band in SDSS_BANDS):
                raise IngestError(
                    f"{source.where}: node {summary['host']} does not see {part.field.file_name('*')} there, and this "
                    "one does; mount the folder on all nodes, then start again to go on"
                )

    def _put(self, pool: Pool, task: _Cut | _Join) -> None:
        folder = self.folder
        if isinstance(task, _Cut):
            piece = folder.piece(task.plan.number)
            arguments = (task.plan, task.objects, task.records, self.config.source, self.config.cut, piece)
            pool.put(task, cut_strip, *arguments, folder.scratch)
        else:
            pieces = [folder.piece(strip.number) for strip in self.work.plan.strips(task.shard)]
            json_bytes = task.records.json_bytes if isinstance(task.records, TarRecords) else 0
            where = (folder.dataset, folder.entries, folder.scratch)
            pool.put(task, join_shard, task.shard, pieces, task.records, json_bytes, *where)


def _is_whole(piece: Piece, summary: dict[str, Any], records: Records) -> bool:
    """Whether a piece's records are there; they are removed once their shard is whole."""
    try:
        size = piece.records.stat().st_size
    except OSError:
        return False
    return bool(size == file_bytes(records, summary["samples"]) - records.trailer_bytes)
