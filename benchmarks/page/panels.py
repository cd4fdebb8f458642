"""One panel each, on axes that are given: rates as bars beside peers, shares of limits, scaling curves, idle GPUs."""

import textwrap
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from trainer.plotting import BLUE, FAINT, INK, MUTED, ORANGE, VERMILION

from ..results import Bars, Curve, Report, Result
from ..wording import rate, share, short, stage

PALETTE = (BLUE, ORANGE, VERMILION, "#009E73", "#CC79A7", "#56B4E9", INK)  # Okabe and Ito's
_PARTS = ("threads", "ranks", "workers")  # axes along which twice as many should do twice as much
_LABEL = 30  # characters in a line of a label


def chosen(report: Report, names: Iterable[str]) -> list[Result]:
    """The results of these names."""
    return [result for name in names if (result := report.result(name)) is not None]


def plain(text: str) -> str:
    """For matplotlib, to which two dollars make a formula."""
    return text.replace("$", r"\$")


def draw_bars(axes: Axes, report: Report, chart: Bars) -> None:
    """Rates with their quartiles, ours in colour."""
    results = chosen(report, chart.results)
    names = [short(result.name) for result in results]
    colours = [BLUE if is_ours(name) or number == 0 else MUTED for number, name in enumerate(names)]
    medians = [result.median for result in results]
    axes.barh(range(len(results)), medians, color=colours, height=0.7)
    axes.errorbar(
        medians, range(len(results)), xerr=_whiskers(results), fmt="none", ecolor=INK, elinewidth=1, capsize=2
    )
    for number, result in enumerate(results):
        text = f"{rate(result.median)}{'' if result.runs > 1 else ' (one run)'}"
        _beside(axes, result.q75, number, text)
    _list(axes, labels(names))
    axes.set_xlim(0, 1.3 * max((result.q75 for result in results), default=1.0))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    _thousands(axes.xaxis)
    axes.set(title=plain(chart.title), xlabel=plain(results[0].unit if results else ""))


def is_ours(name: str) -> bool:
    """Whether a result's name, without the stage, is of this project's own work."""
    return "skymill" in name


def draw_shares(axes: Axes, report: Report, results: Sequence[Result]) -> None:
    """Each rate as a share of its physical limit, which is named beside it."""
    shares = [100 * (report.of_limit(result) or 0.0) for result in results]
    stages = list(dict.fromkeys(stage(result.name) for result in results))
    colours = [PALETTE[stages.index(stage(result.name)) % len(PALETTE)] for result in results]
    axes.barh(range(len(results)), shares, color=colours, height=0.7)
    beyond = max(100.0, *shares, 0.0)
    for number, (result, of_limit) in enumerate(zip(results, shares, strict=True)):
        inside = of_limit > 0.8 * beyond
        _beside(axes, of_limit, number, share(of_limit / 100), inside=inside)
        _beside(axes, 1.02 * beyond, number, f"of {plain(short(result.limit.name))}" if result.limit else "")
    axes.axvline(100, color=INK, linewidth=1, linestyle="--")
    _list(axes, [plain(_wrapped(result.name)) for result in results])
    axes.set_xlim(0, 2.0 * beyond)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set(title="Beside the physical limits", xlabel="% of the limit")


def _beside(axes: Axes, x: float, y: float, text: str, *, inside: bool = False) -> None:
    """After a bar's end, or in it where there is no room."""
    place, side, colour = (-4, "right", "white") if inside else (4, "left", INK)
    axes.annotate(
        text, (x, y), (place, 0), textcoords="offset points", va="center", ha=side, color=colour, fontsize=7.5
    )


def draw_curve(axes: Axes, report: Report, chart: Curve) -> None:
    """Rates over a parameter: lines where it is a number, else groups of bars."""
    lines = {label: chosen(report, names) for label, names in chart.lines.items() if names}
    values = [result.params[chart.axis] for line in lines.values() for result in line]
    unit = next((result.unit for line in lines.values() for result in line), "")
    if any(isinstance(value, str) for value in values):
        _draw_groups(axes, lines, chart.axis)
    else:
        _draw_lines(axes, lines, chart.axis)
    axis = chart.axis.replace("_px", " [px]").replace("_", " ")
    axes.set(title=plain(chart.title), xlabel=plain(axis), ylabel=plain(unit))
    if len(lines) > 1 or chart.axis in _PARTS:  # below, where it hides nothing
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, fontsize=7.5, borderaxespad=0)


