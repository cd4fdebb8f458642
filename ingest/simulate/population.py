"""Which galaxies there are: redshift, luminosity, type, dust, size and shape, as a magnitude-limited sample sees them.

The numbers were chosen so that colours against redshift, and how well they predict it, are those of SDSS's main galaxy
sample; `likeness` compares the two. Magnitudes here are true ones, above the Milky Way's dust and without noise:
`photometry` adds both.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .spectra import R_BAND, TYPE_KNOTS, Array, colour_table

HUBBLE_KM_PER_S_MPC = 70.0
OMEGA_MATTER = 0.3
REDSHIFT_RANGE = (0.003, 0.4)
ABS_MAG_RANGE = (-24.5, -13.0)
BRIGHT_LIMIT = 14.0  # r; a brighter galaxy overflows a stamp, and the main sample has next to none
LARGEST_BRIGHTENING = 0.4  # mag in r, by which the K correction of the bluest galaxy can exceed none

SCHECHTER_ALPHA = -1.05
# Scatter of each band about the templates, u to z; each galaxy's is wider or narrower by a log-normal factor, because
# a few real ones fit no template. And what must be added to each template to give SDSS's colours: CWW's are too blue in
# u - g and too red in i - z.
SPECTRAL_SCATTER_MAG = np.array([0.007, 0.004, 0.003, 0.003, 0.004])
SPECTRAL_SCATTER_LN_SPREAD = 1.3
TEMPLATE_CORRECTION_MAG = np.array(
    [
        [0.15, 0.0, 0.0, 0.0, 0.0],  # E
        [0.07, 0.0, 0.0, 0.0, 0.03],  # Sbc
        [0.00, 0.0, 0.0, 0.0, 0.04],  # Scd
        [0.00, 0.0, 0.0, 0.0, 0.04],  # Im
    ]
)


@dataclass(frozen=True, slots=True)
class Galaxies:
    """True properties, one entry a galaxy. Sizes are half-light radii along the major axis, seen without a PSF."""

    redshift: Array
    abs_mag_r: Array  # rest frame, the galaxy's own dust included
    type_index: Array  # 0 E, 1 Sbc, 2 Scd, 3 Im, and between
    dust_ebv: Array  # E(B-V) within the galaxy
    mag: Array  # (galaxy, band) AB, above the Milky Way's dust
    bulge_fraction: Array  # of the light, the same in all bands
    bulge_radius_arcsec: Array
    disc_radius_arcsec: Array
    bulge_axis_ratio: Array
    disc_axis_ratio: Array
    position_angle_deg: Array  # of the major axis, east of north

    def __len__(self) -> int:
        return len(self.redshift)

    def join(self, others: "Galaxies") -> "Galaxies":
        """These galaxies, then `others`."""
        return Galaxies(
            **{name: np.concatenate([getattr(self, name), getattr(others, name)]) for name in self.__slots__}
        )

    def take(self, rows: NDArray[np.intp]) -> "Galaxies":
        """The galaxies at `rows`, in that order."""
        return Galaxies(**{name: getattr(self, name)[rows] for name in self.__slots__})


def draw_galaxies(number: int, r_limits: tuple[float, float], rng: np.random.Generator) -> Galaxies:
    """Draw `number` candidates by luminosity and keep those with true r within `r_limits`: about every second."""
    redshift, abs_mag_r = _draw_luminosity(number, r_limits[1], rng)
    red = rng.random(number) < _red_fraction(abs_mag_r)
    type_index = np.where(
        red, np.abs(rng.normal(0.0, 0.18, number)), rng.normal(1.55 + 0.25 * (abs_mag_r + 20.5), 0.5)
    ).clip(TYPE_KNOTS[0], TYPE_KNOTS[-1])
    dust_ebv = np.minimum(rng.exponential(np.where(red, 0.02, 0.11)), 1.0)
    offset = colour_table()(type_index, redshift, dust_ebv)
    offset += _peculiarity(type_index, rng)
    mag = (abs_mag_r + distance_modulus(redshift))[:, None] + offset
    shape = _draw_shapes(redshift, abs_mag_r, type_index, rng)
    galaxies = Galaxies(redshift, abs_mag_r, type_index, dust_ebv, mag, *shape)
    seen = (mag[:, R_BAND] > r_limits[0]) & (mag[:, R_BAND] < r_limits[1])
    return galaxies.take(np.flatnonzero(seen))


def _peculiarity(type_index: Array, rng: np.random.Generator) -> Array:
    """(galaxy, band) magnitudes between a galaxy and its interpolated template: a systematic part and a random one."""
    templates = np.arange(len(TEMPLATE_CORRECTION_MAG))
    correction = [np.interp(type_index, templates, column) for column in TEMPLATE_CORRECTION_MAG.T]
    width = np.exp(rng.normal(0.0, SPECTRAL_SCATTER_LN_SPREAD, len(type_index)))
    scatter = SPECTRAL_SCATTER_MAG * rng.standard_normal((len(type_index), len(SPECTRAL_SCATTER_MAG)))
    return np.asarray(np.stack(correction, axis=1) + width[:, None] * scatter)


def distance_modulus(redshift: Array) -> Array:
    """m - M of flat LCDM, magnitudes."""
    grid, comoving_mpc, _ = _distances()
    return np.asarray(5 * np.log10(np.interp(redshift, grid, comoving_mpc) * (1 + redshift)) + 25)


def arcsec_per_kpc(redshift: Array) -> Array:
    """Angle that one proper kiloparsec spans."""
    grid, comoving_mpc, _ = _distances()
    kpc = 1e3 * np.interp(redshift, grid, comoving_mpc) / (1 + redshift)
    return np.asarray(np.degrees(1 / kpc) * 3600)


@lru_cache(maxsize=1)
def _distances() -> tuple[Array, Array, Array]:
    """(redshift, comoving distance [Mpc], comoving volume an interval of redshift [arbitrary]) on a fine grid."""
    from astropy.cosmology import FlatLambdaCDM

    cosmology = FlatLambdaCDM(H0=HUBBLE_KM_PER_S_MPC, Om0=OMEGA_MATTER)
    grid = np.linspace(*REDSHIFT_RANGE, 800)
    volume = cosmology.differential_comoving_volume(grid)
    return grid, cosmology.comoving_distance(grid).value, volume.value


def schechter(abs_mag: Array, redshift: Array) -> Array:
    """Relative number of galaxies a magnitude and a volume; M* brightens with redshift."""
    luminosity = 10 ** (0.4 * (-21.2 - 0.8 * redshift - abs_mag))
    return np.asarray(luminosity ** (SCHECHTER_ALPHA + 1) * np.exp(-luminosity))


def _draw_luminosity(number: int, faint_limit: float, rng: np.random.Generator) -> tuple[Array, Array]:
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
    grid, _, volume = _distances()
    abs_mag = np.linspace(*ABS_MAG_RANGE, 600)
    weight = volume[:, None] * schechter(abs_mag, grid[:, None])
    brightest = abs_mag + distance_modulus(grid)[:, None] - LARGEST_BRIGHTENING
    weight[brightest > faint_limit] = 0.0
    return grid, abs_mag, np.cumsum(weight)


def _red_fraction(abs_mag_r: Array) -> Array:
    return np.asarray(0.82 / (1 + np.exp((abs_mag_r + 20.3) / 0.65)))


def _draw_shapes(redshift: Array, abs_mag_r: Array, type_index: Array, rng: np.random.Generator) -> tuple[Array, ...]:
    """The last six fields of `Galaxies`."""
    number = len(redshift)
    bulge_fraction = (0.85 - 0.45 * type_index + rng.normal(0.0, 0.12, number)).clip(0.0, 1.0)
    # Early types are small for their luminosity and grow fast with it; a log-normal scatter about either relation.
    early = 0.40 - 0.26 * (abs_mag_r + 21)
    late = 0.56 - 0.14 * (abs_mag_r + 21)
    log_kpc = bulge_fraction * early + (1 - bulge_fraction) * late + rng.normal(0.0, 0.12, number)
    radius_arcsec = 10**log_kpc * arcsec_per_kpc(redshift)
    cos_inclination = rng.random(number)
    disc_axis_ratio = np.sqrt(0.18**2 + (1 - 0.18**2) * cos_inclination**2)
    # A bulge is rounder than the disc that it sits in, and its own shape where there is no disc.
    bulge_axis_ratio = np.maximum(rng.uniform(0.55, 1.0, number), disc_axis_ratio)
    angle = rng.uniform(0.0, 180.0, number)
    return (
        bulge_fraction,
        radius_arcsec * (0.45 + 0.55 * bulge_fraction),
        radius_arcsec * 1.1,
        bulge_axis_ratio,
        disc_axis_ratio,
        angle,
    )
