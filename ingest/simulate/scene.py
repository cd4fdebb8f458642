"""What one field holds: the catalogue's galaxies on a jittered grid, and the faint galaxies and stars between them.

Everything is a function of (seed, the field's place in the survey), so fields can be drawn in any order, anywhere.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .conditions import CATALOGUE_LAW, Conditions, field_conditions
from .geometry import COLUMNS, FIELD_STEP_ROWS, OVERLAP_ROWS, ROWS, Field, sky_of
from .photometry import Photometry, flux_at_earth, measure
from .population import BRIGHT_LIMIT, Galaxies, draw_galaxies
from .spectra import BANDS, R_BAND, Array

GRID_COLUMNS, GRID_ROWS = 17, 10
GALAXIES_PER_FIELD = GRID_COLUMNS * GRID_ROWS
JITTER_CELLS = 0.15  # largest shift from a cell's centre; two stamps' objects then stay out of each other's stamp
# A stamp's corner is 53 sqrt(2) px from its centre, Lanczos-3 needs 3 more, and bands are shifted by up to this much.
MARGIN_PX = 80
LARGEST_SHIFT_PX = (8, 16)

PETROSIAN_LIMIT = 17.8  # dereddened r, as the main galaxy sample was selected
# Candidates may be fainter than the limit by this: 10 times what noise and the two extinction laws can make of it.
CANDIDATE_LIMIT = PETROSIAN_LIMIT + 0.25
CANDIDATES_PER_GALAXY = 8  # about one in four passes
FEWEST_CANDIDATES = 400  # of few, too few may pass by chance: 50 of 400 are 5 sigma below what is expected

FAINT_GALAXIES_PER_FIELD, FAINT_LIMITS = 330, (17.8, 21.0)
STARS_PER_FIELD, STAR_LIMITS = 170, (15.0, 21.5)


class Stream(IntEnum):
    """Independent random streams of one field."""

    CONDITIONS = 0
    TARGETS = 1
    FAINT = 2
    STARS = 3
    SPECTRA = 4
    PIXELS = 5


def stream(seed: int, purpose: Stream, *place: int) -> np.random.Generator:
    """The generator for one purpose at one place; same arguments, same numbers."""
    return np.random.default_rng(np.random.SeedSequence((seed, int(purpose), *place)))


@dataclass(frozen=True, slots=True)
class Targets:
    """The catalogue's galaxies of one field."""

    galaxies: Galaxies
    ebv_mag: Array  # the Milky Way's, scale of SFD
    flux: Array  # (galaxy, band) [nanomaggy] at Earth: the total that is painted
    photometry: Photometry
    ra_deg: Array
    dec_deg: Array


@dataclass(frozen=True, slots=True)
class Passers:
    """What is painted and not in the catalogue: faint galaxies and stars."""

    galaxies: Galaxies
    galaxy_flux: Array  # (galaxy, band) [nanomaggy]
    galaxy_sky: tuple[Array, Array]  # (ra, dec) [deg]
    star_flux: Array  # (star, band) [nanomaggy]
    star_sky: tuple[Array, Array]


def conditions_of(seed: int, place: int, field: Field) -> Conditions:
    """The night of the field at `place` in the survey."""
    return field_conditions(field, stream(seed, Stream.CONDITIONS, place))


def draw_targets(seed: int, place: int, field: Field, number: int) -> Targets:
    """Draw `number` (at most 170) galaxies whose measured, dereddened Petrosian r is brighter than the limit."""
    rng = stream(seed, Stream.TARGETS, place)
    conditions = conditions_of(seed, place, field)
    candidates = max(FEWEST_CANDIDATES, CANDIDATES_PER_GALAXY * number)
    galaxies = draw_galaxies(candidates, (BRIGHT_LIMIT, CANDIDATE_LIMIT), rng)
    ebv_mag = conditions.ebv_mag * np.exp(rng.normal(0.0, 0.05, len(galaxies)))
    flux = flux_at_earth(galaxies.mag, ebv_mag)
    photometry = measure(galaxies, flux, field.strip, conditions, rng)
    selected = photometry.petro_mag[:, R_BAND] - CATALOGUE_LAW[R_BAND] * ebv_mag < PETROSIAN_LIMIT
    rows = np.flatnonzero(selected)[:number]
    if len(rows) < number:
        raise RuntimeError(f"{number} galaxies wanted, {len(rows)} of {candidates} candidates passed the selection")
    ra_deg, dec_deg = sky_of(field, *_grid(number, rng))
    return Targets(galaxies.take(rows), ebv_mag[rows], flux[rows], photometry.take(rows), ra_deg, dec_deg)


def _grid(number: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """(x, y) in the r frame of `number` cells of the grid, whose stamps lie in the frame in every band."""
    edge_x, edge_y = MARGIN_PX + LARGEST_SHIFT_PX[0], MARGIN_PX
    cell_x = (COLUMNS - 1 - 2 * edge_x) / GRID_COLUMNS
    cell_y = (ROWS - 1 - 2 * edge_y - LARGEST_SHIFT_PX[1]) / GRID_ROWS  # shifts in y are all positive
    row, column = np.divmod(rng.permutation(GALAXIES_PER_FIELD)[:number], GRID_COLUMNS)
    jitter = rng.uniform(-JITTER_CELLS, JITTER_CELLS, (2, number))
    return edge_x + (column + 0.5 + jitter[0]) * cell_x, edge_y + (row + 0.5 + jitter[1]) * cell_y


def draw_passers(seed: int, place: int, field: Field) -> Passers:
    """Draw the field's faint galaxies and stars, anywhere on its primary rows."""
    conditions = conditions_of(seed, place, field)
    rng = stream(seed, Stream.FAINT, place)
    faint = draw_galaxies(CANDIDATES_PER_GALAXY * FAINT_GALAXIES_PER_FIELD, FAINT_LIMITS, rng)
    faint = faint.take(np.arange(FAINT_GALAXIES_PER_FIELD))
    faint_flux = flux_at_earth(faint.mag, np.full(len(faint), conditions.ebv_mag))
    faint_sky = sky_of(field, *_anywhere(len(faint), rng))
    rng = stream(seed, Stream.STARS, place)
    star_mag = _draw_stars(STARS_PER_FIELD, rng)
    star_flux = flux_at_earth(star_mag, np.full(STARS_PER_FIELD, conditions.ebv_mag))
    return Passers(faint, faint_flux, faint_sky, star_flux, sky_of(field, *_anywhere(STARS_PER_FIELD, rng)))


def _anywhere(number: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x = rng.uniform(0, COLUMNS - 1, number)
    return x, OVERLAP_ROWS / 2 + rng.uniform(0, FIELD_STEP_ROWS, number)


def _draw_stars(number: int, rng: np.random.Generator) -> Array:
    """(star, band) magnitudes: counts that grow by 0.2 dex a magnitude, colours along a straight stellar locus."""
    faintest, brightest = 10 ** (0.2 * np.array(STAR_LIMITS[::-1]))
    r = 5 * np.log10(rng.uniform(brightest, faintest, number))
    g_r = rng.uniform(0.3, 1.4, number)
    colour = {"u": 0.5 + 1.6 * g_r, "g": g_r, "r": 0 * g_r, "i": -0.42 * g_r, "z": -0.62 * g_r}
    return np.stack([r + colour[band] for band in BANDS], axis=1)
