"""From catalogue to shards: which objects of which fields go into which file. A pure function.

Objects are ordered by run, camcol, rerun, field and objid. A strip is some consecutive fields of one camcol of a run,
and what one task cuts: the frames between its fields are read once. A shard is a keyed-random set of strips, so that
every shard is a fair mix of the sky. Which strips there are, and where they go, depends on the catalogue alone.

Everything is arrays: a catalogue of ten million rows costs some hundred bytes a row, not an object a row.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding.hashing import mix

from .catalog import Catalog
from .framefile import Field
from .register import REVISION

REASONS = ("ebv_sfd missing", "ra or dec is not a position", "objid repeated", "no such run, camcol or field")

# Fields of a strip. At each end inside a run, three of the 14 bzip2 blocks of the field beyond are unpacked again: 0.43
# of a field's work for every cut, 2.1 % for strips of 20. Small surveys get shorter ones, so that there is work for
# every core: at most 8.6 %.
LONGEST_STRIP, SHORTEST_STRIP = 20, 5
_STRIPS_WANTED = 24

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """The objects to cut out of one field, as rows of the catalogue."""

    field: Field
    rows: Rows


@dataclass(frozen=True, slots=True)
class StripPlan:
    """What one task cuts: fields in order. Its number is its place in the dataset."""

    number: int
    fields: tuple[FieldPlan, ...]

    @property
    def rows(self) -> Rows:
        """All objects, in the order of the dataset."""
        return np.concatenate([part.rows for part in self.fields])


@dataclass(frozen=True, slots=True)
class Plan:
    """All strips in the order of the dataset, their shards, and the rows that cannot become samples."""

    rows: Rows  # of the catalogue, field by field
    fields: pa.Table  # run, camcol, field, rerun; first, last: range of `rows`
    strip_fields: Rows  # (strip, 2): range of `fields`
    shard_strips: Rows  # (shard, 2): range of strips
    reject_rows: Rows  # ascending
    reject_reasons: npt.NDArray[np.int8]  # of `REASONS`
    digest: str

    @property
    def shards(self) -> int:
        """How many there are."""
        return len(self.shard_strips)

    def reasons(self) -> list[str]:
        """Why each of `reject_rows` gives no sample."""
        return [REASONS[code] for code in self.reject_reasons]

    def strips(self, shard: int) -> Iterator[StripPlan]:
        """The strips of a shard, in order."""
        for number in range(*self.shard_strips[shard].tolist()):
            yield self.strip(number)

    def strip(self, number: int) -> StripPlan:
        """One strip."""
        begin, end = self.strip_fields[number].tolist()
        parts = self.fields.slice(begin, end - begin).to_pylist()
        return StripPlan(
            number,
            tuple(
                FieldPlan(Field(f["run"], f["camcol"], f["field"], f["rerun"]), self.rows[f["first"] : f["last"]])
                for f in parts
            ),
        )

    def objects_of_shards(self) -> Rows:
        """How many objects each shard has, samples or not."""
        first, last = (self.fields[name].to_numpy() for name in ("first", "last"))
        of_strips = last[self.strip_fields[:, 1] - 1] - first[self.strip_fields[:, 0]]
        return np.add.reduceat(of_strips, self.shard_strips[:, 0])


def make_plan(catalog: Catalog, ebv_sfd: npt.NDArray[np.float64], samples_per_shard: int) -> Plan:
    """Plan a dataset. Of usable rows with the same objid the first counts, the others are rejects.

    A shard gets about ``samples_per_shard`` objects, in whole strips. Without a usable row there is no shard.
    """
    rows, reject_rows, reasons = _usable(catalog, ebv_sfd)
    rows, fields = _fields(catalog, rows)
    strips = _strips(fields)
    strips = strips[_shuffled(fields, strips[:, 0])]
    first, last = (fields[name].to_numpy() for name in ("first", "last"))
    shards = _shards(last[strips[:, 1] - 1] - first[strips[:, 0]], samples_per_shard)
    rejects = np.stack([catalog.table["objid"].to_numpy()[reject_rows], reasons])
    digest = _digest(catalog, rows, fields, strips, shards, rejects[:, np.lexsort(rejects)])
    return Plan(rows, fields, strips, shards, reject_rows, reasons, digest)


def _usable(catalog: Catalog, ebv_sfd: npt.NDArray[np.float64]) -> tuple[Rows, Rows, npt.NDArray[np.int8]]:
    """Rows that may become samples; the others, and why."""
    good = -1
    reasons = np.full(len(catalog), good, dtype=np.int8)
    ra, dec = (catalog.table[name].fill_null(np.nan).to_numpy() for name in ("ra", "dec"))
    on_sky = (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90)  # false for NaN
    reasons[~np.isfinite(ebv_sfd)] = 0
    reasons[~on_sky] = 1
    run, camcol, field = (catalog.table[name].to_numpy() for name in ("run", "camcol", "field"))
    reasons[(run < 0) | (camcol < 1) | (camcol > 6) | (field < 0)] = 3
    rows = np.flatnonzero(reasons == good)
    objid = catalog.table["objid"].to_numpy()[rows]
    order = np.argsort(objid, kind="stable")
    again = np.zeros(len(rows), dtype=bool)
    again[order[1:]] = objid[order[1:]] == objid[order[:-1]]
    reasons[rows[again]] = 2
    rejects = np.flatnonzero(reasons != good)
    return rows[~again], rejects, reasons[rejects]


def _fields(catalog: Catalog, rows: Rows) -> tuple[Rows, pa.Table]:
    """Rows sorted field by field, and a table of the fields."""
    rerun = catalog.table["rerun"].combine_chunks().dictionary_encode()
    names = np.asarray(rerun.dictionary.to_pylist(), dtype=str)
    rank = np.argsort(np.argsort(names))
    code = rank[rerun.indices.to_numpy()].astype(np.int32)
    columns = {name: catalog.table[name].to_numpy() for name in ("run", "camcol", "field")} | {"rerun": code}
    columns = {name: values[rows] for name, values in columns.items()}
    objid = catalog.table["objid"].to_numpy()[rows]
    order = np.lexsort((objid, columns["field"], columns["rerun"], columns["camcol"], columns["run"]))
    columns = {name: values[order] for name, values in columns.items()}
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.any([values[1:] != values[:-1] for values in columns.values()], axis=0)
    first = np.flatnonzero(new)
    table = {name: values[first] for name, values in columns.items()}
    table["rerun"] = np.sort(names)[table["rerun"]]
    last = np.append(first[1:], len(order)) if len(first) else first
    return rows[order], pa.table({**table, "first": first, "last": last})


def _strips(fields: pa.Table) -> Rows:
    """Cut the fields of every camcol of every run evenly: (strip, 2), ranges of fields."""
    if not fields.num_rows:
        return np.empty((0, 2), dtype=np.int64)
    longest = int(np.clip(fields.num_rows // _STRIPS_WANTED, SHORTEST_STRIP, LONGEST_STRIP))
    key = [np.asarray(fields[name]) for name in ("run", "camcol", "rerun")]
    new = np.any([values[1:] != values[:-1] for values in key], axis=0)
    ends = [0, *(np.flatnonzero(new) + 1).tolist(), fields.num_rows]
    cuts = [
        np.linspace(begin, end, -(-(end - begin) // longest) + 1).round().astype(np.int64)
        for begin, end in pairwise(ends)
    ]
    return np.concatenate([np.stack([cut[:-1], cut[1:]], axis=1) for cut in cuts])


def _shuffled(fields: pa.Table, first: Rows) -> Rows:
    """An order of strips keyed by what their first field is: the same strip, the same key in any catalogue."""
    key = np.zeros(len(first), dtype=np.uint64)
    for name in ("run", "camcol", "field"):
        key = mix(key ^ mix(np.asarray(fields[name])[first].astype(np.uint64)))
    return np.argsort(key, kind="stable")


def _shards(objects: Rows, samples_per_shard: int) -> Rows:
    """Cut the row of strips at about equal numbers of objects: (shard, 2), ranges of strips."""
    if not len(objects):
        return np.empty((0, 2), dtype=np.int64)
    wanted = max(1, round(objects.sum() / samples_per_shard))
    middle = np.cumsum(objects) - objects / 2
    shard = np.minimum(middle * wanted // objects.sum(), wanted - 1)
    begin = np.flatnonzero(np.append(True, shard[1:] != shard[:-1]))
    return np.stack([begin, np.append(begin[1:], len(objects))], axis=1)


def _digest(catalog: Catalog, rows: Rows, fields: pa.Table, *arrays: npt.NDArray[np.generic]) -> str:
    """What decides the pixels and their places: objects, positions, fields, strips, shards, rejects, the resampling."""
    text = hashlib.sha256(f"plan 1, resampling {REVISION}\n".encode())
    for name in ("objid", "ra", "dec"):
        text.update(np.ascontiguousarray(catalog.table[name].to_numpy()[rows]).tobytes())
    text.update("\n".join(fields["rerun"].to_pylist()).encode())
    for array in (*(fields[name].to_numpy() for name in ("run", "camcol", "field", "first", "last")), *arrays):
        text.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return text.hexdigest()
