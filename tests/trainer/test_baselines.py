"""The baselines against scikit-learn, and against what the real catalogue is known to give."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.csv
import pytest
from sklearn.neighbors import NearestNeighbors

from sharding import Dataset
from trainer import baselines, metrics
from trainer.errors import TrainerError

BANDS = ("u", "g", "r", "i", "z")


@pytest.mark.parametrize(("train", "test"), [(10, 1), (500, 1500), (2000, 1024), (20, 0)])
def test_neighbours_equal_those_of_scikit_learn(train: int, test: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "DISTANCES_AT_ONCE", 200_000)  # some hundreds of rows, the last part smaller
    rng = np.random.default_rng(train)
    known, asked = (rng.normal(0, [1, 0.3, 0.2, 0.1, 2.0], (n, 5)) for n in (train, test))
    scale = np.median(np.abs(known - np.median(known, axis=0)), axis=0)
    found = baselines.nearest_galaxies(known, asked)
    assert found.shape == (test, 10)
    if test:
        search = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(known / scale)
        np.testing.assert_array_equal(found, search.kneighbors(asked / scale, return_distance=False))


def test_a_constant_feature_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    known, asked = rng.normal(size=(50, 2)), rng.normal(size=(9, 2))
    wider, wider_asked = (np.column_stack([table, np.full(len(table), 7.0)]) for table in (known, asked))
    np.testing.assert_array_equal(
        baselines.nearest_galaxies(wider, wider_asked), baselines.nearest_galaxies(known, asked)
    )


def test_too_few_training_galaxies_are_refused() -> None:
    with pytest.raises(TrainerError, match=r"at least 10 training galaxies, got 9"):
        baselines.nearest_galaxies(np.zeros((9, 5)), np.zeros((1, 5)))


def test_the_real_catalogue_gives_what_it_is_known_to_give(survey_data: Path) -> None:
    """Leave-one-out sigma_MAD 0.0169, eta 2.1 %: found with scikit-learn, the features scaled in the same way."""
    table = pyarrow.csv.read_csv(survey_data / "catalogs" / "Skyserver_SQL2_27_2018.csv")
    chosen = (
        (pc.field("class") == "GALAXY")
        & (pc.field("r") < 17.8)
        & (pc.field("redshift") > 0.003)
        & (pc.field("redshift") < 0.4)
    )
    table = table.filter(chosen)
    magnitudes = np.column_stack([table[band].to_numpy() for band in BANDS])
    redshift = table["redshift"].to_numpy()
    assert len(redshift) == 4810
    features = np.column_stack([-np.diff(magnitudes, axis=1), magnitudes[:, 2]])
    # Each galaxy is its own nearest neighbour: take it out of the mean of eleven.
    estimates = (11 * redshift[baselines.nearest_galaxies(features, features, k=11)].mean(axis=1) - redshift) / 10
    dz = metrics.residuals(estimates, redshift)
    assert round(metrics.sigma_mad(dz), 4) == 0.0169
    assert round(100 * metrics.eta(dz), 1) == 2.1


def test_colours_are_dereddened_with_each_galaxys_own_dust(make_survey) -> None:
    dataset = make_survey(30)
    found = baselines.photometry(dataset)
    magnitude = {band: dataset.column(f"modelMag_{band}") for band in BANDS}
    ebv = dataset.column("ebv_sfd")
    # Schlafly & Finkbeiner 2011: R_u - R_g = 4.239 - 3.303, R_r = 2.285.
    np.testing.assert_allclose(found.features[:, 0], magnitude["u"] - magnitude["g"] - 0.936 * ebv, atol=1e-12)
    np.testing.assert_allclose(found.features[:, 4], magnitude["r"] - 2.285 * ebv, atol=1e-12)
    assert found.known.all()
    assert "modelMag" in found.description
    assert "dereddened" in found.description


def test_minus_9999_is_no_magnitude(make_survey) -> None:
    dataset = make_survey(20, change={"modelMag_u": -9999.0})
    assert not baselines.photometry(dataset).known.any()


def test_petrosian_magnitudes_where_there_are_no_model_ones(make_survey) -> None:
    dataset = make_survey(20, rename={f"modelMag_{band}": f"petroMag_{band}" for band in BANDS})
    assert "petroMag" in baselines.photometry(dataset).description


def test_a_dataset_without_magnitudes_says_what_it_lacks(make_survey) -> None:
    dataset: Dataset = make_survey(20, rename={"modelMag_z": "something"})
    with pytest.raises(TrainerError, match=r"expected columns modelMag_\{band\} or petroMag_\{band\}"):
        baselines.photometry(dataset)
