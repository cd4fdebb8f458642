"""The figures of a report as PNG files: one a panel for the page, and one of several panels for the README."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from matplotlib.axes import Axes

from trainer.plotting import drawing

from ..results import Bars, Curve, Report, Result
from ..wording import stage
from .panels import chosen, draw_bars, draw_curve, draw_idle, draw_shares
from .roofline import draw_roofline, has_roofline

C = TypeVar("C", Bars, Curve)

WIDTH_IN = 5.6


@dataclass(frozen=True, slots=True)
class Panel:
    """What draws itself on axes, and how high it wants them to be."""

    draw: Callable[[Axes], None]
    height_in: float

    def write(self, path: Path) -> None:
        """As a PNG of its own."""
        with drawing(path, width_in=WIDTH_IN, height_in=self.height_in) as figure:
            self.draw(figure.add_subplot())


def bars(report: Report) -> list[Panel]:
    """Ours beside peers."""
    return [_bars(report, chart) for chart in report.bars if chart.results]


def _bars(report: Report, chart: Bars) -> Panel:
    return Panel(partial(draw_bars, report=report, chart=chart), _list_in(len(chart.results)))


def shares(report: Report) -> Panel | None:
    """What each of the bars' first results, ours, is of its limit."""
    names = dict.fromkeys(chart.results[0] for chart in report.bars if chart.results)
    results: Sequence[Result] = [each for each in chosen(report, names) if report.of_limit(each) is not None]
    if not results:
        return None
    return Panel(partial(draw_shares, report=report, results=results), _list_in(len(results)))


def roofline(report: Report) -> Panel | None:
    """Arithmetic and memory."""
    return Panel(partial(draw_roofline, report=report), 4.0) if has_roofline(report) else None


def curves(report: Report) -> list[Panel]:
    """How rates scale."""
    return [_curve(report, chart) for chart in report.curves if any(chart.lines.values())]


def _curve(report: Report, chart: Curve) -> Panel:
    return Panel(partial(draw_curve, report=report, chart=chart), 3.2 + 0.18 * (1 + len(chart.lines) // 2))


def idle(report: Report) -> Panel | None:
    """How long GPUs wait."""
    gpus = report.analysis.get("gpus")
    return Panel(partial(draw_idle, gpus=gpus), 3.0) if gpus else None


def figure(report: Report, path: Path) -> None:
    """One PNG: the first bars of each stage, shares of limits, and the first curve of each stage."""
    beside = [_bars(report, chart) for chart in _first_of_stages(report.bars)]
    panels = sorted(beside, key=lambda panel: panel.height_in)  # those of a row have one height
    panels += [panel for panel in (shares(report),) if panel]
    panels += [_curve(report, chart) for chart in _first_of_stages(report.curves)]
    rows = [panels[start : start + 3] for start in range(0, len(panels), 3)]
    heights = [max(panel.height_in for panel in row) for row in rows] or [1.0]
    with drawing(path, width_in=14.0, height_in=sum(heights)) as drawn:
        grid = drawn.subplots(len(heights), 3, squeeze=False, height_ratios=heights)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for panel, axes in zip(panels, grid.flat, strict=False):
            panel.draw(axes)


def _first_of_stages(charts: Sequence[C]) -> list[C]:
    first: dict[str, C] = {}
    for chart in charts:
        if names := _names(chart):
            first.setdefault(stage(names[0]), chart)
    return list(first.values())


def _names(chart: Bars | Curve) -> Sequence[str]:
    return chart.results if isinstance(chart, Bars) else [name for line in chart.lines.values() for name in line]


def _list_in(rows: int) -> float:
    return 1.1 + 0.42 * rows
