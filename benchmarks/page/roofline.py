"""The roofline (Williams, Waterman and Patterson 2009): what arithmetic and memory allow, and where the work stands.

Work that does many operations for each byte is bounded by the rate of arithmetic, the rest by that of memory. A copy
moves each byte twice, in and out, so memory's rate is twice that of copying. The bytes of a point are those of its
images or views alone: weights and activations, which a network also reads and writes, are not counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from trainer.plotting import INK, MUTED

from ..limits import DEVICE_COPY, matrix, memory_copy
from ..results import Report, Result
from ..wording import short, stage
from .panels import PALETTE, plain

_COUNTS = ("flop_per_image", "flop_per_view")
_MATRIX, _COPY = (name.partition(",")[0] for name in (matrix(), memory_copy()))


@dataclass(frozen=True, slots=True)
class Point:
    """One result in the diagram."""

    result: Result
    intensity: float  # FLOP / byte
    rate: float  # GFLOP/s


def points(report: Report) -> list[Point]:
    """The results of which the operations are counted."""
    return [
        Point(result, flop / result.bytes_per_image, result.median * flop / 1e9)
        for result in report.results
        if result.bytes_per_image and (flop := _flop(result))
    ]


def _flop(result: Result) -> float:
    counts = (result.params.get(name, 0) for name in _COUNTS)
    return next((float(count) for count in counts if isinstance(count, int | float) and count > 0), 0.0)


def ceilings(report: Report) -> tuple[list[Result], list[Result]]:
    """Of arithmetic, the fastest of each precision on host and device; of memory, the fastest of either."""
    arithmetic = [result for result in report.results if result.name.startswith(_MATRIX)]
    memory = [result for result in report.results if result.name.startswith(_COPY) or result.name == DEVICE_COPY]
    return _fastest(arithmetic, _precision_and_place), _fastest(memory, lambda name: name == DEVICE_COPY)


def _fastest(results: Sequence[Result], kind: Callable[[str], object]) -> list[Result]:
    best: dict[object, Result] = {}
    for result in results:
        known = best.setdefault(kind(result.name), result)
        if result.median > known.median:
            best[kind(result.name)] = result
    return list(best.values())


def _precision_and_place(name: str) -> tuple[str, bool]:
    rest = name.removeprefix(f"{_MATRIX}, ")
    return rest.partition(", ")[0], rest.endswith("cuda")


def has_roofline(report: Report) -> bool:
    """Whether there is anything to draw."""
    return bool(points(report)) and all(ceilings(report))


def draw_roofline(axes: Axes, report: Report) -> None:
    """Ceilings as lines, results as points."""
    shown, (arithmetic, memory) = points(report), ceilings(report)
    ridge = max(roof.median for roof in arithmetic) / (2 * min(each.median for each in memory))
    low = min(ridge, *(point.intensity for point in shown)) / 8
    high = max(ridge, *(point.intensity for point in shown)) * 30
    intensity = np.geomspace(low, high, 200)
    top = max(roof.median for roof in arithmetic)
    for roof in arithmetic:
        axes.axhline(roof.median, color=MUTED, linewidth=1.2)
        axes.annotate(plain(short(roof.name)), (high, roof.median), (-2, 3), textcoords="offset points", ha="right",
                      fontsize=7.5)  # fmt: skip
    for each in memory:
        axes.plot(intensity, np.minimum(2 * each.median * intensity, top), color=INK, linewidth=1.2)
        above = (low, 2 * each.median * low)  # the line, where no point can be
        axes.annotate(f"{plain(short(each.name))}, in and out", above, (4, 14), textcoords="offset points", va="bottom",
                      fontsize=7.5)  # fmt: skip
    stages = list(dict.fromkeys(stage(point.result.name) for point in shown))
    for number, name in enumerate(stages):
        of_stage = [point for point in shown if stage(point.result.name) == name]
        axes.plot([point.intensity for point in of_stage], [point.rate for point in of_stage], "o", markersize=4.5,
                  alpha=0.7, color=PALETTE[number % len(PALETTE)], label=plain(name))  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), title="Roofline")
    axes.set(xlabel="operations for each byte of an image or view [FLOP/byte]", ylabel="GFLOP/s")
    axes.legend(loc="lower right")
