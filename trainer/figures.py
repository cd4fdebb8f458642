"""The figures of a judged run: estimates against truth, residuals, example densities, loss curves.

Each function draws one PNG from arrays; none knows a run or a dataset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from . import metrics
from .metrics import ETA_LIMIT, PhotozScore
from .pictures import Tile, blank, show
from .plotting import BLUE, FAINT, INK, MUTED, ORANGE, VERMILION, drawing

Values = Float[np.ndarray, " n"]

CROWDED = 3000  # galaxies beyond which points hide each other and a map of counts says more
DENSITY_COLOURS = "Blues"  # one hue, by lightness alone: told apart by colour-blind readers, and lines stand out on it


def score_line(score: PhotozScore) -> str:
    """The figures of a run in one line, as captions give them."""
    return (
        f"$\\sigma_{{\\rm MAD}}$ = {score.sigma_mad:.4f} ± {score.sigma_mad_error:.4f}   "
        f"$\\eta$ = {100 * score.eta:.1f} ± {100 * score.eta_error:.1f} %   "
        f"bias = {score.bias:+.4f} ± {score.bias_error:.4f}   n = {score.n:,}"
    )


def redshift_figure(path: Path, z_spec: Values, z_phot: Values, score: PhotozScore, *, title: str) -> None:
    """Estimates against spectroscopic redshifts, with the 1:1 line and where outliers begin."""
    top = 1.05 * float(max(z_spec.max(), z_phot.max()))
    line = np.array([0.0, top])
    with drawing(path, width_in=4.6, height_in=4.6) as figure:
        axes = figure.add_subplot(aspect="equal")
        _cloud(axes, z_spec, z_phot, (0.0, top, 0.0, top))
        axes.plot(line, line, color=INK, linewidth=1.0, label="1:1")
        for sign, label in ((1, f"|dz| = {ETA_LIMIT}"), (-1, None)):
            edge = line + sign * ETA_LIMIT * (1 + line)
            axes.plot(line, edge, color=VERMILION, linewidth=1.0, linestyle="--", label=label)
        axes.set(xlim=(0, top), ylim=(0, top), title=title)
        axes.set(xlabel="spectroscopic redshift", ylabel="photometric redshift")
        axes.legend(loc="lower right")
        figure.supxlabel(score_line(score), fontsize=7.5, color=INK)


def residual_figure(path: Path, z_spec: Values, z_phot: Values, *, title: str) -> None:
    """Residuals against redshift, with their running median and spread in bins of equal number."""
    dz = metrics.residuals(z_phot, z_spec)
    reach = max(2 * ETA_LIMIT, 1.1 * float(np.quantile(np.abs(dz), 0.995)))
    top = 1.02 * float(z_spec.max())
    with drawing(path, width_in=5.6, height_in=3.6) as figure:
        axes = figure.add_subplot()
        _cloud(axes, z_spec, dz, (0.0, top, -reach, reach))
        for limit in (-ETA_LIMIT, ETA_LIMIT):
            axes.axhline(limit, color=VERMILION, linewidth=1.0, linestyle="--")
        axes.axhline(0.0, color=INK, linewidth=1.0)
        centre, median, spread = running(z_spec, dz)
        axes.plot(centre, median, color=ORANGE, linewidth=2.2, label=r"running median, $\pm\ \sigma_{\rm MAD}$")
        for edge in (median - spread, median + spread):
            axes.plot(centre, edge, color=ORANGE, linewidth=1.2)
        axes.set(xlim=(0, top), ylim=(-reach, reach), title=title)
        axes.set(xlabel="spectroscopic redshift", ylabel=r"$(z_{\rm phot} - z_{\rm spec}) / (1 + z_{\rm spec})$")
        axes.legend(loc="upper right")
        if outside := int(np.sum(np.abs(dz) > reach)):
            figure.supxlabel(f"{outside} of {len(dz):,} galaxies lie outside the frame", fontsize=7.5, color=MUTED)


def running(z_spec: Values, dz: Values) -> tuple[Float[np.ndarray, " b"], ...]:
    """Median redshift, median residual and its sigma_MAD in at most 12 bins of equally many galaxies (30 or more)."""
    bins = np.array_split(np.argsort(z_spec, kind="stable"), int(np.clip(len(dz) // 30, 1, 12)))
    centre = np.array([np.median(z_spec[members]) for members in bins])
    median = np.array([np.median(dz[members]) for members in bins])
    spread = np.array([metrics.sigma_mad(dz[members]) for members in bins])
    return centre, median, spread


def _cloud(axes: Axes, x: Values, y: Values, extent: tuple[float, float, float, float]) -> None:
    """Points, or a map of their number where there are many."""
    if len(x) <= CROWDED:
        axes.plot(x, y, ".", color=BLUE, markersize=3.5, alpha=0.5, markeredgewidth=0)
        return
    counts = axes.hexbin(x, y, gridsize=90, extent=extent, mincnt=1, norm=LogNorm(vmin=0.4), cmap=DENSITY_COLOURS)
    axes.figure.colorbar(counts, ax=axes, label="galaxies in a cell", shrink=0.8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One galaxy whose density is shown."""

    objid: int
    image: Float[np.ndarray, "band y x"]  # nanomaggy / pixel
    probabilities: Float[np.ndarray, " bin"]
    z_spec: float
    z_phot: float


