"""The few rows of a neighbouring frame that stamps across a field's end need, without unpacking the rest.

The rows of a strip are cut into frames that share some; a stamp that leaves the first or last row of its own frame goes
on in the field before or after. Only whole blocks of the bzip2 file are unpacked, each with its checksum: the first,
the last, and those of the rows between. So the same can be asked of header and tables as of a frame that is read whole.
"""

import io
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from .bzip2 import BLOCK_BYTES, unpack_end
from .errors import FrameError, IngestError
from .framefile import Field, FrameFile
from .frames import Frame, check_end, check_frame, pixels, quiet, tan_wcs, unpacked, unreadable
from .register import reach

_FITS_BLOCK = 2880
_HEADER_BYTES = 10 * _FITS_BLOCK  # a frame's header has two or three blocks
_TABLES_BYTES = 320_000  # calibration, sky and astrometry of an SDSS frame have 240 kB

Float64s = npt.NDArray[np.float64]


def read_rows(file: FrameFile, field: Field, band: str, ra_deg: Float64s, dec_deg: Float64s) -> tuple[Frame, int]:
    """The rows of a frame that the stamps of some objects touch, and perhaps more; how many bytes were unpacked for it.

    FrameError where what was unpacked is damaged.
    """
    try:
        with quiet():
            return _read_rows(file, field, band, ra_deg, dec_deg)
    except IngestError:
        raise
    except Exception as err:  # a damaged header can break FITS and WCS code in any way
        raise unreadable(file, err) from err


def _read_rows(file: FrameFile, field: Field, band: str, ra_deg: Float64s, dec_deg: Float64s) -> tuple[Frame, int]:
    from astropy.io import fits

    begin = io.BytesIO(unpacked(file, _HEADER_BYTES))
    header, first = fits.Header.fromfile(begin), begin.tell()
    wcs = tan_wcs(file, header)
    width, height = int(header["NAXIS1"]), int(header["NAXIS2"])
    row_bytes = width * abs(int(header["BITPIX"])) // 8
    low, high = rows_touched(wcs, height, ra_deg, dec_deg)
    if low <= height - high:  # nearer to the first row than to the last
        low = 0
        data = unpacked(file, first + high * row_bytes)[first:]
        _, tables = _end(file, first, row_bytes, height, height)
        cost = _blocks(first + len(data)) + _blocks(len(tables))
    else:
        high = height
        data, tables = _end(file, first, row_bytes, low, height)
        cost = 1 + _blocks(len(data) + len(tables))  # the header lies in the first block
    image = pixels(file, header, data, rows=high - low)
    tables = fits.PrimaryHDU().header.tostring().encode() + tables
    with fits.open(io.BytesIO(tables), lazy_load_hdus=False) as hdus:
        check_end(file, hdus, len(tables))
        check_frame(file, header, wcs, hdus[1:], field, band)
    origin = str(header.get("ORIGIN", "unknown")).strip()
    return Frame(image, wcs, origin, first_row=low), cost * BLOCK_BYTES


def _blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES)


def rows_touched(wcs: Any, height: int, ra_deg: Float64s, dec_deg: Float64s) -> tuple[int, int]:
    """Which rows of a frame the stamps of some objects touch: the first, and the last plus one; at least one row."""
    bottom, top = reach(wcs, ra_deg, dec_deg)
    near = (bottom < height) & (top >= 0)  # false for NaN, which is a position on the other side of the sky
    bottom, top = bottom[near], top[near]
    if not len(bottom):
        return height - 1, height
    low = int(np.clip(np.floor(bottom.min()), 0, height - 1))
    return low, int(np.clip(np.ceil(top.max()) + 1, low + 1, height))


def _end(file: FrameFile, first: int, row_bytes: int, low: int, height: int) -> tuple[bytes, bytes]:
    """Rows ``low`` to the last, and all that follows the image; where HDU 1 begins tells where that ends."""
    padding = -(height * row_bytes) % _FITS_BLOCK
    if not file.name.endswith(".bz2"):
        stop = first + height * row_bytes
        return file.content[first + low * row_bytes : stop], file.content[stop + padding :]
    wanted = (height - low) * row_bytes
    size = wanted + padding + _TABLES_BYTES
    while True:
        try:
            end = unpack_end(file.content, size)
        except ValueError as err:
            raise FrameError(file.where, file.name, "not a whole bzip2 file", str(err)) from err
        is_all = len(end) < size
        found = re.search(rb"XTENSION= '", end)
        tables = found.start() if found else first + height * row_bytes + padding
        stop = tables - padding
        if stop >= wanted and (found or is_all):
            return end[stop - wanted : stop], end[tables:]
        if is_all:
            raise FrameError(file.where, file.name, "not a readable SDSS frame", "its image is cut short")
        size *= 2
