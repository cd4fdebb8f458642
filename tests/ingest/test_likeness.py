"""The practice sky beside real galaxies: colours, redshifts, magnitudes, sizes, and how well colours tell redshift."""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from matplotlib.figure import Figure
from scipy.stats import ks_2samp, kstwobign

from ingest.__main__ import main
from ingest.errors import IngestError
from ingest.simulate import draw_catalog, likeness_command
from ingest.simulate.likeness import (
    FITTED_CATALOGUE,
    Sample,
    Shapes,
    neighbour_skill,
    practice_sample,
    practice_shapes,
    real_sample,
    real_shapes,
    training_skill,
)
from ingest.simulate.likeness_command import LikenessConfig, likeness
from ingest.simulate.likeness_figure import write_figure
from ingest.simulate.twosample import as_text, chance_distance, colour_distances, distance, shape_distances

REAL_CATALOGUE = f"catalogs/{FITTED_CATALOGUE}"
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


@pytest.mark.parametrize("held_out", [False, True])
def test_practice_galaxies_are_distributed_as_real_ones(held_out: bool, practice: Sample, survey_data: Path) -> None:
    """Half of the real galaxies are those that the survey was fitted to: the others alone test it."""
    real = real_sample(survey_data / REAL_CATALOGUE)
    rows = colour_distances(practice, (real.held_out() if held_out else real).seen())
    assert [row.real for row in rows[:2]] == [4771 // 2 if held_out else 4771] * 2
    assert len(rows) == 2 + 7 * 5
    far = [row for row in rows if row.distance > row.chance + MODEL_ALLOWANCE]
    assert not far, as_text(far)


def test_galaxies_beyond_the_limits_of_the_fit_are_all_held_out(practice: Sample) -> None:
    faint = Sample("faint", practice.mag + 5.0, practice.redshift)
    assert len(faint.held_out().redshift) == len(faint.redshift)


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
    assert 0.015 < skill.sigma_mad < 0.020  # real: 0.0182 as they are, 0.0167 standardised
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
    for word in ("z 0.13 - 0.2", "not fitted to", "r 19 - 20", "R90 / R50", "sigma_MAD", "100 by 500 others"):
        assert word in told
    assert (tmp_path / "likeness.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def _others(**changed: object) -> pa.Table:
    """Another catalogue's 50 galaxies, some columns changed, or left out where None."""
    rng = np.random.default_rng(5)
    columns: dict[str, object] = {band: rng.uniform(16, 17, 50) for band in "ugriz"}
    columns |= {"redshift": rng.uniform(0.04, 0.06, 50)} | changed
    return pa.table({name: column for name, column in columns.items() if column is not None})


def test_another_catalogue_may_be_dereddened_and_have_other_limits(
    catalog: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness_command, "TRAINING", 500)
    monkeypatch.setattr(likeness_command, "TEST", 100)
    drawn: list[Sample] = []
    monkeypatch.setattr(likeness_command, "write_figure", lambda *args: drawn.extend(args[:2]))
    rng = np.random.default_rng(7)
    petrosian = {f"petroMag_{band}": rng.uniform(15, 16, 50) for band in "ugriz"}
    pa.parquet.write_table(_others(**petrosian), tmp_path / "others.parquet")
    options = {"real": tmp_path / "others.parquet", "out": tmp_path / "likeness.png", "galaxies": 300, "seed": 1}
    options |= {"magnitude": "petroMag", "dereddened": True, "u_limit": np.inf, "r_limit": 17.0}
    assert likeness(argparse.Namespace(command=likeness, **options)) == 0
    assert capsys.readouterr().out.startswith("r < 17, 0.003 < z < 0.4, magnitudes dereddened\n")
    practice, real = drawn
    assert len(real.mag) == 50
    np.testing.assert_array_equal(real.mag[:, 2], petrosian["petroMag_r"])
    survey = draw_catalog(300, seed=1)
    r_mag = survey["petroMag_r"].to_numpy() - survey["extinction_r"].to_numpy()
    np.testing.assert_array_equal(practice.mag[:, 2], r_mag[r_mag < 17.0])


def test_the_limits_are_those_of_the_real_catalogue_by_default(tmp_path: Path) -> None:
    config = LikenessConfig(real=tmp_path, out=tmp_path)
    assert config.limits() == "u < 19.6, r < 17.8, 0.003 < z < 0.4"


HALF_KNOWN = np.where(np.arange(50) < 5, np.nan, 0.05)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"class": ["STAR"] * 50}, r"column class: expected GALAXY in some rows, found none; correct it"),
        ({"class": np.arange(50)}, r"column class: expected GALAXY in some rows, got int64; correct it"),
        ({"redshift": ["near"] * 50}, r"column redshift: expected numbers, got string; correct"),
        ({"redshift": [None] * 5 + [0.05] * 45}, r"got 5 of 50 without; leave these out"),
        ({"redshift": HALF_KNOWN}, r"got 5 of 50 without; leave these out"),
        (
            {"redshift": np.full(50, 0.5)},
            r"at least 11 galaxies of u < 19\.6, r < 17\.8, 0\.003 < z < 0\.4, got 0; take",
        ),
        ({"u": [-9999.0] + [17.0] * 49}, r"five magnitudes of 0 to 40 of every galaxy, got 1 of 50 without; leave"),
        ({"u": np.full(50, 22.0)}, r"at least 11 galaxies .*, got 0; take"),
        ({"u": np.append(np.full(40, 22.0), np.full(10, 17.0))}, r"at least 11 galaxies .*, got 10; take"),
        (
            {band: np.full(50, 17.0) for band in "gr"},
            r"expected galaxies of many colours, got one g - r for all; check",
        ),
        ({"i": None}, r"expected a column modelMag_i or i, found none; give"),
    ],
)
def test_a_catalogue_that_cannot_be_compared_is_refused_in_one_line(
    changed: dict[str, object], told: str, catalog: pa.Table, tmp_path: Path
) -> None:
    pa.parquet.write_table(catalog.slice(0, 100), tmp_path / "practice.parquet")
    pa.parquet.write_table(_others(**changed), tmp_path / "others.parquet")
    arguments = {"practice": tmp_path / "practice.parquet", "real": tmp_path / "others.parquet"}
    with pytest.raises(IngestError, match=rf"^.*others\.parquet: .*{told}[^\n]*$"):
        likeness(argparse.Namespace(out=tmp_path / "likeness.png", **arguments))


