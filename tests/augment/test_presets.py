"""Presets: found by name, checked when made, and fitted to the real tables they say they are."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from augment import PRESETS, AugmentError, BandLogNormal, Preset, preset
from augment.presets import SDSS_PSF_FWHM_ARCSEC, SDSS_SKY_SIGMA_NANOMAGGY
from ingest.seeing import fit, read_fields


def test_known_presets():
    assert set(PRESETS) == {"hayat2021", "stein2021", "stein2021-drawn", "none"}
    assert all(preset(name) is each for name, each in PRESETS.items())


def test_unknown_preset_is_one_line_that_names_the_known():
    with pytest.raises(AugmentError) as caught:
        preset("hayat2012")
    assert str(caught.value) == (
        "preset: expected one of hayat2021, stein2021, stein2021-drawn, none, got 'hayat2012'; choose one of those"
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


def log_normal(**changed) -> BandLogNormal:
    right = {"bands": ("g", "r"), "median": (1.0, 2.0), "ln_sigma": (0.1, 0.2), "correlation": ((1.0, 0.5), (0.5, 1.0))}
    return BandLogNormal(**right | changed)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"median": (1.0, 0.0)}, "medians need to be finite and > 0"),
        ({"median": (1.0, math.nan)}, "medians need to be finite and > 0"),
        ({"median": (1.0,)}, "2 bands need as many medians"),
        ({"ln_sigma": (0.1, -0.1)}, "ln_sigmas need to be finite and >= 0"),
        ({"ln_sigma": (0.1, math.inf)}, "ln_sigmas need to be finite and >= 0"),
        ({"correlation": ((1.0, 0.5),)}, "rows and columns of the correlation"),
        ({"correlation": ((1.0,), (0.5, 1.0))}, "rows and columns of the correlation"),
        ({"correlation": ((1.0, 0.5), (0.4, 1.0))}, "symmetric with 1 on its diagonal"),
        ({"correlation": ((1.0, math.nan), (math.nan, 1.0))}, "symmetric with 1 on its diagonal"),
        ({"correlation": ((2.0, 0.5), (0.5, 2.0))}, "symmetric with 1 on its diagonal"),
        ({"correlation": ((1.0, 1.0), (1.0, 1.0))}, "expected a positive definite matrix"),
        ({"correlation": ((1.0, 1.1), (1.1, 1.0))}, "expected a positive definite matrix"),
    ],
)
def test_impossible_log_normals_are_refused(wrong, told):
    with pytest.raises(AugmentError, match=f"log-normal: .*{told}"):
        log_normal(**wrong)


def test_three_bands_cannot_all_be_each_others_opposites():
    """Each pair alone can: the least correlation that three share is -1/2."""
    opposed = ((1.0, -0.6, -0.6), (-0.6, 1.0, -0.6), (-0.6, -0.6, 1.0))
    with pytest.raises(AugmentError, match="positive definite"):
        log_normal(bands=("g", "r", "i"), median=(1.0,) * 3, ln_sigma=(0.1,) * 3, correlation=opposed)


@pytest.mark.parametrize("fitted", [SDSS_PSF_FWHM_ARCSEC, SDSS_SKY_SIGMA_NANOMAGGY, log_normal()])
def test_mixing_is_the_cholesky_factor_as_lapack_finds_it(fitted):
    # Sums of at most five products of numbers up to 1, and roots of pivots above 0.1: some 20 roundings.
    np.testing.assert_allclose(fitted.mixing(), np.linalg.cholesky(fitted.correlation), rtol=0, atol=20 * 2.0**-52)


def test_mixing_has_the_same_bits_everywhere():
    """Worked out by hand from its definition, with correctly rounded roots; made by Python 3.11 on x86-64."""
    assert log_normal().mixing() == ((1.0, 0.0), (0.5, math.sqrt(0.75)))
    golden = [
        ["0x1.0000000000000p+0"],
        ["0x1.cc49ba5e353f8p-1", "0x1.c0759adb4e845p-2"],
        ["0x1.b8d4fdf3b645ap-1", "0x1.5083bff4e012ep-3", "0x1.ece227b419cbcp-2"],
        ["0x1.b0a3d70a3d70ap-1", "0x1.69b12dab6ba6bp-3", "0x1.b0cbd28e1cf18p-2", "0x1.1a933a5ecb75dp-2"],
        [
            "0x1.a45a1cac08312p-1",
            "0x1.59dd70f382760p-2",
            "0x1.680c8dc8b10cbp-3",
            "0x1.b818fa87b214fp-3",
            "0x1.77f3b495fbfd8p-2",
        ],
    ]
    assert [[share.hex() for share in row[: i + 1]] for i, row in enumerate(SDSS_PSF_FWHM_ARCSEC.mixing())] == golden


def test_presets_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["none"].max_shift_px = 3


def pooled(values: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median, ln_sigma and correlation of (field, band), each field weighted by one over the fields of its run."""
    ln, weight = np.log(values), 1.0 / (run[:, None] == run).sum(axis=1)
    centre = np.average(ln, axis=0, weights=weight)
    covariance = np.cov(ln.T, aweights=weight, ddof=0)
    sigma = np.sqrt(np.diag(covariance))
    return np.exp(centre), sigma, covariance / np.outer(sigma, sigma)


def assert_states(stated: BandLogNormal, median: np.ndarray, sigma: np.ndarray, correlation: np.ndarray) -> None:
    """The stated numbers are those, rounded: medians to four digits, the others to three decimals."""
    assert stated.bands == tuple("ugriz")
    np.testing.assert_allclose(stated.median, median, rtol=5.001e-4)
    np.testing.assert_allclose(stated.ln_sigma, sigma, rtol=0, atol=5.001e-4)
    np.testing.assert_allclose(stated.correlation, correlation, rtol=0, atol=5.001e-4)


def test_distributions_are_the_fits_they_say_they_are(survey_data: Path):
    """As `python -m ingest seeing` fits them, and as NumPy does from the columns themselves."""
    fits = pytest.importorskip("astropy.io.fits")
    paths = [survey_data / "sdss" / f"photoField-{run}.fits" for run in ("000094-1", "002583-2", "003900-6")]
    fields = read_fields(paths)
    for stated, values in ((SDSS_PSF_FWHM_ARCSEC, fields.psf_fwhm), (SDSS_SKY_SIGMA_NANOMAGGY, fields.sky_sigma)):
        fitted = fit(values, fields.run)
        assert_states(stated, np.exp(fitted.ln_median), fitted.ln_sigma, fitted.correlation)

    tables = [fits.getdata(path, 1) for path in paths]
    run, width, sky, calibration = (
        np.concatenate([np.asarray(table[name], dtype=float) for table in tables])
        for name in ("RUN", "PSF_WIDTH", "SKYSIG", "NMGYPERCOUNT")
    )
    assert len(run) == 1578
    assert_states(SDSS_PSF_FWHM_ARCSEC, *pooled(width / 1.11, run))
    assert_states(SDSS_SKY_SIGMA_NANOMAGGY, *pooled(sky * calibration, run))
