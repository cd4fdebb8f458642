"""The figures of merit against a table made by hand, independent programs, and closed forms for their errors."""

import numpy as np
import pytest
from astropy.stats import mad_std
from scipy.stats import median_abs_deviation, norm

from trainer import metrics
from trainer.errors import TrainerError

# Galaxies chosen so that every figure comes out by hand.
#    z_spec  z_phot   dz     |dz - 0.01|
#    0.0     0.01     0.01   0.00
#    0.0    -0.02    -0.02   0.03
#    0.0     0.06     0.06   0.05   the one outlier
#    1.0     1.06     0.03   0.02
#    1.0     0.98    -0.01   0.02
Z_SPEC = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
Z_PHOT = np.array([0.01, -0.02, 0.06, 1.06, 0.98])


def test_the_table_made_by_hand() -> None:
    score = metrics.score_photoz(Z_PHOT, Z_SPEC)
    assert score.n == 5
    assert score.sigma_mad == pytest.approx(1.4826 * 0.02, rel=1e-12)
    assert score.eta == pytest.approx(1 / 5, rel=1e-12)
    assert score.bias == pytest.approx(0.07 / 5, rel=1e-12)


def test_an_estimate_on_the_limit_is_no_outlier() -> None:
    assert metrics.eta(np.array([0.05, -0.05])) == 0.0
    assert metrics.eta(np.array([0.0501, -0.0501, 0.0, 0.0])) == 0.5


@pytest.mark.parametrize("n", [1, 2, 3, 100, 1001])
def test_figures_equal_those_of_other_programs(n: int) -> None:
    rng = np.random.default_rng(n)
    z_spec = rng.uniform(0, 0.4, n)
    z_phot = z_spec + rng.standard_t(2, n) * 0.02
    dz = metrics.residuals(z_phot, z_spec)
    assert metrics.sigma_mad(dz) == pytest.approx(median_abs_deviation(dz, scale=1 / 1.4826), rel=1e-12)
    # astropy has the constant to 16 digits, the papers round it: 1.482602 / 1.4826 - 1 = 1.5e-6.
    assert metrics.sigma_mad(dz) == pytest.approx(mad_std(dz), rel=2e-6)
    outliers = sum(abs((p - s) / (1 + s)) > 0.05 for p, s in zip(z_phot.tolist(), z_spec.tolist(), strict=True))
    assert metrics.eta(dz) == pytest.approx(outliers / n, rel=1e-12)
    assert metrics.bias(dz) == pytest.approx(sum(dz.tolist()) / n, rel=1e-9, abs=1e-15)


def test_bootstrap_errors_of_means_have_their_closed_form() -> None:
    dz = np.random.default_rng(1).normal(0, 0.04, 500)
    score = metrics.score_photoz(dz, np.zeros(500))
    # The bootstrap's own variance of a mean is var / n. 1000 draws give a standard deviation to
    # 1 / sqrt(2 * 1000) = 2.2 %; allow 4 sigma.
    assert score.bias_error == pytest.approx(dz.std() / np.sqrt(500), rel=0.09)
    assert score.eta_error == pytest.approx(np.sqrt(score.eta * (1 - score.eta) / 500), rel=0.09)


def test_the_bootstrap_error_of_sigma_mad_is_that_of_a_gaussian() -> None:
    n, sigma, sets = 4000, 0.02, 8
    samples = np.random.default_rng(2).normal(0, sigma, (sets, n))
    errors = [metrics.bootstrap_error(sample, metrics.sigma_mad, seed=3, draws=300) for sample in samples]
    # Of a symmetric sample the MAD is the median of |x|, whose density there is 2 phi(q) / sigma with q = Phi^-1(3/4);
    # a median's variance is 1 / (4 n density^2). A bootstrapped quantile's error scatters by about n^(-1/4) / 2 = 6 %
    # from sample to sample, the mean of 8 by 2.2 %; 300 draws add 4 % / sqrt(8). Allow 4 sigma.
    expected = 1.4826 * sigma / (4 * np.sqrt(n) * norm.pdf(norm.ppf(0.75)))
    assert np.mean(errors) == pytest.approx(expected, rel=0.11)


def test_scores_are_the_same_each_time() -> None:
    assert metrics.score_photoz(Z_PHOT, Z_SPEC, seed=4) == metrics.score_photoz(Z_PHOT, Z_SPEC, seed=4)
    assert metrics.score_photoz(Z_PHOT, Z_SPEC, seed=4) != metrics.score_photoz(Z_PHOT, Z_SPEC, seed=5)


def test_no_galaxy_is_left_out_in_silence() -> None:
    with pytest.raises(TrainerError, match=r"got 1 of 5 that are not"):
        metrics.score_photoz(np.where(Z_PHOT == 0.06, np.nan, Z_PHOT), Z_SPEC)
    with pytest.raises(TrainerError, match="got none"):
        metrics.score_photoz(np.empty(0), np.empty(0))
