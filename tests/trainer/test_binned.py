"""Scores in bins: the bins part the galaxies, equally, and each bin's figures are those of its galaxies."""

from itertools import pairwise

import numpy as np
import pytest
from astropy.stats import mad_std
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import binned, metrics


@settings(max_examples=20)
@given(n=st.integers(1, 500), seed=st.integers(0, 2**32 - 1))
def test_bins_part_the_galaxies_equally_and_in_order(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    magnitude = rng.uniform(14, 18, n).round(1)  # with ties
    z_spec = rng.uniform(0, 0.4, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "bootstrap_error", lambda *args, **kwargs: 0.0)  # errors are not looked at here
        bins = binned.in_bins("r", magnitude, z_spec + 0.01, z_spec).bins
    sizes = [each.score.n for each in bins]
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1
    assert len(bins) == min(max(n // binned.FEWEST_A_BIN, 1), binned.MOST_BINS)
    assert all(lower.high <= upper.low for lower, upper in pairwise(bins))
    assert all(each.low <= each.median <= each.high for each in bins)
    assert (bins[0].low, bins[-1].high) == (magnitude.min(), magnitude.max())


def test_a_bins_figures_are_those_of_its_galaxies() -> None:
    rng = np.random.default_rng(1)
    z_spec = rng.uniform(0, 0.4, 200)
    z_phot = z_spec + rng.normal(0, 0.02 + 0.1 * z_spec)
    content = binned.in_bins("redshift", z_spec, z_phot, z_spec).as_dict()
    assert content["quantity"] == "redshift"
    for row in content["rows"]:
        chosen = (z_spec >= row["low"]) & (z_spec <= row["high"])
        dz = (z_phot - z_spec)[chosen] / (1 + z_spec[chosen])
        assert row["n"] == chosen.sum()
        assert row["median"] == pytest.approx(np.median(z_spec[chosen]), rel=1e-12)
        assert row["sigma_mad"] == pytest.approx(mad_std(dz), rel=2e-6)  # astropy does not round 1.4826
        assert row["bias"] == pytest.approx(dz.mean(), rel=1e-9)
        # The closed form of a mean's error; 1000 draws give it to 2.2 %, allow 4 sigma.
        assert row["bias_error"] == pytest.approx(dz.std() / np.sqrt(row["n"]), rel=0.09)
