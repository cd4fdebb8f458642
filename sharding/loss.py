"""What an encoding loses: flux, noise and colours of the decoded images beside those of the originals.

Measured while a dataset is converted, part by part and in bounded memory, and written to `dataset.json`. Parts may be
measured by several threads; the summary depends on the parts' order only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .encoding import Encoding, Images, Indices

RADIUS_PIXELS = 20  # of the circle about the centre in which flux is summed
BRIGHT = 20.0  # signal-to-noise from which magnitudes and colours are looked at
NOISE_SAMPLES = 2_000  # at most, that the noise is measured of: a median of each costs more than all else

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LossPart:
    """Sums over some samples. Moments are count, sum and sum of squares of what is not NaN: (3, band)."""

    samples: int
    flux: FloatArray  # error of the flux within the circle, in units of its noise
    magnitude: FloatArray  # change of the magnitude of bright samples [mag]
    colour: FloatArray  # change of the colour of adjacent bands, both bright [mag]: (3, band - 1)
    largest: FloatArray  # largest error of a pixel [nanomaggy]: (band,)
    noise: FloatArray  # robust sigma after / before: (some of the samples, band)


class LossMeter:
    """Measures parts of one dataset of ``samples`` images with the median noise ``sigma`` of each band."""

    def __init__(self, bands: Sequence[str], sigma: Sequence[float], samples: int) -> None:
        self._bands = tuple(bands)
        self._sigma = np.asarray(sigma, dtype=np.float64)
        self._every = -(-samples // NOISE_SAMPLES) or 1

    def part(self, before: Images, after: Images, indices: Indices) -> LossPart:
        """Compare images (n, band, y, x) with what became of them; ``indices`` are their places in the dataset."""
        circle = _circle(before.shape[2], before.shape[3])
        noise = self._sigma * np.sqrt(circle.sum())
        flux, decoded = (images[..., circle].sum(axis=-1, dtype=np.float64) for images in (before, after))
        with np.errstate(divide="ignore", invalid="ignore"):
            magnitude = np.where((flux > BRIGHT * noise) & (decoded > 0), -2.5 * np.log10(decoded / flux), np.nan)
            some = indices % self._every == 0
            change = _deviation(after[some]) / _deviation(before[some])
        return LossPart(
            samples=len(before),
            flux=_moments((decoded - flux) / noise),
            magnitude=_moments(magnitude),
            colour=_moments(magnitude[:, :-1] - magnitude[:, 1:]),
            largest=np.abs(after - before).max(axis=(0, 2, 3), initial=0).astype(np.float64),
            noise=change,
        )

    def summary(self, parts: Sequence[LossPart], encoding: Encoding) -> dict[str, Any]:
        """What `Encoding.loss` holds, to 5 digits: more would depend on the machine that added them up."""
        flux, magnitude, colour = (
            np.sum([getattr(part, name) for part in parts], axis=0) for name in ("flux", "magnitude", "colour")
        )
        largest = np.max([part.largest for part in parts], axis=0)
        noise = np.concatenate([part.noise for part in parts])
        bands = {
            band: {
                "flux_rms": _rms(flux[:, b]),  # in units of the flux's own noise
                "flux_mean": _mean(flux[:, b]),
                "bright": int(magnitude[0, b]),  # samples with signal-to-noise > `BRIGHT`
                "magnitude_rms": _rms(magnitude[:, b]),  # of those
                "noise_change": _median_change(noise[:, b]),  # robust sigma after / before, minus one; the median
                "largest_error": _digits(largest[b]),  # of a pixel [nanomaggy]
            }
            for b, band in enumerate(self._bands)
        }
        colours = {
            f"{blue}-{red}": {"bright": int(colour[0, b]), "rms": _rms(colour[:, b]), "mean": _mean(colour[:, b])}
            for b, (blue, red) in enumerate(pairwise(self._bands))
        }
        return {
            "encoding": encoding.name,
            "fraction": encoding.fraction,
            "samples": sum(part.samples for part in parts),
            "radius_pixels": RADIUS_PIXELS,
            "bands": bands,
            "colours": colours,
        }


def _circle(height: int, width: int) -> npt.NDArray[np.bool_]:
    """The pixels whose centres lie within `RADIUS_PIXELS` of the central one: (y, x)."""
    y, x = np.ogrid[:height, :width]
    return np.asarray((y - height // 2) ** 2 + (x - width // 2) ** 2 <= RADIUS_PIXELS**2)


def _moments(values: FloatArray) -> FloatArray:
    """Count, sum and sum of squares over the first axis; NaN is left out."""
    return np.stack([np.isfinite(values).sum(axis=0), np.nansum(values, axis=0), np.nansum(values**2, axis=0)])


def _deviation(images: Images) -> FloatArray:
    """Median absolute deviation of each image's bands: (n, band)."""
    pixels = images.reshape(*images.shape[:2], images.shape[2] * images.shape[3])  # -1 would not do for no image
    middle = np.median(pixels, axis=2, keepdims=True)
    return np.asarray(np.median(np.abs(pixels - middle), axis=2), dtype=np.float64)


def _median_change(ratio: FloatArray) -> float | None:
    """Where a band of a stamp is constant there is no ratio."""
    known = ratio[np.isfinite(ratio)]
    return _digits(np.median(known) - 1) if len(known) else None


def _rms(moments: FloatArray) -> float | None:
    return _of_some(moments, lambda count, _, squares: np.sqrt(squares / count))


def _mean(moments: FloatArray) -> float | None:
    return _of_some(moments, lambda count, total, _: total / count)


def _of_some(moments: FloatArray, statistic: Callable[[float, float, float], float]) -> float | None:
    """None where there was no number at all."""
    return _digits(statistic(*moments)) if moments[0] else None


def _digits(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None
