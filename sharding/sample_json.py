"""The JSON text that goes with each sample of a tar: who and where it is, and what a user of the shard alone needs.

All other columns are in `samples.parquet` only.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

_COLUMNS = ("objid", "run", "rerun", "camcol", "field", "ra", "dec", "thing_id", "ebv_sfd", "specz")
_BY_BAND = ("extinction", "psf_fwhm", "step")  # steps: of pixels stored as int16, without which they say nothing


def json_columns(table: pa.Table, bands: Sequence[str]) -> pa.Table:
    """Those of the columns of the text that the table has."""
    wanted = (*_COLUMNS, *(f"{name}_{band}" for name in _BY_BAND for band in bands))
    return table.select([name for name in wanted if name in table.column_names])


def sample_json(table: pa.Table, bands: Sequence[str]) -> list[bytes]:
    """One text a row, of `json_columns`; a number that is not finite is null."""
    return [
        json.dumps({name: _plain(value) for name, value in row.items()}, separators=(",", ":")).encode()
        for row in json_columns(table, bands).to_pylist()
    ]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
