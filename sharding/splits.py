"""Train, validation and test: functions of the object's identity and a seed, never of its row or file."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from .errors import DatasetError
from .hashing import unit_interval

Split = Literal["train", "validation", "test"]

#: Where each split begins and ends on the unit interval of an object's keyed hash: 65 %, 10 %, 25 %.
BOUNDS: dict[str, tuple[float, float]] = {
    "train": (0.0, 0.65),
    "validation": (0.65, 0.75),
    "test": (0.75, 1.0),
}


def members(identity: npt.NDArray[np.int64], split: Split, seed: int = 0) -> npt.NDArray[np.int64]:
    """Ascending indices of the objects on this side; equal identities are always on the same side."""
    if split not in get_args(Split):
        raise DatasetError(f"split: expected one of {', '.join(get_args(Split))}, got {split!r}")
    low, high = BOUNDS[split]
    place = unit_interval(identity, seed)
    return np.flatnonzero((place >= low) & (place < high))
