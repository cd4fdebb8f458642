"""The figure of `python -m ingest likeness`: practice and real galaxies side by side, and how far apart they are."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sharding import atomic_file

from .likeness import COLOURS, NEIGHBOURS, Sample, Shapes, colour_percentiles, neighbour_skill
from .spectra import R_BAND, Array
from .twosample import FEWEST, MAGNITUDE_BINS, REDSHIFT_BINS, Distance

PRACTICE, REAL = "tab:blue", "tab:gray"


def write_figure(
    practice: Sample, real: Sample, rows: Sequence[Distance], shapes: Sequence[tuple[Shapes, Shapes]], path: Path
) -> None:
    """Colours, redshifts, magnitudes, neighbours' skill, distances and shapes of (practice, real), as a PNG.

    `rows` are the distances of all that is drawn, shapes included. Bins of fewer than `FEWEST` galaxies are left out.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 9.6 if shapes else 6.4), layout="constrained")
    axes = figure.subplots(3, 4) if shapes else figure.subplots(2, 4)
    for number, colour in enumerate(COLOURS):
        _colour_panel(axes[0, number], number, practice, real)
        axes[0, number].set(xlabel="redshift", ylabel=colour, xlim=(0, 0.2))
    _distribution_panel(axes[1, 0], "redshift", np.linspace(0, 0.25, 51), practice.redshift, real.redshift)
    _distances_as_title(axes[1, 0], [row for row in rows if (row.limits, row.quantity) == ("all", "redshift")])
    _distance_panel(axes[1, 1], rows)
    for axis, sample in zip(axes[1, 2:], (practice, real), strict=True):
        _skill_panel(axis, sample)
    if shapes:
        r_magnitudes = (sample.mag[:, R_BAND] for sample in (practice, real))
        _distribution_panel(axes[2, 0], "r [mag]", np.linspace(14, 18, 41), *r_magnitudes)
        _distances_as_title(axes[2, 0], [row for row in rows if (row.limits, row.quantity) == ("all", "r")])
        for number, axis in enumerate(axes[2, 1:]):
            _shape_panel(axis, number, shapes)
            _distances_as_title(axis, [row for row in rows if row.quantity == Shapes.MEASURES[number]])
        axes[2, 1].legend(fontsize="small")
    axes[0, 1].legend(loc="lower right", fontsize="small")
    axes[1, 0].legend(fontsize="small")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _colour_panel(axis: Any, number: int, practice: Sample, real: Sample) -> None:
    edges = np.arange(0.01, 0.19, 0.02)
    for sample, colour in ((real, REAL), (practice, PRACTICE)):
        bins = [edge for edge in pairwise(edges) if _enough(sample.redshift, edge)]
        percentiles = [colour_percentiles(sample, limits)[:, number] for limits in bins]
        _band(axis, bins, percentiles, colour, f"{sample.name}: 16, 50, 84 %")


def _enough(values: Array, limits: tuple[float, float]) -> bool:
    return int(np.sum((values > limits[0]) & (values < limits[1]))) >= FEWEST


def _band(
    axis: Any, bins: Sequence[tuple[float, float]], percentiles: Sequence[Array], colour: str, label: str
) -> None:
    """Percentiles 16, 50 and 84 of each bin, at its centre."""
    centres = [(low + high) / 2 for low, high in bins]
    low, middle, high = np.reshape(percentiles, (-1, 3)).T  # of no bins, too
    axis.fill_between(centres, low, high, color=colour, alpha=0.25)
    axis.plot(centres, middle, color=colour, marker="o", markersize=3, label=label)


def _distances_as_title(axis: Any, rows: Sequence[Distance]) -> None:
    """The distances of the panel's bins, and those of chance."""
    if rows:
        told, chance = (", ".join(f"{getattr(row, name):.2f}" for row in rows) for name in ("distance", "chance"))
        axis.set_title(f"distance {told} (chance {chance})", fontsize="small")


def _distribution_panel(axis: Any, label: str, bins: Array, practice: Array, real: Array) -> None:
    axis.hist(real, bins, density=True, color=REAL, alpha=0.5, label=f"SDSS, {len(real):,}")
    axis.hist(practice, bins, density=True, histtype="step", color=PRACTICE, label=f"practice, {len(practice):,}")
    axis.set(xlabel=label, ylabel="density")


def _distance_panel(axis: Any, rows: Sequence[Distance]) -> None:
    places = {f"z {low:g} - {high:g}": (low + high) / 2 for low, high in REDSHIFT_BINS}
    binned = [row for row in rows if row.limits in places]
    chance = {places[row.limits]: row.chance for row in binned}
    axis.fill_between(list(chance), 0, list(chance.values()), color=REAL, alpha=0.25, label="chance, 95 %")
    for name in (*COLOURS, "r"):
        line = {places[row.limits]: row.distance for row in binned if row.quantity == name}
        axis.plot(list(line), list(line.values()), marker="o", markersize=3, label=name)
    axis.set(xlabel="redshift", ylabel="Kolmogorov-Smirnov distance", xlim=(0, 0.2), ylim=(0, None))
    axis.legend(fontsize="x-small", ncols=2)


def _skill_panel(axis: Any, sample: Sample) -> None:
    skill = neighbour_skill(sample, standardised=True)
    axis.plot(sample.redshift, skill.predicted, ",", color="black")
    axis.plot([0, 0.25], [0, 0.25], color="tab:red", linewidth=0.8)
    title = f"{sample.name}: sigma_MAD {skill.sigma_mad:.4f}, eta {100 * skill.eta:.1f} %"
    axis.set(
        xlim=(0, 0.25), ylim=(0, 0.25), xlabel="redshift", ylabel=f"mean of {NEIGHBOURS} neighbours", aspect="equal"
    )
    axis.set_title(title, fontsize="small")


def _shape_panel(axis: Any, number: int, shapes: Sequence[tuple[Shapes, Shapes]]) -> None:
    r_mag = np.concatenate([practice.r_mag for practice, _ in shapes])
    value = np.concatenate([practice.measures[:, number] for practice, _ in shapes])
    bins = [limits for limits in MAGNITUDE_BINS if _enough(r_mag, limits)]
    chosen = [value[(r_mag > low) & (r_mag < high)] for low, high in bins]
    percentiles = [np.percentile(one, [16, 50, 84]) for one in chosen]
    _band(axis, bins, percentiles, PRACTICE, "practice: 16, 50, 84 %")
    r_mag = np.concatenate([real.r_mag for _, real in shapes])
    value = np.concatenate([real.measures[:, number] for _, real in shapes])
    axis.plot(r_mag, value, "x", markersize=4, color="black", alpha=0.6, label=f"SDSS, {len(value)} galaxies")
    label = Shapes.MEASURES[number] + (" [arcsec]" if number == 0 else "")
    axis.set(xlabel="r, Petrosian, dereddened [mag]", ylabel=label, xlim=(15, 20), ylim=(0, (6, 5, 1)[number]))
