"""Read a table of any format that a catalogue comes in, every column kept, as Arrow."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sharding.errors import one_line
from sharding.tables import find_column, read_parquet

from .errors import IngestError

SDSS_BANDS = "ugriz"


def read_table(path: Path) -> pa.Table:
    """Read CSV (also .csv.gz), Parquet or FITS, recognised by the file's name."""
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".fits": _read_fits, ".fit": _read_fits}
    name = path.name.removesuffix(".gz")
    reader = readers.get(Path(name).suffix.lower())
    if reader is None:
        raise IngestError(f"{path}: a catalogue is .csv, .parquet or .fits, got {path.suffix or 'no suffix'}")
    try:
        return reader(path)
    except IngestError:
        raise
    except FileNotFoundError as err:
        raise IngestError(f"{path}: there is no such file; check the path") from err
    except (OSError, ValueError, TypeError, pa.ArrowException) as err:
        raise IngestError(f"{path}: not a readable {Path(name).suffix} table ({one_line(err)})") from err


def _read_csv(path: Path) -> pa.Table:
    """A specObjID above 2**63 would make its column one of rounded floats: it is then kept as text."""
    table = pa.csv.read_csv(path)
    found = find_column(table, "specobjid")
    if found is None or not pa.types.is_floating(table.schema.field(found).type):
        return table
    return pa.csv.read_csv(path, convert_options=pa.csv.ConvertOptions(column_types={found: pa.string()}))


def _read_parquet(path: Path) -> pa.Table:
    names = pa.parquet.read_schema(path).names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise IngestError(f"{path}: several columns are called {twice[0]}; keep one")
    return read_parquet(path)


def _read_fits(path: Path) -> pa.Table:
    """The first binary table of a FITS file; see `expand` for its array columns."""
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
        if not tables or tables[0].data is None:
            raise IngestError(f"{path}: expected a FITS binary table with rows, found none")
        data = tables[0].data
        columns: dict[str, Any] = {}
        for name in data.names:
            columns |= expand(name.lower() if name.isupper() else name, np.asarray(data[name]))
    return pa.table(columns)


def expand(name: str, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Arrow columns of one FITS column: five values a row are one column a band (u, g, r, i, z), others are lists."""
    if values.dtype.kind in "SU":
        return {name: pa.array([str(text).strip() for text in values.astype(str)])}
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("=")))
    if values.ndim == 1:
        return {name: pa.array(values)}
    flat = values.reshape(len(values), -1)
    if flat.shape[1] == len(SDSS_BANDS):
        return {f"{name}_{band}": pa.array(flat[:, number]) for number, band in enumerate(SDSS_BANDS)}
    return {name: pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])}
