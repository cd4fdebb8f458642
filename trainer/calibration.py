"""How good a set of redshift densities is: probability integral transform, its distance from uniform, and the CRPS.

A density is piecewise constant over the bins of `photoz`, so its distribution function F is a straight line within each
bin, and everything here is exact for it: nothing is sampled.
"""

# n galaxies, B bins
import numpy as np
from jaxtyping import Float

from .photoz import Z_MAX, Z_MIN, to_bin

CHUNK_ROWS = 8192  # galaxies whose distribution functions are held at a time

Values = Float[np.ndarray, " n"]
Probabilities = Float[np.ndarray, "n B"]


def distribution(probabilities: Probabilities) -> Float[np.ndarray, "n edge"]:
    """F at the edges of the bins, from 0 to exactly 1: rows are brought to a sum of one."""
    summed = np.cumsum(probabilities, axis=1, dtype=np.float64)
    return np.column_stack([np.zeros(len(summed)), summed / summed[:, -1:]])


def pit(probabilities: Probabilities, z_spec: Values) -> Values:
    """The probability integral transform: F at each galaxy's redshift, which must be within the bins.

    Where the densities are true it is uniform over 0..1: its histogram is flat. (Dawid 1984, J. R. Stat. Soc. A 147.)
    """
    return np.concatenate([np.empty(0), *(_pit(probabilities[part], z_spec[part]) for part in _chunks(len(z_spec)))])


def crps(probabilities: Probabilities, z_spec: Values) -> Values:
    """The continuous ranked probability score of each density: integral of (F(z) - [z >= z_spec])^2 dz over the bins.

    It is a redshift: for a sure answer |z_phot - z_spec|; lower is better, and the true density has the lowest mean
    (Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102). ``z_spec`` must be within the bins.
    """
    return np.concatenate([np.empty(0), *(_crps(probabilities[part], z_spec[part]) for part in _chunks(len(z_spec)))])


def ks_distance(values: Values) -> float:
    """Largest difference between the distribution of ``values``, of which there is one or more, and that over 0..1."""
    ordered = np.sort(values)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def _chunks(galaxies: int) -> list[slice]:
    return [slice(first, first + CHUNK_ROWS) for first in range(0, galaxies, CHUNK_ROWS)]


def _pit(probabilities: Probabilities, z_spec: Values) -> Values:
    below, above, share = _at(distribution(probabilities), z_spec)
    return np.asarray(below + share * (above - below))


def _crps(probabilities: Probabilities, z_spec: Values) -> Values:
    edges = distribution(probabilities)
    bins = probabilities.shape[1]
    width = (Z_MAX - Z_MIN) / bins
    below, above, share = _at(edges, z_spec)
    at = below + share * (above - below)
    place = to_bin(z_spec, bins)[:, None]
    number = np.arange(bins)
    under = np.where(number < place, _mean_square(edges[:, :-1], edges[:, 1:]), 0.0).sum(axis=1)
    over = np.where(number > place, _mean_square(1.0 - edges[:, :-1], 1.0 - edges[:, 1:]), 0.0).sum(axis=1)
    within = share * _mean_square(below, at) + (1.0 - share) * _mean_square(1.0 - at, 1.0 - above)
    return np.asarray(width * (under + within + over))


def _at(edges: Float[np.ndarray, "n edge"], z_spec: Values) -> tuple[Values, Values, Values]:
    """F at the lower and the upper edge of each galaxy's bin, and how far within the bin it is: 0 to 1."""
    bins = edges.shape[1] - 1
    place = to_bin(z_spec, bins)
    row = np.arange(len(place))
    share = np.clip((z_spec - Z_MIN) / (Z_MAX - Z_MIN) * bins - place, 0.0, 1.0)
    return edges[row, place], edges[row, place + 1], share


def _mean_square(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The mean of the square of what goes straight from ``first`` to ``last``."""
    return np.asarray((first * first + first * last + last * last) / 3.0)
