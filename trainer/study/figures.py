"""The figures that compare methods: against the number of labels, at one number of labels, and variant by variant.

Each function draws one PNG from scores; none knows a run or a dataset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ..config import Task
from ..map_figure import CLASS_COLOURS
from ..plotting import FAINT, INK, MUTED, drawing
from .comparison import find_difference
from .results import JUDGED_BY, METHOD_NAMES, Method, Score

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = CLASS_COLOURS
#: Colour, marker and line of each method: told apart without colours too. Dashed: it sees the catalogue alone.
LOOKS: dict[Method, tuple[str, str, str]] = {
    "supervised": (BLUE, "s", "-"),
    "finetuned": (VERMILION, "o", "-"),
    "probe": (ORANGE, "^", "-"),
    "neighbours": (PURPLE, "v", "-"),
    "catalogue": (SKY, "D", "--"),
    "trees": (GREEN, "P", "--"),
    "guess": (MUTED, "X", ":"),
}
WIDTH_IN = 5.0  # narrow enough to be read on a telephone
DODGE = 0.012  # share of the axis between the points of two methods, so that neither hides the other
WIDE_RANGE = 3.0  # a positive quantity that varies by more is shown on a logarithmic scale


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure of merit as axes show it."""

    name: str
    label: str
    unit: float = 1.0
    logarithmic: bool = False  # where its range is wide


PANELS: dict[Task, tuple[Panel, ...]] = {
    "photoz": (
        Panel("sigma_mad", r"$\sigma_{\rm MAD}$", logarithmic=True),
        Panel("eta", r"$\eta$ [%]", 100.0, logarithmic=True),
    ),
    "morphology": (Panel("accuracy", "accuracy [%]", 100.0),),
}


def labels_figure(path: Path, scores: Sequence[Score], *, title: str) -> None:
    """Each figure of merit of a task against the number of labels, a line a method, with one standard deviation.

    ``scores`` are of one task and one variant, at two numbers of labels or more. The same answer for all is left out:
    it would take most of the room. A dotted line shows supervised training at the most labels.
    """
    panels = PANELS[scores[0].row.task]
    lines = by_method([score for score in scores if score.row.method != "guess"])
    height = 0.9 + 2.4 * len(panels) + 0.17 * (len(lines) + 1)
    with drawing(path, width_in=WIDTH_IN, height_in=height) as figure:
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            _guide(axes, lines.get("supervised", []), panel)
            _against_labels(axes, lines, panel)
        _label_axis(grid[-1], scores)
        grid[0].set_title(title)
        figure.align_ylabels(grid)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower left")


def by_method(scores: Sequence[Score]) -> dict[Method, list[Score]]:
    """The scores of each method there is, in the order of legends, by rising number of labels."""
    lines: dict[Method, list[Score]] = {}
    for method in METHOD_NAMES:
        if line := [score for score in scores if score.row.method == method]:
            lines[method] = sorted(line, key=lambda score: score.row.fraction)
    return lines


def _against_labels(axes: Axes, lines: Mapping[Method, list[Score]], panel: Panel) -> None:
    every = np.array([score.row.labels for line in lines.values() for score in line])
    step = (every.max() / every.min()) ** DODGE
    for number, (method, line) in enumerate(lines.items()):
        labels = np.array([score.row.labels for score in line]) * step ** (number - (len(lines) - 1) / 2)
        value, error = values(line, panel)
        points(axes, method, labels, value, yerr=error)
    axes.grid(visible=True, axis="y", color=FAINT)
    axes.set_ylabel(panel.label)
    shown = [number for line in lines.values() for number in _reach(line, panel)]
    _scale(axes, "y", shown, panel)


def points(
    axes: Axes,
    method: Method,
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    *,
    xerr: Float[np.ndarray, " n"] | None = None,
    yerr: Float[np.ndarray, " n"] | None = None,
    joined: bool = True,
) -> None:
    """A method's points with their errors, in its look and under its name."""
    colour, marker, dash = LOOKS[method]
    axes.errorbar(
        x, y, xerr=xerr, yerr=yerr, color=colour, marker=marker, linestyle=dash if joined else "", markersize=5,
        linewidth=1.4, elinewidth=1.0, label=METHOD_NAMES[method],
    )  # fmt: skip


