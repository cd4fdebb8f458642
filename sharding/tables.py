"""Columns of `samples.parquet`: found without regard to case or underscores, given as NumPy arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import DatasetError

_EXACT_IN_FLOAT = 2**53


def canonical(name: str) -> str:
    """The form under which column names are compared: ``psfFWHM_u`` and ``psf_fwhm_u`` are one."""
    return name.replace("_", "").casefold()


def find_column(table: pa.Table, name: str) -> str | None:
    """The table's own spelling of a column, or None."""
    wanted = canonical(name)
    return next((column for column in table.column_names if canonical(column) == wanted), None)


def to_numpy(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.generic]:
    """A column as an array: floats with NaN for missing, int64, bool, or objects for text.

    An integer column with missing values becomes float64 where that is exact, else DatasetError: an identifier must not
    be rounded.
    """
    if pa.types.is_floating(column.type):
        return np.asarray(column.cast(pa.float64()).fill_null(np.nan).to_numpy())
    if not pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy())
    if column.null_count == 0:
        return np.asarray(column.cast(pa.int64()).to_numpy())
    largest = pc.max(pc.abs(column.cast(pa.int64()))).as_py() or 0
    if largest >= _EXACT_IN_FLOAT:
        raise DatasetError(
            f"column {name}: {column.null_count} values are missing and others exceed 2**53: a float would round them; "
            "read it from Dataset.samples"
        )
    return np.asarray(column.cast(pa.float64()).fill_null(np.nan).to_numpy())


def identifiers(column: pa.ChunkedArray) -> npt.NDArray[np.int64] | None:
    """Identifiers as int64, 0 where there is none; those above its range become the number of the same 64 bits.

    Taken are integers, digits and whole floats; None for anything else. A float may have been rounded: equal ones stay
    equal, and numbers of different spectra differ in bits that a double keeps.
    """
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = pc.utf8_trim_whitespace(column.fill_null("0"))
        text = pc.if_else(pc.equal(text, ""), "0", text)
        if not pc.all(pc.match_substring_regex(text, r"^-?\d{1,20}$")).as_py():
            return None
        return np.array([int(word) % 2**64 for word in text.to_pylist()], dtype=np.uint64).view(np.int64)
    if pa.types.is_floating(column.type):
        values = np.nan_to_num(np.asarray(column.cast(pa.float64()).fill_null(0).to_numpy()))
        if not ((values % 1 == 0) & (np.abs(values) < 2.0**64)).all():
            return None
        unsigned = np.maximum(values, 0).astype(np.uint64).view(np.int64)
        return np.asarray(np.where(values < 0, np.minimum(values, 0).astype(np.int64), unsigned))
    if not pa.types.is_integer(column.type):
        return None
    values = np.asarray(column.fill_null(0).to_numpy())
    return values.view(np.int64) if values.dtype == np.uint64 else values.astype(np.int64)


def read_parquet(source: Path | pa.NativeFile, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, whole or some columns of it.

    Not by `pyarrow.parquet.read_table`, which buffers as much again as the table takes. Bytes in memory are read by
    this thread alone: one of Arrow's that still holds them when the interpreter ends aborts it.
    """
    with pq.ParquetFile(source) as file:
        return file.read(columns, use_threads=isinstance(source, Path))
