"""The practice sky and the real one, as they are compared: magnitudes, redshifts, sizes and shapes of both.

And how well colours predict redshift on either. `twosample` measures how far apart the two are, `likeness_figure` draws
them; nothing of the survey depends on any of it.
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
OUTLIER = 0.05  # of |dz|, dz = (z_phot - z_spec) / (1 + z_spec)


@dataclass(frozen=True, slots=True)
class Sample:
    """Galaxies as a catalogue sees them: magnitudes as observed, not dereddened."""

    name: str
    mag: Array  # (galaxy, band), u to z
    redshift: Array

    def take(self, chosen: NDArray[np.bool_] | slice) -> "Sample":
        """The galaxies chosen by a mask or a slice."""
        return Sample(self.name, self.mag[chosen], self.redshift[chosen])

    def seen(self) -> "Sample":
        """Those within the limits of the real comparison catalogue: u < 19.6, r < 17.8, 0.003 < z < 0.4."""
        within = (self.redshift > 0.003) & (self.redshift < 0.4)
        bright = (self.mag[:, 0] < 19.6) & (self.mag[:, R_BAND] < 17.8)
        return self.take(within & bright)


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


def practice_sample(catalog: pa.Table, magnitude: str = "modelMag", *, dereddened: bool = False) -> Sample:
    """The galaxies of a practice catalogue, by the magnitudes of that kind."""
    mag = _per_band(catalog, magnitude)
    if dereddened:
        mag = mag - _per_band(catalog, "extinction")
    return Sample(f"practice, {magnitude}", mag, catalog["specz"].to_numpy())


def real_sample(path: Path) -> Sample:
    """The galaxies of a table with u, g, r, i, z (or modelMag_u and so on), redshift and, where it has it, class."""
    table = read_table(path)
    kind = find_column(table, "class")
    if kind is not None:
        table = table.filter(pa.compute.equal(pa.compute.utf8_trim_whitespace(table[kind]), "GALAXY"))
    mag = [_need(table, path, band, f"modelMag_{band}") for band in BANDS]
    return Sample("SDSS", np.stack(mag, axis=1), _need(table, path, "redshift", "specz"))


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
    extinction, r50 = _need(table, path, "extinction_r"), _need(table, path, "petroTh50_r", "petroR50_r")
    r_mag = _need(table, path, "petroMag_r") - extinction
    chosen &= (r50 > 0) & (r_mag > BRIGHT_LIMIT) & (r_mag < FAINTEST_SHAPE)  # -9999 is missing
    if not chosen.any():
        raise IngestError(f"{path}: expected galaxies of {BRIGHT_LIMIT} < r < {FAINTEST_SHAPE}, found none")
    concentration = _need(table, path, "petroTh90_r", "petroR90_r") / r50
    measures = np.column_stack([r50, concentration, _need(table, path, "ab_exp_r", "expAB_r")])
    psf = float(np.median(_need(table, path, "psf_fwhm_r")[chosen]))
    ebv = float(np.median(extinction[chosen])) / CATALOGUE_LAW[R_BAND]
    return Shapes(path.stem, r_mag[chosen], measures[chosen], psf, float(ebv))


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


def _need(table: pa.Table, path: Path, *names: str) -> Array:
    """The first of these columns that there is, as floats."""
    found = next((column for name in names if (column := find_column(table, name)) is not None), None)
    if found is None:
        raise IngestError(f"{path}: expected a column {' or '.join(names)}, found none; give the table one")
    return np.asarray(table[found].to_numpy(), dtype=np.float64)


def _per_band(catalog: pa.Table, prefix: str) -> Array:
    return np.stack([catalog[f"{prefix}_{band}"].to_numpy() for band in BANDS], axis=1)


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
