"""How much of a change is chance. All is done on the logarithms of rates.

The runs of a result scatter by sigma, which its quartiles tell; the median of n is known to sigma sqrt(pi / 2n).
Quartiles of a few runs may be close by chance, so no sigma is taken to be smaller than the typical one. Two calls may
also differ by what the quartiles of neither have seen, such as where memory came to lie: if most things did not change,
their scatter about the median change tells it, and what lies within it is no change. What is left is called one where
chance would make one in twenty comparisons (Bonferroni).
"""

from collections.abc import Sequence
from math import exp, hypot, log, pi, sqrt
from statistics import NormalDist, median

from .results import Result

CHANCE = 0.05  # that a table of nothing but noise has a change in it
ENOUGH = 8  # changes of which the scatter says something
_NORMAL = NormalDist()


def sigma(result: Result) -> float:
    """Scatter of the runs, two or more, from their quartiles, as of a normal distribution.

    The quartiles of n values lie at the ranks 1 + (n - 1) / 4 and 1 + 3 (n - 1) / 4; what is to be expected at rank k
    is Phi^-1((k - 3/8) / (n + 1/4)) sigma (Blom 1958).
    """
    rank = 1 + 0.75 * (result.runs - 1)
    return log(result.q75 / result.q25) / (2 * _NORMAL.inv_cdf((rank - 0.375) / (result.runs + 0.25)))


def typical_sigma(results: Sequence[Result]) -> float:
    """The median one; 0 where all are single runs."""
    found = [sigma(result) for result in results if result.runs > 1]
    return median(found) if found else 0.0


def error(pairs: Sequence[tuple[Result, Result]], least: float) -> float | None:
    """Standard error of the change in a product or quotient of medians, each (before, after); None of single runs."""
    if any(result.runs == 1 for pair in pairs for result in pair):
        return None
    return hypot(*(_error(pair, least) for pair in pairs))


def _error(pair: tuple[Result, Result], least: float) -> float:
    return max(least, *map(sigma, pair)) * sqrt(pi / 2 * sum(1 / result.runs for result in pair))


def widest(errors: Sequence[float | None], factors: Sequence[float]) -> tuple[float | None, ...]:
    """For each of these changes the factor (its inverse alike) up to which chance explains it."""
    shifts = [log(factor) for factor in factors]
    scatter = _scatter(shifts) if len(shifts) >= ENOUGH else 0.0
    deviations = _NORMAL.inv_cdf(1 - CHANCE / 2 / max(1, len(shifts)))
    return tuple(None if each is None else exp(deviations * max(each, scatter)) for each in errors)


def _scatter(shifts: Sequence[float]) -> float:
    """A robust standard deviation: 1.4826 times the median distance from the median."""
    centre = median(shifts)
    return 1.4826 * median(abs(shift - centre) for shift in shifts)
