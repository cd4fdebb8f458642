"""How far apart two samples are: the Kolmogorov-Smirnov distance, in bins of redshift or magnitude, as a table.

A row is marked where its distance is more than chance gives in 5 % of cases, each row by itself: of forty comparisons
of two samples of one distribution, two are marked on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .likeness import COLOURS, Sample, Shapes, features
from .population import BRIGHT_LIMIT
from .spectra import R_BAND, Array

REDSHIFT_BINS = ((0.003, 0.02), (0.02, 0.04), (0.04, 0.06), (0.06, 0.08), (0.08, 0.10), (0.10, 0.13), (0.13, 0.20))
MAGNITUDE_BINS = ((15.0, 18.0), (18.0, 19.0), (19.0, 20.0))
FEWEST = 5  # galaxies on either side: of fewer, no distance would say anything
CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Distance:
    """One quantity of one bin."""

    quantity: str
    limits: str
    practice: int  # galaxies
    real: int
    distance: float  # largest difference of the two cumulative distributions
    chance: float  # what two samples of one distribution exceed in 5 % of cases


def distance(practice: Array, real: Array) -> float:
    """Largest difference of the cumulative distributions of two samples, 0 to 1 (Kolmogorov and Smirnov)."""
    values = np.concatenate([practice, real])
    below = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (practice, real)]
    return float(np.abs(below[0] - below[1]).max())


def chance_distance(practice: int, real: int) -> float:
    """The distance that two samples of one distribution, of these sizes, exceed with probability `CHANCE`.

    The leading term of the limit distribution, 2 exp(-2 x^2), solved for x: 1.358 sqrt(1/n + 1/m) for 5 %. It is the
    limit of many galaxies: of 5 to 8 against many, it is 8 to 6 % above the true one, and so passes a little more.
    """
    return float(np.sqrt(-np.log(CHANCE / 2) / 2 * (1 / practice + 1 / real)))


def colour_distances(practice: Sample, real: Sample) -> list[Distance]:
    """Redshift and r of all, then the four colours and r in bins of redshift.

    Both samples lose what is brighter than r = 14, which the practice survey has not.
    """
    practice, real = (sample.take(sample.mag[:, R_BAND] > BRIGHT_LIMIT) for sample in (practice, real))
    rows = _compare("all", ("redshift",), practice.redshift[:, None], real.redshift[:, None])
    rows += _compare("all", ("r",), practice.mag[:, [R_BAND]], real.mag[:, [R_BAND]])
    for low, high in REDSHIFT_BINS:
        inside = [features(one.take((one.redshift > low) & (one.redshift < high))) for one in (practice, real)]
        rows += _compare(f"z {low:g} - {high:g}", (*COLOURS, "r"), *inside)
    return rows


def shape_distances(practice: Shapes, real: Shapes) -> list[Distance]:
    """Radius, concentration and axis ratio in bins of dereddened Petrosian r."""
    rows = []
    for low, high in MAGNITUDE_BINS:
        inside = [one.measures[(one.r_mag > low) & (one.r_mag < high)] for one in (practice, real)]
        rows += _compare(f"r {low:g} - {high:g}", Shapes.MEASURES, *inside)
    return rows


def _compare(limits: str, quantities: Sequence[str], practice: Array, real: Array) -> list[Distance]:
    """One row for each column of two (galaxy, quantity) arrays; none where either has next to no galaxies."""
    if min(len(practice), len(real)) < FEWEST:
        return []
    chance = chance_distance(len(practice), len(real))
    return [
        Distance(name, limits, len(practice), len(real), distance(practice[:, place], real[:, place]), chance)
        for place, name in enumerate(quantities)
    ]


def as_text(rows: Sequence[Distance]) -> str:
    """The rows as a table, one line a bin: each quantity's distance, and a star where it is more than chance."""
    lines = []
    for limits in dict.fromkeys(row.limits for row in rows):
        chosen = [row for row in rows if row.limits == limits]
        head = chosen[0]
        told = "  ".join(f"{row.quantity} {row.distance:.3f}{' *'[row.distance > row.chance]}" for row in chosen)
        lines.append(f"{limits:14} {head.practice:7,} {head.real:6,}  {head.chance:.3f}  {told}".rstrip())
    return "\n".join([f"{'bin':14} practice   real  chance  Kolmogorov-Smirnov distance (*: more than chance)", *lines])
