"""What every method says of the test galaxies, by their images or magnitudes: none of their labels is at hand here.

The answers of a training stay in its folder, so that a study that goes on does not ask again.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharding import Dataset, atomic_file

from .. import photoz
from ..config import Task
from ..data import Indices
from ..inference import predict
from .results import Values

ANSWERS = "test_answers.parquet"


def answers_of_run(run: Path, dataset: Dataset, task: Task, asked: Indices) -> Values:
    """The redshift, or the number of the class, that a trained run gives each of the galaxies ``asked``: (n,)."""
    path = run / ANSWERS
    objid = dataset.column("objid").astype(np.int64)[asked]
    if (held := _held(path, objid)) is not None:
        return held
    values = point_estimates(predict(run, dataset, asked), task)
    with atomic_file(path) as file:
        pq.write_table(pa.table({"objid": objid, "answer": values}), file, compression="zstd")
    return values


def point_estimates(probabilities: np.ndarray, task: Task) -> Values:
    """The mean redshift of each row of (n, bins), or the most probable class of (n, classes): (n,)."""
    if task == "photoz":
        return photoz.estimate(probabilities)
    return np.asarray(probabilities.argmax(axis=1), dtype=np.float64)


def _held(path: Path, objid: Indices) -> Values | None:
    """The answers for these galaxies that a study before has written; None where there are none, or damaged ones."""
    try:
        table = pq.read_table(path, columns=["objid", "answer"])
    except (OSError, pa.ArrowException):
        return None
    values = np.asarray(table["answer"].to_numpy(), dtype=np.float64)
    same = np.array_equal(table["objid"].to_numpy(), objid)
    return values if same and np.isfinite(values).all() else None
