"""Labels from another table: Galaxy Zoo votes, redshifts, any columns, joined by objid or by position.

Every column of the label table becomes a column of the catalogue, except its own objid, ra, dec, run, camcol and field,
which the catalogue has for every object. A column that the catalogue has already (names are matched without case or
underscores) fills only the values that are missing there. In a label table, too, -9999 is missing and `z` is a band: a
redshift is `specz` or `redshift`, so rename a redshift that is called z.

An object takes one row: by position the nearest of several candidates (of rows at the same place the first of the
file), by objid the first of the file. One row may serve several objects: a galaxy observed many times. Both are
counted.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .catalog import REQUIRED, Catalog, blank_missing, cast_column, cast_known, rename_known
from .errors import IngestError
from .tables import read_table

SEPARATION = "label_separation_arcsec"
_LARGEST_RADIUS_ARCSEC = 3600.0
_BLOCK = 1_000_000  # objects matched at a time, so that memory stays bounded

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelJoin:
    """How a label table was joined, and how many rows took part."""

    file: str  # its name, without a folder
    how: str  # "objid" or "position"
    match_radius_arcsec: float | None
    rows: int
    rows_unusable: int  # by position: without one; by objid: without one
    objects: int
    objects_unusable: int  # likewise
    objects_matched: int
    objects_ambiguous: int  # more than one row would have matched
    rows_shared: int  # matched by more than one object

    def as_dict(self) -> dict[str, Any]:
        """What dataset.json keeps."""
        return asdict(self)

    def __str__(self) -> str:
        by = "objid" if self.how == "objid" else f"position within {self.match_radius_arcsec:g} arcsec"
        chosen, lacks = ("first", "objid") if self.how == "objid" else ("nearest", "position")
        return (
            f"labels of {self.file} by {by}: {self.objects_matched} of {self.objects} objects have one; "
            f"{self.objects_ambiguous} had several candidates and took the {chosen}; {self.rows_shared} of "
            f"{self.rows} rows serve several objects; without a {lacks}: {self.rows_unusable} rows, "
            f"{self.objects_unusable} objects"
        )


@dataclass(frozen=True, slots=True)
class _Match:
    """Which row of the label table each object takes."""

    rows: Rows  # (object,), -1 for none
    candidates: Rows  # (object,) how many rows would have matched
    separation_arcsec: Floats | None  # (object,), NaN for none; by position only
    rows_unusable: int
    objects_unusable: int


def join_labels(catalog: Catalog, path: Path, match_radius_arcsec: float | None) -> tuple[Catalog, LabelJoin]:
    """The catalogue with the columns of the table at ``path``; unmatched objects have null there.

    With a radius [arcsec] rows are matched by ``ra`` and ``dec`` [degrees, 0 to 360 and -90 to 90] of both tables, and
    the distance becomes a column ``label_separation_arcsec``; a position outside these ranges, or missing, never
    matches. SDSS against the Galaxy Zoo 2 table of Stripe 82: matches within 2 arcsec are right, and false ones, of
    another galaxy, begin at 5. Without a radius rows are matched by ``objid``, as integers.

    IngestError where the table cannot be read, has no columns to match by, a column of another type than the
    catalogue's, or where nothing matches.
    """
    if match_radius_arcsec is not None and not 0 < match_radius_arcsec <= _LARGEST_RADIUS_ARCSEC:
        raise IngestError(f"--match-radius: expected arcsec above 0, up to 3600, got {match_radius_arcsec}")
    labels = _read_labels(path, catalog, ("objid",) if match_radius_arcsec is None else ("ra", "dec"))
    if match_radius_arcsec is None:
        match = _by_objid(catalog, labels, path)
    else:
        match = _by_position(catalog, labels, path, match_radius_arcsec)
    table = _add_columns(catalog, labels, match.rows, path)
    if match.separation_arcsec is not None:
        table = table.append_column(SEPARATION, pa.array(match.separation_arcsec, from_pandas=True))
    used = np.bincount(match.rows[match.rows >= 0], minlength=labels.num_rows)
    joined = LabelJoin(
        file=path.name,
        how="objid" if match_radius_arcsec is None else "position",
        match_radius_arcsec=match_radius_arcsec,
        rows=labels.num_rows,
        rows_unusable=match.rows_unusable,
        objects=len(catalog),
        objects_unusable=match.objects_unusable,
        objects_matched=int((match.rows >= 0).sum()),
        objects_ambiguous=int((match.candidates > 1).sum()),
        rows_shared=int((used > 1).sum()),
    )
    return replace(catalog, table=table), joined


def _read_labels(path: Path, catalog: Catalog, keys: tuple[str, ...]) -> pa.Table:
    """The label table without those columns that the catalogue has for every object, but for the ``keys``."""
    if not path.is_file():
        raise IngestError(f"{path}: there is no such file; check --labels")
    labels = rename_known(read_table(path), path, catalog.table.column_names)
    if labels.num_rows == 0:
        raise IngestError(f"{path}: the label table has no rows; expected at least one")
    unused = [name for name in labels.column_names if name in REQUIRED and name not in keys]
    return blank_missing(cast_known(labels.drop_columns(unused), path))


def _by_objid(catalog: Catalog, labels: pa.Table, path: Path) -> _Match:
    if "objid" not in labels.column_names:
        raise IngestError(f"{path}: expected a column objid, found none; give --match-radius to match by position")
    usable = np.flatnonzero(labels["objid"].is_valid().to_numpy())
    identities = np.asarray(labels["objid"].drop_null().to_numpy())
    known, first, times = np.unique(identities, return_index=True, return_counts=True)
    wanted = np.asarray(catalog.table["objid"].to_numpy())
    place = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    hit = known[place] == wanted if len(known) else np.zeros(len(wanted), dtype=bool)
    if not hit.any():
        raise IngestError(
            f"{path}: none of its {labels.num_rows} rows has an objid of the catalogue (other releases number anew); "
            "give --match-radius to match by position"
        )
    rows, candidates = np.full(len(wanted), -1), np.zeros(len(wanted), dtype=np.int64)
    rows[hit] = usable[first[place[hit]]]
    candidates[hit] = times[place[hit]]
    return _Match(rows, candidates, None, labels.num_rows - len(usable), 0)


def _by_position(catalog: Catalog, labels: pa.Table, path: Path, radius_arcsec: float) -> _Match:
    for name in ("ra", "dec"):
        if name not in labels.column_names:
            raise IngestError(f"{path}: expected columns ra and dec in degrees, found no {name}; rename or add it")
    usable, places = _positions(labels)
    good, objects = _positions(catalog.table)
    rows, candidates = np.full(len(catalog), -1), np.zeros(len(catalog), dtype=np.int64)
    separation = np.full(len(catalog), np.nan)
    if len(usable) and len(good):
        place, candidates[good], separation[good] = _nearest(places, objects, radius_arcsec)
        rows[good] = np.where(place >= 0, usable[place], -1)
    if not (rows >= 0).any():
        raise IngestError(
            f"{path}: no object lies within {radius_arcsec:g} arcsec of one of its {len(usable)} positions; "
            "check that ra and dec are degrees, or widen --match-radius"
        )
    return _Match(rows, candidates, separation, labels.num_rows - len(usable), len(catalog) - len(good))


def _nearest(places: Floats, objects: Floats, radius_arcsec: float) -> tuple[Rows, Rows, Floats]:
    """For each object (object, ra dec): its nearest place or -1, how many are within the radius, and its distance."""
    from scipy.spatial import cKDTree

    # Of places at one position the tree may return any: it gets the first of each, and another tree counts them all.
    distinct = np.sort(np.unique(places, axis=0, return_index=True)[1])
    nearest = cKDTree(_unit_vectors(places[distinct]))
    counting = nearest if len(distinct) == len(places) else cKDTree(_unit_vectors(places))
    chord = 2 * np.sin(np.deg2rad(radius_arcsec / 3600) / 2)
    found, candidates = np.full(len(objects), -1), np.zeros(len(objects), dtype=np.int64)
    separation = np.full(len(objects), np.nan)
    for begin in range(0, len(objects), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        vectors = _unit_vectors(objects[block])
        # One query excludes its bound, the other includes it.
        distance, place = nearest.query(vectors, distance_upper_bound=np.nextafter(chord, np.inf))
        hit = np.isfinite(distance)
        found[block][hit] = distinct[place[hit]]
        separation[block][hit] = np.rad2deg(2 * np.arcsin(distance[hit] / 2)) * 3600
        candidates[block] = counting.query_ball_point(vectors, chord, return_length=True)
    return found, candidates, separation


def _positions(table: pa.Table) -> tuple[Rows, Floats]:
    """The rows that have a position, and their positions (row, ra dec) in degrees."""
    ra, dec = (np.asarray(table[name].fill_null(np.nan).to_numpy()) for name in ("ra", "dec"))
    rows = np.flatnonzero((ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90))  # false for NaN
    return rows, np.stack([ra[rows], dec[rows]], axis=1)


def _unit_vectors(positions: Floats) -> Floats:
    """(row, xyz) on the unit sphere; distances between them are chords."""
    ra, dec = np.deg2rad(positions).T
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _add_columns(catalog: Catalog, labels: pa.Table, rows: Rows, path: Path) -> pa.Table:
    table = catalog.table
    if SEPARATION in (*table.column_names, *labels.column_names):
        raise IngestError(f"{path}: a column {SEPARATION} is there already, expected none; rename it")
    take = pa.array(rows, mask=rows < 0)
    for name in labels.column_names:
        if name in REQUIRED:
            continue
        taken = labels[name].take(take)
        if name not in table.column_names:
            table = table.append_column(name, taken)
        else:
            filled = _fill(table[name], taken, name, path)
            table = table.set_column(table.column_names.index(name), name, filled)
    return table


def _fill(mine: pa.ChunkedArray, taken: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """``mine`` with ``taken`` where it is null or NaN."""
    if pa.types.is_null(mine.type):
        return taken
    if _family(taken.type) not in ("nothing", _family(mine.type)):
        raise IngestError(
            f"{path}: column {name} holds {taken.type}, the catalogue's holds {mine.type}; rename or convert one"
        )
    return pc.if_else(pc.is_null(mine, nan_is_null=True), cast_column(taken, mine.type, name, path), mine)


def _family(kind: pa.DataType) -> str:
    if pa.types.is_null(kind):
        return "nothing"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
