"""SDSS corrected frames: where one lies, and reading it with every check that tells it is the right one.

Run, camcol, field and band come from the file's name: the header's FRAME is the field number in r only, and FIELD
may be absent. Pixel (0, 0) has its centre at (0, 0), as in NumPy and astropy with origin 0.
"""

import bz2
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import IngestError

SUFFIXES = (".fits", ".fits.bz2")
_SCALE_RANGE_ARCSEC = (0.3, 0.5)  # an SDSS pixel has 0.396


@dataclass(frozen=True, slots=True, order=True)
class Field:
    """One field of the survey."""

    run: int
    camcol: int
    field: int
    rerun: str

    def file_name(self, band: str) -> str:
        """Name of the frame without its suffix."""
        return f"frame-{band}-{self.run:06d}-{self.camcol}-{self.field:04d}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One band of one field."""

    path: Path
    image: npt.NDArray[np.float32]  # (y, x) [nanomaggy / pixel]
    wcs: Any  # astropy.wcs.WCS of the image
    origin: str  # header ORIGIN: which survey made it


def find_frame(root: Path, field: Field, band: str) -> Path | None:
    """Look for a frame in a flat folder or in the archive's layout."""
    archive = Path(field.rerun, str(field.run), str(field.camcol))
    for folder in (root, root / archive, root / "boss/photoObj/frames" / archive):
        for suffix in SUFFIXES:
            path = folder / (field.file_name(band) + suffix)
            if path.is_file():
                return path
    return None


def read_frame(path: Path, field: Field, band: str) -> Frame:
    """Read one frame whole; IngestError where it is damaged or is not the frame that its name promises."""
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyWarning
    from astropy.utils.exceptions import AstropyWarning

    try:
        raw = path.read_bytes()
        data = bz2.decompress(raw) if path.suffix == ".bz2" else raw
    except (OSError, ValueError, EOFError) as err:
        raise IngestError(f"{path}: not a whole bzip2 file ({err}); fetch it again") from err
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # RADECSYS, 'dd/mm/yy': old but harmless
            warnings.simplefilter("error", VerifyWarning)
            warnings.filterwarnings("error", message=".*truncated")
            with fits.open(io.BytesIO(data), memmap=False, lazy_load_hdus=False) as hdus:
                return _parse(path, hdus, field, band)
    except IngestError:
        raise
    except Exception as err:  # a damaged header can break FITS and WCS code in any way
        raise IngestError(f"{path}: not a readable SDSS frame ({' '.join(str(err).split())}); fetch it again") from err


def _parse(path: Path, hdus: Any, field: Field, band: str) -> Frame:
    header, image = hdus[0].header, hdus[0].data
    if image is None or image.ndim != 2 or image.dtype.kind != "f":
        found = "none" if image is None else f"{image.ndim}-dimensional {image.dtype.name}"
        raise IngestError(f"{path}: expected a 2-dimensional float image in HDU 0, got {found}; fetch it again")
    _check_identity(path, hdus, field, band)
    return Frame(path, image.astype(np.float32), _tan_wcs(path, header), str(header.get("ORIGIN", "unknown")).strip())


def _check_identity(path: Path, hdus: Any, field: Field, band: str) -> None:
    """Compare what the headers and the astrometry table say with the name; what is absent says nothing."""
    expected = {"RUN": field.run, "CAMCOL": field.camcol, "FILTER": band, "FIELD": field.field}
    header = hdus[0].header
    said: list[tuple[str, Any]] = [(name, header[name]) for name in ("RUN", "CAMCOL", "FILTER") if name in header]
    if len(hdus) > 3 and len(hdus[3].data):
        row = hdus[3].data[0]
        said += [(name, row[name]) for name in expected if name in hdus[3].data.names]
    for name, value in said:
        value = value.strip() if isinstance(value, str) else int(value)
        if value != expected[name]:
            raise IngestError(
                f"{path}: a frame of another field: expected {name} {expected[name]} by its name, "
                f"got {value} inside; fetch it again"
            )


def _tan_wcs(path: Path, header: Any) -> Any:
    from astropy.wcs import WCS
    from astropy.wcs.utils import proj_plane_pixel_scales

    wcs = WCS(header)
    if list(wcs.wcs.ctype) != ["RA---TAN", "DEC--TAN"]:
        raise IngestError(f"{path}: expected a WCS of RA---TAN, DEC--TAN, got {list(wcs.wcs.ctype)}; fetch it again")
    low, high = _SCALE_RANGE_ARCSEC
    scales = proj_plane_pixel_scales(wcs) * 3600
    if not np.all((low < scales) & (scales < high)):
        raise IngestError(f"{path}: expected pixels of 0.396 arcsec, got {scales} from its WCS; fetch it again")
    return wcs
