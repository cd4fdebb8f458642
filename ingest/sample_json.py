"""The JSON text that goes with each sample of a tar: who and where it is, and what a user of the shard alone needs.

All other columns are in `samples.parquet` only.
"""

import json
import math
from typing import Any

import pyarrow as pa

_COLUMNS = ("objid", "run", "rerun", "camcol", "field", "ra", "dec", "thing_id", "ebv_sfd", "specz")
_BY_BAND = ("extinction", "psf_fwhm")


def sample_json(table: pa.Table, bands: str) -> list[bytes]:
    """One text a row, of those of the columns that the table has; a number that is not finite is null."""
    wanted = (*_COLUMNS, *(f"{name}_{band}" for name in _BY_BAND for band in bands))
    chosen = table.select([name for name in wanted if name in table.column_names])
    return [
        json.dumps({name: _plain(value) for name, value in row.items()}, separators=(",", ":")).encode()
        for row in chosen.to_pylist()
    ]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
