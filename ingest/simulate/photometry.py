"""What a photometric pipeline would measure of a galaxy: noisy fluxes as asinh magnitudes, sizes and an axis ratio."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .apertures import Petrosian
from .apertures import petrosian as measure_petrosian
from .conditions import CAMERAS, DIMMING_LAW, PIXEL_ARCSEC, Conditions, sky_noise
from .geometry import Strip
from .population import Galaxies
from .spectra import BANDS, R_BAND, Array

# Apertures that hold as much sky noise as the two kinds of flux have, in observed half-light radii.
MODEL_APERTURE, PETROSIAN_APERTURE = 1.4, 1.8
# Relative errors of R50, R90 and the axis ratio, in those of the Petrosian flux in r: medians of two photoObj files,
# galaxies of 15 < r < 20.
ERRORS_OF_SHAPE = np.array([1.0, 2.8, 1.8])
SMALLEST_AXIS_RATIO = 0.05  # SDSS's fits end there
CALIBRATION_ERROR = 0.005  # of the flux, in each band
# Softening of SDSS's asinh magnitudes (Lupton, Gunn and Szalay 1999), maggies, u to z.
SOFTENING = np.array([1.4e-10, 0.9e-10, 1.2e-10, 1.8e-10, 7.4e-10])


@dataclass(frozen=True, slots=True)
class Photometry:
    """One entry a galaxy; nothing in it is corrected for the Milky Way's dust."""

    model_mag: Array  # (galaxy, band)
    petro_mag: Array  # (galaxy, band)
    petro_r50_arcsec: Array  # in r
    petro_r90_arcsec: Array  # in r
    exp_axis_ratio: Array  # in r, of the exponential that fits best; no trace of the PSF

    def take(self, rows: NDArray[np.intp]) -> "Photometry":
        """The measurements at `rows`, in that order."""
        return Photometry(**{name: getattr(self, name)[rows] for name in self.__slots__})


def flux_at_earth(mag: Array, ebv_mag: Array) -> Array:
    """(galaxy, band) nanomaggies that reach the camera, of magnitudes above the Milky Way's dust."""
    return np.asarray(10 ** (-0.4 * (mag + DIMMING_LAW * ebv_mag[:, None] - 22.5)))


def asinh_magnitude(flux: Array) -> Array:
    """(..., band) SDSS magnitudes of nanomaggies: 22.5 - 2.5 log10(flux) where bright, and finite below zero."""
    softened = np.arcsinh(flux * 1e-9 / (2 * SOFTENING)) + np.log(SOFTENING)
    return np.asarray(-2.5 / np.log(10) * softened)


def measure(
    galaxies: Galaxies, flux: Array, strip: Strip, conditions: Conditions, rng: np.random.Generator
) -> Photometry:
    """Measure galaxies whose flux at Earth (galaxy, band) [nanomaggy] is painted into one field.

    A model magnitude counts the whole light, a Petrosian one what its aperture holds, the same share in all bands.
    """
    light_radius = _half_light_radius(galaxies)
    radius = np.hypot(light_radius[:, None], 0.5 * conditions.psf_fwhm_arcsec)  # the PSF blurs both apertures
    seen = _petrosian_in_r(galaxies, conditions)
    in_aperture = seen.flux_share[:, None] * flux
    model_error = _flux_error(flux, MODEL_APERTURE * radius, strip)
    petrosian_error = _flux_error(in_aperture, PETROSIAN_APERTURE * radius, strip)
    model = flux + rng.standard_normal(flux.shape) * model_error
    petrosian = in_aperture + rng.standard_normal(flux.shape) * petrosian_error
    noise = (petrosian_error / in_aperture)[:, R_BAND] * rng.standard_normal((3, len(galaxies)))
    r50, r90, axis_ratio = ERRORS_OF_SHAPE[:, None] * noise
    return Photometry(
        asinh_magnitude(model),
        asinh_magnitude(petrosian),
        seen.r50_arcsec * np.exp(r50),
        seen.r90_arcsec * np.exp(r90),
        np.clip(axis_ratio_of_exponential(galaxies) * np.exp(axis_ratio), SMALLEST_AXIS_RATIO, 1.0),
    )


def axis_ratio_of_exponential(galaxies: Galaxies) -> Array:
    """Axis ratio of the exponential that would fit bulge and disc together best.

    The mean, by light, of their logarithms: it lies 0.02 below that of fits to the drawn profiles, which scatter by
    0.02 about it.
    """
    bulge, disc = np.log(galaxies.bulge_axis_ratio), np.log(galaxies.disc_axis_ratio)
    return np.asarray(np.exp(disc + galaxies.bulge_fraction * (bulge - disc)))


def _petrosian_in_r(galaxies: Galaxies, conditions: Conditions) -> Petrosian:
    return measure_petrosian(
        galaxies.bulge_fraction,
        galaxies.bulge_radius_arcsec * np.sqrt(galaxies.bulge_axis_ratio),
        galaxies.disc_radius_arcsec * np.sqrt(galaxies.disc_axis_ratio),
        axis_ratio_of_exponential(galaxies),
        float(conditions.psf_fwhm_arcsec[R_BAND]),
    )


def _half_light_radius(galaxies: Galaxies) -> Array:
    """Of the bulge and the disc together, circularised, arcsec: the light-weighted geometric mean of the two."""
    bulge = np.log(galaxies.bulge_radius_arcsec * np.sqrt(galaxies.bulge_axis_ratio))
    disc = np.log(galaxies.disc_radius_arcsec * np.sqrt(galaxies.disc_axis_ratio))
    return np.asarray(np.exp(disc + galaxies.bulge_fraction * (bulge - disc)))


def _flux_error(flux: Array, aperture_arcsec: Array, strip: Strip) -> Array:
    """(galaxy, band) sigma [nanomaggy] of sky noise in the aperture, the source's electrons and the calibration."""
    camera = CAMERAS[strip]
    sky = np.array([sky_noise(strip, band) for band in BANDS])
    pixels = np.pi * (aperture_arcsec / PIXEL_ARCSEC) ** 2
    electrons_per_nanomaggy = np.array(camera.gain) / np.array(camera.nanomaggy_per_dn)
    return np.asarray(np.sqrt(sky**2 * pixels + flux / electrons_per_nanomaggy + (CALIBRATION_ERROR * flux) ** 2))
