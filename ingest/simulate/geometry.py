"""Where the practice survey lies on the sky: strips along great circles, cut into fields, a TAN WCS a band.

Pixels count from 0 and have their centres on whole numbers: (x, y) = (column, row), as NumPy indexes image[y, x]. A
scan runs along growing rows; consecutive fields of a strip are 1361 rows apart and share 128, as SDSS's do. Run numbers
are above all of SDSS's, so that a practice frame is never taken for a real one.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .spectra import BANDS, Array

RERUN = "301"
COLUMNS = 2048
ROWS = 1489
FIELD_STEP_ROWS = 1361
OVERLAP_ROWS = ROWS - FIELD_STEP_ROWS
REFERENCE_PIXEL = (1024.0, 744.0)  # (x, y) of every field's CRVAL

ROW_SCALE_DEG = 1.09954e-4  # one row along the scan, in every band: the clocking sets it
# One column, which each filter's optics set; the values of run 94, camcol 1.
COLUMN_SCALE_DEG = dict(zip(BANDS, (1.100127e-4, 1.099451e-4, 1.099868e-4, 1.100313e-4, 1.099875e-4), strict=True))


@dataclass(frozen=True, slots=True)
class Strip:
    """One camera column of one run."""

    run: int
    camcol: int
    ra_deg: float  # of the first field's reference pixel in r
    dec_deg: float
    position_angle_deg: float  # of growing rows, east of north
    band_shift_px: tuple[tuple[float, float], ...]  # (x, y) of an object in each band, minus its (x, y) in r
    first_field: int = 11


# The shifts of the first two are those of 94-1-12 and 4510-4-30, the third lies between.
STRIPS = (
    Strip(9001, 1, 336.66, -0.93, 90.0, ((3.95, 7.18), (4.40, 13.89), (0.0, 0.0), (-1.48, 3.73), (0.35, 9.44))),
    Strip(9002, 4, 182.50, 31.20, 34.0, ((3.62, 4.85), (5.55, 9.24), (0.0, 0.0), (1.59, 2.98), (4.20, 6.57))),
    Strip(9003, 6, 200.45, 36.81, 99.3, ((3.78, 6.02), (4.97, 11.57), (0.0, 0.0), (0.06, 3.36), (2.27, 8.00))),
)


@dataclass(frozen=True, slots=True)
class Field:
    """The `index`-th field of a strip."""

    strip: Strip
    index: int

    @property
    def number(self) -> int:
        return self.strip.first_field + self.index


def lay_out(number_of_fields: int) -> list[Field]:
    """The survey's fields: strip by strip, as even a share for each as can be."""
    shares = [len(range(i, number_of_fields, len(STRIPS))) for i in range(len(STRIPS))]
    return [Field(strip, index) for strip, share in zip(STRIPS, shares, strict=True) for index in range(share)]


def frame_centre(field: Field, band: str) -> tuple[float, float, float]:
    """(ra, dec, position angle of growing rows) [deg] at the reference pixel of one frame.

    A band whose objects lie `band_shift_px` further on than r's looks that much further back, along the strip and
    across. The angle belongs to the place: at 37 degrees of declination 14 px turn it so much that with r's the next
    field, 1361 rows on, would be off by 0.02 px.
    """
    shift_x, shift_y = field.strip.band_shift_px[BANDS.index(band)]
    forward, along, pole = _scan_frame(field.strip, field.index * FIELD_STEP_ROWS - shift_y)
    across = -np.radians(shift_x * COLUMN_SCALE_DEG[band])
    centre = np.cos(across) * forward + np.sin(across) * pole  # columns grow towards the pole of the scan
    ra, dec = np.degrees(np.arctan2(centre[1], centre[0])) % 360, np.degrees(np.arcsin(centre[2]))
    east, north = _east_north(ra, dec)
    return float(ra), float(dec), float(np.degrees(np.arctan2(along @ east, along @ north)) % 360)


def great_circle(strip: Strip) -> tuple[float, float, float]:
    """(node, inclination, longitude of the first field from the node) [deg] of the circle that a strip follows."""
    forward, along, pole = _scan_frame(strip, 0.0)
    inclination = np.degrees(np.arccos(pole[2]))
    node = np.degrees(np.arctan2(pole[0], -pole[1]))
    at_node = np.array([np.cos(np.radians(node)), np.sin(np.radians(node)), 0.0])
    longitude = np.degrees(np.arctan2(-(at_node @ along), at_node @ forward))
    return float(node % 360), float(inclination), float(longitude % 360)


def _scan_frame(strip: Strip, row: float) -> tuple[Array, Array, Array]:
    """Unit vectors `row` rows after the first field's centre: towards the sky, along the scan, and the scan's pole."""
    ra, dec, angle = np.radians([strip.ra_deg, strip.dec_deg, strip.position_angle_deg])
    start = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east, north = _east_north(strip.ra_deg, strip.dec_deg)
    heading = np.sin(angle) * east + np.cos(angle) * north
    turn = np.radians(row * ROW_SCALE_DEG)
    forward = np.cos(turn) * start + np.sin(turn) * heading
    along = np.cos(turn) * heading - np.sin(turn) * start
    return forward, along, np.cross(forward, along)


def _east_north(ra_deg: float, dec_deg: float) -> tuple[Array, Array]:
    ra, dec = np.radians([ra_deg, dec_deg])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    return east, np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])


def jacobian(field: Field, band: str) -> Array:
    """CD matrix [[east a column, east a row], [north a column, north a row]], degrees a pixel, of SDSS's handedness."""
    angle = np.radians(frame_centre(field, band)[2])
    column, row = COLUMN_SCALE_DEG[band], ROW_SCALE_DEG
    return np.array([[-np.cos(angle) * column, np.sin(angle) * row], [np.sin(angle) * column, np.cos(angle) * row]])


@lru_cache(maxsize=256)
def field_wcs(field: Field, band: str) -> Any:
    """The astropy WCS of one frame."""
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crpix = [REFERENCE_PIXEL[0] + 1, REFERENCE_PIXEL[1] + 1]
    wcs.wcs.crval = frame_centre(field, band)[:2]
    wcs.wcs.cd = jacobian(field, band)
    wcs.wcs.set()
    return wcs


def sky_of(field: Field, x: Array, y: Array) -> tuple[Array, Array]:
    """(ra, dec) [deg] of pixels of the field's r frame."""
    ra, dec = field_wcs(field, "r").wcs_pix2world(x, y, 0)
    return ra, dec


def pixel_of(field: Field, band: str, ra: Array, dec: Array) -> tuple[Array, Array]:
    """(x, y) in one band's frame of positions [deg]."""
    x, y = field_wcs(field, band).wcs_world2pix(ra, dec, 0)
    return x, y
