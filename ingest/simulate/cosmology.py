"""Distances and volumes of the practice survey's cosmology: flat LCDM with H0 = 70 km/s/Mpc and Omega_m = 0.3."""

from functools import lru_cache

import numpy as np

from .spectra import Array

HUBBLE_KM_PER_S_MPC = 70.0
OMEGA_MATTER = 0.3
REDSHIFT_RANGE = (0.003, 0.4)


def distance_modulus(redshift: Array) -> Array:
    """m - M, magnitudes, of redshifts within `REDSHIFT_RANGE`."""
    grid, comoving_mpc, _ = distances()
    return np.asarray(5 * np.log10(np.interp(redshift, grid, comoving_mpc) * (1 + redshift)) + 25)


def arcsec_per_kpc(redshift: Array) -> Array:
    """Angle that one proper kiloparsec spans."""
    grid, comoving_mpc, _ = distances()
    kpc = 1e3 * np.interp(redshift, grid, comoving_mpc) / (1 + redshift)
    return np.asarray(np.degrees(1 / kpc) * 3600)


@lru_cache(maxsize=1)
def distances() -> tuple[Array, Array, Array]:
    """(redshift, comoving distance [Mpc], comoving volume an interval of redshift [arbitrary]) on a fine grid."""
    from astropy.cosmology import FlatLambdaCDM

    cosmology = FlatLambdaCDM(H0=HUBBLE_KM_PER_S_MPC, Om0=OMEGA_MATTER)
    grid = np.linspace(*REDSHIFT_RANGE, 800)
    volume = cosmology.differential_comoving_volume(grid)
    return grid, cosmology.comoving_distance(grid).value, volume.value
