"""From catalogue to shards: which objects of which fields go into which file. A pure function.

Objects are ordered by run, camcol, field and objid; a shard is a range of whole fields, so each frame is read once.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .catalog import Catalog
from .frames import Field

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """The objects to cut out of one field, as rows of the catalogue."""

    field: Field
    rows: Rows


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One file: whole fields in order."""

    number: int
    fields: tuple[FieldPlan, ...]

    @property
    def name(self) -> str:
        """Where the shard lies in its dataset."""
        return f"shards/{self.number:05d}.tar"


@dataclass(frozen=True, slots=True)
class Plan:
    """All shards, the rows that cannot become samples whatever their frames hold, and a hash of both."""

    shards: tuple[ShardPlan, ...]
    rejects: dict[int, str]  # row of the catalogue -> reason
    digest: str


def make_plan(catalog: Catalog, ebv_sfd: npt.NDArray[np.float64], samples_per_shard: int) -> Plan:
    """Plan a dataset. Of usable rows with the same objid the first counts, the others are rejects."""
    rejects = _hopeless(catalog, ebv_sfd)
    usable = np.setdiff1d(np.arange(len(catalog)), list(rejects))
    fields = list(_fields(catalog, usable)) if len(usable) else []
    shards: list[ShardPlan] = []
    group: list[FieldPlan] = []
    for number, field in enumerate(fields):
        group.append(field)
        if sum(len(f.rows) for f in group) >= samples_per_shard or number == len(fields) - 1:
            shards.append(ShardPlan(len(shards), tuple(group)))
            group = []
    return Plan(tuple(shards), rejects, _digest(catalog, shards, rejects))


def _hopeless(catalog: Catalog, ebv_sfd: npt.NDArray[np.float64]) -> dict[int, str]:
    table = catalog.table
    ra, dec = (np.array(table[name].fill_null(np.nan).to_numpy()) for name in ("ra", "dec"))
    on_sky = (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90)  # false for NaN
    rejects = dict.fromkeys(np.flatnonzero(~np.isfinite(ebv_sfd)).tolist(), "ebv_sfd missing")
    rejects |= dict.fromkeys(np.flatnonzero(~on_sky).tolist(), "ra or dec is not a position")
    good = np.setdiff1d(np.arange(len(catalog)), list(rejects))
    _, first = np.unique(table["objid"].to_numpy()[good], return_index=True)
    return rejects | dict.fromkeys(np.setdiff1d(good, good[first]).tolist(), "objid repeated")


def _fields(catalog: Catalog, rows: Rows) -> Iterator[FieldPlan]:
    table = catalog.table
    run, camcol, field, objid = (table[name].to_numpy()[rows] for name in ("run", "camcol", "field", "objid"))
    rerun = np.asarray(table["rerun"].to_numpy(zero_copy_only=False))[rows].astype(str)
    order = np.lexsort((objid, rerun, field, camcol, run))
    rows = rows[order]
    keys = list(zip(run[order], camcol[order], field[order], rerun[order], strict=True))
    begins = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    for begin, end in zip(begins, [*begins[1:], len(keys)], strict=True):
        run_, camcol_, field_, rerun_ = keys[begin]
        yield FieldPlan(Field(int(run_), int(camcol_), int(field_), str(rerun_)), rows[begin:end])


def _digest(catalog: Catalog, shards: list[ShardPlan], rejects: dict[int, str]) -> str:
    objid = catalog.table["objid"].to_numpy()
    text = hashlib.sha256()
    for shard in shards:
        for part in shard.fields:
            text.update(f"{shard.name} {part.field} {objid[part.rows].tolist()}\n".encode())
    for row in sorted(rejects):
        text.update(f"{objid[row]} {rejects[row]}\n".encode())
    return text.hexdigest()