def density_figure(
    path: Path, examples: Sequence[Example], bin_centres: Float[np.ndarray, " bin"], bands: Sequence[str], *, title: str
) -> None:
    """The probability density of some galaxies, each beside its picture, with its true and estimated redshift."""
    width = float(bin_centres[1] - bin_centres[0])
    columns = 3
    rows = -(-len(examples) // columns)
    with drawing(path, width_in=9.6, height_in=1.9 * rows + 0.4) as figure:
        grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=[1, 1.6] * columns)
        for axes in grid.flat[2 * len(examples) :]:
            axes.set_axis_off()
        for number, (example, picture, curve) in enumerate(
            zip(examples, grid.flat[::2], grid.flat[1::2], strict=False)
        ):
            blank(picture, 1.0, 1.12)
            show(picture, Tile(example.image, str(example.objid)), bands, left=0.0, bottom=0.12, side=1.0)
            _density(curve, example, bin_centres, width)
            if number == 0:
                curve.legend(loc="upper right", handlelength=1.2)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")


def _density(axes: Axes, example: Example, bin_centres: Float[np.ndarray, " bin"], width: float) -> None:
    density = example.probabilities / width
    axes.fill_between(bin_centres, density, step="mid", color=BLUE, alpha=0.35, linewidth=0)
    axes.axvline(example.z_spec, color=INK, linewidth=1.2, label=r"$z_{\rm spec}$")
    axes.axvline(example.z_phot, color=VERMILION, linewidth=1.2, linestyle="--", label=r"$z_{\rm phot}$")
    shown = bin_centres[density > 0.01 * density.max()]
    low, high = (min(shown[0], example.z_spec), max(shown[-1], example.z_spec))
    axes.set(xlim=(max(0.0, low - 0.02), high + 0.02), ylim=(0, None), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("redshift", fontsize=7.5, labelpad=1)
    axes.tick_params(labelsize=7)


def curve_figure(
    path: Path, panels: Sequence[tuple[str, Float[np.ndarray, " _"], Float[np.ndarray, " _"]]], *, title: str
) -> None:
    """What was logged in training, one panel a quantity: (name, step, value)."""
    with drawing(path, width_in=4.6, height_in=1.0 + 1.7 * len(panels)) as figure:
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (name, step, value) in zip(grid, panels, strict=True):
            marker = "o" if len(step) <= 40 else ""
            axes.plot(step, value, color=BLUE, linewidth=1.3, marker=marker, markersize=3)
            axes.set_ylabel(name)
            axes.grid(visible=True, axis="y", color=FAINT)
        grid[-1].set_xlabel("training step")
        grid[0].set_title(title)
