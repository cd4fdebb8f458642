"""The order in which samples are visited: a function of (seed, epoch, place), and a state of three integers.

The sample at place p of epoch e is a keyed permutation of p: a balanced Feistel network over the smallest even power of
two that holds all places, walked until it lands inside (Black and Rogaway 2002, "Ciphers with arbitrary finite
domains"). Nothing is shuffled in memory, so any rank computes any place alone, and a reader's whole state is (seed,
epoch, position).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from .errors import DatasetError
from .hashing import UInt64Array, key, mix

Indices = npt.NDArray[np.int64]

_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class State:
    """Where a reader stands: ``position`` samples of ``epoch`` have been handed out, over all ranks together."""

    seed: int
    epoch: int = 0
    position: int = 0

    def __post_init__(self) -> None:
        if self.epoch < 0 or self.position < 0:
            raise DatasetError(f"reader state: epoch and position must not be negative, got {self}")

    def as_dict(self) -> dict[str, int]:
        """The state as plain integers, as a checkpoint stores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, int]) -> Self:
        """The inverse of `as_dict`."""
        return cls(seed=int(state["seed"]), epoch=int(state["epoch"]), position=int(state["position"]))


def permuted(places: npt.ArrayLike, size: int, *, seed: int, epoch: int) -> Indices:
    """Where each place in [0, size) goes in this epoch's permutation of [0, size)."""
    x = np.array(places).astype(np.uint64)
    if size < 1 or (x >= size).any():
        raise ValueError(f"places must lie in [0, {size})")
    half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    round_keys = [key(seed, epoch, number) for number in range(_ROUNDS)]
    x = _feistel(x, half_bits, round_keys)
    while (outside := x >= size).any():  # the domain is at most 4 times the size: a few walks suffice
        x[outside] = _feistel(x[outside], half_bits, round_keys)
    return x.astype(np.int64)


def _feistel(x: UInt64Array, half_bits: np.uint64, round_keys: list[np.uint64]) -> UInt64Array:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = x >> half_bits, x & mask
    for round_key in round_keys:
        left, right = right, left ^ (mix(right ^ round_key) & mask)
    return (left << half_bits) | right


class Order:
    """An endless, exact order of ``members`` (dataset indices), cut into global batches that ranks share.

    The last partial batch of an epoch is dropped; which samples that leaves out differs from epoch to epoch.
    """

    def __init__(self, members: Indices, seed: int) -> None:
        if len(members) == 0:
            raise DatasetError("order: there is no sample to visit; widen the split or the selection")
        self.members = np.asarray(members, dtype=np.int64)
        self.seed = seed

    def at(self, epoch: int, places: npt.ArrayLike) -> Indices:
        """The dataset indices at these places of an epoch."""
        return self.members[permuted(places, len(self.members), seed=self.seed, epoch=epoch)]

    def batches_per_epoch(self, batch: int) -> int:
        """How many whole global batches an epoch has; refuses a batch larger than the epoch."""
        if not 1 <= batch <= len(self.members):
            raise DatasetError(f"order: global batch must be 1 to {len(self.members)} (the samples), got {batch}")
        return len(self.members) // batch

    def take(self, state: State, batch: int, rank: int = 0, ranks: int = 1) -> tuple[Indices, State]:
        """This rank's part of the global batch that begins at ``state``, and the state after it.

        Rank r takes places [r * batch / ranks, (r + 1) * batch / ranks) of the global batch, so the global sequence is
        the same on any number of ranks that divides it.
        """
        if state.seed != self.seed:
            raise DatasetError(f"order: state is of seed {state.seed}, this order of seed {self.seed}")
        if batch % ranks or not 0 <= rank < ranks:
            raise DatasetError(f"order: global batch {batch} cannot be shared by {ranks} ranks (rank {rank})")
        if state.position + batch > self.batches_per_epoch(batch) * batch:
            state = State(state.seed, state.epoch + 1, 0)
        share = batch // ranks
        first = state.position + rank * share
        indices = self.at(state.epoch, np.arange(first, first + share))
        return indices, replace(state, position=state.position + batch)