def values(line: Sequence[Score], panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Values and errors of a figure of merit, in the panel's unit: (score,) each."""
    figures = [score.figures[panel.name] for score in line]
    return panel.unit * np.array([f.value for f in figures]), panel.unit * np.array([f.error for f in figures])


def _reach(line: Sequence[Score], panel: Panel) -> list[float]:
    """Where the error bars end."""
    value, error = values(line, panel)
    return [*(value - error).tolist(), *(value + error).tolist()]


def _guide(axes: Axes, supervised: Sequence[Score], panel: Panel) -> None:
    """What supervised training reaches with the most labels, with its error."""
    if not supervised:
        return
    (value,), (error,) = values(supervised[-1:], panel)
    label = f"supervised on {supervised[-1].row.labels:,.0f} labels"
    axes.axhline(value, color=BLUE, linewidth=1.2, linestyle=":", label=label)
    axes.axhspan(value - error, value + error, color=BLUE, alpha=0.12, linewidth=0)


def _label_axis(axes: Axes, scores: Sequence[Score]) -> None:
    """Numbers of labels, evenly spaced by their logarithm; under each, its share of all."""
    fractions = sorted({score.row.fraction for score in scores})
    ticks = [float(np.mean([s.row.labels for s in scores if s.row.fraction == fraction])) for fraction in fractions]
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    texts = [f"{_count(tick)}\n{100 * fraction:g} %" for tick, fraction in zip(ticks, fractions, strict=True)]
    axes.set_xticks(ticks, labels=texts)
    axes.set_xlabel("galaxies with a label in training, and their share of all that have one")


def _count(number: float) -> str:
    return f"{number:,.0f}" if number < 10_000 else f"{number / 1000:,.0f}k"


def _scale(axes: Axes, which: Literal["x", "y"], shown: Sequence[float], panel: Panel) -> None:
    """A logarithmic axis with plain numbers, where the panel may have one and the range asks for it."""
    if panel.logarithmic and min(shown) > 0 and max(shown) > WIDE_RANGE * min(shown):
        axes.set(**{f"{which}scale": "log"})
        axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
        axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def methods_figure(path: Path, scores: Sequence[Score], *, title: str) -> None:
    """Each figure of merit of a task at one number of labels, a line a method, with one standard deviation."""
    panels = PANELS[scores[0].row.task]
    lines = by_method(scores)
    with drawing(path, width_in=WIDTH_IN, height_in=0.4 + (0.5 + 0.3 * len(lines)) * len(panels)) as figure:
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            for place, (method, line) in enumerate(lines.items()):
                value, error = values(line[-1:], panel)
                points(axes, method, value, np.array([float(place)]), xerr=error)
            axes.set_xlabel(panel.label)
            _scale(axes, "x", [end for line in lines.values() for end in _reach(line[-1:], panel)], panel)
            _name_rows(axes, [METHOD_NAMES[method].replace(", ", ",\n") for method in lines])
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")


def variants_figure(path: Path, scores: Sequence[Score], variants: Sequence[str], *, title: str) -> None:
    """What a task is judged by, a line a pre-training: the first of ``variants`` is the reference, in bold.

    ``scores`` are of one task, one method and one number of labels; a variant without a score has no point. A filled
    point is more than two standard deviations of the difference away from the reference: the draws are paired, so what
    all variants find hard cancels.
    """
    task, method = scores[0].row.task, scores[0].row.method
    panel = next(panel for panel in PANELS[task] if panel.name == JUDGED_BY[task][0])
    colour, marker, _ = LOOKS[method]
    found = {score.row.variant: score for score in scores}
    reference = found.get(variants[0])
    with drawing(path, width_in=WIDTH_IN, height_in=1.1 + 0.24 * len(variants)) as figure:
        axes = figure.add_subplot()
        if reference is not None:
            axes.axvline(values([reference], panel)[0].item(), color=INK, linewidth=1.0, linestyle=":")
        for place, variant in enumerate(variants):
            if variant in found:
                value, error = values([found[variant]], panel)
                clear = reference is not None and find_difference(found[variant], reference).verdict != 0
                axes.errorbar(
                    value, [place], xerr=error, color=colour if place else INK, marker=marker if place else "|",
                    markersize=5 if place else 9, markerfacecolor=colour if clear else "white", elinewidth=1.2,
                )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(panel.label)
        _name_rows(axes, variants)
        axes.get_yticklabels()[0].set_fontweight("bold")
        figure.suptitle(f"{title}\n{METHOD_NAMES[method]}", x=0.01, ha="left", fontsize=10, fontweight="bold")


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """The names of a dot plot, the first at the top."""
    axes.grid(visible=True, color=FAINT)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(names)), labels=names)
    axes.set_ylim(len(names) - 0.5, -0.5)
