"""How seeing and sky noise vary over a survey: log-normals, correlated between bands, fitted to photoField tables.

The numbers that a view is drawn with come from here; `seeing_figure` draws them. A run is one night, so every run has
the same weight, however many fields it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharding.tables import find_column, to_numpy

from .errors import IngestError
from .tables import SDSS_BANDS, read_table

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

# photoField's PSF_WIDTH (from the PSF's effective area) over photoObj's PSF_FWHM (2.3548 sigma, adaptive moments): the
# mean of three fields and five bands where both are known. The bands' means scatter by 0.015, the fields' by 0.032: one
# ratio serves all, and is known to 2 %.
PSF_WIDTH_OVER_FWHM = 1.11

_LEAST_FIELDS = 1 + len(SDSS_BANDS)  # of fewer, the covariance of the bands is singular


@dataclass(frozen=True, slots=True)
class Fields:
    """What photoField tables say of each of their fields."""

    run: Numbers  # (field,)
    psf_fwhm: Array  # (field, band) as photoObj's PSF_FWHM [arcsec]
    sky_sigma: Array  # (field, band) noise of a native pixel of empty sky [nanomaggy]
    left_out: int  # further fields, which lack one of those


@dataclass(frozen=True)
class LogNormalFit:
    """A correlated log-normal of the bands u to z; covariances are (band, band), of natural logarithms."""

    ln_median: Array  # (band,)
    within: Array  # the mean covariance within a run
    between: Array  # the covariance of the runs' means

    @cached_property
    def ln_sigma(self) -> Array:
        """(band,) standard deviation over the survey, which is within and between runs."""
        return np.asarray(np.sqrt(np.diag(self.within + self.between)))

    @cached_property
    def correlation(self) -> Array:
        """(band, band) over the survey."""
        return _correlation(self.within + self.between)

    @cached_property
    def correlation_within(self) -> Array:
        """(band, band) within a run."""
        return _correlation(self.within)

    def deviation(self, values: Array) -> Array:
        """(band,) how many ln_sigma the mean of ``values`` (field, band) lies above the median."""
        return np.asarray((np.log(values).mean(axis=0) - self.ln_median) / self.ln_sigma)


def read_fields(paths: Sequence[Path]) -> Fields:
    """The fields of photoField tables; IngestError where a file is none, a field comes twice, or a run has too few."""
    columns = ["run", "camcol", "field"] + [
        f"{name}_{band}" for name in ("psf_width", "skysig", "nmgypercount") for band in SDSS_BANDS
    ]
    values = np.concatenate([_columns(path, columns, "photoField") for path in paths])
    names, times = np.unique(values[:, :3].astype(np.int64), axis=0, return_counts=True)
    if times.max(initial=0) > 1:
        twice = "-".join(map(str, names[times.argmax()]))
        raise IngestError(f"photoField: field {twice} comes {times.max()} times, expected once; name each table once")
    width, counts, calibration = np.split(values[:, 3:], 3, axis=1)
    measured = np.stack([width, counts, calibration])
    known = ((measured > 0) & np.isfinite(measured)).all(axis=(0, 2))  # missing is NaN, infinite, 0 or -9999
    if not known.any():
        raise IngestError(f"{paths[0]}: no field has PSF_WIDTH, SKYSIG and NMGYPERCOUNT in all bands; take other runs")
    run = values[known, 0].astype(np.int64)
    _check_counts(run)
    return Fields(
        run=run,
        psf_fwhm=width[known] / PSF_WIDTH_OVER_FWHM,
        sky_sigma=counts[known] * calibration[known],
        left_out=int((~known).sum()),
    )


def _check_counts(run: Numbers) -> None:
    for one, count in zip(*np.unique(run, return_counts=True), strict=True):
        if count < _LEAST_FIELDS:
            raise IngestError(
                f"photoField: run {one} has {count} whole fields, expected {_LEAST_FIELDS} or more, as five bands are "
                "correlated; take its whole table, or leave it out"
            )


def read_star_widths(path: Path) -> tuple[int, Array]:
    """The run of a calibObj star table, and the median PSF_FWHM (field, band) [arcsec] of the stars of each field."""
    values = _columns(path, ["run", "field"] + [f"psf_fwhm_{band}" for band in SDSS_BANDS], "calibObj")
    whole = values[((values[:, 2:] > 0) & np.isfinite(values[:, 2:])).all(axis=1)]
    if len(runs := np.unique(whole[:, 0])) != 1:
        raise IngestError(f"{path}: expected stars of one run with PSF_FWHM in all bands, got {len(runs)} runs")
    return int(runs[0]), np.array([np.median(whole[whole[:, 1] == one, 2:], axis=0) for one in np.unique(whole[:, 1])])


def fit(values: Array, run: Numbers) -> LogNormalFit:
    """The log-normal of positive ``values`` (field, band); the median is the mean of the runs' mean logarithms."""
    of_runs = [np.log(values[run == one]) for one in np.unique(run)]
    means = np.array([each.mean(axis=0) for each in of_runs])
    return LogNormalFit(
        ln_median=means.mean(axis=0),
        within=np.mean([np.cov(each.T, bias=True) for each in of_runs], axis=0),
        between=np.cov(means.T, bias=True),
    )


def summary(title: str, fitted: LogNormalFit) -> str:
    """The fit as a table for people, one line a band."""
    lines = [f"{title:<28} median  ln sigma  within runs  correlation with {' '.join(f'{b:>6}' for b in SDSS_BANDS)}"]
    within = np.sqrt(np.diag(fitted.within))
    for number, band in enumerate(SDSS_BANDS):
        row = " ".join(f"{value:6.3f}" for value in fitted.correlation[number])
        median = np.exp(fitted.ln_median[number])
        lines.append(f"{band:>28} {median:>7.4g} {fitted.ln_sigma[number]:>9.3f} {within[number]:>12.3f} {'':>18}{row}")
    return "\n".join(lines)


def _columns(path: Path, names: list[str], kind: str) -> Array:
    """(row, name) the columns of a table, in that order; NaN where a value is missing."""
    if not path.is_file():
        raise IngestError(f"{path}: there is no such file, expected a {kind} table; check its name")
    table = read_table(path)
    missing = [name for name in names if find_column(table, name) is None]
    if missing:
        raise IngestError(f"{path}: a {kind} table has a column {missing[0]}, this one has none; check the file")
    return np.stack([_numbers(table, name, path) for name in names], axis=1)


def _numbers(table: pa.Table, name: str, path: Path) -> Array:
    values = to_numpy(table[find_column(table, name)], name)
    if values.dtype.kind not in "fi":
        raise IngestError(f"{path}: column {name} holds {values.dtype}, expected numbers; check the file")
    return values.astype(np.float64)


def _correlation(covariance: Array) -> Array:
    sigma = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(sigma, sigma))
