"""How seeing and sky noise vary: the fit against its definition and real tables, and the command that draws it."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from ingest import IngestError
from ingest.__main__ import main
from ingest.seeing import PSF_WIDTH_OVER_FWHM, Fields, fit, read_fields, read_star_widths

SHARES = np.array([[0.2, 0.0, 0.0, 0.0, 0.0], *(0.1 * np.eye(5)[1:] + [0.1, 0, 0, 0, 0])])  # of normals in ln x


def write_photofield(path: Path, run: int, fields: int, **changed) -> Path:
    """A photoField table with one PSF_WIDTH, SKYSIG and NMGYPERCOUNT for all fields, but for those changed."""
    columns = {"PSF_WIDTH": np.full((fields, 5), 1.5), "SKYSIG": np.full((fields, 5), 6.0),
               "NMGYPERCOUNT": np.full((fields, 5), 0.005)} | changed  # fmt: skip
    names = {"RUN": np.full(fields, run), "CAMCOL": np.full(fields, 3), "FIELD": np.arange(fields) + 11}
    table = [fits.Column(name, "J", array=values) for name, values in names.items()]
    table += [fits.Column(name, "5E", array=values) for name, values in columns.items()]
    fits.BinTableHDU.from_columns(table).writeto(path)
    return path


@pytest.fixture(scope="module")
def real_fields(survey_data: Path) -> Fields:
    return read_fields(sorted((survey_data / "sdss").glob("photoField-*.fits")))


def test_the_fit_finds_what_was_drawn():
    rng = np.random.default_rng(5)
    centre, count = np.log([1.4, 1.3, 1.2, 1.1, 1.3]), 20_000
    values = np.exp(centre + rng.standard_normal((count, 5)) @ SHARES.T)
    fitted = fit(values, np.zeros(count, dtype=np.int64))
    covariance = SHARES @ SHARES.T
    sigma = np.sqrt(np.diag(covariance))
    # Of one run: standard errors sigma / sqrt(n), sigma / sqrt(2 n), (1 - rho^2) / sqrt(n) <= 0.0071; 5 of each.
    np.testing.assert_allclose(fitted.ln_median, centre, rtol=0, atol=5 * 0.2 / count**0.5)
    np.testing.assert_allclose(fitted.ln_sigma, sigma, rtol=5 / (2 * count) ** 0.5)
    np.testing.assert_allclose(fitted.correlation, covariance / np.outer(sigma, sigma), rtol=0, atol=0.036)
    assert not fitted.between.any()


def test_every_run_has_the_same_weight_however_many_fields_it_has():
    few, many = np.exp([[0.0] * 5, [0.2] * 5]), np.exp([[1.0] * 5, [1.4] * 5])
    run = np.array([1, 1, *[2] * 200])
    fitted = fit(np.concatenate([few, np.tile(many, (100, 1))]), run)
    np.testing.assert_allclose(fitted.ln_median, (0.1 + 1.2) / 2)
    np.testing.assert_allclose(fitted.within, (0.1**2 + 0.2**2) / 2)
    np.testing.assert_allclose(fitted.between, ((1.2 - 0.1) / 2) ** 2)
    np.testing.assert_allclose(fitted.ln_sigma, np.sqrt(0.025 + 0.55**2))


def test_fields_that_lack_a_number_are_left_out_and_counted(tmp_path: Path):
    width, sky = np.full((10, 5), 1.5), np.full((10, 5), 6.0)
    width[1, 2], width[4, 0], sky[2, 4], sky[3, 0] = -9999, np.inf, np.nan, 0
    fields = read_fields([write_photofield(tmp_path / "photoField-1-3.fits", 1, 10, PSF_WIDTH=width, SKYSIG=sky)])
    assert (fields.run.tolist(), fields.left_out) == ([1] * 6, 4)
    np.testing.assert_allclose(fields.psf_fwhm, 1.5 / 1.11)
    np.testing.assert_allclose(fields.sky_sigma, 0.03)


def test_the_ratio_of_the_two_widths_is_the_measured_one(survey_data: Path):
    """Where both are known; psField's psf_width is photoField's PSF_WIDTH, to the last bit."""
    sdss = survey_data / "sdss"
    places = (
        ("photoField-000094-1.fits", "000094-1-0012/photoObj-000094-1-0012.fits", 12),
        ("photoField-003900-6.fits", "photoObj-003900-6-0269.fits", 269),
        ("001000-1-0100-tiny/psField-001000-1-0100.fit", "001000-1-0100-tiny/photoObj-001000-1-0100.fits", None),
    )
    ratios = []
    for widths, objects, field in places:
        table = fits.getdata(sdss / widths, 6 if field is None else 1)
        width = (table if field is None else table[table["FIELD"] == field])["PSF_WIDTH"][0]
        fwhm = fits.getdata(sdss / objects, 1)["PSF_FWHM"].astype(float)
        ratios.append(width / np.nanmedian(np.where(fwhm > 0, fwhm, np.nan), axis=0))
    assert [(round(min(each), 2), round(max(each), 2)) for each in ratios] == [(1.07, 1.09), (1.12, 1.18), (1.06, 1.12)]
    assert np.exp(np.log(ratios).mean()) == pytest.approx(PSF_WIDTH_OVER_FWHM, abs=5e-3)
    own = fits.getdata(sdss / "000094-1-0012/psField-000094-1-0012.fit", 6)["psf_width"][0]
    assert np.array_equal(own, fits.getdata(sdss / "photoField-000094-1.fits", 1)["PSF_WIDTH"][1])
    # One for all bands: they differ by less than the fields do.
    assert np.log(ratios).mean(axis=0).std(ddof=1) == pytest.approx(0.015, abs=2e-3)
    assert np.log(ratios).mean(axis=1).std(ddof=1) == pytest.approx(0.032, abs=2e-3)


def test_bands_are_correlated_as_the_comment_of_the_presets_says(real_fields: Fields):
    ln, pairs = np.log(real_fields.psf_fwhm), np.triu_indices(5, 1)
    within = [np.corrcoef(ln[real_fields.run == run].T)[pairs] for run in (94, 2583, 3900)]
    assert (round(np.min(within), 2), round(np.max(within), 2)) == (0.54, 0.90)
    over_all = fit(real_fields.psf_fwhm, real_fields.run).correlation[pairs]
    assert (round(over_all.min(), 2), round(over_all.max(), 2)) == (0.82, 0.96)


def test_a_run_that_was_not_fitted_falls_within_the_fit(real_fields: Fields, survey_data: Path):
    run, widths = read_star_widths(survey_data / "sdss/004510-4-0030/calibObj-004510-4-star.fits.gz")
    assert (run, len(widths)) == (4510, 30)
    fitted = fit(real_fields.psf_fwhm, real_fields.run)
    deviation = fitted.deviation(widths)
    np.testing.assert_allclose(deviation, [-1.2, -0.8, -0.7, -0.8, -1.2], atol=0.05)
    # The five together, as one draw: chi squared of five degrees of freedom, below 11.07 in 95 % of draws.
    assert deviation @ np.linalg.solve(fitted.correlation, deviation) < 11.07


def test_the_command_prints_the_fit_and_draws_it(tmp_path: Path, capsys):
    widths = np.random.default_rng(1).uniform(1.2, 1.8, (2, 30, 5))
    tables = [write_photofield(tmp_path / f"photoField-{run}-3.fits", run, 30, PSF_WIDTH=widths[run],
                               SKYSIG=4 * widths[run]) for run in (0, 1)]  # fmt: skip
    out = tmp_path / "seeing.png"
    assert main(["seeing", *map(str, tables), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "60 fields, 0 more left out; runs, each with the same weight: 0, 1"
    assert lines[-1] == str(out)
    median = np.exp(np.log(widths).mean(axis=(0, 1))) / 1.11
    assert [float(line.split()[1]) for line in lines[2:7]] == pytest.approx(median, rel=1e-3)
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_is_no_photofield_table_is_told_in_one_line(tmp_path: Path):
    table = write_photofield(tmp_path / "photoField-1-3.fits", 1, 2)
    with pytest.raises(IngestError, match=r"^photoField: field 1-3-11 comes 2 times, expected once; name each table"):
        read_fields([table, table])
    nothing = write_photofield(tmp_path / "empty.fits", 1, 2, SKYSIG=np.zeros((2, 5)))
    with pytest.raises(IngestError, match=r"empty\.fits: no field has PSF_WIDTH, SKYSIG and NMGYPERCOUNT in all bands"):
        read_fields([nothing])
    with pytest.raises(IngestError, match=r"^photoField: run 1 has 2 whole fields, expected 6 or more"):
        read_fields([table])
    with pytest.raises(IngestError, match=r"none\.fits: there is no such file, expected a photoField table"):
        read_fields([tmp_path / "none.fits"])
    with pytest.raises(IngestError, match=r"3\.fits: a calibObj table has a column psf_fwhm_u, this one has none"):
        read_star_widths(table)
