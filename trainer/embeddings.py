"""The file that `embed` writes, as others read it: in pieces, or some rows of it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import TrainerError

BATCH_ROWS = 4096
_ADVICE = "give what `trainer embed` wrote"

Indices = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.floating]


class Embeddings:
    """A table of vectors by objid; TrainerError where the file is none. Rows are numbered in the order of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        self.objid: Indices = np.asarray(self._file.read(["objid"])["objid"].to_numpy(), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.objid)

    @property
    def provenance(self) -> dict[str, str]:
        """What `embed` said of the encoder and of the dataset; empty where another program wrote the file."""
        metadata = self._file.schema_arrow.metadata or {}
        names = {name.decode(): value.decode() for name, value in metadata.items()}
        return {name: value for name, value in names.items() if name.startswith("skymill.")}

    def pieces(self) -> Iterator[Vectors]:
        """All vectors in order, (n, feature) at a time."""
        for batch in self._file.iter_batches(batch_size=BATCH_ROWS, columns=["embedding"]):
            yield self._vectors(batch["embedding"])

    def rows(self, wanted: Indices) -> Vectors:
        """Some vectors in the order of ``wanted``: (len(wanted), feature). Reads the row groups that hold them."""
        width = self._file.schema_arrow.field("embedding").type.list_size
        found = np.empty((len(wanted), width))
        first = 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            here = (wanted >= first) & (wanted < first + count)
            if here.any():
                column = self._file.read_row_group(group, columns=["embedding"])["embedding"].combine_chunks()
                found[here] = self._vectors(column)[wanted[here] - first]
            first += count
        return found

    def places(self, objids: Sequence[int] | Indices) -> Indices:
        """The rows of these galaxies."""
        return find(self.objid, objids, str(self.path), "take one that was embedded")

    def _vectors(self, column: pa.FixedSizeListArray) -> Vectors:
        flat = np.array(column.flatten().to_numpy(zero_copy_only=False))  # a copy: torch wants to be able to write
        vectors = flat.reshape(-1, column.type.list_size)
        if not np.isfinite(vectors).all():
            raise TrainerError(f"{self.path}: expected finite embeddings, got some that are not; embed again")
        return vectors


def find(held: Indices, objids: Sequence[int] | Indices, where: str, advice: str) -> Indices:
    """The place of each of ``objids`` among ``held``, the first where there are more; TrainerError for a stranger."""
    wanted = np.asarray(objids, dtype=np.int64)
    order = np.argsort(held, kind="stable")
    rank = np.searchsorted(held, wanted, sorter=order)
    place = order[np.minimum(rank, len(held) - 1)] if len(held) else np.full(len(wanted), -1)
    strange = wanted[held[place] != wanted] if len(held) else wanted
    if len(strange):
        more = f" and {len(strange) - 1} others of those asked for" if len(strange) > 1 else ""
        raise TrainerError(f"{where}: no objid {strange[0]}{more} among its {len(held)} galaxies; {advice}")
    return place


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as err:
        reason = str(err).splitlines()[0]
        raise TrainerError(f"{path}: cannot be read ({reason}); {_ADVICE}") from err
    schema = file.schema_arrow
    if not {"objid", "embedding"} <= set(schema.names):
        names = ", ".join(schema.names)
        raise TrainerError(f"{path}: expected columns objid and embedding, got {names}; {_ADVICE}")
    if not pa.types.is_fixed_size_list(kind := schema.field("embedding").type):
        raise TrainerError(f"{path}: column embedding: expected lists of one size, got {kind}; {_ADVICE}")
    return file
