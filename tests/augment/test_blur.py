"""The blur and its weights: exact second moments, SciPy's Gaussian where that one is right, mirrored borders."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from augment.blur import blur
from augment.taps import blur_taps

F64 = torch.float64
SIGMA = st.floats(0.0, 4.0)


def sigmas(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=F64)


def blurred(image: torch.Tensor, sigma_px: torch.Tensor) -> torch.Tensor:
    return blur(image, blur_taps(sigma_px, min(image.shape[2:])))


def variance(taps: torch.Tensor) -> float:
    return 2.0 * float(taps @ torch.arange(len(taps), dtype=F64) ** 2)


@given(sigma=SIGMA)
def test_weights_have_the_variance_asked_for_and_sum_to_one(sigma):
    taps = blur_taps(sigmas(sigma), 64)[0, 0]
    assert (taps >= 0).all()
    assert float(2 * taps.sum() - taps[0]) == pytest.approx(1.0, abs=1e-12)
    # Below 1 px the width is interpolated in a table of 4800 steps, where 1e-6 of the variance is lost.
    assert variance(taps) == pytest.approx(sigma**2, rel=1e-5, abs=1e-6)


@given(first=SIGMA, second=SIGMA)
def test_blurs_add_in_quadrature(first, second):
    """Second moments of a point blurred twice; the image is so wide that nothing reaches its edge."""
    point = torch.zeros(1, 1, 1, 129, dtype=F64)
    point[..., 64] = 1.0
    # Where all rows are alike, only x is blurred in effect.
    row = point.expand(1, 1, 129, 129)
    twice = blurred(blurred(row, sigmas(first)), sigmas(second))[0, 0, 0]
    grid = torch.arange(129, dtype=F64) - 64
    assert float(twice @ grid**2) == pytest.approx(first**2 + second**2, rel=1e-5, abs=2e-6)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.5])
def test_equals_scipy_where_sampling_a_gaussian_is_right(sigma):
    image = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(40, 50)), 1.5)  # band-limited, as stamps are
    expected = ndimage.gaussian_filter(image, sigma, mode="mirror", truncate=6.0)
    got = blurred(torch.from_numpy(image)[None, None], sigmas(sigma))[0, 0]
    # Transfer functions agree to order (omega sigma_box)^4 / 2880 at omega < 2 / 1.5: below 2e-3, of an rms of 0.19.
    np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(image).max())


def test_borders_are_mirrored_about_the_edge_pixels_centre():
    image = torch.randn(1, 1, 12, 15, dtype=F64)
    taps = blur_taps(sigmas(1.3), 9)[0, 0].numpy()
    kernel = np.concatenate([taps[:0:-1], taps])
    expected = ndimage.correlate1d(image[0, 0].numpy(), kernel, axis=0, mode="mirror")
    expected = ndimage.correlate1d(expected, kernel, axis=1, mode="mirror")
    # Weights beyond 8 px = 6 sigma are cut from the expectation: 1e-9.
    np.testing.assert_allclose(blurred(image, sigmas(1.3))[0, 0], expected, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_width_zero_is_the_image_bit_for_bit(dtype):
    image = torch.randn(2, 3, 33, 64, dtype=dtype)
    assert torch.equal(blurred(image, torch.zeros(2, 3, dtype=F64)), image)


def test_every_image_and_band_has_its_own_width():
    image = torch.randn(2, 2, 64, 64)
    width = torch.tensor([[0.0, 1.0], [2.0, 0.4]], dtype=F64)
    together = blurred(image, width)
    for row in range(2):
        for band in range(2):
            alone = blurred(image[row : row + 1, band : band + 1], width[row : row + 1, band : band + 1])
            # Sums of 64 products in another order: a few ulp of float32.
            torch.testing.assert_close(together[row, band], alone[0, 0], rtol=0, atol=1e-6)


def test_a_constant_stays_and_a_source_keeps_its_flux():
    constant = torch.full((1, 1, 64, 64), 3.0, dtype=F64)
    torch.testing.assert_close(blurred(constant, sigmas(3.0)), constant, rtol=0, atol=1e-12)
    source = torch.zeros(1, 1, 64, 64, dtype=F64)
    source[0, 0, 30:35, 28:33] = torch.rand(5, 5, dtype=F64)
    # The edge is 28 px = 9 sigma away.
    assert blurred(source, sigmas(3.0)).sum().item() == pytest.approx(source.sum().item(), rel=1e-12)


def test_the_input_is_left_alone():
    image = torch.randn(1, 2, 64, 64)
    before = image.clone()
    blurred(image, sigmas(1.0, 2.0))
    assert torch.equal(image, before)
