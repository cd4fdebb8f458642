"""Write the shards of one dataset anew, in another container or with pixels of another encoding, on all cores.

Every pixel is checked as it is read. What comes out depends on the source alone, not on the number of threads. The
tables' files, the manifest and the folder are the business of `convert`.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .atomic import atomic_file
from .dataset import Dataset
from .encoding import Images, Indices, Stored, decode, encode, step_columns
from .loss import LossMeter, LossPart
from .manifest import Manifest, ShardEntry
from .records import Records, TarRecords, ZarrRecords, json_length, pixel_checksum, shard_number
from .sample_json import sample_json
from .samples import Samples
from .writer import file_entry

_BLOCK = 64  # images that a thread holds at a time


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard of the source."""

    number: int  # that its name has
    begin: int  # index of its first sample
    table: pa.Table  # its part of samples.parquet

    @property
    def objid(self) -> Indices:
        """Identifier of each sample: (n,)."""
        return np.asarray(self.table["objid"].to_numpy())

    @property
    def blocks(self) -> Iterator[slice]:
        """Its samples, a few at a time."""
        count = self.table.num_rows
        return (slice(first, min(first + _BLOCK, count)) for first in range(0, count, _BLOCK))


@dataclass(frozen=True, slots=True)
class _Written:
    """A shard that was written."""

    entry: ShardEntry
    table: pa.Table
    losses: list[LossPart]


@dataclass(slots=True)
class Rewriter:
    """Shards of ``source`` as the manifest ``target`` wants them, in ``folder``.

    ``meter`` measures what the new encoding loses; None leaves stored pixels as they are. After `tables` has ended,
    ``entries`` and ``losses`` are those of all shards, in their order.
    """

    source: Dataset
    target: Manifest
    folder: Path
    meter: LossMeter | None
    advance: Callable[[int], None]  # hears from several threads how many more bytes of pixels are done
    entries: list[ShardEntry] = field(default_factory=list)
    losses: list[LossPart] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)  # nobody waits for the shards under way

    def tables(self, samples: Samples) -> Generator[pa.Table, None, None]:
        """Write all shards; yield the table of each one's samples."""
        threads = len(os.sched_getaffinity(0))
        running: deque[Future[_Written]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="rewrite")
        try:
            for shard in self._shards(samples):
                running.append(pool.submit(self._write, shard))
                if len(running) > threads:  # no more tables in memory than keep all threads at work
                    yield self._note(running.popleft().result())
            while running:
                yield self._note(running.popleft().result())
        finally:
            self._ended.set()
            pool.shutdown(cancel_futures=True)

    def _shards(self, samples: Samples) -> Iterator[_Shard]:
        batches = samples.batches(samples.column_names)
        held, begin = pa.Table.from_batches([next(batches)]), 0
        for entry in self.source.manifest.shards:
            while held.num_rows < entry.samples:
                held = pa.concat_tables([held, pa.Table.from_batches([next(batches)])])
            yield _Shard(shard_number(entry.name), begin, held[: entry.samples].combine_chunks())
            held, begin = held[entry.samples :], begin + entry.samples

    def _note(self, done: _Written) -> pa.Table:
        self.entries.append(done.entry)
        self.losses += done.losses
        return done.table

    def _write(self, shard: _Shard) -> _Written:
        """Steps come first: the text beside an image tells them, and all texts of a shard have one length."""
        table, losses = self._with_steps(shard)
        texts, records = self._layout(table)
        places = self._places(shard)
        name = records.shard_name(shard.number)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        crc32c: list[int] = []
        with atomic_file(path) as file:
            for some in self._blocks(shard):
                keys = shard.objid[some].tolist()
                for key, pixels, text in zip(keys, self._stored(shard, some), texts[some], strict=True):
                    file.write(records.encode(str(key), pixels.tobytes(), text))
                    crc32c.append(pixel_checksum(pixels))
                self.advance(len(keys) * self.source.pixel_bytes)
            file.write(records.trailer(places.tolist()))
        whole = file_entry(self.folder, name)
        json_bytes = records.json_bytes if isinstance(records, TarRecords) else 0
        entry = ShardEntry(whole.name, whole.bytes, whole.sha256, len(crc32c), json_bytes)
        return _Written(entry, self._placed(table, records, shard.number, places, crc32c), losses)

    def _with_steps(self, shard: _Shard) -> tuple[pa.Table, list[LossPart]]:
        """The table with the new encoding's steps, and what it loses."""
        if self.meter is None:
            return shard.table, []
        bands = self.source.bands
        table = shard.table
        if self.source.manifest.encoding.name == "int16":
            table = table.drop_columns(list(step_columns(bands)))
        losses, steps = [], []
        for some in self._blocks(shard) if self.target.encoding.is_lossy else ():
            images, objid = self._images(shard, some), shard.objid[some]
            stored, step = encode(images, objid, self.target.encoding, bands)
            losses.append(self.meter.part(images, decode(stored, objid, step), _indices(shard, some)))
            if step is not None:
                steps.append(step)
        if steps:
            values = np.concatenate(steps)
            for band, name in enumerate(step_columns(bands)):
                table = table.append_column(name, pa.array(np.ascontiguousarray(values[:, band])))
        return table, losses

    def _blocks(self, shard: _Shard) -> Iterator[slice]:
        """The blocks of a shard, for as long as somebody waits for them."""
        for some in shard.blocks:
            if self._ended.is_set():
                raise CancelledError
            yield some

    def _stored(self, shard: _Shard, some: slice) -> Stored:
        """Pixels as the new dataset stores them: (n, pixel) or (n, band, y, x)."""
        if self.meter is None:
            indices = _indices(shard, some)
            stored = np.empty((len(indices), self.source.pixel_bytes), dtype=np.uint8)
            self.source.read_into(indices, stored)
            return stored
        images = self._images(shard, some)
        return encode(images, shard.objid[some], self.target.encoding, self.source.bands)[0]

    def _images(self, shard: _Shard, some: slice) -> Images:
        return self.source.images(_indices(shard, some))

    def _layout(self, table: pa.Table) -> tuple[Sequence[bytes], Records]:
        """The text of each sample, and the layout of the new shard; Zarr has no texts."""
        target = self.target
        if target.container == ZarrRecords.container:
            empty = [b""] * table.num_rows
            return empty, ZarrRecords(target.image_shape, target.slots_per_shard, target.encoding.dtype)
        texts = sample_json(table, target.bands)
        return texts, TarRecords(target.image_shape, json_length(texts), target.encoding.dtype)

    def _places(self, shard: _Shard) -> Indices:
        """The place of each sample in the new shard; between two of Zarr, places of rejects stay empty."""
        if self.source.manifest.container == self.target.container == ZarrRecords.container:
            return np.asarray(shard.table["row"].to_numpy()) - shard.number * self.target.slots_per_shard
        return np.arange(shard.table.num_rows)

    def _placed(
        self, table: pa.Table, records: Records, number: int, places: Indices, crc32c: Sequence[int]
    ) -> pa.Table:
        """The table with the places and checksums of the new shard."""
        columns: dict[str, npt.NDArray[np.generic]] = {
            "row": number * self.target.slots_per_shard + places,  # a tar has no slots: its rows count its records
            "offset": records.pixel_offset + np.arange(len(places)) * records.record_bytes,
            "crc32c": np.array(crc32c, dtype=np.uint32),
        }
        for name, values in columns.items():
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(values).cast(table.schema.field(name).type))
        return table


def _indices(shard: _Shard, some: slice) -> Indices:
    return np.arange(shard.begin + some.start, shard.begin + some.stop)
