"""Nearest neighbours against brute force, over files of several row groups."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer import similar
from trainer.errors import TrainerError
from trainer.similar import Neighbour

FIRST = 1237645876861337000  # an objid beyond 2**53: it must never pass through a float


def write(path: Path, vectors: np.ndarray, rows: int = 7) -> None:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), vectors.shape[1])
    table = pa.table({"objid": FIRST + np.arange(len(vectors)), "embedding": flat})
    pq.write_table(table, path, row_group_size=rows)


@pytest.mark.parametrize("query", [0, 6, 7, 49])  # within, and at the ends of, row groups of 7
def test_neighbours_are_those_of_brute_force(tmp_path: Path, query: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "BATCH_ROWS", 11)  # batches that do not fall together with row groups
    vectors = np.random.default_rng(3).normal(size=(50, 16)).astype(np.float32)
    write(tmp_path / "e.parquet", vectors)
    (found,) = similar.similar(tmp_path / "e.parquet", [FIRST + query], 50)
    unit = [v / np.sqrt(np.sum(v * v)) for v in vectors.astype(np.float64)]
    cosine = [float(np.sum(unit[query] * other)) for other in unit]
    expected = sorted(range(50), key=lambda i: -cosine[i])
    assert expected[0] == query
    assert [n.objid for n in found] == [FIRST + i for i in expected]
    np.testing.assert_allclose([n.similarity for n in found], [cosine[i] for i in expected], rtol=0, atol=1e-12)


def test_length_does_not_matter_and_zero_points_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "e.parquet", np.array([[1.0, 0.0], [0.0, 0.0], [-2.0, 0.0], [1e-3, 1e-3], [50.0, 0.0]]))
    (found,) = similar.similar(tmp_path / "e.parquet", [FIRST], 4)
    assert [n.objid - FIRST for n in found] == [0, 4, 3, 1, 2]
    # float32 inputs, float64 arithmetic
    np.testing.assert_allclose([n.similarity for n in found], [1, 1, np.sqrt(0.5), 0, -1], atol=1e-12)


def test_k_nearest_besides_itself(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    write(tmp_path / "e.parquet", vectors)
    (every,) = similar.similar(tmp_path / "e.parquet", [FIRST + 2], 8)
    assert similar.similar(tmp_path / "e.parquet", [FIRST + 2], 3) == [every[:4]]
    assert every[0] == Neighbour(FIRST + 2, 1.0)


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "e.parquet", np.eye(3))
    with pytest.raises(TrainerError, match=r"e\.parquet: no objid 12 among its 3 galaxies"):
        similar.similar(tmp_path / "e.parquet", [12], 3)
    with pytest.raises(TrainerError, match="at least 1, got 0"):
        similar.similar(tmp_path / "e.parquet", [FIRST], 0)
    with pytest.raises(TrainerError, match=r"none\.parquet: cannot be read"):
        similar.similar(tmp_path / "none.parquet", [FIRST], 3)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(TrainerError, match="expected columns objid and embedding, got a"):
        similar.similar(tmp_path / "other.parquet", [FIRST], 3)


def test_several_at_once_are_each_alone(tmp_path: Path) -> None:
    write(tmp_path / "e.parquet", np.random.default_rng(1).normal(size=(30, 6)))
    asked = [FIRST + 29, FIRST, FIRST + 11]
    together = similar.similar(tmp_path / "e.parquet", asked, 5)
    alone = [similar.similar(tmp_path / "e.parquet", [objid], 5)[0] for objid in asked]
    assert [[n.objid for n in row] for row in together] == [[n.objid for n in row] for row in alone]
