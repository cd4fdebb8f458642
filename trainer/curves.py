"""The curves of a run's `metrics.jsonl`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .figures import curve_figure
from .quantities import LEARNT, Quantity
from .trace import METRICS, read_trace


def draw_curves(run: Path, path: Path, *, title: str, shown: Mapping[str, Quantity] = LEARNT) -> bool:
    """Draw each quantity of ``shown`` that the run logged against its step; False, and no figure, if it logged none."""
    records = read_trace(run / METRICS).records
    panels = []
    for name, quantity in shown.items():
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            step, value = np.array(points, dtype=np.float64).T
            panels.append((quantity.axis or quantity.label, step, value))
    if panels:
        curve_figure(path, panels, title=title)
    return bool(panels)
