"""Splits and shares of labels: functions of the identity and a seed, and independent of each other."""

import zlib

import numpy as np
import pytest

from sharding import DatasetError, splits
from sharding.splits import within_fraction

GALAXIES = 100_000
IDENTITY = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, GALAXIES)


def assert_share(count: int, total: int, expected: float) -> None:
    """A binomial count: within 5 sigma, which a right one leaves once in 2 million times."""
    assert abs(count - expected * total) <= 5 * np.sqrt(expected * (1 - expected) * total)


def test_a_smaller_fraction_lies_within_a_larger_one_and_both_have_their_size() -> None:
    smaller = np.zeros(GALAXIES, dtype=bool)
    for fraction in (0.0, 0.001, 0.1, 0.5, 0.9, 1.0):
        chosen = within_fraction(IDENTITY, fraction, 8)
        assert_share(int(chosen.sum()), GALAXIES, fraction)
        assert not (smaller & ~chosen).any()
        smaller = chosen
    assert smaller.all()


def test_a_fraction_depends_on_identity_and_seed_alone() -> None:
    chosen = within_fraction(IDENTITY, 0.3, 1)
    order = np.random.default_rng(1).permutation(GALAXIES)
    assert np.array_equal(within_fraction(IDENTITY[order], 0.3, 1), chosen[order])
    assert np.array_equal(within_fraction(IDENTITY[:10], 0.3, 1), chosen[:10])
    assert_share(int((chosen & within_fraction(IDENTITY, 0.3, 2)).sum()), GALAXIES, 0.09)


@pytest.mark.parametrize("seed", [0, 5])
def test_a_fraction_is_independent_of_the_split(seed: int) -> None:
    """One hash for both would take the lower half of the training side's interval: 0.5 of all, 0.77 of training."""
    for name in splits.BOUNDS:
        side = splits.members(IDENTITY, name, seed)
        assert_share(int(within_fraction(IDENTITY[side], 0.5, seed).sum()), len(side), 0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_what_is_no_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(DatasetError, match="fraction: expected 0 to 1, got"):
        within_fraction(IDENTITY, fraction)


def test_golden_splits() -> None:
    """Frozen on 2026-11-24: a change here puts galaxies that a saved run has learnt from into its test split."""
    identity = np.arange(1, 10_001) * 977
    sums = {name: zlib.crc32(splits.members(identity, name, 4).astype("<i8").tobytes()) for name in splits.BOUNDS}
    assert sums == {"train": 162787767, "validation": 1146941610, "test": 2788860379}
    assert np.flatnonzero(within_fraction(identity, 0.01, 4))[:8].tolist() == GOLDEN_SHARE


GOLDEN_SHARE = [5, 438, 482, 555, 579, 612, 660, 704]
