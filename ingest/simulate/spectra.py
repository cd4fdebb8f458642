"""Colours of galaxies: what a spectrum of one type, dust and redshift measures in the five SDSS bands.

Spectra are the Coleman, Wu and Weedman templates that GalSim ships, corrected, with H-alpha added, and interpolated in
log flux along E, Sbc, Scd, Im; dust is Calzetti's law; bands are speclite's `sdss2010` responses. Everything else about
a galaxy is in `population`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BANDS = "ugriz"
R_BAND = BANDS.index("r")
TEMPLATES = ("E", "Sbc", "Scd", "Im")  # type 0, 1, 2, 3; a galaxy's type lies anywhere between
CALZETTI_RV = 4.05

# Knots of the colour table. Linear interpolation between them is good to 0.01 mag.
TYPE_KNOTS = np.linspace(0.0, 3.0, 31)
REDSHIFT_KNOTS = np.linspace(0.0, 0.4, 41)
DUST_KNOTS = np.linspace(0.0, 1.0, 11)  # E(B-V) within the galaxy

# What must be added to each template's magnitudes to give SDSS's colours, at rest wavelengths [Angstrom] and straight
# between. Fitted to real galaxies of all redshifts together (see `population`): it belongs to a template, not a band.
CORRECTION_KNOTS_A = np.array([3100.0, 3700.0, 4300.0, 5000.0, 6000.0, 7000.0, 8000.0, 9200.0])
CORRECTION_MAG = np.array(
    [
        [0.235, -0.027, -0.132, -0.070, 0.0, 0.029, -0.023, 0.018],  # E
        [0.139, 0.176, 0.121, 0.099, 0.0, -0.005, 0.005, 0.099],  # Sbc
        [0.007, 0.096, -0.053, 0.076, 0.0, 0.007, -0.036, -0.009],  # Scd
        [0.203, 0.084, -0.072, -0.056, 0.0, 0.067, 0.211, 0.433],  # Im
    ]
)
# The templates have no line at 6563 Angstrom: equivalent width of H-alpha with [N II], Angstrom in the rest frame,
# fitted like the corrections.
H_ALPHA_WIDTH_A = np.array([0.0, 7.0, 47.0, 56.0])
H_ALPHA_A, H_ALPHA_SIGMA_A = 6563.0, 15.0  # [N II] on both sides makes it this broad

WAVELENGTH_A = np.arange(2930.0, 11151.0, 10.0)  # observed frame, covers all five bands
SPEED_OF_LIGHT_A_PER_S = 2.99792458e18
AB_ZERO_POINT = 48.6  # of f_nu in erg / s / cm2 / Hz


@lru_cache(maxsize=1)
def _templates() -> tuple[tuple[Array, Array], ...]:
    """(wavelength [Angstrom], ln f_lambda) of each template."""
    from pathlib import Path

    import galsim

    folder = Path(galsim.meta_data.share_dir) / "SEDs"
    tables = (np.loadtxt(folder / f"CWW_{name}_ext.sed") for name in TEMPLATES)
    return tuple((table[:, 0], np.log(table[:, 1])) for table in tables)


@lru_cache(maxsize=1)
def _responses() -> Array:
    """(band, wavelength) weights w such that sum(w * f_lambda) is the mean f_nu that an AB magnitude takes."""
    from speclite.filters import load_filters

    filters = load_filters(*(f"sdss2010-{band}" for band in BANDS))
    response = np.array([np.interp(WAVELENGTH_A, f.wavelength, f.response, left=0, right=0) for f in filters])
    photons = response * WAVELENGTH_A  # detectors count photons
    flat_f_nu = SPEED_OF_LIGHT_A_PER_S / WAVELENGTH_A**2
    return np.asarray(photons / (photons * flat_f_nu).sum(axis=1, keepdims=True))


def calzetti(wavelength_a: Array) -> Array:
    """k(lambda) = A(lambda) / E(B-V) of Calzetti et al. 2000, equation 4; `wavelength_a` in Angstrom, rest frame."""
    x = 1e4 / wavelength_a  # 1 / micrometre
    blue = 2.659 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3)
    red = 2.659 * (-1.857 + 1.040 * x)
    return np.where(wavelength_a < 6300.0, blue, red) + CALZETTI_RV


def ln_correction(rest_a: Array) -> Array:
    """(template, wavelength) what a template's ln f_lambda lacks: a smooth correction, and H-alpha."""
    smooth = [-np.log(10) / 2.5 * np.interp(rest_a, CORRECTION_KNOTS_A, magnitudes) for magnitudes in CORRECTION_MAG]
    line = np.exp(-0.5 * ((rest_a - H_ALPHA_A) / H_ALPHA_SIGMA_A) ** 2) / (H_ALPHA_SIGMA_A * np.sqrt(2 * np.pi))
    return np.asarray(np.array(smooth) + np.log1p(H_ALPHA_WIDTH_A[:, None] * line))


def _ln_spectra(rest_a: Array) -> Array:
    """(type, wavelength) ln f_lambda at the table's types."""
    corners = np.array([np.interp(rest_a, wavelength, ln_flux) for wavelength, ln_flux in _templates()])
    corners += ln_correction(rest_a)
    lower = np.minimum(TYPE_KNOTS.astype(int), len(TEMPLATES) - 2)
    weight = (TYPE_KNOTS - lower)[:, None]
    return np.asarray((1 - weight) * corners[lower] + weight * corners[lower + 1])


def _magnitudes_at(redshift: float) -> Array:
    """(type, dust, band) AB magnitudes of the corrected templates, moved to `redshift`, with no absolute scale."""
    rest_a = WAVELENGTH_A / (1 + redshift)
    dimming = DUST_KNOTS[:, None] * calzetti(rest_a) * (np.log(10) / 2.5)
    f_lambda = np.exp(_ln_spectra(rest_a)[:, None] - dimming) / (1 + redshift)
    # Not a matrix product: BLAS may sum in another order with another number of threads, and the survey's bytes follow.
    mean_f_nu = np.einsum("tdl,bl->tdb", f_lambda, _responses())
    return np.asarray(-2.5 * np.log10(mean_f_nu) - AB_ZERO_POINT)


@dataclass(frozen=True, slots=True)
class ColourTable:
    """`offset[type, redshift, dust, band]`: apparent magnitude - distance modulus - absolute r magnitude."""

    offset: Array

    def __call__(self, type_index: Array, redshift: Array, dust_ebv: Array) -> Array:
        """(galaxy, band) offsets, linear between the knots; arguments have one value a galaxy and lie within them."""
        from scipy.interpolate import RegularGridInterpolator

        table = RegularGridInterpolator((TYPE_KNOTS, REDSHIFT_KNOTS, DUST_KNOTS), self.offset)
        return np.asarray(table(np.stack([type_index, redshift, dust_ebv], axis=-1)))


@lru_cache(maxsize=1)
def colour_table() -> ColourTable:
    """The table, made once a process; the absolute r magnitude it refers to has the galaxy's own dust in it."""
    apparent = np.stack([_magnitudes_at(float(z)) for z in REDSHIFT_KNOTS], axis=1)
    return ColourTable(offset=apparent - apparent[:, :1, :, R_BAND : R_BAND + 1])
