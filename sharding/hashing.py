"""Keyed 64-bit mixing: the one source of order and of splits, the same on any machine.

The mixer is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA, "Fast splittable pseudorandom number
generators").
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

UInt64Array = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix(values: npt.ArrayLike) -> UInt64Array:
    """Scramble 64-bit words one to one; integers are taken modulo 2**64."""
    x = np.array(values).astype(np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def key(*words: int) -> np.uint64:
    """One 64-bit key from a sequence of integers; the order of the words matters."""
    state = np.uint64(0)
    for word in words:
        state = np.uint64(mix(mix(np.uint64(word % 2**64)) ^ state))
    return state


def unit_interval(values: npt.ArrayLike, seed: int) -> npt.NDArray[np.float64]:
    """A uniform number in [0, 1) for each integer identity, a function of (identity, seed) alone."""
    words = mix(np.asarray(values).astype(np.uint64) ^ key(seed))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
