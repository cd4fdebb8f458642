"""`python -m ingest export`: one stamp of a dataset as FITS, with what an astronomer needs to use it.

The cube is float32 (band, y, x), in nanomaggies per pixel, as the dataset holds it: not dereddened. Its celestial WCS
is the projection that the manifest states; a dataset whose projection is not known is refused, for a wrong WCS is worse
than none. Whole or not at all: an existing file is never overwritten.
"""

import argparse
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from sharding import Dataset, DatasetError, atomic_file
from sharding.tables import find_column

from .errors import IngestError
from .version import made_by

_TAN = re.compile(r"gnomonic, object at pixel (\d+) (\d+) of \d+, north up, east left")

# Keyword, column and comment of what is written where the dataset has it.
_IDENTITY = (
    ("RUN", "run", "SDSS run"),
    ("RERUN", "rerun", "SDSS rerun"),
    ("CAMCOL", "camcol", "SDSS camera column"),
    ("FIELD", "field", "SDSS field"),
    ("THING_ID", "thing_id", "one for all observations of an object"),
    ("EBV_SFD", "ebv_sfd", "[mag] E(B-V), scale of SFD 1998; not applied"),
    ("SPECZ", "specz", "spectroscopic redshift"),
)
_OF_A_BAND = (
    ("EXT", "extinction", "[mag] Galactic extinction; not applied"),
    ("PSF", "psf_fwhm", "[arcsec] FWHM of the PSF"),
    ("SKYSG", "sky_sigma", "[nanomaggy] white noise a native pixel"),
    ("STPSG", "stamp_sigma", "[nanomaggy] 1.4826 MAD of the stamp"),
    ("COVER", "covered_fraction", "part of the stamp that a frame covers"),
)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m ingest export`."""
    parser.add_argument("dataset", help="folder that holds dataset.json, or a URL")
    parser.add_argument("--objid", type=int, required=True, help="which object")
    parser.add_argument("--out", type=Path, required=True, help="FITS file to write; must not exist yet")
    parser.set_defaults(command=_export)


def _export(args: argparse.Namespace) -> int:
    try:
        export_stamp(Dataset.open(args.dataset), args.objid, args.out)
    except DatasetError as err:  # this command line knows the errors of its own room
        raise IngestError(str(err)) from err
    print(args.out)
    return 0


def export_stamp(dataset: Dataset, objid: int, out: Path) -> None:
    """Write the stamp of ``objid`` to ``out`` (.fits); IngestError where there is none, or ``out`` is there already."""
    if out.exists():
        raise IngestError(f"{out}: already there; remove it or choose another --out")
    if not out.parent.is_dir():
        raise IngestError(f"{out}: expected a folder to write in at {out.parent}, got none; make it")
    found = np.flatnonzero(dataset.column("objid") == objid)
    if not found.size:
        raise IngestError(
            f"{dataset.location}: no sample has objid {objid} (of {len(dataset)}); rejects.parquet may say why"
        )
    index = int(found[0])
    from astropy.io import fits

    header = stamp_header(dataset, index)
    cube = fits.PrimaryHDU(dataset.images([index])[0], header=header)
    content = io.BytesIO()  # astropy refuses a file that was opened for exclusive creation
    cube.writeto(content)
    with atomic_file(out) as file:
        file.write(content.getvalue())


def stamp_header(dataset: Dataset, index: int) -> Any:
    """The `astropy.io.fits.Header` of one sample: WCS, bands, unit, provenance, and its noise and PSF where known."""
    header = _wcs(dataset, index).to_header()
    header["CNAME3"] = ("band", "BAND1 is plane 1")
    header["BUNIT"] = (dataset.manifest.flux_unit, "per pixel; not dereddened")
    for number, band in enumerate(dataset.bands, start=1):
        header[f"BAND{number}"] = (band, f"band of plane {number}")
    header["OBJECT"] = str(dataset.samples["objid"][index].as_py())
    header["OBJID"] = (dataset.samples["objid"][index].as_py(), "identifier of the object")
    header["SURVEY"] = (_text(dataset.manifest.survey), "who made the frames")
    for keyword, column, comment in _IDENTITY:
        _put(header, keyword, _value(dataset, column, index), comment)
    for stem, column, comment in _OF_A_BAND:
        for band in dataset.bands:
            _put(header, f"{stem}_{band}".upper(), _value(dataset, f"{column}_{band}", index), f"{comment}, {band}")
    header["CREATOR"] = (made_by(), "what wrote this file")
    header["MADEBY"] = (dataset.manifest.made_by, "what made the dataset")
    header["DATASET"] = dataset.digest  # 64 digits leave no room for a comment
    return header


def _wcs(dataset: Dataset, index: int) -> Any:
    """TAN about the object, and the plane's number as a third axis."""
    from astropy.wcs import WCS

    stated = _TAN.match(dataset.manifest.projection)
    if stated is None:
        raise IngestError(
            f"{dataset.location}: expected a gnomonic projection with north up, got {dataset.manifest.projection!r}; "
            "a stamp of unknown projection cannot get a WCS"
        )
    ra, dec = (_value(dataset, name, index) for name in ("ra", "dec"))
    if ra is None or dec is None:
        raise IngestError(f"{dataset.describe(index)}: has no ra and dec; a stamp without a position cannot get a WCS")
    scale_deg = dataset.pixel_scale_arcsec / 3600
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN", ""]
    wcs.wcs.cunit = ["deg", "deg", ""]
    wcs.wcs.crval = [ra, dec, 1]
    wcs.wcs.crpix = [int(stated[1]) + 1, int(stated[2]) + 1, 1]  # FITS counts pixels from 1
    wcs.wcs.cdelt = [-scale_deg, scale_deg, 1]  # east is left
    wcs.wcs.radesys = "ICRS"
    return wcs


def _value(dataset: Dataset, column: str, index: int) -> Any:
    """One label, or None where the dataset has no such column or the value is missing."""
    name = find_column(dataset.samples, column)
    value = None if name is None else dataset.samples[name][index].as_py()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _put(header: Any, keyword: str, value: Any, comment: str) -> None:
    if value is not None:
        header[keyword] = (_text(value) if isinstance(value, str) else value, comment)


def _text(value: str) -> str:
    """A string that a FITS card can hold: printable ASCII."""
    return "".join(character if " " <= character <= "~" else "?" for character in value)
