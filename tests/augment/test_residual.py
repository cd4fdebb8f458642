"""The noise left after registration, resampling and blur, against noise that goes through all three."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from augment.blur import blur
from augment.geometry import on_grid, view_affine
from augment.resample import resample
from augment.residual import LANCZOS_AUTOCORRELATION, noise_left
from augment.taps import blur_taps

STAMPS = 60


def registered_noise(rng: np.random.Generator) -> torch.Tensor:
    """White noise of sigma 1 through Lanczos-3, each stamp at its own sub-pixel phase."""
    stamps = rng.normal(size=(STAMPS, 112, 112))
    for axis in (1, 2):
        phase = rng.uniform(0, 1, STAMPS)[:, None]
        distance = np.arange(-2, 4) - phase
        taps = np.sinc(distance) * np.sinc(distance / 3)
        taps /= taps.sum(axis=1, keepdims=True)
        for index in range(STAMPS):
            stamps[index] = ndimage.correlate1d(stamps[index], taps[index], axis=axis - 1, origin=-1, mode="wrap")
    return torch.from_numpy(stamps[:, None, :107, :107])


@pytest.mark.parametrize(
    ("angle", "scale", "sigma_px"),
    [(0.0, 1.0, 0.0), (0.0, 1.0, 0.8), (30.0, 1.0, 0.0), (45.0, 1.0, 1.0), (45.0, 0.9, 0.4), (17.0, 1.1, 2.0)],
)
def test_equals_noise_that_went_through_it_all(angle, scale, sigma_px):
    stamps = registered_noise(np.random.default_rng(3))
    angles, scales = (torch.full((STAMPS,), value, dtype=torch.float64) for value in (angle, scale))
    affine = view_affine(
        angle_deg=angles, scale=scales, flip=torch.zeros(STAMPS, dtype=torch.bool),
        shift_px=torch.zeros(STAMPS, 2, dtype=torch.float64), stamp_shape=(107, 107), size_px=64,
    )  # fmt: skip
    taps = blur_taps(torch.full((STAMPS, 1), sigma_px, dtype=torch.float64), 64)
    view = blur(resample(stamps, affine, 64), taps)
    inner = view[:, :, 16:48, 16:48]  # the blur mirrors at the edge, where noise is larger
    expected = noise_left(taps, scales, ~on_grid(affine))
    # One stamp's own phase makes its rms scatter by 4 to 11 %, so the mean of 60 by 1.4 % at most; two of that.
    assert float(inner.square().mean().sqrt()) == pytest.approx(float(expected[0, 0]), rel=0.028)


def test_known_cases():
    """Seen on real registrations (two digits): Lanczos-3 leaves 0.893, a bilinear turn 0.63, a blur of 1 px 0.26."""
    width = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
    left = noise_left(blur_taps(width, 64), torch.ones(3, dtype=torch.float64), torch.tensor([False, True, True]))
    assert left[:, 0].tolist() == pytest.approx([0.893, 0.63, 0.26], rel=0.02)


def test_more_blur_leaves_less():
    width = torch.linspace(0, 5, 30, dtype=torch.float64)[None]
    left = noise_left(blur_taps(width, 64), torch.tensor([1.05], dtype=torch.float64), torch.tensor([True]))[0]
    assert (left.diff() < 0).all()
    # A wide blur of sigma s leaves sqrt(R's sum) / (2 sqrt(pi) s): the sum over lags of R in two dimensions is scale^2.
    assert float(left[-1]) == pytest.approx(1.05 / (2 * np.sqrt(np.pi) * 5.0), rel=0.02)


def test_the_autocorrelation_of_lanczos_3_is_the_integral_over_its_phases():
    phase = (np.arange(1000) + 0.5) / 1000
    distance = np.arange(-2, 4) - phase[:, None]
    taps = np.sinc(distance) * np.sinc(distance / 3)
    taps /= taps.sum(axis=1, keepdims=True)
    mean = [(taps[:, lag:] * taps[:, : 6 - lag]).sum(axis=1).mean() for lag in range(6)]
    np.testing.assert_allclose(LANCZOS_AUTOCORRELATION, mean, rtol=1e-8)  # nine digits; the sum is exact to 1e-12
