"""The practice sky and the real one, as they are compared: magnitudes, redshifts, sizes and shapes of both.

And how well colours predict redshift on either. `twosample` measures how far apart the two are, `likeness_figure` draws
them; nothing of the survey depends on any of it. The survey was fitted to half of the galaxies of `FITTED_CATALOGUE`,
and its scatter chosen with all of them in view: `held_out` gives the others, which alone test the fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharding.tables import find_column

from ..errors import IngestError
from ..tables import read_table
from .conditions import CAMERAS, CATALOGUE_LAW, Conditions, photoobj_psf_fwhm
from .photometry import flux_at_earth, measure
from .population import BRIGHT_LIMIT, draw_galaxies
from .spectra import BANDS, R_BAND, Array

COLOURS = tuple(f"{blue} - {red}" for blue, red in pairwise(BANDS))
FAINTEST_SHAPE = 20.0  # r of the galaxies whose shapes are compared
GALAXY_TYPE = 3  # of photoObj's OBJC_TYPE
NEIGHBOURS = 10
FITTED_CATALOGUE = "Skyserver_SQL2_27_2018.csv"  # see `population`
U_LIMIT, R_LIMIT = 19.6, 17.8  # of that catalogue, magnitudes as observed
REDSHIFT_LIMITS = (0.003, 0.4)
FAINTEST = 40.0  # no magnitude is: what exceeds it, or is negative, stands for one that is missing
OUTLIER = 0.05  # of |dz|, dz = (z_phot - z_spec) / (1 + z_spec)


@dataclass(frozen=True, slots=True)
class Sample:
    """Galaxies as a catalogue sees them: magnitudes as observed, or dereddened on both sides of a comparison."""

    name: str
    mag: Array  # (galaxy, band), u to z
    redshift: Array

    def take(self, chosen: NDArray[np.bool_] | slice) -> "Sample":
        """The galaxies chosen by a mask or a slice."""
        return Sample(self.name, self.mag[chosen], self.redshift[chosen])

    def seen(self, u_limit: float = U_LIMIT, r_limit: float = R_LIMIT) -> "Sample":
        """Those brighter than two magnitudes, inf for no limit, and within `REDSHIFT_LIMITS`."""
        return self.take(self._within(u_limit, r_limit))

    def held_out(self) -> "Sample":
        """Of all galaxies of `FITTED_CATALOGUE`, in its order, those that the survey was not fitted to."""
        candidates = np.flatnonzero(self._within(U_LIMIT, R_LIMIT) & (self.mag[:, R_BAND] > BRIGHT_LIMIT))
        fitted = np.random.default_rng(1).permutation(len(candidates)) % 2 == 0  # as the fit drew its half
        left = np.ones(len(self.redshift), dtype=np.bool_)
        left[candidates[fitted]] = False
        return self.take(left)

    def _within(self, u_limit: float, r_limit: float) -> NDArray[np.bool_]:
        near = (self.redshift > REDSHIFT_LIMITS[0]) & (self.redshift < REDSHIFT_LIMITS[1])
        return np.asarray(near & (self.mag[:, 0] < u_limit) & (self.mag[:, R_BAND] < r_limit))


@dataclass(frozen=True, slots=True)
class Shapes:
    """Galaxies as a catalogue measures their shapes in r."""

    MEASURES: ClassVar[tuple[str, ...]] = ("R50", "R90 / R50", "axis ratio")

    name: str
    r_mag: Array  # Petrosian, dereddened
    measures: Array  # (galaxy, 3): `MEASURES`, the first in arcsec, the last that of the exponential fit
    psf_fwhm_arcsec: float  # median, as photoObj's PSF_FWHM
    ebv_mag: float  # the Milky Way's, median


@dataclass(frozen=True, slots=True)
class Skill:
    """How well nearest neighbours in four colours and r predict redshift."""

    sigma_mad: float  # 1.4826 median |dz - median dz|
    eta: float  # fraction with |dz| > 0.05
    predicted: Array  # (galaxy,) the mean redshift of the neighbours


def practice_sample(
    catalog: pa.Table, magnitude: str = "modelMag", *, dereddened: bool = False, where: str = "practice"
) -> Sample:
    """The galaxies of a practice catalogue, by the magnitudes of that kind; errors name it as `where`."""
    mag = np.stack([_need(catalog, where, f"{magnitude}_{band}") for band in BANDS], axis=1)
    if dereddened:
        mag -= np.stack([_need(catalog, where, f"extinction_{band}") for band in BANDS], axis=1)
    return _known(Sample(f"practice, {magnitude}", mag, _need(catalog, where, "specz")), where)


def real_sample(path: Path, magnitude: str = "modelMag") -> Sample:
    """The galaxies of a table with modelMag_u and so on (or u, g, r, i, z), redshift and, where it has it, class."""
    table = read_table(path)
    kind = find_column(table, "class")
    if kind is not None:
        table = _galaxies(table, kind, path)
    mag = [_need(table, path, f"{magnitude}_{band}", band) for band in BANDS]
    return _known(Sample("SDSS", np.stack(mag, axis=1), _need(table, path, "redshift", "specz")), path)


def _galaxies(table: pa.Table, kind: str, path: Path) -> pa.Table:
    """The rows of class GALAXY."""
    told = f"{path}: column {kind}: expected GALAXY in some rows"
    todo = "correct it, or take it out if all are galaxies"
    if not (pa.types.is_string(table[kind].type) or pa.types.is_large_string(table[kind].type)):
        raise IngestError(f"{told}, got {table[kind].type}; {todo}")
    galaxies = table.filter(pa.compute.equal(pa.compute.utf8_trim_whitespace(table[kind]), "GALAXY"))
    if not len(galaxies):
        raise IngestError(f"{told}, found none; {todo}")
    return galaxies


def _known(sample: Sample, where: object) -> Sample:
    """The sample, unless a magnitude or redshift of it is missing: NaN, null, or a number like -9999."""
    known = np.isfinite(sample.redshift) & ((sample.mag > 0) & (sample.mag < FAINTEST)).all(axis=1)
    if not known.all():
        raise IngestError(
            f"{where}: expected a redshift and five magnitudes of 0 to {FAINTEST:g} of every galaxy, "
            f"got {np.sum(~known):,} of {len(known):,} without; leave these out"
        )
    return sample


def expect_enough(sample: Sample, where: object, limits: str) -> None:
    """IngestError for a sample of too few galaxies for neighbours, or of galaxies that are all of one colour."""
    if len(sample.redshift) <= NEIGHBOURS:
        raise IngestError(
            f"{where}: expected at least {NEIGHBOURS + 1} galaxies of {limits}, got {len(sample.redshift)}; "
            "take a larger table, or other limits"
        )
    constant = np.ptp(features(sample), axis=0) == 0
    if constant.any():
        name = (*COLOURS, "r")[int(constant.argmax())]
        raise IngestError(f"{where}: expected galaxies of many colours, got one {name} for all; check the magnitudes")


def real_shapes(paths: Sequence[Path]) -> list[Shapes]:
    """The galaxies of photoObj files, or of other tables with SDSS's columns.

    Every object is taken once: those of MODE 1, or of MODE 2 where there is no other, as in single runs of Stripe 82.
    A table without these columns is taken to hold galaxies alone, each once.
    """
    return [_real_shapes(path) for path in paths]


def _real_shapes(path: Path) -> Shapes:
    table = read_table(path)
    chosen = np.ones(len(table), dtype=np.bool_)
    if find_column(table, "mode") is not None:
        mode = _need(table, path, "mode")
        chosen &= mode == (1 if np.any(mode == 1) else 2)
    if find_column(table, "objc_type") is not None:
        chosen &= _need(table, path, "objc_type") == GALAXY_TYPE
    extinction, psf = _need(table, path, "extinction_r"), _need(table, path, "psf_fwhm_r")
    r_mag = _need(table, path, "petroMag_r") - extinction
    r50, r90 = _need(table, path, "petroTh50_r", "petroR50_r"), _need(table, path, "petroTh90_r", "petroR90_r")
    axis_ratio = _need(table, path, "ab_exp_r", "expAB_r")
    chosen &= (r_mag > BRIGHT_LIMIT) & (r_mag < FAINTEST_SHAPE)
    chosen &= (r50 > 0) & (r90 > 0) & (axis_ratio > 0) & (psf > 0)  # -9999 and NaN are missing
    if not chosen.any():
        raise IngestError(
            f"{path}: expected galaxies of {BRIGHT_LIMIT} < r < {FAINTEST_SHAPE}, found none whose shape and PSF are "
            "known; take another table"
        )
    r50, r90, axis_ratio = r50[chosen], r90[chosen], axis_ratio[chosen]
    measures = np.column_stack([r50, r90 / r50, axis_ratio])
    ebv = float(np.median(extinction[chosen])) / CATALOGUE_LAW[R_BAND]
    return Shapes(path.stem, r_mag[chosen], measures, float(np.median(psf[chosen])), float(ebv))


def practice_shapes(like: Shapes, number: int, seed: int) -> Shapes:
    """Practice galaxies under the PSF and dust of `like`, out of `number` candidates; noise is that of one strip."""
    rng = np.random.default_rng(seed)
    galaxies = draw_galaxies(number, (BRIGHT_LIMIT, FAINTEST_SHAPE + 0.5), rng)
    widths = np.linspace(0.6, 3.0, 100)
    fwhm = float(np.interp(like.psf_fwhm_arcsec, [photoobj_psf_fwhm(float(width)) for width in widths], widths))
    # The strip whose PSF is nearest: it is that run's, where the run is one of those that the strips were made from.
    strip = min(CAMERAS, key=lambda strip: abs(CAMERAS[strip].psf_fwhm_arcsec[R_BAND] - fwhm))
    flux = flux_at_earth(galaxies.mag, np.full(len(galaxies), like.ebv_mag))
    seen = measure(galaxies, flux, strip, Conditions(np.full(len(BANDS), fwhm), like.ebv_mag), rng)
    r_mag = seen.petro_mag[:, R_BAND] - CATALOGUE_LAW[R_BAND] * like.ebv_mag
    concentration = seen.petro_r90_arcsec / seen.petro_r50_arcsec
    measures = np.column_stack([seen.petro_r50_arcsec, concentration, seen.exp_axis_ratio])
    bright = r_mag < FAINTEST_SHAPE
    return Shapes("practice", r_mag[bright], measures[bright], like.psf_fwhm_arcsec, like.ebv_mag)


def _need(table: pa.Table, where: object, *names: str) -> Array:
    """The first of these columns that there is, as floats with NaN for missing."""
    found = next((column for name in names if (column := find_column(table, name)) is not None), None)
    if found is None:
        raise IngestError(f"{where}: expected a column {' or '.join(names)}, found none; give the table one")
    column = table[found]
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise IngestError(f"{where}: column {found}: expected numbers, got {column.type}; correct the column")
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy())


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
    return _skill(sample.redshift[np.array(others)].mean(axis=1), sample.redshift)


def training_skill(sample: Sample, training: int, *, standardised: bool) -> Skill:
    """The same with the first `training` galaxies as the neighbours, and all others to be predicted."""
    from scipy.spatial import KDTree

    points = features(sample)
    points = points / points[:training].std(axis=0) if standardised else points
    nearest: NDArray[np.intp] = KDTree(points[:training]).query(points[training:], NEIGHBOURS)[1]
    return _skill(sample.redshift[nearest].mean(axis=1), sample.redshift[training:])


def _skill(predicted: Array, redshift: Array) -> Skill:
    dz = (predicted - redshift) / (1 + redshift)
    spread = 1.4826 * np.median(np.abs(dz - np.median(dz)))
    return Skill(float(spread), float(np.mean(np.abs(dz) > OUTLIER)), predicted)
