"""Redshift as bins: their centres, their edges and the mean over them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import photoz
from trainer.schedule import cosine, steps_down


def test_the_centres_of_180_bins_over_0_to_0_4() -> None:
    centres = photoz.bin_centres(180)
    # Half a bin is 0.4 / 360; the lower edges, the released code's habit elsewhere, would be 0 and 0.3978.
    assert centres[[0, -1]] == pytest.approx([0.4 / 360, 0.4 - 0.4 / 360], abs=1e-15)
    assert np.diff(centres) == pytest.approx(0.4 / 180, abs=1e-15)


@given(place=st.integers(0, 179))
def test_a_sure_answer_is_the_centre_of_its_bin(place: int) -> None:
    sure = np.eye(180, dtype=np.float32)[[place]]
    centre = photoz.estimate(sure)
    assert centre == pytest.approx(photoz.bin_centres(180)[place], abs=1e-15)
    assert photoz.to_bin(centre, 180) == place


def test_the_estimate_is_the_mean_over_the_bins() -> None:
    assert photoz.estimate(np.full((1, 180), 1 / 180)) == pytest.approx(0.2, abs=1e-12)
    assert photoz.estimate(np.array([[0.25, 0.0, 0.0, 0.75]])) == pytest.approx(0.25 * 0.05 + 0.75 * 0.35, abs=1e-12)


@given(z=st.floats(0, 0.4), bins=st.integers(2, 400))
def test_a_redshift_lies_within_half_a_bin_of_its_centre(z: float, bins: int) -> None:
    centre = photoz.bin_centres(bins)[photoz.to_bin(np.array([z]), bins)]
    assert abs(centre[0] - z) <= 0.2 / bins + 1e-12


def test_what_the_bins_do_not_hold() -> None:
    z = np.array([np.nan, -1e-9, 0.0, 0.4, 0.400001, np.inf, -9999.0])
    assert photoz.in_range(z).tolist() == [False, False, True, True, False, False, False]
    assert photoz.to_bin(np.array([0.0, 0.4]), 180).tolist() == [0, 179]
    with pytest.raises(ValueError, match=r"\[0\.0, 0\.4\]"):
        photoz.to_bin(z, 180)


def test_the_cosine_rises_to_its_peak_and_falls_to_nothing() -> None:
    factors = [cosine(step, total=10, warmup=2) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)  # half way between the warm-up and the end
    assert cosine(10, total=10, warmup=2) == pytest.approx(0.0, abs=1e-15)
    assert sorted(factors[2:], reverse=True) == factors[2:]


def test_the_rate_falls_tenfold_at_epochs_60_and_90_of_100() -> None:
    factors = [steps_down(epoch, epochs=100) for epoch in range(100)]
    assert factors == pytest.approx([1.0] * 60 + [0.1] * 30 + [0.01] * 10)
