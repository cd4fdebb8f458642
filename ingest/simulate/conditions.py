"""What the camera and the night do: PSF, sky, gain, calibration and the Milky Way's dust, for each strip and field.

Levels are medians of SDSS's photoField files for runs 94 camcol 1, 3900 camcol 6 and 2583 camcol 2: one a strip.
Sky and calibration are smooth functions along a strip, so that the rows which two fields share hold the same pixels.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..extinction import LAWS
from .geometry import COLUMNS, FIELD_STEP_ROWS, STRIPS, Field, Strip
from .spectra import BANDS, Array

PIXEL_ARCSEC = 0.396
MOFFAT_BETA = 3.5  # wings as SDSS's, and a closed-form transform, which makes it five times faster than 4.765
PSF_LN_SCATTER = (0.07, 0.03)  # between fields: common to all bands, of each band
EBV_MEDIAN_MAG, EBV_LN_SCATTER = 0.035, 0.4
# The Milky Way dims by Schlafly and Finkbeiner's law, with E(B-V) in the scale of SFD; the catalogue's `extinction`
# columns follow DR12's law. Who dereddens must know both.
DIMMING_LAW = np.array([LAWS["Schlafly-Finkbeiner 2011"][band] for band in BANDS])
CATALOGUE_LAW = np.array([LAWS["Schlegel-Finkbeiner-Davis 1998"][band] for band in BANDS])


@dataclass(frozen=True, slots=True)
class Camera:
    """One strip's CCDs and sky; every entry has one value a band, u to z."""

    gain: tuple[float, ...]  # electrons / DN
    dark_variance: tuple[float, ...]  # DN^2
    nanomaggy_per_dn: tuple[float, ...]
    sky_nanomaggy_per_arcsec2: tuple[float, ...]
    psf_fwhm_arcsec: tuple[float, ...]  # median full width at half maximum


_CAMERAS = (
    Camera(
        gain=(1.62, 3.32, 4.71, 5.165, 4.745),
        dark_variance=(9.61, 15.6025, 1.8225, 7.84, 0.81),
        nanomaggy_per_dn=(0.007395, 0.003180, 0.004746, 0.006864, 0.033062),
        sky_nanomaggy_per_arcsec2=(1.647, 1.955, 5.242, 11.338, 35.426),
        psf_fwhm_arcsec=(1.47, 1.42, 1.30, 1.35, 1.45),
    ),
    Camera(
        gain=(2.17, 4.035, 4.895, 4.76, 4.69),
        dark_variance=(7.0225, 1.8225, 0.9025, 5.0625, 1.21),
        nanomaggy_per_dn=(0.012209, 0.003659, 0.005128, 0.006471, 0.033733),
        sky_nanomaggy_per_arcsec2=(1.557, 1.723, 3.852, 6.875, 22.117),
        psf_fwhm_arcsec=(1.38, 1.23, 1.22, 1.16, 1.12),
    ),
    Camera(
        gain=(1.825, 3.855, 4.6, 5.195, 5.155),
        dark_variance=(12.6025, 1.44, 1.0, 6.25, 1.0),
        nanomaggy_per_dn=(0.011871, 0.004467, 0.005466, 0.006559, 0.038559),
        sky_nanomaggy_per_arcsec2=(1.921, 2.510, 5.443, 8.782, 32.864),
        psf_fwhm_arcsec=(1.18, 1.09, 0.89, 0.84, 0.97),
    ),
)
CAMERAS = dict(zip(STRIPS, _CAMERAS, strict=True))


@dataclass(frozen=True, slots=True)
class Conditions:
    """One field's night; arrays have one value a band, u to z."""

    psf_fwhm_arcsec: Array  # full width at half maximum of the Moffat that is painted, without the pixel
    ebv_mag: float  # the Milky Way's E(B-V), scale of SFD, at the field's centre


def field_conditions(field: Field, rng: np.random.Generator) -> Conditions:
    """Draw one field's PSF widths and dust."""
    common, own = PSF_LN_SCATTER
    ln_change = rng.normal(0.0, common) + rng.normal(0.0, own, len(BANDS))
    widths = np.array(CAMERAS[field.strip].psf_fwhm_arcsec) * np.exp(ln_change)
    return Conditions(widths, float(EBV_MEDIAN_MAG * np.exp(rng.normal(0.0, EBV_LN_SCATTER))))


def photoobj_psf_fwhm(fwhm_arcsec: float) -> float:
    """The width that photoObj's PSF_FWHM would give the painted PSF, arcsec.

    That is 2.3548 times the sigma of the Gaussian that weights the adaptive moments, sqrt(M_RR_CC_PSF / 2), of the PSF
    as the pixels hold it. Moments of a drawn image depend on the PSF's width in pixels alone, so a table serves.
    """
    return float(np.interp(fwhm_arcsec, *_adaptive_widths()))


@lru_cache(maxsize=1)
def _adaptive_widths() -> tuple[Array, Array]:
    import galsim

    knots = np.linspace(0.6, 3.0, 25)
    images = (moffat(float(fwhm)).drawImage(nx=64, ny=64, scale=PIXEL_ARCSEC) for fwhm in knots)
    sigmas = [galsim.hsm.FindAdaptiveMom(image).moments_sigma for image in images]
    return knots, 2.0 * np.sqrt(2.0 * np.log(2.0)) * PIXEL_ARCSEC * np.array(sigmas)


def moffat(fwhm_arcsec: float) -> Any:
    """The painted PSF as a GalSim profile of flux 1."""
    import galsim

    return galsim.Moffat(beta=MOFFAT_BETA, fwhm=fwhm_arcsec)


def calibration(strip: Strip, band: str) -> Array:
    """(column,) nanomaggies a DN: the strip's level with a slow change across the CCD, float32 values."""
    level = CAMERAS[strip].nanomaggy_per_dn[BANDS.index(band)]
    across = np.linspace(-1.0, 1.0, COLUMNS)
    return (level * (1 + 1e-3 * across - 5e-4 * across**2)).astype(np.float32).astype(np.float64)


def sky_dn(strip: Strip, band: str, strip_row: Array, column: Array) -> Array:
    """(row, column) sky [DN], linear along the strip and curved across it."""
    camera, number = CAMERAS[strip], BANDS.index(band)
    level = camera.sky_nanomaggy_per_arcsec2[number] * PIXEL_ARCSEC**2 / camera.nanomaggy_per_dn[number]
    across = column / COLUMNS - 0.5
    drift = 2e-4 * strip_row / FIELD_STEP_ROWS
    return np.asarray(level * (1 + drift[:, None] + 4e-3 * across**2 - 1e-3 * across))


def sky_noise(strip: Strip, band: str) -> float:
    """Sigma of one pixel of empty sky, nanomaggies: electrons, dark variance and rounding to whole DN."""
    camera, number = CAMERAS[strip], BANDS.index(band)
    sky = float(sky_dn(strip, band, np.zeros(1), np.zeros(1) + COLUMNS / 2)[0, 0])
    variance = sky / camera.gain[number] + camera.dark_variance[number] + 1 / 12
    return float(np.sqrt(variance) * camera.nanomaggy_per_dn[number])
