"""How good a set of class probabilities is: accuracy, ROC, log loss, calibration, with bootstrap errors.

This file knows arrays, not datasets or runs. The truth is either a class or a share of each class (n, classes), one-hot
where there is one true class. Where a figure takes ``weight``, it is how often each galaxy counts: once, or as often as
a resampling drew it. The definitions are those of scikit-learn.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from .metrics import BOOTSTRAP_DRAWS

SMALLEST = float(
    np.finfo(np.float32).eps
)  # what a probability counts as at least in the log loss, which 0 makes infinite

Truth = Int[np.ndarray, " n"]
Weight = Int[np.ndarray, " n"]
Table = Float[np.ndarray, "n c"]
Values = Float[np.ndarray, " n"]


def confusion(truth: Truth, answer: Truth, classes: int, weight: Weight | None = None) -> Int[np.ndarray, "c c"]:
    """Number of galaxies of each true class (row) that were given each class (column)."""
    counts = np.bincount(truth * classes + answer, weights=weight, minlength=classes**2)
    return counts.astype(np.int64).reshape(classes, classes)


def accuracy(counts: Int[np.ndarray, "c c"]) -> float:
    """The share of galaxies that were given their class."""
    return float(np.trace(counts) / counts.sum())


def balanced_accuracy(counts: Int[np.ndarray, "c c"]) -> float:
    """The mean over the classes that occur of the share of their galaxies that were given it."""
    number = counts.sum(axis=1)
    return float(np.mean((np.diag(counts)[number > 0]) / number[number > 0]))


def log_losses(shares: Table, probabilities: Table) -> Values:
    """The cross-entropy of each galaxy [nat]; its mean is the log loss."""
    return np.asarray(-np.sum(shares * np.log(np.clip(probabilities, SMALLEST, 1.0)), axis=1, dtype=np.float64))


class Curve(NamedTuple):
    """A receiver operating characteristic, from (0, 0) to (1, 1): a point for each distinct score, highest first."""

    false_positive: Float[np.ndarray, " points"]  # share of the others that are taken for the class
    true_positive: Float[np.ndarray, " points"]  # share of the class that is found


class Ranking:
    """Galaxies in the order of their score for a class; sorted once, asked for each resampling."""

    def __init__(self, positive: Bool[np.ndarray, " n"], score: Values) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._positive = positive[self._order].astype(np.int64)
        self._begin = np.flatnonzero(np.diff(score[self._order], prepend=np.nan) != 0)  # of each run of equal scores

    def curve(self, weight: Weight | None = None) -> Curve:
        """The characteristic; NaN where the galaxies that count are all of the class, or none is."""
        counts = np.ones(len(self._order), np.int64) if weight is None else weight[self._order]
        total = np.cumsum(np.add.reduceat(counts, self._begin))
        found = np.cumsum(np.add.reduceat(counts * self._positive, self._begin))
        return Curve(_rising(total - found), _rising(found))

    def auc(self, weight: Weight | None = None) -> float:
        """The area under the curve: how likely a galaxy of the class scores above another, ties counted half."""
        curve = self.curve(weight)
        return float(np.trapezoid(curve.true_positive, curve.false_positive))


def _rising(counts: Int[np.ndarray, " points"]) -> Values:
    share = counts / counts[-1] if counts[-1] else np.full(len(counts), np.nan)
    return np.concatenate([[0.0], share])


class Reliability(NamedTuple):
    """What was said against what was so, in bins of equal width of what was said; empty bins are left out."""

    said: Float[np.ndarray, " bins"]  # mean probability
    so: Float[np.ndarray, " bins"]  # mean share of the truth
    number: Int[np.ndarray, " bins"]  # of answers


def reliability(shares: Values, probabilities: Values, bins: int = 10) -> Reliability:
    """The calibration of probabilities; a bin holds its upper edge."""
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probabilities)
    number = np.bincount(place, minlength=bins)
    held = number > 0
    said, so = (np.bincount(place, values, bins)[held] / number[held] for values in (probabilities, shares))
    return Reliability(said, so, number[held])


def bootstrap_errors(
    figures: Callable[[Weight], Float[np.ndarray, " figures"]], n: int, *, seed: int, draws: int = BOOTSTRAP_DRAWS
) -> Float[np.ndarray, " figures"]:
    """The standard deviation of each figure over ``draws`` resamplings of n galaxies with replacement.

    The resamplings are those of `metrics.bootstrap_error`. A figure that a resampling leaves undefined (NaN) is not
    counted there; it has no error (NaN) where fewer than two are left.
    """
    rng = np.random.default_rng(seed)
    drawn = np.stack([figures(np.bincount(rng.integers(0, n, n), minlength=n)) for _ in range(draws)])
    number = np.isfinite(drawn).sum(axis=0)
    mean = np.nansum(drawn, axis=0) / np.maximum(number, 1)
    spread = np.nansum((drawn - mean) ** 2, axis=0) / np.maximum(number - 1, 1)
    return np.where(number >= 2, np.sqrt(spread), np.nan)
