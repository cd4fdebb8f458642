"""What galaxies look like: bulge fraction, inclination, axis ratios and sizes, each with its source."""

from dataclasses import dataclass

import numpy as np

from .cosmology import arcsec_per_kpc
from .spectra import Array

# Share of the bulge in the light in r of E, S0, Sab, Sbc, Scd and Irr: Kent's (1985) medians as Fukugita, Hogan and
# Peebles 1998 (ApJ 503, 518, table 1) give them. E, Sbc, Scd and Irr are the templates; where the two others lie
# between the first two templates is chosen.
BULGE_TYPES = (0.0, 0.4, 0.7, 1.0, 2.0, 3.0)
BULGE_FRACTIONS = (1.0, 0.75, 0.40, 0.24, 0.10, 0.0)
BULGE_SCATTER = 0.12  # galaxy to galaxy; chosen, the source gives medians only

# Padilla and Strauss 2008 (MNRAS 388, 1321), SDSS: discs have a thickness of 0.21 +- 0.02 diameters and a face-on
# ellipticity of ln e = -2.33 +- 0.79; ellipticals are oblate, 0.41 thick at M_r = -18 and 0.76 at -22.5.
DISC_THICKNESS, DISC_THICKNESS_SCATTER = 0.21, 0.02
DISC_LN_ELLIPTICITY, DISC_LN_ELLIPTICITY_SCATTER = -2.33, 0.79
SPHEROID_MAGS, SPHEROID_THICKNESS = (-22.5, -18.0), (0.76, 0.41)
SPHEROID_THICKNESS_SCATTER = 0.12  # chosen

# Half-light radii: Shen et al. 2003 (MNRAS 343, 978), SDSS. Their abstract has the log-normal scatter, 0.3 for bright
# late types and early ones, 0.5 for faint ones; the other numbers, of their table 1, are remembered, not looked up.
EARLY_SLOPE, EARLY_LOG_KPC = 0.65, -5.06  # log R = -0.4 a M + b
LATE_SLOPES, LATE_LOG_KPC, LATE_BEND_MAG = (0.26, 0.51), -1.71, -20.91
SIZE_LN_SCATTER = (0.45, 0.27)  # fainter, brighter than the bend
# Major axes of bulge and disc in these radii, which Shen et al. measured in round apertures: a disc seen from a mean
# direction has sqrt(axis ratio) = 0.8, and a small bulge is smaller than its disc. Chosen, as the sizes and
# concentrations of 112 galaxies in two photoObj files allow.
BULGE_RADII, DISC_RADII = (0.25, 0.85), 1.3


@dataclass(frozen=True, slots=True)
class Shapes:
    """One entry a galaxy; see `population.Galaxies` for the units."""

    bulge_fraction: Array
    bulge_radius_arcsec: Array
    disc_radius_arcsec: Array
    bulge_axis_ratio: Array
    disc_axis_ratio: Array
    position_angle_deg: Array


def draw_shapes(redshift: Array, abs_mag_r: Array, type_index: Array, rng: np.random.Generator) -> Shapes:
    """Draw what galaxies look like from random directions."""
    number = len(redshift)
    share = np.interp(type_index, BULGE_TYPES, BULGE_FRACTIONS) + rng.normal(0.0, BULGE_SCATTER, number)
    bulge_fraction = share.clip(0.0, 1.0)
    cos_inclination, azimuth = rng.random(number), rng.uniform(0.0, np.pi, number)
    disc = _disc_axis_ratio(cos_inclination, azimuth, rng)
    bulge = np.maximum(_spheroid_axis_ratio(abs_mag_r, cos_inclination, rng), disc)  # rounder than its disc
    radius_arcsec = draw_radius_kpc(abs_mag_r, bulge_fraction, rng) * arcsec_per_kpc(redshift)
    return Shapes(
        bulge_fraction,
        radius_arcsec * (BULGE_RADII[0] + BULGE_RADII[1] * bulge_fraction),
        radius_arcsec * DISC_RADII,
        bulge,
        disc,
        rng.uniform(0.0, 180.0, number),
    )


def draw_radius_kpc(abs_mag_r: Array, bulge_fraction: Array, rng: np.random.Generator) -> Array:
    """Half-light radius of the whole, kpc, between the relations of early and late types; a log-normal scatter."""
    early = -0.4 * EARLY_SLOPE * abs_mag_r + EARLY_LOG_KPC
    luminosity = 10 ** (-0.4 * (abs_mag_r - LATE_BEND_MAG))
    faint_slope, bright_slope = LATE_SLOPES
    late = -0.4 * faint_slope * abs_mag_r + (bright_slope - faint_slope) * np.log10(1 + luminosity) + LATE_LOG_KPC
    scatter = SIZE_LN_SCATTER[1] + (SIZE_LN_SCATTER[0] - SIZE_LN_SCATTER[1]) / (1 + luminosity**2)
    mean = np.log(10) * (bulge_fraction * early + (1 - bulge_fraction) * late)
    return np.asarray(np.exp(mean + scatter * rng.standard_normal(len(abs_mag_r))))


def projected_axis_ratio(middle: Array, short: Array, cos_inclination: Array, azimuth: Array) -> Array:
    """Apparent axis ratio of an ellipsoid with axes 1 >= `middle` >= `short` (Binney 1985).

    `cos_inclination` is that between the short axis and the line of sight; `azimuth` [rad] turns about the short axis,
    from the long one.
    """
    cos2, sin2 = cos_inclination**2, 1 - cos_inclination**2
    cos_a2, sin_a2 = np.cos(azimuth) ** 2, np.sin(azimuth) ** 2
    a = cos2 / short**2 * (sin_a2 + cos_a2 / middle**2) + sin2 / middle**2
    b = cos_inclination * np.sin(2 * azimuth) * (1 - 1 / middle**2) / short**2
    c = (sin_a2 / middle**2 + cos_a2) / short**2
    root = np.hypot(a - c, b)
    return np.asarray(np.sqrt((a + c - root) / (a + c + root)))


def _disc_axis_ratio(cos_inclination: Array, azimuth: Array, rng: np.random.Generator) -> Array:
    number = len(azimuth)
    ellipticity = np.exp(rng.normal(DISC_LN_ELLIPTICITY, DISC_LN_ELLIPTICITY_SCATTER, number)).clip(0.0, 0.5)
    thickness = rng.normal(DISC_THICKNESS, DISC_THICKNESS_SCATTER, number).clip(0.1, 0.4)
    return projected_axis_ratio(1 - ellipticity, thickness, cos_inclination, azimuth)


def _spheroid_axis_ratio(abs_mag_r: Array, cos_inclination: Array, rng: np.random.Generator) -> Array:
    mean = np.interp(abs_mag_r, SPHEROID_MAGS, SPHEROID_THICKNESS)
    thickness = (mean + rng.normal(0.0, SPHEROID_THICKNESS_SCATTER, len(abs_mag_r))).clip(0.25, 1.0)
    return projected_axis_ratio(np.ones_like(thickness), thickness, cos_inclination, np.zeros_like(thickness))
