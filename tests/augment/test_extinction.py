"""Dust changes magnitudes by R E(B-V) and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augment import AugmentError
from augment.extinction import R_BAND, coefficients, gain

UGRIZ = tuple(R_BAND)
EBV = st.floats(-2.0, 2.0)


@given(ebv=EBV)
def test_magnitudes_change_by_R_times_ebv(ebv):
    change = -2.5 * torch.log10(gain(torch.tensor([ebv], dtype=torch.float64), UGRIZ))[0]
    expected = torch.tensor([4.239, 3.303, 2.285, 1.698, 1.263], dtype=torch.float64) * ebv
    # float64: 2.5 log10 of a number with a relative error of some 1e-15.
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-14)


@given(first=EBV, second=EBV)
def test_dust_adds_up_and_comes_off(first, second):
    both = gain(torch.tensor([first + second]), UGRIZ)
    torch.testing.assert_close(gain(torch.tensor([first]), UGRIZ) * gain(torch.tensor([second]), UGRIZ), both,
                               rtol=1e-5, atol=0)  # fmt: skip


def test_no_dust_is_no_change():
    assert torch.equal(gain(torch.zeros(2), UGRIZ), torch.ones(2, 5, dtype=torch.float64))


def test_bands_are_taken_by_name():
    assert coefficients(("z", "u")).tolist() == [1.263, 4.239]


def test_unknown_band_is_named():
    with pytest.raises(AugmentError, match="no coefficient for band 'y', expected one of u, g, r, i, z"):
        coefficients(("g", "y"))