@pytest.mark.parametrize(
    ("without", "rows", "told"),
    [
        ("modelMag_u", 100, r"expected a column modelMag_u, found none; give"),
        ("specz", 100, r"expected a column specz, found none; give"),
        ("expAB_r", 8, r"expected at least 11 galaxies"),
    ],
)
def test_a_practice_catalogue_that_is_none_is_refused_in_one_line(
    without: str, rows: int, told: str, catalog: pa.Table, tmp_path: Path
) -> None:
    pa.parquet.write_table(catalog.slice(0, rows).drop_columns([without]), tmp_path / "practice.parquet")
    pa.parquet.write_table(_others(), tmp_path / "others.parquet")
    arguments = {"practice": tmp_path / "practice.parquet", "real": tmp_path / "others.parquet"}
    with pytest.raises(IngestError, match=rf"^.*practice\.parquet: {told}[^\n]*$"):
        likeness(argparse.Namespace(out=tmp_path / "likeness.png", **arguments))


def test_the_figure_leaves_out_bins_of_next_to_no_galaxies(
    practice: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **options: drawn.append(figure))
    near = Sample("SDSS", practice.mag[:24], np.append(np.full(20, 0.06), np.full(4, 0.12)))
    rng = np.random.default_rng(6)
    shapes = Shapes("few", rng.uniform(15, 18, 30), rng.uniform(1, 3, (30, 3)), 1.4, 0.03)
    rows = shape_distances(shapes, shapes)
    write_figure(near, near, rows, [(shapes, shapes)], tmp_path / "likeness.png")
    axes = drawn[0].axes
    np.testing.assert_allclose(axes[0].lines[0].get_xdata(), [0.06])
    np.testing.assert_allclose(axes[9].lines[0].get_xdata(), [16.5])
    assert axes[9].get_title() == f"distance 0.00 (chance {rows[0].chance:.2f})"


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
    measured = {"petroMag_r": [16.0, 17.0, -9999.0, 17.0], "extinction_r": [0.1, 0.2, 0.1, 0.1]}
    measured |= {"petroR50_r": [2.0, 3.0, -9999.0, 2.0], "petroR90_r": [5.0, 6.0, -9999.0, -9999.0]}
    measured |= {"expAB_r": [0.4, 0.9, -9999.0, None], "psfFWHM_r": [1.2, 1.4, 1.2, 1.0]}
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
