"""`python -m trainer similar`: the galaxies whose representations point the same way as those of some galaxies.

The search is exact and reads the file a piece at a time, see `neighbours`; `--index faiss` does it with FAISS.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sharding import Dataset

from . import faiss_search, neighbours
from .embeddings import Embeddings, find
from .errors import TrainerError
from .gallery import redshift_captions
from .neighbours import Nearest
from .pictures import Tile, draw_tiles

Search = Callable[[Tensor, Iterable[Tensor], int], Nearest]

INDEXES: dict[str, Search] = {"exact": neighbours.nearest, "faiss": faiss_search.nearest}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A galaxy and the cosine of the angle between its representation and the query's."""

    objid: int
    similarity: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("embeddings", type=Path, help="file that `embed` wrote")
    parser.add_argument("--objid", type=int, nargs="+", required=True, help="the galaxies to find others like")
    parser.add_argument("--k", type=int, default=10, help="how many for each (default: 10)")
    parser.add_argument("--data", metavar="DATASET", help="dataset that holds their stamps, for --out")
    parser.add_argument("--out", type=Path, help="picture of each galaxy and its neighbours (PNG)")
    parser.add_argument(
        "--index",
        choices=list(INDEXES),
        default="exact",
        help="what searches: our own in float64, on the GPU if there is one, or FAISS in float32 (default: exact)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the neighbours, and draw them where a dataset and a file are given."""
    if (args.data is None) != (args.out is None):
        raise TrainerError("similar: --data and --out go together; give both to draw the neighbours, or neither")
    found = similar(args.embeddings, args.objid, args.k, search=INDEXES[args.index])
    if args.data is not None:
        draw_neighbours(args.out, Dataset.open(args.data), found)
    print("rank                objid   cosine")
    for row in found:
        for rank, neighbour in enumerate(row):
            print(f"{rank:4d}  {neighbour.objid:19d}  {neighbour.similarity:7.4f}")
    if args.data is not None:
        print(f"their stamps: {args.out}")
    return 0


def similar(
    embeddings: Path, objids: Sequence[int], k: int, *, search: Search = neighbours.nearest
) -> list[list[Neighbour]]:
    """For each galaxy itself, then its ``k`` nearest in falling order of cosine (equal ones as they are in the file).

    Raises TrainerError where the file is no table of embeddings or does not hold one of ``objids``.
    """
    if k < 1:
        raise TrainerError(f"similar: --k: expected at least 1, got {k}")
    table = Embeddings(embeddings)
    places = table.places(objids)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    queries = torch.from_numpy(table.rows(places)).to(device)
    found = search(queries, map(torch.from_numpy, table.pieces()), k + 1)  # one more: most find themselves
    each = zip(places.tolist(), found.row_QK.tolist(), found.cosine_QK.tolist(), strict=True)
    return [_others(table.objid, place, rows, cosines, k) for place, rows, cosines in each]


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
    title = "nearest neighbours, by cosine"
    draw_tiles(path, tiles, dataset.bands, columns=len(found[0]), title=title)


def positions(dataset: Dataset, objids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where these galaxies stand in the dataset; TrainerError where one is not in it."""
    held = dataset.column("objid").astype(np.int64)
    return find(held, objids, str(dataset.location), "give the dataset that was embedded")


def _others(objid: npt.NDArray[np.int64], place: int, rows: list[int], cosines: list[float], k: int) -> list[Neighbour]:
    """The query, and of what was found for it the ``k`` nearest others."""
    others = [(row, cosine) for row, cosine in zip(rows, cosines, strict=True) if row != place][:k]
    return [Neighbour(int(objid[place]), 1.0), *(Neighbour(int(objid[row]), cosine) for row, cosine in others)]
