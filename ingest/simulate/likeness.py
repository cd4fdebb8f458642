"""How alike the practice sky and the real one are: colours against redshift, and how well colours predict it.

A comparison, for tests and a figure; nothing of the survey depends on it.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharding import atomic_file

from ..tables import read_table
from .spectra import BANDS, R_BAND, Array

COLOURS = tuple(f"{blue} - {red}" for blue, red in pairwise(BANDS))
REDSHIFT_BINS = ((0.02, 0.04), (0.06, 0.08), (0.10, 0.13))
NEIGHBOURS = 10
OUTLIER = 0.05  # of |dz|, dz = (z_phot - z_spec) / (1 + z_spec)


@dataclass(frozen=True, slots=True)
class Sample:
    """Galaxies as a catalogue sees them: magnitudes as observed, not dereddened."""

    name: str
    mag: Array  # (galaxy, band), u to z
    redshift: Array

    def seen(self) -> "Sample":
        """Those within the limits of the real comparison catalogue: u < 19.6, r < 17.8, 0.003 < z < 0.4."""
        within = (self.redshift > 0.003) & (self.redshift < 0.4)
        bright = (self.mag[:, 0] < 19.6) & (self.mag[:, R_BAND] < 17.8)
        return Sample(self.name, self.mag[within & bright], self.redshift[within & bright])


@dataclass(frozen=True, slots=True)
class Skill:
    """How well nearest neighbours in four colours and r predict redshift."""

    sigma_mad: float  # 1.4826 median |dz - median dz|
    eta: float  # fraction with |dz| > 0.05
    predicted: Array  # (galaxy,) the mean redshift of the neighbours


def practice_sample(catalog: pa.Table, magnitude: str = "modelMag") -> Sample:
    """The galaxies of a practice catalogue, by the magnitudes of that kind."""
    mag = np.stack([catalog[f"{magnitude}_{band}"].to_numpy() for band in BANDS], axis=1)
    return Sample(f"practice, {magnitude}", mag, catalog["specz"].to_numpy())


def real_sample(path: Path) -> Sample:
    """The galaxies of a CSV with columns u, g, r, i, z, redshift and class."""
    table = read_table(path)
    galaxies = table.filter(pa.compute.equal(table["class"], "GALAXY"))
    return Sample("SDSS", np.stack([galaxies[b].to_numpy() for b in BANDS], axis=1), galaxies["redshift"].to_numpy())


def features(sample: Sample) -> Array:
    """(galaxy, 5) the four colours and r."""
    return np.column_stack([-np.diff(sample.mag, axis=1), sample.mag[:, R_BAND]])


def colour_percentiles(sample: Sample, redshifts: tuple[float, float]) -> Array:
    """(3, colour) percentiles 16, 50 and 84 of the colours of the galaxies between two redshifts."""
    chosen = (sample.redshift > redshifts[0]) & (sample.redshift < redshifts[1])
    return np.asarray(np.percentile(-np.diff(sample.mag[chosen], axis=1), [16, 50, 84], axis=0))


def neighbour_skill(sample: Sample, *, standardised: bool) -> Skill:
    """Leave-one-out mean of the ten nearest, by features as they are or divided by their standard deviations."""
    from scipy.spatial import KDTree

    points = features(sample)
    points = points / points.std(axis=0) if standardised else points
    nearest: NDArray[np.intp] = KDTree(points).query(points, NEIGHBOURS + 1)[1]
    others = [row[row != own][:NEIGHBOURS] for own, row in enumerate(nearest)]
    predicted = sample.redshift[np.array(others)].mean(axis=1)
    dz = (predicted - sample.redshift) / (1 + sample.redshift)
    spread = 1.4826 * np.median(np.abs(dz - np.median(dz)))
    return Skill(float(spread), float(np.mean(np.abs(dz) > OUTLIER)), predicted)


def write_figure(practice: Sample, real: Sample, path: Path) -> None:
    """Colours against redshift of both, and neighbours' redshift against the true one, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6.4), layout="constrained")
    axes = figure.subplots(2, 4)
    for number, colour in enumerate(COLOURS):
        _colour_panel(axes[0, number], number, practice, real)
        axes[0, number].set(xlabel="redshift", ylabel=colour, xlim=(0, 0.2))
    _distribution_panel(axes[1, 0], "redshift", np.linspace(0, 0.25, 51), practice.redshift, real.redshift)
    r_magnitudes = (sample.mag[:, R_BAND] for sample in (practice, real))
    _distribution_panel(axes[1, 1], "r [mag]", np.linspace(14, 18, 41), *r_magnitudes)
    for axis, sample in zip(axes[1, 2:], (practice, real), strict=True):
        _skill_panel(axis, sample)
    axes[0, 0].legend(loc="lower right", fontsize="small")
    axes[1, 0].legend(fontsize="small")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _colour_panel(axis: Any, number: int, practice: Sample, real: Sample) -> None:
    edges = np.arange(0.01, 0.19, 0.02)
    centres = (edges[1:] + edges[:-1]) / 2
    for sample, colour in ((real, "tab:gray"), (practice, "tab:blue")):
        bins = list(pairwise(edges))
        low, middle, high = np.array([colour_percentiles(sample, limits)[:, number] for limits in bins]).T
        axis.fill_between(centres, low, high, color=colour, alpha=0.25)
        axis.plot(centres, middle, color=colour, marker="o", markersize=3, label=f"{sample.name}: 16, 50, 84 %")


def _distribution_panel(axis: Any, label: str, bins: Array, practice: Array, real: Array) -> None:
    axis.hist(real, bins, density=True, color="tab:gray", alpha=0.5, label=f"SDSS, {len(real):,}")
    axis.hist(practice, bins, density=True, histtype="step", color="tab:blue", label=f"practice, {len(practice):,}")
    axis.set(xlabel=label, ylabel="density")


def _skill_panel(axis: Any, sample: Sample) -> None:
    skill = neighbour_skill(sample, standardised=True)
    axis.plot(sample.redshift, skill.predicted, ",", color="black")
    axis.plot([0, 0.25], [0, 0.25], color="tab:red", linewidth=0.8)
    title = f"{sample.name}: sigma_MAD {skill.sigma_mad:.4f}, eta {100 * skill.eta:.1f} %"
    axis.set(
        xlim=(0, 0.25), ylim=(0, 0.25), xlabel="redshift", ylabel=f"mean of {NEIGHBOURS} neighbours", aspect="equal"
    )
    axis.set_title(title, fontsize="small")
