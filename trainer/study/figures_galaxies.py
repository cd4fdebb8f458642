"""The figures that ask which galaxies a method does well: residuals in bins of a quantity, and class by class.

Each function draws one PNG from arrays; none knows a run or a dataset.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ..binned import FEWEST_A_BIN, MOST_BINS
from ..metrics import sigma_mad
from ..plotting import FAINT, INK, drawing
from .figures import WIDTH_IN, points
from .results import Method

DRAWS = 200  # resamplings: an error then is known to 5 %, enough for a picture
DODGE = 0.008  # share of the axis between the points of two methods

Values = Float[np.ndarray, " bin"]


@dataclass(frozen=True, slots=True)
class Residuals:
    """Median and sigma_MAD of dz in bins of a quantity, with one standard deviation over the galaxies."""

    centre: Values  # the quantity's median in each bin
    median: Values
    median_error: Values
    spread: Values
    spread_error: Values


def in_bins(quantity: Float[np.ndarray, " n"], dz: Float[np.ndarray, "seed n"]) -> Residuals:
    """Bins of equally many galaxies, cut as those of `binned`; each figure is the mean of those of the seeds.

    ``quantity`` is finite, and there is at least one galaxy. The errors are of resampled galaxies; a galaxy's residuals
    of all seeds stay together.
    """
    count = int(np.clip(dz.shape[1] // FEWEST_A_BIN, 1, MOST_BINS))
    bins = np.array_split(np.argsort(quantity, kind="stable"), count)
    centre = np.array([np.median(quantity[members]) for members in bins])
    median, spread = ([_with_error(dz[:, members], figure) for members in bins] for figure in (_median, sigma_mad))
    return Residuals(centre, *np.array(median, dtype=np.float64).T, *np.array(spread, dtype=np.float64).T)


def _median(dz: Float[np.ndarray, " n"]) -> float:
    return float(np.median(dz))


def _with_error(
    dz: Float[np.ndarray, "seed n"], figure: Callable[[Float[np.ndarray, " n"]], float]
) -> tuple[float, float]:
    def mean(galaxies: slice | Int[np.ndarray, " n"]) -> float:
        return float(np.mean([figure(each) for each in dz[:, galaxies]]))

    rng, size = np.random.default_rng(0), dz.shape[1]
    drawn = [mean(rng.integers(0, size, size=(size,))) for _ in range(DRAWS)]
    return mean(slice(None)), float(np.std(drawn, ddof=1))


def residuals_figure(path: Path, found: Mapping[Method, Residuals], quantity: str, *, title: str) -> None:
    """Median residual and sigma_MAD against a quantity (its name with its unit), a colour a method."""
    with drawing(path, width_in=WIDTH_IN, height_in=5.0 + 0.17 * len(found)) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        ends = [end for each in found.values() for end in (each.centre[0], each.centre[-1])]
        step = DODGE * (max(ends) - min(ends))
        for number, (method, each) in enumerate(found.items()):
            x = each.centre + step * (number - (len(found) - 1) / 2)
            points(above, method, x, each.median, yerr=each.median_error)
            points(below, method, x, each.spread, yerr=each.spread_error)
        above.axhline(0.0, color=INK, linewidth=1.0)
        above.set(title=title, ylabel="median of dz")
        below.set(xlabel=quantity, ylabel=r"$\sigma_{\rm MAD}$ of dz")
        below.set_ylim(bottom=0.0)
        for axes in (above, below):
            axes.grid(visible=True, axis="y", color=FAINT)
        figure.align_ylabels()
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower left")


def share_right(
    given: Float[np.ndarray, "seed n"], true: Float[np.ndarray, " n"], classes: int
) -> Float[np.ndarray, "2 {classes}"]:
    """For each class the share of its galaxies that are given it, mean over seeds, and its standard deviation.

    The latter is over galaxies, which are taken to be independent. NaN for a class without galaxies.
    """
    right = (given == true).mean(axis=0)
    shares = np.full((2, classes), np.nan)
    for number in range(classes):
        members = right[true == number]
        if len(members):
            shares[:, number] = members.mean(), members.std() / np.sqrt(len(members))
    return shares


def classes_figure(
    path: Path,
    found: Mapping[Method, Float[np.ndarray, "2 class"]],
    classes: Sequence[str],
    counts: Sequence[int],
    *,
    title: str,
) -> None:
    """What `share_right` says of each method, a line a class; ``counts`` are of the galaxies of each."""
    with drawing(path, width_in=WIDTH_IN, height_in=1.0 + (0.17 + 0.11 * len(classes)) * len(found)) as figure:
        axes = figure.add_subplot()
        for number, (method, (share, error)) in enumerate(found.items()):
            place = np.arange(len(classes)) + 0.6 / len(found) * (number - (len(found) - 1) / 2)
            points(axes, method, 100 * share, place, xerr=100 * error, joined=False)
        axes.grid(visible=True, axis="x", color=FAINT)
        axes.tick_params(axis="y", length=0)
        names = [f"{name} ({count:,})" for name, count in zip(classes, counts, strict=True)]
        axes.set_yticks(range(len(classes)), labels=names)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set(title=title, xlabel="galaxies of the class that are given it [%]")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left")
