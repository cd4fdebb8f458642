"""Which galaxies there are: redshift, luminosity, type, dust, size and shape, as a magnitude-limited sample sees them.

Where no source is named, numbers were fitted, together with M* and the templates' corrections, to half of 4,771 real
SDSS galaxies: to the distributions of redshift and r, and of the colours in bins of redshift. `likeness` compares.
Magnitudes here are true ones, above the Milky Way's dust and without noise: `photometry` adds both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cosmology import distance_modulus
from .luminosity import draw_luminosity
from .shapes import Shapes, draw_shapes
from .spectra import R_BAND, TYPE_KNOTS, Array, calzetti, colour_table

BRIGHT_LIMIT = 14.0  # r; a brighter galaxy overflows a stamp, and the main sample has next to none

# The share of red galaxies rises with luminosity: its largest value, where it is half of that, and the rise's width.
RED_SHARE, RED_MID_MAG, RED_WIDTH_MAG = 0.86, -20.07, 0.84
RED_TYPE_SCATTER = 0.368  # a red galaxy's type is this times |N(0, 1)|
BLUE_TYPE, BLUE_TYPE_SLOPE, BLUE_TYPE_SCATTER = 1.98, 0.25, 0.37  # at M_r = -20.5, a magnitude, galaxy to galaxy

# Mean E(B-V) of an exponential distribution, of galaxies seen face-on.
RED_DUST_EBV, BLUE_DUST_EBV = 0.031, 0.066
# A disc of axis ratio q is dimmer by 1.27 (log10 q)^2 in r where it is brighter than M_r = -19, and fainter ones are
# not (Unterborn and Ryden 2008, ApJ 687, 976, SDSS); the step is a ramp here. Its reddening follows Calzetti's law.
INCLINED_DIMMING_MAG = 1.27
INCLINED_FROM_MAG, INCLINED_FULL_MAG = -18.5, -19.5
# Mean of (log10 q)^2 over random directions: luminosities are drawn from what all directions together show.
MEAN_LOG_Q_SQUARED = 0.137
R_ANGSTROM = 6166.0

# Scatter of each band about the templates, u to z: Student's t of two degrees of freedom, one width for all bands of a
# galaxy, because a few real ones fit no template. Chosen, so that neighbours predict redshift as on the real sky.
SPECTRAL_SCATTER_MAG = np.array([0.030, 0.009, 0.003, 0.0045, 0.008])
LARGEST_SCATTER = 10.0  # of a galaxy, in these


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
    redshift, typical_mag_r = draw_luminosity(number, r_limits[1], rng)
    red = rng.random(number) < _red_share(typical_mag_r)
    type_index = _draw_type(typical_mag_r, red, rng)
    shapes = draw_shapes(redshift, typical_mag_r, type_index, rng)
    inclined = _inclined_dimming(typical_mag_r, shapes)
    dust_ebv = _draw_dust(red, inclined, rng)
    abs_mag_r = typical_mag_r + inclined - _mean_dimming(typical_mag_r, shapes)
    mag = (abs_mag_r + distance_modulus(redshift))[:, None] + colour_table()(type_index, redshift, dust_ebv)
    mag += _peculiarity(number, rng)
    galaxies = Galaxies(
        redshift,
        abs_mag_r,
        type_index,
        dust_ebv,
        mag,
        shapes.bulge_fraction,
        shapes.bulge_radius_arcsec,
        shapes.disc_radius_arcsec,
        shapes.bulge_axis_ratio,
        shapes.disc_axis_ratio,
        shapes.position_angle_deg,
    )
    seen = (mag[:, R_BAND] > r_limits[0]) & (mag[:, R_BAND] < r_limits[1])
    return galaxies.take(np.flatnonzero(seen))


def _red_share(abs_mag_r: Array) -> Array:
    return np.asarray(RED_SHARE / (1 + np.exp((abs_mag_r - RED_MID_MAG) / RED_WIDTH_MAG)))


def _draw_type(abs_mag_r: Array, red: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    number = len(abs_mag_r)
    early = np.abs(rng.normal(0.0, RED_TYPE_SCATTER, number))
    late = rng.normal(BLUE_TYPE + BLUE_TYPE_SLOPE * (abs_mag_r + 20.5), BLUE_TYPE_SCATTER)
    return np.asarray(np.where(red, early, late).clip(TYPE_KNOTS[0], TYPE_KNOTS[-1]))


def _dimmed_share(abs_mag_r: Array, shapes: Shapes) -> Array:
    """Of the light, that of discs luminous enough for their dust to count."""
    luminous = ((abs_mag_r - INCLINED_FROM_MAG) / (INCLINED_FULL_MAG - INCLINED_FROM_MAG)).clip(0.0, 1.0)
    return np.asarray((1 - shapes.bulge_fraction) * luminous)


def _inclined_dimming(abs_mag_r: Array, shapes: Shapes) -> Array:
    """Magnitudes in r by which a galaxy is dimmer than face-on."""
    dimming = INCLINED_DIMMING_MAG * np.log10(shapes.disc_axis_ratio) ** 2
    return np.asarray(_dimmed_share(abs_mag_r, shapes) * dimming)


def _mean_dimming(abs_mag_r: Array, shapes: Shapes) -> Array:
    return np.asarray(_dimmed_share(abs_mag_r, shapes) * INCLINED_DIMMING_MAG * MEAN_LOG_Q_SQUARED)


def _draw_dust(red: NDArray[np.bool_], inclined: Array, rng: np.random.Generator) -> Array:
    face_on = rng.exponential(np.where(red, RED_DUST_EBV, BLUE_DUST_EBV))
    return np.asarray(np.minimum(face_on + inclined / calzetti(np.array(R_ANGSTROM)), 1.0))


def _peculiarity(number: int, rng: np.random.Generator) -> Array:
    """(galaxy, band) random magnitudes between a galaxy and its interpolated template."""
    width = 1 / np.sqrt(np.maximum(rng.exponential(1.0, number), LARGEST_SCATTER**-2))
    return np.asarray(width[:, None] * SPECTRAL_SCATTER_MAG * rng.standard_normal((number, len(SPECTRAL_SCATTER_MAG))))
