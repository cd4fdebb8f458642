"""How good a set of redshift estimates is: the field's three figures, with bootstrap errors.

This file knows arrays, not datasets or runs. The definitions are those of Hayat et al. 2021 (ApJL 911 L33):
``dz = (z_phot - z_spec) / (1 + z_spec)`` and three statistics of it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from .errors import TrainerError

MAD_TO_SIGMA = 1.4826  # a Gaussian's standard deviation over its median absolute deviation, as the papers round it
ETA_LIMIT = 0.05  # |dz| beyond which an estimate counts as an outlier
BOOTSTRAP_DRAWS = 1000

Values = Float[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotozScore:
    """The figures of one set of estimates; an ``_error`` is one bootstrap standard deviation over the galaxies."""

    n: int
    sigma_mad: float
    sigma_mad_error: float
    eta: float  # a fraction, not per cent
    eta_error: float
    bias: float
    bias_error: float

    def as_dict(self) -> dict[str, int | float]:
        """The fields in order, ready for JSON."""
        return asdict(self)


def residuals(z_phot: Values, z_spec: Values) -> Values:
    """``(z_phot - z_spec) / (1 + z_spec)``, one a galaxy."""
    return np.asarray((z_phot - z_spec) / (1.0 + z_spec))


def sigma_mad(dz: Values) -> float:
    """``1.4826 median|dz - median dz|``: the spread, blind to outliers and to a constant bias."""
    return float(MAD_TO_SIGMA * np.median(np.abs(dz - np.median(dz))))


def eta(dz: Values) -> float:
    """The fraction of galaxies with ``|dz| > 0.05``."""
    return float(np.mean(np.abs(dz) > ETA_LIMIT))


def bias(dz: Values) -> float:
    """The mean of ``dz``, outliers included."""
    return mean(dz)


def mean(values: Values) -> float:
    """The mean of a figure that each galaxy has by itself."""
    return float(np.mean(values))


def bootstrap_error(
    values: Values, statistic: Callable[[Values], float], *, seed: int, draws: int = BOOTSTRAP_DRAWS
) -> float:
    """The standard deviation of ``statistic`` over ``draws`` resamplings of the galaxies with replacement.

    One resampling is held at a time, so a million galaxies cost no more memory than their residuals. The resamplings
    depend on the seed and the number of galaxies alone: methods judged on one test set are judged on the same draws.
    """
    rng = np.random.default_rng(seed)
    drawn = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(draws)]
    return float(np.std(drawn, ddof=1))


def score_photoz(z_phot: Values, z_spec: Values, *, seed: int = 0) -> PhotozScore:
    """Judge every pair.

    Raises:
        TrainerError: there is no pair, or a value is not finite (to leave a galaxy out in silence would flatter).
    """
    if len(z_spec) == 0:
        raise TrainerError("score: expected at least one galaxy with a redshift, got none; choose a labelled dataset")
    dz = residuals(z_phot, z_spec)
    if bad := int(np.sum(~np.isfinite(dz))):
        raise TrainerError(f"score: expected finite redshifts, got {bad} of {len(dz)} that are not; look at the labels")
    return PhotozScore(
        n=len(dz),
        sigma_mad=sigma_mad(dz),
        sigma_mad_error=bootstrap_error(dz, sigma_mad, seed=seed),
        eta=eta(dz),
        eta_error=bootstrap_error(dz, eta, seed=seed),
        bias=bias(dz),
        bias_error=bootstrap_error(dz, bias, seed=seed),
    )
