"""Maps: what is shown as what, places computed once, the picture; UMAP itself in a slow test, as it compiles long."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread

from sharding import Dataset
from trainer import map as module
from trainer import map_figure
from trainer.embeddings import Embeddings
from trainer.errors import TrainerError
from trainer.map import placed, umap


def write(path: Path, objid: np.ndarray, encoder: str | None = "a") -> np.ndarray:
    vectors = np.random.default_rng(len(objid)).normal(size=(len(objid), 4)).astype(np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    table = pa.table({"objid": objid, "embedding": flat})
    origin = {} if encoder is None else {"skymill.encoder": encoder, "skymill.dataset": "d"}
    pq.write_table(table.replace_schema_metadata(origin), path)
    return vectors


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """UMAP's place is taken by the first two features; how many galaxies were placed, each time."""
    counts: list[int] = []

    def first_two(vectors: np.ndarray) -> np.ndarray:
        counts.append(len(vectors))
        return vectors[:, :2].astype(np.float32)

    monkeypatch.setattr(module, "umap", first_two)
    return counts


def test_places_are_computed_once_for_an_encoder_and_a_number(tmp_path: Path, computed: list[int]) -> None:
    file, kept = tmp_path / "e.parquet", tmp_path / "e.umap.parquet"
    vectors = write(file, np.arange(100) + 2**60)
    for _ in range(2):
        objid, places = placed(Embeddings(file), kept)
        np.testing.assert_array_equal(objid, np.arange(100) + 2**60)
        np.testing.assert_array_equal(places, vectors[:, :2])
    assert computed == [100]
    some, _ = placed(Embeddings(file), kept, 40)
    assert (len(set(some.tolist())), computed) == (40, [100, 40])
    assert (np.diff(some) > 0).all()
    write(file, np.arange(100) + 2**60, encoder="b")
    placed(Embeddings(file), kept, 40)
    assert computed == [100, 40, 40]


def test_what_cannot_be_mapped_says_so(tmp_path: Path, computed: list[int]) -> None:
    file = tmp_path / "e.parquet"
    write(file, np.arange(9))
    with pytest.raises(TrainerError, match="expected at least 16 galaxies to map, got 9"):
        placed(Embeddings(file), tmp_path / "k.parquet")
    write(file, np.arange(90), encoder=None)
    with pytest.raises(TrainerError, match="does not say which encoder it is of"):
        placed(Embeddings(file), tmp_path / "k.parquet")
    assert not computed


def test_columns_are_shown_as_what_they_are() -> None:
    classes = map_figure.classes
    assert classes(np.array([0.1, np.nan, 0.3])) is None
    assert classes(np.arange(50)) is None
    assert classes(np.full(3, np.nan)) is None
    assert list(classes(np.array([1.0, 2.0, np.nan, -9999.0]))) == ["1", "2", None, None]  # what is missing is a float
    assert list(classes(np.array([3, 3, 1]))) == ["3", "3", "1"]
    assert list(classes(np.array(["E", None, ""], dtype=object))) == ["E", None, None]
    assert list(classes(np.array([True, False]))) == ["True", "False"]
    np.testing.assert_array_equal(
        map_figure.quantity(np.array([1.5, np.inf, -9999.0, np.nan])), [1.5, np.nan, np.nan, np.nan]
    )


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=60),
        np.where(np.arange(60) % 3, 0.5, np.nan),  # one value alone
        np.full(60, np.nan),
        np.array(["spiral", None, *(f"kind {i % 9}" for i in range(58))], dtype=object),
    ],
)
def test_every_kind_of_column_is_drawn(tmp_path: Path, values: np.ndarray) -> None:
    places = np.random.default_rng(1).normal(size=(60, 2))
    map_figure.draw_map(tmp_path / "m.png", places, values, label="a column", title="60 galaxies")
    assert imread(tmp_path / "m.png").std() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


def test_a_second_colour_takes_moments(
    large_survey: Dataset, tmp_path: Path, computed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "e.parquet", large_survey.column("objid"))
    parser = module.argparse.ArgumentParser()
    module.add_arguments(parser)
    for column in ("specz", "morphology"):
        words = ["--data", str(large_survey.path), "--color", column, "--out", str(tmp_path / f"{column}.png")]
        assert module.run(parser.parse_args([str(tmp_path / "e.parquet"), *words])) == 0
        assert f"{column}.png: 1100 of 1100 galaxies" in capsys.readouterr().out
    assert computed == [1100]
    assert imread(tmp_path / "morphology.png").std() > 0


@pytest.mark.slow  # UMAP compiles itself for a quarter of a minute
def test_umap_keeps_clusters_apart_and_gives_the_same_again() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3)[np.repeat([0, 1, 2], 60)] * 5
    vectors = (centres + rng.normal(0, 0.3, centres.shape)) * rng.uniform(0.1, 9, (180, 1))  # lengths mean nothing
    places = umap(vectors).reshape(3, 60, 2)
    middle = places.mean(axis=1)
    radius = max(np.linalg.norm(places - middle[:, None], axis=2).max(axis=1))
    apart = min(np.linalg.norm(middle[a] - middle[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert apart > 2 * radius
    np.testing.assert_array_equal(umap(vectors), places.reshape(180, 2))
