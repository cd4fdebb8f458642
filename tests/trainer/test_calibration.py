"""Densities judged: PIT and CRPS beside numbers made by hand, brute force, other programs and their own laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from trainer import calibration
from trainer.photoz import Z_MAX

TABLES = st.tuples(st.integers(2, 12), st.integers(1, 20), st.integers(0, 2**32 - 1))


def table(bins: int, galaxies: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random densities with empty bins among them, and redshifts with both ends and edges of bins among them."""
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.3, size=(galaxies, bins)) + 1e-9
    weights[rng.random((galaxies, bins)) < 0.3] = 0.0
    weights[:, rng.integers(bins)] += 0.1
    z_spec = rng.uniform(0, Z_MAX, galaxies)
    z_spec[rng.random(galaxies) < 0.3] = rng.choice(np.linspace(0, Z_MAX, bins + 1))
    return weights / weights.sum(axis=1, keepdims=True), z_spec


def function(row: np.ndarray, z: np.ndarray) -> np.ndarray:
    """F at ``z``, by numpy's interpolation."""
    edges = np.linspace(0, Z_MAX, len(row) + 1)
    return np.interp(z, edges, np.concatenate([[0.0], np.cumsum(row)]))


def test_the_table_made_by_hand() -> None:
    probabilities = np.array([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    z_spec = np.array([0.05, 0.3, 0.25])
    # F rises straight from 0 at 0 to 1 at 0.2: at 0.05 it is 1/4.
    assert calibration.pit(probabilities, z_spec) == pytest.approx([0.25, 1.0, 0.5], abs=1e-15)
    # Uniform over a width w, truth a share s up: w (s^3 + (1 - s)^3) / 3; beyond it: w / 3 and the distance.
    expected = [0.2 * (0.25**3 + 0.75**3) / 3, 0.2 / 3 + 0.1, 0.1 * 2 * 0.5**3 / 3]
    assert calibration.crps(probabilities, z_spec) == pytest.approx(expected, abs=1e-15)


@given(TABLES)
def test_crps_is_the_integral(shape: tuple[int, int, int]) -> None:
    probabilities, z_spec = table(*shape)
    bins = probabilities.shape[1]
    for row, truth, score in zip(probabilities, z_spec, calibration.crps(probabilities, z_spec), strict=True):
        # Between these places F is straight and the step constant, so Simpson's rule is exact for the square.
        places = np.unique(np.concatenate([np.linspace(0, Z_MAX, bins + 1), [truth]]))
        low, high = places[:-1], places[1:]
        middle = (low + high) / 2
        step = middle > truth
        square = [(function(row, z) - step) ** 2 for z in (low, middle, high)]
        total = np.sum((high - low) * (square[0] + 4 * square[1] + square[2]) / 6)
        assert score == pytest.approx(total, rel=1e-9, abs=1e-12)


@given(TABLES)
def test_crps_is_a_mean_distance_less_half_the_spread(shape: tuple[int, int, int]) -> None:
    probabilities, z_spec = table(*shape)
    bins = probabilities.shape[1]
    width = Z_MAX / bins
    low = np.arange(bins) * width
    # E|X - z| - E|X - X'| / 2 (Gneiting & Raftery 2007, equation 21), X uniform within each bin: within one, the mean
    # of |X - z| is (a^2 + b^2) / 2 w for z a above its lower and b below its upper edge, that of |X - X'| is w / 3.
    above, below = z_spec[:, None] - low, low + width - z_spec[:, None]
    inside = (above >= 0) & (below >= 0)
    distance = np.where(inside, (above**2 + below**2) / (2 * width), np.abs(z_spec[:, None] - low - width / 2))
    apart = np.abs(low[:, None] - low) + np.eye(bins) * width / 3
    spread = np.einsum("nb,bc,nc->n", probabilities, apart, probabilities)
    expected = (probabilities * distance).sum(axis=1) - spread / 2
    np.testing.assert_allclose(calibration.crps(probabilities, z_spec), expected, rtol=1e-9, atol=1e-12)


@given(TABLES)
def test_pit_is_the_distribution_function_at_the_redshift(shape: tuple[int, int, int]) -> None:
    probabilities, z_spec = table(*shape)
    expected = [function(row, np.array(truth)) for row, truth in zip(probabilities, z_spec, strict=True)]
    np.testing.assert_allclose(calibration.pit(probabilities, z_spec), expected, rtol=0, atol=1e-12)


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_ks_distance_is_scipys(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).beta(0.5, 0.8, n).round(2)  # with ties
    assert calibration.ks_distance(values) == pytest.approx(kstest(values, "uniform").statistic, abs=1e-12)


def drawn_from(probabilities: np.ndarray, seed: int) -> np.ndarray:
    """A redshift from each density."""
    rng = np.random.default_rng(seed)
    bins = probabilities.shape[1]
    place = (np.cumsum(probabilities, axis=1) < rng.random((len(probabilities), 1))).sum(axis=1).clip(max=bins - 1)
    return (place + rng.random(len(probabilities))) * Z_MAX / bins


def densities(galaxies: int, seed: int) -> np.ndarray:
    """Of different widths and places, in the 180 bins of the paper: float32, as networks give them."""
    rng = np.random.default_rng(seed)
    centre, sigma = rng.uniform(0.02, 0.3, (galaxies, 1)), rng.uniform(0.002, 0.05, (galaxies, 1))
    weights = np.exp(-(((np.arange(180) + 0.5) * Z_MAX / 180 - centre) ** 2) / (2 * sigma**2)) + 1e-12
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def test_what_is_drawn_from_its_own_density_has_a_uniform_pit_and_the_lowest_crps() -> None:
    galaxies = 20_000
    true = densities(galaxies, seed=1)
    z_spec = drawn_from(true, seed=2)
    # Kolmogorov's distribution: beyond 2.2 / sqrt(n) lies a share of 2 exp(-2 * 2.2^2) = 1.2e-4.
    assert calibration.ks_distance(calibration.pit(true, z_spec)) < 2.2 / np.sqrt(galaxies)
    wide = (true**0.5) / (true**0.5).sum(axis=1, keepdims=True)  # overcautious: too few in the tails
    narrow = (true**2) / (true**2).sum(axis=1, keepdims=True)
    for wrong in (wide, narrow):
        # Widths are off by sqrt(2); the normal distributions at x and sqrt(2) x differ by 0.083 at most.
        assert calibration.ks_distance(calibration.pit(wrong, z_spec)) > 0.06
        worse = calibration.crps(wrong, z_spec) - calibration.crps(true, z_spec)
        assert worse.mean() > 5 * worse.std() / np.sqrt(galaxies)


def test_galaxies_are_scored_alike_in_any_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = densities(30, seed=3)
    z_spec = drawn_from(probabilities, seed=4)
    whole = calibration.crps(probabilities, z_spec), calibration.pit(probabilities, z_spec)
    monkeypatch.setattr(calibration, "CHUNK_ROWS", 7)
    np.testing.assert_array_equal(calibration.crps(probabilities, z_spec), whole[0])
    np.testing.assert_array_equal(calibration.pit(probabilities, z_spec), whole[1])
    assert len(calibration.crps(probabilities[:0], z_spec[:0])) == 0


def test_a_sure_answer_scores_its_distance() -> None:
    # One bin of width w holds everything, the truth lies elsewhere: |centre - z_spec| less half of E|X - X'| = w / 3.
    probabilities = np.eye(180)[[10]]
    assert calibration.crps(probabilities, np.array([0.2])) == pytest.approx(0.2 - 10.5 * Z_MAX / 180 - Z_MAX / 1080)
