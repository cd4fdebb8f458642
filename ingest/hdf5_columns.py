"""Which columns of labels an open HDF5 file of a published layout has, and its values as Arrow columns.

Checks names, shapes, types and lengths; reads no images and opens nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sharding.tables import canonical

from .errors import IngestError
from .hdf5_layouts import Layout, Meaning, recognise

IMAGES = "images"
OBJID = "objid"  # the column that `Layout.identifier` gives

Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """Where a column of labels comes from."""

    name: str
    key: str
    part: int | None  # place along the second axis of the key; None where it has one axis
    above: float | None  # values that are not above this are missing
    type: pa.DataType


@dataclass(frozen=True, slots=True)
class Description:
    """What an HDF5 file holds."""

    layout: Layout
    image_shape: tuple[int, ...]  # band, y, x
    rows: int
    identifier: tuple[str, ...]  # keys of the object's identifier, in the layout's order; empty: the file has none
    columns: tuple[Column, ...]
    left_out: tuple[str, ...]  # keys that are no labels


def describe(file: Any, where: str) -> Description:
    """Look at an open `h5py.File`; IngestError where it is of no published layout."""
    import h5py

    items = {key: file.get(key) for key in sorted(file)}
    images = items.pop(IMAGES, None)
    if not isinstance(images, h5py.Dataset):
        raise IngestError(f"{where}: expected a dataset {IMAGES}, got the keys {', '.join(items) or 'none'}")
    layout = recognise(images.shape, f"{where}: {IMAGES}")
    if images.dtype.kind != "f":
        raise IngestError(f"{where}: {IMAGES}: expected floats [nanomaggy / pixel], got {images.dtype}; convert it")
    columns: list[Column] = []
    left_out: list[str] = []
    for key, item in items.items():
        found = _columns(f"{where}: {key}", key, item, len(images), layout) if isinstance(item, h5py.Dataset) else []
        columns += found
        left_out += [] if found else [key]
    keys = {canonical(column.key): column.key for column in columns if column.part is None}
    identifier = tuple(keys[name] for name in layout.identifier if name in keys)
    complete = identifier if len(identifier) == len(layout.identifier) else ()
    labels = tuple(column for column in columns if column.name != OBJID)
    _check_names(where, labels, layout)
    return Description(layout, images.shape[1:], len(images), complete, labels, tuple(left_out))


def check_alike(first: Description, other: Description, first_name: str, where: str) -> None:
    """Files that become one dataset have images of one shape and the same labels."""
    if (first.layout, first.image_shape) != (other.layout, other.image_shape):
        wanted, got = (f"{d.layout.name}, images of {d.image_shape}" for d in (first, other))
        raise IngestError(f"{where}: expected {wanted}, as {first_name} has, got {got}; ingest it on its own")
    labels = [{(c.key, c.name, str(c.type)) for c in d.columns} for d in (first, other)]
    differs = {key for key, *_ in labels[0] ^ labels[1]} | set(first.identifier) ^ set(other.identifier)
    if differs:
        raise IngestError(
            f"{where}: expected the keys of {first_name} with the same types; {', '.join(sorted(differs))} is missing "
            "or differs in one of them; ingest them apart"
        )


def _columns(where: str, key: str, item: Any, rows: int, layout: Layout) -> list[Column]:
    """The columns that a key becomes; none where it is no label."""
    meaning = layout.meanings.get(canonical(key), Meaning(key))
    kind = _arrow_type(item.dtype)
    wanted = (rows, len(layout.bands)) if meaning.per_band else (rows,)
    if canonical(key) in layout.meanings and (kind is None or len(item.shape) != len(wanted)):
        raise IngestError(f"{where}: expected shape {wanted}, got {item.shape} of {item.dtype}; mend the file")
    if kind is None or item.ndim == 0 or item.shape[1:] not in ((), (len(layout.bands),)):
        return []
    if len(item) != rows:
        raise IngestError(f"{where}: expected {rows} rows, as {IMAGES} has, got {len(item)}; mend the file")
    if meaning.above is not None:
        kind = pa.float64()
    if item.ndim == 1:
        return [Column(meaning.name, key, None, meaning.above, kind)]
    return [Column(f"{meaning.name}_{b}", key, n, meaning.above, kind) for n, b in enumerate(layout.bands)]


def _arrow_type(dtype: np.dtype[Any]) -> pa.DataType | None:
    import h5py

    if dtype.kind == "S" or h5py.check_string_dtype(dtype) is not None:
        return pa.string()
    if dtype.kind == "f":
        return pa.float64() if dtype.itemsize > 4 else pa.float32()
    return pa.from_numpy_dtype(dtype.newbyteorder("=")) if dtype.kind in "iub" else None


def _check_names(where: str, labels: tuple[Column, ...], layout: Layout) -> None:
    """No label may take the name of a column that Skymill writes, nor another's."""
    own = [OBJID, "shard", "row", "offset", "crc32c", "reason", "input_row"]
    own += [f"{name}_{band}" for name in ("sky_sigma", "stamp_sigma") for band in layout.bands]
    seen = {canonical(name) for name in own}
    for label in labels:
        if canonical(label.name) in seen:
            raise IngestError(f"{where}: {label.key}: there would be two columns {label.name}; rename the key")
        seen.add(canonical(label.name))


def integers(values: Values, where: str) -> npt.NDArray[np.int64]:
    """Identifiers as int64, exactly; decimal text is read as such."""
    if values.dtype.kind in "SO":
        try:
            return np.array([int(value) for value in values], dtype=np.int64)
        except (ValueError, OverflowError) as err:
            raise IngestError(f"{where}: expected identifiers of 64 bits, got other text ({err})") from err
    if values.dtype.kind not in "iu":
        raise IngestError(f"{where}: expected integers, got {values.dtype}, which rounds identifiers; store int64")
    if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise IngestError(f"{where}: {values.max()} does not fit into int64; store int64")
    return values.astype(np.int64)


def blanked(values: Values, above: float | None) -> npt.NDArray[np.float64]:
    """As floats, with NaN for what is not above the bound."""
    floats = values.astype(np.float64)
    return floats if above is None else np.where(floats > above, floats, np.nan)


def to_table(values: Mapping[str, Values], columns: tuple[Column, ...]) -> pa.Table:
    """One column a label, of what was read of each key; NaN becomes null."""
    return pa.table({column.name: _arrow(values[column.key], column) for column in columns})


def _arrow(values: Values, column: Column) -> pa.Array:
    if column.part is not None:
        values = values[:, column.part]
    if pa.types.is_string(column.type):
        texts = (value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values)
        return pa.array([text.rstrip("\0 ") for text in texts], column.type)
    if column.above is not None:
        values = blanked(values, column.above)
    native = np.ascontiguousarray(values, dtype=column.type.to_pandas_dtype())
    return pa.array(native, column.type, from_pandas=True)
