"""Train, validation, test and shares of labels: functions of the galaxy's identity and a seed, never of row or file."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from .errors import DatasetError
from .hashing import key, unit_interval

Split = Literal["train", "validation", "test"]

#: Where each split begins and ends on the unit interval of an object's keyed hash: 65 %, 10 %, 25 %.
BOUNDS: dict[str, tuple[float, float]] = {
    "train": (0.0, 0.65),
    "validation": (0.65, 0.75),
    "test": (0.75, 1.0),
}

_FRACTION = 0x6672616374696F6E  # "fraction": tells its hash from that of the splits, of which it must be independent


def members(identity: npt.NDArray[np.int64], split: Split, seed: int = 0) -> npt.NDArray[np.int64]:
    """Ascending indices of the objects on this side; equal identities are always on the same side."""
    if split not in get_args(Split):
        raise DatasetError(f"split: expected one of {', '.join(get_args(Split))}, got {split!r}")
    low, high = BOUNDS[split]
    place = unit_interval(identity, seed)
    return np.flatnonzero((place >= low) & (place < high))


def within_fraction(identity: npt.NDArray[np.int64], fraction: float, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Which objects belong to a share of about ``fraction`` of all: (n,); a smaller share lies within a larger one.

    Each identity is drawn by itself, so the share of n galaxies has a scatter of sqrt(fraction (1 - fraction) / n).
    """
    if not 0 <= fraction <= 1:
        raise DatasetError(f"fraction: expected 0 to 1, got {fraction}")
    return unit_interval(identity, int(key(_FRACTION, seed))) < fraction
