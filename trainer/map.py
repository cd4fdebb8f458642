"""`python -m trainer map`: all representations in a plane (UMAP, McInnes et al. 2018), coloured by a column.

Galaxies whose representations point the same way lie near each other; lengths and directions in the plane mean nothing.
The places take minutes, the picture moments, so the places stay in a Parquet file beside the picture, and a second
picture of the same representations uses them.
"""

import argparse
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sharding import Dataset, atomic_file

from .embeddings import Embeddings
from .errors import TrainerError
from .extras import require
from .map_figure import draw_map
from .similar import positions

GALAXIES = 50_000  # more take long to place, and hide each other in a picture
FEWEST = 16  # one more than the neighbours that UMAP looks at
SEED = 0

Indices = npt.NDArray[np.int64]
Places = npt.NDArray[np.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("embeddings", type=Path, help="file that `embed` wrote")
    parser.add_argument("--data", required=True, metavar="DATASET", help="dataset that was embedded")
    parser.add_argument("--color", required=True, metavar="COLUMN", help="column of its samples to colour by")
    parser.add_argument("--out", type=Path, required=True, help="picture to write (PNG)")
    parser.add_argument(
        "--galaxies", type=int, default=GALAXIES, metavar="N", help="at most so many, at random (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the map and say where it is."""
    dataset = Dataset.open(args.data)
    values = dataset.column(args.color)  # an unknown one is told before minutes have passed
    embeddings = Embeddings(args.embeddings)
    kept = args.out.with_name(f"{args.embeddings.stem}.umap.parquet")
    objid, places = placed(embeddings, kept, args.galaxies)
    shown = values[positions(dataset, objid)]
    title = (
        f"{len(objid):,} of {len(embeddings):,} galaxies"
        if len(objid) < len(embeddings)
        else f"{len(objid):,} galaxies"
    )
    draw_map(args.out, places, shown, label=args.color, title=f"{title} by their representations (UMAP)")
    print(f"{args.out}: {len(objid)} of {len(embeddings)} galaxies; their places: {kept}")
    return 0


def placed(embeddings: Embeddings, path: Path, limit: int = GALAXIES) -> tuple[Indices, Places]:
    """Objids and places of (at most ``limit``) galaxies: (n,) and (n, 2); from ``path``, where they are written first.

    What ``path`` holds is used again if it is of the same representations, number and method.
    """
    if min(limit, len(embeddings)) < FEWEST:
        raise TrainerError(
            f"{embeddings.path}: expected at least {FEWEST} galaxies to map, got {min(limit, len(embeddings))}"
        )
    origin = _provenance(embeddings, limit)
    if not (path.is_file() and _is_of(path, origin)):
        chosen = _some(len(embeddings), limit)
        _write(path, embeddings.objid[chosen], umap(embeddings.rows(chosen)), origin)
    table = pq.read_table(path)
    return np.asarray(table["objid"].to_numpy()), np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)


def umap(vectors: npt.NDArray[np.floating]) -> Places:
    """Places in the plane, by cosine, with UMAP's own settings: (n, 2). The same input has the same answer."""
    package = require("umap", extra="umap", needed_by="map")
    mapping = package.UMAP(metric="cosine", random_state=SEED, n_jobs=1)  # with a seed it takes one thread
    return np.asarray(mapping.fit_transform(vectors.astype(np.float32)), dtype=np.float32)


def _some(count: int, limit: int) -> Indices:
    """Rows at random, ascending; all, where there are no more."""
    rng = np.random.default_rng(SEED)
    return np.sort(rng.choice(count, min(limit, count), replace=False))


def _provenance(embeddings: Embeddings, limit: int) -> dict[str, str]:
    """What identifies the places."""
    if not embeddings.provenance:
        raise TrainerError(f"{embeddings.path}: does not say which encoder it is of; give what `trainer embed` wrote")
    try:
        held = version("umap-learn")  # to import it takes seconds
    except PackageNotFoundError as err:
        raise TrainerError("map: expected the package umap, got none; pip install 'skymill[umap]'") from err
    method = f"umap-learn {held}, cosine, seed {SEED}"
    return {**embeddings.provenance, "skymill.map": f"{method}, {min(limit, len(embeddings))} galaxies"}


def _is_of(path: Path, origin: dict[str, str]) -> bool:
    metadata = pq.read_schema(path).metadata or {}
    return all(metadata.get(name.encode()) == value.encode() for name, value in origin.items())


def _write(path: Path, objid: Indices, places: Places, origin: dict[str, str]) -> None:
    table = pa.table({"objid": objid, "x": places[:, 0], "y": places[:, 1]}).replace_schema_metadata(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")
