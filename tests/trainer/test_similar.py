"""Nearest neighbours against brute force and scikit-learn, over files of several row groups."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from trainer import embeddings, faiss_search, neighbours, similar
from trainer.errors import TrainerError
from trainer.similar import Neighbour

FIRST = 1237645876861337000  # an objid beyond 2**53: it must never pass through a float
SEARCHES = pytest.mark.parametrize("search", [neighbours.nearest, faiss_search.nearest])


def write(path: Path, vectors: np.ndarray, rows: int = 7) -> None:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), vectors.shape[1])
    table = pa.table({"objid": FIRST + np.arange(len(vectors)), "embedding": flat})
    pq.write_table(table, path, row_group_size=rows)


@pytest.mark.parametrize("query", [0, 6, 7, 49])  # within, and at the ends of, row groups of 7
def test_neighbours_are_those_of_brute_force(tmp_path: Path, query: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "BATCH_ROWS", 11)  # batches that do not fall together with row groups
    vectors = np.random.default_rng(3).normal(size=(50, 16)).astype(np.float32)
    write(tmp_path / "e.parquet", vectors)
    (found,) = similar.similar(tmp_path / "e.parquet", [FIRST + query], 50)
    unit = [v / np.sqrt(np.sum(v * v)) for v in vectors.astype(np.float64)]
    cosine = [float(np.sum(unit[query] * other)) for other in unit]
    expected = sorted(range(50), key=lambda i: -cosine[i])
    assert expected[0] == query
    assert [n.objid for n in found] == [FIRST + i for i in expected]
    np.testing.assert_allclose([n.similarity for n in found], [cosine[i] for i in expected], rtol=0, atol=1e-12)


@SEARCHES
@pytest.mark.parametrize(("rows", "queries", "k"), [(1, 1, 1), (500, 40, 10), (3000, 7, 200), (20, 3, 20)])
def test_a_table_in_pieces_has_the_neighbours_of_scikit_learn(
    search: similar.Search, rows: int, queries: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "CHUNK_ROWS", 300)  # pieces are cut, and not all are whole chunks
    monkeypatch.setattr(neighbours, "CHUNK_QUERIES", 16)
    rng = np.random.default_rng(rows)
    # float32, as files hold them; few dimensions, so that two cosines within float32's rounding (FAISS') are rare
    table, asked = (torch.from_numpy(rng.normal(size=(n, 6)).astype(np.float32)) for n in (rows, queries))
    found = search(asked, torch.split(table, 450), k)
    finder = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(table.double().numpy())
    distance, row = finder.kneighbors(asked.double().numpy())
    np.testing.assert_array_equal(found.row_QK.numpy(), row)
    # Sums of 6 products of float64, or for FAISS of float32, and 1 - cosine in between.
    atol = 1e-14 if search is neighbours.nearest else 6 * 6e-8
    np.testing.assert_allclose(found.cosine_QK.numpy(), 1 - distance, rtol=0, atol=atol)


def test_equal_rows_keep_their_order_wherever_chunks_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    kinds = np.vstack([rng.normal(size=(5, 8)), np.zeros(8)])
    kind = rng.integers(0, 6, 400)
    length = rng.choice([0.5, 1.0, 2.0], 400)  # powers of two: to the bit the same direction
    table, asked = torch.from_numpy(kinds[kind] * length[:, None]), torch.from_numpy(kinds)
    unit = kinds / np.maximum(np.linalg.norm(kinds, axis=1, keepdims=True), 1e-300)
    cosine = unit @ unit.T
    expected = [np.argsort(-cosine[query, kind].round(9), kind="stable")[:90] for query in range(6)]
    for chunk in (1, 7, 100, 8192):
        monkeypatch.setattr(neighbours, "CHUNK_ROWS", chunk)
        np.testing.assert_array_equal(neighbours.nearest(asked, [table], 90).row_QK.numpy(), expected)


def test_length_does_not_matter_and_zero_points_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "e.parquet", np.array([[1.0, 0.0], [0.0, 0.0], [-2.0, 0.0], [1e-3, 1e-3], [50.0, 0.0]]))
    (found,) = similar.similar(tmp_path / "e.parquet", [FIRST], 4)
    assert [n.objid - FIRST for n in found] == [0, 4, 3, 1, 2]
    # float32 inputs, float64 arithmetic
    np.testing.assert_allclose([n.similarity for n in found], [1, 1, np.sqrt(0.5), 0, -1], atol=1e-12)


def test_a_galaxy_is_not_its_own_neighbour_among_many_equal_ones(tmp_path: Path) -> None:
    write(tmp_path / "e.parquet", np.ones((30, 3)))
    (found,) = similar.similar(tmp_path / "e.parquet", [FIRST + 20], 4)  # 20 equal ones come before it
    assert [n.objid - FIRST for n in found] == [20, 0, 1, 2, 3]


def test_k_nearest_besides_itself(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    write(tmp_path / "e.parquet", vectors)
    (every,) = similar.similar(tmp_path / "e.parquet", [FIRST + 2], 8)
    assert similar.similar(tmp_path / "e.parquet", [FIRST + 2], 3) == [every[:4]]
    assert every[0] == Neighbour(FIRST + 2, 1.0)


@SEARCHES
def test_several_at_once_are_each_alone(tmp_path: Path, search: similar.Search) -> None:
    write(tmp_path / "e.parquet", np.random.default_rng(1).normal(size=(30, 6)))
    asked = [FIRST + 29, FIRST, FIRST + 11]
    together = similar.similar(tmp_path / "e.parquet", asked, 5, search=search)
    alone = [similar.similar(tmp_path / "e.parquet", [objid], 5)[0] for objid in asked]
    assert [[n.objid for n in row] for row in together] == [[n.objid for n in row] for row in alone]


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    write(file, np.eye(3))
    with pytest.raises(TrainerError, match=r"e\.parquet: no objid 12 among its 3 galaxies; take one that was embedded"):
        similar.similar(file, [FIRST, 12], 3)
    with pytest.raises(TrainerError, match="no objid 12 and 1 others"):
        similar.similar(file, [12, 13], 3)
    with pytest.raises(TrainerError, match="at least 1, got 0"):
        similar.similar(file, [FIRST], 0)
    with pytest.raises(TrainerError, match=r"none\.parquet: cannot be read"):
        similar.similar(tmp_path / "none.parquet", [FIRST], 3)
    write(file, np.array([[1.0, np.nan], [1.0, 2.0]]))
    with pytest.raises(TrainerError, match="expected finite embeddings"):
        similar.similar(file, [FIRST], 3)
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(TrainerError, match="expected columns objid and embedding, got a"):
        similar.similar(file, [FIRST], 3)
    pq.write_table(pa.table({"objid": [1], "embedding": [[0.5]]}), file)
    with pytest.raises(TrainerError, match="column embedding: expected lists of one size"):
        similar.similar(file, [FIRST], 3)


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    search: Callable[..., object] = faiss_search.nearest
    with pytest.raises(TrainerError, match=r"similar --index faiss: .* pip install 'skymill\[faiss\]'"):
        search(torch.ones(1, 2), [torch.ones(1, 2)], 1)
