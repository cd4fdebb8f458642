"""Light into pixels: draw sources with GalSim into the rows of a strip that one frame holds; `expose` adds the noise.

Positions count from the strip's first row, so that a source near the border of two fields lands on the same pixels of
both: frames are cut from one strip, though no more than one frame of it is ever held.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conditions import PIXEL_ARCSEC, Conditions, moffat
from .geometry import COLUMNS, FIELD_STEP_ROWS, ROWS, Field, jacobian, pixel_of
from .population import Galaxies
from .spectra import BANDS, Array

# Profiles end at these many half-light radii, close to where SDSS's own model fits end; their flux lies within.
BULGE_EDGE, DISC_EDGE = 7.0, 4.0
PSF_EDGE_FWHM = 8.0  # beyond it lie 4e-5 of a star


@dataclass(frozen=True, slots=True)
class Sources:
    """What one field contributes to a strip: galaxies, then stars."""

    field: Field
    conditions: Conditions
    galaxies: Galaxies
    flux: Array  # (source, band) [nanomaggy]; the galaxies come first
    ra_deg: Array
    dec_deg: Array


def paint(sources: Sequence[Sources], field: Field, band: str) -> NDArray[np.float32]:
    """(y, x) noise-free nanomaggies a pixel of one frame, from the sources of its field and the neighbouring ones.

    `sources` come in strip order: float32 sums then have the same bits wherever two fields overlap.
    """
    image = np.zeros((ROWS, COLUMNS), np.float32)
    for group in sources:
        _paint_group(image, group, field, band)
    return image


def _paint_group(image: NDArray[np.float32], group: Sources, field: Field, band: str) -> None:
    import galsim

    number = BANDS.index(band)
    fwhm = float(group.conditions.psf_fwhm_arcsec[number])
    psf, wcs = moffat(fwhm), _local_wcs(group.field, band)
    x, y = pixel_of(group.field, band, group.ra_deg, group.dec_deg)
    strip_y = y + group.field.index * FIELD_STEP_ROWS
    column, strip_row = (np.floor(position + 0.5).astype(int) for position in (x, strip_y))
    row = strip_row - field.index * FIELD_STEP_ROWS
    half = np.ceil((_edges(group) + PSF_EDGE_FWHM * fwhm) / PIXEL_ARCSEC).astype(int)
    inside = (row + half >= 0) & (row - half < ROWS) & (column + half >= 0) & (column - half < COLUMNS)
    for i in np.flatnonzero(inside):
        seen = galsim.Convolve(_galaxy(group.galaxies, i), psf) if i < len(group.galaxies) else psf
        stamp = galsim.ImageF(2 * int(half[i]) + 1, 2 * int(half[i]) + 1, wcs=wcs)
        seen.withFlux(group.flux[i, number]).drawImage(stamp, offset=(x[i] - column[i], strip_y[i] - strip_row[i]))
        _add(image, stamp.array, int(row[i] - half[i]), int(column[i] - half[i]))


def _local_wcs(field: Field, band: str) -> Any:
    """GalSim's pixels to (east, north) [arcsec], the same all over a field."""
    import galsim

    (east_x, east_y), (north_x, north_y) = jacobian(field, band) * 3600
    return galsim.JacobianWCS(dudx=east_x, dudy=east_y, dvdx=north_x, dvdy=north_y)


def _edges(group: Sources) -> Array:
    """(source,) largest radius of each profile before the PSF, arcsec; stars have none."""
    galaxies = group.galaxies
    bulge = BULGE_EDGE * galaxies.bulge_radius_arcsec * (galaxies.bulge_fraction > 0)
    disc = DISC_EDGE * galaxies.disc_radius_arcsec * (galaxies.bulge_fraction < 1)
    return np.concatenate([np.maximum(bulge, disc), np.zeros(len(group.flux) - len(galaxies))])


def _galaxy(galaxies: Galaxies, i: np.intp) -> Any:
    """A de Vaucouleurs bulge and an exponential disc with one centre, one position angle and one colour."""
    import galsim

    share = float(galaxies.bulge_fraction[i])
    bulge = (4, share, galaxies.bulge_radius_arcsec[i], galaxies.bulge_axis_ratio[i], BULGE_EDGE)
    disc = (1, 1 - share, galaxies.disc_radius_arcsec[i], galaxies.disc_axis_ratio[i], DISC_EDGE)
    angle = (90.0 - float(galaxies.position_angle_deg[i])) * galsim.degrees  # from east, towards north
    parts = []
    for index, flux, radius, axis_ratio, edge in (bulge, disc):
        if flux > 0:
            circular = float(radius * np.sqrt(axis_ratio))  # a shear keeps the area; `radius` is the major axis's
            part = galsim.Sersic(n=index, half_light_radius=circular, trunc=edge * circular, flux=flux)
            parts.append(part.shear(q=float(axis_ratio), beta=angle))
    return galsim.Add(parts)


def _add(image: NDArray[np.float32], stamp: NDArray[np.float32], top: int, left: int) -> None:
    """Add the part of `stamp` that lies in `image` when its first pixel goes to (top, left)."""
    rows, columns = slice(max(top, 0), max(top + len(stamp), 0)), slice(max(left, 0), max(left + stamp.shape[1], 0))
    target = image[rows, columns]
    target += stamp[rows.start - top :, columns.start - left :][: target.shape[0], : target.shape[1]]
