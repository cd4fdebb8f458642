"""Presets: found by name, checked when made, and fitted to the real tables they say they are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from augment import PRESETS, AugmentError, BandLogNormal, Preset, preset
from augment.presets import SDSS_PSF_FWHM_ARCSEC, SDSS_SKY_SIGMA_NANOMAGGY

RUNS = ("000094-1", "003900-6", "002583-2")
# Where both widths are known: the field of photoField, and its photoObj.
BOTH_WIDTHS = {("000094-1", 12): "000094-1-0012/photoObj-000094-1-0012", ("003900-6", 269): "photoObj-003900-6-0269"}


def test_known_presets():
    assert set(PRESETS) == {"hayat2021", "stein2021", "none"}
    assert all(preset(name) is each for name, each in PRESETS.items())


def test_unknown_preset_is_one_line_that_names_the_known():
    with pytest.raises(AugmentError) as caught:
        preset("hayat2012")
    assert str(caught.value) == (
        "preset: expected one of hayat2021, stein2021, none, got 'hayat2012'; choose one of those"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"ebv_mag": (0.5, 0.0)},
        {"ebv_mag": (-0.1, 0.5)},
        {"angle_deg": (0.0, float("inf"))},
        {"angle_deg": (float("nan"), 1.0)},
        {"scale": (0.0, 1.0)},
        {"mad_factor": (-1.0, 3.0)},
        {"max_shift_px": -1},
        {"flip_probability": 1.5},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(AugmentError, match=f"preset: .*{next(iter(wrong))}"):
        Preset(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"median": (1.0, 0.0)}, {"ln_sigma": (0.1, -0.1)}, {"correlation": 1.1}, {"median": (1.0,)}]
)
def test_impossible_log_normals_are_refused(wrong):
    right = {"bands": ("g", "r"), "median": (1.0, 2.0), "ln_sigma": (0.1, 0.2), "correlation": 0.5}
    with pytest.raises(AugmentError, match="log-normal: "):
        BandLogNormal(**right | wrong)


def test_presets_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["none"].max_shift_px = 3


def fit(ln_runs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """Median, ln_sigma and mean correlation of (field, band) tables, every run with the same weight."""
    centre = np.mean([run.mean(axis=0) for run in ln_runs], axis=0)
    covariance = np.mean([(run - centre).T @ (run - centre) / len(run) for run in ln_runs], axis=0)
    sigma = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sigma, sigma)
    return np.exp(centre), sigma, correlation[np.triu_indices(5, 1)].mean()


def assert_is_fit(stated: BandLogNormal, ln_runs: list[np.ndarray]) -> None:
    """The stated numbers are the fitted ones, rounded to three or four digits."""
    median, sigma, correlation = fit(ln_runs)
    np.testing.assert_allclose(stated.median, median, rtol=2e-3)
    np.testing.assert_allclose(stated.ln_sigma, sigma, atol=6e-4)
    assert stated.correlation == pytest.approx(correlation, abs=6e-3)


def test_distributions_are_the_fits_they_say_they_are(survey_data: Path):
    fits = pytest.importorskip("astropy.io.fits")
    sdss = survey_data / "sdss"
    tables = {run: fits.getdata(sdss / f"photoField-{run}.fits", 1) for run in RUNS}
    assert sum(len(table) for table in tables.values()) == 1578
    ratios = []
    for (run, field), photo_obj in BOTH_WIDTHS.items():
        fwhm = fits.getdata(sdss / f"{photo_obj}.fits", 1)["PSF_FWHM"].astype(float)
        fwhm[fwhm <= 0] = np.nan
        width = tables[run]["PSF_WIDTH"][tables[run]["FIELD"] == field][0]
        ratios.append(width / np.nanmedian(fwhm, axis=0))
    ratio = np.exp(np.mean(np.log(ratios)))
    assert ratio == pytest.approx(1.11, abs=5e-3)
    assert [(round(min(each), 2), round(max(each), 2)) for each in ratios] == [(1.07, 1.09), (1.12, 1.18)]
    widths = [np.log(table["PSF_WIDTH"].astype(float) / 1.11) for table in tables.values()]
    assert_is_fit(SDSS_PSF_FWHM_ARCSEC, widths)
    skies = [np.log(table["SKYSIG"].astype(float) * table["NMGYPERCOUNT"]) for table in tables.values()]
    assert_is_fit(SDSS_SKY_SIGMA_NANOMAGGY, skies)
