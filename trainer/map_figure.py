"""Points of a plane coloured by a quantity or by classes: one PNG from arrays, wherever they come from."""

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from matplotlib.axes import Axes

from .plotting import FAINT, MUTED, drawing

SCALE = (
    "viridis"  # lightness rises evenly, for colour-blind readers too; none of it looks like the grey of what is missing
)
# Okabe and Ito's palette (2008) without black and its yellow, which is hard to see on white.
CLASS_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
LIMITS = (1.0, 99.0)  # percentiles that the colours span
UNMEASURED = -9999.0  # what catalogues write for it
SEED = 0

Labels = npt.NDArray[np.object_]


def draw_map(
    path: Path, places: Float[np.ndarray, "n 2"], values: npt.NDArray[np.generic], *, label: str, title: str
) -> None:
    """Draw ``places`` coloured by ``values`` (n,), which are called ``label``; where they are missing, grey.

    Numbers are a scale of colours, unless they are whole and few; these and text are classes.
    """
    size = float(np.clip(400.0 / np.sqrt(len(places)), 1.0, 10.0))
    with drawing(path, width_in=6.4, height_in=5.4) as figure:
        axes = figure.add_subplot(aspect="equal")
        labels = classes(values)
        if labels is None:
            _scale(axes, places, quantity(values), size, label)
        else:
            _classes(axes, places, labels, size, label)
        axes.set(xticks=[], yticks=[], title=title)
        axes.spines[:].set_visible(False)


def quantity(values: npt.NDArray[np.generic]) -> Float[np.ndarray, " n"]:
    """Numbers, NaN where one is missing."""
    numbers = values.astype(np.float64)
    return np.where(np.isfinite(numbers) & (numbers != UNMEASURED), numbers, np.nan)


def classes(values: npt.NDArray[np.generic]) -> Labels | None:
    """What is shown as classes: a name each, None where it is missing; None for numbers that are a quantity."""
    if values.dtype.kind in "iuf":
        numbers = quantity(values)
        known = np.unique(numbers[np.isfinite(numbers)])
        if len(known) > len(CLASS_COLOURS) or (known != np.rint(known)).any() or len(known) == 0:
            return None
        names = [None if np.isnan(number) else str(int(number)) for number in numbers.tolist()]
    else:
        names = [None if value is None or value == "" or value != value else str(value) for value in values.tolist()]
    return np.array(names, dtype=object)


def _scale(axes: Axes, places: np.ndarray, numbers: np.ndarray, size: float, label: str) -> None:
    known = np.isfinite(numbers)
    _missing(axes, places[~known], size, label)
    if not known.any():
        return
    low, high = np.percentile(numbers[known], LIMITS)
    order = _shuffled(np.flatnonzero(known))
    points = axes.scatter(
        places[order, 0], places[order, 1], c=numbers[order], cmap=SCALE, vmin=low, vmax=high, s=size, linewidths=0
    )
    beyond = (bool((numbers[known] < low).any()), bool((numbers[known] > high).any()))
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    axes.figure.colorbar(points, ax=axes, label=label, shrink=0.8, extend=extend)


def _classes(axes: Axes, places: np.ndarray, labels: Labels, size: float, label: str) -> None:
    """The most frequent classes by colour, in the order of their names; any others together in one grey."""
    known = np.array([name is not None for name in labels], dtype=np.bool_)
    _missing(axes, places[~known], size, label)
    counts = Counter(labels[known].tolist())
    most = sorted(sorted(counts, key=lambda name: (-counts[name], name))[: len(CLASS_COLOURS)])
    colour = dict(zip(most, CLASS_COLOURS, strict=False))
    order = _shuffled(np.flatnonzero(known))
    axes.scatter(
        places[order, 0], places[order, 1], c=[colour.get(name, MUTED) for name in labels[order]], s=size, linewidths=0
    )
    for name in most:
        axes.scatter([], [], c=colour[name], s=24, label=f"{name} ({counts[name]:,})")
    if others := sum(counts.values()) - sum(counts[name] for name in most):
        axes.scatter([], [], c=MUTED, s=24, label=f"{len(counts) - len(most)} others ({others:,})")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=label)


def _missing(axes: Axes, places: np.ndarray, size: float, label: str) -> None:
    """Beneath all others."""
    if len(places):
        axes.scatter(places[:, 0], places[:, 1], c=FAINT, s=size, linewidths=0)
        axes.set_xlabel(f"grey: {len(places):,} without {label}", fontsize=7.5, color=MUTED)


def _shuffled(rows: np.ndarray) -> np.ndarray:
    """In an order that hides no kind of point beneath another."""
    return np.random.default_rng(SEED).permutation(rows)
