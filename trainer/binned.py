"""The figures of `metrics` in bins of a quantity, so that one sees where an estimator is good and where it is not."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from .metrics import PhotozScore, score_photoz

MOST_BINS = 8
FEWEST_A_BIN = 30  # galaxies below which a spread is noise; where there are fewer in all, they are one bin

Values = Float[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Bin:
    """The galaxies between two values of a quantity (both among them), and how good their estimates are."""

    low: float
    high: float
    median: float
    score: PhotozScore

    def as_dict(self) -> dict[str, float | int]:
        """The fields in order, ready for JSON."""
        return {"low": self.low, "high": self.high, "median": self.median, **self.score.as_dict()}


@dataclass(frozen=True, slots=True)
class Binned:
    """A quantity's bins in its ascending order, of equally many galaxies each to within one."""

    quantity: str  # with its unit, as axes are labelled
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"quantity": self.quantity, "rows": [each.as_dict() for each in self.bins]}


def in_bins(quantity: str, values: Values, z_phot: Values, z_spec: Values) -> Binned:
    """Score the galaxies in bins of ``values``, of which there is one or more, all finite."""
    count = int(np.clip(len(values) // FEWEST_A_BIN, 1, MOST_BINS))
    parts = np.array_split(np.argsort(values, kind="stable"), count)
    return Binned(quantity, tuple(_bin(values[part], z_phot[part], z_spec[part]) for part in parts))


def _bin(values: Values, z_phot: Values, z_spec: Values) -> Bin:
    score = score_photoz(z_phot, z_spec)
    return Bin(float(values.min()), float(values.max()), float(np.median(values)), score)
