"""Petrosian radii and fluxes of the painted profiles through the painted PSF, without noise, from a table.

Apertures are round, as SDSS's, and galaxies are ellipses, so a flat galaxy's light is spread over more radii. In the
table bulge and disc have one axis ratio; the other assumptions are those of painting.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .conditions import moffat
from .paint import BULGE_EDGE, DISC_EDGE
from .spectra import Array

# SDSS's definitions (Strauss et al. 2002; remembered, not looked up): the Petrosian radius is where the mean surface
# brightness between 0.8 and 1.25 of it has fallen to 0.2 of that within it; the Petrosian flux is what two of these
# radii hold.
PETROSIAN_RATIO, PETROSIAN_RADII, ANNULUS = 0.2, 2.0, 1.25

# The table's knots; lengths are powers of one step, so that the ratio of two is a power, too. Lengths count in the
# disc's circularised half-light radius. A galaxy beyond the ends is taken for one at the end.
STEP = ANNULUS**2
SHARE_KNOTS = np.linspace(0.0, 1.0, 11)  # of the bulge in the light
AXIS_KNOTS = np.array([0.18, 0.3, 0.45, 0.65, 1.0])
BULGE_POWERS = np.arange(-3, 3)  # half-light radius of the bulge
PSF_POWERS = np.arange(-4, 5)  # full width of the PSF at half maximum
STEPS_PER_ANNULUS = 4
RADII = ANNULUS ** (np.arange(-44, 56) / STEPS_PER_ANNULUS)  # 0.086 to 22
# Wave numbers, 1 / length: the step resolves the largest radius, and beyond the end the narrowest PSF has left 1e-5.
WAVE_STEP = 0.02
WAVES = np.arange(0.5, 12 / STEP ** PSF_POWERS[0] / WAVE_STEP) * WAVE_STEP


@dataclass(frozen=True, slots=True)
class Petrosian:
    """One entry a galaxy."""

    r50_arcsec: Array  # radius that holds half of the Petrosian flux
    r90_arcsec: Array
    flux_share: Array  # of the whole light, in the Petrosian aperture


def petrosian(
    bulge_fraction: Array, bulge_arcsec: Array, disc_arcsec: Array, axis_ratio: Array, psf_fwhm_arcsec: float
) -> Petrosian:
    """Measure galaxies whose circularised half-light radii are given."""
    from scipy.interpolate import RegularGridInterpolator

    knots = (AXIS_KNOTS, PSF_POWERS, BULGE_POWERS, SHARE_KNOTS)
    places = (
        axis_ratio,
        np.log(psf_fwhm_arcsec / disc_arcsec) / np.log(STEP),
        np.log(bulge_arcsec / disc_arcsec) / np.log(STEP),
        bulge_fraction,
    )
    within = [place.clip(knot[0], knot[-1]) for place, knot in zip(places, knots, strict=True)]
    found = RegularGridInterpolator(knots, _table())(np.stack(within, axis=-1))
    return Petrosian(np.exp(found[:, 0]) * disc_arcsec, np.exp(found[:, 1]) * disc_arcsec, found[:, 2])


@lru_cache(maxsize=1)
def _table() -> Array:
    """(axis ratio, PSF, bulge, share, quantity): ln R50 and ln R90, and the Petrosian share of the flux."""
    lowest = PSF_POWERS[0] - BULGE_POWERS[-1]
    powers = np.arange(lowest, PSF_POWERS[-1] - BULGE_POWERS[0] + 1)
    disc = growth(1, DISC_EDGE, powers)
    bulge = growth(4, BULGE_EDGE, powers)
    found = np.empty((len(AXIS_KNOTS), len(PSF_POWERS), len(BULGE_POWERS), len(SHARE_KNOTS), 3))
    for axis, psf, bulge_size in np.ndindex(found.shape[:3]):
        power = BULGE_POWERS[bulge_size]  # the PSF is narrower by it, in the bulge's own radii
        of_bulge = np.interp(RADII / STEP**power, RADII, bulge[axis, PSF_POWERS[psf] - power - lowest])
        of_disc = disc[axis, PSF_POWERS[psf] - lowest]
        for place, share in enumerate(SHARE_KNOTS):
            found[axis, psf, bulge_size, place] = radii_of_growth(share * of_bulge + (1 - share) * of_disc)
    return found


def growth(index: int, edge: float, psf_powers: Array) -> Array:
    """(axis ratio, PSF, radius) share of a Sersic profile's light within `RADII` of its circularised half-light radius.

    The profile ends at `edge` of these. A round aperture sees the mean over directions of an ellipse's transform, and
    the light within a radius is a Hankel transform of that. A PSF narrower than the narrowest of the table changes no
    radius by 1 per cent, and is taken for that.
    """
    import galsim
    from scipy.special import j1

    profile, point = galsim.Sersic(n=index, half_light_radius=1.0, trunc=edge), moffat(1.0)
    direction = (np.arange(24) + 0.5) * np.pi / 48
    kernel = RADII[:, None] * WAVE_STEP * j1(RADII[:, None] * WAVES)
    far = np.arange(0.0, WAVES[-1] / np.sqrt(AXIS_KNOTS[0]) + 0.04, 0.04)
    of_profile, of_point = (np.array([one.kValue(k, 0.0).real for k in far]) for one in (profile, point))
    found = np.empty((len(AXIS_KNOTS), len(psf_powers), len(RADII)))
    widths = STEP ** np.maximum(psf_powers, PSF_POWERS[0]).astype(float)
    blurs = [np.interp(WAVES * width, far, of_point, right=0.0) for width in widths]
    for axis, ratio in enumerate(AXIS_KNOTS):
        stretch = np.sqrt(np.cos(direction) ** 2 / ratio + np.sin(direction) ** 2 * ratio)
        mean = np.mean([np.interp(WAVES * one, far, of_profile) for one in stretch], axis=0)
        for place, blur in enumerate(blurs):
            # Not a matrix product: BLAS may sum in another order with another number of threads.
            found[axis, place] = np.einsum("rk,k->r", kernel, mean * blur)
    return found


def radii_of_growth(share: Array) -> tuple[float, float, float]:
    """(ln R50, ln R90, Petrosian share of the flux) of the share of light within each of `RADII`."""
    steps, area, ln_radius = STEPS_PER_ANNULUS, RADII**2, np.log(RADII)
    annulus = (share[2 * steps :] - share[: -2 * steps]) / (area[2 * steps :] - area[: -2 * steps])
    ratio = annulus / (share[steps:-steps] / area[steps:-steps])
    # Within the innermost tenth of the light the ratio is near 1, and the transform's error could hide that.
    first = int(np.argmax((ratio < PETROSIAN_RATIO) & (share[steps:-steps] > 0.1)))
    ends = slice(first - 1, first + 1)
    ln_petrosian = np.interp(-PETROSIAN_RATIO, -ratio[ends], ln_radius[steps:-steps][ends])
    flux = np.interp(ln_petrosian + np.log(PETROSIAN_RADII), ln_radius, share)
    grows = slice(0, first + 5 * steps)  # beyond twice the Petrosian radius, the transform's ripples would matter
    r50, r90 = np.interp(np.array([0.5, 0.9]) * flux, share[grows], ln_radius[grows])
    return float(r50), float(r90), float(flux)
