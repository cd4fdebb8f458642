"""The figures that ask where estimates are good and whether densities can be believed: scores in bins, and the PIT."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from .binned import Binned
from .calibration import ks_distance
from .metrics import PhotozScore
from .plotting import BLUE, FAINT, INK, MUTED, drawing

PANELS = (("sigma_mad", r"$\sigma_{\rm MAD}$", 1.0), ("eta", r"$\eta$ [%]", 100.0), ("bias", "bias", 1.0))
PIT_BINS = 20


def bins_figure(path: Path, quantities: Sequence[Binned], score: PhotozScore) -> None:
    """Each figure of merit against each quantity: a point at a bin's median, with one bootstrap standard deviation."""
    with drawing(path, width_in=3.6 * len(quantities) + 0.6, height_in=5.6) as figure:
        grid = figure.subplots(len(PANELS), len(quantities), squeeze=False, sharex="col", sharey="row")
        for column, binned in enumerate(quantities):
            for axes, (name, _, unit) in zip(grid[:, column], PANELS, strict=True):
                _in_bins(axes, binned, name, unit)
                axes.axhline(unit * getattr(score, name), color=MUTED, linewidth=1.0, linestyle="--", label="all")
            grid[-1, column].set_xlabel(binned.quantity)
        for axes, (name, label, _) in zip(grid[:, 0], PANELS, strict=True):
            axes.set_ylabel(label)
            if name != "bias":
                axes.set_ylim(bottom=-0.04 * axes.get_ylim()[1])  # a point at 0 is seen whole
        grid[0, 0].legend(loc="best")
        figure.align_ylabels(grid[:, 0])
        figure.suptitle(f"{score.n:,} test galaxies", x=0.01, ha="left", fontsize=10, fontweight="bold")


def _in_bins(axes: Axes, binned: Binned, name: str, unit: float) -> None:
    median = np.array([each.median for each in binned.bins])
    reach = [median - [each.low for each in binned.bins], [each.high for each in binned.bins] - median]
    value = unit * np.array([getattr(each.score, name) for each in binned.bins])
    error = unit * np.array([getattr(each.score, f"{name}_error") for each in binned.bins])
    axes.grid(visible=True, axis="y", color=FAINT)
    axes.errorbar(median, value, yerr=error, xerr=reach, fmt="o", color=BLUE, markersize=3.5, elinewidth=1.0)


def pit_figure(path: Path, values: Float[np.ndarray, " n"]) -> None:
    """The histogram of the probability integral transform beside what a calibrated forecast's would scatter within.

    Each bar then is binomial: n galaxies, each in it with a probability of one over the number of bars.
    """
    counts, edges = np.histogram(values, bins=PIT_BINS, range=(0.0, 1.0))
    expected = len(values) / PIT_BINS
    scatter = 2.0 * np.sqrt((1.0 - 1.0 / PIT_BINS) / expected)
    with drawing(path, width_in=4.6, height_in=3.4) as figure:
        axes = figure.add_subplot()
        axes.stairs(counts / expected, edges, fill=True, color=BLUE, alpha=0.35)
        label = r"calibrated, $\pm$ 2 standard deviations"
        axes.axhspan(max(0.0, 1 - scatter), 1 + scatter, color=MUTED, alpha=0.25, linewidth=0, label=label)
        axes.axhline(1.0, color=INK, linewidth=1.0)
        axes.set(xlim=(0, 1), ylim=(0, None), title=f"{len(values):,} test galaxies")
        axes.set(xlabel=r"probability below $z_{\rm spec}$ (PIT)", ylabel="galaxies over their expected number")
        axes.legend(loc="best")
        note = f"largest distance from the uniform distribution (KS) = {ks_distance(values):.3f}"
        figure.supxlabel(note, fontsize=7.5, color=INK)
