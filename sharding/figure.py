"""`python -m sharding info --figure`: what a dataset looks like, and what its pixels are worth, on one page.

64 random stamps, the same ones each time, and below them how the noise, the PSF's width and the covered fraction are
distributed over the samples, band by band, as far as the dataset has those columns. It looks and judges nothing.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .atomic import atomic_file
from .dataset import Dataset
from .manifest import PERCENTILES

COLUMNS, ROWS, SEED = 8, 8, 0
WIDTH_IN, DPI = 10.0, 110
_TITLE_IN, _TILE_IN, _PANEL_IN = 0.4, WIDTH_IN / COLUMNS, 2.4
_GAP = 0.02  # between pictures, in sides of one

#: Column prefix: title, unit, whether the axis is logarithmic.
QUANTITIES = {
    "sky_sigma": ("sky noise of the frame", "nanomaggy / pixel", True),
    "stamp_sigma": ("robust sigma of the stamp", "nanomaggy / pixel", True),
    "psf_fwhm": ("width of the PSF", "arcsec", False),
    "covered_fraction": ("covered by a frame", "fraction", False),
}
# Okabe and Ito's palette (2008, "Color Universal Design"), blue to red: told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7")
_INK, _MUTED, _FAINT = "#222222", "#6B6B6B", "#D9D9D9"
_STYLE = {"font.family": "DejaVu Sans", "font.size": 8.0, "axes.spines.top": False, "axes.spines.right": False}

# The stretch of Lupton et al. 2004 (PASP 116, 133), in units of each band's noise, so that it suits any survey.
_SOFTENING_SIGMA = 3.0  # asinh turns from linear to logarithmic here
_WHITE_SIGMA = 150.0
_PEDESTAL_SIGMA = 2.0  # the noise of the sky is seen whole, not cut in half

FloatArray = npt.NDArray[np.floating[Any]]


def write_figure(dataset: Dataset, path: Path) -> None:
    """Draw the page to ``path`` (PNG), whole or not at all; the same dataset gives the same bytes."""
    chosen = random_stamps(len(dataset))
    quantities = measured(dataset)
    rows = -(-len(chosen) // COLUMNS)
    height = _TITLE_IN + rows * _TILE_IN + (_PANEL_IN if quantities else 0.0)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI)
        figure.text(0.01, 1 - 0.1 / height, _title(dataset, len(chosen)), va="top", fontsize=10, fontweight="bold")
        note = "below: median, 16 to 84 %, 1 to 99 % of the samples" if quantities else ""
        figure.text(0.99, 1 - 0.12 / height, note, va="top", ha="right", fontsize=8, color=_MUTED)
        sheet = figure.add_axes((0, 1 - (_TITLE_IN + rows * _TILE_IN) / height, 1, rows * _TILE_IN / height))
        _draw_stamps(sheet, dataset, chosen, rows)
        for number, (prefix, values) in enumerate(quantities.items()):
            width = 1 / max(3, len(quantities))
            place = (number * width + 0.07, 0.45 / height, width - 0.075, (_PANEL_IN - 0.85) / height)
            _draw_distribution(figure.add_axes(place), prefix, values, dataset.bands)
        with atomic_file(path) as file:
            figure.savefig(file, format="png", metadata={"Software": None})


def random_stamps(samples: int) -> npt.NDArray[np.int64]:
    """Ascending indices of the stamps that are shown: 64, or all where there are no more."""
    rng = np.random.default_rng(SEED)
    return np.sort(rng.choice(samples, min(COLUMNS * ROWS, samples), replace=False))


def measured(dataset: Dataset) -> dict[str, FloatArray]:
    """The quantities that the dataset has for all its bands, with at least one finite number: (sample, band)."""
    found = {
        prefix: dataset.per_band(prefix)
        for prefix in QUANTITIES
        if all(dataset.has(f"{prefix}_{band}") for band in dataset.bands)
    }
    return {prefix: values for prefix, values in found.items() if np.isfinite(values).any()}


def to_rgb(image: FloatArray, sigma: FloatArray) -> FloatArray:
    """Colours in [0, 1], (y, x, 3), of three bands (red, green, blue; y; x) whose noise is ``sigma`` (3,).

    One asinh stretch of the mean intensity: a pixel's colour does not depend on its brightness. NaN is black.
    """
    flux = np.nan_to_num(image.astype(np.float64)) / sigma[:, None, None] + _PEDESTAL_SIGMA
    flux = np.where(np.isfinite(image), np.maximum(flux, 0.0), 0.0)
    intensity = flux.mean(axis=0)
    stretched = np.arcsinh(intensity / _SOFTENING_SIGMA) / np.arcsinh(_WHITE_SIGMA / _SOFTENING_SIGMA)
    colour = flux * (stretched / np.maximum(intensity, 1e-9))
    colour /= np.maximum(colour.max(axis=0), 1.0)  # a saturated pixel keeps its colour
    return np.asarray(np.moveaxis(colour, 0, -1))


def rgb_bands(bands: tuple[str, ...]) -> list[int]:
    """Which bands are red, green and blue: i, r, g where there are such, else last, middle, first."""
    if {"i", "r", "g"} <= set(bands):
        return [bands.index(name) for name in "irg"]
    return [len(bands) - 1, len(bands) // 2, 0]


def _title(dataset: Dataset, shown: int) -> str:
    return f"{dataset.manifest.survey}: {shown} of {len(dataset):,} stamps at random"


def _draw_stamps(sheet: Any, dataset: Dataset, chosen: npt.NDArray[np.int64], rows: int) -> None:
    sheet.set_axis_off()
    bands = rgb_bands(dataset.bands)
    mad = dataset.mad[bands]
    sigma = np.where(mad > 0, 1.4826 * mad, 1.0)  # a dataset of constant pixels has none
    objid = dataset.samples["objid"]
    for number, (image, index) in enumerate(zip(dataset.images(chosen), chosen.tolist(), strict=True)):
        row, column = divmod(number, COLUMNS)
        left, top = column + _GAP / 2, rows - row - _GAP / 2
        extent = (left, left + 1 - _GAP, top - 1 + _GAP, top)
        sheet.imshow(to_rgb(image[bands], sigma), origin="lower", extent=extent, interpolation="nearest")
        text = str(objid[index].as_py())
        sheet.text(left + 0.03, top - 0.96, text, color="white", fontsize=5, va="bottom", alpha=0.8)
    sheet.set(xlim=(0, COLUMNS), ylim=(0, rows), aspect="equal")


def _draw_distribution(axis: Any, prefix: str, values: FloatArray, bands: tuple[str, ...]) -> None:
    """For each band the median, a thick line from 16 to 84 %, a thin one from 1 to 99 % ; below it the median."""
    title, unit, logarithmic = QUANTITIES[prefix]
    names = list(bands)
    for number, column in enumerate(values.T):
        usable = column[np.isfinite(column)]
        if not usable.size:
            continue
        lowest, low, middle, high, highest = np.percentile(usable, PERCENTILES)
        colour = _COLOURS[number % len(_COLOURS)]
        axis.plot([number, number], [lowest, highest], color=colour, linewidth=1.2, solid_capstyle="butt")
        axis.plot([number, number], [low, high], color=colour, linewidth=7, solid_capstyle="butt")
        axis.plot([number - 0.25, number + 0.25], [middle, middle], color=_INK, linewidth=1.2)
        names[number] += f"\n{middle:.3f}"
    if logarithmic and np.nanmin(values) > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_title(title, loc="left", fontsize=8, fontweight="bold")
    axis.set(xlim=(-0.6, len(bands) - 0.4), xticks=range(len(bands)), xticklabels=names, ylabel=unit)
    axis.tick_params(labelsize=7)
    axis.grid(axis="y", color=_FAINT, linewidth=0.6)
    axis.set_axisbelow(True)
