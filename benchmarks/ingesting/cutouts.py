"""A peer of ingest: stamps as scripts make them, with astropy's `fits.open` and `Cutout2D`, and `reproject_interp`.

It takes a frame at a time, and an object at a time from that; bilinear, in the full WCS of every pixel.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.register import CENTRE, SCALE_ARCSEC, SIZE

_CUTOUT_PX = 155  # a stamp's diagonal and a margin

Float64s = npt.NDArray[np.float64]


def reprojected_stamps(paths: Sequence[Path], ra_deg: Float64s, dec_deg: Float64s) -> npt.NDArray[np.float32]:
    """Stamps (object, band, y, x) from one frame a band, flux conserved; NaN where the frame ends."""
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.nddata import Cutout2D
    from astropy.utils.exceptions import AstropyWarning
    from astropy.wcs import WCS
    from reproject import reproject_interp

    places = SkyCoord(ra_deg, dec_deg, unit="deg")
    targets = [_stamp_wcs(ra, dec) for ra, dec in zip(ra_deg, dec_deg, strict=True)]
    stamps = np.empty((len(ra_deg), len(paths), SIZE, SIZE), dtype=np.float32)
    for band, path in enumerate(paths):
        with warnings.catch_warnings(), fits.open(path) as hdus:
            warnings.simplefilter("ignore", AstropyWarning)  # SDSS's old header words
            image, wcs = hdus[0].data, WCS(hdus[0].header)
        for number, target in enumerate(targets):
            size = (_CUTOUT_PX, _CUTOUT_PX)
            cutout = Cutout2D(image, places[number], size, wcs=wcs, mode="partial", fill_value=np.nan)
            stamps[number, band], _ = reproject_interp((cutout.data, cutout.wcs), target, shape_out=(SIZE, SIZE))
        stamps[:, band] *= (SCALE_ARCSEC / 3600) ** 2 / abs(np.linalg.det(wcs.pixel_scale_matrix))
    return stamps


def _stamp_wcs(ra_deg: float, dec_deg: float) -> Any:
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra_deg, dec_deg]
    wcs.wcs.crpix = [CENTRE + 1, CENTRE + 1]
    wcs.wcs.cdelt = [-SCALE_ARCSEC / 3600, SCALE_ARCSEC / 3600]
    return wcs
