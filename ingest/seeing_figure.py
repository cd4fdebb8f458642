"""`python -m ingest seeing`: the fits of `seeing`, printed, and drawn over the tables they were made from."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from sharding import atomic_file

from .seeing import Array, Fields, LogNormalFit, Numbers, fit, read_fields, read_star_widths, summary
from .tables import SDSS_BANDS


def add_seeing(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m ingest seeing`."""
    parser.add_argument("photofield", type=Path, nargs="+", help="photoField tables (FITS), of several runs")
    parser.add_argument("--check", type=Path, help="calibObj star table of another run, to hold against the fit")
    parser.add_argument("--out", type=Path, required=True, help="figure to write (PNG)")
    parser.set_defaults(command=_seeing)


def _seeing(args: argparse.Namespace) -> int:
    fields = read_fields(args.photofield)
    stars = read_star_widths(args.check) if args.check else None
    psf, sky = fit(fields.psf_fwhm, fields.run), fit(fields.sky_sigma, fields.run)
    write_figure(fields, psf, sky, stars, args.out)
    runs = ", ".join(map(str, np.unique(fields.run)))
    print(f"{len(fields.run)} fields, {fields.left_out} more left out; runs, each with the same weight: {runs}")
    print(summary("PSF_FWHM [arcsec]", psf))
    print(summary("sky sigma [nanomaggy/pixel]", sky))
    if stars is not None:
        print(f"PSF_FWHM of run {stars[0]} from the median, in ln sigma: {_signed(psf.deviation(stars[1]))}")
    print(args.out)
    return 0


def write_figure(
    fields: Fields, psf: LogNormalFit, sky: LogNormalFit, stars: tuple[int, Array] | None, path: Path
) -> None:
    """Each band's histogram, run by run, with the fitted density; and how the bands are correlated. A PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 6.2), layout="constrained")
    axes = figure.subplots(2, 6)
    rows = ((fields.psf_fwhm, psf, "PSF_FWHM {} [arcsec]"), (fields.sky_sigma, sky, "sky noise {} [nanomaggy / pixel]"))
    for panels, (values, fitted, label) in zip(axes, rows, strict=True):
        for number, band in enumerate(SDSS_BANDS):
            _band_panel(panels[number], values[:, number], fields.run, fitted, number)
            panels[number].set(xlabel=label.format(band), yticks=[])
        panels[0].set_ylabel("density")
        _correlation_panel(panels[5], fitted, label.split(" {}")[0])
    if stars is not None:
        for number, axis in enumerate(axes[0, :5]):
            _check_panel(axis, stars[1][:, number], f"run {stars[0]}: {len(stars[1])} fields, not in the fit")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _band_panel(axis: Any, values: Array, run: Numbers, fitted: LogNormalFit, band: int) -> None:
    """Every run's histogram has the area 1 / runs, so that their sum is what the curve of area 1 stands for."""
    runs = np.unique(run)
    median, sigma = np.exp(fitted.ln_median[band]), fitted.ln_sigma[band]
    low, high = median * np.exp(np.array([-3.5, 3.5]) * sigma)
    edges = np.linspace(min(low, values.min()), max(high, values.max()), 51)
    for number, one in enumerate(runs):
        counts, _ = np.histogram(values[run == one], edges)
        density = counts / (counts.sum() * np.diff(edges) * len(runs))
        axis.stairs(
            density, edges, fill=True, alpha=0.45, color=f"C{number}", label=f"run {one}: {counts.sum()} fields"
        )
    x = np.linspace(edges[0], edges[-1], 301)
    curve = np.exp(-0.5 * ((np.log(x) - fitted.ln_median[band]) / sigma) ** 2) / (x * sigma * np.sqrt(2 * np.pi))
    axis.plot(x, curve, color="black", label="fit, each run with the same weight")
    axis.set_title(f"median {median:.4g}, ln sigma {sigma:.3f}", fontsize="small")


def _check_panel(axis: Any, values: Array, label: str) -> None:
    marks = {"color": "black", "markersize": 14, "markeredgewidth": 0.6}
    axis.plot(values, np.zeros(len(values)), "|", label=label, clip_on=False, **marks)


def _correlation_panel(axis: Any, fitted: LogNormalFit, name: str) -> None:
    shown = np.triu(fitted.correlation) + np.tril(fitted.correlation_within, -1)
    axis.imshow(shown, vmin=-1, vmax=1, cmap="RdBu_r")
    for (row, column), value in np.ndenumerate(shown):
        colour = "white" if abs(value) > 0.6 else "black"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="small", color=colour)
    axis.set(xticks=range(len(SDSS_BANDS)), yticks=range(len(SDSS_BANDS)))
    axis.set_xticklabels(SDSS_BANDS)
    axis.set_yticklabels(SDSS_BANDS)
    axis.set_title(f"correlation of ln {name}\nabove: over all; below: within a run", fontsize="small")


def _signed(values: Array) -> str:
    return ", ".join(f"{band} {value:+.1f}" for band, value in zip(SDSS_BANDS, values, strict=True))
