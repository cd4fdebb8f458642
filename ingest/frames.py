"""SDSS corrected frames: reading one with every check that tells it is the right one.

Run, camcol, field and band come from the file's name: the header's FRAME is the field number in r only, and FIELD
may be absent. Pixel (0, 0) has its centre at (0, 0), as in NumPy and astropy with origin 0. HDU 0 is the image, HDU 1
the calibration of each column, HDU 2 the sky that was taken off, HDU 3 the astrometry (asTrans).
"""

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sharding.errors import one_line

from .astrometry import check_astrometry
from .bzip2 import unpack
from .errors import FrameError, IngestError
from .framefile import Field, FrameFile

_PIXELS = {-32: ">f4", -64: ">f8"}  # BITPIX
_SCALE_RANGE_ARCSEC = (0.3, 0.5)  # an SDSS pixel has 0.396

Image = npt.NDArray[np.float32]  # (y, x) [nanomaggy / pixel]


@dataclass(frozen=True, slots=True)
class Frame:
    """One band of one field: all of its rows, or those from ``first_row`` on that `image` holds."""

    image: Image
    wcs: Any  # astropy.wcs.WCS of the whole frame
    origin: str  # header ORIGIN: which survey made it
    first_row: int = 0


def read_frame(file: FrameFile, field: Field, band: str) -> Frame:
    """All of a frame; FrameError where it is damaged or is not the frame that its name promises."""
    from astropy.io import fits

    data = unpacked(file)
    try:
        with quiet(), fits.open(io.BytesIO(data), memmap=False, lazy_load_hdus=False) as hdus:
            header = hdus[0].header
            image = pixels(file, header, memoryview(data)[int(hdus[0].fileinfo()["datLoc"]) :])
            wcs = tan_wcs(file, header)
            check_end(file, hdus, len(data))
            check_frame(file, header, wcs, hdus[1:], field, band)
            return Frame(image, wcs, str(header.get("ORIGIN", "unknown")).strip())
    except IngestError:
        raise
    except Exception as err:  # a damaged header can break FITS and WCS code in any way
        raise unreadable(file, err) from err


def unpacked(file: FrameFile, size: int = -1) -> bytes:
    """The first ``size`` bytes of a frame's FITS file (default: all)."""
    if not file.name.endswith(".bz2"):
        return file.content if size < 0 else file.content[:size]
    try:
        return unpack(file.content, size)
    except ValueError as err:
        raise FrameError(file.where, file.name, "not a whole bzip2 file", str(err)) from err


def unreadable(file: FrameFile, err: Exception) -> FrameError:
    """The message for bytes that FITS or WCS code stumbled over."""
    return FrameError(file.where, file.name, "not a readable SDSS frame", one_line(err))


class quiet(warnings.catch_warnings):
    """Inside, astropy keeps silent about RADECSYS and 'dd/mm/yy', which are old but harmless; damage is an error."""

    def __enter__(self) -> None:
        from astropy.io.fits.verify import VerifyWarning
        from astropy.utils.exceptions import AstropyWarning

        super().__enter__()
        warnings.simplefilter("ignore", AstropyWarning)
        warnings.simplefilter("error", VerifyWarning)
        warnings.filterwarnings("error", message=".*truncated")


def pixels(file: FrameFile, header: Any, data: bytes | memoryview, rows: int | None = None) -> Image:
    """The image of a header (or its first ``rows``) from the bytes behind it: (y, x), native float32.

    Read here and not by astropy, which copies once more.
    """
    kind = _PIXELS.get(header["BITPIX"])
    shape = [header[f"NAXIS{n}"] for n in range(header["NAXIS"], 0, -1)]
    if kind is None or len(shape) != 2 or header.get("BSCALE", 1) != 1 or header.get("BZERO", 0) != 0:
        found = f"{' x '.join(map(str, shape)) or 'none'} of BITPIX {header['BITPIX']}"
        raise FrameError(file.where, file.name, f"expected a 2-dimensional float image in HDU 0, got {found}")
    height, width = (rows or shape[0]), shape[1]
    if len(data) < height * width * np.dtype(kind).itemsize:
        raise FrameError(file.where, file.name, "not a readable SDSS frame", "its image is truncated")
    return np.frombuffer(data, kind, count=height * width).reshape(height, width).astype(np.float32)


def check_end(file: FrameFile, hdus: Any, size: int) -> None:
    """FrameError where HDUs end before their bytes do: a file that was made in full length, but filled in part."""
    last = hdus[-1].fileinfo()
    if (left := size - last["datLoc"] - last["datSpan"]) > 0:
        raise FrameError(file.where, file.name, "not a readable SDSS frame", f"its last {left} bytes are no HDU")


def check_frame(file: FrameFile, header: Any, wcs: Any, others: Any, field: Field, band: str) -> None:
    """FrameError unless HDUs 1 to 3 (``others``), so far as they are there, agree with header and name of a frame."""
    width, height = header["NAXIS1"], header["NAXIS2"]
    _check_columns(file, others, width)
    astrans = others[2] if len(others) > 2 else None
    _check_identity(file, header, None if astrans is None else astrans.data, field, band)
    if astrans is not None:
        check_astrometry(file, astrans, wcs, (height, width))


def _check_columns(file: FrameFile, others: Any, width: int) -> None:
    """The calibration has a number for each column: where it does not, axes were swapped or images mixed up."""
    columns = len(others[0].data) if len(others) and getattr(others[0].data, "ndim", 0) == 1 else width
    if columns != width:
        problem = f"expected {columns} columns by the calibration in HDU 1, got an image of {width}"
        raise FrameError(file.where, file.name, problem)


def _check_identity(file: FrameFile, header: Any, astrans: Any, field: Field, band: str) -> None:
    """Compare what the header and the astrometry table say with the name; what is absent says nothing."""
    expected = {"RUN": field.run, "CAMCOL": field.camcol, "FILTER": band, "FIELD": field.field}
    said: list[tuple[str, Any]] = [(name, header[name]) for name in ("RUN", "CAMCOL", "FILTER") if name in header]
    if astrans is not None and len(astrans):
        said += [(name, astrans[0][name]) for name in expected if name in astrans.names]
    for name, value in said:
        value = value.strip() if isinstance(value, str) else int(value)
        if value != expected[name]:
            problem = (
                f"a frame of another field: expected {name} {expected[name]} by its name, got {one_line(value)} inside"
            )
            raise FrameError(file.where, file.name, problem)


def tan_wcs(file: FrameFile, header: Any) -> Any:
    """The WCS of a frame's header, which must be a gnomonic one of SDSS's pixel scale."""
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    wcs = WCS(header)
    if list(wcs.wcs.ctype) != ["RA---TAN", "DEC--TAN"]:
        problem = f"expected a WCS of RA---TAN, DEC--TAN, got {list(wcs.wcs.ctype)}"
        raise FrameError(file.where, file.name, problem)
    low, high = _SCALE_RANGE_ARCSEC
    scales = proj_plane_pixel_scales(wcs) * 3600
    if not np.all((low < scales) & (scales < high)):
        problem = f"expected pixels of 0.396 arcsec, got {scales[0]:.4g} x {scales[1]:.4g} from its WCS"
        raise FrameError(file.where, file.name, problem)
    return wcs