def _draw_lines(axes: Axes, lines: dict[str, list[Result]], axis: str) -> None:
    for number, (label, results) in enumerate(lines.items()):
        results = sorted(results, key=lambda result: result.params[axis])
        places, medians = [result.params[axis] for result in results], [result.median for result in results]
        axes.errorbar(
            places, medians, yerr=_whiskers(results), label=plain(label), color=PALETTE[number % len(PALETTE)],
            marker="o", markersize=4, linewidth=1.4, capsize=2,
        )  # fmt: skip
    everything = [result for results in lines.values() for result in results]
    ticks = sorted({float(result.params[axis]) for result in everything})
    top = 1.15 * max(result.q75 for result in everything)
    if axis in _PARTS:
        _draw_ideal(axes, lines, axis, ticks)
        top *= 1.3
    elif ticks[0] > 0:
        axes.set_xscale("log", base=2)
    axes.set_ylim(0, top)
    axes.set_xticks(_thinned(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}"))
    _thousands(axes.yaxis)
    axes.grid(visible=True, axis="y", color=FAINT)


def _draw_ideal(axes: Axes, lines: dict[str, list[Result]], axis: str, ticks: Sequence[float]) -> None:
    """Twice as many, twice as much: a straight line through the first line's first point."""
    first = min(next(iter(lines.values())), key=lambda result: result.params[axis])
    each = first.median / float(first.params[axis])
    axes.plot([ticks[0], ticks[-1]], [each * ticks[0], each * ticks[-1]], color=MUTED, linestyle="--", label="ideal")


def _draw_groups(axes: Axes, lines: dict[str, list[Result]], axis: str) -> None:
    groups = list(dict.fromkeys(str(result.params[axis]) for results in lines.values() for result in results))
    width = 0.8 / max(1, len(lines))
    for number, (label, results) in enumerate(lines.items()):
        shift = (number - (len(lines) - 1) / 2) * width
        places = [groups.index(str(result.params[axis])) + shift for result in results]
        medians = [result.median for result in results]
        axes.bar(places, medians, width=0.92 * width, color=PALETTE[number % len(PALETTE)], label=plain(label))
        axes.errorbar(places, medians, yerr=_whiskers(results), fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axes.set_xticks(range(len(groups)), [plain(_wrapped(group, 14)) for group in groups])
    _thousands(axes.yaxis)


def draw_idle(axes: Axes, gpus: Sequence[dict[str, float | str]]) -> None:
    """Share of their time that so many GPUs on this host wait for data."""
    shares = [100 * float(each["idle"]) for each in gpus]
    axes.bar(range(len(gpus)), shares, color=[VERMILION if idle > 1 else BLUE for idle in shares], width=0.7)
    for number, (each, idle) in enumerate(zip(gpus, shares, strict=True)):
        text = f"{idle:.0f} %\n{each['binding']}"
        axes.annotate(plain(text), (number, idle), (0, 3), textcoords="offset points", ha="center", fontsize=7.5)
    axes.set_xticks(range(len(gpus)), [str(each["gpus"]) for each in gpus])
    axes.set_ylim(0, 125)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set(title="Idle GPUs, and the stage that binds", xlabel="GPUs on this host", ylabel="% of the time idle")


def labels(names: Sequence[str]) -> list[str]:
    """Without the parts at the end that all have, broken into lines."""
    parts = [name.split(", ") for name in names]
    while len(parts) > 1 and all(len(each) > 1 for each in parts) and len({each[-1] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    return [plain(_wrapped(", ".join(each))) for each in parts]


def _wrapped(text: str, width: int = _LABEL) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=3, placeholder=" ..."))


def _list(axes: Axes, names: Sequence[str]) -> None:
    """One below the other, the first on top."""
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _whiskers(results: Sequence[Result]) -> list[list[float]]:
    return [[each.median - each.q25 for each in results], [each.q75 - each.median for each in results]]


def _thousands(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:.3g}"))


def _thinned(ticks: Sequence[float]) -> Sequence[float]:
    """At most eight."""
    return ticks if len(ticks) <= 8 else ticks[:: -(-len(ticks) // 8)]
