"""One frame in SDSS's own file format: image, calibration vector, sky table and astrometry table, as a .fits.bz2.

Pixels are (DN - sky) x calibration. SDSS cuts these floats after ten binary digits: the rest says nothing and would
make a file three times as long. Here the step is the same for all pixels: image / calibration + sky is a whole DN
within 0.005, however bright the pixel.
"""

import bz2
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conditions import calibration, sky_dn
from .geometry import (
    COLUMN_SCALE_DEG,
    COLUMNS,
    FIELD_STEP_ROWS,
    REFERENCE_PIXEL,
    RERUN,
    ROW_SCALE_DEG,
    ROWS,
    Field,
    field_wcs,
    great_circle,
)
from .spectra import BANDS

ORIGIN = "SKYMILL practice survey"
# Sky table: nodes every 8 pixels, placed as in real frames.
SKY_NODES = (192, 256)  # (y, x)
NODE_STEP_PX = 8
FIRST_NODE_PX = (-4.5, 3.5)  # (y, x)
ROUNDING_DN = 0.008  # the step is the power of two below this, in nanomaggies

# The camera reads its rows of CCDs one after another, r, i, u, z, g; a field of one band has the frame number
# of its place in that order: (row in the camera, frame number minus field number).
CAMERA_ROWS = {"r": (1, 0), "i": (2, 2), "u": (3, 4), "z": (4, 6), "g": (5, 8)}


def frame_name(field: Field, band: str) -> str:
    """Path below the frames' root, in the archive's layout."""
    run, camcol = field.strip.run, field.strip.camcol
    return f"{RERUN}/{run}/{camcol}/frame-{band}-{run:06d}-{camcol}-{field.number:04d}.fits.bz2"


def encode_frame(dn: NDArray[np.int32], field: Field, band: str) -> bytes:
    """The compressed file of (y, x) whole DN, sky included."""
    from astropy.io import fits

    calib = calibration(field.strip, band)
    nodes, x_nodes, y_nodes = sky_table(field, band)
    image = calibrate(dn, calib, interpolate_sky(nodes, x_nodes, y_nodes))
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(image, header=_header(field, band)),
            fits.ImageHDU(calib.astype(np.float32)),
            _sky_hdu(nodes, x_nodes, y_nodes),
            _astrometry_hdu(field, band),
        ]
    )
    file = io.BytesIO()
    hdus.writeto(file)
    return bz2.compress(file.getvalue())


def calibrate(dn: NDArray[np.int32], calib: NDArray[np.float64], sky: NDArray[np.float64]) -> NDArray[np.float32]:
    """(y, x) nanomaggies of DN less sky, in steps of a power of two that no reader can tell from exact ones."""
    step = 2.0 ** np.floor(np.log2(ROUNDING_DN * calib.min()))
    return np.asarray(np.rint((dn - sky) * (calib / step)) * step, np.float32)


def sky_table(field: Field, band: str) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """ALLSKY (y, x) [DN], and for each column and row of the image its place among the nodes, XINTERP and YINTERP."""
    (y_first, x_first), (y_nodes, x_nodes) = FIRST_NODE_PX, SKY_NODES
    strip_row = field.index * FIELD_STEP_ROWS + y_first + NODE_STEP_PX * np.arange(y_nodes, dtype=np.float64)
    nodes = sky_dn(field.strip, band, strip_row, x_first + NODE_STEP_PX * np.arange(x_nodes, dtype=np.float64))
    x_interp = (np.arange(COLUMNS) - x_first) / NODE_STEP_PX
    y_interp = (np.arange(ROWS) - y_first) / NODE_STEP_PX
    return nodes.astype(np.float32), x_interp.astype(np.float32), y_interp.astype(np.float32)


