"""The practice sky beside real galaxies: colours, redshifts, magnitudes, sizes, and how well colours tell redshift."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy.stats import ks_2samp, kstwobign

from ingest.__main__ import main
from ingest.errors import IngestError
from ingest.simulate import draw_catalog, likeness_command
from ingest.simulate.likeness import (
    Sample,
    Shapes,
    neighbour_skill,
    practice_sample,
    practice_shapes,
    real_sample,
    real_shapes,
    training_skill,
)
from ingest.simulate.twosample import as_text, chance_distance, colour_distances, distance, shape_distances

REAL_CATALOGUE = "catalogs/Skyserver_SQL2_27_2018.csv"
PHOTOOBJ = ("sdss/000094-1-0012/photoObj-000094-1-0012.fits", "sdss/photoObj-003900-6-0269.fits")
TRAINING = 100_000
# A model of a few smooth laws is not the sky: in no bin may more than one galaxy in ten lie on the wrong side of any
# colour, beyond what chance does. The redshifts of 4,810 galaxies follow their own walls and voids besides.
MODEL_ALLOWANCE = 0.10


@pytest.fixture(scope="module")
def catalog() -> pa.Table:
    """100,000 galaxies to learn from and 2,000 to predict."""
    return draw_catalog(TRAINING + 2000, seed=1)


@pytest.fixture(scope="module")
def practice(catalog: pa.Table) -> Sample:
    """As many galaxies within the limits of the real catalogue as that has."""
    return practice_sample(catalog).seen().take(slice(4810))


def test_practice_galaxies_are_distributed_as_real_ones(practice: Sample, survey_data: Path) -> None:
    rows = colour_distances(practice, real_sample(survey_data / REAL_CATALOGUE).seen())
    assert len(rows) == 2 + 7 * 5
    far = [row for row in rows if row.distance > row.chance + MODEL_ALLOWANCE]
    assert not far, as_text(far)


def test_practice_galaxies_are_shaped_as_real_ones(survey_data: Path) -> None:
    for real in real_shapes([survey_data / path for path in PHOTOOBJ]):
        rows = shape_distances(practice_shapes(real, 30_000, seed=2), real)
        far = [row for row in rows if row.distance > row.chance + MODEL_ALLOWANCE]
        assert len(rows) == 9
        assert not far, as_text(far)


@pytest.mark.parametrize("magnitude", ["modelMag", "petroMag"])
@pytest.mark.parametrize("standardised", [False, True])
def test_colours_predict_redshift_as_well_as_on_the_real_sky(
    catalog: pa.Table, magnitude: str, standardised: bool
) -> None:
    skill = neighbour_skill(practice_sample(catalog, magnitude).seen().take(slice(4810)), standardised=standardised)
    assert 0.015 < skill.sigma_mad < 0.020  # real: 0.0184 as they are, 0.0167 standardised
    assert 0.01 < skill.eta < 0.04  # real: 0.021, 0.018


@pytest.mark.parametrize("standardised", [False, True])
def test_a_large_training_set_is_neither_too_easy_nor_too_hard(catalog: pa.Table, standardised: bool) -> None:
    skill = training_skill(practice_sample(catalog, dereddened=True), TRAINING, standardised=standardised)
    # 2,000 galaxies give the spread within 1.17 / sqrt(2000) = 2.6 %.
    assert 0.012 < skill.sigma_mad < 0.018


def test_the_comparison_measures_the_real_sky_as_scikit_learn_does(survey_data: Path) -> None:
    from sklearn.neighbors import KNeighborsRegressor

    real = real_sample(survey_data / REAL_CATALOGUE).seen()
    assert len(real.mag) == 4810
    points = np.column_stack([-np.diff(real.mag, axis=1), real.mag[:, 2]])
    points /= points.std(axis=0)
    # Without a query, scikit-learn leaves each point out of its own neighbours.
    nearest = KNeighborsRegressor(10).fit(points, real.redshift).kneighbors(return_distance=False)
    skill = neighbour_skill(real, standardised=True)
    np.testing.assert_allclose(skill.predicted, real.redshift[nearest].mean(axis=1), atol=1e-3)
    assert skill.sigma_mad == pytest.approx(0.0167, abs=5e-4)
    assert skill.eta == pytest.approx(0.02, abs=0.005)


def test_neighbours_in_a_training_set_never_include_the_galaxy_itself() -> None:
    """Of two galaxies of each colour, one to learn from and one to predict, the answer is known."""
    colours = np.repeat(np.arange(40.0), 10)  # ten to learn from of each of forty colours
    mag = np.zeros((len(colours) + 40, 5))
    mag[:, 0] = np.concatenate([colours, np.arange(40.0)])
    redshift = np.concatenate([np.full(len(colours), 0.1), np.full(40, 0.2)])
    skill = training_skill(Sample("two", mag, redshift), len(colours), standardised=False)
    np.testing.assert_allclose(skill.predicted, 0.1)
    assert skill.eta == 1.0  # each is off by 0.1 / 1.2


@pytest.mark.parametrize("sizes", [(5, 7), (100, 30), (1000, 1000)])
def test_the_distance_is_scipys(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=sizes[0]), rng.normal(0.3, 1.2, size=sizes[1]).round(1)  # ties, too
    assert distance(left, right) == pytest.approx(ks_2samp(left, right).statistic, abs=1e-12)
    assert distance(left, left) == 0.0
    assert distance(left, left + 100) == 1.0


def test_chance_is_the_five_per_cent_point_of_kolmogorovs_distribution() -> None:
    # The series' second term, 2 exp(-8 x^2), is 8e-7 at that point.
    assert chance_distance(200, 300) == pytest.approx(kstwobign.isf(0.05) * np.sqrt(1 / 200 + 1 / 300), rel=1e-5)


def test_a_bin_with_next_to_no_galaxies_has_no_row() -> None:
    rng = np.random.default_rng(4)
    shapes = Shapes("few", rng.uniform(15, 18, 30), rng.uniform(1, 3, (30, 3)), 1.4, 0.03)
    assert {row.limits for row in shape_distances(shapes, shapes)} == {"r 15 - 18"}


def test_the_command_prints_the_distances_and_draws_them(
    catalog: pa.Table,
    survey_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(likeness_command, "TRAINING", 500)
    monkeypatch.setattr(likeness_command, "TEST", 100)
    monkeypatch.setattr(likeness_command, "SHAPE_CANDIDATES", 5000)
    pa.parquet.write_table(catalog.slice(0, 3000), tmp_path / "catalog.parquet")
    arguments = ["likeness", "--practice", str(tmp_path / "catalog.parquet"), "--out", str(tmp_path / "likeness.png")]
    arguments += ["--real", str(survey_data / REAL_CATALOGUE)]
    assert main([*arguments, "--photoobj", str(survey_data / PHOTOOBJ[1])]) == 0
    told = capsys.readouterr().out
    for word in ("z 0.13 - 0.2", "r 19 - 20", "R90 / R50", "sigma_MAD", "100 by 500 others"):
        assert word in told
    assert (tmp_path / "likeness.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_another_catalogue_may_spell_its_columns_as_sdss_does(practice: Sample, tmp_path: Path) -> None:
    columns = {f"MODELMAG_{band.upper()}": practice.mag[:, place] for place, band in enumerate("ugriz")}
    pa.parquet.write_table(pa.table(columns | {"specZ": practice.redshift}), tmp_path / "others.parquet")
    read = real_sample(tmp_path / "others.parquet")
    np.testing.assert_array_equal(read.mag, practice.mag)
    np.testing.assert_array_equal(read.redshift, practice.redshift)


def test_a_catalogue_without_redshifts_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pa.parquet.write_table(draw_catalog(10, seed=1), tmp_path / "practice.parquet")
    pa.parquet.write_table(pa.table({band: [17.0] for band in "ugriz"}), tmp_path / "real.parquet")
    files = ["--practice", str(tmp_path / "practice.parquet"), "--real", str(tmp_path / "real.parquet")]
    assert main(["likeness", *files, "--out", str(tmp_path / "figure.png")]) == 2
    told = capsys.readouterr().err
    assert "expected a column redshift or specz, found none" in told
    assert told.count("\n") == 1


def test_shapes_of_another_catalogue_need_neither_mode_nor_type(tmp_path: Path) -> None:
    measured = {"petroMag_r": [16.0, 17.0, -9999.0], "extinction_r": [0.1, 0.2, 0.1], "petroR50_r": [2.0, 3.0, -9999.0]}
    measured |= {"petroR90_r": [5.0, 6.0, -9999.0], "expAB_r": [0.4, 0.9, -9999.0], "psfFWHM_r": [1.2, 1.4, 1.2]}
    pa.parquet.write_table(pa.table(measured), tmp_path / "others.parquet")
    (shapes,) = real_shapes([tmp_path / "others.parquet"])
    np.testing.assert_allclose(shapes.r_mag, [15.9, 16.8])
    np.testing.assert_allclose(shapes.measures, [[2.0, 2.5, 0.4], [3.0, 2.0, 0.9]])
    assert shapes.psf_fwhm_arcsec == pytest.approx(1.3)


def test_a_table_without_galaxies_of_known_shape_is_refused(tmp_path: Path) -> None:
    names = ("petroMag_r", "extinction_r", "petroR50_r", "petroR90_r", "expAB_r", "psfFWHM_r")
    pa.parquet.write_table(pa.table({name: [-9999.0] for name in names}), tmp_path / "others.parquet")
    with pytest.raises(IngestError, match=r"others\.parquet: expected galaxies of 14\.0 < r < 20\.0, found none"):
        real_shapes([tmp_path / "others.parquet"])
