"""Frames to stamps: one whole field, from five .fits.bz2 frames to registered stamps in memory.

Equal footing: the same files, objects and output grid. The peer interpolates linearly, in the full WCS of every pixel,
as scripts do; ours by Lanczos-3, and it also measures the noise of every stamp.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.frames import Field, find_frame
from ingest.plan import FieldPlan
from ingest.register import CENTRE, SCALE_ARCSEC, SIZE
from ingest.stamps import cut_stamps
from ingest.tables import SDSS_BANDS

from ..practice import PracticeData
from ..results import Param, StageReport
from ..timing import Contender, race

OURS = "ingest: skymill"
ASTROPY = "ingest: astropy and SciPy"

Float64s = npt.NDArray[np.float64]


def run(data: PracticeData, rounds: int = 3) -> StageReport:
    """One field of the practice survey, on one core."""
    part: FieldPlan = data.prepared.plan.shards[0].fields[0]
    ra, dec = (data.prepared.catalog.need(name)[part.rows] for name in ("ra", "dec"))
    paths = _paths(data, part.field)

    def ours() -> int:
        return len(cut_stamps(data.survey.frames, part.field, ra, dec).images)

    def astropy() -> int:
        return len(astropy_stamps(paths, ra, dec))

    size = 4 * len(SDSS_BANDS) * SIZE**2
    steps = {OURS: ours, ASTROPY: astropy}
    params: dict[str, Param] = {"objects_per_field": len(ra), "threads": 1}
    contenders = [Contender(name=name, step=step, bytes_per_image=size, params=params) for name, step in steps.items()]
    return StageReport(
        stage="ingest",
        results=race(contenders, rounds=rounds),
        own=OURS,
        pairs=((OURS, ASTROPY),),
    )


def _paths(data: PracticeData, field: Field) -> list[str]:
    found = [find_frame(data.survey.frames, field, band) for band in SDSS_BANDS]
    return [str(path) for path in found if path is not None]


def astropy_stamps(paths: list[str], ra_deg: Float64s, dec_deg: Float64s) -> npt.NDArray[np.float32]:
    """Stamps (object, band, y, x) by astropy's WCS and SciPy's linear interpolation, flux conserved."""
    import warnings

    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning
    from astropy.wcs import WCS
    from scipy.ndimage import map_coordinates

    rows, columns = np.mgrid[:SIZE, :SIZE]
    stamps = np.empty((len(ra_deg), len(paths), SIZE, SIZE), dtype=np.float32)
    for band, path in enumerate(paths):
        with warnings.catch_warnings(), fits.open(path) as hdus:
            warnings.simplefilter("ignore", AstropyWarning)  # SDSS's old header words
            image, wcs = np.asarray(hdus[0].data, dtype=np.float32), WCS(hdus[0].header)
        for number, (ra, dec) in enumerate(zip(ra_deg, dec_deg, strict=True)):
            sky = _stamp_wcs(ra, dec).wcs_pix2world(columns.ravel(), rows.ravel(), 0)
            x, y = wcs.wcs_world2pix(*sky, 0)
            values = map_coordinates(image, [y, x], order=1, mode="constant", cval=np.nan)
            stamps[number, band] = values.reshape(SIZE, SIZE)
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
