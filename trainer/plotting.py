"""One look for every figure, and the one way to write one: whole or not at all, the same data the same bytes.

Figures are objects; no pyplot, so nothing is shared between threads, runs and tests but this style.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from sharding import atomic_file

# Okabe and Ito's palette (2008, "Color Universal Design"): told apart by colour-blind readers too.
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
DPI = 144
INK, MUTED, FAINT = "#222222", "#6B6B6B", "#D9D9D9"

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "savefig.facecolor": "white",
}


@contextmanager
def drawing(path: Path, *, width_in: float, height_in: float, dpi: int = DPI) -> Iterator[Figure]:
    """A figure to draw on; it is written to ``path`` (PNG) when the block ends well."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), dpi=dpi, layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            figure.savefig(file, format="png", metadata={"Software": None})
