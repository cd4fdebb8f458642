"""The order in which samples are visited: a function of (seed, epoch, place), and a state of four values.

The sample at place p of epoch e is a keyed permutation of p: a balanced Feistel network over the smallest even power of
two that holds all places, walked until it lands inside (Black and Rogaway 2002, "Ciphers with arbitrary finite
domains"). Nothing is shuffled in memory, so any rank computes any place alone, and a reader's whole state is (seed,
epoch, position) and the digest of the dataset they speak of.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .errors import DatasetError
from .hashing import UInt64Array, key, mix
from .members import Members

Indices = npt.NDArray[np.int64]

_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class State:
    """Where a reader stands: ``position`` samples of ``epoch`` have been handed out, over all ranks together."""

    seed: int
    epoch: int = 0
    position: int = 0
    dataset: str = ""  # digest of the dataset's manifest

    def __post_init__(self) -> None:
        if self.epoch < 0 or self.position < 0:
            raise DatasetError(f"reader state: epoch and position must not be negative, got {self}; start a new run")

    def as_dict(self) -> dict[str, int | str]:
        """The state as plain values, as a checkpoint stores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`; DatasetError for anything that it does not give."""
        expected = {"seed": int, "epoch": int, "position": int, "dataset": str}
        if {name: type(value) for name, value in state.items()} != expected:
            raise DatasetError(
                "reader state: expected whole numbers seed, epoch and position and the text dataset, "
                f"got {dict(state)}; it is damaged or another version's, start a new run"
            )
        return cls(**state)


def permuted(places: npt.ArrayLike, size: int, *, seed: int, epoch: int) -> Indices:
    """Where each place in [0, size) goes in this epoch's permutation of [0, size)."""
    x = np.array(places).astype(np.uint64)
    if size < 1 or (x >= size).any():
        raise ValueError(f"places must lie in [0, {size})")
    half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    round_keys = _round_keys(seed, epoch)
    x = _feistel(x, half_bits, round_keys)
    while (outside := x >= size).any():  # the domain is at most 4 times the size: a few walks suffice
        x[outside] = _feistel(x[outside], half_bits, round_keys)
    return x.astype(np.int64)


@lru_cache(maxsize=8)  # they cost as much as the rest of a batch's order
def _round_keys(seed: int, epoch: int) -> tuple[np.uint64, ...]:
    return tuple(key(seed, epoch, number) for number in range(_ROUNDS))


def _feistel(x: UInt64Array, half_bits: np.uint64, round_keys: tuple[np.uint64, ...]) -> UInt64Array:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = x >> half_bits, x & mask
    for round_key in round_keys:
        left, right = right, left ^ (mix(right ^ round_key) & mask)
    return (left << half_bits) | right


class Order:
    """An endless, exact order of some samples of a dataset, cut into global batches that ranks share.

    With ``drop_last``, what does not fill a batch at the end of an epoch is left out, and differs from epoch to epoch;
    without, it is a smaller batch.
    """

    def __init__(self, members: npt.ArrayLike, seed: int, *, dataset: str = "", drop_last: bool = True) -> None:
        """``members``: ascending dataset indices, of which no copy is kept. ``dataset``: digest of its manifest."""
        self.members = Members(members)
        if len(self.members) == 0:
            raise DatasetError("order: there is no sample to visit; widen the split or the selection")
        self.seed = seed
        self.dataset = dataset
        self.drop_last = drop_last

    @property
    def start(self) -> State:
        """The state of a reader that has handed out nothing."""
        return State(self.seed, dataset=self.dataset)

    def at(self, epoch: int, places: npt.ArrayLike) -> Indices:
        """The dataset indices at these places of an epoch."""
        return self.members.at(permuted(places, len(self.members), seed=self.seed, epoch=epoch))

    def batches_per_epoch(self, batch: int) -> int:
        """How many global batches an epoch has; refuses an empty batch and, with ``drop_last``, one that none fills."""
        samples = len(self.members)
        if batch < 1 or (self.drop_last and batch > samples):
            limits = f"1 to {samples} (the samples)" if self.drop_last else "at least 1"
            raise DatasetError(f"order: global batch must be {limits}, got {batch}; choose another batch")
        return samples // batch if self.drop_last else -(-samples // batch)

    def take(self, state: State, batch: int, rank: int = 0, ranks: int = 1) -> tuple[Indices, State]:
        """This rank's part of the global batch that begins at ``state``, and the state after it.

        Rank r of n takes places [r * m // n, (r + 1) * m // n) of a global batch of m samples: the ranks' parts, one
        after the other, are the same on any number of ranks. Where there are more ranks than samples, some get none.
        """
        self._check(state)
        if not 0 <= rank < ranks:
            raise DatasetError(f"order: global batch {batch} cannot be shared by {ranks} ranks (rank {rank})")
        self.batches_per_epoch(batch)
        left = len(self.members) - state.position
        if left < (batch if self.drop_last else 1):
            state, left = replace(state, epoch=state.epoch + 1, position=0), len(self.members)
        size = min(batch, left)
        first, stop = (state.position + part * size // ranks for part in (rank, rank + 1))
        return self.at(state.epoch, np.arange(first, stop)), replace(state, position=state.position + size)

    def _check(self, state: State) -> None:
        if state.dataset != self.dataset:
            raise DatasetError(
                f"order: state is of dataset {state.dataset or '(none)'}, this order of {self.dataset or '(none)'}; "
                "go on with the dataset that the run began with, or start a new run"
            )
        if state.seed != self.seed:
            raise DatasetError(
                f"order: state is of seed {state.seed}, this order of seed {self.seed}; "
                "go on with the seed that the run began with, or start a new run"
            )
        if state.position > len(self.members):
            raise DatasetError(
                f"order: state is at position {state.position} of an epoch of {len(self.members)} samples; "
                "go on with the selection that the run began with, or start a new run"
            )
