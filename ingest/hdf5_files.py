"""Read rows of several HDF5 files of one published layout as if they were one, in the order given, in bounded memory.

Every file is checked before a row is read. Identifiers and extinctions are read whole (8 and 40 bytes a row), images in
slabs that follow the chunks of the file. Makes no dataset.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .errors import IngestError
from .hdf5_columns import IMAGES, Values, blanked, check_alike, describe, integers, to_table
from .hdf5_layouts import ROW_NUMBER_TEXT, SHIFTS

SLAB_BYTES = 32_000_000  # of images read at once, where the chunks allow
LARGEST_SLAB_BYTES = 256_000_000  # read at once rather than to decompress a chunk many times

Images = npt.NDArray[np.float32]
_T = TypeVar("_T", bound=np.generic)


class HdfRows:
    """The rows of all files, numbered from 0. ``close`` it, or use it in a ``with``."""

    def __init__(self, paths: Sequence[Path]) -> None:
        found = []
        for path in paths:
            with _opened(path) as file, _one_line(path):
                found.append(describe(file, str(path)))
            check_alike(found[0], found[-1], paths[0].name, str(path))
        self.paths = list(paths)
        self.layout, self.columns, self.left_out = found[0].layout, found[0].columns, found[0].left_out
        self.image_shape = found[0].image_shape
        self._identifier = found[0].identifier
        ends = np.cumsum([each.rows for each in found]).tolist()
        self._ranges = list(zip([0, *ends[:-1]], ends, strict=True))
        self._current: tuple[Path, Any] | None = None  # stays open: the file's cache of chunks lives from slab to slab
        self._images: Any = None

    def __len__(self) -> int:
        return int(self._ranges[-1][1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that is open."""
        if self._current is not None:
            self._images = None
            self._current[1].close()
            self._current = None

    def identifiers(self) -> tuple[npt.NDArray[np.int64], str]:
        """The identifier of every row: (row,), never through a float; and how it came about."""
        if not self._identifier:
            return np.arange(len(self), dtype=np.int64), ROW_NUMBER_TEXT
        whole = np.zeros(len(self), dtype=np.int64)
        for name, key in zip(self.layout.identifier, self._identifier, strict=True):
            shift = SHIFTS[name] if len(self._identifier) > 1 else 0
            whole += self._read_whole(key, integers) << shift
        return whole, self.layout.identifier_text

    def per_band(self, name: str) -> npt.NDArray[np.float64] | None:
        """A label with one value a band: (row, band), NaN where it is missing; None where the files have none."""
        first = next((column for column in self.columns if column.name == f"{name}_{self.layout.bands[0]}"), None)
        if first is None:
            return None
        return self._read_whole(first.key, lambda values, where: blanked(values, first.above))

    def labels(self, begin: int, end: int) -> pa.Table:
        """The label columns of rows ``begin`` to ``end``, which must hold at least one."""
        pieces = []
        for path, low, high, _ in self._pieces(begin, end):
            file = self._open(path)
            with _one_line(path):
                values = {key: file[key][low:high] for key in {column.key for column in self.columns}}
            pieces.append(to_table(values, self.columns))
        return pa.concat_tables(pieces)

    def images(self, begin: int, end: int) -> Iterator[tuple[int, Images]]:
        """Yield (first row, images (row, band, y, x)) of rows ``begin`` to ``end``, slab by slab."""
        for path, low, high, first in self._pieces(begin, end):
            self._open(path)
            step = slab_rows(self._images.shape, self._images.dtype.itemsize, self._images.chunks)
            while low < high:
                stop = min(high, (low // step + 1) * step)
                with _one_line(path), np.errstate(over="ignore"):  # beyond float32 is infinite, and so a reject
                    slab = self._images[low:stop].astype("<f4", copy=False)
                yield first + low, slab
                low = stop

    def _pieces(self, begin: int, end: int) -> Iterator[tuple[Path, int, int, int]]:
        """(path, first row in it, last row in it + 1, number of its row 0 over all files) of each file in the range."""
        for path, (first, last) in zip(self.paths, self._ranges, strict=True):
            if max(begin, first) < min(end, last):
                yield path, max(begin, first) - first, min(end, last) - first, first

    def _open(self, path: Path) -> Any:
        if self._current is None or self._current[0] != path:
            self.close()
            self._current = (path, _open(path))
            self._images = self._current[1][IMAGES]
        return self._current[1]

    def _read_whole(self, key: str, convert: Callable[[Values, str], npt.NDArray[_T]]) -> npt.NDArray[_T]:
        pieces = []
        for path in self.paths:
            with _opened(path) as file, _one_line(path):
                pieces.append(convert(file[key][:], f"{path}: {key}"))
        return np.concatenate(pieces)


def slab_rows(shape: tuple[int, ...], itemsize: int, chunks: tuple[int, ...] | None) -> int:
    """How many rows to read at once: whole chunks, of about `SLAB_BYTES`, as far as memory allows."""
    image_bytes = int(np.prod(shape[1:])) * itemsize
    step = max(1, SLAB_BYTES // image_bytes)
    chunk = chunks[0] if chunks else 1
    if chunk <= step:
        return step - step % chunk
    return chunk if chunk * image_bytes <= LARGEST_SLAB_BYTES else step


def _open(path: Path) -> Any:
    import h5py

    with _one_line(path):
        # The cache holds a chunk that two shards share, and parts of a row of chunks that is too large for a slab.
        return h5py.File(path, "r", rdcc_nbytes=SLAB_BYTES)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    file = _open(path)
    try:
        yield file
    finally:
        file.close()


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Say in one line what h5py cannot read: a damaged file raises any of these, and so does a filter it lacks."""
    try:
        yield
    except FileNotFoundError as err:
        raise IngestError(f"{path}: there is no such file; check the names") from err
    except (OSError, RuntimeError, KeyError, TypeError) as err:
        reason = " ".join(str(err).split())
        raise IngestError(f"{path}: not a whole HDF5 file that can be read ({reason}); fetch it again") from err
