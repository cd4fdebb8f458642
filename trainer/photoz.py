"""Photometric redshift as classification: the redshift axis in bins, a probability for each, and their mean.

As Hayat et al. 2021 and Pasquet et al. 2019: 180 bins over 0..0.4, cross-entropy, and as the point estimate the
probability-weighted mean of the bins' centres (their lower edges would bias every redshift by half a bin).
"""

import numpy as np
import numpy.typing as npt

Z_MIN = 0.0
Z_MAX = 0.4

FloatArray = npt.NDArray[np.floating]


def bin_centres(bins: int) -> npt.NDArray[np.float64]:
    """Redshift at the centre of each bin: (bins,)."""
    width = (Z_MAX - Z_MIN) / bins
    return np.asarray(Z_MIN + width * (np.arange(bins) + 0.5), dtype=np.float64)


def in_range(z: FloatArray) -> npt.NDArray[np.bool_]:
    """Which redshifts the bins cover: finite, 0 to 0.4, both ends included as in the paper."""
    return np.asarray((z >= Z_MIN) & (z <= Z_MAX))


def to_bin(z: FloatArray, bins: int) -> npt.NDArray[np.int64]:
    """The bin that holds each redshift, which must be `in_range`; the last bin holds its upper edge too."""
    if not in_range(z).all():
        raise ValueError(f"redshifts must lie in [{Z_MIN}, {Z_MAX}]")
    place = np.floor((np.asarray(z, dtype=np.float64) - Z_MIN) / (Z_MAX - Z_MIN) * bins)
    return np.clip(place, 0, bins - 1).astype(np.int64)


def estimate(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    """Probability-weighted mean redshift of each row of (n, bins): (n,)."""
    return np.asarray(probabilities.astype(np.float64) @ bin_centres(probabilities.shape[1]))
