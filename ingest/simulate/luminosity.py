"""How many galaxies there are of each luminosity, at each redshift: the luminosity function, and draws from it.

Shape and evolution are those that Blanton et al. 2003 (ApJ 592, 819) measured of 147,986 SDSS galaxies in r moved to
z = 0.1: M* - 5 log h = -20.44, alpha = -1.05. Their evolution, 1.62 mag and 0.18 x 0.4 dex a unit redshift, is
remembered, not looked up.
"""

from functools import lru_cache

import numpy as np

from .cosmology import HUBBLE_KM_PER_S_MPC, REDSHIFT_RANGE, distance_modulus, distances
from .spectra import Array

ABS_MAG_RANGE = (-24.5, -13.0)
SCHECHTER_ALPHA = -1.05
# At z = 0.1, of all the light in r of the rest frame. The last term is fitted: a galaxy is about 0.2 mag fainter in
# their r, which is at a shorter wavelength, and up to 0.1 in Petrosian apertures.
SCHECHTER_MAG = -20.44 + 5 * np.log10(HUBBLE_KM_PER_S_MPC / 100) - 0.32
BRIGHTENING_MAG = 1.62  # of M* a unit redshift
DENSITY_GROWTH_MAG = 0.18  # of the space density, in magnitudes (0.4 dex) a unit redshift
LARGEST_BRIGHTENING = 0.6  # mag in r, by which K correction and a face-on disc can make a galaxy exceed its M_r


def schechter(abs_mag: Array, redshift: Array) -> Array:
    """Relative number of galaxies a magnitude and a volume, of M_r in the rest frame."""
    brightest = SCHECHTER_MAG - BRIGHTENING_MAG * (redshift - 0.1)
    luminosity = 10 ** (0.4 * (brightest - abs_mag))
    density = 10 ** (0.4 * DENSITY_GROWTH_MAG * redshift)
    return np.asarray(density * luminosity ** (SCHECHTER_ALPHA + 1) * np.exp(-luminosity))


def draw_luminosity(number: int, faint_limit: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """(redshift, M_r) of candidates that may be brighter than `faint_limit`, weighted by volume and luminosity."""
    redshifts, abs_mags, cumulative = _luminosity_table(faint_limit)
    cell = np.searchsorted(cumulative, rng.random(number) * cumulative[-1], side="right")
    row, column = np.divmod(cell, len(abs_mags))
    redshift = redshifts[row] + rng.uniform(-0.5, 0.5, number) * (redshifts[1] - redshifts[0])
    abs_mag = abs_mags[column] + rng.uniform(-0.5, 0.5, number) * (abs_mags[1] - abs_mags[0])
    return redshift.clip(*REDSHIFT_RANGE), abs_mag


@lru_cache(maxsize=4)
def _luminosity_table(faint_limit: float) -> tuple[Array, Array, Array]:
    """(redshifts, absolute magnitudes, cumulative number of galaxies over the flattened grid of both)."""
    grid, _, volume = distances()
    abs_mag = np.linspace(*ABS_MAG_RANGE, 600)
    weight = volume[:, None] * schechter(abs_mag, grid[:, None])
    brightest = abs_mag + distance_modulus(grid)[:, None] - LARGEST_BRIGHTENING
    weight[brightest > faint_limit] = 0.0
    return grid, abs_mag, np.cumsum(weight)
