"""The figures of judged morphology: confusion, ROC and calibration.

Each function draws one PNG from arrays; none knows a run or a dataset.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from matplotlib import colormaps

from .classification import Ranking, Reliability
from .figures import DENSITY_COLOURS
from .plotting import BLUE, FAINT, INK, MUTED, drawing

MOST_NAMED = 10  # classes that a legend has room for


def confusion_figure(path: Path, counts: Int[np.ndarray, "c c"], classes: Sequence[str]) -> None:
    """For each true class the share of its galaxies that were given each class, with their number."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.8 + 0.75 * len(classes)
    with drawing(path, width_in=side, height_in=side) as figure:
        axes = figure.add_subplot()
        axes.imshow(share, cmap=DENSITY_COLOURS, vmin=0, vmax=1)
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if share[row, column] > 0.6 else INK
            text = f"{100 * share[row, column]:.0f} %\n{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
        axes.set_xticks(range(len(classes)), labels=classes, rotation=30, ha="right")
        axes.set_yticks(range(len(classes)), labels=classes)
        axes.tick_params(length=0)
        axes.set(xlabel="class given", ylabel="true class", title=f"{int(counts.sum()):,} test galaxies")


def roc_figure(path: Path, rankings: Sequence[Ranking], classes: Sequence[str], *, title: str) -> None:
    """How many of a class are found against how many others are taken for it, at every threshold; a line a class."""
    shown = list(zip(classes, rankings, strict=True))[: 1 if len(classes) == 2 else MOST_NAMED]
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(shown))) if len(shown) > 1 else [BLUE]
    with drawing(path, width_in=4.4, height_in=4.4) as figure:
        axes = figure.add_subplot(aspect="equal")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle="--", label="chance")
        for (name, ranking), colour in zip(shown, colours, strict=True):
            curve, area = ranking.curve(), ranking.auc()
            if np.isfinite(area):
                label = f"{name}, area {area:.3f}"
                axes.plot(curve.false_positive, curve.true_positive, color=colour, linewidth=1.6, label=label)
        axes.grid(visible=True, color=FAINT)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), title=title)
        axes.set(xlabel="others taken for the class (share)", ylabel="galaxies of the class found (share)")
        axes.legend(loc="lower right")


def reliability_figure(path: Path, reliability: Reliability, *, what: str, title: str) -> None:
    """What came true against what was said, and at most how far as many draws scatter; below, how often it was said."""
    said, so, number = reliability
    scatter = np.sqrt(so * (1 - so) / number)
    with drawing(path, width_in=4.4, height_in=5.0) as figure:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle="--", label="calibrated")
        axes.errorbar(said, so, yerr=scatter, color=BLUE, marker="o", markersize=4, linewidth=1.4, capsize=2)
        axes.grid(visible=True, color=FAINT)
        axes.set(ylim=(-0.03, 1.03), ylabel=f"share of {what} in truth", title=title)
        axes.legend(loc="upper left")
        below.bar(said, number, width=0.05, color=BLUE, alpha=0.5)
        below.set(xlim=(-0.03, 1.03), ylabel="answers", xlabel=f"probability of {what} as given")