def interpolate_sky(
    nodes: NDArray[np.float32], x_interp: NDArray[np.float32], y_interp: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(y, x) sky [DN], bilinear between the nodes and constant beyond them, as a reader of the table does it."""
    along_x = np.stack([np.interp(x_interp, np.arange(nodes.shape[1]), row) for row in nodes])
    lower = np.minimum(y_interp.astype(int), len(nodes) - 2)
    weight = (y_interp - lower)[:, None].astype(np.float64)
    return np.asarray((1 - weight) * along_x[lower] + weight * along_x[lower + 1])


def _header(field: Field, band: str) -> Any:
    from astropy.io import fits

    strip, wcs = field.strip, field_wcs(field, band).wcs
    node, inclination, _ = great_circle(strip)
    camera_row, frame_offset = CAMERA_ROWS[band]
    cards = [
        ("ORIGIN", ORIGIN, "drawn, not observed"),
        ("RUN", strip.run, "Run number"),
        ("FRAME", field.number + frame_offset, "Frame sequence number within the run"),
        ("CCDLOC", 10 * camera_row + strip.camcol, "Survey location of CCD (e.g., rowCol)"),
        ("FLAVOR", "science", "Flavor of this run"),
        ("NODE", round(node, 5), "RA of the great circle's ascending node (deg)"),
        ("INCL", round(inclination, 5), "Great circle's inclination wrt cel. eq. (deg)"),
        ("FIELD", "NA", "Field sequence number within the run"),
        ("EXPTIME", "53.907456", "Exposure time (seconds)"),
        ("CCDMODE", "DRIFT", "'STARING' or 'DRIFT'"),
        ("COLBIN", 1, "Binning factor perpendicular to the columns"),
        ("ROWBIN", 1, "Binning factor perpendicular to the rows"),
        ("CAMROW", camera_row, "Row in the imaging camera"),
        ("BADLINES", 0, "Number of bad lines in frame"),
        ("EQUINOX", 2000.0, ""),
        ("SOFTBIAS", 0, 'software "bias" added to all DN'),
        ("BUNIT", "nanomaggy", "1 nanomaggy = 3.631e-6 Jy"),
        ("FILTER", band, "filter used"),
        ("CAMCOL", strip.camcol, "column in the imaging camera"),
        ("RADECSYS", "ICRS", "International Celestial Ref. System"),
        ("CTYPE1", "RA---TAN", "Coordinate type"),
        ("CTYPE2", "DEC--TAN", "Coordinate type"),
        ("CUNIT1", "deg", "Units"),
        ("CUNIT2", "deg", "Units"),
        ("CRPIX1", float(wcs.crpix[0]), "X of reference pixel"),
        ("CRPIX2", float(wcs.crpix[1]), "Y of reference pixel"),
        ("CRVAL1", float(wcs.crval[0]), "RA of reference pixel (deg)"),
        ("CRVAL2", float(wcs.crval[1]), "Dec of reference pixel (deg)"),
        ("CD1_1", float(wcs.cd[0, 0]), "RA deg per column pixel"),
        ("CD1_2", float(wcs.cd[0, 1]), "RA deg per row pixel"),
        ("CD2_1", float(wcs.cd[1, 0]), "Dec deg per column pixel"),
        ("CD2_2", float(wcs.cd[1, 1]), "Dec deg per row pixel"),
        ("NMGY", float(np.median(calibration(strip, band))), "Calibration factor [nMgy per count]"),
        ("RERUN", RERUN, "rerun"),
    ]
    return fits.Header(cards)


def _sky_hdu(nodes: NDArray[np.float32], x_interp: NDArray[np.float32], y_interp: NDArray[np.float32]) -> Any:
    from astropy.io import fits

    y_nodes, x_nodes = nodes.shape
    return fits.BinTableHDU.from_columns(
        [
            fits.Column("ALLSKY", f"{nodes.size}E", dim=f"({x_nodes}, {y_nodes})", array=nodes[None]),
            fits.Column("XINTERP", f"{COLUMNS}E", array=x_interp[None]),
            fits.Column("YINTERP", f"{ROWS}E", array=y_interp[None]),
        ]
    )


def _astrometry_hdu(field: Field, band: str) -> Any:
    """asTrans: great-circle longitude = A + B row + C column and latitude = D + E row + F column, degrees.

    SDSS counts rows and columns from a pixel's edge: its centre is at + 0.5. The terms of higher order are zero here.
    """
    from astropy.io import fits

    strip, number = field.strip, BANDS.index(band)
    node, inclination, longitude = great_circle(strip)
    shift_x, shift_y = strip.band_shift_px[number]
    row_scale, column_scale = ROW_SCALE_DEG, COLUMN_SCALE_DEG[band]
    centre_x, centre_y = REFERENCE_PIXEL[0] + shift_x + 0.5, REFERENCE_PIXEL[1] + shift_y + 0.5
    affine = {
        "A": longitude + node + row_scale * (field.index * FIELD_STEP_ROWS - centre_y),
        "B": row_scale,
        "C": 0.0,
        "D": -column_scale * centre_x,
        "E": 0.0,
        "F": column_scale,
    }
    polynomials = {f"{name}{order}": 0.0 for name in ("DROW", "DCOL") for order in range(4)}
    zeros = dict.fromkeys(("CSROW", "CSCOL", "CCROW", "CCCOL"), 0.0)
    columns = [
        fits.Column("RUN", "J", array=[strip.run]),
        fits.Column("RERUN", "3A", array=[RERUN]),
        fits.Column("CAMCOL", "J", array=[strip.camcol]),
        fits.Column("FILTER", "A", array=[band]),
        fits.Column("NODE", "D", array=[node]),
        fits.Column("INCL", "D", array=[inclination]),
        fits.Column("NAXIS", "2J", array=[[COLUMNS, ROWS]]),
        fits.Column("FIELD", "J", array=[field.number]),
        *(fits.Column(name, "D", array=[value]) for name, value in (affine | polynomials | zeros).items()),
        fits.Column("RICUT", "D", array=[100.0]),
    ]
    return fits.BinTableHDU.from_columns(columns)
