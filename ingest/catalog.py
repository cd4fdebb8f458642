"""A catalogue with the names and types that the rest of ingest relies on.

Column names are matched without case or underscores; those that Skymill knows get its spelling, all others stay as they
are and become labels. `z` is a band: a redshift is called `specz` or `redshift`.

Units are the survey's own and are not converted: fluxes are nanomaggies (3.631 microjansky), positions are degrees, and
magnitudes of SDSS are asinh magnitudes (Lupton, Gunn and Szalay 1999, AJ 118, 1406), which stay finite where a flux is
0 or negative: compare faint objects by flux.

SDSS writes -9999 for what was not measured. A table that `read_catalog` returns has null there: in floating columns,
and in `specz` and `thing_id` of any type. Columns with several numbers a row (profiles, apertures) are not touched.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sharding.errors import one_line
from sharding.tables import canonical, find_column

from .errors import IngestError
from .tables import SDSS_BANDS, read_table

REQUIRED = {
    "objid": pa.int64(),
    "ra": pa.float64(),
    "dec": pa.float64(),
    "run": pa.int32(),
    "camcol": pa.int32(),
    "field": pa.int32(),
}
OPTIONAL = {
    "rerun": pa.string(),
    "thing_id": pa.int64(),
    "ebv_sfd": pa.float64(),
    "specz": pa.float64(),
    **{f"{name}_{band}": pa.float64() for name in ("extinction", "psf_fwhm") for band in SDSS_BANDS},
}
DEFAULT_RERUN = "301"
MISSING = -9999
_CANONICAL = {canonical(name): name for name in REQUIRED | OPTIONAL}


@dataclass(frozen=True, slots=True)
class Catalog:
    """A table whose known columns have Skymill's names and types, and what kind of catalogue it came from."""

    path: Path
    table: pa.Table
    is_photoobj: bool

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def array(self, name: str) -> npt.NDArray[np.float64] | None:
        """A numeric column as float64 with NaN for missing (null or -9999), or None where there is none."""
        found = find_column(self.table, name)
        if found is None:
            return None
        values = np.array(cast_column(self.table[found], pa.float64(), found, self.path).fill_null(np.nan).to_numpy())
        values[values == MISSING] = np.nan
        return values

    def need(self, name: str) -> npt.NDArray[np.float64]:
        """Like `array`, for a column that the work cannot do without."""
        values = self.array(name)
        if values is None:
            raise IngestError(
                f"{self.path}: expected a column {name}, found none; add it or drop the cut that needs it"
            )
        return values

    def per_band(self, prefix: str) -> npt.NDArray[np.float64] | None:
        """The columns ``{prefix}_{u..z}`` side by side: (object, ugriz), or None where one is missing."""
        names = [f"{prefix}_{band}" for band in SDSS_BANDS]
        if any(find_column(self.table, name) is None for name in names):
            return None
        return np.stack([self.need(name) for name in names], axis=1)


def read_catalog(path: Path) -> Catalog:
    """Read and normalise a catalogue; IngestError for a missing column, a wrong type or an empty table."""
    table = read_table(path)
    names = {canonical(name) for name in table.column_names}
    is_photoobj = {"objctype", "mode", "thingid", "petromagr"} <= names
    table = rename_known(table, path)
    for name in REQUIRED:
        if name not in table.column_names:
            raise IngestError(
                f"{path}: expected a column {name}, got {one_line(', '.join(table.column_names))}; add it"
            )
    if table.num_rows == 0:
        raise IngestError(f"{path}: the catalogue has no rows; expected at least one object")
    table = blank_missing(cast_known(table, path))
    if "rerun" not in table.column_names:
        table = table.append_column("rerun", pa.repeat(DEFAULT_RERUN, table.num_rows))
    for name in (*REQUIRED, "rerun"):
        if name not in ("ra", "dec") and table[name].null_count:
            raise IngestError(f"{path}: column {name} has {table[name].null_count} missing values; drop those rows")
    for rerun in pc.unique(table["rerun"]).to_pylist():
        if not re.fullmatch("[0-9A-Za-z]+", rerun):  # it becomes a folder's name
            raise IngestError(f"{path}: expected a rerun of letters and digits, got '{one_line(rerun)}'; mend it")
    return Catalog(path, table, is_photoobj)


def rename_known(table: pa.Table, path: Path, others: Iterable[str] = ()) -> pa.Table:
    """Give columns that Skymill knows its spelling, and those that mean one of ``others`` that one's."""
    known = {canonical(name): name for name in others} | _CANONICAL
    present = {canonical(name) for name in table.column_names}
    if "specz" not in present:
        known["redshift"] = "specz"
    names = [known.get(canonical(name), name) for name in table.column_names]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        name = min(twice)
        given = [old for old, new in zip(table.column_names, names, strict=True) if new == name]
        raise IngestError(f"{path}: columns {one_line(' and '.join(given))} both mean {name}; keep one")
    return table.rename_columns(names)


def cast_known(table: pa.Table, path: Path) -> pa.Table:
    """Give columns that Skymill knows their types; the others stay as they are."""
    for name, kind in (REQUIRED | OPTIONAL).items():
        if name in table.column_names:
            table = _replace(table, name, cast_column(table[name], kind, name, path))
    return table


def blank_missing(table: pa.Table) -> pa.Table:
    """Put null where -9999 stands for missing (see the module). Columns without a -9999 are not copied."""
    for name in table.column_names:
        column = table[name]
        # float16 cannot hold -9999, so it needs no look.
        if name in ("specz", "thing_id") or column.type in (pa.float32(), pa.float64()):
            missing = pc.equal(column, pa.scalar(MISSING, column.type))
            if pc.any(missing).as_py():
                table = _replace(table, name, pc.if_else(missing, pa.scalar(None, column.type), column))
    return table


def cast_column(column: pa.ChunkedArray, kind: pa.DataType, name: str, path: Path) -> pa.ChunkedArray:
    """Cast without loss: a float is taken for an integer only where it is one, below 2**53."""
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.utf8_trim_whitespace(column)
        if pa.types.is_integer(kind) and pa.types.is_floating(column.type):
            _check_exact(column, name, path)
        return column if column.type == kind else column.cast(kind)
    except pa.ArrowException as err:
        raise IngestError(f"{path}: column {name} cannot be read as {kind} ({one_line(err)})") from err


def _replace(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _check_exact(column: pa.ChunkedArray, name: str, path: Path) -> None:
    for chunk in column.chunks:
        values = np.asarray(chunk.drop_null().to_numpy(zero_copy_only=False))
        if not ((values == np.floor(values)) & (np.abs(values) < 2**53)).all():
            raise IngestError(
                f"{path}: column {name} holds floats, expected integers: a float rounds identifiers; export it anew"
            )
