"""`python -m trainer similar`: the galaxies whose representations point the same way as one galaxy's.

The search is exact: every row's cosine is computed, a batch of rows at a time, so a file larger than memory will do.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sharding import Dataset

from .errors import TrainerError
from .gallery import redshift_captions
from .pictures import Tile, draw_tiles

BATCH_ROWS = 4096

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A galaxy and the cosine of the angle between its representation and the query's."""

    objid: int
    similarity: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("embeddings", type=Path, help="file that `embed` wrote")
    parser.add_argument("--objid", type=int, required=True, help="the galaxy to find others like")
    parser.add_argument("--k", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--data", metavar="DATASET", help="dataset that holds their stamps, for --out")
    parser.add_argument("--out", type=Path, help="picture of the galaxy and its neighbours (PNG)")


def run(args: argparse.Namespace) -> int:
    """Print the neighbours, and draw them where a dataset and a file are given."""
    if (args.data is None) != (args.out is None):
        raise TrainerError("similar: --data and --out go together; give both to draw the neighbours, or neither")
    (found,) = similar(args.embeddings, [args.objid], args.k)
    if args.data is not None:
        draw_neighbours(args.out, Dataset.open(args.data), [found])
    print("rank                objid   cosine")
    for rank, neighbour in enumerate(found):
        print(f"{rank:4d}  {neighbour.objid:19d}  {neighbour.similarity:7.4f}")
    if args.data is not None:
        print(f"their stamps: {args.out}")
    return 0


def similar(embeddings: Path, objids: Sequence[int], k: int) -> list[list[Neighbour]]:
    """For each galaxy itself, then its ``k`` nearest in falling order of cosine (equal ones as they are in the file).

    Raises TrainerError where the file is no table of embeddings or does not hold one of ``objids``.
    """
    if k < 1:
        raise TrainerError(f"similar: --k: expected at least 1, got {k}")
    file = _open(embeddings)
    held = np.asarray(file.read(["objid"])["objid"].to_numpy())
    places = [_place(held, objid, embeddings) for objid in objids]
    queries = np.concatenate([_row(file, place) for place in places])
    batches = file.iter_batches(batch_size=BATCH_ROWS, columns=["embedding"])
    cosines = np.concatenate([_cosines(_rows(batch["embedding"]), queries) for batch in batches])
    return [_nearest(held, cosine, place, k) for cosine, place in zip(cosines.T, places, strict=True)]


def draw_neighbours(path: Path, dataset: Dataset, found: list[list[Neighbour]]) -> None:
    """Write one row of stamps a query: the query, then its neighbours from left to right."""
    wanted = np.array([neighbour.objid for row in found for neighbour in row], dtype=np.int64)
    indices = positions(dataset, wanted)
    cosines = [f"{n.similarity:.3f}" if rank else "query" for row in found for rank, n in enumerate(row)]
    captions = [
        f"{cosine}\n{redshift}" if redshift else cosine
        for cosine, redshift in zip(cosines, redshift_captions(dataset, indices), strict=True)
    ]
    tiles = [Tile(image, caption) for image, caption in zip(dataset.images(indices), captions, strict=True)]
    title = "galaxies and their nearest neighbours, by the cosine of their representations"
    draw_tiles(path, tiles, dataset.bands, columns=len(found[0]), title=title)


def positions(dataset: Dataset, objids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where these galaxies stand in the dataset; TrainerError where one is not in it."""
    held = dataset.column("objid").astype(np.int64)
    order = np.argsort(held, kind="stable")
    place = order[np.minimum(np.searchsorted(held, objids, sorter=order), len(held) - 1)]
    if len(strange := objids[held[place] != objids]):
        raise TrainerError(f"{dataset.location}: holds no objid {strange[0]}; give the dataset that was embedded")
    return place


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as err:
        reason = str(err).splitlines()[0]
        raise TrainerError(f"{path}: cannot be read ({reason}); give a file that `trainer embed` wrote") from err
    if not {"objid", "embedding"} <= set(file.schema_arrow.names):
        names = ", ".join(file.schema_arrow.names)
        raise TrainerError(
            f"{path}: expected columns objid and embedding, got {names}; give what `trainer embed` wrote"
        )
    return file


def _place(held: npt.NDArray[np.int64], objid: int, path: Path) -> int:
    places = np.flatnonzero(held == objid)
    if len(places) == 0:
        raise TrainerError(f"{path}: no objid {objid} among its {len(held)} galaxies; take one that was embedded")
    return int(places[0])


def _row(file: pq.ParquetFile, place: int) -> Rows:
    """One row of the file as (1, feature), read from its row group alone."""
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if place < rows:
            table = file.read_row_group(group, columns=["embedding"]).slice(place, 1).combine_chunks()
            return _rows(table["embedding"].chunk(0))
        place -= rows
    raise IndexError(place)


def _rows(column: pa.FixedSizeListArray) -> Rows:
    """A column of vectors as (n, feature), in float64."""
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    return flat.reshape(len(column), column.type.list_size)


def _cosines(rows: Rows, queries: Rows) -> Rows:
    """Cosine of each row with each query: (row, query); a row of zeros points nowhere and has cosine 0."""
    norms = np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(queries, axis=1))
    return np.asarray((rows @ queries.T) / np.where(norms > 0, norms, 1.0))


def _nearest(held: npt.NDArray[np.int64], cosine: npt.NDArray[np.float64], place: int, k: int) -> list[Neighbour]:
    order = np.argsort(-cosine, kind="stable")
    order = order[order != place][:k]
    return [Neighbour(int(held[place]), 1.0)] + [Neighbour(int(held[i]), float(cosine[i])) for i in order]
