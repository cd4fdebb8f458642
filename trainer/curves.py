"""The curves of a run's `metrics.jsonl`."""

import json
from pathlib import Path

import numpy as np

from .figures import curve_figure
from .runlog import METRICS

# What is drawn, in this order, where the run has it: the record's name and the axis' label.
SHOWN = {
    "loss": "training loss",
    "accuracy": "instance accuracy",
    "validation_loss": "validation loss",
    "validation_sigma_mad": r"validation $\sigma_{\rm MAD}$",
    "validation_error": "validation error, share",
}


def draw_curves(run: Path, path: Path, *, title: str) -> None:
    """Draw every quantity of `SHOWN` that the run logged against its step; a run that logged none has no figure."""
    lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    panels = []
    for name, label in SHOWN.items():
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            step, value = np.array(points, dtype=np.float64).T
            panels.append((label, step, value))
    if panels:
        curve_figure(path, panels, title=title)
