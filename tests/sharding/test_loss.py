"""What an encoding loses, against closed forms."""

import numpy as np
import pytest

from sharding.encoding import Encoding, decode, encode
from sharding.loss import LossMeter

BANDS = "gri"
SIGMA = {"g": 0.02, "r": 0.03, "i": 0.05}
PIXELS = 1257  # of a circle of radius 20, the central one included


def white(count: int, flux: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """White noise of the bands' sigma on 64 x 64 pixels; the central pixel has ``flux`` more."""
    noise = np.random.default_rng(5).normal(size=(count, 3, 64, 64))
    images = noise * np.array(list(SIGMA.values()))[:, None, None]
    images[:, :, 32, 32] += flux
    return images.astype(np.float32), np.arange(count) + 1237645876861337000


def measured(images: np.ndarray, objid: np.ndarray, encoding: Encoding) -> dict[str, dict[str, dict[str, float]]]:
    stored, step = encode(images, objid, encoding, BANDS)
    meter = LossMeter(BANDS, list(SIGMA.values()), len(images))
    after = decode(stored, objid, step)
    indices = np.arange(len(images))
    parts = [meter.part(images[some], after[some], indices[some]) for some in (slice(0, 100), slice(100, None))]
    return meter.summary(parts, encoding)


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_int16_costs_what_its_step_says(fraction: float) -> None:
    """A uniform error of one step has the variance step**2 / 12, pixel by pixel, whatever the image."""
    count = 200
    images, objid = white(count)
    loss = measured(images, objid, Encoding.of("int16", fraction, SIGMA))
    expected = fraction / np.sqrt(12)
    for band, values in loss["bands"].items():
        # Of 200 numbers, nearly normal: rms to 1 / sqrt(2 n), mean to rms / sqrt(n); five sigma of each.
        assert values["flux_rms"] == pytest.approx(expected, rel=5 / np.sqrt(2 * count))
        assert abs(values["flux_mean"]) < 5 * expected / np.sqrt(count)
        # The robust sigma before and after share their noise; the ratio of one stamp scatters by less than
        # 1.2 x expected / sqrt(4096), and the median of 200 by 1.25 / sqrt(200) of that. The quantity itself holds to
        # 1 % of fraction**2, as a uniform error is not quite normal.
        noise = np.sqrt(1 + fraction**2 / 12) - 1
        assert values["noise_change"] == pytest.approx(
            noise, abs=5 * 1.2 * expected / 64 * 1.25 / np.sqrt(200) + 0.01 * fraction**2
        )
        half = fraction * SIGMA[band] / 2
        assert 0.99 * half < values["largest_error"] <= 1.001 * half  # of 800,000 errors the largest is at the end
        assert (values["bright"], values["magnitude_rms"]) == (0, None)


def test_magnitudes_and_colours_of_bright_samples() -> None:
    """The error of a flux F is fraction / sqrt(12) of its noise, so that of its magnitude is 1.0857 of it / F."""
    count, fraction, flux = 200, 0.5, 100.0
    images, objid = white(count, flux)
    images[:50, 2, 32, 32] -= flux  # too faint in i
    loss = measured(images, objid, Encoding.of("int16", fraction, SIGMA))
    sigma = {band: 1.0857 * fraction / np.sqrt(12) * s * np.sqrt(PIXELS) / flux for band, s in SIGMA.items()}
    bright = {"g": 200, "r": 200, "i": 150}
    for band, values in loss["bands"].items():
        assert values["bright"] == bright[band]
        # Noise moves F itself by sigma sqrt(PIXELS) / F < 2 %, far below the scatter.
        assert values["magnitude_rms"] == pytest.approx(sigma[band], rel=5 / np.sqrt(2 * bright[band]) + 0.02)
    for (blue, red), n in (("gr", 200), ("ri", 150)):
        values = loss["colours"][f"{blue}-{red}"]
        expected = np.hypot(sigma[blue], sigma[red])  # bands have dithers of their own: errors add in quadrature
        assert values["bright"] == n
        assert values["rms"] == pytest.approx(expected, rel=5 / np.sqrt(2 * n) + 0.02)
        assert abs(values["mean"]) < 5 * expected / np.sqrt(n)


def test_float32_loses_nothing_and_float16_its_rounding() -> None:
    images, objid = white(20)
    nothing = measured(images, objid, Encoding())
    assert all(
        values["flux_rms"] == values["noise_change"] == values["largest_error"] == 0
        for values in nothing["bands"].values()
    )
    half = measured(images, objid, Encoding(name="float16"))
    for b, values in enumerate(half["bands"].values()):
        exact = np.abs(images[:, b].astype(np.float16).astype(np.float64) - images[:, b]).max()
        assert values["largest_error"] == pytest.approx(exact, rel=1e-4)  # 5 digits
        assert 0 < values["largest_error"] <= np.abs(images[:, b]).max() * 2.0**-11  # half a unit of 11 bits


def test_a_constant_band_has_no_noise_to_compare_and_leaves_the_others_theirs() -> None:
    images, objid = white(20)
    images[:, 1] = 0
    images[3, 0] = 0.5
    bands = measured(images, objid, Encoding(name="float16"))["bands"]
    assert bands["r"]["noise_change"] is None
    assert abs(bands["g"]["noise_change"]) < 2.0**-11
